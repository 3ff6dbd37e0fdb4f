"""Rows: the elements of a tensor, some of its axes being the columns of the others.

What reductions over the same axes of tensors of one shape share, and the pointwise work between
them: a value of a row has one element for the row or one per column.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..algorithm import Axis
from ..dims import Dim
from ..graph.ir import Layout, Node, Shape
from ..graph.ops.reduce import Prod, ReduceMax, ReduceMin, Sum
from .blocks import in_one_block, memory_order
from .stages import domain

FEW_RESULTS = 4  # neighbouring results that make vectors worth while


@dataclass(frozen=True)
class RowDomain:
    """`loops` over the physical dimensions of tensors of `shape` in `layout`, `logical` the index
    they stand for. Those of `axes` (logical) are the columns."""

    shape: Shape
    layout: Layout | None
    axes: tuple[int, ...]
    loops: tuple[Axis, ...]
    logical: tuple[Dim, ...]

    def _loops(self, columns: bool) -> tuple[Axis, ...]:
        order = memory_order(self.shape, self.layout)
        return tuple(a for a, k in zip(self.loops, order) if (k in self.axes) == columns)

    @property
    def rows(self) -> tuple[Axis, ...]:
        return self._loops(columns=False)

    @property
    def columns(self) -> tuple[Axis, ...]:
        return self._loops(columns=True)

    @property
    def neighbours(self) -> Axis:
        """The loop whose index moves by one element."""
        return next(a for a in reversed(self.loops) if a.extent != 1)

    @property
    def along(self) -> bool:
        """Whether the columns of a row lie side by side in memory; else neighbouring rows do."""
        return self.neighbours in self.columns

    def place(self, shape: Shape) -> tuple[Dim, ...] | None:
        """The index of a value of `shape` that has an element per column or one per row; None
        where it has neither. Axes of one element may be left out or put in."""
        if shape == self.shape:
            return tuple(0 if d == 1 else i for d, i in zip(shape, self.logical))
        mine = [(d, i) for k, (d, i) in enumerate(zip(self.shape, self.logical))
                if k not in self.axes and d != 1]  # fmt: skip
        if [d for d in shape if d != 1] != [d for d, _ in mine]:
            return None
        rest = iter([i for _, i in mine])
        return tuple(0 if d == 1 else next(rest) for d in shape)


def row_domain(n: Node) -> RowDomain | None:
    """The rows a node reduces; None where it reduces none, or such as threads had better share."""
    op = n.op
    if not isinstance(op, Sum | Prod | ReduceMax | ReduceMin):
        return None
    x = n.inputs[0].type
    if x.layout is not None and any(p.part != "all" for p in x.layout):
        return None
    if all(x.shape[a] == 1 for a in op.axes) or not in_one_block(x.shape, x.layout, op.axes):
        return None
    d = domain(x)
    made = RowDomain(x.shape, x.layout, op.axes, d.loops, d.logical)
    few = made.neighbours.extent
    if not made.along and isinstance(few, int) and few < FEW_RESULTS:
        return None
    return made
