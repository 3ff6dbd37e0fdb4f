"""Input layers: where data enters, and bringing it to mean 0 and variance 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...dtypes import Array, float32
from ...errors import ConfigError, GraphError, ShapeError
from ..definition import input as graph_input
from ..ir import Value
from ..ops.base import as_value, normal_axis
from .base import Layer, float_dtype

_SMALLEST_STD = 1e-7  # Keras's: a constant feature stays finite


def Input(name: str, shape: Any, dtype: Any = float32) -> Value:  # noqa: N802 - Keras's name
    """A value fed at each run; the same as `fm.input`. The shape includes the batch dimension."""
    return graph_input(name, shape, dtype)


class Normalization(Layer):
    """`(x - mean) / sqrt(variance)` for each position along `axis`.

    Give `mean` and `variance` as numbers or arrays with one entry per position of `axis` (None:
    single numbers), or measure them on data with `adapt`, before the first call. They become
    constants of the graph. `axis` is 1, the channels.
    """

    def __init__(
        self, mean: Any = None, variance: Any = None, axis: int | None = 1, name: str | None = None
    ) -> None:
        super().__init__(name)
        if (mean is None) != (variance is None):
            raise ConfigError("Normalization wants mean and variance together, or neither")
        self.axis = axis
        self.mean = None if mean is None else np.asarray(mean, np.float64)
        self.variance = None if variance is None else np.asarray(variance, np.float64)
        if self.variance is not None and not (self.variance >= 0).all():
            raise ConfigError("Normalization: a variance is negative or NaN")

    def adapt(self, data: Array | Sequence[Any]) -> Normalization:
        """Takes mean and variance from `data`, shaped as what the layer will be called on."""
        if self.graph is not None:
            raise GraphError(f'layer "{self.path}" was called already',
                             "adapt it before its first call")  # fmt: skip
        array = np.asarray(data, np.float64)
        if array.size == 0 or not np.isfinite(array).all():
            raise ConfigError("Normalization.adapt: the data is empty, or not finite throughout")
        axis = None if self.axis is None else normal_axis(self.axis, array.ndim)
        others = tuple(a for a in range(array.ndim) if a != axis)
        self.mean, self.variance = array.mean(others), array.var(others)
        return self

    def call(self, x: Value) -> Value:
        if self.mean is None or self.variance is None:
            raise GraphError("Normalization knows no mean and variance yet",
                             "give them, or call adapt(data) first")  # fmt: skip
        dtype = float_dtype(x).numpy
        shape = [1] * x.ndim
        if self.axis is not None and self.mean.ndim:
            axis = normal_axis(self.axis, x.ndim)
            shape[axis] = self.mean.size
            if x.shape[axis] != self.mean.size:
                raise ShapeError(f"Normalization has {self.mean.size} means for axis {axis} of "
                                 f"{x.type}")  # fmt: skip
        scale = 1 / np.maximum(np.sqrt(self.variance), _SMALLEST_STD)
        mean = self.mean.astype(dtype)
        scaled = scale.astype(dtype)
        if self.mean.ndim:
            mean, scaled = mean.reshape(shape), scaled.reshape(shape)
        return (x - as_value(mean, x)) * as_value(scaled, x)
