"""Normalisation: values brought to mean 0 and variance 1 over some of their axes, and their kin.

Two ops do the work, `Standardize` and `RmsNorm`; batch, layer, instance and group normalisation are
these with a scale and a shift, over different axes. Variances are biased: divided by the number of
elements.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import algorithm as alg
from ...dims import Dim, product, show
from ...dtypes import Array
from ...errors import ConfigError, DTypeError, ShapeError
from ..ir import CALLS, TensorType, Value
from .activation import float_operand, narrow
from .base import Op, graph_function, make, normal_axes, promoted, sample
from .pooling import SumPool
from .shape import reshape

_AXES = (sample((3, 17), axes=(1,)), sample((2, 3, 5), axes=(0, 2)),
         sample((4, 3, 2), axes=(1, 2), epsilon=0.1), sample((0, 3), axes=(1,)))  # fmt: skip


@dataclass(frozen=True)
class OverAxes(Op, abstract=True):
    """Normalisation over `axes`, in order and counted from the front; the type stays."""

    axes: tuple[int, ...]
    epsilon: float = 1e-5
    arity = 1
    samples = _AXES

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        if not x.dtype.is_float or not x.dtype.computes:
            raise DTypeError(f"not defined for {x.dtype}", "cast to float32 first")
        if not self.axes or normal_axes(self.axes, x.ndim) != self.axes:
            raise ShapeError(f"axes {self.axes} are not axes of {x} in order")
        return x

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return out.size * 6

    def mean(self, x: Any) -> Value:
        """The mean over the axes, which stay with size 1."""
        return CALLS["mean"](x, self.axes, True)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Standardize(OverAxes):
    """(x - mean) / sqrt(variance + epsilon), both taken over `axes`."""

    def expand(self, *xs: Value) -> Value:
        centred = xs[0] - self.mean(xs[0])
        return centred * self.scale(xs[0])

    def scale(self, x: Value) -> Value:
        """1 / sqrt(variance + epsilon)."""
        centred = x - self.mean(x)
        return alg.rsqrt(self.mean(centred * centred) + self.epsilon)  # type: ignore[no-any-return]

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return ((g - self.mean(g) - y * self.mean(g * y)) * self.scale(xs[0]),)

    def ref(self, *xs: Array) -> Array:
        x = xs[0].astype(np.float64)
        centred = x - x.mean(self.axes, keepdims=True)
        return narrow(centred / np.sqrt(x.var(self.axes, keepdims=True) + self.epsilon), xs[0])


@dataclass(frozen=True)
class RmsNorm(OverAxes):
    """x / sqrt(mean of squares + epsilon), taken over `axes`."""

    def expand(self, *xs: Value) -> Value:
        return xs[0] * self.scale(xs[0])

    def scale(self, x: Value) -> Value:
        """1 / sqrt(mean of squares + epsilon)."""
        return alg.rsqrt(self.mean(x * x) + self.epsilon)  # type: ignore[no-any-return]

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return ((g - y * self.mean(g * y)) * self.scale(xs[0]),)

    def ref(self, *xs: Array) -> Array:
        x = xs[0].astype(np.float64)
        return narrow(x / np.sqrt(np.mean(x * x, self.axes, keepdims=True) + self.epsilon), xs[0])


@dataclass(frozen=True)
class LocalResponseNorm(Op):
    """x [n, c, ...] / (bias + alpha / size * sum)**beta, the sum being that of the squares of `size`
    neighbouring channels, an odd one more after than before (Krizhevsky et al. 2012)."""

    size: int
    alpha: float = 1e-4
    beta: float = 0.75
    bias: float = 1.0
    arity = 1
    onnx = "LRN"
    samples = (sample((2, 5, 3, 4), size=3, alpha=0.5), sample((2, 7, 5), size=4, alpha=0.5),
               sample((1, 3, 2, 2), size=5, alpha=0.5, beta=0.6, bias=2.0),
               sample((3, 5), size=1))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        if not x.dtype.is_float or not x.dtype.computes:
            raise DTypeError(f"not defined for {x.dtype}", "cast to float32 first")
        if x.ndim < 2 or self.size < 1:
            raise ShapeError(f"{x} does not have channels to take {self.size} neighbours of")
        return x

    def expand(self, *xs: Value) -> Value:
        (x,) = xs
        before = (self.size - 1) // 2
        lines = reshape(x * x, (x.shape[0], 1, x.shape[1], product(x.shape[2:])))
        pool = SumPool((1, 1), (before, 0), (self.size - 1 - before, 0), (1, 1), (self.size, 1))
        below = reshape(make(pool, lines), x.shape) * (self.alpha / self.size) + self.bias
        if self.beta == 0.75:
            root = alg.sqrt(below)
            return x / (root * alg.sqrt(root))  # type: ignore[no-any-return]
        return x * CALLS["pow"](below, -self.beta)  # type: ignore[no-any-return]

    def ref(self, *xs: Array) -> Array:
        x = xs[0].astype(np.float64)
        before = (self.size - 1) // 2
        total = np.zeros_like(x)
        for c in range(x.shape[1]):
            part = x[:, max(c - before, 0) : c + self.size - before]
            total[:, c] = np.sum(part * part, 1)
        return narrow(x / (self.bias + self.alpha / self.size * total) ** self.beta, xs[0])

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return out.size * (self.size + 6)


def _affine(x: Value, scale: Any, bias: Any) -> Value:
    """x * scale + bias, where they are given."""
    for factor, join in ((scale, "mul"), (bias, "add")):
        if factor is not None:
            joined = CALLS[join](x, CALLS["cast"](factor, x.dtype))
            if joined.shape != x.shape:
                raise ShapeError(f"a scale or shift {factor.type} does not broadcast to {x.type}")
            x = joined
    return x


def _channels(v: Any, x: Value, what: str) -> Value | None:
    """One number for each channel of x [n, c, ...], shaped to broadcast."""
    if v is None:
        return None
    (given,) = promoted(v)
    if given.shape not in ((x.shape[1],), ()):
        raise ShapeError(f"{what}: {given.type} does not hold one number for each of the "
                         f"{show(x.shape[1])} channels of {x.type}")  # fmt: skip
    return given if given.ndim == 0 else reshape(given, (x.shape[1], *[1] * (x.ndim - 2)))


def _with_channels(x: Any, what: str) -> Value:
    v = float_operand(x)
    if v.ndim < 2:
        raise ShapeError(f"{what}: values are [batch, channels, ...], not {v.type}")
    return v


@graph_function("layer_norm")
def layer_norm(
    x: Any, scale: Any = None, bias: Any = None, axis: int | Sequence[int] = -1,
    epsilon: float = 1e-5,
) -> Value:  # fmt: skip
    """x standardised over `axis`, one axis or several, times `scale` plus `bias`, values that
    broadcast to x (Ba et al. 2016)."""
    v = float_operand(x)
    return _affine(make(Standardize(normal_axes(axis, v.ndim), float(epsilon)), v), scale, bias)


@graph_function("rms_norm")
def rms_norm(
    x: Any, scale: Any = None, axis: int | Sequence[int] = -1, epsilon: float = 1e-5
) -> Value:
    """x divided by the root of the mean of its squares over `axis`, times `scale`, a value that
    broadcasts to x (Zhang and Sennrich 2019)."""
    v = float_operand(x)
    return _affine(make(RmsNorm(normal_axes(axis, v.ndim), float(epsilon)), v), scale, None)


@graph_function("instance_norm")
def instance_norm(x: Any, scale: Any = None, bias: Any = None, epsilon: float = 1e-5) -> Value:
    """x [n, c, *spatial] standardised over its spatial axes, times a scale plus a shift for each
    channel (Ulyanov et al. 2016)."""
    v = _with_channels(x, "instance_norm")
    if v.ndim < 3:
        raise ShapeError(f"instance_norm: {v.type} has no spatial axes")
    made = make(Standardize(tuple(range(2, v.ndim)), float(epsilon)), v)
    return _affine(made, *(_channels(p, v, "instance_norm") for p in (scale, bias)))


@graph_function("group_norm")
def group_norm(
    x: Any, groups: int, scale: Any = None, bias: Any = None, epsilon: float = 1e-5
) -> Value:
    """x [n, c, ...] standardised over each of `groups` groups of neighbouring channels, with all
    other axes but the batch; then times a scale plus a shift for each channel (Wu and He 2018)."""
    v = _with_channels(x, "group_norm")
    channels = v.shape[1]
    if groups < 1 or (isinstance(channels, int) and channels % groups):
        raise ConfigError(f"group_norm: {show(channels)} channels do not make {groups} groups")
    inside = channels // groups
    apart = reshape(v, (v.shape[0], groups, inside, product(v.shape[2:])))
    made = make(Standardize((2, 3), float(epsilon)), apart)
    scales = (_channels(p, v, "group_norm") for p in (scale, bias))
    each = (p if p is None or p.ndim == 0 else reshape(p, (groups, inside, 1)) for p in scales)
    return reshape(_affine(made, *each), v.shape)


@graph_function("batch_norm")
def batch_norm(
    x: Any, scale: Any, bias: Any, mean: Any, variance: Any, epsilon: float = 1e-5
) -> Value:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias for x [n, c, ...] and one number of each
    per channel; scale and bias may be None (Ioffe and Szegedy 2015)."""
    v = _with_channels(x, "batch_norm")
    centre, spread, factor, shift = (
        None if p is None else CALLS["cast"](_channels(p, v, "batch_norm"), v.dtype)
        for p in (mean, variance, scale, bias)
    )
    if centre is None or spread is None:
        raise ConfigError("batch_norm needs a mean and a variance", "training: batch_norm_training")
    slope = alg.rsqrt(spread + epsilon)
    slope = slope if factor is None else slope * factor
    start = -centre * slope if shift is None else shift - centre * slope
    out: Value = v * slope + start
    return out


@graph_function("batch_norm_training")
def batch_norm_training(
    x: Any, scale: Any, bias: Any, mean: Any, variance: Any, epsilon: float = 1e-5,
    momentum: float = 0.9,
) -> tuple[Value, Value, Value]:  # fmt: skip
    """x [n, c, ...] standardised over all axes but the channels, times scale plus bias; and the
    running averages of mean and variance, moved: old * momentum + of x * (1 - momentum)."""
    v = _with_channels(x, "batch_norm_training")
    axes = (0, *range(2, v.ndim))
    made = make(Standardize(axes, float(epsilon)), v)
    out = _affine(made, *(_channels(p, v, "batch_norm_training") for p in (scale, bias)))
    now = CALLS["mean"](v, axes), CALLS["var"](v, axes)
    moved = [old * momentum + new * (1 - momentum)
             for old, new in zip(promoted(mean, variance), now)]  # fmt: skip
    return out, moved[0], moved[1]


@graph_function("mean_variance_norm")
def mean_variance_norm(
    x: Any, axis: int | Sequence[int] = (0, 2, 3), epsilon: float = 1e-9
) -> Value:
    """(x - mean) / (standard deviation + epsilon) over `axis`; by default over all but the channels
    of images."""
    v = float_operand(x)
    axes = normal_axes(axis, v.ndim)
    centred = v - CALLS["mean"](v, axes, True)
    below = alg.sqrt(CALLS["mean"](centred * centred, axes, True)) + epsilon
    return centred / below  # type: ignore[no-any-return]


@graph_function("local_response_norm")
def local_response_norm(
    x: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0
) -> Value:
    """x [n, c, ...] / (bias + alpha / size * sum of squares over `size` neighbouring channels)
    ** beta."""
    v = _with_channels(x, "local_response_norm")
    if size < 1 or not math.isfinite(beta):
        raise ConfigError(f"local_response_norm: {size} channels to the power {beta}")
    return make(LocalResponseNorm(int(size), float(alpha), float(beta), float(bias)), v)
