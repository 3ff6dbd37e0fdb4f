"""Products of quantised values, quantised again: exact in integers in between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...algorithm import round_
from ...dtypes import float32, int32
from ...errors import DTypeError
from ..ir import CALLS, Value
from .base import as_value
from .integer_products import conv_integer, matmul_integer, zero_value


def _requantized(sums: Value, multiplier: Value, zero_point: Value) -> Value:
    """int32 sums times a float multiplier, rounded half to even, plus the zero point, cut to the
    range of its dtype."""
    cast = CALLS["cast"]
    steps = round_(cast(sums, float32) * multiplier)
    return cast(steps + cast(zero_point, float32), zero_point.dtype)  # type: ignore[no-any-return]


def _scale(scale: Any, like: Value, trailing: int) -> Value:
    """A scale as float32: a number, or a vector with `trailing` axes of one element behind it."""
    s = CALLS["cast"](as_value(scale, like), float32)
    if s.type.size == 1:
        return CALLS["reshape"](s, ())  # type: ignore[no-any-return]
    return CALLS["reshape"](s, (*s.shape, *((1,) * trailing)))  # type: ignore[no-any-return]


def _number(zero_point: Any, like: Value) -> Value:
    z = zero_value(zero_point, like)
    if not z.dtype.is_integer or z.dtype.bits > 16:
        raise DTypeError(f"the zero point of the result must have 8 or 16 bits, not {z.type}")
    return CALLS["reshape"](z, ())  # type: ignore[no-any-return]


def qlinear_matmul(
    a: Any, a_scale: Any, a_zero_point: Any, b: Any, b_scale: Any, b_zero_point: Any,
    y_scale: Any, y_zero_point: Any,
) -> Value:  # fmt: skip
    """The product of two quantised matrices, quantised with y's scale and zero point, whose dtype
    it has. Scales and zero points of a are numbers or one for each row, those of b numbers or one
    for each column."""
    x = as_value(a)
    sums = matmul_integer(x, b, a_zero_point, b_zero_point)
    factors = _scale(a_scale, x, 1), _scale(b_scale, x, 0)
    return _requantized(sums, factors[0] * factors[1] / _scale(y_scale, x, 0),
                        _number(y_zero_point, x))  # fmt: skip


def qlinear_conv(
    x: Any, x_scale: Any, x_zero_point: Any, w: Any, w_scale: Any, w_zero_point: Any,
    y_scale: Any, y_zero_point: Any, bias: Any = None, strides: int | Sequence[int] = 1,
    padding: Any = "valid", dilations: int | Sequence[int] = 1, groups: int = 1,
) -> Value:  # fmt: skip
    """The convolution of quantised values with quantised weights, quantised with y's scale and zero
    point, whose dtype it has. Those of w are numbers or one for each output channel; `bias` is
    int32, in steps of x_scale * w_scale."""
    v = as_value(x)
    sums = conv_integer(v, w, x_zero_point, w_zero_point, strides, padding, dilations, groups)
    behind = v.ndim - 2
    if bias is not None:
        b = CALLS["cast"](as_value(bias, sums), int32)
        sums = sums + CALLS["reshape"](b, (*b.shape, *((1,) * behind)))
    multiplier = _scale(x_scale, v, 0) * _scale(w_scale, v, behind) / _scale(y_scale, v, 0)
    return _requantized(sums, multiplier, _number(y_zero_point, v))
