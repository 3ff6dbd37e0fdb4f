"""Pooling over windows of spatial axes; values are [batch, channels, *spatial].

Gradients gather: every input position asks the windows that read it, so that each result is
written once and sums have one order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product as every
from math import prod
from typing import Any

import numpy as np

from ... import algorithm as alg
from ...algorithm import Compute, Const, Expr, Index, IndexLike, axis, extreme
from ...dims import Dim, maximum, minimum, product, show
from ...dtypes import Array, DType, float32, int32, int64, uint8
from ...errors import DTypeError, ShapeError
from ..ir import CALLS, Shape, TensorType, Value
from .base import Operand, as_value, graph_function, make, sample
from .shape import as_shape
from .windows import Windowed, both, ceil_padding, concrete, per_axis, resolve_padding

_HALF: dict[str, Any] = {"strides": (2, 2), "pads_before": (0, 0), "pads_after": (0, 0),
                         "dilations": (1, 1), "window": (2, 2)}  # fmt: skip
_OVERLAP: dict[str, Any] = {"strides": (2, 1), "pads_before": (1, 0), "pads_after": (1, 2),
                            "dilations": (1, 1), "window": (3, 3)}  # fmt: skip
_DILATED: dict[str, Any] = {**_OVERLAP, "dilations": (1, 2)}
_LINE: dict[str, Any] = {"strides": (3,), "pads_before": (0,), "pads_after": (0,),
                         "dilations": (1,), "window": (2,)}  # fmt: skip
_GEOMETRIES: tuple[tuple[tuple[int, ...], dict[str, Any], tuple[int, ...]], ...] = (
    ((2, 3, 6, 8), _HALF, (3, 4)), ((2, 2, 7, 9), _HALF, (3, 4)), ((1, 2, 7, 6), _OVERLAP, (4, 6)),
    ((1, 2, 7, 6), _DILATED, (4, 4)), ((2, 3, 17), _LINE, (6,)), ((0, 2, 4, 4), _HALF, (2, 2)),
)  # fmt: skip


@dataclass(frozen=True)
class Pooling(Windowed, abstract=True):
    """Windows of `window` taps. Padding is narrower than a window, so that none is all padding."""

    window: tuple[int, ...]

    def positions(self, x: TensorType) -> TensorType:
        """x's type with window positions for spatial axes."""
        if not x.dtype.computes or x.dtype.kind == "b":
            raise DTypeError(f"not defined for {x.dtype}", "cast to float32 first")
        if x.ndim != len(self.window) + 2:
            raise ShapeError(f"a window {self.window} is for values with {len(self.window) + 2} "
                             f"axes, not for {x}")  # fmt: skip
        out = self.out_spatial(x.shape[2:], self.window)
        spans = self.covered(self.window) * 2
        for pad, span in zip((*self.pads_before, *self.pads_after), spans):
            if isinstance(pad, int) and pad >= span:
                raise ShapeError(f"padding {pad} is as wide as the window, which covers {span}: "
                                 "some windows would see nothing else")  # fmt: skip
        return TensorType(x.dtype, (*x.shape[:2], *out))

    def spread(self, g: TensorType, spatial: Shape) -> TensorType:
        """The type `positions` turns into g, which has the spatial axes `spatial`."""
        x = TensorType(g.dtype, (*g.shape[:2], *spatial))
        if self.positions(x).shape != g.shape:
            raise ShapeError(f"{g} does not have the positions of windows over "
                             f"[{','.join(show(d) for d in spatial)}]")  # fmt: skip
        return x

    def windows_ref(self, x: Array, fill: float) -> Array:
        """For references: [batch, channels, *positions, taps of the window in one axis]."""
        return self.taps_ref(self.pad_ref(x, fill))

    def taps_ref(self, padded: Array) -> Array:
        """For references: `windows_ref` of values that are padded already."""
        spatial = tuple(range(2, 2 + self.rank))
        view: Array = np.lib.stride_tricks.sliding_window_view(
            padded, self.covered(self.window), spatial
        )
        view = view[(slice(None), slice(None), *(slice(None, None, s) for s in self.strides),
                     *(slice(None, None, d) for d in self.dilations))]  # fmt: skip
        return view.reshape(*view.shape[: 2 + self.rank], prod(self.window))

    def spread_ref(self, taps: Array, spatial: Shape) -> Array:
        """For references: what `windows_ref` took apart, added up at its place."""
        before, size = concrete(self.pads_before), concrete(spatial)
        padded = self.pad_ref(np.zeros((*taps.shape[:2], *size), taps.dtype))
        for k, tap in enumerate(every(*(range(n) for n in self.window))):
            padded[self.tap_slice(tap, taps.shape[2:-1])] += taps[..., k]
        inside: Any = (..., *(slice(b, b + n) for b, n in zip(before, size)))
        return np.asarray(padded[inside])

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return out.size * prod(self.window)


def _lowest(dtype: DType) -> Const:
    return Const(extreme(dtype, -1), dtype)


@dataclass(frozen=True)
class MaxPool(Pooling):
    """The largest element of every window; NaN wins, padding never. The gradient goes to the first
    largest one in row-major order of the window."""

    arity = 1
    onnx = "MaxPool"
    samples = (*(sample(shape, **geometry) for shape, geometry, _ in _GEOMETRIES),
               sample((1, 1, 6, 6), special=(float("nan"), -float("inf")), gradient=False,
                      **_OVERLAP),
               sample((1, 2, 7, 6), dtypes=("int32",), low=-9, high=9, **_OVERLAP))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        return self.positions(types[0])

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        (x,) = xs
        n, c, *at = axes = tuple(axis(d) for d in out.shape)
        taps = tuple(axis(k, "k") for k in self.window)
        where, mask = self.read(at, [t.index for t in taps], self.window, x.shape[2:])
        value = x.at([n.index, c.index, *where], mask)
        if mask is not None:
            value = alg.where(mask, value, _lowest(x.dtype))
        return Compute(axes, taps, "max", value)

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        (x,) = xs
        index = make(MaxPoolIndex(**_geometry(self)), x)
        index = CALLS["cast"](index, uint8 if prod(self.window) <= 256 else int32)
        return (make(MaxPoolGrad(**_geometry(self), spatial=x.shape[2:]), index, g),)

    def ref(self, *xs: Array) -> Array:
        return np.asarray(self.windows_ref(xs[0], _least(xs[0].dtype)).max(-1))


@dataclass(frozen=True)
class MaxPoolIndex(Pooling):
    """Which tap of every window, counted row-major, is its first largest element (or first NaN),
    int64. Of a window of nothing but -inf and padding it may be a tap in the padding."""

    arity = 1
    differentiable = False
    samples = MaxPool.samples

    def infer(self, *types: TensorType) -> TensorType:
        return TensorType(int64, self.positions(types[0]).shape)

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        (x,) = xs
        n, c, *at = axes = tuple(axis(d) for d in out.shape)
        k = axis(prod(self.window), "k")
        where, mask = self.read(at, _unravel(k.index, self.window), self.window, x.shape[2:])
        value = x.at([n.index, c.index, *where], mask)
        if mask is not None:
            value = alg.where(mask, value, _lowest(x.dtype))
        return Compute(axes, (k,), "argmax", value)

    def ref(self, *xs: Array) -> Array:
        fill = _least(xs[0].dtype)
        return np.asarray(self.windows_ref(xs[0], fill).argmax(-1), np.int64)


def _least(dtype: np.dtype[Any]) -> float:
    """For references: a value that no element of `dtype` lies below."""
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min


def _unravel(flat: Dim, window: Sequence[int]) -> list[Dim]:
    """Taps on every axis of the row-major tap `flat`."""
    out: list[Dim] = []
    for k, n in enumerate(window):
        rest = prod(window[k + 1 :])
        out.append(flat // rest % n if k else flat // rest)
    return out


@dataclass(frozen=True)
class MaxPoolGrad(Pooling):
    """index [n, c, *positions] as of `MaxPoolIndex`, g alike -> [n, c, *spatial]: every element of
    g added at the place its index names."""

    spatial: Shape
    arity = 2
    samples = tuple(
        sample((*shape[:2], *out), (*shape[:2], *out), dtypes=("int32", dtype), low=0,
               high=prod(geometry["window"]), spatial=shape[2:], **geometry)
        for dtype in ("float32", "float64")
        for shape, geometry, out in _GEOMETRIES
    )  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        index, g = types
        if not index.dtype.is_integer or index.shape != g.shape:
            raise ShapeError(f"{index} are not indices for {g}")
        return self.spread(g, self.spatial)

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        index, g = xs
        n, c, *at = axes = tuple(axis(d) for d in out.shape)
        inside, windows, taps, mask, _ = self.covering(at, self.window, g.shape[2:], keep=False)
        flat: Dim = 0
        for tap, size in zip(taps, self.window):
            flat = flat * size + tap
        place = [n.index, c.index, *windows]
        hit = alg.equal(index.at(place, mask), alg.cast(Index(flat), index.dtype))
        value = alg.where(hit, g.at(place, mask), Const(0, g.dtype))
        return Compute(axes, inside, "add" if inside else None, value)

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return None, make(MaxPoolTake(**_geometry(self)), xs[0], g)

    def ref(self, *xs: Array) -> Array:
        index, g = xs
        hit = index[..., None] == np.arange(prod(self.window))
        taps = np.where(hit, g[..., None].astype(np.float64), 0)
        return self.spread_ref(taps, self.spatial).astype(g.dtype)


@dataclass(frozen=True)
class MaxPoolTake(Pooling):
    """index [n, c, *positions] as of `MaxPoolIndex`, x [n, c, *spatial] -> the elements of x the
    indices name: the gradient of `MaxPoolGrad`. Indices into padding give zero."""

    arity = 2
    samples = tuple(
        sample((*shape[:2], *out), shape, dtypes=("int32", dtype), low=0,
               high=prod(geometry["window"]), **geometry)
        for dtype in ("float32", "float64")
        for shape, geometry, out in _GEOMETRIES
    )  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        index, x = types
        out = self.positions(x)
        if not index.dtype.is_integer or index.shape != out.shape:
            raise ShapeError(f"{index} are not indices of windows over {x}")
        return out

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        index, x = xs
        axes = tuple(axis(d) for d in out.shape)
        flat = alg.cast(index.at([a.index for a in axes]), int64)
        place: list[IndexLike] = [axes[0].index, axes[1].index]
        tests: list[Expr] = []
        for k, (a, size) in enumerate(zip(axes[2:], x.shape[2:])):
            tap = flat // prod(self.window[k + 1 :]) % self.window[k]
            where = Index(a.index * self.strides[k] - self.pads_before[k]) + (
                tap * self.dilations[k]
            )
            tests += [where >= 0, where < Index(size)]
            place.append(where)
        return Compute(axes, (), None, x.at(place, both(*tests)))

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        index, x = xs
        return None, make(MaxPoolGrad(**_geometry(self), spatial=x.shape[2:]), index, g)

    def ref(self, *xs: Array) -> Array:
        index, x = xs
        return np.asarray(np.take_along_axis(self.windows_ref(x, 0), index[..., None], -1)[..., 0])

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return 0


@dataclass(frozen=True)
class SumPool(Pooling):
    """The sum of every window; padding counts as zero."""

    arity = 1
    samples = (*(sample(shape, **geometry) for shape, geometry, _ in _GEOMETRIES),
               sample((1, 2, 7, 6), dtypes=("int32",), low=-9, high=9, **_OVERLAP))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        return self.positions(types[0])

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        (x,) = xs
        n, c, *at = axes = tuple(axis(d) for d in out.shape)
        taps = tuple(axis(k, "k") for k in self.window)
        where, mask = self.read(at, [t.index for t in taps], self.window, x.shape[2:])
        return Compute(axes, taps, "add", x.at([n.index, c.index, *where], mask))

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return (make(SumPoolGrad(**_geometry(self), spatial=xs[0].shape[2:]), g),)

    def ref(self, *xs: Array) -> Array:
        wide = xs[0].astype(np.float64) if xs[0].dtype.kind == "f" else xs[0]
        return np.asarray(self.windows_ref(wide, 0).sum(-1), xs[0].dtype)


@dataclass(frozen=True)
class SumPoolGrad(Pooling):
    """g [n, c, *positions] -> [n, c, *spatial]: for every position the sum of the windows that
    read it."""

    spatial: Shape
    arity = 1
    samples = tuple(
        sample((*shape[:2], *out), spatial=shape[2:], **geometry)
        for shape, geometry, out in _GEOMETRIES
    )

    def infer(self, *types: TensorType) -> TensorType:
        return self.spread(types[0], self.spatial)

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        (g,) = xs
        n, c, *at = axes = tuple(axis(d) for d in out.shape)
        inside, windows, _, mask, _ = self.covering(at, self.window, g.shape[2:], keep=False)
        value = g.at([n.index, c.index, *windows], mask)
        return Compute(axes, inside, "add" if inside else None, value)

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return (make(SumPool(**_geometry(self)), g),)

    def ref(self, *xs: Array) -> Array:
        g = xs[0][..., None].astype(np.float64)
        taps = np.broadcast_to(g, (*xs[0].shape, prod(self.window)))
        return self.spread_ref(taps, self.spatial).astype(xs[0].dtype)


@dataclass(frozen=True)
class PoolCount(Pooling):
    """[1, 1, *positions] of `dtype`: how many taps of each window are not padding; of the padding
    so many positions count nevertheless as `counted` says before and after each axis."""

    spatial: Shape
    dtype: DType = float32
    counted: tuple[Shape, Shape] = ((), ())
    arity = 0
    differentiable = False
    samples = (*(sample(spatial=shape[2:], **geometry) for shape, geometry, _ in _GEOMETRIES),
               sample(spatial=(7, 6), **_DILATED, counted=((1, 0), (0, 1))))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        return self.positions(TensorType(self.dtype, (1, 1, *self.spatial)))

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        axes = tuple(axis(d) for d in out.shape)
        value: Expr = Const(1, int64)
        none = (0,) * self.rank
        before, after = (given or none for given in self.counted)
        for k, (a, size) in enumerate(zip(axes[2:], self.spatial)):
            d = self.dilations[k]
            first = a.index * self.strides[k] - self.pads_before[k] + before[k]
            skipped = maximum(d - 1 - first, 0) // d
            reached = (
                minimum(size + before[k] + after[k] - first + (d - 1), self.window[k] * d) // d
            )
            value = value * Index(reached - skipped)
        return Compute(axes, (), None, alg.cast(value, self.dtype))

    def ref(self, *xs: Array) -> Array:
        ones = self.pad_ref(np.ones((1, 1, *concrete(self.spatial)), self.dtype.numpy))
        for k, (before, after) in enumerate(zip(*self.counted)):
            first = concrete(self.pads_before)[k]
            line = np.moveaxis(ones, k + 2, 0)
            line[first - before : first] = line[first : first + 1]
            end = first + concrete(self.spatial)[k]
            line[end : end + after] = line[first : first + 1]
        return np.asarray(self.taps_ref(ones).sum(-1))


def _geometry(op: Pooling) -> dict[str, Any]:
    return {"strides": op.strides, "pads_before": op.pads_before, "pads_after": op.pads_after,
            "dilations": op.dilations, "window": op.window}  # fmt: skip


def pooled(
    x: Any, window: Any, strides: Any, padding: Any, dilations: Any, ceil_mode: bool, what: str
) -> tuple[Value, dict[str, Any], Shape]:
    """A value, the attributes of a `Pooling` over it, and the padding after it without what
    `ceil_mode` adds."""
    v = as_value(x)
    rank = v.ndim - 2
    if rank < 1:
        raise ShapeError(f"{what}: values are [batch, channels, *spatial], not {v.type}")
    size = per_axis(window, rank, "window")
    steps = size if strides is None else per_axis(strides, rank, "strides")
    apart = per_axis(dilations, rank, "dilations")
    before, after = resolve_padding(padding, v.shape[2:], size, steps, apart)
    wide = ceil_padding(v.shape[2:], size, steps, apart, before, after) if ceil_mode else after
    return v, {"strides": steps, "pads_before": before, "pads_after": wide, "dilations": apart,
               "window": size}, after  # fmt: skip


@graph_function("max_pool")
def max_pool(
    x: Any, window: int | Sequence[int], strides: int | Sequence[int] | None = None,
    padding: Any = "valid", dilations: int | Sequence[int] = 1, ceil_mode: bool = False,
) -> Value:  # fmt: skip
    """The largest element of every window of x [n, c, *spatial]. `strides` None: the window's
    size. `padding` as for `conv`; padding never wins. With `ceil_mode` positions that are left
    over at the end get a window of what there is."""
    v, geometry, _ = pooled(x, window, strides, padding, dilations, ceil_mode, "max_pool")
    return make(MaxPool(**geometry), v)


@graph_function("average_pool")
def average_pool(
    x: Any, window: int | Sequence[int], strides: int | Sequence[int] | None = None,
    padding: Any = "valid", count_include_pad: bool = False, dilations: int | Sequence[int] = 1,
    ceil_mode: bool = False,
) -> Value:  # fmt: skip
    """The mean of every window of x [n, c, *spatial] (floats). Padding counts as zeros with
    `count_include_pad`, otherwise only real elements are averaged. With `ceil_mode` positions that
    are left over at the end get a window of what there is."""
    v, geometry, after = pooled(x, window, strides, padding, dilations, ceil_mode, "average_pool")
    if not v.dtype.is_float:
        raise DTypeError(f"average_pool: not defined for {v.dtype}", "cast to float32 first")
    total = make(SumPool(**geometry), v)
    before, wide = geometry["pads_before"], geometry["pads_after"]
    counted = (before, after) if count_include_pad else ((), ())  # what ceil_mode adds never counts
    if all(p == 0 for p in (*before, *wide)) or (count_include_pad and wide == after):
        return total * (1.0 / prod(geometry["window"]))  # type: ignore[no-any-return]
    count = PoolCount(**geometry, spatial=v.shape[2:], dtype=v.dtype, counted=counted)
    reciprocal: Value = 1.0 / v.node.owner.node(count, ()).outputs[0]
    return total * reciprocal


@graph_function("max_pool_with_indices")
def max_pool_with_indices(
    x: Any, window: int | Sequence[int], strides: int | Sequence[int] | None = None,
    padding: Any = "valid", dilations: int | Sequence[int] = 1, ceil_mode: bool = False,
    column_major: bool = False,
) -> tuple[Value, Value]:  # fmt: skip
    """What `max_pool` gives, and where each comes from: the number (int64) of the element within
    its channel, counted along the last axis first, or with `column_major` along the first one. Of
    equals the first in row-major order counts."""
    v, geometry, _ = pooled(x, window, strides, padding, dilations, ceil_mode, "max_pool")
    largest, tap = make(MaxPool(**geometry), v), make(MaxPoolIndex(**geometry), v)
    owner, size_of = v.node.owner, CALLS["size_of"]
    places: list[Value] = []
    for k, size in enumerate(v.shape[2:]):
        inner = prod(geometry["window"][k + 1 :])
        line = [1] * v.ndim
        line[k + 2] = tap.shape[k + 2]  # type: ignore[call-overload]
        start = CALLS["iota"](line, k + 2, owner=owner) * geometry["strides"][k]
        first = geometry["pads_before"][k]
        start = start - (first if isinstance(first, int) else size_of(first, owner))
        at = tap // inner % geometry["window"][k] * geometry["dilations"][k] + start
        last = size - 1 if isinstance(size, int) else size_of(size - 1, owner)
        places.append(alg.maximum(alg.minimum(at, last), 0))
    order = range(len(places) - 1, -1, -1) if column_major else range(len(places))
    flat: Any = 0
    for k in order:
        size = v.shape[k + 2]
        flat = flat * (size if isinstance(size, int) else size_of(size, owner)) + places[k]
    return largest, flat


@graph_function("max_unpool")
def max_unpool(x: Any, indices: Any, shape: Sequence[Any]) -> Value:
    """[n, c, *shape] of zeros with the elements of x [n, c, *positions] at the places within their
    channel that `indices`, as of `max_pool_with_indices`, name; of several the last one stays."""
    v = as_value(x)
    at = as_value(indices, v)
    if v.ndim < 3 or at.shape != v.shape or not at.dtype.is_integer:
        raise ShapeError(f"max_unpool: {at.type} are not indices for {v.type}")
    spatial = as_shape(shape)
    reshape, plane = CALLS["reshape"], product(spatial)
    number = CALLS["iota"]((v.shape[0], v.shape[1]), 1, owner=v.node.owner)
    number = number + CALLS["iota"]((v.shape[0], 1), 0, owner=v.node.owner) * (
        v.shape[1] if isinstance(v.shape[1], int) else CALLS["size_of"](v.shape[1], v.node.owner)
    )
    size = plane if isinstance(plane, int) else CALLS["size_of"](plane, v.node.owner)
    inside = CALLS["check"](CALLS["cast"](at, int64), (at >= 0) & (at < size),
                            "max_unpool: an index is outside of its channel")  # fmt: skip
    whole = inside + reshape(number * size, (*v.shape[:2], *[1] * (v.ndim - 2)))
    zeros = CALLS["full"]((v.shape[0] * v.shape[1] * plane,), 0, v.dtype, v.node.owner)
    made = CALLS["scatter"](zeros, reshape(whole, (-1,)), reshape(v, (-1,)))
    return reshape(made, (*v.shape[:2], *spatial))  # type: ignore[no-any-return]


@graph_function("global_max_pool")
def global_max_pool(x: Any, keepdims: bool = False) -> Value:
    """The largest element of every channel: [n, c, *spatial] -> [n, c]."""
    v = as_value(x)
    return CALLS["reduce_max"](v, tuple(range(2, v.ndim)), keepdims)  # type: ignore[no-any-return]


@graph_function("global_average_pool")
def global_average_pool(x: Any, keepdims: bool = False) -> Value:
    """The mean of every channel: [n, c, *spatial] -> [n, c]."""
    v = as_value(x)
    return CALLS["mean"](v, tuple(range(2, v.ndim)), keepdims)  # type: ignore[no-any-return]
