"""Reductions. Which loop carries the vector decides the kind:

- tiles: lanes are neighbouring results. A register tile of rows x vectors accumulates over all
  reduction steps, each result in order of the steps. Matrix products, convolutions, pooling and
  sums over leading axes are all this.
- streams: of those, long ones that use each element once; see `schedule_stream`.
- lanes: the reduction runs along memory; see `lanes`.
- first extreme (argmax, argmin): see `schedule_extreme`.

Every result's additions happen in an order that depends on the reduction's shape only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..algorithm import (
    REDUCTION_START,
    Expr,
    Load,
    cast,
    rebuild,
    walk,
)
from ..codegen.kernel.ir import Alloc, Buffer, Kind, Stmt, Store
from ..dims import (
    Dim,
    DimExpr,
    Sym,
    ceildiv,
    coefficient,
    free_symbols,
    substitute,
)
from ..dtypes import DType
from ..errors import InternalError
from ..target import Target
from .box import Box, box_of
from .clip import clip
from .lanes import Lanes, accumulate, accumulators, sweep
from .loops import (
    LoopAxis,
    Nest,
    bind,
    lane_stride,
    loop,
    packed_block,
    shared_loops,
    substituted,
    tiled,
)
from .schedule_extreme import Extreme
from .schedule_map import checked, finish
from .schedule_stream import ACCUMULATORS, is_long, reuses, schedule_stream, streams
from .tiles import MOST_ROWS, register_tile

MANY_ROWS, BLOCK_ROWS = 1024, 96
PAGE, CACHE_WAYS = 4096, 8  # addresses a page apart share a set, which holds so many lines
PANELS = 8  # enough to share among threads
ENOUGH_ROWS = 4  # rows that make a register tile worth while


def schedule_reduction(nest: Nest, target: Target) -> list[Stmt]:
    """Statements for a nest with a reduction."""
    vector = vector_axis(nest)
    if nest.stage.fold is not None:
        return _Tiles(nest, target, vector).build()
    if nest.stage.combine in ("argmax", "argmin"):
        return Extreme(nest, target, vector).build()
    if vector is None and nest.reduce_axes and _runs_along(nest, nest.reduce_axes[-1]):
        return lane_reduction(nest)
    if vector is not None and streams(nest, vector, target):
        return schedule_stream(nest, target, vector)
    return _Tiles(nest, target, vector).build()


def _runs_along(nest: Nest, a: LoopAxis) -> bool:
    """Whether every load moves by one element or none with `a`."""
    strides = [lane_stride(o, a) for _, o in nest.offsets()]
    return all(s in (0, 1) for s in strides) and 1 in strides and a.sym not in nest.opaque()


def vector_axis(nest: Nest) -> LoopAxis | None:
    """The result axis whose neighbours lie side by side in every operand that depends on it."""
    last = nest.axes[-1:] if nest.axes else ()
    found = [a for a in nest.axes if _runs_along(nest, a)]
    if not found:
        return None
    stores_along = [a for a in last if a in found]
    if stores_along:
        return stores_along[0]

    def size(a: LoopAxis) -> int:
        return a.extent if isinstance(a.extent, int) else 64

    return max(found, key=size)


def order_reduction(nest: Nest, moving: LoopAxis | None) -> list[LoopAxis]:
    """Reduction axes from the largest stride to the smallest in the operand that does not move
    with the vector: its elements are then read in memory order."""
    loads = [(x, o) for x, o in nest.offsets() if _depends(o, nest.reduce_axes)]
    still = [o for _, o in loads if moving is None or lane_stride(o, moving) == 0]
    chosen = (still or [o for _, o in loads] or [0])[0]

    def stride(a: LoopAxis) -> tuple[int, int]:
        k = coefficient(chosen, a.sym)
        position = nest.reduce_axes.index(a)
        if isinstance(k, int):
            return (-abs(k) if k else -(1 << 40), position)
        return (-(1 << 50), position)

    return sorted(nest.reduce_axes, key=stride)


def _depends(offset: Dim, axes: Sequence[LoopAxis]) -> bool:
    symbols = free_symbols(offset)
    return any(a.sym in symbols for a in axes)


@dataclass
class _Tiles:
    """Register tiles over result axes: see the module docstring."""

    nest: Nest
    target: Target
    vector: LoopAxis | None

    def build(self) -> list[Stmt]:
        nest = self.nest
        self.dtype = self.accumulator_dtype()
        self.lanes = max(2, self.target.vector_bytes // self.dtype.itemsize)
        self.steps = order_reduction(nest, self.vector)
        self.row = self.row_axis()
        self.mr, self.nv = self.tile()
        self.others = [a for a in nest.axes if a is not self.vector and a is not self.row]
        return self.row_blocks()

    def row_blocks(self) -> list[Stmt]:
        """Blocks of rows outside everything else where there are so many rows that they would
        leave the cache between two panels."""
        self.first_row: Dim = 0
        self.row_count: Dim = 1 if self.row is None else self.row.extent
        rows = self.row_count
        if self.vector is None or not isinstance(rows, int) or rows <= MANY_ROWS or self.others:
            return self.vectors()
        block = max(BLOCK_ROWS // self.mr, 1) * self.mr
        whole, rest = divmod(rows, block)
        m = self.nest.names.fresh("m", 0, whole - 1)
        self.first_row, self.row_count = m * block, block
        out: list[Stmt] = [loop("serial", m, 0, whole, self.vectors())]
        if rest:
            self.first_row, self.row_count = whole * block, rest
            out += self.vectors()
        return out

    def accumulator_dtype(self) -> DType:
        result = self.nest.stage.result
        if result is None:
            raise InternalError("a reduction has no result")
        return result.dtype

    def row_axis(self) -> LoopAxis | None:
        """The axis tiled in registers, so that loaded vectors are used several times: of those
        some vector operand does not move with, the innermost one that is long enough."""
        fixed = {s for a in self.nest.reduce_axes for s in free_symbols(a.extent)}
        candidates = [a for a in self.nest.axes if a is not self.vector and a.sym not in fixed]
        if not candidates:
            return None
        shared = [a for a in candidates if reuses(self.nest, self.vector, a)] or candidates

        def size(a: LoopAxis) -> int:
            return min(a.extent, 12) if isinstance(a.extent, int) else 12

        long = [a for a in shared if isinstance(a.extent, int) and a.extent >= ENOUGH_ROWS]
        if long:
            return long[-1]
        best = max(size(a) for a in shared)
        return [a for a in shared if size(a) == best][-1]

    def tile(self) -> tuple[int, int]:
        nest = self.nest
        rows: Dim = 1 if self.row is None else self.row.extent
        if self.vector is None:
            return (min(rows, 4) if isinstance(rows, int) else 4), 1
        depth: Dim = 1
        for a in self.nest.reduce_axes:
            depth = depth * a.extent
        vectors = ceildiv(self.vector.extent, self.lanes)
        block = self._packed_block()
        fixed = block // self.lanes if block else None
        mr, nv = register_tile(rows, vectors, depth, self.target, fixed, self.most_rows(rows))
        if not any(reuses(nest, self.vector, a) for a in nest.axes if a is not self.vector):
            # no reuse: only latency asks for several accumulators
            nv = fixed or min(nv, 2)
            if is_long(nest) and isinstance(vectors, int) and not fixed:  # memory in order
                most = vectors // PANELS if self.row is None and len(nest.axes) == 1 else vectors
                nv = max(nv, min(most, ACCUMULATORS))
            each = max(ACCUMULATORS // nv, 1)
            mr = min(each, rows) if isinstance(rows, int) else each
        return mr, nv

    def most_rows(self, rows: Dim) -> int:
        """Rows a tile may have: fewer where they fall into the same set of the first cache."""
        if self.row is None or (isinstance(rows, int) and rows <= MOST_ROWS):
            return MOST_ROWS
        for x, o in self.nest.offsets():
            stride = coefficient(o, self.row.sym)
            if isinstance(stride, int) and stride and stride * x.dtype.itemsize % PAGE == 0:
                return CACHE_WAYS
        return MOST_ROWS

    def _packed_block(self) -> int | None:
        """Panel width of a packed operand: its loads take the vector index modulo it."""
        if self.vector is None:
            return None
        blocks = [packed_block(o, self.vector) for _, o in self.nest.offsets()]
        return next((b for b in blocks if b is not None), None)

    def reads_whole_vectors(self) -> bool:
        """Whether every operand that moves with the vector is packed: panels are filled up with
        zeros, so that the last one needs no mask while it is read."""
        vector = self.vector
        if vector is None:
            return False
        moving = [(x, o) for x, o in self.nest.offsets()
                  if lane_stride(o, vector) != 0 and _loads(self.nest.stage.term, x)]  # fmt: skip
        return bool(moving) and all(
            packed_block(o, vector) is not None or self.has_room(x) for x, o in moving
        )

    def has_room(self, x: Load) -> bool:
        """Whether a row of the operand is as long as the vectors that cover the results."""
        assert self.vector is not None
        row, extent = self.nest.shapes[x.buffer][-1:], self.vector.extent
        if not row or not isinstance(row[0], int) or not isinstance(extent, int):
            return False
        last = x.indices[-1]
        return last == self.vector.index and row[0] >= -(-extent // self.lanes) * self.lanes

    # loops, from the outside in: panels of vectors, other result axes, rows, reduction steps

    def vectors(self) -> list[Stmt]:
        if self.vector is None:
            return self.outer(0, 0, None, share=True)
        width = self.lanes * self.nv
        extent = self.vector.extent
        panels = ceildiv(extent, width)
        share = isinstance(panels, int) and (panels >= PANELS or self._only_vector())
        kind = "parallel" if share else "serial"

        def panel(start: Dim, size: int, share_inside: bool) -> list[Stmt]:
            nv = -(-size // self.lanes)
            active = None if size % self.lanes == 0 else size - (nv - 1) * self.lanes
            return self.outer(start, nv, active, share_inside)

        if isinstance(extent, int):
            whole, rest = divmod(extent, width)
            out: list[Stmt] = []
            if whole:
                p = self.nest.names.fresh("p", 0, whole - 1)
                out.append(loop(kind, p, 0, whole, panel(p * width, width, not share)))  # type: ignore[arg-type]
            if rest:  # one more panel for one thread would make the others wait
                body = panel(whole * width, rest, not self._only_vector())
                if self._only_vector():
                    once = self.nest.names.fresh("p", 0, 0)
                    body = [loop("parallel", once, 0, 1, body)]
                out += body
            return out
        j = self.nest.names.fresh("p", 0, None)
        body = self.outer(j, 1, extent - j, share=not share)
        return [loop(kind, j, 0, extent, body, self.lanes)]  # type: ignore[arg-type]

    def _only_vector(self) -> bool:
        return not self.others and self.row is None

    def outer(self, start: Dim, nv: int, active: Dim | None, share: bool) -> list[Stmt]:
        """Loops over the untiled result axes; the first is shared by threads if `share`."""
        loops: list[tuple[Kind, DimExpr, Dim]] = [
            ("serial", a.index, a.extent) for a in self.others
        ]
        self.outer_values: dict[Sym, Dim] = {}
        if share and self.others:
            loops, self.outer_values = shared_loops(self.nest.names, self.others)
        body = self.rows(start, nv, active, share and not self.others)
        for kind, index, extent in reversed(loops):
            body = [loop(kind, index, 0, extent, body)]
        return body

    def rows(self, start: Dim, nv: int, active: Dim | None, share: bool) -> list[Stmt]:
        if self.row is None:
            return self.block({}, 1, start, nv, active)
        row = self.row
        first = self.first_row
        return tiled(self.nest.names, "r", self.row_count, self.mr,
                     "parallel" if share else "serial",
                     lambda r, size: self.block({row.sym: first + r}, size, start, nv, active))  # fmt: skip

    def block(self, values: dict[Sym, Dim], mr: int, start: Dim, nv: int,
              active: Dim | None) -> list[Stmt]:  # fmt: skip
        """One register tile. With a fold, one for every element of a window, its results folded in
        memory that stays in the first cache: registers are for the sums."""
        values = {**self.outer_values, **values}
        fold, shape = self.nest.stage.fold, (mr, nv, self.lanes) if nv else (mr,)
        box = box_of(self.nest, self.row, mr, self.vector if nv else None)
        filled = [] if box is None else box.fill(self.nest, values, self.lanes)

        def write(at: tuple[Dim, ...], inner: dict[Sym, Dim]) -> list[Stmt]:
            return finish(self.nest, Load("acc", at, self.dtype), inner)

        if fold is None:
            return [*filled, *self.accumulated(shape, active, values, start, box, write)]
        dtype, combine, made = fold.value.dtype, fold.combine, fold.value
        first = REDUCTION_START[combine](dtype)

        def join(at: tuple[Dim, ...], inner: dict[Sym, Dim]) -> list[Stmt]:
            value = bind(made, Load("acc", at, self.dtype), inner)
            return [Store("best", at, accumulate(combine, Load("best", at, dtype), value))]

        turn = self.accumulated(shape, active, values, start, box, join)
        for a in reversed(self.nest.fold_axes):
            turn = [loop("serial", a.index, 0, a.extent, turn)]
        return [
            *filled,
            Alloc(Buffer("best", dtype, shape, "stack")),
            *self.sweep(mr, nv, active, values, start, lambda at, _: [Store("best", at, first)]),
            *turn,
            *self.sweep(mr, nv, active, values, start,
                        lambda at, inner: finish(self.nest, Load("best", at, dtype), inner)),
        ]  # fmt: skip

    def accumulated(self, shape: tuple[int, ...], active: Dim | None, values: dict[Sym, Dim],
                    start: Dim, box: Box | None, write: object) -> list[Stmt]:  # fmt: skip
        """The sums of a register tile: clear, accumulate over all steps, `write`. What `box` holds
        is read from there."""
        mr, nv = shape[0], shape[1] if len(shape) > 1 else 0
        combine = self.nest.stage.combine
        assert combine is not None and self.nest.stage.term is not None
        acc = Buffer("acc", self.dtype, shape, "register")
        zero = REDUCTION_START[combine](self.dtype)
        out: list[Stmt] = [Alloc(acc)]
        reading = None if self.reads_whole_vectors() else active
        out += self.sweep(mr, nv, reading, values, start, lambda at, _: [Store("acc", at, zero)])

        steps = {a.sym: a.extent for a in self.steps}
        tiled_axes = {a.sym for a in (self.row, self.vector) if a is not None}
        term_of, limits = self.clipped(steps, tiled_axes, box)

        def step(at: tuple[Dim, ...], inner: dict[Sym, Dim]) -> list[Stmt]:
            own = inner if box is None else box.rows(inner, values)
            term = rebuild(term_of, lambda x: None, lambda d: substitute(d, own))
            old = Load("acc", at, self.dtype)
            added = Store("acc", at, accumulate(combine, old, cast(term, self.dtype)))
            return [*checked(self.nest, inner), added]

        body = self.sweep(mr, nv, reading, values, start, step)
        for a in reversed(self.steps):
            lo, hi = (substitute(d, self.outer_values) for d in limits[a.sym])
            body = [loop("serial", a.index, lo, hi, body)]
        return [*out, *body, *self.sweep(mr, nv, active, values, start, write)]

    def clipped(self, steps: dict[Sym, Dim], tiled_axes: set[Sym], box: Box | None
                ) -> tuple[Expr, dict[Sym, tuple[Dim, Dim]]]:  # fmt: skip
        """The term and the bounds of its reduction loops."""
        term = self.nest.stage.term
        assert term is not None
        if box is not None:
            return box.term(term), {s: (0, d) for s, d in steps.items()}
        if self.nest.stage.combine != "add":
            return term, {s: (0, d) for s, d in steps.items()}
        found = clip(term, steps, tiled_axes)
        return found.term, found.bounds

    def sweep(self, mr: int, nv: int, active: Dim | None, values: dict[Sym, Dim], start: Dim,
              make: object) -> list[Stmt]:  # fmt: skip
        """`make(register index, result indices)` for every element of the tile."""
        names = self.nest.names
        r = names.fresh("r", 0, mr - 1) if mr > 1 else 0
        rows = dict(values)
        if self.row is not None:
            rows[self.row.sym] = rows[self.row.sym] + r
        if not nv or self.vector is None:
            body = make((r,), rows)  # type: ignore[operator]
            return body if mr == 1 else [loop("unroll", r, 0, mr, body)]  # type: ignore[arg-type]
        out: list[Stmt] = []
        groups = [(0, nv, None)] if active is None else [(0, nv - 1, None), (nv - 1, nv, active)]
        for lo, hi, limit in groups:
            if lo == hi:
                continue
            v = names.fresh("v", 0, self.lanes - 1)
            u: Dim = names.fresh("u", lo, hi - 1) if hi - lo > 1 else lo
            inner = {**rows, self.vector.sym: start + u * self.lanes + v}
            body = make((r, u, v), inner)  # type: ignore[operator]
            if hi - lo > 1:
                body = [loop("unroll", u, lo, hi, body)]  # type: ignore[arg-type]
            out.append(loop("vector", v, 0, self.lanes, body, active=limit))
        # rows outermost: one row's broadcast is alive at a time, the vectors are shared by all
        return out if mr == 1 else [loop("unroll", r, 0, mr, out)]  # type: ignore[arg-type]


def _loads(e: Expr | None, x: Load) -> bool:
    return e is not None and x in walk(e)


def lane_reduction(nest: Nest) -> list[Stmt]:
    """A reduction along memory: see `lanes`."""
    combine, result = nest.stage.combine, nest.stage.result
    assert combine is not None and result is not None
    names, dtype = nest.names, result.dtype
    loops, values = shared_loops(names, nest.axes)
    stage = substituted(nest.stage, values)
    term = stage.term
    assert term is not None
    *leading, last = (replace(a, extent=substitute(a.extent, values)) for a in nest.reduce_axes)
    lanes = Lanes("lane_acc", combine, dtype, accumulators(last.extent))

    nest = replace(nest, stage=stage)

    def step(at: dict[Sym, Dim], u: Dim, v: Dim) -> list[Stmt]:
        added = lanes.add(u, v, rebuild(term, lambda x: None, lambda d: substitute(d, at)))
        return [*checked(nest, at), added]

    body = lanes.clear(names) + sweep(names, leading, last, lanes.count, step)
    joining, total = lanes.join(names)
    body += [*joining, Alloc(Buffer("total", dtype, (1,), "register")), Store("total", (0,), total)]
    body += finish(nest, Load("total", (0,), dtype), {})
    for kind, index, extent in reversed(loops):
        body = [loop(kind, index, 0, extent, body)]
    if not loops:  # a single result: one thread computes it
        body = [loop("parallel", names.fresh("once", 0, 0), 0, 1, body)]
    return body
