"""Sorting and selection, as kernels: a stable merge sort of keys and their places.

A key is an integer that orders as its element does: the bits of a float turned so that integers
compare as floats do, zeros of both signs alike, NaN above everything. Descending order inverts the
bits. Blocks of 16 keys are ranked against each other at once; runs are then merged, back and forth
between two pairs of arrays. For a selection of k, keys that beat the k-th best so far are collected
until there are about twice as many, which are then sorted and cut to k.
"""

from __future__ import annotations

from dataclasses import dataclass

from .. import algorithm as alg
from ..algorithm import Bitcast, Const, Expr, Index, LaneReduce, Var, cast, extreme
from ..codegen.kernel.ir import Alloc, If, Kernel, Let, Stmt, While
from ..dims import Dim, DimExpr, bounds, ceildiv, maximum, minimum, round_up
from ..dtypes import DType, bool_, float32, int32, int64, uint8
from ..errors import InternalError
from ..graph.ops.base import Op
from ..graph.ops.sorting import Sort, TopK
from .special_parts import (
    LANES,
    Cell,
    Memory,
    Types,
    joined,
    kernel,
    loop,
    operand,
    parted,
    result,
    scratch,
    vector,
)

GROUPS = 64  # lines are dealt to so many groups, each with scratch memory of its own
SLACK = 16 * LANES  # keys that a selection collects beyond 2 k


def key_dtype(dtype: DType) -> DType:
    """What `key` makes of elements of `dtype`."""
    if dtype.is_float:
        return int64 if dtype.bits == 64 else int32
    return uint8 if dtype.kind == "b" else dtype


def key(x: Expr, descending: bool) -> Expr:
    """An integer that orders as `x` does, or the other way round."""
    to = key_dtype(x.dtype)
    if x.dtype.is_float:
        wide = x if x.dtype.computes else cast(x, float32)
        bits = Bitcast(alg.where(alg.equal(wide, 0), 0.0, wide), to)
        most = Const(extreme(to, 1), to)
        out = alg.where(alg.isnan(wide), most, bits ^ ((bits >> (to.bits - 1)) & most))
    else:
        out = cast(x, to)
    found: Expr = ~out if descending else out
    return found


@dataclass(frozen=True)
class Sorter:
    """Two pairs of arrays [groups, capacity]: keys and places."""

    keys: tuple[Memory, Memory]
    places: tuple[Memory, Memory]
    capacity: Dim  # a multiple of LANES

    @staticmethod
    def make(dtype: DType, groups: Dim, capacity: Dim) -> Sorter:
        """Arrays in scratch memory for at least `capacity` keys in each group."""
        size = round_up(capacity, LANES)
        keys = (scratch(0, dtype, groups, size), scratch(1, dtype, groups, size))
        places = (scratch(2, int64, groups, size), scratch(3, int64, groups, size))
        return Sorter(keys, places, size)

    @property
    def memories(self) -> tuple[Memory, ...]:
        return (*self.keys, *self.places)

    def sorted(self, group: Dim, count: Expr) -> list[Stmt]:
        """Sorts the first `count` of the first pair into the second pair. From there to the next
        multiple of LANES the keys must be the largest there are."""
        width = Cell("width")
        wider = width.set(width.value * 2)
        there_and_back = (*self.merged(1, 0, group, count, width.value), wider,
                          *self.merged(0, 1, group, count, width.value), wider)  # fmt: skip

        def block(b: DimExpr) -> list[Stmt]:
            return [If(alg.apply("lt", Index(b * LANES), count), tuple(self.ranked(group, b)))]

        return [
            loop("b", self.capacity // LANES, block),
            *width.begin(LANES),
            While(width.value < count, there_and_back),
        ]

    def ranked(self, group: Dim, b: Dim) -> list[Stmt]:
        """Puts a block of the first pair in order, in the second pair."""
        own = Memory("own.v", self.keys[0].dtype, (LANES,), space="register")
        rank = Memory("rank.v", int64, (LANES,), space="register")
        first = b * LANES

        def start(v: DimExpr) -> list[Stmt]:
            return [own.put((v,), self.keys[0][group, first + v]), rank.put((v,), 0)]

        def count(j: DimExpr) -> list[Stmt]:
            other = self.keys[0][group, first + j]

            def lane(v: DimExpr) -> list[Stmt]:
                tie = alg.equal(other, own[v]) & alg.apply("lt", Index(j), Index(v))
                return [rank.put((v,), rank[v] + cast((other < own[v]) | tie, int64))]

            return [vector(lane)]

        def place(v: DimExpr) -> list[Stmt]:
            to = Index(first) + rank[v]
            return [self.keys[1].put((group, to), own[v]),
                    self.places[1].put((group, to), self.places[0][group, first + v])]  # fmt: skip

        made: list[Stmt] = [Alloc(own.buffer), Alloc(rank.buffer)]
        return [*made, vector(start), loop("j", LANES, count), vector(place)]

    def merged(self, source: int, to: int, group: Dim, count: Expr, width: Expr) -> list[Stmt]:
        """Merges neighbouring runs of `width`."""
        start = Cell("start")
        run = (*self.run(source, to, group, start.value, count, width),
               start.set(start.value + width * 2))  # fmt: skip
        return [*start.begin(0), While(start.value < count, run)]

    def run(self, source: int, to: int, group: Dim, start: Expr, count: Expr,
            width: Expr) -> list[Stmt]:  # fmt: skip
        """Merges the runs [start, start + width) and [start + width, start + 2 width)."""
        keys, places = self.keys[source], self.places[source]
        i, j, middle, end = (Cell(n) for n in ("i", "j", "middle", "end"))

        def put(found: Expr, place: Expr) -> list[Stmt]:
            at = i.value + j.value - middle.value
            return [self.keys[to].put((group, at), found),
                    self.places[to].put((group, at), places[group, place])]  # fmt: skip

        a, b, left = Var("a.v", keys.dtype), Var("b.v", keys.dtype), Var("left.v", bool_)
        smaller = (
            Let("a.v", keys[group, i.value]), Let("b.v", keys[group, j.value]),
            Let("left.v", a <= b),
            *put(alg.where(left, a, b), alg.where(left, i.value, j.value)),
            i.set(i.value + cast(left, int64)), j.set(j.value + cast(~left, int64)),
        )  # fmt: skip

        def rest(c: Cell, stop: Cell) -> Stmt:
            step = (*put(keys[group, c.value], c.value), c.set(c.value + 1))
            return While(c.value < stop.value, step)

        return [
            *middle.begin(alg.minimum(start + width, count)),
            *end.begin(alg.minimum(start + width * 2, count)),
            *i.begin(start), *j.begin(middle.value),
            While((i.value < middle.value) & (j.value < end.value), smaller),
            rest(i, middle), rest(j, end),
        ]  # fmt: skip


def sort(op: Op, inputs: Types, outputs: Types) -> Kernel:
    """All of every line."""
    if not isinstance(op, Sort):
        raise InternalError(f"{op.name} is no sort")
    return _Lines(inputs, outputs, op.axis, op.descending, None).kernel(op)


def top_k(op: Op, inputs: Types, outputs: Types) -> Kernel:
    """The first k of every line."""
    if not isinstance(op, TopK):
        raise InternalError(f"{op.name} is no top_k")
    return _Lines(inputs, outputs, op.axis, op.largest, op.k).kernel(op)


class _Lines:
    """The kernel that sorts every line along an axis, or selects `k` of it."""

    def __init__(self, inputs: Types, outputs: Types, axis: int, descending: bool,
                 k: Dim | None) -> None:  # fmt: skip
        outer, self.length, self.inner = shape = joined(inputs[0].shape, axis)
        self.many = self.length if k is None else k
        self.x = operand(0, inputs[0], shape)
        made = (outer, self.many, self.inner)
        self.results = [result(r, t, made) for r, t in enumerate(outputs)]
        self.descending = descending
        self.lines = outer * self.inner
        self.groups = minimum(self.lines, GROUPS)
        self.whole = self.many == self.length
        room = self.length if self.whole else minimum(self.length, 2 * self.many + SLACK) + LANES
        self.sorter = Sorter.make(key_dtype(self.x.dtype), self.groups, room)
        self.count = Cell("count")

    def kernel(self, op: Op) -> Kernel:
        each = ceildiv(self.lines, GROUPS)

        def group(p: DimExpr) -> list[Stmt]:
            left = minimum(self.lines - p * each, each)
            return [loop("q", left, lambda q: self.line(p, p * each + q))]

        body = [loop("p", self.groups, group, "parallel")]
        return kernel(op.name, (self.x, *self.results, *self.sorter.memories), body)

    def line(self, group: Dim, number: Dim) -> list[Stmt]:
        row, c = parted(number, self.inner)
        order = self.everything if self.whole else self.selection
        return [*self.count.begin(0), *order(group, row, c), *self.write(group, row, c)]

    def key(self, row: Dim, at: Dim, c: Dim) -> Expr:
        """The key of an element; the largest there is beyond the line's end."""
        inside = alg.apply("lt", Index(at), Index(self.length))
        found = key(self.x.at((row, at, c), inside), self.descending)
        return alg.where(inside, found, Const(extreme(found.dtype, 1), found.dtype))  # type: ignore[no-any-return]

    def everything(self, group: Dim, row: Dim, c: Dim) -> list[Stmt]:
        """Sorts every key of the line."""
        keys, places = self.sorter.keys[0], self.sorter.places[0]

        def block(b: DimExpr) -> list[Stmt]:
            def fill(v: DimExpr) -> list[Stmt]:
                at = b * LANES + v
                return [keys.put((group, at), self.key(row, at, c)), places.put((group, at), at)]

            return [vector(fill)]

        return [
            self.count.set(self.length),
            loop("f", ceildiv(self.length, LANES), block),
            *self.sorter.sorted(group, self.count.value),
        ]

    def selection(self, group: Dim, row: Dim, c: Dim) -> list[Stmt]:
        """Collects keys below `limit`, and at first all; sorts them and keeps `many` whenever
        another block might not fit, and at the end."""
        keys, places, room = self.sorter.keys, self.sorter.places, self.sorter.capacity
        count, limit, every = self.count, Cell("limit", keys[0].dtype), Cell("every", bool_)
        own = Memory("near.v", keys[0].dtype, (LANES,), space="register")
        kept = minimum(self.many, room)
        blocks = ceildiv(self.length, LANES)

        def wanted(found: Expr) -> Expr:
            return every.value | (found < limit.value)

        def collect(at: Dim) -> list[Stmt]:
            new = Var("new.v", keys[0].dtype)
            add = (keys[0].put((group, count.value), new),
                   places[0].put((group, count.value), at),
                   count.set(count.value + 1))  # fmt: skip
            return [Let("new.v", self.key(row, at, c)), If(wanted(new), add)]

        def pad(v: DimExpr) -> list[Stmt]:
            at = count.value + Index(v)
            return [keys[0].put((group, at), extreme(keys[0].dtype, 1), at < Index(room))]

        def keep(j: DimExpr) -> list[Stmt]:
            return [keys[0].put((group, j), keys[1][group, j]),
                    places[0].put((group, j), places[1][group, j])]  # fmt: skip

        cut = (
            loop("v", LANES, pad),
            *self.sorter.sorted(group, count.value),
            loop("j", kept, keep),
            count.set(alg.minimum(count.value, Index(kept))),
            limit.set(keys[1][group, maximum(kept - 1, 0)]),
            every.set(False),
        )

        def block(b: DimExpr) -> list[Stmt]:
            inside = minimum(self.length - b * LANES, LANES)
            near = LaneReduce("min", own.buffer.name, (), own.dtype)
            full = (count.value > Index(room - LANES)) | alg.equal(Index(b), Index(blocks - 1))
            return [
                vector(lambda v: [own.put((v,), self.key(row, b * LANES + v, c))]),
                If(wanted(near), (loop("w", inside, lambda w: collect(b * LANES + w)),)),
                If(full, cut),
            ]

        return [
            *limit.begin(0), *every.begin(True), Alloc(own.buffer),
            loop("f", blocks, block),
        ]  # fmt: skip

    def write(self, group: Dim, row: Dim, c: Dim) -> list[Stmt]:
        """The elements and their places, in order; zeros where the line has too few."""
        values, indices = self.results
        short = bounds(self.length - self.many)[0]

        def block(b: DimExpr) -> list[Stmt]:
            def lane(v: DimExpr) -> list[Stmt]:
                at = b * LANES + v
                there = alg.apply("lt", Index(at), Index(self.length))
                mask = None if short is not None and short >= 0 else there
                place = self.sorter.places[1].at((group, at), mask)
                return [values.put((row, at, c), self.x.at((row, place, c), mask)),
                        indices.put((row, at, c), place)]  # fmt: skip

            return [vector(lane, self.many - b * LANES)]

        return [loop("w", ceildiv(self.many, LANES), block)]
