"""Stages to kernels: the choice of every loop, tile, vector, and of the split among threads.

`schedule` gives the fast kernel, `naive` the plain one (level 0): scalar loops in the order of the
definition, which is the compiled oracle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..algorithm import REDUCTION_START, Const, Expr, Index, Load, Select, apply, cast
from ..codegen.kernel.ir import Alloc, Buffer, Kernel, Stmt, Store, expressions, statements
from ..codegen.kernel.ir import For as Loop
from ..dims import Dim, DimExpr, Sym, free_symbols
from ..dtypes import int64
from ..errors import InternalError
from ..target import Target
from .lanes import accumulate
from .loops import Nest, bind, index_dims, loop, names_for, nest_of
from .schedule_map import checked, element, finish, schedule_map
from .schedule_reduce import schedule_reduction
from .schedule_row import naive_row, schedule_row
from .stages import Lowered, StageCheck


def schedule(lowered: Lowered, target: Target, name: str) -> tuple[Kernel, tuple[StageCheck, ...]]:
    """The kernel of a lowered group, and what its `Fail` ordinals mean."""
    body: list[Stmt] = []
    checks: list[StageCheck] = []
    names = names_for(lowered)
    for stage in lowered.stages:
        nest = nest_of(lowered, stage, names)
        if stage.row is not None:
            made = schedule_row(nest, target)
        elif stage.combine is None:
            made = schedule_map(nest, target)
        else:
            made = schedule_reduction(nest, target)
        body += once(nest, made)
        checks += stage.checks
    return kernel(lowered, name, body), tuple(checks)


def naive(lowered: Lowered, name: str) -> tuple[Kernel, tuple[StageCheck, ...]]:
    """Scalar loops, one after the other."""
    body: list[Stmt] = []
    checks: list[StageCheck] = []
    names = names_for(lowered)
    for stage in lowered.stages:
        nest = nest_of(lowered, stage, names)
        body += once(nest, _naive(nest))
        checks += stage.checks
    return kernel(lowered, name, body), tuple(checks)


def once(nest: Nest, body: list[Stmt]) -> list[Stmt]:
    """A body without a parallel loop is done by one thread only: a parallel loop of one turn."""
    if any(isinstance(s, Loop) and s.kind == "parallel" for s in statements(tuple(body))):
        return body
    return [loop("parallel", nest.names.fresh("once", 0, 0), 0, 1, body)]


def _naive(nest: Nest) -> list[Stmt]:
    stage = nest.stage
    if stage.row is not None:
        return naive_row(nest)
    if stage.combine is None:
        inner = element(nest, {})
    elif stage.term is not None and stage.result is not None:
        inner = _naive_reduction(nest)
    else:
        raise InternalError("a reduction has no term")
    for k, a in enumerate(reversed(nest.axes)):
        kind = "parallel" if k == len(nest.axes) - 1 else "serial"
        inner = [loop(kind, a.index, 0, a.extent, inner)]  # type: ignore[arg-type]
    return inner


def _naive_reduction(nest: Nest) -> list[Stmt]:
    stage = nest.stage
    assert stage.combine is not None and stage.term is not None and stage.result is not None
    dtype = stage.term.dtype if stage.combine.startswith("arg") else stage.result.dtype
    acc = Load("acc", (0,), dtype)
    out: list[Stmt] = [Alloc(Buffer("acc", dtype, (1,), "register"))]
    step: list[Stmt]
    if stage.combine.startswith("arg"):
        order = "max" if stage.combine == "argmax" else "min"
        out.append(Alloc(Buffer("place", int64, (1,), "register")))
        out.append(Store("acc", (0,), REDUCTION_START[order](dtype)))
        out.append(Store("place", (0,), Const(0, int64)))
        place = Load("place", (0,), int64)
        better: Expr = apply("gt" if order == "max" else "lt", stage.term, acc)
        if dtype.is_float:
            better = better | (apply("isnan", stage.term) & apply("not", apply("isnan", acc)))
        k: Dim = nest.reduce_axes[0].index if nest.reduce_axes else 0
        step = [Store("place", (0,), Select(better, Index(k), place)),
                Store("acc", (0,), Select(better, stage.term, acc))]  # fmt: skip
        result: Expr = place
    else:
        out.append(Store("acc", (0,), REDUCTION_START[stage.combine](dtype)))
        step = [Store("acc", (0,), accumulate(stage.combine, acc, cast(stage.term, dtype)))]
        result = acc
    step = [*checked(nest, {}), *step]
    for a in reversed(nest.reduce_axes):
        step = [loop("serial", a.index, 0, a.extent, step)]
    fold = stage.fold
    if fold is None:
        return [*out, *step, *finish(nest, result, {})]
    best = Load("best", (0,), fold.value.dtype)
    joined = accumulate(fold.combine, best, bind(fold.value, result, {}))
    turn: list[Stmt] = [*out, *step, Store("best", (0,), joined)]
    for a in reversed(nest.fold_axes):
        turn = [loop("serial", a.index, 0, a.extent, turn)]
    begin = Store("best", (0,), REDUCTION_START[fold.combine](best.dtype))
    return [Alloc(Buffer("best", best.dtype, (1,), "register")), begin, *turn,
            *finish(nest, best, {})]  # fmt: skip


def turning(body: Sequence[Stmt]) -> list[Stmt]:
    """Statements without the loops that never turn, and those that only hold such: going through
    2**40 rows of no elements takes its time."""
    out: list[Stmt] = []
    for s in body:
        if isinstance(s, Loop):
            inside = turning(s.body)
            if not inside or (isinstance(s.hi, int) and isinstance(s.lo, int) and s.hi <= s.lo):
                continue
            if len(inside) != len(s.body) or any(a is not b for a, b in zip(inside, s.body)):
                s = replace(s, body=tuple(inside))
        out.append(s)
    return out


def kernel(lowered: Lowered, name: str, body: list[Stmt]) -> Kernel:
    """A kernel over the group's buffers; its dims are the symbols that no loop binds."""
    body = turning(body)
    params = tuple(Buffer(b.name, b.type.dtype, b.type.physical_shape, "arg", b.written)
                   for b in lowered.buffers)  # fmt: skip
    bound: set[Sym] = set()
    used: set[Sym] = set()
    for b in params:
        for d in b.shape:
            used |= free_symbols(d)
    for s in statements(tuple(body)):
        if isinstance(s, Loop):
            bound.add(s.sym)
            for d in (s.lo, s.hi, s.active or 0):
                used |= free_symbols(d)
        for i in getattr(s, "indices", ()):
            if not isinstance(i, Expr):
                used |= free_symbols(i)
        if hasattr(s, "index"):
            used |= free_symbols(s.index)
        for e in expressions(s):
            used |= symbols(e)
    free = sorted(used - bound, key=lambda s: s.name)
    dims = tuple(DimExpr((((s,), 1),)) for s in free)
    return Kernel(name, dims, params, tuple(body))


def symbols(e: Expr) -> set[Sym]:
    """Every symbol in an expression's indices."""
    return {s for d in index_dims(e) for s in free_symbols(d)}
