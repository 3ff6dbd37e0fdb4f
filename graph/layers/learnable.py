"""Learnable layers: dense and convolution, embedding, dropout.

A value comes in, and goes out with the same batch dimension. Variables take the operand's dtype.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from ...errors import ConfigError, DTypeError
from ..ir import Value
from ..ops.convolution import conv
from ..ops.effects import check
from ..ops.indexing import gather
from ..ops.linalg import matmul
from ..ops.random import dropout
from ..ops.shape import reshape
from ..ops.transposed import conv_transpose
from ..ops.windows import per_axis
from . import mode
from .activation import ActivationLike
from .activation import get as get_activation
from .base import LAYOUTS, Layer, float_dtype, known, require_rank

Padding: TypeAlias = "str | int | Sequence[int | tuple[int, int]]"


class Dense(Layer):
    """`activation(x @ kernel + bias)`: [..., in] -> [..., units]; kernel is [in, units]."""

    def __init__(
        self, units: int, activation: ActivationLike = None, use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform", bias_initializer: Any = "zeros",
        name: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name)
        (self.units,) = per_axis(units, 1, "units")
        self.activation, self.use_bias = get_activation(activation), use_bias
        self.kernel_initializer, self.bias_initializer = kernel_initializer, bias_initializer

    def build(self, *xs: Value) -> None:
        size = known(xs[0], -1, "Dense")
        dtype = float_dtype(xs[0])
        self.weight("kernel", (size, self.units), self.kernel_initializer, dtype)
        if self.use_bias:
            self.weight("bias", (self.units,), self.bias_initializer, dtype)

    def call(self, x: Value) -> Value:
        out = matmul(x, self.weights["kernel"])
        return self.activation(out + self.weights["bias"] if self.use_bias else out)


class _Conv(Layer):
    """What the convolutions share; `rank` window axes after batch and channels."""

    rank: int

    def __init__(
        self, filters: int | None, kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1, padding: Padding = "valid",
        dilation_rate: int | Sequence[int] = 1, groups: int = 1,
        activation: ActivationLike = None, use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform", bias_initializer: Any = "zeros",
        name: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name)
        self.filters = filters if filters is None else per_axis(filters, 1, "filters")[0]
        self.kernel_size = per_axis(kernel_size, self.rank, "kernel_size")
        self.strides = per_axis(strides, self.rank, "strides")
        self.dilation_rate = per_axis(dilation_rate, self.rank, "dilation_rate")
        self.padding, self.groups = padding, per_axis(groups, 1, "groups")[0]
        self.activation, self.use_bias = get_activation(activation), use_bias
        self.kernel_initializer, self.bias_initializer = kernel_initializer, bias_initializer

    def sizes(self, channels: int) -> tuple[int, int]:
        """(output channels, groups) for so many input channels."""
        if self.filters is None:
            raise ConfigError(f"{type(self).__name__} needs filters")
        if channels % self.groups or self.filters % self.groups:
            raise ConfigError(f"{self.groups} groups do not divide {channels} input channels and "
                              f"{self.filters} filters")  # fmt: skip
        return self.filters, self.groups

    def build(self, *xs: Value) -> None:
        (x,) = xs
        require_rank(x, self.rank + 2, type(self).__name__, LAYOUTS[self.rank])
        channels = known(x, 1, type(self).__name__)
        filters, groups = self.sizes(channels)
        shape = (*self.matrix(channels, filters, groups), *self.kernel_size)
        self.weight("kernel", shape, self.kernel_initializer, float_dtype(x))
        if self.use_bias:
            self.weight("bias", (filters,), self.bias_initializer, float_dtype(x))

    def matrix(self, channels: int, filters: int, groups: int) -> tuple[int, int]:
        """The first two sizes of the kernel."""
        return filters, channels // groups

    def call(self, x: Value) -> Value:
        out = self.convolved(x, self.sizes(known(x, 1, type(self).__name__))[1])
        if self.use_bias:
            out = out + reshape(self.weights["bias"], (-1, *[1] * self.rank))
        return self.activation(out)

    def convolved(self, x: Value, groups: int) -> Value:
        """x and the kernel, without the bias."""
        return conv(x, self.weights["kernel"], self.strides, self.padding, self.dilation_rate,
                    groups)  # fmt: skip


class Conv1D(_Conv):
    """Convolution of [batch, channels, length]; kernel is [filters, channels / groups, size]."""

    rank = 1


class Conv2D(_Conv):
    """Convolution of [batch, channels, height, width].

    The kernel is [filters, channels / groups, height, width]; `padding` is "valid", "same", a
    number, or a number or (before, after) for each axis.
    """

    rank = 2


class Conv3D(_Conv):
    """Convolution of [batch, channels, depth, height, width]; kernel is [filters,
    channels / groups, depth, height, width]."""

    rank = 3


class _ConvTranspose(_Conv):
    """What the transposed convolutions share: kernel is [channels, filters / groups, *window]."""

    def __init__(
        self, filters: int, kernel_size: int | Sequence[int], strides: int | Sequence[int] = 1,
        padding: Padding = "valid", output_padding: int | Sequence[int] = 0,
        dilation_rate: int | Sequence[int] = 1, groups: int = 1,
        activation: ActivationLike = None, use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform", bias_initializer: Any = "zeros",
        name: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            filters, kernel_size, strides, padding, dilation_rate, groups, activation, use_bias,
            kernel_initializer, bias_initializer, name,
        )  # fmt: skip
        self.output_padding = output_padding

    def matrix(self, channels: int, filters: int, groups: int) -> tuple[int, int]:
        return channels, filters // groups

    def convolved(self, x: Value, groups: int) -> Value:
        return conv_transpose(x, self.weights["kernel"], self.strides, self.padding,
                              self.output_padding, self.dilation_rate, groups)  # fmt: skip


class Conv1DTranspose(_ConvTranspose):
    """Transposed convolution of [batch, channels, length]: every element times the kernel, added up
    `strides` apart. Lengths become `length * strides` with padding "same", else
    `(length - 1) * strides + span of the kernel - padding + output_padding`."""

    rank = 1


class Conv2DTranspose(_ConvTranspose):
    """Transposed convolution of [batch, channels, height, width]; see `Conv1DTranspose`."""

    rank = 2


class Conv3DTranspose(_ConvTranspose):
    """Transposed convolution of [batch, channels, depth, height, width]; see `Conv1DTranspose`."""

    rank = 3


class DepthwiseConv2D(_Conv):
    """A convolution of every channel by itself, `depth_multiplier` filters each.

    The kernel is [channels * depth_multiplier, 1, height, width]; output channel
    `c * depth_multiplier + k` comes from input channel c.
    """

    rank = 2

    def __init__(
        self, kernel_size: int | Sequence[int], strides: int | Sequence[int] = 1,
        padding: Padding = "valid", depth_multiplier: int = 1,
        dilation_rate: int | Sequence[int] = 1, activation: ActivationLike = None,
        use_bias: bool = True, kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros", name: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            None, kernel_size, strides, padding, dilation_rate, 1, activation, use_bias,
            kernel_initializer, bias_initializer, name,
        )  # fmt: skip
        (self.depth_multiplier,) = per_axis(depth_multiplier, 1, "depth_multiplier")

    def sizes(self, channels: int) -> tuple[int, int]:
        return channels * self.depth_multiplier, channels


class Embedding(Layer):
    """Rows of a table: integer ids [...] -> [..., output_dim].

    An id outside 0..input_dim-1 fails the run with a RunError.
    """

    def __init__(
        self, input_dim: int, output_dim: int, embeddings_initializer: Any = "uniform",
        name: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name)
        self.input_dim, self.output_dim = (
            per_axis(input_dim, 1, "input_dim")[0], per_axis(output_dim, 1, "output_dim")[0],
        )  # fmt: skip
        self.embeddings_initializer = embeddings_initializer

    def build(self, *xs: Value) -> None:
        if not xs[0].dtype.is_integer:
            raise DTypeError(f"Embedding wants integer ids, it was given {xs[0].type}")
        self.weight("embeddings", (self.input_dim, self.output_dim), self.embeddings_initializer,
                    float_dtype(xs[0]))  # fmt: skip

    def call(self, ids: Value) -> Value:
        if ids.dtype.kind == "i":  # gather would count them from the end
            ids = check(ids, ids >= 0, f"{self.path}: an id is negative")
        return gather(self.weights["embeddings"], ids, axis=0)


class Dropout(Layer):
    """In training, zeroes a fraction `rate` of the elements and scales the rest by 1/(1 - rate).

    In inference it is x itself. Every call draws anew, every run too.
    """

    def __init__(self, rate: float, name: str | None = None) -> None:
        super().__init__(name)
        if not isinstance(rate, int | float) or not 0 <= rate < 1:
            raise ConfigError(f"rate must be in [0, 1), it is {rate!r}")
        self.rate = rate

    def call(self, x: Value) -> Value:
        if not mode.is_training() or self.rate == 0:
            return x
        return dropout(x, self.rate)
