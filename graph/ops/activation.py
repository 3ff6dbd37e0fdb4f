"""Activations of one element. Smooth ones made of several functions are composites with gradients
of their own, so that both stay finite far from zero."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ... import algorithm as alg
from ...dims import Dim
from ...dtypes import Array, DType, float64
from ...errors import ConfigError, DTypeError
from ..ir import CALLS, TensorType, Value
from .base import (
    Op,
    Pointwise,
    Sample,
    as_value,
    graph_function,
    make,
    operands,
    promoted,
    sample,
)
from .pointwise import FloatUnary, _as_float

NAN, INF = float("nan"), float("inf")
_FAR = 1e4
_SMOOTH = (sample((3, 17)), sample(()), sample((0, 4)), sample((65,), low=-8, high=8),
           sample((8,), special=(_FAR, -_FAR, NAN), gradient=False))  # fmt: skip
_KINKED = (*_SMOOTH[:4], sample((6,), special=(NAN, INF, -INF, -0.0), gradient=False))


class Activation(FloatUnary, abstract=True):
    """A float function of one element."""

    samples: ClassVar[tuple[Sample, ...]] = _KINKED


@dataclass(frozen=True)
class Relu(FloatUnary):
    """max(x, 0); NaN propagates. The gradient at 0 is 0."""

    onnx = "Relu"
    samples = _KINKED

    def accepts(self, dtype: DType) -> bool:
        return dtype.computes and dtype.kind in "fiu"

    def scalar(self, *xs: Any) -> Any:
        return alg.maximum(xs[0], 0)

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return (alg.where(y > 0, g, 0),)

    def ref(self, *xs: Array) -> Array:
        return np.maximum(xs[0], np.zeros((), xs[0].dtype))


@dataclass(frozen=True)
class LeakyRelu(Activation):
    """x where positive, else slope * x."""

    slope: float = 0.01
    onnx = "LeakyRelu"

    def scalar(self, *xs: Any) -> Any:
        return alg.where(xs[0] > 0, xs[0], xs[0] * self.slope)

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return (alg.where(xs[0] > 0, g, g * self.slope),)

    def ref(self, *xs: Array) -> Array:
        return np.where(xs[0] > 0, xs[0], (xs[0] * self.slope).astype(xs[0].dtype))


@dataclass(frozen=True)
class Prelu(Pointwise):
    """x where positive, else slope * x; the slope is an operand that broadcasts."""

    arity = 2
    onnx = "PRelu"
    samples = (sample((3, 5), (5,)), sample((2, 3, 17), (3, 1)), sample((7,), ()))

    def accepts(self, dtype: DType) -> bool:
        return dtype.computes and dtype.is_float

    def scalar(self, *xs: Any) -> Any:
        x, slope = xs
        return alg.where(x > 0, x, x * slope)

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        x, slope = xs
        same = CALLS["unbroadcast"]
        return (same(alg.where(x > 0, g, g * slope), x),
                same(alg.where(x > 0, 0, g * x), slope))  # fmt: skip

    def ref(self, *xs: Array) -> Array:
        x, slope = xs
        return np.where(x > 0, x, x * slope)


@dataclass(frozen=True)
class Elu(Activation):
    """x where positive, else alpha * (exp(x) - 1)."""

    alpha: float = 1.0
    onnx = "Elu"

    def scalar(self, *xs: Any) -> Any:
        (x,) = xs
        return alg.where(x > 0, x, alg.expm1(alg.minimum(x, 0)) * self.alpha)

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return (alg.where(xs[0] > 0, g, g * (y + self.alpha)),)

    def ref(self, *xs: Array) -> Array:
        x = xs[0].astype(np.float64)
        return np.where(x > 0, x, self.alpha * np.expm1(np.minimum(x, 0))).astype(xs[0].dtype)


@dataclass(frozen=True)
class Celu(Activation):
    """max(x, 0) + min(0, alpha * (exp(x / alpha) - 1)) (Barron 2017), continuously differentiable."""

    alpha: float = 1.0
    onnx = "Celu"
    samples = (*_KINKED, sample((3, 17), alpha=2.0))

    def scalar(self, *xs: Any) -> Any:
        (x,) = xs
        low = alg.expm1(alg.minimum(x, 0) / self.alpha) * self.alpha
        return alg.where(x > 0, x, low)

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return (alg.where(xs[0] > 0, g, g * (y / self.alpha + 1)),)

    def ref(self, *xs: Array) -> Array:
        x = xs[0].astype(np.float64)
        low = self.alpha * np.expm1(np.minimum(x, 0) / self.alpha)
        return narrow(np.maximum(x, 0) + low, xs[0])


@dataclass(frozen=True)
class ThresholdedRelu(Activation):
    """x where it is above alpha, else 0 (Konda et al. 2015)."""

    alpha: float = 1.0
    onnx = "ThresholdedRelu"

    def scalar(self, *xs: Any) -> Any:
        return alg.where(xs[0] > self.alpha, xs[0], 0)

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return (alg.where(xs[0] > self.alpha, g, 0),)

    def ref(self, *xs: Array) -> Array:
        return np.where(xs[0] > self.alpha, xs[0], np.zeros((), xs[0].dtype))


@dataclass(frozen=True)
class Shrink(Activation):
    """x + bias below -threshold, x - bias above threshold, else 0."""

    threshold: float = 0.5
    bias: float = 0.0
    onnx = "Shrink"
    samples = (*_KINKED, sample((3, 17), threshold=1.5, bias=1.5),
               sample((19,), dtypes=("int32",), low=-9, high=9, threshold=3.0, bias=2.0),
               sample((19,), dtypes=("uint8",), low=0, high=9, threshold=3.0, bias=2.0))  # fmt: skip

    def accepts(self, dtype: DType) -> bool:
        return dtype.computes and dtype.kind != "b"

    def scalar(self, *xs: Any) -> Any:
        (x,) = xs
        to = x.dtype
        wide = x if to.is_float else alg.cast(x, float64)
        up = alg.where(wide < -self.threshold, alg.cast(wide + self.bias, to), alg.Const(0, to))
        return alg.where(wide > self.threshold, alg.cast(wide - self.bias, to), up)

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return (alg.where(alg.abs_(xs[0]) > self.threshold, g, 0),)

    def ref(self, *xs: Array) -> Array:
        x = xs[0].astype(np.float64)
        up = np.where(x < -self.threshold, x + self.bias, 0)
        return np.where(x > self.threshold, x - self.bias, up).astype(xs[0].dtype)


_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


@dataclass(frozen=True)
class Selu(Activation):
    """Scaled ELU with the constants of Klambauer et al. 2017 (self-normalising networks)."""

    onnx = "Selu"

    def scalar(self, *xs: Any) -> Any:
        (x,) = xs
        low = alg.expm1(alg.minimum(x, 0)) * (_SELU_SCALE * _SELU_ALPHA)
        return alg.where(x > 0, x * _SELU_SCALE, low)

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        low = g * (y + _SELU_SCALE * _SELU_ALPHA)
        return (alg.where(xs[0] > 0, g * _SELU_SCALE, low),)

    def ref(self, *xs: Array) -> Array:
        x = xs[0].astype(np.float64)
        low = _SELU_ALPHA * np.expm1(np.minimum(x, 0))
        return narrow(_SELU_SCALE * np.where(x > 0, x, low), xs[0])


@dataclass(frozen=True)
class HardSigmoid(Activation):
    """x * slope + shift, clipped to 0..1."""

    slope: float = 1 / 6
    shift: float = 0.5
    onnx = "HardSigmoid"
    samples = (*_KINKED[:3], _KINKED[4], sample((65,), low=-8, high=8, gradient=False))

    def scalar(self, *xs: Any) -> Any:
        return alg.minimum(alg.maximum(xs[0] * self.slope + self.shift, 0), 1)

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return (alg.where((y > 0) & (y < 1), g * self.slope, 0),)

    def ref(self, *xs: Array) -> Array:
        x = xs[0].astype(np.float64)
        return np.clip(x * self.slope + self.shift, 0, 1).astype(xs[0].dtype)


@dataclass(frozen=True)
class HardSwish(Activation):
    """x * clip(x / 6 + 1/2, 0, 1) (Howard et al. 2019, MobileNetV3)."""

    onnx = "HardSwish"
    samples = HardSigmoid.samples

    def scalar(self, *xs: Any) -> Any:
        (x,) = xs
        return x * alg.minimum(alg.maximum(x * (1 / 6) + 0.5, 0), 1)

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        (x,) = xs
        middle = g * (x * (1 / 3) + 0.5)
        return (alg.where(x >= 3, g, alg.where(x <= -3, 0, middle)),)

    def ref(self, *xs: Array) -> Array:
        x = xs[0].astype(np.float64)
        return narrow(x * np.clip(x / 6 + 0.5, 0, 1), xs[0])


@dataclass(frozen=True)
class Softsign(Activation):
    """x / (1 + |x|)."""

    onnx = "Softsign"

    def scalar(self, *xs: Any) -> Any:
        return xs[0] / (alg.abs_(xs[0]) + 1)

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        below = alg.abs_(xs[0]) + 1
        return (g / below / below,)

    def ref(self, *xs: Array) -> Array:
        x = xs[0].astype(np.float64)
        return narrow(x / (1 + np.abs(x)), xs[0])


def narrow(x: Array, like: Array) -> Array:
    """For references: a float64 result in the operand's dtype."""
    return x.astype(like.dtype)


class Composite(Op, abstract=True):
    """A float op of one operand and its type, made of simpler ops by `expand`."""

    arity = 1

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        if not x.dtype.computes or not x.dtype.is_float:
            hint = "cast to float32 first" if not x.dtype.computes else ""
            raise DTypeError(f"not defined for {x.dtype}", hint)
        return x

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return types[0].size * 4


@dataclass(frozen=True)
class Gelu(Composite):
    """x * P(normal variable < x), by erf; `tanh`: Hendrycks and Gimpel's approximation by tanh."""

    tanh: bool = False
    onnx = "Gelu"
    samples = (*_SMOOTH, *(sample(*s.shapes, low=s.low, high=s.high, special=s.special,
                                  gradient=s.gradient, tanh=True) for s in _SMOOTH))  # fmt: skip

    def inner(self, x: Value) -> Value:
        """What tanh is taken of."""
        return x * (_TANH_SCALE + x * x * (_TANH_SCALE * _TANH_CUBE))

    def expand(self, *xs: Value) -> Value:
        (x,) = xs
        inside = alg.tanh(self.inner(x)) if self.tanh else alg.erf(x * math.sqrt(0.5))
        out: Value = x * (inside * 0.5 + 0.5)
        return out

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        (x,) = xs
        if self.tanh:
            t = alg.tanh(self.inner(x))
            slope = x * x * (3 * _TANH_SCALE * _TANH_CUBE) + _TANH_SCALE
            return (g * (t * 0.5 + 0.5 + x * (1 - t * t) * slope * 0.5),)
        below = alg.erf(x * math.sqrt(0.5)) * 0.5 + 0.5
        density = alg.exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))
        return (g * (below + x * density),)

    def ref(self, *xs: Array) -> Array:
        x = xs[0].astype(np.float64)
        if self.tanh:
            inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
            return narrow(0.5 * x * (1 + np.tanh(inner)), xs[0])
        below = np.array([0.5 * math.erfc(-v * math.sqrt(0.5)) for v in x.reshape(-1)])
        return narrow(x * below.reshape(x.shape), xs[0])


_TANH_SCALE, _TANH_CUBE = math.sqrt(2 / math.pi), 0.044715


@dataclass(frozen=True)
class Silu(Composite):
    """x * sigmoid(x), also called swish."""

    samples = _SMOOTH

    def expand(self, *xs: Value) -> Value:
        out: Value = xs[0] * alg.sigmoid(xs[0])
        return out

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        (x,) = xs
        s = alg.sigmoid(x)
        return (g * (s * (x * (1 - s) + 1)),)

    def ref(self, *xs: Array) -> Array:
        x = xs[0].astype(np.float64)
        return narrow(x * 0.5 * (1 + np.tanh(x / 2)), xs[0])


@dataclass(frozen=True)
class Mish(Composite):
    """x * tanh(softplus(x)) (Misra 2019)."""

    onnx = "Mish"
    samples = _SMOOTH

    def expand(self, *xs: Value) -> Value:
        out: Value = xs[0] * alg.tanh(alg.softplus(xs[0]))
        return out

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        (x,) = xs
        t = alg.tanh(alg.softplus(x))
        return (g * (t + x * (1 - t * t) * alg.sigmoid(x)),)

    def ref(self, *xs: Array) -> Array:
        x = xs[0].astype(np.float64)
        return narrow(x * np.tanh(np.logaddexp(x, 0)), xs[0])


def float_operand(x: Any) -> Value:
    """x as a value, integers as floats."""
    return _as_float(*operands(x))[0]


@graph_function("relu")
def relu(x: Any) -> Value:
    """max(x, 0)."""
    return make(Relu(), as_value(x))


@graph_function("leaky_relu")
def leaky_relu(x: Any, slope: float = 0.01) -> Value:
    """x where positive, else slope * x."""
    return make(LeakyRelu(float(slope)), float_operand(x))


@graph_function("prelu")
def prelu(x: Any, slope: Any) -> Value:
    """x where positive, else slope * x, for a slope that is a value and broadcasts to x."""
    return make(Prelu(), *_as_float(*promoted(x, slope)))


@graph_function("elu")
def elu(x: Any, alpha: float = 1.0) -> Value:
    """x where positive, else alpha * (exp(x) - 1)."""
    return make(Elu(float(alpha)), float_operand(x))


@graph_function("celu")
def celu(x: Any, alpha: float = 1.0) -> Value:
    """x where positive, else alpha * (exp(x / alpha) - 1)."""
    if alpha == 0:
        raise ConfigError("celu: alpha must not be 0")
    return make(Celu(float(alpha)), float_operand(x))


@graph_function("thresholded_relu")
def thresholded_relu(x: Any, alpha: float = 1.0) -> Value:
    """x where it is above alpha, else 0."""
    return make(ThresholdedRelu(float(alpha)), float_operand(x))


@graph_function("shrink")
def shrink(x: Any, threshold: float = 0.5, bias: float = 0.0) -> Value:
    """x moved by `bias` towards 0 where it is farther from it than `threshold`, else 0. With a bias
    of 0 this is hard shrinkage, with that of the threshold soft shrinkage."""
    return make(Shrink(float(threshold), float(bias)), as_value(x))


@graph_function("selu")
def selu(x: Any) -> Value:
    """Scaled ELU of self-normalising networks."""
    return make(Selu(), float_operand(x))


@graph_function("gelu")
def gelu(x: Any, approximate: bool = False) -> Value:
    """x * P(normal variable < x); `approximate` uses tanh."""
    return make(Gelu(bool(approximate)), float_operand(x))


@graph_function("silu")
def silu(x: Any) -> Value:
    """x * sigmoid(x)."""
    return make(Silu(), float_operand(x))


@graph_function("swish")
def swish(x: Any, alpha: float = 1.0) -> Value:
    """x * sigmoid(alpha * x)."""
    v = float_operand(x)
    if alpha == 1:
        return make(Silu(), v)
    out: Value = v * alg.sigmoid(v * float(alpha))
    return out


@graph_function("hard_sigmoid")
def hard_sigmoid(x: Any, slope: float = 1 / 6, shift: float = 0.5) -> Value:
    """x * slope + shift, clipped to 0..1."""
    return make(HardSigmoid(float(slope), float(shift)), float_operand(x))


@graph_function("hard_swish")
def hard_swish(x: Any) -> Value:
    """x * hard_sigmoid(x)."""
    return make(HardSwish(), float_operand(x))


@graph_function("softsign")
def softsign(x: Any) -> Value:
    """x / (1 + |x|)."""
    return make(Softsign(), float_operand(x))


@graph_function("mish")
def mish(x: Any) -> Value:
    """x * tanh(softplus(x))."""
    return make(Mish(), float_operand(x))
