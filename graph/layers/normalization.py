"""Learnable layers that bring values to mean 0 and variance 1, over a batch, a layer, or groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ... import algorithm as alg
from ...errors import ConfigError
from ..ir import Value
from ..ops.normalization import group_norm, layer_norm, rms_norm
from ..ops.reduce import mean
from ..ops.shape import reshape
from ..state import token
from . import mode
from .base import Layer, float_dtype, known


class BatchNorm(Layer):
    """Normalises each channel over the batch, then scales by gamma and shifts by beta.

    Training form: the batch's own mean and (biased) variance are used, and whatever run computes
    the result also moves the averages: `moving = momentum * moving + (1 - momentum) * batch`.
    Inference form: the moving averages are used. The averages are variables that `minimize` does
    not touch. Called several times in one run, the averages move once for each call, in order.
    Ioffe and Szegedy 2015; arguments and defaults are Keras's, but `axis` is 1, the channels.
    """

    def __init__(
        self, axis: int = 1, momentum: float = 0.99, epsilon: float = 1e-3, center: bool = True,
        scale: bool = True, beta_initializer: Any = "zeros", gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros", moving_variance_initializer: Any = "ones",
        name: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name)
        if not 0 <= momentum <= 1:
            raise ConfigError(f"momentum must be in [0, 1], it is {momentum}")
        if not epsilon > 0:
            raise ConfigError(f"epsilon must be positive, it is {epsilon}")
        self.axis, self.momentum, self.epsilon = axis, momentum, epsilon
        self.center, self.scale = center, scale
        self.initializers = {
            "gamma": gamma_initializer, "beta": beta_initializer,
            "moving_mean": moving_mean_initializer,
            "moving_variance": moving_variance_initializer,
        }  # fmt: skip

    def build(self, *xs: Value) -> None:
        channels = known(xs[0], self.axis, "BatchNorm")
        for name, initializer in self.initializers.items():
            if (name != "gamma" or self.scale) and (name != "beta" or self.center):
                moving = name.startswith("moving")
                self.weight(name, (channels,), initializer, float_dtype(xs[0]), not moving)
        if self.graph is not None:
            self.graph.chained.update((self.weights["moving_mean"],
                                       self.weights["moving_variance"]))  # fmt: skip

    def call(self, x: Value) -> Value:
        axis = self.axis % x.ndim
        per_channel = tuple(-1 if a == axis else 1 for a in range(x.ndim))
        others = tuple(a for a in range(x.ndim) if a != axis)
        moving_mean, moving_variance = self.weights["moving_mean"], self.weights["moving_variance"]
        if not mode.is_training():
            centre, variance = moving_mean, moving_variance
        else:
            centre = mean(x, others)
            centred = x - reshape(centre, per_channel)
            variance = mean(centred * centred, others)
        factor = alg.rsqrt(variance + self.epsilon)
        if self.scale:
            factor = factor * self.weights["gamma"]
        if mode.is_training():
            out = centred * reshape(factor, per_channel)
            if self.center:
                out = out + reshape(self.weights["beta"], per_channel)
            return self._moving(out, ((moving_mean, centre), (moving_variance, variance)))
        shift = -centre * factor
        if self.center:
            shift = shift + self.weights["beta"]
        return x * reshape(factor, per_channel) + reshape(shift, per_channel)

    def _moving(self, out: Value, batch: Sequence[tuple[Value, Value]]) -> Value:
        updates = [(moving, moving * self.momentum + now * (1 - self.momentum))
                   for moving, now in batch]  # fmt: skip
        return token(out, f"{self.path}/moving", updates)


class LayerNorm(Layer):
    """Normalises each example over `axis` (one or several), then scales and shifts.

    [..., features] keeps its shape; gamma and beta have the sizes of the axes. Ba et al. 2016;
    arguments and defaults are Keras's.
    """

    def __init__(
        self, axis: int | Sequence[int] = -1, epsilon: float = 1e-3, center: bool = True,
        scale: bool = True, beta_initializer: Any = "zeros", gamma_initializer: Any = "ones",
        name: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name)
        if not epsilon > 0:
            raise ConfigError(f"epsilon must be positive, it is {epsilon}")
        self.axes = (axis,) if isinstance(axis, int) else tuple(axis)
        if not self.axes:
            raise ConfigError("LayerNorm needs an axis to normalise over")
        self.epsilon, self.center, self.scale = epsilon, center, scale
        self.gamma_initializer, self.beta_initializer = gamma_initializer, beta_initializer

    def build(self, *xs: Value) -> None:
        (x,) = xs
        sizes = {a % x.ndim: known(x, a, "LayerNorm") for a in self.axes}
        shape = tuple(sizes.get(a, 1) for a in range(min(sizes), x.ndim))
        if self.scale:
            self.weight("gamma", shape, self.gamma_initializer, float_dtype(x))
        if self.center:
            self.weight("beta", shape, self.beta_initializer, float_dtype(x))

    def call(self, x: Value) -> Value:
        return layer_norm(x, self.weights.get("gamma"), self.weights.get("beta"), self.axes,
                          self.epsilon)  # fmt: skip


class RMSNorm(Layer):
    """Divides each example by the root of the mean of its squares over `axis` (one or several), then
    scales. [..., features] keeps its shape; gamma has the sizes of the axes. Zhang and Sennrich
    2019; arguments and defaults are Keras's.
    """

    def __init__(
        self, axis: int | Sequence[int] = -1, epsilon: float = 1e-6, gamma_initializer: Any = "ones",
        name: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name)
        if not epsilon > 0:
            raise ConfigError(f"epsilon must be positive, it is {epsilon}")
        self.axes = (axis,) if isinstance(axis, int) else tuple(axis)
        self.epsilon, self.gamma_initializer = epsilon, gamma_initializer

    def build(self, *xs: Value) -> None:
        (x,) = xs
        sizes = {a % x.ndim: known(x, a, "RMSNorm") for a in self.axes}
        shape = tuple(sizes.get(a, 1) for a in range(min(sizes), x.ndim))
        self.weight("gamma", shape, self.gamma_initializer, float_dtype(x))

    def call(self, x: Value) -> Value:
        return rms_norm(x, self.weights["gamma"], self.axes, self.epsilon)


class GroupNorm(Layer):
    """Normalises each of `groups` groups of neighbouring channels of each example [batch, channels,
    ...], then scales and shifts every channel (Wu and He 2018). One group normalises all channels
    together, as many as there are channels each by itself; -1 means that. Arguments and defaults
    are Keras's.
    """

    def __init__(
        self, groups: int = 32, epsilon: float = 1e-3, center: bool = True, scale: bool = True,
        beta_initializer: Any = "zeros", gamma_initializer: Any = "ones", name: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name)
        if not epsilon > 0:
            raise ConfigError(f"epsilon must be positive, it is {epsilon}")
        self.groups, self.epsilon, self.center, self.scale = groups, epsilon, center, scale
        self.gamma_initializer, self.beta_initializer = gamma_initializer, beta_initializer

    def build(self, *xs: Value) -> None:
        channels = known(xs[0], 1, type(self).__name__)
        if self.scale:
            self.weight("gamma", (channels,), self.gamma_initializer, float_dtype(xs[0]))
        if self.center:
            self.weight("beta", (channels,), self.beta_initializer, float_dtype(xs[0]))

    def call(self, x: Value) -> Value:
        groups = known(x, 1, type(self).__name__) if self.groups == -1 else self.groups
        return group_norm(x, groups, self.weights.get("gamma"), self.weights.get("beta"),
                          self.epsilon)  # fmt: skip


class InstanceNorm(GroupNorm):
    """Normalises every channel of each example [batch, channels, *spatial] by itself, then scales
    and shifts it (Ulyanov et al. 2016)."""

    def __init__(
        self, epsilon: float = 1e-3, center: bool = True, scale: bool = True,
        beta_initializer: Any = "zeros", gamma_initializer: Any = "ones", name: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(-1, epsilon, center, scale, beta_initializer, gamma_initializer, name)
