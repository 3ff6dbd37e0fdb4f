"""Groups of nodes that become one kernel, changes of layout, reductions of blocks: what passes
insert."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...algorithm import Compute, axis, cast
from ...dims import Dim, ceildiv, minimum, total
from ...dtypes import Array, as_dtype, sum_dtype
from ..ir import Binding, Function, Layout, Piece, TensorType, Value
from .base import Caller, Op, Operand, sample


@dataclass(frozen=True)
class Fused(Op):
    """The nodes of `function`, computed together by one kernel. Results: its outputs in order."""

    function: Function
    differentiable = False

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        return tuple(v.type for _, v in self.function.outputs)

    def bindings(self) -> tuple[Binding, ...]:
        place = {v: k for k, v in enumerate(self.function.inputs)}
        return tuple(replace(b, operand=place[n.inputs[b.operand]])
                     for n in self.function.nodes() for b in n.op.bindings())  # fmt: skip

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


@dataclass(frozen=True)
class ReduceBlocks(Op):
    """The first step of a long reduction: elements along `axes` combined, but along `axis`, one of
    them, only within each block of `block`. Axes stay: with one element, or one per block."""

    combine: str
    axes: tuple[int, ...]
    axis: int
    block: int
    arity = 1
    differentiable = False  # gradients were taken before
    samples = tuple(
        sample(shape, combine=combine, axes=axes, axis=axis, block=block)
        for combine in ("add", "max", "min")
        for shape, axes, axis, block in (((100,), (0,), 0, 32), ((7, 33), (0,), 0, 3),
                                         ((7, 33), (1,), 1, 16), ((4, 9, 5), (0, 2), 0, 2),
                                         ((3, 700), (0, 1), 1, 256), ((6, 2), (0,), 0, 1))
    )  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        shape = tuple(ceildiv(d, self.block) if k == self.axis else 1 if k in self.axes else d
                      for k, d in enumerate(x.shape))  # fmt: skip
        return TensorType(sum_dtype(x.dtype) if self.combine == "add" else x.dtype, shape)

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        (x,) = xs
        axes = tuple(axis(d) for d in out.shape)
        at: list[Dim] = [a.index for a in axes]
        inside = []
        for k in self.axes:
            before = axes[k].index * self.block if k == self.axis else 0
            left = x.shape[k] - before
            inside.append(axis(minimum(self.block, left) if k == self.axis else left, "k"))
            at[k] = before + inside[-1].index
        value = x.at(at)
        return Compute(axes, tuple(inside), self.combine,
                       cast(value, out.dtype) if self.combine == "add" else value)  # fmt: skip

    def ref(self, *xs: Array) -> Array:
        ufunc = {"add": np.add, "max": np.maximum, "min": np.minimum}[self.combine]
        x = xs[0]
        if self.combine == "add" and x.dtype.kind == "f":
            x = x.astype(np.float64)
        starts = np.arange(0, x.shape[self.axis], self.block)
        made = ufunc.reduceat(x, starts, self.axis) if len(starts) else x
        rest = tuple(k for k in self.axes if k != self.axis)
        made = ufunc.reduce(made, rest, keepdims=True) if rest else made
        kind = sum_dtype(as_dtype(xs[0].dtype)).numpy if self.combine == "add" else xs[0].dtype
        return np.asarray(made).astype(kind)

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return types[0].size
