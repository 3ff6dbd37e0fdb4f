"""Rows with several reductions: one kernel, threads share rows.

Columns side by side in memory, vectors along a row:

    parallel i { wide section: for j step 64 { vector { unroll { .. } } }   let p0 = lanes_max(..)
                 wide section ...                                          let p2 = lanes_add(..) }

Rows side by side in memory, vectors across them, a row's values in registers, one per lane:

    parallel block of rows { for k { vector { p0 = max(p0, ..) } }   for k { .. }   .. }

What each section does is `row_plan`'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType

from ..algorithm import REDUCTION_START, Const, Expr, Index, Load, Var, apply, cast, rebuild
from ..codegen.kernel.ir import Alloc, Buffer, Fail, If, Kind, Let, Stmt, Store
from ..dims import Dim, Sym, bounds, ceildiv, substitute
from ..errors import InternalError
from ..target import Target
from .lanes import VIRTUAL_LANES, Lanes, accumulate, accumulators, across, sweep
from .loops import LoopAxis, Nest, loop, shared_loops, substituted
from .row_plan import Section, plan_row
from .schedule_map import stored
from .stages import Part


def schedule_row(nest: Nest, target: Target) -> list[Stmt]:
    """Statements for a nest with a row."""
    row = nest.stage.row
    if row is None:
        raise InternalError("the stage is no row")
    return _along(nest, target) if row.along else _across(nest, target)


def naive_row(nest: Nest) -> list[Stmt]:
    """One column after the other, each row by itself."""
    plan = plan_row(nest.stage, nest.reduce_axes)
    body: list[Stmt] = [Alloc(b) for b in plan.scratch]
    for s in plan.sections:
        inside = _statements(s, {}, lambda p, term: _added(_register(p), (0,), p, term))
        if s.wide:
            for p in s.reductions:
                body += [Alloc(_register(p)), Store(_register(p).name, (0,), _start(p))]
            for a in reversed(nest.reduce_axes):
                inside = [loop("serial", a.index, 0, a.extent, inside)]
        body += inside
        body += [Let(p.name, Load(_register(p).name, (0,), p.dtype)) for p in s.reductions]
    for k, a in enumerate(reversed(nest.axes)):
        kind: Kind = "parallel" if k == len(nest.axes) - 1 else "serial"
        body = [loop(kind, a.index, 0, a.extent, body)]
    return body


def _register(p: Part) -> Buffer:
    return Buffer(f"{p.name}_acc", p.dtype, (1,), "register")


def _start(p: Part) -> Const:
    return REDUCTION_START[str(p.combine)](p.dtype)


def _added(b: Buffer, at: tuple[Dim, ...], p: Part, term: Expr) -> Stmt:
    old = Load(b.name, at, p.dtype)
    return Store(b.name, at, accumulate(str(p.combine), old, cast(term, p.dtype)))


def _statements(s: Section, values: dict[Sym, Dim], add: Callable[[Part, Expr], Stmt],
                place: Callable[[Load], Load] = lambda x: x,
                held: Mapping[str, Expr] = MappingProxyType({})) -> list[Stmt]:  # fmt: skip
    """A section for one column or row: indices as `values` say, some parts as `held` says, what is
    loaded and written at the place that `place` says, terms taken in by `add`."""

    def leaf(x: Expr) -> Expr | None:
        if isinstance(x, Var):
            return held.get(x.name)
        moved = place(x) if isinstance(x, Load) else x
        return None if moved is x else rebuild(moved, lambda x: None, dim)

    def dim(d: Dim) -> Dim:
        return substitute(d, values)

    def at(e: Expr) -> Expr:
        return rebuild(e, leaf, dim)

    out: list[Stmt] = [Let(name, at(e)) for name, e in s.lets]
    out += [Fail(k, at(c.cond), dim(c.index)) for k, c in s.checks]
    out += [add(p, at(p.value)) for p in s.reductions]
    stores = []
    for w in s.writes:
        to = place(Load(w.buffer, w.indices, w.value.dtype))
        indices = tuple(at(i) if isinstance(i, Expr) else dim(i) for i in to.indices)
        stores.append((w.buffer, indices, at(w.value)))
    if all(isinstance(value, Var) for _, _, value in stores):
        return out + [Store(*x) for x in stores]
    return out + stored(stores)


def _along(nest: Nest, target: Target) -> list[Stmt]:
    """Vectors along a row."""
    loops, values = shared_loops(nest.names, nest.axes)
    nest = replace(nest, stage=substituted(nest.stage, values))
    plan = plan_row(nest.stage, nest.reduce_axes)
    body: list[Stmt] = [Alloc(b) for b in plan.scratch]
    for s in plan.sections:
        body += _wide_along(nest, s, target) if s.wide else _statements(s, {}, _nothing)
    for kind, index, extent in reversed(loops):
        body = [loop(kind, index, 0, extent, body)]
    return body


def _nothing(p: Part, term: Expr) -> Stmt:
    raise InternalError(f"{p.name} is reduced once per row")


def _wide_along(nest: Nest, s: Section, target: Target) -> list[Stmt]:
    names = nest.names
    *leading, last = nest.reduce_axes
    count, width = 1, VIRTUAL_LANES
    if s.reductions:
        count = accumulators(last.extent)
    else:  # nothing is added up: any vectors will do
        width = max(2, target.vector_bytes // max(w.value.dtype.itemsize for w in s.writes))
    lanes = {p.name: Lanes(f"{p.name}_acc", str(p.combine), p.dtype, count) for p in s.reductions}

    def step(at: dict[Sym, Dim], u: Dim, v: Dim) -> list[Stmt]:
        return _statements(s, at, lambda p, term: lanes[p.name].add(u, v, term))

    out: list[Stmt] = []
    for one in lanes.values():
        out += one.clear(names)
    out += sweep(names, leading, last, count, step, width)
    for p in s.reductions:
        joining, total = lanes[p.name].join(names)
        out += [*joining, Let(p.name, total)]
    return out


def _across(nest: Nest, target: Target) -> list[Stmt]:
    """Vectors across neighbouring rows, two at a time where there are as many."""
    *others, rows = nest.axes
    parts = nest.stage.row.parts if nest.stage.row is not None else ()
    lanes = max(2, target.vector_bytes // max(p.dtype.itemsize for p in parts))
    count = 1 if isinstance(rows.extent, int) and rows.extent < 2 * lanes else 2
    blocks = ceildiv(rows.extent, count * lanes)
    hi = bounds(blocks)[1]
    block = LoopAxis(nest.names.fresh("b", 0, None if hi is None else max(hi - 1, 0)), blocks)
    loops, values = shared_loops(nest.names, [*others, block])
    nest = replace(nest, stage=substituted(nest.stage, values))
    start = substitute(block.index, values) * count * lanes
    left = rows.extent - start
    body = _block(nest, rows, start, count, lanes, None)
    if rows.extent % (count * lanes) != 0:
        j = nest.names.fresh("j", 0, bounds(rows.extent)[1])
        masked = _block(nest, rows, j, 1, lanes, rows.extent - j)
        rest: list[Stmt] = [loop("serial", j, start, rows.extent, masked, lanes)]
        full = apply("ge", Index(left), Index(count * lanes))
        never = isinstance(rows.extent, int) and rows.extent < count * lanes
        body = rest if never else [If(full, tuple(body), tuple(rest))]
    for kind, index, extent in reversed(loops):
        body = [loop(kind, index, 0, extent, body)]
    return body


def _block(nest: Nest, rows: LoopAxis, start: Dim, count: int, lanes: int,
           active: Dim | None) -> list[Stmt]:  # fmt: skip
    """`count` vectors of rows from `start`, the last one of `active` rows."""
    names = nest.names
    plan = plan_row(nest.stage, nest.reduce_axes)
    scratch = {b.name: replace(b, shape=(*b.shape, count, lanes)) for b in plan.scratch}
    parts = nest.stage.row.parts if nest.stage.row is not None else ()
    narrow = [p for p in parts if not p.wide]
    registers = {p.name: Buffer(p.name, p.dtype, (count, lanes), "register") for p in narrow}
    body: list[Stmt] = [Alloc(b) for b in (*scratch.values(), *registers.values())]

    def vectors(make: Callable[[dict[Sym, Dim], Dim, Dim], list[Stmt]]) -> list[Stmt]:
        return across(names, count, lambda u, v: make({rows.sym: start + u * lanes + v}, u, v),
                      active, lanes)  # fmt: skip

    def section(s: Section, at: dict[Sym, Dim], u: Dim, v: Dim) -> list[Stmt]:
        def place(x: Load) -> Load:
            own = x.buffer in scratch
            return Load(x.buffer, (*x.indices, u, v), x.dtype, x.mask) if own else x

        held = {p.name: Load(p.name, (u, v), p.dtype) for p in narrow}
        made = _statements(s, at, lambda p, term: _added(registers[p.name], (u, v), p, term),
                           place, held)  # fmt: skip
        return [Store(x.name, (u, v), x.value) if isinstance(x, Let) and x.name in registers else x
                for x in made]  # fmt: skip

    def clear(s: Section, at: dict[Sym, Dim], u: Dim, v: Dim) -> list[Stmt]:
        return [Store(p.name, (u, v), _start(p)) for p in s.reductions]

    for s in plan.sections:
        each = partial(section, s)
        if not s.wide:
            body += vectors(each)
            continue
        if s.reductions:
            body += vectors(partial(clear, s))
        inside = vectors(each)
        for a in reversed(nest.reduce_axes):
            inside = [loop("serial", a.index, 0, a.extent, inside)]
        body += inside
    return body
