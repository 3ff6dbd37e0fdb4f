"""Element-by-element tests and bit operations: comparisons, logic, shifts, float classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import algorithm as alg
from ...dtypes import Array, DType, bool_
from ..ir import CALLS, Value
from .base import as_value, graph_function, make, operands, sample
from .pointwise import (
    INF,
    INTEGER_PAIRS,
    NAN,
    PAIRS,
    Binary,
    Unary,
    binary_function,
    unary_function,
)


class Comparison(Binary, abstract=True):
    samples = (*PAIRS, *INTEGER_PAIRS, sample((8,), (8,), special=(NAN, INF)))
    differentiable = False

    def result_dtype(self, *dtypes: DType) -> DType:
        return bool_


@dataclass(frozen=True)
class Eq(Comparison):
    """x == y."""

    onnx = "Equal"

    def scalar(self, *xs: Any) -> Any:
        return alg.equal(*xs)

    def ref(self, *xs: Array) -> Array:
        return np.equal(*xs)


@dataclass(frozen=True)
class Ne(Comparison):
    """x != y."""

    def scalar(self, *xs: Any) -> Any:
        return alg.not_equal(*xs)

    def ref(self, *xs: Array) -> Array:
        return np.not_equal(*xs)


@dataclass(frozen=True)
class Lt(Comparison):
    """x < y."""

    onnx = "Less"

    def scalar(self, *xs: Any) -> Any:
        return xs[0] < xs[1]

    def ref(self, *xs: Array) -> Array:
        return np.less(*xs)


@dataclass(frozen=True)
class Le(Comparison):
    """x <= y."""

    onnx = "LessOrEqual"

    def scalar(self, *xs: Any) -> Any:
        return xs[0] <= xs[1]

    def ref(self, *xs: Array) -> Array:
        return np.less_equal(*xs)


@dataclass(frozen=True)
class Gt(Comparison):
    """x > y."""

    onnx = "Greater"

    def scalar(self, *xs: Any) -> Any:
        return xs[0] > xs[1]

    def ref(self, *xs: Array) -> Array:
        return np.greater(*xs)


@dataclass(frozen=True)
class Ge(Comparison):
    """x >= y."""

    onnx = "GreaterOrEqual"

    def scalar(self, *xs: Any) -> Any:
        return xs[0] >= xs[1]

    def ref(self, *xs: Array) -> Array:
        return np.greater_equal(*xs)


class Bitwise(Binary, abstract=True):
    samples = (sample((19,), (19,), dtypes=("bool", "bool"), low=0, high=2),
               sample((5, 3), (5, 3), dtypes=("int32", "int32"), low=-9, high=9))  # fmt: skip
    differentiable = False

    def accepts(self, dtype: DType) -> bool:
        return not dtype.is_float


@dataclass(frozen=True)
class And(Bitwise):
    """Logical and of bools, bitwise and of integers."""

    onnx = "And"

    def scalar(self, *xs: Any) -> Any:
        return xs[0] & xs[1]

    def ref(self, *xs: Array) -> Array:
        return np.bitwise_and(*xs)


@dataclass(frozen=True)
class Or(Bitwise):
    """Logical or of bools, bitwise or of integers."""

    onnx = "Or"

    def scalar(self, *xs: Any) -> Any:
        return xs[0] | xs[1]

    def ref(self, *xs: Array) -> Array:
        return np.bitwise_or(*xs)


@dataclass(frozen=True)
class Xor(Bitwise):
    """Exclusive or, of bools or bitwise."""

    onnx = "Xor"

    def scalar(self, *xs: Any) -> Any:
        return xs[0] ^ xs[1]

    def ref(self, *xs: Array) -> Array:
        return np.bitwise_xor(*xs)


class Shift(Binary, abstract=True):
    samples = (sample((19,), (19,), dtypes=("int32", "int32"), low=0, high=9),)
    differentiable = False

    def accepts(self, dtype: DType) -> bool:
        return dtype.is_integer


@dataclass(frozen=True)
class Shl(Shift):
    """x << y for 0 <= y < width."""

    def scalar(self, *xs: Any) -> Any:
        return xs[0] << xs[1]

    def ref(self, *xs: Array) -> Array:
        return np.left_shift(*xs)


@dataclass(frozen=True)
class Shr(Shift):
    """x >> y for 0 <= y < width; keeps the sign."""

    def scalar(self, *xs: Any) -> Any:
        return xs[0] >> xs[1]

    def ref(self, *xs: Array) -> Array:
        return np.right_shift(*xs)


@dataclass(frozen=True)
class Not(Unary):
    """Logical not of bool, bitwise not of integers."""

    onnx = "Not"
    differentiable = False
    samples = (sample((19,), dtypes=("bool",), low=0, high=2),
               sample((19,), dtypes=("int32",), low=-9, high=9))  # fmt: skip

    def accepts(self, dtype: DType) -> bool:
        return not dtype.is_float

    def scalar(self, *xs: Any) -> Any:
        return ~xs[0]

    def ref(self, *xs: Array) -> Array:
        return np.invert(*xs)


class FloatTest(Unary, abstract=True):
    differentiable = False

    def accepts(self, dtype: DType) -> bool:
        return dtype.computes and dtype.is_float

    def result_dtype(self, *dtypes: DType) -> DType:
        return bool_


@dataclass(frozen=True)
class Isnan(FloatTest):
    """Whether x is NaN."""

    onnx = "IsNaN"

    def scalar(self, *xs: Any) -> Any:
        return alg.isnan(xs[0])

    def ref(self, *xs: Array) -> Array:
        return np.isnan(*xs)


@dataclass(frozen=True)
class Isinf(FloatTest):
    """Whether x is plus or minus infinity."""

    onnx = "IsInf"

    def scalar(self, *xs: Any) -> Any:
        return alg.isinf(xs[0])

    def ref(self, *xs: Array) -> Array:
        return np.isinf(*xs)


@dataclass(frozen=True)
class Isfinite(FloatTest):
    """Whether x is neither infinite nor NaN."""

    def scalar(self, *xs: Any) -> Any:
        return alg.isfinite(xs[0])

    def ref(self, *xs: Array) -> Array:
        return np.isfinite(*xs)


equal, not_equal, less, less_equal, greater, greater_equal = (
    binary_function(o) for o in (Eq(), Ne(), Lt(), Le(), Gt(), Ge())
)
bitwise_and, bitwise_or, bitwise_xor = (binary_function(o) for o in (And(), Or(), Xor()))
bitwise_not = unary_function(Not())
left_shift, right_shift = binary_function(Shl()), binary_function(Shr())


def truth(x: Any) -> Value:
    """Bools as they are, of numbers whether they are not zero."""
    v = as_value(x)
    return v if v.dtype == bool_ else CALLS["ne"](v, 0)


def logical_and(x: Any, y: Any) -> Value:
    """Whether both are true; numbers count as true where they are not zero."""
    return bitwise_and(*map(truth, operands(x, y)))  # type: ignore[no-any-return]


def logical_or(x: Any, y: Any) -> Value:
    """Whether one is true; numbers count as true where they are not zero."""
    return bitwise_or(*map(truth, operands(x, y)))  # type: ignore[no-any-return]


def logical_xor(x: Any, y: Any) -> Value:
    """Whether just one is true; numbers count as true where they are not zero."""
    return bitwise_xor(*map(truth, operands(x, y)))  # type: ignore[no-any-return]


def logical_not(x: Any) -> Value:
    """Whether it is false; numbers count as true where they are not zero."""
    return bitwise_not(truth(x))  # type: ignore[no-any-return]


def _float_test(op: FloatTest, of_whole: bool) -> Any:
    @graph_function(op.name)
    def build(x: Any) -> Value:
        v = as_value(x)
        if v.dtype.is_float:
            return make(op, v)
        return CALLS["full"](v.shape, of_whole, bool_, v.node.owner)  # type: ignore[no-any-return]

    build.__name__, build.__doc__ = op.name, type(op).__doc__
    return build


isnan, is_infinite = _float_test(Isnan(), False), _float_test(Isinf(), False)
isfinite = _float_test(Isfinite(), True)


def isinf(x: Any, negative: bool = True, positive: bool = True) -> Value:
    """Whether x is infinite; of the two infinities those count that are asked for."""
    v: Value = is_infinite(x)
    if negative and positive:
        return v
    if not (negative or positive):
        return v & False
    below = as_value(x) < 0
    return v & (below if negative else ~below)
