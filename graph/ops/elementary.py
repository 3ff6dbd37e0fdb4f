"""Elementary functions: exponentials, logarithms, trigonometry, and the smooth activations that
native code computes as one function (tanh, sigmoid, softplus, erf)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import algorithm as alg
from ...dtypes import Array, DType
from ..ir import Value
from .base import graph_function, make, operands, sample
from .pointwise import FloatUnary, _as_float

_POSITIVE = (sample((3, 17), low=0.2, high=4), sample((65,), low=0.2, high=4),
             sample((4,), low=0.2, special=(0.0, float("inf"), float("nan")),
                    gradient=False))  # fmt: skip
_UNIT = (sample((3, 17), low=-0.9, high=0.9), sample((65,), low=-0.9, high=0.9))


class Elementary(FloatUnary, abstract=True):
    """A float function of one argument with the derivative `slope(x, y)`."""

    def slope(self, x: Any, y: Any) -> Any:
        raise NotImplementedError

    def scalar(self, *xs: Any) -> Any:
        return alg.apply(self.name, xs[0])

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return (g * self.slope(xs[0], y),)

    def result_dtype(self, *dtypes: DType) -> DType:
        return dtypes[0]


@dataclass(frozen=True)
class Sqrt(Elementary):
    """Square root; NaN below zero."""

    onnx = "Sqrt"
    samples = _POSITIVE

    def slope(self, x: Any, y: Any) -> Any:
        return 0.5 / y

    def ref(self, *xs: Array) -> Array:
        return np.sqrt(*xs)


@dataclass(frozen=True)
class Rsqrt(Elementary):
    """1 / sqrt(x)."""

    samples = _POSITIVE

    def slope(self, x: Any, y: Any) -> Any:
        return -0.5 * y / x

    def ref(self, *xs: Array) -> Array:
        return (1 / np.sqrt(xs[0].astype(np.float64))).astype(xs[0].dtype)


@dataclass(frozen=True)
class Exp(Elementary):
    """e ** x."""

    onnx = "Exp"

    def slope(self, x: Any, y: Any) -> Any:
        return y

    def ref(self, *xs: Array) -> Array:
        return np.exp(*xs)


@dataclass(frozen=True)
class Exp2(Elementary):
    """2 ** x."""

    def slope(self, x: Any, y: Any) -> Any:
        return y * math.log(2)

    def ref(self, *xs: Array) -> Array:
        return np.exp2(*xs)


@dataclass(frozen=True)
class Expm1(Elementary):
    """e ** x - 1, accurate near zero."""

    def slope(self, x: Any, y: Any) -> Any:
        return y + 1

    def ref(self, *xs: Array) -> Array:
        return np.expm1(*xs)


@dataclass(frozen=True)
class Log(Elementary):
    """Natural logarithm."""

    onnx = "Log"
    samples = _POSITIVE

    def slope(self, x: Any, y: Any) -> Any:
        return 1 / x

    def ref(self, *xs: Array) -> Array:
        return np.log(*xs)


@dataclass(frozen=True)
class Log2(Elementary):
    """Logarithm to base 2."""

    samples = _POSITIVE

    def slope(self, x: Any, y: Any) -> Any:
        return (1 / math.log(2)) / x

    def ref(self, *xs: Array) -> Array:
        return np.log2(*xs)


@dataclass(frozen=True)
class Log1p(Elementary):
    """log(1 + x), accurate near zero."""

    samples = _POSITIVE

    def slope(self, x: Any, y: Any) -> Any:
        return 1 / (x + 1)

    def ref(self, *xs: Array) -> Array:
        return np.log1p(*xs)


@dataclass(frozen=True)
class Sin(Elementary):
    """Sine of radians."""

    onnx = "Sin"

    def slope(self, x: Any, y: Any) -> Any:
        return alg.cos(x)

    def ref(self, *xs: Array) -> Array:
        return np.sin(*xs)


@dataclass(frozen=True)
class Cos(Elementary):
    """Cosine of radians."""

    onnx = "Cos"

    def slope(self, x: Any, y: Any) -> Any:
        return -alg.sin(x)

    def ref(self, *xs: Array) -> Array:
        return np.cos(*xs)


@dataclass(frozen=True)
class Tan(Elementary):
    """Tangent of radians."""

    onnx = "Tan"
    samples = _UNIT

    def slope(self, x: Any, y: Any) -> Any:
        return 1 + y * y

    def ref(self, *xs: Array) -> Array:
        return np.tan(*xs)


@dataclass(frozen=True)
class Asin(Elementary):
    """Arc sine."""

    onnx = "Asin"
    samples = _UNIT

    def slope(self, x: Any, y: Any) -> Any:
        return alg.rsqrt(1 - x * x)

    def ref(self, *xs: Array) -> Array:
        return np.arcsin(*xs)


@dataclass(frozen=True)
class Acos(Elementary):
    """Arc cosine."""

    onnx = "Acos"
    samples = _UNIT

    def slope(self, x: Any, y: Any) -> Any:
        return -alg.rsqrt(1 - x * x)

    def ref(self, *xs: Array) -> Array:
        return np.arccos(*xs)


@dataclass(frozen=True)
class Atan(Elementary):
    """Arc tangent."""

    onnx = "Atan"

    def slope(self, x: Any, y: Any) -> Any:
        return 1 / (1 + x * x)

    def ref(self, *xs: Array) -> Array:
        return np.arctan(*xs)


@dataclass(frozen=True)
class Sinh(Elementary):
    """Hyperbolic sine."""

    onnx = "Sinh"

    def slope(self, x: Any, y: Any) -> Any:
        return alg.cosh(x)

    def ref(self, *xs: Array) -> Array:
        return np.sinh(*xs)


@dataclass(frozen=True)
class Cosh(Elementary):
    """Hyperbolic cosine."""

    onnx = "Cosh"

    def slope(self, x: Any, y: Any) -> Any:
        return alg.sinh(x)

    def ref(self, *xs: Array) -> Array:
        return np.cosh(*xs)


@dataclass(frozen=True)
class Tanh(Elementary):
    """Hyperbolic tangent."""

    onnx = "Tanh"

    def slope(self, x: Any, y: Any) -> Any:
        return 1 - y * y

    def ref(self, *xs: Array) -> Array:
        return np.tanh(*xs)


@dataclass(frozen=True)
class Sigmoid(Elementary):
    """1 / (1 + exp(-x))."""

    onnx = "Sigmoid"

    def slope(self, x: Any, y: Any) -> Any:
        return y * (1 - y)

    def ref(self, *xs: Array) -> Array:
        x = xs[0].astype(np.float64)
        e = np.exp(-np.abs(x))
        return np.where(x >= 0, 1 / (1 + e), e / (1 + e)).astype(xs[0].dtype)


@dataclass(frozen=True)
class Softplus(Elementary):
    """log(1 + exp(x)), finite for every x."""

    onnx = "Softplus"

    def slope(self, x: Any, y: Any) -> Any:
        return alg.sigmoid(x)

    def ref(self, *xs: Array) -> Array:
        return np.logaddexp(xs[0].astype(np.float64), 0).astype(xs[0].dtype)


@dataclass(frozen=True)
class Erf(Elementary):
    """The error function."""

    onnx = "Erf"

    def slope(self, x: Any, y: Any) -> Any:
        return (2 / math.sqrt(math.pi)) * alg.exp(-(x * x))

    def ref(self, *xs: Array) -> Array:
        flat = np.array([math.erf(v) for v in xs[0].astype(np.float64).reshape(-1)])
        return flat.reshape(xs[0].shape).astype(xs[0].dtype)


class Composed(Elementary, abstract=True):
    """One whose element is made of other functions."""

    def scalar(self, *xs: Any) -> Any:
        return self.element(xs[0])

    def element(self, x: Any) -> Any:
        """The function of one element."""
        raise NotImplementedError


_FAR = 1e8  # from here on sqrt(x * x + 1) is x in float64 too, and x * x does not overflow below


@dataclass(frozen=True)
class Asinh(Composed):
    """Inverse hyperbolic sine."""

    onnx = "Asinh"
    samples = (sample((3, 17)), sample((65,), low=-50, high=50),
               sample((6,), special=(1e-6, 1e30, -1e30, float("inf"), float("nan")),
                      gradient=False))  # fmt: skip

    def element(self, x: Any) -> Any:
        size = alg.abs_(x)
        square = alg.minimum(size, _FAR) * size
        near = alg.log1p(size + square / (alg.sqrt(square + 1) + 1))
        out = alg.where(size > _FAR, alg.log(size) + math.log(2), near)
        return alg.where(x < 0, -out, out)

    def slope(self, x: Any, y: Any) -> Any:
        return alg.rsqrt(x * x + 1)

    def ref(self, *xs: Array) -> Array:
        return np.arcsinh(*xs)


@dataclass(frozen=True)
class Acosh(Composed):
    """Inverse hyperbolic cosine, at least 0; NaN below 1."""

    onnx = "Acosh"
    samples = (sample((3, 17), low=1.1, high=4), sample((65,), low=1.5, high=50),
               sample((6,), low=1, special=(1.0, 1e30, 0.0, -1e10, float("inf"), float("nan")),
                      gradient=False))  # fmt: skip

    def element(self, x: Any) -> Any:
        above = alg.minimum(x, _FAR) - 1
        near = alg.log1p(above + alg.sqrt(above * (above + 2)))
        out = alg.where(x > _FAR, alg.log(x) + math.log(2), near)
        return alg.where(x < 1, float("nan"), out)

    def slope(self, x: Any, y: Any) -> Any:
        return alg.rsqrt((x - 1) * (x + 1))

    def ref(self, *xs: Array) -> Array:
        return np.arccosh(*xs)


@dataclass(frozen=True)
class Atanh(Composed):
    """Inverse hyperbolic tangent; NaN outside -1..1."""

    onnx = "Atanh"
    samples = (*_UNIT, sample((6,), special=(1e-6, 1.0, -1.0, 2.0, float("nan")), high=0.9,
                              low=-0.9, gradient=False))  # fmt: skip

    def element(self, x: Any) -> Any:
        return (alg.log1p(x) - alg.log1p(-x)) * 0.5

    def slope(self, x: Any, y: Any) -> Any:
        return 1 / (1 - x * x)

    def ref(self, *xs: Array) -> Array:
        return np.arctanh(*xs)


def _elementary(op: Elementary) -> Any:
    @graph_function(op.name)
    def build(x: Any) -> Value:
        return make(op, *_as_float(*operands(x)))

    build.__name__, build.__doc__ = op.name, type(op).__doc__
    return build


sqrt, rsqrt, exp, exp2, expm1 = (_elementary(o) for o in (Sqrt(), Rsqrt(), Exp(), Exp2(), Expm1()))
log, log2, log1p = (_elementary(o) for o in (Log(), Log2(), Log1p()))
sin, cos, tan, asin, acos, atan = (
    _elementary(o) for o in (Sin(), Cos(), Tan(), Asin(), Acos(), Atan())
)
sinh, cosh, tanh = (_elementary(o) for o in (Sinh(), Cosh(), Tanh()))
asinh, acosh, atanh = (_elementary(o) for o in (Asinh(), Acosh(), Atanh()))
sigmoid, softplus, erf = (_elementary(o) for o in (Sigmoid(), Softplus(), Erf()))
