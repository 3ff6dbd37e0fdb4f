"""Operators that compute element by element: arithmetic, comparisons, logic, functions."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

from .....dtypes import float32
from ....ir import Value
from ....ops import division, elementary, logic, pointwise
from ....ops.shape import reshape
from ..call import Call
from ..registry import converter
from ..sizes import conforming

Function = Callable[..., Value]


def _unary(to: Function) -> Callable[[Call], Value]:
    return lambda call: to(call.value(0))


def _binary(to: Function) -> Callable[[Call], Value]:
    return lambda call: to(*_aligned(call))


def _aligned(call: Call) -> list[Value]:
    """Both operands, so that they broadcast; before opset 7 from the axis on that an attribute
    names."""
    x, y = call.value(0), call.value(1)
    if call.version < 7 and call.flag("broadcast"):
        after = x.ndim - (call.integer("axis", x.ndim - y.ndim) % max(x.ndim, 1)) - y.ndim
        if after < 0:
            call.refuse(f"{y.type} does not broadcast to {x.type}")
        y = reshape(y, (*y.shape, *(1,) * after))
    return conforming(x, y)


_UNARY: dict[str, Function] = {
    "Abs": pointwise.abs_, "Neg": pointwise.neg, "Sign": pointwise.sign, "Floor": pointwise.floor,
    "Ceil": pointwise.ceil, "Round": pointwise.round_, "Reciprocal": pointwise.reciprocal,
    "Sqrt": elementary.sqrt, "Exp": elementary.exp, "Log": elementary.log, "Erf": elementary.erf,
    "Sin": elementary.sin, "Cos": elementary.cos, "Tan": elementary.tan, "Asin": elementary.asin,
    "Acos": elementary.acos, "Atan": elementary.atan, "Sinh": elementary.sinh,
    "Cosh": elementary.cosh, "Tanh": elementary.tanh, "Asinh": elementary.asinh,
    "Acosh": elementary.acosh, "Atanh": elementary.atanh, "Not": logic.bitwise_not,
    "BitwiseNot": logic.bitwise_not, "IsNaN": logic.isnan,
}  # fmt: skip
for _name, _to in _UNARY.items():
    converter(_name)(_unary(_to))

_BINARY: dict[str, Function] = {
    "Add": pointwise.add, "Sub": pointwise.sub, "Mul": pointwise.mul, "Less": logic.less,
    "LessOrEqual": logic.less_equal, "Greater": logic.greater,
    "GreaterOrEqual": logic.greater_equal, "Equal": logic.equal, "And": logic.bitwise_and,
    "Or": logic.bitwise_or, "Xor": logic.bitwise_xor, "BitwiseAnd": logic.bitwise_and,
    "BitwiseOr": logic.bitwise_or, "BitwiseXor": logic.bitwise_xor,
}  # fmt: skip
for _name, _to in _BINARY.items():
    converter(_name)(_binary(_to))


@converter("Div")
def _div(call: Call) -> Value:
    x, y = _aligned(call)
    return division.trunc_divide(x, y) if x.dtype.is_integer else pointwise.div(x, y)


@converter("Mod")
def _mod(call: Call) -> Value:
    x, y = _aligned(call)
    return division.fmod(x, y) if call.flag("fmod") else pointwise.mod(x, y)


@converter("Pow")
def _pow(call: Call) -> Value:
    """The result has the type of the base, whatever that of the exponent."""
    x, y = _aligned(call)
    if x.dtype.is_integer and y.dtype.is_integer:
        wide = pointwise.cast(y, x.dtype) if y.dtype.bits <= x.dtype.bits else y
        if wide.dtype == x.dtype:
            return division.integer_power(x, wide)
        return pointwise.cast(division.integer_power(pointwise.cast(x, wide.dtype), wide), x.dtype)
    to = x.dtype
    if to.is_integer:
        x = pointwise.cast(x, "float64" if to.bits > 16 else float32)
    found = call.operand(1).array()
    if found is not None and found.size == 1 and found.item() in (0.5, 1.0, 2.0, 3.0):
        power = pointwise.power(x, found.item())
        if power.shape == x.shape and y.ndim <= x.ndim:
            return pointwise.cast(power, to)
    return pointwise.cast(pointwise.power(x, pointwise.cast(y, x.dtype)), to)


@converter("BitShift")
def _bit_shift(call: Call) -> Value:
    x, y = call.value(0), call.value(1)
    direction = call.text("direction")
    if direction not in ("LEFT", "RIGHT"):
        call.refuse(f"direction {direction!r} is neither LEFT nor RIGHT")
    shifted = (logic.left_shift if direction == "LEFT" else logic.right_shift)(x, y)
    return pointwise.where(y < x.dtype.bits, shifted, 0)  # wider shifts leave nothing


def _many(to: Function) -> Callable[[Call], Value]:
    def convert(call: Call) -> Value:
        if not call.operands:
            call.refuse("it has no operands")
        return reduce(to, conforming(*call.values()))

    return convert


for _name, _to in {
    "Max": pointwise.maximum,
    "Min": pointwise.minimum,
    "Sum": pointwise.add,
}.items():
    converter(_name)(_many(_to))


@converter("Mean")
def _mean(call: Call) -> Value:
    return _many(pointwise.add)(call) / len(call.operands)


@converter("Clip", halves=False)
def _clip(call: Call) -> Value:
    x = call.value(0)
    if call.version < 11:
        low = call.number("min") if call.given("min") else None
        high = call.number("max") if call.given("max") else None
        return pointwise.clip(x, low, high)
    return pointwise.clip(x, call.optional(1), call.optional(2))


@converter("IsInf")
def _isinf(call: Call) -> Value:
    return logic.isinf(call.value(0), call.flag("detect_negative", True),
                       call.flag("detect_positive", True))  # fmt: skip


@converter("Where", halves=True)
def _where(call: Call) -> Value:
    return pointwise.where(*conforming(*call.values()))


@converter("Cast", halves=True)
def _cast(call: Call) -> Value:
    return pointwise.cast(call.value(0), call.dtype("to"))


@converter("CastLike", halves=True)
def _cast_like(call: Call) -> Value:
    return pointwise.cast(call.value(0), call.operand(1).dtype)


@converter("BitCast", halves=True)
def _bit_cast(call: Call) -> Value:
    return division.bitcast(call.value(0), call.dtype("to"))
