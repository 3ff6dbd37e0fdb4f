"""Running sums and products along an axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ...dtypes import Array, as_dtype, sum_dtype
from ...errors import DTypeError
from ..ir import CALLS, TensorType, Value
from .base import Op, as_value, graph_function, make, normal_axis, own_axis, sample


class Running(Op, abstract=True):
    """What has been joined so far along an axis, in order: `function` joins, `start` is nothing."""

    axis: int
    exclusive: bool
    reverse: bool
    arity = 1
    function: ClassVar[np.ufunc]
    start: ClassVar[int]

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        if not x.dtype.computes:
            raise DTypeError(f"not defined for {x.dtype}", "cast to float32 first")
        own_axis(self.axis, x.ndim)
        return TensorType(sum_dtype(x.dtype), x.shape)

    def ref(self, *xs: Array) -> Array:
        to = sum_dtype(as_dtype(xs[0].dtype)).numpy
        x = np.moveaxis(xs[0].astype(np.float64 if to.kind == "f" else to), self.axis, 0)
        x = x[::-1] if self.reverse else x
        out = self.function.accumulate(x, 0, dtype=x.dtype)
        if self.exclusive:
            out = np.concatenate([np.full_like(x[:1], self.start), out[:-1]])
        out = out[::-1] if self.reverse else out
        return np.moveaxis(out, 0, self.axis).astype(to)


@dataclass(frozen=True)
class Cumsum(Running):
    """Running sums along an axis, in order. `exclusive` leaves out the element itself, `reverse`
    starts from the end. Integers and bool widen to 64 bits, as in NumPy."""

    axis: int
    exclusive: bool = False
    reverse: bool = False
    onnx = "CumSum"
    samples = (sample((3, 17), axis=1), sample((7, 33), axis=0), sample((2, 5, 3), axis=1),
               sample((3, 17), axis=1, exclusive=True, reverse=True),
               sample((7, 3), axis=0, exclusive=True), sample((7, 18), axis=0, reverse=True),
               sample((0, 3), axis=0),
               sample((19,), dtypes=("int8",), low=-99, high=99, axis=0))  # fmt: skip
    function, start = np.add, 0

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return (make(Cumsum(self.axis, self.exclusive, not self.reverse), g),)


@dataclass(frozen=True)
class Cumprod(Running):
    """Running products along an axis, in order. `exclusive` leaves out the element itself,
    `reverse` starts from the end. Integers and bool widen to 64 bits, as in NumPy. The gradient
    is defined where no element is 0."""

    axis: int
    exclusive: bool = False
    reverse: bool = False
    onnx = "CumProd"
    samples = (sample((3, 17), low=0.5, axis=1), sample((7, 33), low=0.5, axis=0),
               sample((3, 17), low=0.5, axis=1, exclusive=True, reverse=True),
               sample((2, 5, 3), low=0.5, axis=1, exclusive=True),
               sample((7, 18), axis=0, reverse=True, gradient=False), sample((0, 3), axis=0),
               sample((19,), dtypes=("int8",), low=-99, high=99, axis=0))  # fmt: skip
    function, start = np.multiply, 1

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        (x,) = xs
        below = make(Cumsum(self.axis, self.exclusive, not self.reverse), g * y)
        return (below / x,)


def _along(x: Any, axis: int | None) -> tuple[Value, int]:
    """A value and its axis; None: all elements in row-major order."""
    v = as_value(x)
    if axis is None:
        return CALLS["reshape"](v, (v.type.size,)), 0
    return v, normal_axis(axis, v.ndim)


@graph_function("cumsum")
def cumsum(
    x: Any, axis: int | None = None, exclusive: bool = False, reverse: bool = False
) -> Value:
    """Running sums along `axis`; None: of all elements in row-major order, as in NumPy."""
    v, at = _along(x, axis)
    return make(Cumsum(at, exclusive, reverse), v)


@graph_function("cumprod")
def cumprod(
    x: Any, axis: int | None = None, exclusive: bool = False, reverse: bool = False
) -> Value:
    """Running products along `axis`; None: of all elements in row-major order, as in NumPy."""
    v, at = _along(x, axis)
    return make(Cumprod(at, exclusive, reverse), v)
