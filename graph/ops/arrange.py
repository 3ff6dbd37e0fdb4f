"""Values put together and taken apart, in terms of the ops that move elements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ...dims import Dim, total
from ...errors import ShapeError
from ..ir import Value
from .base import as_value, graph_function, make, normal_axes, normal_axis, promoted
from .shape import Slice, as_shape, broadcast_to, concat, expand_dims, reshape


@graph_function("split")
def split(x: Any, parts: int | Sequence[Any], axis: int = 0) -> tuple[Value, ...]:
    """x cut along `axis`: into `parts` equal parts, or into parts of the sizes given (sizes, not the
    places to cut at that NumPy's split takes)."""
    v = as_value(x)
    along = normal_axis(axis, v.ndim)
    size = v.shape[along]
    if isinstance(parts, int | np.integer):
        count = int(parts)
        if count < 1 or size % count != 0:
            raise ShapeError(f"axis {along} of {v.type} does not split into {count} equal parts")
        sizes: tuple[Dim, ...] = (size // count,) * count
    else:
        sizes = as_shape(parts)
        if total(sizes) != size or any(isinstance(n, int) and n < 0 for n in sizes):
            raise ShapeError(f"parts of sizes {sizes} do not make up axis {along} of {v.type}",
                             "sizes are wanted, not places to cut at")  # fmt: skip
    out: list[Value] = []
    start: Dim = 0
    for n in sizes:
        starts = tuple(start if k == along else 0 for k in range(v.ndim))
        shape = tuple(n if k == along else d for k, d in enumerate(v.shape))
        out.append(make(Slice(starts, shape, (1,) * v.ndim), v))
        start = start + n
    return tuple(out)


@graph_function("stack")
def stack(values: Iterable[Any], axis: int = 0) -> Value:
    """Values of one shape side by side along a new axis."""
    vs = promoted(*values)
    for v in vs:
        if v.shape != vs[0].shape:
            raise ShapeError(f"stack: shapes differ: {vs[0].type} and {v.type}")
    at = normal_axis(axis, vs[0].ndim + 1)
    return concat([expand_dims(v, at) for v in vs], at)


@graph_function("tile")
def tile(x: Any, repeats: Any) -> Value:
    """x repeated `repeats` times along each axis, as NumPy's tile."""
    v = as_value(x)
    times = as_shape(repeats)
    if any(isinstance(n, int) and n < 0 for n in times):
        raise ShapeError(f"tile: repeats {times} are negative")
    times = (1,) * (v.ndim - len(times)) + times
    shape = (1,) * (len(times) - v.ndim) + v.shape
    apart = tuple(d for n, s in zip(times, shape) for d in (1, s))
    wide = tuple(d for n, s in zip(times, shape) for d in (n, s))
    together = tuple(s * n for n, s in zip(times, shape))
    if all(n == 1 for n in times):
        return reshape(v, shape)
    return reshape(broadcast_to(reshape(v, apart), wide), together)


@graph_function("flip")
def flip(x: Any, axis: int | Sequence[int] | None = None) -> Value:
    """x with the order of its elements along `axis` (None: every axis) reversed."""
    v = as_value(x)
    axes = normal_axes(axis, v.ndim)
    starts = tuple(d - 1 if k in axes else 0 for k, d in enumerate(v.shape))
    steps = tuple(-1 if k in axes else 1 for k in range(v.ndim))
    return make(Slice(starts, v.shape, steps), v) if axes else v
