"""Long sums of neighbouring results that use every element once: memory is read in order.

Before:  for b { for j { y[b, j] = sum over k of x[b, k, j] } }
After:   parallel b { part[..] = 0
                      for k { for j step 8 vectors { part[j ..] = part[j ..] + x[b, k, j ..] } }
                      y[b, ..] = part[..] }

Register tiles would come back to each page of memory once per panel of columns, where no
prefetching helps them. What is added up so far stays in the first cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..algorithm import REDUCTION_START, Load, cast, rebuild
from ..codegen.kernel.ir import Alloc, Buffer, Stmt, Store
from ..dims import Dim, Sym, coefficient, product, substitute
from ..errors import InternalError
from ..target import Target
from .lanes import accumulate, across
from .loops import LoopAxis, Nest, lane_stride, loop, shared_loops, substituted
from .schedule_map import finish
from .tiles import SCRATCH_BYTES

LONG = 64  # steps that make a stream
ACCUMULATORS = 8  # vectors that hide the latency of an addition
ENOUGH = 8  # iterations to share among threads
PIECES = 4  # of columns where there are fewer

Panel = Callable[[Dim, int, Dim | None], list[Stmt]]


def is_long(nest: Nest) -> bool:
    """Whether there are many steps to a result."""
    depth = product(a.extent for a in nest.reduce_axes)
    return not isinstance(depth, int) or depth > LONG


def reuses(nest: Nest, vector: LoopAxis | None, a: LoopAxis) -> bool:
    """Whether a vector of some operand serves several indices of `a`."""
    return vector is not None and any(
        lane_stride(o, vector) == 1 and coefficient(o, a.sym) == 0 for _, o in nest.offsets()
    )


def streams(nest: Nest, vector: LoopAxis, target: Target) -> bool:
    """Whether the schedule of this module suits: see there. Threads share the other axes."""
    result = nest.stage.result
    others = [a for a in nest.axes if a is not vector]
    if result is None or not others or len(nest.reduce_axes) != 1 or not is_long(nest):
        return False
    if nest.stage.checks:  # they come with every term
        return False
    size = vector.extent * result.dtype.itemsize
    wide = isinstance(size, int) and ACCUMULATORS * target.vector_bytes < size <= SCRATCH_BYTES
    return wide and nest.axes[-1] is vector and not any(reuses(nest, vector, a) for a in others)


def pieces(others: Sequence[LoopAxis], columns: int, lanes: int) -> int:
    """Parts that columns are shared in where the other axes may be too short for all threads."""
    rows = product(a.extent for a in others)
    if isinstance(rows, int) and rows >= ENOUGH:
        return 1
    return next(k for k in (PIECES, 2, 1) if k == 1 or columns % (k * ACCUMULATORS * lanes) == 0)


def schedule_stream(nest: Nest, target: Target, vector: LoopAxis) -> list[Stmt]:
    """Statements for a nest that `streams`."""
    result, combine, names = nest.stage.result, nest.stage.combine, nest.names
    if result is None or combine is None or not isinstance(vector.extent, int):
        raise InternalError("not a stream")
    dtype = result.dtype
    lanes = max(2, target.vector_bytes // dtype.itemsize)
    others = [a for a in nest.axes if a is not vector]
    count = pieces(others, vector.extent, lanes)
    columns = vector.extent // count
    piece = LoopAxis(names.fresh("c", 0, count - 1), count)
    loops, values = shared_loops(names, [*others, piece] if count > 1 else others)
    first = columns * substitute(piece.index, values) if count > 1 else 0
    nest = replace(nest, stage=substituted(nest.stage, values))
    (steps,) = (replace(a, extent=substitute(a.extent, values)) for a in nest.reduce_axes)
    term = nest.stage.term
    assert term is not None
    zero = REDUCTION_START[combine](dtype)

    def vectors(start: Dim, count: int, active: Dim | None,
                make: Callable[[Dim, Dim, Dim], list[Stmt]]) -> list[Stmt]:  # fmt: skip
        """`make(column, vector, lane)` for the columns of a panel."""
        return across(names, count, lambda u, v: make(start + u * lanes + v, u, v), active, lanes)

    def panels(make: Panel) -> list[Stmt]:
        width = ACCUMULATORS * lanes
        whole, rest = divmod(columns, width)
        out: list[Stmt] = []
        if whole:
            j = names.fresh("j", 0, (whole - 1) * width)
            out.append(loop("serial", j, 0, whole * width, make(j, ACCUMULATORS, None), width))
        if rest >= lanes:
            out += make(whole * width, rest // lanes, None)
        if rest % lanes:
            out += make(columns - rest % lanes, 1, rest % lanes)
        return out

    def clear(start: Dim, count: int, active: Dim | None) -> list[Stmt]:
        return vectors(start, count, active, lambda j, u, v: [Store("part", (j,), zero)])

    def add(start: Dim, count: int, active: Dim | None) -> list[Stmt]:
        def one(j: Dim, u: Dim, v: Dim) -> list[Stmt]:
            at: dict[Sym, Dim] = {vector.sym: first + j}
            value = rebuild(term, lambda x: None, lambda d: substitute(d, at))
            old = Load("part", (j,), dtype)
            return [Store("part", (j,), accumulate(combine, old, cast(value, dtype)))]

        return vectors(start, count, active, one)

    def write(start: Dim, count: int, active: Dim | None) -> list[Stmt]:
        return vectors(start, count, active, lambda j, u, v: finish(
            nest, Load("part", (j,), dtype), {vector.sym: first + j}))  # fmt: skip

    body: list[Stmt] = [
        Alloc(Buffer("part", dtype, (columns,), "stack")),
        *panels(clear),
        loop("serial", steps.index, 0, steps.extent, panels(add)),
        *panels(write),
    ]
    for kind, index, extent in reversed(loops):
        body = [loop(kind, index, 0, extent, body)]
    return body
