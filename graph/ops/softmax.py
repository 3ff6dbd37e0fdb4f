"""Softmax and its kin: composites that subtract the maximum first, with gradients of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import algorithm as alg
from ...dims import product
from ...dtypes import Array
from ..ir import CALLS, TensorType, Value
from .activation import Composite, float_operand, narrow
from .base import graph_function, make, normal_axes, normal_axis, own_axis, sample
from .reduce import Axes

INF = float("inf")


class AlongAxis(Composite, abstract=True):
    """Softmax and its kin along one axis, counted from the front."""

    axis: int

    def infer(self, *types: TensorType) -> TensorType:
        own_axis(self.axis, types[0].ndim)
        return super().infer(*types)

    def has_none(self, x: Value) -> bool:
        """Whether lines are empty, so that none has a largest element."""
        return x.shape[self.axis] == 0


def _along(*special: float) -> Any:
    return (sample((3, 17), axis=1), sample((5, 4), axis=0), sample((2, 3, 33), axis=1),
            sample((1, 1), axis=1), sample((0, 4), axis=1),
            sample((3, 0), axis=1, gradient=False),
            sample((2, 8), special=(1e4, -1e4, *special), gradient=False, axis=1))  # fmt: skip


@dataclass(frozen=True)
class Softmax(AlongAxis):
    """exp(x) / sum(exp(x)) along an axis. A line of nothing but -inf gives NaN."""

    axis: int
    onnx = "Softmax"
    samples = _along(-INF)

    def expand(self, *xs: Value) -> Value:
        (x,) = xs
        if self.has_none(x):
            return x
        e = alg.exp(x - CALLS["reduce_max"](x, self.axis, True))
        out: Value = e * (1.0 / CALLS["sum"](e, self.axis, True))  # one division per line
        return out

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return ((g - CALLS["sum"](g * y, self.axis, True)) * y,)

    def ref(self, *xs: Array) -> Array:
        x = xs[0].astype(np.float64)
        e = np.exp(x - x.max(self.axis, keepdims=True, initial=-INF))
        return narrow(e / e.sum(self.axis, keepdims=True), xs[0])


@dataclass(frozen=True)
class LogSoftmax(AlongAxis):
    """x - log(sum(exp(x))) along an axis."""

    axis: int
    onnx = "LogSoftmax"
    samples = _along(-INF)

    def expand(self, *xs: Value) -> Value:
        (x,) = xs
        if self.has_none(x):
            return x
        centred = x - CALLS["reduce_max"](x, self.axis, True)
        total = CALLS["sum"](alg.exp(centred), self.axis, True)
        out: Value = centred - alg.log(total)
        return out

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        # exp(y) would suffer from the rounding of y, and take each exponential twice
        return (g - make(Softmax(self.axis), xs[0]) * CALLS["sum"](g, self.axis, True),)

    def ref(self, *xs: Array) -> Array:
        x = xs[0].astype(np.float64)
        return narrow(x - _logsumexp(x, self.axis), xs[0])


@dataclass(frozen=True)
class Logsumexp(AlongAxis):
    """log(sum(exp(x))) along an axis; -inf for a line of nothing but -inf."""

    axis: int
    keepdims: bool = False
    onnx = "ReduceLogSumExp"
    samples = (*_along(INF), sample((3, 5), axis=0, keepdims=True),
               sample((1, 2), special=(-INF, -INF), gradient=False, axis=1))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        x = super().infer(*types)
        kept = (1,) if self.keepdims else ()
        return TensorType(x.dtype, (*x.shape[: self.axis], *kept, *x.shape[self.axis + 1 :]))

    def expand(self, *xs: Value) -> Value:
        (x,) = xs
        if self.has_none(x):
            shape = self.infer(x.type).shape
            return CALLS["full"](shape, -INF, x.dtype, x.node.owner)  # type: ignore[no-any-return]
        shift, e = self.shifted(x)
        out: Value = alg.log(CALLS["sum"](e, self.axis, True)) + shift
        return out if self.keepdims else CALLS["squeeze"](out, self.axis)

    def shifted(self, x: Value) -> tuple[Value, Value]:
        """The largest element (0 if that is infinite), and exp(x - the largest)."""
        largest = CALLS["reduce_max"](x, self.axis, True)
        shift = alg.where(alg.isinf(largest), 0, largest)
        return shift, alg.exp(x - shift)

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        # exp(x - y) would suffer from the rounding of y, far from zero
        _, e = self.shifted(xs[0])
        if not self.keepdims:
            g = CALLS["expand_dims"](g, self.axis)
        return (g * (e / CALLS["sum"](e, self.axis, True)),)

    def ref(self, *xs: Array) -> Array:
        out = _logsumexp(xs[0].astype(np.float64), self.axis)
        return (out if self.keepdims else np.squeeze(out, self.axis)).astype(xs[0].dtype)


def _logsumexp(x: Array, axis: int) -> Array:
    out: Array = np.logaddexp.reduce(x, axis, keepdims=True)
    return out


@dataclass(frozen=True)
class Hardmax(AlongAxis):
    """1 at the first largest element (or first NaN) along an axis, 0 elsewhere."""

    axis: int
    onnx = "Hardmax"
    differentiable = False
    samples = (sample((3, 17), axis=1), sample((5, 4), axis=0), sample((2, 3, 33), axis=1),
               sample((1, 5), special=(1.0, 3.0, 3.0, -1.0, 2.0), axis=1),
               sample((0, 4), axis=1), sample((3, 0), axis=1))  # fmt: skip

    def expand(self, *xs: Value) -> Value:
        (x,) = xs
        if self.has_none(x):
            return x
        first = CALLS["argmax"](x, self.axis, True)
        number = CALLS["iota"](x.shape, self.axis, owner=x.node.owner)
        return CALLS["cast"](CALLS["eq"](number, first), x.dtype)  # type: ignore[no-any-return]

    def ref(self, *xs: Array) -> Array:
        out = np.zeros_like(xs[0])
        if not xs[0].size:
            return out
        first = np.expand_dims(np.argmax(xs[0], self.axis), self.axis)
        np.put_along_axis(out, first, 1, self.axis)
        return out


@graph_function("softmax")
def softmax(x: Any, axis: int = -1) -> Value:
    """exp(x) / sum(exp(x)) along `axis`."""
    v = float_operand(x)
    return make(Softmax(normal_axis(axis, v.ndim)), v)


@graph_function("log_softmax")
def log_softmax(x: Any, axis: int = -1) -> Value:
    """log(softmax(x)) along `axis`."""
    v = float_operand(x)
    return make(LogSoftmax(normal_axis(axis, v.ndim)), v)


@graph_function("logsumexp")
def logsumexp(x: Any, axis: Axes = None, keepdims: bool = False) -> Value:
    """log(sum(exp(x))) along `axis`: one axis, several, or None for all."""
    v = float_operand(x)
    axes = normal_axes(axis, v.ndim)
    if len(axes) == 1:
        return make(Logsumexp(axes[0], keepdims), v)
    kept = tuple(k for k in range(v.ndim) if k not in axes)
    line = CALLS["reshape"](
        CALLS["transpose"](v, (*kept, *axes)),
        (*(v.shape[k] for k in kept), product(v.shape[k] for k in axes)),
    )
    shape = tuple(1 if k in axes else d for k, d in enumerate(v.shape) if keepdims or k in kept)
    return CALLS["reshape"](make(Logsumexp(len(kept)), line), shape)  # type: ignore[no-any-return]


@graph_function("hardmax")
def hardmax(x: Any, axis: int = -1) -> Value:
    """1 at the first largest element along `axis`, 0 elsewhere."""
    v = float_operand(x)
    return make(Hardmax(normal_axis(axis, v.ndim)), v)
