"""Non-maximum suppression, as a kernel.

Scores above the threshold are sorted; then one box after the other is compared with those selected
so far, `LANES` at a time, and selected if it overlaps none of them. Threads share the classes.
"""

from __future__ import annotations

from functools import reduce
from operator import and_

from .. import algorithm as alg
from ..algorithm import Expr, Index, LaneReduce, Var, as_expr, cast
from ..codegen.kernel.ir import Alloc, If, Kernel, Let, Stmt, While
from ..dims import Dim, DimExpr, ceildiv, minimum
from ..dtypes import bool_, float32, int32, int64
from ..errors import InternalError
from ..graph.ops.base import Op
from ..graph.ops.suppression import SelectedBoxes
from .special_parts import (
    LANES,
    Cell,
    Memory,
    Types,
    kernel,
    loop,
    operand,
    result,
    scratch,
    vector,
)
from .special_sort import GROUPS, Sorter, key, key_dtype

_EDGES = ("low_a", "low_b", "high_a", "high_b", "area")


def selected_boxes(op: Op, inputs: Types, outputs: Types) -> Kernel:
    """See the module docstring."""
    if not isinstance(op, SelectedBoxes):
        raise InternalError(f"{op.name} is no selected_boxes")
    return _Classes(op, inputs, outputs).kernel()


class _Classes:
    def __init__(self, op: SelectedBoxes, inputs: Types, outputs: Types) -> None:
        self.op = op
        batches, self.classes, self.many = inputs[1].shape
        self.lines = batches * self.classes
        self.boxes = operand(0, inputs[0])
        self.scores = operand(1, inputs[1], (self.lines, self.many))
        self.limits = [operand(k, t) for k, t in enumerate(inputs[2:], 2)]
        self.out = result(0, outputs[0], (self.lines, op.most))
        groups = minimum(self.lines, GROUPS)
        self.sorter = Sorter.make(key_dtype(float32), groups, self.many + LANES)
        shape = (groups, len(_EDGES), ceildiv(op.most, LANES), LANES)
        self.chosen = scratch(4, float32, *shape)  # edges and areas of the boxes selected
        self.groups = groups
        self.count, self.kept, self.next = Cell("count"), Cell("kept"), Cell("next")

    def kernel(self) -> Kernel:
        each = ceildiv(self.lines, GROUPS)

        def group(p: DimExpr) -> list[Stmt]:
            left = minimum(self.lines - p * each, each)
            return [loop("q", left, lambda q: self.line(p, p * each + q))]

        memories = (self.boxes, self.scores, *self.limits, self.out, *self.sorter.memories,
                    self.chosen)  # fmt: skip
        return kernel(self.op.name, memories, [loop("p", self.groups, group, "parallel")])

    def line(self, group: Dim, line: Dim) -> list[Stmt]:
        """One class of one image."""
        most = alg.minimum(self.limits[0].at(()), as_expr(self.op.most, int64))
        more = (self.next.value < self.count.value) & (self.kept.value < most)

        def rest(k: DimExpr) -> list[Stmt]:
            free = alg.apply("ge", Index(k), self.kept.value)
            return [self.out.put((line, k), -1, free)]

        return [
            *self.count.begin(0), *self.collect(group, line),
            *self.sorter.sorted(group, self.count.value),
            *self.kept.begin(0), *self.next.begin(0),
            While(more, tuple(self.candidate(group, line))),
            loop("r", self.op.most, rest),
        ]  # fmt: skip

    def collect(self, group: Dim, line: Dim) -> list[Stmt]:
        """Keys of the scores above the threshold, a block without any being passed over."""
        keys, places, count = self.sorter.keys[0], self.sorter.places[0], self.count
        least, near = self.limits[2].at(()), Memory("near.v", float32, (LANES,), space="register")
        lowest = alg.Const(float("-inf"), float32)

        def read(v: Dim, at: Dim) -> Stmt:
            inside = alg.apply("lt", Index(at), as_expr(self.many, int64))
            found = self.scores.at((line, at), inside)
            return near.put((v,), alg.where(inside & (found > least), found, lowest))

        def one(at: Dim) -> list[Stmt]:
            score = self.scores[line, at]
            add = (keys.put((group, count.value), key(score, True)),
                   places.put((group, count.value), at),
                   count.set(count.value + 1))  # fmt: skip
            return [If(score > least, add)]

        def block(b: DimExpr) -> list[Stmt]:
            left = minimum(self.many - b * LANES, LANES)
            some = LaneReduce("max", near.buffer.name, (), float32) > lowest
            return [vector(lambda v: [read(v, b * LANES + v)]),
                    If(some, (loop("w", left, lambda w: one(b * LANES + w)),))]  # fmt: skip

        def pad(v: DimExpr) -> list[Stmt]:
            return [keys.put((group, count.value + Index(v)), alg.extreme(keys.dtype, 1))]

        return [Alloc(near.buffer), loop("f", ceildiv(self.many, LANES), block),
                loop("e", LANES, pad)]  # fmt: skip

    def candidate(self, group: Dim, line: Dim) -> list[Stmt]:
        """The next box by score: selected if it overlaps none that is."""
        place, kept, image = Var("place.v", int64), self.kept, line // self.classes
        mine = {name: Var(f"{name}.v", float32) for name in _EDGES}
        hit, block = Cell("hit", bool_), Cell("block")
        corners = [self.boxes[image, place, k] for k in range(4)]
        slot = (kept.value // LANES, kept.value % LANES)
        keep = [self.chosen.put((group, k, *slot), mine[n]) for k, n in enumerate(_EDGES)]
        compare = While((block.value * LANES < kept.value) & ~hit.value,
                        (*self.compared(group, mine, block.value, hit),
                         block.set(block.value + 1)))  # fmt: skip
        return [
            Let("place.v", self.sorter.places[1][group, self.next.value]),
            *(Let(f"{n}.v", e) for n, e in self.edges(corners, mine).items()),
            *hit.begin(False), *block.begin(0), compare,
            If(~hit.value, (*keep, self.out.put((line, kept.value), place),
                            kept.set(kept.value + 1))),
            self.next.set(self.next.value + 1),
        ]  # fmt: skip

    def edges(self, box: list[Expr], mine: dict[str, Var]) -> dict[str, Expr]:
        """Ends along both axes and the area of a box."""
        a, b, c, d = box
        if self.op.centred:
            ends = [a - c / 2.0, b - d / 2.0, a + c / 2.0, b + d / 2.0]
        else:
            ends = [alg.minimum(a, c), alg.minimum(b, d), alg.maximum(a, c), alg.maximum(b, d)]
        area = (mine["high_a"] - mine["low_a"]) * (mine["high_b"] - mine["low_b"])
        return dict(zip(_EDGES, (*ends, area)))

    def compared(self, group: Dim, mine: dict[str, Var], block: Expr, hit: Cell) -> list[Stmt]:
        """Whether the box overlaps one of a block of those selected."""
        flags = Memory("flags.v", int32, (LANES,), space="register")

        def lane(v: DimExpr) -> list[Stmt]:
            other = {n: self.chosen[group, k, block, v] for k, n in enumerate(_EDGES)}
            sides = [alg.minimum(mine[f"high_{s}"], other[f"high_{s}"])
                     - alg.maximum(mine[f"low_{s}"], other[f"low_{s}"]) for s in "ab"]  # fmt: skip
            common = alg.maximum(sides[0], 0.0) * alg.maximum(sides[1], 0.0)
            share = common / (mine["area"] + other["area"] - common)
            there = block * LANES + Index(v) < self.kept.value
            return [flags.put((v,), cast(reduce(and_, (share > self.limits[1].at(()), there)),
                                         int32))]  # fmt: skip

        found = LaneReduce("max", flags.buffer.name, (), int32) > 0
        return [Alloc(flags.buffer), vector(lane), hit.set(hit.value | found)]
