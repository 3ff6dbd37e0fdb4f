"""Matrix products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...algorithm import Compute, axis
from ...dims import Dim
from ...dtypes import Array
from ...errors import DTypeError, ShapeError
from ..ir import CALLS, TensorType, Value
from .base import Op, Operand, broadcast_shapes, graph_function, make, promoted, sample


@dataclass(frozen=True)
class Matmul(Op):
    """[..., m, k] @ [..., k, n] -> [..., m, n]; leading dimensions broadcast. Products are summed
    in order of k by fused multiply-adds in the operands' dtype."""

    arity = 2
    onnx = "MatMul"
    samples = (sample((1, 1), (1, 1)), sample((7, 13), (13, 17)), sample((2, 1, 5, 3), (4, 3, 9)),
               sample((33, 70), (70, 50)), sample((3, 0), (0, 4)), sample((64, 64), (64, 64)),
               sample((5, 7), (7, 5), dtypes=("int32", "int32"), low=-9, high=9))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        a, b = types
        if not a.dtype.computes or a.dtype.kind == "b":
            raise DTypeError(f"not defined for {a.dtype}", "cast to float32 first")
        if a.ndim < 2 or b.ndim < 2:
            raise ShapeError(f"operands need two axes or more: a is {a}, b is {b}")
        if a.shape[-1] != b.shape[-2]:
            raise ShapeError(f"inner dimensions differ: a is {a}, b is {b}")
        batch = broadcast_shapes(a.shape[:-2], b.shape[:-2])
        return TensorType(a.dtype, (*batch, a.shape[-2], b.shape[-1]))

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        a, b = xs
        axes = tuple(axis(d) for d in out.shape)
        *batch, m, n = axes
        k = axis(a.shape[-1], "k")

        def lead(x: Operand) -> list[Dim]:
            skip = len(batch) - (x.type.ndim - 2)
            return [0 if d == 1 else i.index for d, i in zip(x.shape, batch[skip:])]

        left = a.at([*lead(a), m.index, k.index])
        right = b.at([*lead(b), k.index, n.index])
        return Compute(axes, (k,), "add", left * right)

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        a, b = xs
        unbroadcast = CALLS["unbroadcast"]
        return unbroadcast(g @ b.mT, a), unbroadcast(a.mT @ g, b)

    def ref(self, *xs: Array) -> Array:
        if xs[0].dtype == np.float32:
            return np.matmul(*(x.astype(np.float64) for x in xs)).astype(np.float32)
        return np.matmul(*xs)

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return out.size * types[0].shape[-1] * 2


@graph_function("matmul")
def matmul(a: Any, b: Any) -> Value:
    """NumPy's matmul: a vector operand counts as a row (left) or a column (right)."""
    x, y = promoted(a, b)
    if x.ndim == 0 or y.ndim == 0:
        raise ShapeError(f"matmul needs axes: a is {x.type}, b is {y.type}", "use * for scalars")
    reshape = CALLS["reshape"]
    row, column = x.ndim == 1, y.ndim == 1
    if row:
        x = reshape(x, (1, *x.shape))
    if column:
        y = reshape(y, (*y.shape, 1))
    out = make(Matmul(), x, y)
    if row or column:
        shape = list(out.shape)
        if column:
            del shape[-1]
        if row:
            del shape[-2 + column]
        out = reshape(out, tuple(shape))
    return out
