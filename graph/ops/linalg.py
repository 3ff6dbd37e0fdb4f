"""Matrix products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ... import algorithm as alg
from ...algorithm import Compute, axis
from ...dims import Dim
from ...dtypes import Array
from ...errors import ConfigError, DTypeError, ShapeError
from ..ir import CALLS, Shape, TensorType, Value
from .base import (
    Op,
    Operand,
    Sample,
    as_value,
    broadcast_shapes,
    graph_function,
    make,
    promoted,
    sample,
)


@dataclass(frozen=True)
class Matmul(Op):
    """[..., m, k] @ [..., k, n] -> [..., m, n]; leading dimensions broadcast. Products are summed
    in order of k by fused multiply-adds in the operands' dtype."""

    arity = 2
    onnx = "MatMul"
    samples: ClassVar[tuple[Sample, ...]] = (
        sample((1, 1), (1, 1)), sample((7, 13), (13, 17)), sample((2, 1, 5, 3), (4, 3, 9)),
        sample((33, 70), (70, 50)), sample((3, 0), (0, 4)), sample((64, 64), (64, 64)),
        sample((5, 7), (7, 5), dtypes=("int32", "int32"), low=-9, high=9))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        a, b = types
        if not a.dtype.computes or a.dtype.kind == "b":
            raise DTypeError(f"not defined for {a.dtype}", "cast to float32 first")
        return TensorType(a.dtype, self.result_shape(a, b))

    def result_shape(self, a: TensorType, b: TensorType) -> Shape:
        """The shape of the product. ShapeError where there is none."""
        if a.ndim < 2 or b.ndim < 2:
            raise ShapeError(f"operands need two axes or more: a is {a}, b is {b}")
        if a.shape[-1] != b.shape[-2]:
            raise ShapeError(f"inner dimensions differ: a is {a}, b is {b}")
        batch = broadcast_shapes(a.shape[:-2], b.shape[:-2])
        return (*batch, a.shape[-2], b.shape[-1])

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
        return Compute(axes, (k,), "add", alg.cast(left, out.dtype) * alg.cast(right, out.dtype))

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
    return multiplied(Matmul(), *promoted(a, b))


def multiplied(op: Op, x: Value, y: Value) -> Value:
    """The product `op` of two values, of which one with a single axis counts as a row or column."""
    if x.ndim == 0 or y.ndim == 0:
        raise ShapeError(f"matmul needs axes: a is {x.type}, b is {y.type}", "use * for scalars")
    reshape = CALLS["reshape"]
    row, column = x.ndim == 1, y.ndim == 1
    if row:
        x = reshape(x, (1, *x.shape))
    if column:
        y = reshape(y, (*y.shape, 1))
    out = make(op, x, y)
    if row or column:
        shape = list(out.shape)
        if column:
            del shape[-1]
        if row:
            del shape[-2 + column]
        out = reshape(out, tuple(shape))
    return out


@graph_function("gemm")
def gemm(
    a: Any, b: Any, c: Any = None, alpha: float = 1.0, beta: float = 1.0, trans_a: bool = False,
    trans_b: bool = False,
) -> Value:  # fmt: skip
    """alpha * a @ b + beta * c for matrices, a and b transposed first where asked for; c broadcasts
    to the product."""
    x, y = promoted(a, b)
    for v, name in ((x, "a"), (y, "b")):
        if v.ndim != 2:
            raise ShapeError(f"gemm: {name} must be a matrix, it is {v.type}")
    x, y = x.mT if trans_a else x, y.mT if trans_b else y
    out = matmul(x, y)
    if alpha != 1:
        out = out * _scale_for(alpha, out)
    if c is None or beta == 0:
        return out
    z = CALLS["cast"](as_value(c, out), out.dtype)
    total: Value = out + (z if beta == 1 else z * _scale_for(beta, out))
    if total.shape != out.shape:
        raise ShapeError(f"gemm: c {z.type} does not broadcast to the product {out.type}")
    return total


def _scale_for(factor: float, like: Value) -> float | int:
    """A factor as a number for the dtype of `like`. ConfigError for a fraction of integers."""
    if like.dtype.is_float:
        return factor
    if factor != int(factor):
        raise ConfigError(f"gemm: {like.dtype} cannot be scaled by {factor}")
    return int(factor)


@dataclass(frozen=True)
class Det(Op):
    """The determinants of square matrices [..., n, n]: by formula up to 3 x 3, else by elimination
    with the largest pivot of each column."""

    arity = 1
    onnx = "Det"
    samples = (sample((2, 2)), sample((4, 3, 3)), sample((1, 1)),
               sample((2, 4, 4), dtypes=("float64",)), sample((3, 0, 0)),
               sample((4, 4), dtypes=("float32",), special=(0.0,) * 4, gradient=False),
               sample((2, 2), special=(1.0, 2.0, 2.0, 4.0)))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        if not x.dtype.computes or not x.dtype.is_float:
            raise DTypeError(f"not defined for {x.dtype}", "cast to float32 first")
        if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
            raise ShapeError(f"{x} does not hold square matrices")
        return TensorType(x.dtype, x.shape[:-2])

    def expand(self, *xs: Value) -> Value:
        (x,) = xs
        n, lead = x.shape[-1], x.shape[:-2]
        if n == 0:
            return CALLS["full"](lead, 1, x.dtype, x.node.owner)  # type: ignore[no-any-return]
        if n in (1, 2, 3):
            return _small_det(x)
        first = CALLS["full"](lead, 1, x.dtype, x.node.owner)
        numbers = CALLS["iota"]((n,), owner=x.node.owner)
        (_, det), _ = CALLS["scan"](_eliminated, (x, first), numbers)
        return det  # type: ignore[no-any-return]

    def ref(self, *xs: Array) -> Array:
        return np.asarray(np.linalg.det(xs[0].astype(np.float64))).astype(xs[0].dtype)

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return types[0].size * types[0].shape[-1]


def _small_det(x: Value) -> Value:
    """Leibniz's formula, for up to three rows."""
    rows = [[x[..., i, j] for j in range(x.type.shape[-1])] for i in range(x.type.shape[-1])]  # type: ignore[arg-type]
    if len(rows) == 1:
        return rows[0][0]
    if len(rows) == 2:
        (a, b), (c, d) = rows
        return a * d - b * c
    (a, b, c), (d, e, f), (g, h, i) = rows
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


def _eliminated(carry: tuple[Value, Value], k: Value) -> tuple[tuple[Value, Value], None]:
    """Step k of Gaussian elimination: the rest of the matrix, and the product of the pivots."""
    x, det = carry
    n = x.shape[-1]
    gather, where, owner = CALLS["gather"], CALLS["where"], x.node.owner
    rows = CALLS["iota"]((n,), owner=owner)
    column = gather(x, k, -1)
    score = where(rows >= k, abs(column), -1.0)
    at = CALLS["expand_dims"](CALLS["argmax"](score, -1), -1)
    pivot_row = CALLS["take_along_axis"](
        x, CALLS["broadcast_to"](CALLS["expand_dims"](at, -1), (*x.shape[:-2], 1, n)), -2
    )
    old_row = CALLS["expand_dims"](gather(x, k, -2), -2)
    chosen = CALLS["expand_dims"](CALLS["eq"](rows, at), -1)
    here = CALLS["expand_dims"](CALLS["eq"](rows, k), -1)
    swapped = where(here, pivot_row, where(chosen, old_row, x))
    pivot = gather(pivot_row, k, -1)
    safe = where(CALLS["eq"](pivot, 0.0), 1.0, pivot)
    below = CALLS["expand_dims"](rows > k, -1)
    factor = CALLS["expand_dims"](gather(swapped, k, -1) / safe, -1)
    rest = where(below, swapped - factor * pivot_row, swapped)
    turned = where(CALLS["eq"](at, k), 1.0, -1.0)
    step = CALLS["cast"](CALLS["squeeze"](turned, -1), x.dtype) * CALLS["squeeze"](pivot, -1)
    return (rest, det * step), None


@graph_function("det")
def det(x: Any) -> Value:
    """The determinants of the square matrices [..., n, n] that x holds."""
    return make(Det(), as_value(x))
