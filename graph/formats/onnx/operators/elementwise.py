"""Operators that compute element by element."""

from __future__ import annotations

from collections.abc import Callable

from ....ir import CALLS, Value
from ....ops import activation, elementary, logic, pointwise
from ..call import Call
from ..registry import converter


def _simple(*names: str, to: Callable[..., Value], operands: int) -> None:
    """An operator without attributes that is one function of the graph language."""

    def convert(call: Call) -> Value:
        return to(*(call.value(k) for k in range(operands)))

    converter(*names)(convert)


for _name, _to in {
    "Abs": pointwise.abs_, "Neg": pointwise.neg, "Sign": pointwise.sign, "Floor": pointwise.floor,
    "Ceil": pointwise.ceil, "Round": pointwise.round_, "Sqrt": elementary.sqrt,
    "Exp": elementary.exp, "Log": elementary.log, "Sin": elementary.sin, "Cos": elementary.cos,
    "Tan": elementary.tan, "Asin": elementary.asin, "Acos": elementary.acos,
    "Atan": elementary.atan, "Sinh": elementary.sinh, "Cosh": elementary.cosh,
    "Tanh": elementary.tanh, "Sigmoid": elementary.sigmoid, "Softplus": elementary.softplus,
    "Erf": elementary.erf, "Relu": activation.relu, "Softsign": activation.softsign,
    "Mish": activation.mish, "HardSwish": activation.hard_swish, "Not": logic.logical_not,
    "IsNaN": logic.isnan,
}.items():  # fmt: skip
    _simple(_name, to=_to, operands=1)

for _name, _to in {
    "Add": pointwise.add, "Sub": pointwise.sub, "Mul": pointwise.mul, "Less": logic.less,
    "LessOrEqual": logic.less_equal, "Greater": logic.greater,
    "GreaterOrEqual": logic.greater_equal, "Equal": logic.equal, "And": logic.logical_and,
    "Or": logic.logical_or, "Xor": logic.logical_xor,
}.items():  # fmt: skip
    _simple(_name, to=_to, operands=2)


@converter("Where", halves=True)
def _where(call: Call) -> Value:
    return CALLS["where"](call.value(0), call.value(1), call.value(2))  # type: ignore[no-any-return]


@converter("Cast", halves=True)
def _cast(call: Call) -> Value:
    return pointwise.cast(call.value(0), call.dtype("to"))
