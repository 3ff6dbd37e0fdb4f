"""Activations, softmax and its kin, dropout."""

from __future__ import annotations

from collections.abc import Callable

from .....dims import product
from .....dtypes import bool_
from ....ir import Value
from ....ops import activation, elementary, random, softmax
from ....ops.creation import full
from ....ops.norms import normalize
from ....ops.pointwise import where
from ....ops.shape import reshape
from ..call import Call
from ..registry import converter

_PLAIN: dict[str, Callable[..., Value]] = {
    "Relu": activation.relu, "Softsign": activation.softsign, "Mish": activation.mish,
    "HardSwish": activation.hard_swish, "Sigmoid": elementary.sigmoid,
    "Softplus": elementary.softplus,
}  # fmt: skip
for _name, _to in _PLAIN.items():
    converter(_name)(lambda call, to=_to: to(call.value(0)))  # type: ignore[misc]


@converter("LeakyRelu")
def _leaky_relu(call: Call) -> Value:
    return activation.leaky_relu(call.value(0), call.number("alpha", 0.01))


@converter("Elu")
def _elu(call: Call) -> Value:
    return activation.elu(call.value(0), call.number("alpha", 1.0))


@converter("Celu")
def _celu(call: Call) -> Value:
    return activation.celu(call.value(0), call.number("alpha", 1.0))


@converter("ThresholdedRelu")
def _thresholded_relu(call: Call) -> Value:
    return activation.thresholded_relu(call.value(0), call.number("alpha", 1.0))


@converter("Shrink")
def _shrink(call: Call) -> Value:
    return activation.shrink(call.value(0), call.number("lambd", 0.5), call.number("bias", 0.0))


@converter("Swish")
def _swish(call: Call) -> Value:
    return activation.swish(call.value(0), call.number("alpha", 1.0))


@converter("HardSigmoid")
def _hard_sigmoid(call: Call) -> Value:
    return activation.hard_sigmoid(call.value(0), call.number("alpha", 0.2),
                                   call.number("beta", 0.5))  # fmt: skip


_ALPHA, _GAMMA = 1.67326319217681884765625, 1.05070102214813232421875


@converter("Selu")
def _selu(call: Call) -> Value:
    alpha, gamma = call.number("alpha", _ALPHA), call.number("gamma", _GAMMA)
    x = call.value(0)
    if abs(alpha - _ALPHA) < 1e-6 and abs(gamma - _GAMMA) < 1e-6:
        return activation.selu(x)
    return activation.elu(x, alpha) * gamma


@converter("Gelu")
def _gelu(call: Call) -> Value:
    kind = call.text("approximate", "none")
    if kind not in ("none", "tanh"):
        call.refuse(f"approximate {kind!r} is neither none nor tanh")
    return activation.gelu(call.value(0), kind == "tanh")


@converter("PRelu")
def _prelu(call: Call) -> Value:
    x, slope = call.value(0), call.value(1)
    if call.version < 9 and slope.ndim == 1 and slope.shape != (1,) and x.ndim > 2:
        slope = reshape(slope, (*slope.shape, *(1,) * (x.ndim - 2)))  # one for each channel
    if x.dtype.is_integer:
        return where(x < 0, x * slope, x)
    return activation.prelu(x, slope)


_ALONG: dict[str, Callable[..., Value]] = {
    "Softmax": softmax.softmax, "LogSoftmax": softmax.log_softmax, "Hardmax": softmax.hardmax,
}  # fmt: skip


def _along(to: Callable[..., Value]) -> Callable[[Call], Value]:
    return lambda call: to(call.value(0), call.integer("axis", -1))


def _flattened(to: Callable[..., Value]) -> Callable[[Call], Value]:
    """Before opset 13: along all axes from `axis` on, as if they were one."""

    def convert(call: Call) -> Value:
        x = call.value(0)
        at = call.integer("axis", 1) % max(x.ndim, 1)
        if at == x.ndim - 1:
            return to(x, -1)
        rows = reshape(x, (product(x.shape[:at]), product(x.shape[at:])))
        return reshape(to(rows, -1), x.shape)

    return convert


for _name, _to in _ALONG.items():
    converter(_name, since=13)(_along(_to))
    converter(_name)(_flattened(_to))


@converter("LpNormalization")
def _lp_normalization(call: Call) -> Value:
    return normalize(call.value(0), float(call.integer("p", 2)), call.integer("axis", -1))


@converter("Dropout")
def _dropout(call: Call) -> tuple[Value | None, ...]:
    """Nothing happens but in training, which is asked for since opset 12."""
    x = call.value(0)
    all_kept = full(x.shape, True, bool_, x.node.owner) if call.wants(1) else None
    if call.version < 12 or not call.has(2) or not bool(call.array(2).item()):
        return x, all_kept
    rate = float(call.array(1).item()) if call.has(1) else 0.5
    if rate == 0:
        return x, all_kept
    kept = random.bernoulli(x.shape, 1 - rate)
    return where(kept, x * (1 / (1 - rate)), 0), kept
