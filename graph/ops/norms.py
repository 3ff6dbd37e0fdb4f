"""Norms along axes, and what is divided by them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import algorithm as alg
from ...dtypes import Array
from ...errors import ConfigError, DTypeError, ShapeError
from ..ir import CALLS, TensorType, Value
from .activation import float_operand, narrow
from .base import Op, graph_function, make, normal_axes, normal_axis, sample
from .reduce import Axes

_ZEROS = (0.0,) * 17
_UNKINKED = {"low": 0.5, "high": 2.0}


@dataclass(frozen=True)
class Norm(Op):
    """The p-norm along axes: the p-th root of the sum of |x|**p, p = `order` > 0; for infinity the
    largest |x|. Where it is 0 the gradient is 0."""

    axes: tuple[int, ...]
    keepdims: bool = False
    order: float = 2.0
    arity = 1
    samples = (sample((3, 17), axes=(1,)), sample((5, 4, 3), axes=(0, 2), keepdims=True),
               sample((2, 17), axes=(1,), special=_ZEROS, gradient=False),
               sample((3, 17), axes=(0,), order=1.0, **_UNKINKED),
               sample((3, 17), axes=(0, 1), order=3.0, **_UNKINKED),
               sample((3, 17), axes=(1,), order=math.inf), sample((0, 3), axes=(0,)))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        if not x.dtype.is_float or not x.dtype.computes:
            raise DTypeError(f"not defined for {x.dtype}", "cast to float32 first")
        if normal_axes(self.axes, x.ndim) != self.axes:
            raise ShapeError(f"axes {self.axes} are not in order")
        if not self.order > 0:
            raise ShapeError(f"the order of a norm is positive, not {self.order}")
        shape = (1 if k in self.axes else d for k, d in enumerate(x.shape)
                 if self.keepdims or k not in self.axes)  # fmt: skip
        return TensorType(x.dtype, tuple(shape))

    def expand(self, *xs: Value) -> Value:
        (x,) = xs
        total, p = CALLS["sum"], self.order
        if p == math.inf:
            return CALLS["reduce_max"](alg.abs_(x), self.axes, self.keepdims)  # type: ignore[no-any-return]
        if p == 1:
            return total(alg.abs_(x), self.axes, self.keepdims)  # type: ignore[no-any-return]
        if p == 2:
            return alg.sqrt(total(x * x, self.axes, self.keepdims))  # type: ignore[no-any-return]
        powers = CALLS["pow"](alg.abs_(x), p)
        return CALLS["pow"](total(powers, self.axes, self.keepdims), 1 / p)  # type: ignore[no-any-return]

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        (x,) = xs
        shape = tuple(1 if k in self.axes else d for k, d in enumerate(x.shape))
        g, y = (CALLS["reshape"](v, shape) for v in (g, y))
        if self.order == math.inf:
            hit = alg.cast(alg.equal(alg.abs_(x), y), x.dtype)
            return (g / CALLS["sum"](hit, self.axes, True) * hit * alg.sign(x),)
        if self.order == 1:
            return (g * alg.sign(x),)
        safe = alg.where(alg.equal(y, 0), 1, y)
        if self.order == 2:
            return (g / safe * x,)
        return (g * alg.sign(x) * CALLS["pow"](alg.abs_(x) / safe, self.order - 1),)

    def ref(self, *xs: Array) -> Array:
        x = np.abs(xs[0].astype(np.float64))
        if self.order == math.inf:
            return narrow(np.asarray(x.max(self.axes, keepdims=self.keepdims)), xs[0])
        total = np.sum(x**self.order, self.axes, keepdims=self.keepdims)
        return narrow(np.asarray(total ** (1 / self.order)), xs[0])


@graph_function("norm")
def norm(x: Any, ord: float = 2.0, axis: Axes = None, keepdims: bool = False) -> Value:
    """The norm along `axis` (None: of all elements) of order `ord`: 1, 2, any positive number, or
    infinity for the largest absolute value."""
    v = float_operand(x)
    if not ord > 0:
        raise ConfigError(f"norm: the order must be positive, not {ord}")
    axes = normal_axes(axis, v.ndim)
    return make(Norm(axes, keepdims, float(ord)), v) if axes else alg.abs_(v)


@graph_function("normalize")
def normalize(x: Any, ord: float = 2.0, axis: int = -1) -> Value:
    """x divided by its norm of order `ord` along `axis`; zeros where that is 0."""
    v = float_operand(x)
    size = norm(v, ord, normal_axis(axis, v.ndim), keepdims=True)
    out: Value = v / alg.where(alg.equal(size, 0), 1, size)
    return out
