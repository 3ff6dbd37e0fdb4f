"""Matrix products and convolutions of narrow integers, exact in int32 (which wraps, as in NumPy)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...dtypes import Array, DType, int16, int32
from ...errors import DTypeError, ShapeError
from ..ir import CALLS, TensorType, Value
from .base import Op, as_value, graph_function, make, sample
from .convolution import Conv, window_of
from .linalg import Matmul, multiplied
from .source import Constant
from .windows import per_axis, resolve_padding


def _check(*dtypes: DType) -> None:
    for d in dtypes:
        if not d.is_integer or d.bits > 16:
            raise DTypeError(f"factors must be integers of 8 or 16 bits, not {d}")


@dataclass(frozen=True)
class MatmulInteger(Matmul):
    """[..., m, k] @ [..., k, n] -> [..., m, n] of integers of 8 or 16 bits, as int32."""

    differentiable = False
    onnx = "MatMulInteger"
    grad = Op.grad
    samples = (sample((7, 13), (13, 17), dtypes=("uint8", "int8"), low=0, high=127),
               sample((2, 1, 5, 30), (4, 30, 9), dtypes=("int8", "int8"), low=-128, high=128),
               sample((33, 70), (70, 50), dtypes=("uint8", "uint8"), low=0, high=256),
               sample((1, 300), (300, 40), dtypes=("int8", "int8"), low=-128, high=128),
               sample((3, 0), (0, 4), dtypes=("int8", "uint8")),
               sample((5, 40), (40, 3), dtypes=("int16", "int16"), low=-30000,
                      high=30000))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        _check(*(t.dtype for t in types))
        return TensorType(int32, self.result_shape(*types))

    def ref(self, *xs: Array) -> Array:
        return np.asarray(np.matmul(xs[0].astype(np.int32), xs[1].astype(np.int32)))


@dataclass(frozen=True)
class ConvInteger(Conv):
    """`Conv` of integers of 8 or 16 bits, as int32."""

    differentiable = False
    onnx = "ConvInteger"
    grad = Op.grad
    samples = tuple(
        sample(*s.shapes, dtypes=dtypes, low=-128, high=128, **s.kwargs)
        for s, dtypes in zip(Conv.samples, (("int8", "int8"), ("int16", "int8")) * 4)
    )

    def check_dtypes(self, *dtypes: DType) -> None:
        _check(*dtypes)

    def result_dtype(self, dtype: DType) -> DType:
        return int32

    def ref(self, *xs: Array) -> Array:
        return super().ref(*(x.astype(np.int32) for x in xs))


@graph_function("matmul_integer")
def matmul_integer(a: Any, b: Any, a_zero_point: Any = None, b_zero_point: Any = None) -> Value:
    """(a - a_zero_point) @ (b - b_zero_point) for integers of 8 or 16 bits, exact in int32. A zero
    point is a number, or a vector with one for each row of a or column of b."""
    x = as_value(a)
    y = as_value(b, x)
    out = multiplied(MatmulInteger(), x, y)
    za, zb = _zero_point(a_zero_point, x), _zero_point(b_zero_point, y)
    if za is not None and za.ndim == 1:
        za = CALLS["expand_dims"](za, -1)
    # (a - za) (b - zb) = a b - za sum(b) - sum(a) zb + k za zb
    sums = [CALLS["cast"](CALLS["sum"](v, axis, keepdims=v.ndim > 1), int32)
            for v, axis in ((x, -1), (y, -2 if y.ndim > 1 else -1))]  # fmt: skip
    if za is not None:
        out = out - za * sums[1]
    if zb is not None:
        out = out - sums[0] * zb
    if za is not None and zb is not None:
        depth = CALLS["cast"](CALLS["size_of"](x.shape[-1], x.node.owner), int32)
        out = out + za * zb * depth
    return out


def zero_value(zero: Any, beside: Value) -> Value:
    """A zero point as a value: a NumPy scalar has its own dtype, a bare number that of `beside`."""
    return as_value(np.asarray(zero) if isinstance(zero, np.generic) else zero, beside)


def _zero_point(zero: Any, of: Value) -> Value | None:
    """A zero point as int32; None where there is none, or where it is the number 0."""
    if zero is None:
        return None
    z = zero_value(zero, of)
    if z.dtype != of.dtype:
        raise DTypeError(f"the zero point {z.type} must be {of.dtype}, as what it is for")
    if z.type.size == 1:
        z = CALLS["reshape"](z, ())
    if isinstance(z.node.op, Constant) and not np.any(z.node.op.data.array):
        return None
    return CALLS["cast"](z, int32)  # type: ignore[no-any-return]


@graph_function("conv_integer")
def conv_integer(
    x: Any, w: Any, x_zero_point: Any = None, w_zero_point: Any = None,
    strides: int | Sequence[int] = 1, padding: Any = "valid", dilations: int | Sequence[int] = 1,
    groups: int = 1,
) -> Value:  # fmt: skip
    """`conv` of x - x_zero_point and w - w_zero_point for integers of 8 bits, exact in int32. What
    is padded counts as x_zero_point. That of w is a number, or a vector with one for each of its
    output channels."""
    a = as_value(x)
    b = as_value(w, a)
    if a.ndim < 3 or b.ndim != a.ndim:
        raise ShapeError(f"conv_integer: values are [batch, channels, *spatial] and weights have as "
                         f"many axes: got {a.type} and {b.type}")  # fmt: skip
    rank = a.ndim - 2
    s, d = per_axis(strides, rank, "strides"), per_axis(dilations, rank, "dilations")
    before, after = resolve_padding(padding, a.shape[2:], window_of(b), s, d)
    zero, weights = _zero_point(x_zero_point, a), _centred(b, w_zero_point)
    if zero is None:
        return make(ConvInteger(s, before, after, d, int(groups)), a, weights)
    if zero.ndim:
        raise ShapeError(f"conv_integer: the zero point of x must be one number, not {zero.type}")
    if any(p != 0 for p in (*before, *after)):
        a = CALLS["pad"](a, (0, 0, *before), (0, 0, *after), CALLS["cast"](zero, a.dtype))
    none = (0,) * rank
    out = make(ConvInteger(s, none, none, d, int(groups)), a, weights)
    taps = CALLS["sum"](weights, tuple(range(1, b.ndim)))
    each = CALLS["reshape"](CALLS["cast"](taps, int32), (-1, *((1,) * rank)))
    return out - zero * each  # type: ignore[no-any-return]


def _centred(w: Value, zero: Any) -> Value:
    """Weights less their zero point, as int16; the weights themselves where that is 0."""
    z = _zero_point(zero, w)
    if z is None:
        return w
    if w.dtype.bits > 8:
        raise DTypeError(f"conv_integer: zero points are for 8 bits only, not for {w.type}")
    if z.ndim == 1:
        z = CALLS["reshape"](z, (*z.shape, *((1,) * (w.ndim - 1))))
    return CALLS["cast"](w, int16) - CALLS["cast"](z, int16)  # type: ignore[no-any-return]
