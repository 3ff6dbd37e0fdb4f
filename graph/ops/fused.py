"""Groups of nodes that become one kernel, and changes of layout: what passes insert."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...algorithm import Compute, axis
from ...dims import Dim, total
from ...dtypes import Array
from ..ir import Function, Layout, Piece, TensorType, Value
from .base import Caller, Op, Operand, sample


@dataclass(frozen=True)
class Fused(Op):
    """The nodes of `function`, computed together by one kernel. Results: its outputs in order."""

    function: Function
    differentiable = False

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        return tuple(v.type for _, v in self.function.outputs)

    def interpret(self, call: Caller, *xs: Array) -> Any:
        return call(self.function, *xs)

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        nodes = self.function.nodes()
        return total(n.op.flops(n.types[0], *(v.type for v in n.inputs)) for n in nodes)

    def __hash__(self) -> int:
        return id(self.function)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fused) and other.function is self.function


@dataclass(frozen=True)
class Relayout(Op):
    """The same tensor with its elements in another order in memory."""

    layout: Layout | None
    arity = 1
    samples = (
        sample((3, 17), layout=(Piece(1), Piece(0))),
        sample((5, 33), layout=(Piece(0), Piece(1, "outer", 16), Piece(1, "inner", 16))),
    )

    def infer(self, *types: TensorType) -> TensorType:
        return TensorType(types[0].dtype, types[0].shape, self.layout)

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        axes = tuple(axis(d) for d in out.shape)
        return Compute(axes, (), None, xs[0].at([a.index for a in axes]))

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return (g,)

    def ref(self, *xs: Array) -> Array:
        return np.array(xs[0])

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return 0
