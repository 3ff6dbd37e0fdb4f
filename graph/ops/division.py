"""Division rounded towards zero and its remainder, as C has them; integer powers; bits read anew.

The ops of `pointwise` round towards minus infinity, as Python does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import algorithm as alg
from ...dtypes import Array, DType, as_dtype, bool_
from ...errors import DTypeError
from ..ir import CALLS, TensorType, Value
from .base import as_value, graph_function, make, promoted, sample
from .pointwise import INF, NAN, Binary, Division, Unary, binary_function

_SIGNED = (sample((3, 5), (3, 5), low=-9, high=9, gradient=False),
           sample((8,), (8,), special=(NAN, INF, -INF, -0.0), low=0.5, gradient=False),
           sample((19,), (19,), dtypes=("int32", "int32"), low=-9, high=0),
           sample((4, 1), (7,), dtypes=("uint8", "uint8"), low=1, high=255))  # fmt: skip


@dataclass(frozen=True)
class TruncDivide(Division):
    """Division rounded towards zero, as C and ONNX divide integers. By integer zero the run fails."""

    samples = _SIGNED

    def scalar(self, *xs: Any) -> Any:
        x, y = xs[0], self.divisor(xs[1])
        if x.dtype.is_float:
            return alg.trunc(x / y)
        below = x // y
        if x.dtype.kind == "u":
            return below
        inexact = alg.not_equal(x % y, 0) & ((x < 0) ^ (y < 0))
        return below + alg.cast(inexact, x.dtype)

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return None, None

    def ref(self, *xs: Array) -> Array:
        x, y = xs
        if x.dtype.kind == "f":
            return np.trunc(x / y)
        return np.asarray((x - np.fmod(x, y)) // y, x.dtype)


@dataclass(frozen=True)
class Fmod(Division):
    """Remainder with the sign of the dividend, as C's fmod and %. By integer zero the run fails."""

    samples = _SIGNED

    def scalar(self, *xs: Any) -> Any:
        x, y = xs[0], self.divisor(xs[1])
        if x.dtype.kind == "u":
            return x % y
        if x.dtype.is_float:
            size = alg.abs_(x) % alg.abs_(y)
            return alg.where(x < 0, -size, size)
        rest = x % y
        return alg.where(alg.not_equal(rest, 0) & ((x < 0) ^ (y < 0)), rest - y, rest)

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        same = CALLS["unbroadcast"]
        return same(g, xs[0]), same(-g * alg.trunc(xs[0] / xs[1]), xs[1])

    def ref(self, *xs: Array) -> Array:
        return np.fmod(*xs)


@dataclass(frozen=True)
class IntegerPower(Binary):
    """x raised to y for integers, wrapping. A negative exponent gives 1 / x**-y rounded towards
    zero, and 0 for x = 0."""

    differentiable = False
    samples = (sample((19,), (19,), dtypes=("int32", "int32"), low=-5, high=12),
               sample((19,), (4, 1), dtypes=("int64", "int64"), low=-9, high=30),
               sample((19,), (19,), dtypes=("uint8", "uint8"), low=0, high=255))  # fmt: skip

    def accepts(self, dtype: DType) -> bool:
        return dtype.is_integer

    def scalar(self, *xs: Any) -> Any:
        x, y = xs
        signed = y.dtype.kind == "i"
        out: Any = alg.Const(1, x.dtype)
        square = x
        for k in range(y.dtype.bits - signed):
            used = alg.not_equal((y >> k) & 1, 0)
            out = alg.where(used, out * square, out)
            square = square * square
        if not signed:
            return out
        odd = alg.where(alg.equal(y & 1, 0), 1, -1)
        inverse = alg.where(alg.equal(x, 1), 1, alg.where(alg.equal(x, -1), odd, 0))
        return alg.where(y < 0, alg.cast(inverse, x.dtype), out)

    def ref(self, *xs: Array) -> Array:
        x, y = np.broadcast_arrays(*xs)
        bits = 8 * x.dtype.itemsize
        out = []
        for a, b in zip(x.reshape(-1).tolist(), y.reshape(-1).tolist()):
            power = a**b if b >= 0 else a ** (b & 1) if abs(a) == 1 else 0
            out.append(power % (1 << bits))
        return np.array(out, np.uint64).astype(f"u{bits // 8}").view(x.dtype).reshape(x.shape)


@dataclass(frozen=True)
class BitCast(Unary):
    """The same bits read as another dtype of the same width."""

    dtype: DType
    differentiable = False
    samples = (sample((3, 17), dtypes=("float32",), dtype=as_dtype("int32")),
               sample((), dtypes=("int64",), low=-9, high=9, dtype=as_dtype("float64")),
               sample((19,), dtypes=("int8",), low=-99, high=99, dtype=as_dtype("uint8")),
               sample((19,), dtypes=("bool",), low=0, high=2, dtype=as_dtype("uint8")),
               sample((19,), dtypes=("uint16",), high=9999, low=0, dtype=as_dtype("int16")))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        if x.dtype.bits != self.dtype.bits or bool_ == self.dtype != x.dtype:
            raise DTypeError(f"the bits of {x.dtype} cannot be read as {self.dtype}")
        return TensorType(self.dtype, x.shape)

    def scalar(self, *xs: Any) -> Any:
        (x,) = xs
        if x.dtype == bool_:
            x = alg.cast(x, as_dtype("uint8"))
        return x if x.dtype == self.dtype else alg.Bitcast(x, self.dtype)

    def ref(self, *xs: Array) -> Array:
        return xs[0].view(self.dtype.numpy)


trunc_divide, fmod = binary_function(TruncDivide()), binary_function(Fmod())


@graph_function("integer_power")
def integer_power(x: Any, y: Any) -> Value:
    """x ** y for integers, in their common dtype, wrapping; 1 / x**-y, rounded towards zero, for a
    negative exponent."""
    return make(IntegerPower(), *promoted(x, y))


@graph_function("bitcast")
def bitcast(x: Any, dtype: Any) -> Value:
    """The bits of x read as `dtype`, which has the same width."""
    value, to = as_value(x), as_dtype(dtype)
    return value if value.dtype == to else make(BitCast(to), value)
