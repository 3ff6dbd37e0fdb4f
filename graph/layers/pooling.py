"""Pooling layers over channels-first values: windows of [batch, channels, *spatial], or all of it.

`padding` is "valid", "same", a number, or a number or (before, after) per axis. Padded positions
never win a maximum and are not counted in an average.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from ..ir import Value
from ..ops.pooling import average_pool, max_pool
from ..ops.reduce import mean, reduce_max
from ..ops.windows import per_axis
from .base import Layer, require_rank

_LAYOUTS = {1: "[batch, channels, length]", 2: "[batch, channels, height, width]"}


class _Pool(Layer):
    rank: ClassVar[int]

    def __init__(
        self, pool_size: int | Sequence[int] = 2, strides: int | Sequence[int] | None = None,
        padding: Any = "valid", name: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name)
        self.pool_size = per_axis(pool_size, self.rank, "pool_size")
        self.strides = per_axis(
            self.pool_size if strides is None else strides, self.rank, "strides"
        )
        self.padding = padding

    def build(self, *xs: Value) -> None:
        require_rank(xs[0], self.rank + 2, type(self).__name__, _LAYOUTS[self.rank])


class _MaxPool(_Pool):
    def call(self, x: Value) -> Value:
        return max_pool(x, self.pool_size, self.strides, self.padding)


class _AveragePool(_Pool):
    def call(self, x: Value) -> Value:
        return average_pool(x, self.pool_size, self.strides, self.padding)


class MaxPool1D(_MaxPool):
    """The largest element of each window of [batch, channels, length]; strides default to it."""

    rank = 1


class MaxPool2D(_MaxPool):
    """The largest element of each window of [batch, channels, height, width]."""

    rank = 2


class AveragePool1D(_AveragePool):
    """The mean of each window of [batch, channels, length]."""

    rank = 1


class AveragePool2D(_AveragePool):
    """The mean of each window of [batch, channels, height, width]."""

    rank = 2


class _Global(Layer):
    rank: ClassVar[int]

    def __init__(self, keepdims: bool = False, name: str | None = None) -> None:
        super().__init__(name)
        self.keepdims = keepdims

    def build(self, *xs: Value) -> None:
        require_rank(xs[0], self.rank + 2, type(self).__name__, _LAYOUTS[self.rank])

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
