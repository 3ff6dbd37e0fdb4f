"""Numbers as small integers: x is about (q - zero point) * scale.

Scale and zero point are numbers for the whole tensor, vectors with an entry for each place along an
axis, or, with blocks, tensors with an entry for each block of places along it. Rounding is half to
even; what does not fit the integers is cut to their range.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import algorithm as alg
from ...dims import ceildiv
from ...dtypes import Array, DType, as_dtype, float32, int32, of_scalar, uint8
from ...errors import DTypeError, ShapeError
from ..ir import CALLS, TensorType, Value
from .base import Op, as_value, graph_function, make, normal_axis, sample
from .integer_products import zero_value
from .reduce import reduce_max, reduce_min

_STORED = ("int8", "uint8", "int16", "uint16")


def _check(x: TensorType, scale: TensorType, zero: TensorType | None, axis: int | None,
           block: int) -> None:  # fmt: skip
    """Raises where scales or zero points do not fit x."""
    if not scale.dtype.is_float:
        raise DTypeError(f"the scale must be a float, it is {scale}")
    if zero is not None and zero.shape != scale.shape:
        raise ShapeError(f"the zero point {zero} must have the shape of the scale {scale}")
    if axis is None:
        wanted: Any = ()
    else:
        at = normal_axis(axis, x.ndim)
        wanted = (x.shape[at],)
        if block:
            wanted = (*x.shape[:at], ceildiv(x.shape[at], block), *x.shape[at + 1 :])
    if scale.shape != wanted:
        raise ShapeError(f"the scale {scale} does not fit {x}: it must have shape {list(wanted)}",
                         f"axis {axis}, blocks of {block or 1}")  # fmt: skip


def _spread(p: Value, x: Value, axis: int | None, block: int) -> Value:
    """A scale or zero point that broadcasts to x."""
    if axis is None:
        return p
    at = normal_axis(axis, x.ndim)
    if not block:
        return CALLS["reshape"](p, (*p.shape, *((1,) * (x.ndim - 1 - at))))  # type: ignore[no-any-return]
    shape = (*p.shape[: at + 1], block, *p.shape[at + 1 :])
    many = CALLS["broadcast_to"](CALLS["expand_dims"](p, at + 1), shape)
    joined = CALLS["reshape"](many, (*p.shape[:at], p.shape[at] * block, *p.shape[at + 1 :]))
    return joined[(slice(None),) * at + (slice(0, x.shape[at]),)]  # type: ignore[no-any-return]


def _spread_ref(p: Array, x: Array, axis: int | None, block: int) -> Array:
    """The same for references."""
    if axis is None:
        return p
    at = axis % x.ndim
    if not block:
        return p.reshape(-1, *([1] * (x.ndim - 1 - at)))
    return np.take(np.repeat(p, block, at), range(x.shape[at]), at)


@dataclass(frozen=True)
class QuantizeLinear(Op):
    """x, scale, zero point -> x / scale rounded, plus the zero point, whose dtype it has."""

    axis: int | None = None
    block: int = 0
    arity = 3
    differentiable = False
    onnx = "QuantizeLinear"
    samples = (sample((3, 17), (), (), dtypes=("float32", "float32", "uint8"), low=0.01, high=3),
               sample((3, 5), (5,), (5,), dtypes=("float32", "float32", "int8"), low=0.01, high=3,
                      axis=1),
               sample((3, 5, 2), (3,), (3,), dtypes=("float64", "float64", "int16"), low=0.01,
                      high=3, axis=0),
               sample((2, 7, 3), (2, 3, 3), (2, 3, 3), dtypes=("float32", "float32", "int8"),
                      low=0.01, high=3, axis=1, block=3),
               sample((9,), (), (), dtypes=("float16", "float16", "uint16"), low=0.01,
                      high=3))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        x, scale, zero = types
        if zero.dtype.name not in _STORED:
            raise DTypeError(f"numbers are quantised to {', '.join(_STORED)}, not to {zero.dtype}")
        _check(x, scale, zero, self.axis, self.block)
        return TensorType(zero.dtype, x.shape)

    def expand(self, *xs: Value) -> Value:
        x, scale, zero = xs
        scale, offset = (_spread(p, x, self.axis, self.block) for p in (scale, zero))
        wide = scale.dtype if scale.dtype.computes else float32
        steps = alg.round_(CALLS["cast"](x, wide) / CALLS["cast"](scale, wide))
        return CALLS["cast"](steps + CALLS["cast"](offset, wide), zero.dtype)  # type: ignore[no-any-return]

    def ref(self, *xs: Array) -> Array:
        x, scale, zero = xs
        wide = np.float32 if scale.dtype.itemsize == 2 else scale.dtype
        s, z = (_spread_ref(p, x, self.axis, self.block) for p in (scale, zero))
        steps: Any = np.rint(x.astype(wide) / s.astype(wide)).astype(np.float64) + z
        limits = np.iinfo(zero.dtype)
        cut = np.clip(np.nan_to_num(steps), limits.min, limits.max)
        return np.asarray(cut).astype(zero.dtype)


@dataclass(frozen=True)
class DequantizeLinear(Op):
    """q, scale, zero point -> (q - zero point) * scale, in the scale's dtype."""

    axis: int | None = None
    block: int = 0
    arity = 3
    onnx = "DequantizeLinear"
    samples = (sample((3, 17), (), (), dtypes=("uint8", "float32", "uint8"), low=0, high=256),
               sample((3, 5), (5,), (5,), dtypes=("int8", "float64", "int8"), low=-128, high=128,
                      axis=1),
               sample((3, 5), (3,), (3,), dtypes=("int32", "float32", "int32"), low=-99, high=99,
                      axis=0),
               sample((7, 2), (2, 2), (2, 2), dtypes=("uint16", "float32", "uint16"), low=0,
                      high=999, axis=0, block=4))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        q, scale, zero = types
        if q.dtype.name not in (*_STORED, "int32"):
            raise DTypeError(f"not defined for {q}")
        if zero.dtype != q.dtype:
            raise DTypeError(f"the zero point {zero} must be {q.dtype}, as what it is for")
        _check(q, scale, zero, self.axis, self.block)
        return TensorType(scale.dtype, q.shape)

    def expand(self, *xs: Value) -> Value:
        q, scale, zero = xs
        cast = CALLS["cast"]
        factor, offset = (_spread(p, q, self.axis, self.block) for p in (scale, zero))
        wide = scale.dtype if scale.dtype.computes else float32
        steps = cast(cast(q, int32) - cast(offset, int32), wide)
        return cast(steps * cast(factor, wide), scale.dtype)  # type: ignore[no-any-return]

    def ref(self, *xs: Array) -> Array:
        q, scale, zero = xs
        s, z = (_spread_ref(p, q, self.axis, self.block) for p in (scale, zero))
        steps = (q.astype(np.int32) - z.astype(np.int32)).astype(np.float64)
        return np.asarray(steps * s).astype(scale.dtype)


@dataclass(frozen=True)
class DynamicQuantizeLinear(Op):
    """x -> q (uint8), scale and zero point that fit the range of x, which is taken to include 0.
    Where x is all zeros the scale is 1."""

    arity = 1
    differentiable = False
    onnx = "DynamicQuantizeLinear"
    samples = (sample((3, 17), dtypes=("float32",)), sample((9,), dtypes=("float32",), low=1),
               sample((9,), dtypes=("float32",), high=-1), sample((), dtypes=("float32",)),
               sample((4,), dtypes=("float32",), low=0, high=0))  # fmt: skip

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (x,) = types
        if x.dtype != float32:
            raise DTypeError(f"not defined for {x.dtype}", "cast to float32 first")
        return TensorType(uint8, x.shape), TensorType(float32, ()), TensorType(uint8, ())

    def expand(self, *xs: Value) -> Any:
        (x,) = xs
        high = alg.maximum(reduce_max(x), 0.0)
        low = alg.minimum(reduce_min(x), 0.0)
        span = (high - low) / 255.0
        scale = alg.where(alg.equal(span, 0.0), 1.0, span)
        zero = CALLS["cast"](alg.round_(0.0 - low / scale), uint8)
        return quantize_linear(x, scale, zero), scale, zero

    def ref(self, *xs: Array) -> Any:
        x: Any = xs[0]
        high, low = np.maximum(x.max(), np.float32(0)), np.minimum(x.min(), np.float32(0))
        scale = (high - low) / np.float32(255)
        scale = np.float32(1) if scale == 0 else scale
        zero = np.clip(np.rint(-low / scale), 0, 255)
        q = np.clip(np.rint(x / scale) + zero, 0, 255)
        return q.astype(np.uint8), np.asarray(scale), np.asarray(zero, np.uint8)


def _parameters(x: Value, scale: Any, zero: Any, dtype: DType, axis: int | None, block: int
                ) -> tuple[Value, Value, int | None]:  # fmt: skip
    """Scale, zero point (0 if it is not given), and the axis along which they differ, if any."""
    s = as_value(scale, x)
    owner = x.node.owner
    if zero is None:
        z = CALLS["full"](s.shape, 0, dtype, owner)
    elif isinstance(zero, int):
        z = CALLS["constant"](zero, dtype=of_scalar(zero, dtype), owner=owner)
    else:
        z = zero_value(zero, x)
    if block:
        return s, z, normal_axis(-1 if axis is None else axis, x.ndim)
    if s.ndim == 0 or (axis is None and s.type.size == 1):
        return CALLS["reshape"](s, ()), CALLS["reshape"](z, ()), None
    return s, z, normal_axis(-1 if axis is None else axis, x.ndim)


@graph_function("quantize_linear")
def quantize_linear(x: Any, scale: Any, zero_point: Any = None, axis: int | None = None,
                    block: int = 0, dtype: Any = None) -> Value:  # fmt: skip
    """x / scale rounded half to even, plus the zero point, cut to the range of the zero point's
    dtype (or `dtype`, uint8 by default). Scale and zero point are numbers, vectors along `axis`, or
    have an entry for each `block` places along it."""
    v = as_value(x)
    to = uint8 if dtype is None else as_dtype(dtype)
    s, z, at = _parameters(v, scale, zero_point, to, axis, block)
    return make(QuantizeLinear(at, int(block)), v, s, z)


@graph_function("dequantize_linear")
def dequantize_linear(q: Any, scale: Any, zero_point: Any = None, axis: int | None = None,
                      block: int = 0) -> Value:  # fmt: skip
    """(q - zero_point) * scale, in the scale's dtype. Scale and zero point are numbers, vectors
    along `axis`, or have an entry for each `block` places along it."""
    v = as_value(q)
    s, z, at = _parameters(v, np.asarray(scale, np.float32) if np.isscalar(scale) else scale, zero_point,
                           v.dtype, axis, block)  # fmt: skip
    return make(DequantizeLinear(at, int(block)), v, s, z)


def dynamic_quantize_linear(x: Any) -> tuple[Value, Value, Value]:
    """x as uint8, with the scale and the zero point that make the most of its range."""
    v = as_value(x)
    q, scale, zero = v.node.owner.node(DynamicQuantizeLinear(), (v,)).outputs
    return q, scale, zero
