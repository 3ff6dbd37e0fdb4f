"""Operators that read at places other tensors name."""

from __future__ import annotations

import numpy as np

from ....ir import Value
from ....ops import indexing, pointwise, shape
from ....ops.base import normal_axis
from ..call import Call
from ..registry import converter


@converter("Gather", halves=True)
def _gather(call: Call) -> Value:
    return indexing.gather(call.value(0), call.value(1), call.integer("axis", 0))


@converter("OneHot", halves=True)
def _one_hot(call: Call) -> Value:
    """Negative indices count from the end; those out of range give no hot element."""
    indices, values = call.value(0), call.value(2)
    size = call.single(1)
    if not np.isfinite(size):
        call.refuse(f"the depth is {size}")
    depth = int(size)
    axis = normal_axis(call.integer("axis", -1), indices.ndim + 1)
    at = pointwise.cast(indices, "int64")
    at = pointwise.where(at < 0, at + depth, at)
    hot = indexing.one_hot(at, depth, "bool")
    order = list(range(indices.ndim))
    order.insert(axis, indices.ndim)
    hot = shape.transpose(hot, order)
    return pointwise.where(hot, values[1], values[0])
