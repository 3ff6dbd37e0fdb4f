"""Resizing: values on a grid read at other places of it, as ONNX's Resize has it.

Each axis is resized by itself. For every position of the result a formula (`Axis.source`) gives the
place in the operand, which the mode turns into a few indices and weights; the op `Resample` does
the rest. Sizes that are known now make tables of constants, sizes known at run time the same
formulas as nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from types import SimpleNamespace
from typing import Any

import numpy as np

from ... import algorithm as alg
from ...dims import Dim
from ...dtypes import float64
from ...errors import ConfigError, DTypeError, LimitError, ShapeError
from ..ir import CALLS, Shape, Value
from .base import as_value, graph_function, make, normal_axis
from .resample import resample
from .shape import Slice, as_shape

MODES = ("nearest", "linear", "cubic")
COORDINATES = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners",
               "asymmetric", "tf_half_pixel_for_nn", "tf_crop_and_resize")  # fmt: skip
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
POLICIES = ("stretch", "not_larger", "not_smaller")
MOST_TAPS = 1 << 16  # elements that one of the result is made of
MOST_ENTRIES = 1 << 22  # of a table of constants; larger ones are made at run time
SHIFTED = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "asymmetric")


NODES = SimpleNamespace(
    floor=alg.floor, ceil=alg.ceil, abs=alg.abs_, maximum=alg.maximum, minimum=alg.minimum,
    where=alg.where, sum=lambda x, axis, keepdims: CALLS["sum"](x, axis, keepdims),
)  # fmt: skip
"""The functions that formulas use, of graph values; NumPy has those of arrays."""


@dataclass(frozen=True)
class Formula:
    """What places of the result mean, and how the operand is read between its elements."""

    mode: str
    coordinates: str
    rounding: str
    cubic: float
    exclude_outside: bool
    antialias: bool

    def source(self, m: Any, i: Any, n: Any, out: Any, scale: Any, roi: Any) -> Any:
        """The place in an axis of n elements for places i of the result, which has `out`; `m`
        holds the functions to use."""
        wide = n * scale if scale is not None else out
        single = i * 0 + wide <= 1
        step = m.where(single, 1, wide - 1)
        ratio = scale if scale is not None else out / n
        middle = (i + 0.5) / ratio - 0.5
        if self.coordinates == "half_pixel_symmetric":
            return (1 - out / wide) * (n / 2) + middle
        if self.coordinates == "pytorch_half_pixel":
            return m.where(single, 0.0, middle)
        if self.coordinates == "align_corners":
            return m.where(single, 0.0, i * (n - 1) / step)
        if self.coordinates == "asymmetric":
            return i / ratio
        if self.coordinates == "tf_half_pixel_for_nn":
            return (i + 0.5) / ratio
        if self.coordinates == "tf_crop_and_resize":
            start, end = roi
            along = start * (n - 1) + i * ((end - start) * (n - 1)) / step
            return m.where(single, (start + end) * 0.5 * (n - 1), along)
        return middle

    def nearest(self, m: Any, place: Any) -> Any:
        """The index of the element that stands for a place."""
        if self.rounding == "round_prefer_floor":
            return m.ceil(place - 0.5)
        if self.rounding == "round_prefer_ceil":
            return m.floor(place + 0.5)
        return m.floor(place) if self.rounding == "floor" else m.ceil(place)

    def offsets(self, scale: float | None) -> range:
        """Which elements around the one below a place count."""
        reach = {"linear": 1, "cubic": 2}[self.mode]
        if self.antialias and scale is not None and scale < 1:
            if reach / scale > MOST_TAPS:
                raise LimitError(
                    f"resize: scale {scale} makes one element of more than {MOST_TAPS}"
                )
            first = floor(-reach / scale) + 1
            return range(first, 2 - first)
        return range(1 - reach, 1 + reach)

    def weight(self, m: Any, distance: Any, scale: float | None) -> Any:
        """How much an element counts at a distance from the place."""
        shrunk = self.antialias and scale is not None and scale < 1
        x = m.abs(distance) * (scale if shrunk else 1.0)
        if self.mode == "linear":
            return m.maximum(1 - x, 0.0)
        a = self.cubic
        near = ((a + 2) * x - (a + 3)) * x * x + 1
        far = ((x * a - 5 * a) * x + 8 * a) * x - 4 * a
        return m.where(x <= 1, near, m.where(x < 2, far, 0.0))

    def table(self, m: Any, place: Any, n: Any, offsets: Any, scale: float | None) -> Any:
        """Indices and weights [out, taps] for places [out, 1] and `offsets` [1, taps]."""
        below = m.floor(place)
        indices = below + offsets
        weights = self.weight(m, indices - place, scale)
        if self.exclude_outside:
            weights = m.where((indices >= 0) & (indices < n), weights, 0.0)
        if self.exclude_outside or self.antialias:
            weights = weights / m.sum(weights, 1, keepdims=True)
        return indices, weights

    def repeats(self, scale: float | None) -> bool:
        """Whether every element is repeated `scale` times, whatever the size: places that are
        `scale` apart then differ by 1, so that the first ones tell it."""
        whole = scale is not None and scale == int(scale) and self.coordinates in SHIFTED
        if self.mode != "nearest" or not whole or scale is None or not 1 <= scale <= MOST_TAPS:
            return False
        n = 2 if scale > 1 else 3  # no size at which the formulas make an exception
        place = self.source(np, np.arange(scale), float(n), n * scale, scale, None)
        return not self.nearest(np, place).any()


def _along(x: Value, axis: int, out: Dim, scale: float | None, roi: Any, f: Formula) -> Value:
    """x resized along one axis."""
    n = x.shape[axis]
    if f.repeats(scale):
        return _repeated(x, axis, int(scale or 1))
    values = any(isinstance(r, Value) for r in roi or ())
    owner = x.node.owner
    ratio = scale
    if ratio is None and isinstance(n, int) and isinstance(out, int) and n:
        ratio = out / n
    if f.antialias and ratio is None:
        raise ShapeError(f"resize: antialiasing needs a known scale; axis {axis} of {x.type} is "
                         "symbolic", "give scales instead of sizes")  # fmt: skip
    taps = range(1) if f.mode == "nearest" else f.offsets(ratio)
    known = (isinstance(n, int) and isinstance(out, int) and not values
             and out * len(taps) <= MOST_ENTRIES)  # fmt: skip
    m: Any = np if known else NODES
    size, wanted = _count(n, owner), _count(out, owner)
    i: Any = np.arange(wanted) if known else CALLS["iota"]((out,), 0, float64, owner)
    place = f.source(m, i, size, wanted, scale, roi)
    if f.mode == "nearest":
        return _picked(x, axis, f.nearest(m, place))
    steps = np.array([taps], np.float64)
    offsets = steps if known else CALLS["constant"](steps, dtype=float64, owner=owner)
    column = place[:, None] if known else CALLS["expand_dims"](place, 1)
    indices, weights = f.table(m, column, size, offsets, ratio)
    if not known:
        indices = CALLS["cast"](indices, "int64")
    return resample(x, axis, indices, weights)


def _count(d: Dim, owner: Any) -> Any:
    """A size as a float, or a float64 value."""
    return float(d) if isinstance(d, int) else CALLS["cast"](CALLS["size_of"](d, owner), float64)


def _repeated(x: Value, axis: int, times: int) -> Value:
    """Every element along an axis `times` times."""
    apart = (*x.shape[: axis + 1], 1, *x.shape[axis + 1 :])
    wide = (*x.shape[: axis + 1], times, *x.shape[axis + 1 :])
    joined = (*x.shape[:axis], x.shape[axis] * times, *x.shape[axis + 1 :])
    spread = CALLS["broadcast_to"](CALLS["reshape"](x, apart), wide)
    return CALLS["reshape"](spread, joined)  # type: ignore[no-any-return]


def _picked(x: Value, axis: int, indices: Any) -> Value:
    """The elements at `indices`, clamped to the axis; evenly spaced ones are a slice."""
    n: Any = x.shape[axis]
    if isinstance(indices, Value):
        last = n - 1 if isinstance(n, int) else CALLS["size_of"](n - 1, x.node.owner)
        at = alg.maximum(alg.minimum(CALLS["cast"](indices, "int64"), last), 0)
        return CALLS["gather"](x, at, axis)  # type: ignore[no-any-return]
    at = np.clip(indices, 0, n - 1).astype(np.int64)
    steps = np.unique(np.diff(at))
    if len(at) and len(steps) <= 1 and (len(steps) == 0 or steps[0] > 0):
        starts = tuple(int(at[0]) if k == axis else 0 for k in range(x.ndim))
        sizes = tuple(len(at) if k == axis else d for k, d in enumerate(x.shape))
        by = tuple(int(steps[0]) if k == axis and len(steps) else 1 for k in range(x.ndim))
        return make(Slice(starts, sizes, by), x)
    return CALLS["gather"](x, at, axis)  # type: ignore[no-any-return]


@graph_function("resize")
def resize(
    x: Any, sizes: Any = None, scales: Sequence[float] | None = None,
    axes: Sequence[int] | None = None, mode: str = "nearest", coordinates: str = "half_pixel",
    rounding: str = "round_prefer_floor", antialias: bool = False, cubic: float = -0.75,
    exclude_outside: bool = False, roi: Any = None, extrapolation: float = 0.0,
    policy: str = "stretch",
) -> Value:  # fmt: skip
    """x resized to `sizes`, or by `scales`, on `axes` (None: all), as ONNX's Resize.

    `mode`: "nearest", "linear" or "cubic" (with the coefficient `cubic`); the last two need floats.
    `coordinates` says where places of the result lie in x (ONNX: coordinate_transformation_mode),
    `rounding` what is nearest (nearest_mode). With `antialias` an axis that shrinks is read with
    filters as wide as it shrinks; `exclude_outside` leaves out what lies beyond an end, which is
    otherwise the element at that end.

    `roi`, for coordinates "tf_crop_and_resize", is a number or scalar value for the beginning on
    every axis and then for the end, 1 being the last element; places beyond x are `extrapolation`.
    `policy` "not_larger" or "not_smaller" keeps the aspect ratio instead of meeting `sizes`.

    Sizes may be symbolic. ConfigError and ShapeError where the arguments do not fit each other.
    """
    v = as_value(x)
    for what, given, names in (("mode", mode, MODES), ("coordinates", coordinates, COORDINATES),
                               ("rounding", rounding, ROUNDINGS), ("policy", policy, POLICIES)):  # fmt: skip
        if given not in names:
            raise ConfigError(f"resize: {what} {given!r} is none of {', '.join(names)}")
    if mode != "nearest" and not v.dtype.is_float:
        raise DTypeError(f"resize: {mode} is not defined for {v.dtype}", "cast to float32 first")
    chosen = list(range(v.ndim)) if axes is None else [normal_axis(a, v.ndim) for a in axes]
    if len(set(chosen)) != len(chosen) or (sizes is None) == (scales is None):
        raise ConfigError("resize: give sizes or scales, for axes that are named once")
    if scales is not None:
        factors: list[float | None] = [float(s) for s in scales]
        wanted = _scaled([v.shape[a] for a in chosen], factors, v) if len(factors) == len(
            chosen) else ()  # fmt: skip
    else:
        wanted, factors = _fitted([v.shape[a] for a in chosen], as_shape(sizes), policy)
    ends = _ends(roi, len(chosen), coordinates)
    if len(wanted) != len(chosen):
        raise ConfigError(f"resize: {len(wanted)} sizes or scales for {len(chosen)} axes")
    f = Formula(mode, coordinates, rounding, float(cubic), exclude_outside, antialias)
    if antialias and mode == "nearest":
        raise ConfigError("resize: antialiasing is for linear and cubic interpolation")
    inside: Value | None = None
    for k in sorted(range(len(chosen)), key=lambda k: (factors[k] or 1.0, -chosen[k])):
        axis, out, scale = chosen[k], wanted[k], factors[k]
        same = out == v.shape[axis] and scale in (None, 1.0)
        if same and coordinates != "tf_crop_and_resize":
            continue
        if coordinates == "tf_crop_and_resize":
            inside = _both(inside, _reached(v, axis, out, scale, ends[k], f))
        if out == 1 == v.shape[axis]:
            continue
        v = _along(v, axis, out, scale, ends[k], f)
    return v if inside is None else alg.where(inside, v, extrapolation)


def _both(a: Value | None, b: Value) -> Value:
    return b if a is None else a & b


def _scaled(shape: list[Dim], scales: Sequence[float | None], v: Value) -> Shape:
    """The sizes that scales make: rounded down, in float32 as other runtimes do."""
    out: list[Dim] = []
    for d, s in zip(shape, scales):
        if s is None or not s > 0:
            raise ConfigError(f"resize: scale {s} is not positive")
        if isinstance(d, int):
            out.append(int(np.floor(np.float32(s) * np.float32(d))))
            continue
        ratio = Fraction(s).limit_denominator(100)
        if abs(float(ratio) - s) > 1e-6 * s:
            raise ShapeError(f"resize: scale {s} of a symbolic axis of {v.type} is no simple "
                             "fraction", "give sizes")  # fmt: skip
        out.append(d * ratio.numerator // ratio.denominator)
    return tuple(out)


def _fitted(shape: list[Dim], sizes: Shape, policy: str) -> tuple[Shape, list[float | None]]:
    """The sizes to make and, where the aspect ratio is kept, the scale of every axis."""
    if policy == "stretch" or len(sizes) != len(shape):
        return sizes, [None] * len(sizes)
    if not all(isinstance(d, int) for d in (*shape, *sizes)):
        raise ShapeError(f"resize: policy {policy!r} needs sizes that are known")
    ratios = [float(n) / float(d) for n, d in zip(sizes, shape)]  # type: ignore[arg-type]
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    return tuple(int(scale * d + 0.5) for d in shape), [scale] * len(shape)  # type: ignore[operator]


def _ends(roi: Any, count: int, coordinates: str) -> list[Any]:
    """(start, end) for each axis; None where they do not matter."""
    if coordinates != "tf_crop_and_resize":
        return [None] * count
    if roi is None:
        raise ConfigError('resize: coordinates "tf_crop_and_resize" need a roi')
    given = [roi[k] for k in range(2 * count)] if isinstance(roi, Value) else list(roi)
    if len(given) != 2 * count:
        raise ConfigError(f"resize: roi has {len(given)} entries for {count} axes")
    wide = [CALLS["cast"](r, float64) if isinstance(r, Value) else float(r) for r in given]
    return list(zip(wide[:count], wide[count:]))


def _reached(x: Value, axis: int, out: Dim, scale: float | None, roi: Any, f: Formula) -> Value:
    """Whether places of the result lie within x on an axis, shaped to broadcast."""
    owner = x.node.owner
    i = CALLS["iota"]((out,), 0, float64, owner)
    size = _count(x.shape[axis], owner)
    place = f.source(NODES, i, size, _count(out, owner), scale, roi)
    line = [1] * x.ndim
    line[axis] = -1
    return CALLS["reshape"]((place >= 0) & (place <= size - 1), line)  # type: ignore[no-any-return]
