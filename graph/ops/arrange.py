"""Values put together and taken apart, in terms of the ops that move elements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ...dims import Dim, bounds, total
from ...errors import ConfigError, ShapeError
from ..ir import CALLS, Value
from .base import as_value, graph_function, make, normal_axes, normal_axis, promoted
from .shape import Slice, as_shape, broadcast_to, concat, expand_dims, reshape, transpose


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


@graph_function("depth_to_space")
def depth_to_space(x: Any, block: int, mode: str = "DCR") -> Value:
    """[n, c, h, w] -> [n, c / block**2, h * block, w * block], blocks of pixels out of channels.

    The channels are (block row, block column, channel) with `mode` "DCR", depth first, and
    (channel, block row, block column) with "CRD", which PyTorch calls pixel_shuffle.
    """
    v, n = _image(x, block, "depth_to_space"), int(block)
    batch, channels, h, w = v.shape
    if isinstance(channels, int) and channels % (n * n):
        raise ShapeError(f"depth_to_space: {channels} channels of {v.type} do not divide into "
                         f"blocks of {n} x {n}")  # fmt: skip
    depth = channels // (n * n)
    if mode == "DCR":
        apart, order = reshape(v, (batch, n, n, depth, h, w)), (0, 3, 4, 1, 5, 2)
    elif mode == "CRD":
        apart, order = reshape(v, (batch, depth, n, n, h, w)), (0, 1, 4, 2, 5, 3)
    else:
        raise ConfigError(f'depth_to_space: mode must be "DCR" or "CRD", not {mode!r}')
    return reshape(transpose(apart, order), (batch, depth, h * n, w * n))


@graph_function("space_to_depth")
def space_to_depth(x: Any, block: int) -> Value:
    """[n, c, h, w] -> [n, block**2 * c, h / block, w / block]: every block of pixels becomes
    channels, in the order (block row, block column, channel)."""
    v, n = _image(x, block, "space_to_depth"), int(block)
    batch, channels, h, w = v.shape
    if any(isinstance(d, int) and d % n for d in (h, w)):
        raise ShapeError(f"space_to_depth: {v.type} does not divide into blocks of {n} x {n}")
    apart = reshape(v, (batch, channels, h // n, n, w // n, n))
    return reshape(transpose(apart, (0, 3, 5, 1, 2, 4)),
                   (batch, channels * (n * n), h // n, w // n))  # fmt: skip


def _image(x: Any, block: int, what: str) -> Value:
    v = as_value(x)
    if v.ndim != 4:
        raise ShapeError(f"{what}: values are [batch, channels, height, width], not {v.type}")
    if block < 1:
        raise ConfigError(f"{what}: the block must be positive, not {block}")
    return v


@graph_function("channel_shuffle")
def channel_shuffle(x: Any, groups: int) -> Value:
    """[n, c, ...] with its channels dealt out anew: the first of every group, the second of every
    group, ... (Zhang et al. 2018, ShuffleNet)."""
    v = as_value(x)
    if v.ndim < 2 or groups < 1 or (isinstance(v.shape[1], int) and v.shape[1] % groups):
        raise ShapeError(f"channel_shuffle: {v.type} has no channels that make {groups} groups")
    batch, channels, *spatial = v.shape
    apart = reshape(v, (batch, groups, channels // groups, *spatial))
    return reshape(transpose(apart, (0, 2, 1, *range(3, v.ndim + 1))), v.shape)


@graph_function("tril")
def tril(x: Any, k: Any = 0) -> Value:
    """x [..., m, n] with zeros above its k-th diagonal; k is a number or a scalar value."""
    return _triangle(x, k, upper=False)


@graph_function("triu")
def triu(x: Any, k: Any = 0) -> Value:
    """x [..., m, n] with zeros below its k-th diagonal; k is a number or a scalar value."""
    return _triangle(x, k, upper=True)


def _triangle(x: Any, k: Any, upper: bool) -> Value:
    v = as_value(x)
    if v.ndim < 2:
        raise ShapeError(f"a triangle needs two axes or more, the value is {v.type}")
    m, n = v.shape[-2:]
    iota, owner = CALLS["iota"], v.node.owner
    diagonal = iota((1, n), 1, owner=owner) - iota((m, 1), 0, owner=owner)
    kept = diagonal >= k if upper else diagonal <= k
    none = CALLS["full"]((), 0, v.dtype, owner)
    return CALLS["where"](kept, v, none)  # type: ignore[no-any-return]


@graph_function("compress")
def compress(x: Any, condition: Any, axis: int | None = None) -> Value:
    """The slices of x along `axis` (None: the elements of x in order) where `condition` holds; slices
    it says nothing of are left out, as in NumPy. It is bools, or a vector that a run computes: how
    many slices there are is then a dimension of its own, called `compress`."""
    v = as_value(x)
    if axis is None:
        v, axis = reshape(v, (-1,)), 0
    at = normal_axis(axis, v.ndim)
    if isinstance(condition, Value):
        if condition.ndim != 1 or (bounds(v.shape[at] - condition.shape[0])[1] or 0) < 0:
            raise ShapeError(
                f"compress: {condition.type} is no condition for axis {at} of {v.type}"
            )
        places = CALLS["nonzero"](condition, "compress")
        return CALLS["gather"](v, places[0], at)  # type: ignore[no-any-return]
    chosen = np.flatnonzero(np.asarray(condition, bool))
    size = v.shape[at]
    if chosen.size and isinstance(size, int) and chosen[-1] >= size:
        raise ShapeError(f"compress: the condition chooses place {chosen[-1]} of axis {at} of "
                         f"{v.type}")  # fmt: skip
    return CALLS["gather"](v, chosen.astype(np.int64), at)  # type: ignore[no-any-return]


@graph_function("center_crop_pad")
def center_crop_pad(x: Any, shape: Sequence[int], axes: Sequence[int] | None = None) -> Value:
    """x brought to the sizes `shape` on `axes` (None: all): the middle of what is too long, zeros
    around what is too short. An odd one is cut, or added, at the end."""
    v = as_value(x)
    chosen = range(v.ndim) if axes is None else [normal_axis(a, v.ndim) for a in axes]
    if len(chosen) != len(shape) or len(set(chosen)) != len(chosen):
        raise ShapeError(f"center_crop_pad: {len(shape)} sizes for axes {axes} of {v.type}")
    before, after = [0] * v.ndim, [0] * v.ndim
    for k, size in zip(chosen, shape):
        old = v.shape[k]
        if not isinstance(old, int):
            raise ShapeError(f"center_crop_pad: axis {k} of {v.type} must be a number")
        more = int(size) - old
        before[k] = more // 2 if more >= 0 else -(-more // 2)
        after[k] = more - before[k]
    return CALLS["pad"](v, before, after)  # type: ignore[no-any-return]
