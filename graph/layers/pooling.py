"""Pooling layers over channels-first values: windows of [batch, channels, *spatial], or all of it.

`padding` is "valid", "same", a number, or a number or (before, after) per axis. Padded positions
never win a maximum and are not counted in an average. With `ceil_mode` positions left over at the
end get a window of what there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from ..ir import Value
from ..ops.adaptive import adaptive_average_pool, adaptive_max_pool
from ..ops.pooling import average_pool, max_pool
from ..ops.reduce import mean, reduce_max
from ..ops.windows import per_axis
from .base import LAYOUTS, Layer, require_rank


class _Pool(Layer):
    rank: ClassVar[int]

    def __init__(
        self, pool_size: int | Sequence[int] = 2, strides: int | Sequence[int] | None = None,
        padding: Any = "valid", ceil_mode: bool = False, name: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name)
        self.pool_size = per_axis(pool_size, self.rank, "pool_size")
        self.strides = per_axis(
            self.pool_size if strides is None else strides, self.rank, "strides"
        )
        self.padding, self.ceil_mode = padding, ceil_mode

    def build(self, *xs: Value) -> None:
        require_rank(xs[0], self.rank + 2, type(self).__name__, LAYOUTS[self.rank])


class _MaxPool(_Pool):
    def call(self, x: Value) -> Value:
        return max_pool(x, self.pool_size, self.strides, self.padding, 1, self.ceil_mode)


class _AveragePool(_Pool):
    def call(self, x: Value) -> Value:
        return average_pool(x, self.pool_size, self.strides, self.padding,
                            ceil_mode=self.ceil_mode)  # fmt: skip


class MaxPool1D(_MaxPool):
    """The largest element of each window of [batch, channels, length]; strides default to it."""

    rank = 1


class MaxPool2D(_MaxPool):
    """The largest element of each window of [batch, channels, height, width]."""

    rank = 2


class MaxPool3D(_MaxPool):
    """The largest element of each window of [batch, channels, depth, height, width]."""

    rank = 3


class AveragePool1D(_AveragePool):
    """The mean of each window of [batch, channels, length]."""

    rank = 1


class AveragePool2D(_AveragePool):
    """The mean of each window of [batch, channels, height, width]."""

    rank = 2


class AveragePool3D(_AveragePool):
    """The mean of each window of [batch, channels, depth, height, width]."""

    rank = 3


class _Global(Layer):
    rank: ClassVar[int]

    def __init__(self, keepdims: bool = False, name: str | None = None) -> None:
        super().__init__(name)
        self.keepdims = keepdims

    def build(self, *xs: Value) -> None:
        require_rank(xs[0], self.rank + 2, type(self).__name__, LAYOUTS[self.rank])

    def spatial(self) -> tuple[int, ...]:
        return tuple(range(2, self.rank + 2))


class _GlobalMax(_Global):
    def call(self, x: Value) -> Value:
        return reduce_max(x, self.spatial(), self.keepdims)


class _GlobalAverage(_Global):
    def call(self, x: Value) -> Value:
        return mean(x, self.spatial(), self.keepdims)


class GlobalMaxPool1D(_GlobalMax):
    """The largest element of each channel: [batch, channels, length] -> [batch, channels]."""

    rank = 1


class GlobalMaxPool2D(_GlobalMax):
    """The largest element of each channel: [batch, channels, h, w] -> [batch, channels]."""

    rank = 2


class GlobalAveragePool1D(_GlobalAverage):
    """The mean of each channel: [batch, channels, length] -> [batch, channels]."""

    rank = 1


class GlobalAveragePool2D(_GlobalAverage):
    """The mean of each channel: [batch, channels, h, w] -> [batch, channels]."""

    rank = 2


class GlobalMaxPool3D(_GlobalMax):
    """The largest element of each channel: [batch, channels, d, h, w] -> [batch, channels]."""

    rank = 3


class GlobalAveragePool3D(_GlobalAverage):
    """The mean of each channel: [batch, channels, d, h, w] -> [batch, channels]."""

    rank = 3


class _Adaptive(Layer):
    """`output_size` windows on every spatial axis of [batch, channels, *spatial]: a number, or one
    for each axis, None meaning the axis's own size."""

    def __init__(self, output_size: int | Sequence[int | None], name: str | None = None) -> None:
        super().__init__(name)
        self.output_size = output_size


class AdaptiveAveragePool(_Adaptive):
    """The means of `output_size` windows of [batch, channels, *spatial], whatever its sizes.

    Of n windows over d positions window i has those from floor(i * d / n) to ceil((i + 1) * d / n),
    as PyTorch's AdaptiveAvgPool1d, 2d and 3d.
    """

    def call(self, x: Value) -> Value:
        return adaptive_average_pool(x, self.output_size)


class AdaptiveMaxPool(_Adaptive):
    """The largest elements of windows as of `AdaptiveAveragePool`."""

    def call(self, x: Value) -> Value:
        return adaptive_max_pool(x, self.output_size)
