"""Reductions along memory: sixteen virtual lanes per accumulator, four accumulators, a fixed tree.

Element k of what is reduced goes to lane k % 16 of accumulator k // 16 % 4 (of the first where less
than a round is left). Accumulators are joined in pairs, lanes by halves: the same bits on every
instruction set, and for a length known only at run time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..algorithm import REDUCTION_START, Apply, Expr, LaneReduce, Load, apply, cast
from ..codegen.kernel.ir import Alloc, Buffer, Stmt, Store
from ..dims import Dim, Sym, bounds
from ..dtypes import DType
from .loops import LoopAxis, Names, loop

VIRTUAL_LANES = 16
ACCUMULATORS = 4

Body = Callable[[dict[Sym, Dim], Dim, Dim], list[Stmt]]


def accumulate(combine: str, acc: Expr, term: Expr) -> Expr:
    """`combine(acc, term)`; a product added to a float accumulator is one fused operation."""
    if combine == "add" and isinstance(term, Apply) and term.fn == "mul" and acc.dtype.is_float:
        return Apply("fma", (*term.args, acc), acc.dtype)
    if acc.dtype.kind == "b":
        combine = {"add": "or", "mul": "and", "max": "or", "min": "and"}[combine]
    return apply(combine, acc, term)  # type: ignore[no-any-return]


def accumulators(length: Dim) -> int:
    """How many accumulators a reduction along `length` elements has."""
    round_ = VIRTUAL_LANES * ACCUMULATORS
    return 1 if isinstance(length, int) and length < round_ else ACCUMULATORS


@dataclass(frozen=True)
class Lanes:
    """The accumulators of one reduction: a register buffer `name`, [count, 16]."""

    name: str
    combine: str
    dtype: DType
    count: int

    def clear(self, names: Names) -> list[Stmt]:
        """Makes the accumulators."""
        shape = (self.count, VIRTUAL_LANES)
        start = REDUCTION_START[self.combine](self.dtype)
        return [Alloc(Buffer(self.name, self.dtype, shape, "register")),
                *across(names, self.count, lambda u, v: [Store(self.name, (u, v), start)])]  # fmt: skip

    def add(self, u: Dim, v: Dim, term: Expr) -> Stmt:
        """Takes in one element per lane."""
        old = Load(self.name, (u, v), self.dtype)
        return Store(self.name, (u, v), accumulate(self.combine, old, cast(term, self.dtype)))

    def join(self, names: Names) -> tuple[list[Stmt], Expr]:
        """Statements that join the accumulators, and then the joined lanes."""
        if self.count == 1:
            return [], LaneReduce(self.combine, self.name, (0,), self.dtype)
        v = names.fresh("v", 0, VIRTUAL_LANES - 1)
        a, b, c, d = (Load(self.name, (k, v), self.dtype) for k in range(ACCUMULATORS))
        one = accumulate(self.combine, accumulate(self.combine, a, b),
                         accumulate(self.combine, c, d))  # fmt: skip
        body: list[Stmt] = [loop("vector", v, 0, VIRTUAL_LANES, [Store(self.name, (0, v), one)])]
        return body, LaneReduce(self.combine, self.name, (0,), self.dtype)


def across(names: Names, count: int, make: Callable[[Dim, Dim], list[Stmt]], active: Dim | None = None,
           lanes: int = VIRTUAL_LANES) -> list[Stmt]:  # fmt: skip
    """`make(vector, lane)` for `count` vectors."""
    v = names.fresh("v", 0, lanes - 1)
    u: Dim = 0
    if count == 1:
        return [loop("vector", v, 0, lanes, make(u, v), active=active)]
    u = names.fresh("u", 0, count - 1)
    return [loop("vector", v, 0, lanes, [loop("unroll", u, 0, count, make(u, v))], active=active)]


def sweep(names: Names, leading: Sequence[LoopAxis], last: LoopAxis, count: int, make: Body,
          lanes: int = VIRTUAL_LANES) -> list[Stmt]:  # fmt: skip
    """Loops over `leading` and then `last` by `count` vectors, single ones, and what is left:
    `make(index of the element, vector, lane)`."""

    def vectors(start: Dim, size: int, active: Dim | None = None) -> list[Stmt]:
        return across(names, size, lambda u, v: make({last.sym: start + u * lanes + v}, u, v),
                      active, lanes)  # fmt: skip

    length = last.extent
    _, hi = bounds(length)
    inside: list[Stmt] = []
    done: Dim = 0
    for size in (count, 1) if count > 1 else (1,):
        step = lanes * size
        stop = length // step * step
        if stop != done:
            j = names.fresh("j", 0, hi)
            inside.append(loop("serial", j, done, stop, vectors(j, size), step))
        done = stop
    if length % lanes != 0:
        inside += vectors(done, 1, length - done)
    for a in reversed(leading):
        inside = [loop("serial", a.index, 0, a.extent, inside)]
    return inside
