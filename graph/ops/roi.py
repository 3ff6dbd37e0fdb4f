"""Regions of images brought to one size: RoiAlign (He et al. 2017) and RoiPool (Girshick 2015).

A region is (x1, y1, x2, y2), in units of the image that `scale` turns into those of the values
[n, c, h, w]; for each there is the number of its image in the batch. The result is
[regions, c, height, width].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product as every
from typing import Any

import numpy as np

from ... import algorithm as alg
from ...algorithm import Check, Compute, Const, Index, extreme
from ...algorithm import axis as new_axis
from ...dims import Dim, product
from ...dtypes import Array, int64
from ...errors import ConfigError, DTypeError, ShapeError
from ..ir import CALLS, TensorType, Value
from .activation import narrow
from .base import Op, Operand, as_value, graph_function, make, sample
from .indexing import bounded
from .sampling import sample_at
from .shape import concat
from .windows import per_axis


def _number(d: Dim, like: Value) -> Any:
    """A size as a number, or a value of the dtype of `like`."""
    return d if isinstance(d, int) else CALLS["cast"](
        CALLS["size_of"](d, like.node.owner), like.dtype)  # fmt: skip


@dataclass(frozen=True)
class RoiAlign(Op):
    """x [n, c, h, w], regions [r, 4], numbers of images [r] -> [r, c, *size]: each region is divided
    into `size` bins, in each of which x is read between its elements at `samples_per_bin` times
    `samples_per_bin` places. Their mean is the result, or with `largest` the largest of the weighted
    elements, as ONNX has it. With 0 samples a bin has as many as it has elements, rounded up; that
    is a loop as long as the largest region wants, and has no gradient. With `half_pixel` the centre
    of an element lies at 0.5, and regions may be smaller than an element. An image number that does
    not exist fails the run."""

    size: tuple[int, int]
    samples_per_bin: int
    scale: float = 1.0
    half_pixel: bool = True
    largest: bool = False
    arity = 3
    onnx = "RoiAlign"
    samples = (
        sample((2, 3, 5, 6), (4, 4), (4,), dtypes=("float32", "float32", "int64"), low=0, high=2,
               size=(2, 3), samples_per_bin=2, scale=2.0, gradient=False),
        sample((1, 2, 6, 5), (2, 4), (2,), dtypes=("float64", "float64", "int32"), low=0, high=1,
               size=(3, 1), samples_per_bin=1, half_pixel=False, gradient=False),
        sample((1, 2, 6, 5), (3, 4), (3,), dtypes=("float32", "float32", "int32"), low=0, high=1,
               size=(2, 2), samples_per_bin=2, scale=5.0, largest=True, gradient=False),
        sample((2, 3, 5, 6), (4, 4), (4,), dtypes=("float32", "float32", "int64"), low=0, high=2,
               size=(2, 1), samples_per_bin=0, scale=2.7, gradient=False),
        sample((1, 2, 6, 5), (3, 4), (3,), dtypes=("float64", "float64", "int64"), low=0, high=1,
               size=(1, 2), samples_per_bin=0, scale=5.0, half_pixel=False, largest=True,
               gradient=False),
    )  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        x, regions, images = types
        _check_regions(x, regions, images)
        if min(self.size) < 1 or self.samples_per_bin < 0:
            raise ShapeError(
                f"{self.size} bins of {self.samples_per_bin} samples each way are none"
            )
        return TensorType(x.dtype, (regions.shape[0], x.shape[1], *self.size))

    def expand(self, *xs: Value) -> Value:
        x, regions, images = xs
        n, c, h, w = x.shape
        count = regions.shape[0]
        if count == 0:
            return CALLS["full"]((0, c, *self.size), 0, x.dtype, x.node.owner)  # type: ignore[no-any-return]
        flat = CALLS["transpose"](x, (1, 0, 2, 3)) if n != 1 else x
        flat = CALLS["reshape"](flat, (1, c, product((n, h, w))))
        image = CALLS["cast"](_existing(images, n), regions.dtype)
        lines = [_Line(self, regions, 1, h), _Line(self, regions, 0, w)]
        if self.samples_per_bin:
            g = self.samples_per_bin
            steps = CALLS["iota"]((g, 1, 1), 0, regions.dtype, x.node.owner)
            places = [line.places(steps, g) for line in lines]
            made = self.read(flat, image, lines, places)
            made = made if self.largest else made * (1 / g**2)
        else:
            made = self.as_many_as_elements(flat, image, lines)
        made = CALLS["reshape"](made, (c, count, *self.size))
        return CALLS["transpose"](made, (1, 0, 2, 3))  # type: ignore[no-any-return]

    def read(self, flat: Value, image: Value, lines: Sequence[_Line], places: Sequence[Value],
             within: Value | None = None) -> Value:  # fmt: skip
        """The sum, or the largest, of what is read of [1, c, images * h * w] at all combinations of
        places [samples, r, bins] on both axes: [1, c, r * bins of both]. Regions that are not
        `within` count nothing."""
        reshape, cast = CALLS["reshape"], CALLS["cast"]
        (count,) = image.shape
        rows, columns = (line.taps(place) for line, place in zip(lines, places))

        def down(v: Value) -> Any:
            return reshape(v, (v.shape[0], 1, count, self.size[0], 1))

        def across(v: Value) -> Any:
            return reshape(v, (1, v.shape[0], count, 1, self.size[1]))

        at = (reshape(image, (count, 1, 1)) * lines[0].number + down(rows[0])) * lines[1].number
        at = at + across(columns[0])
        weight = down(rows[1]) * across(columns[1])
        if within is not None and not self.largest:
            weight = weight * cast(reshape(within, (count, 1, 1)), weight.dtype)
        shape = (1, at.shape[0] * at.shape[1], product((count, *self.size)))
        indices, weights = (reshape(v, shape) for v in (cast(at, int64), weight))
        if not self.largest:
            return sample_at(flat, indices, weights)
        read = CALLS["gather"](flat[0], indices[0], 1) * weights[0]
        made = CALLS["reduce_max"](read, 1)
        if within is not None:
            bins = CALLS["broadcast_to"](reshape(within, (count, 1)), (count, product(self.size)))
            made = alg.where(reshape(bins, (-1,)), made, -math.inf)
        return CALLS["expand_dims"](made, 0)  # type: ignore[no-any-return]

    def as_many_as_elements(self, flat: Value, image: Value, lines: Sequence[_Line]) -> Value:
        """A loop over the samples of the bins that have most, the others being done earlier."""
        owner, kind = flat.node.owner, flat.dtype
        counts = [alg.maximum(alg.ceil(line.length * (1 / line.bins)), 0.0) for line in lines]
        most = [CALLS["cast"](CALLS["reduce_max"](c), int64) for c in counts]
        total = counts[0] * counts[1]
        many = product((image.shape[0], *self.size))
        start = -math.inf if self.largest else 0.0
        first = CALLS["full"]((1, flat.shape[1], many), start, kind, owner)

        def step(carry: tuple[Value, Value]) -> tuple[Value, Value]:
            k, made = carry
            parts = [CALLS["cast"](v, kind) for v in (k // most[1], k % most[1])]
            places = [line.places(part, alg.maximum(c, 1.0))
                      for line, part, c in zip(lines, parts, counts)]  # fmt: skip
            within = (parts[0] < counts[0]) & (parts[1] < counts[1])
            more = self.read(flat, image, lines, places, within)
            return k + 1, alg.maximum(made, more) if self.largest else made + more

        zero = CALLS["constant"](np.int64(0), owner=owner)
        _, made = CALLS["while_loop"](lambda c: c[0] < most[0] * most[1], step, (zero, first))
        each = CALLS["reshape"](total, (-1, 1))
        each = CALLS["broadcast_to"](each, (image.shape[0], product(self.size)))
        each = CALLS["reshape"](each, (many,))
        if self.largest:
            return alg.where(each > 0, made, 0.0)  # type: ignore[no-any-return]
        return made / alg.maximum(each, 1.0)  # type: ignore[no-any-return]

    def ref(self, *xs: Array) -> Array:
        x, regions = xs[0].astype(np.float64), xs[1].astype(np.float64)
        out = np.zeros((len(regions), x.shape[1], *self.size))
        for r, (region, image) in enumerate(zip(regions, xs[2])):
            ends = region * self.scale - (0.5 if self.half_pixel else 0)
            length = ends[2:] - ends[:2]
            length = length if self.half_pixel else np.maximum(length, 1)
            g = [
                self.samples_per_bin or int(np.ceil(d / n)) for d, n in zip(length[::-1], self.size)
            ]
            for bin_ in np.ndindex(self.size) if min(g) > 0 else ():
                reads = []
                for part in np.ndindex(*g):
                    p = [ends[1 - k] + (b + (i + 0.5) / m) * length[1 - k] / n
                         for k, (b, i, m, n) in enumerate(zip(bin_, part, g, self.size))]  # fmt: skip
                    reads.append(_corners_ref(x[int(image)], p))
                each: Array = np.array(reads)  # [samples, corners, c]
                chosen = each.max((0, 1)) if self.largest else each.sum((0, 1)) / np.prod(g)
                out[(r, slice(None), *bin_)] = chosen
        return narrow(out, xs[0])

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return out.size * max(self.samples_per_bin, 1) ** 2 * 8


class _Line:
    """One axis of `RoiAlign`: where the regions begin on it and how long they are, [r] both."""

    def __init__(self, op: RoiAlign, regions: Value, first: int, size: Dim) -> None:
        half = 0.5 if op.half_pixel else 0.0
        self.bins = op.size[1 - first]
        self.start = regions[:, first] * op.scale - half
        length = regions[:, first + 2] * op.scale - half - self.start
        self.length: Any = length if op.half_pixel else alg.maximum(length, 1.0)
        self.number = _number(size, regions)

    def places(self, step: Value, count: Any) -> Value:
        """Where sample `step` of `count` of every bin lies: [steps, r, bins]."""
        reshape, owner = CALLS["reshape"], step.node.owner
        line = (1, self.start.shape[0], 1)
        part = (step + 0.5) / (reshape(count, line) if isinstance(count, Value) else count)
        bins = CALLS["iota"]((1, 1, self.bins), 2, step.dtype, owner) + part
        moved: Value = bins * (reshape(self.length, line) * (1 / self.bins))
        return reshape(self.start, line) + moved  # type: ignore[no-any-return]

    def taps(self, place: Value) -> tuple[Value, Value]:
        """The elements around places [steps, r, bins], as whole numbers, and their weights, which
        are 0 far outside: the lower ones, then the upper ones along axis 0."""
        n = self.number
        inside = CALLS["cast"]((place >= -1.0) & (place <= n), place.dtype)
        place = alg.minimum(alg.maximum(place, 0.0), n - 1)
        low = alg.floor(place)
        above = place - low
        return (concat([low, alg.minimum(low + 1, n - 1)], 0),
                concat([(1 - above) * inside, above * inside], 0))  # fmt: skip


def _corners_ref(x: Array, place: Sequence[float]) -> list[Array]:
    """For references: the four elements around a place of [c, h, w], weighted."""
    if any(not -1 <= p <= d for p, d in zip(place, x.shape[1:])):
        return [np.zeros(len(x))] * 4
    p = [min(max(v, 0), d - 1) for v, d in zip(place, x.shape[1:])]
    out = []
    for corner in every((0, 1), (0, 1)):
        at = [min(int(v) + k, d - 1) for v, k, d in zip(p, corner, x.shape[1:])]
        weight = np.prod([v - int(v) if k else 1 - (v - int(v)) for v, k in zip(p, corner)])
        out.append(x[:, at[0], at[1]] * weight)
    return out


def _check_regions(x: TensorType, regions: TensorType, images: TensorType) -> None:
    if not x.dtype.is_float or not x.dtype.computes or regions.dtype != x.dtype:
        raise DTypeError(f"not defined for {x.dtype} and {regions.dtype}", "cast to float32 first")
    if x.ndim != 4 or regions.ndim != 2 or regions.shape[1] != 4:
        raise ShapeError(f"values are [n,c,h,w] and regions [r,4], not {x} and {regions}")
    if images.shape != (regions.shape[0],) or not images.dtype.is_integer:
        raise ShapeError(f"{images} does not hold the number of an image for each of {regions}")


def _existing(images: Value, count: Dim) -> Value:
    """Numbers of images, which fail the run where there is none."""
    n = count if isinstance(count, int) else CALLS["size_of"](count, images.node.owner)
    wide = CALLS["cast"](images, int64)
    inside = (wide >= 0) & (wide < n)
    return CALLS["check"](wide, inside, "a region is of an image that is not in the batch")  # type: ignore[no-any-return]


@dataclass(frozen=True)
class ArgmaxWithin(Op):
    """x [n, c, s, w], images [r], starts and stops [r, bins] -> [r, c, bins, w], int64: which of the
    elements from the start to the stop along axis 2 of an image is the first largest (or the first
    NaN); 0 where there are none. Starts and stops are taken to lie in 0..s."""

    arity = 4
    differentiable = False
    samples = (sample((2, 3, 5, 4), (3,), (3, 2), (3, 2), low=0, high=2,
                      dtypes=("float32", "int64", "int64", "int64")),
               sample((1, 2, 7, 17), (2,), (2, 3), (2, 3), low=0, high=1,
                      dtypes=("float64", "int32", "int64", "int64")))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        x, images, start, stop = types
        if not all(t.dtype.is_integer for t in types[1:]) or not x.dtype.computes:
            raise DTypeError(f"not defined for {', '.join(str(t.dtype) for t in types)}")
        if x.ndim != 4 or images.ndim != 1 or start.shape != stop.shape:
            raise ShapeError(f"{x}, {images}, {start} and {stop} do not fit each other")
        if start.ndim != 2 or start.shape[0] != images.shape[0]:
            raise ShapeError(f"{start} does not hold bins for each of {images}")
        return TensorType(int64, (images.shape[0], x.shape[1], start.shape[1], x.shape[3]))

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        x, images, start, stop = xs
        r, c, p, w = axes = tuple(new_axis(d) for d in out.shape)
        k = new_axis(x.shape[2], "k")
        image, outside, some = bounded(images[r.index], x.shape[0])
        at = Index(k.index)
        within = (at >= start[r.index, p.index]) & (at < stop[r.index, p.index])
        mask = within if some is None else within & some
        value = alg.where(within, x.at((image, c.index, k.index, w.index), mask),
                          Const(extreme(x.dtype, -1), x.dtype))  # fmt: skip
        return Compute(axes, (k,), "argmax", value, (Check("index", outside),))

    def ref(self, *xs: Array) -> Array:
        x, images, start, stop = xs
        out = np.zeros((len(images), x.shape[1], start.shape[1], x.shape[3]), np.int64)
        for r, p in np.ndindex(start.shape):
            a, b = int(start[r, p]), int(stop[r, p])
            if a < b:
                out[r, :, p] = a + x[int(images[r]), :, a:b].argmax(1)
        return out


@graph_function("roi_align")
def roi_align(
    x: Any, regions: Any, images: Any, size: int | Sequence[int] = 1, samples_per_bin: int = 2,
    scale: float = 1.0, half_pixel: bool = True, mode: str = "mean",
) -> Value:  # fmt: skip
    """Regions [r, 4] (x1, y1, x2, y2) of x [n, c, h, w], which are those of images numbered by
    `images` [r], times `scale`, as [r, c, *size]: see the op `RoiAlign`. `mode` is "mean" or "max";
    0 `samples_per_bin` are as many as a bin has elements, each way."""
    if mode not in ("mean", "max"):
        raise ConfigError(f'roi_align: mode must be "mean" or "max", not {mode!r}')
    v = as_value(x)
    boxes = CALLS["cast"](as_value(regions, v), v.dtype)
    height, width = per_axis(size, 2, "size")
    if samples_per_bin < 0:
        raise ConfigError(f"roi_align: {samples_per_bin} samples per bin are none")
    op = RoiAlign((height, width), int(samples_per_bin), float(scale), bool(half_pixel),
                  mode == "max")  # fmt: skip
    return make(op, v, boxes, as_value(images, v))


@graph_function("max_roi_pool")
def max_roi_pool(
    x: Any, regions: Any, images: Any, size: int | Sequence[int], scale: float = 1.0
) -> Value:
    """The largest elements of the bins that regions [r, 4] (x1, y1, x2, y2), times `scale` and
    rounded, of x [n, c, h, w] are divided into: [r, c, *size], 0 where a bin lies outside."""
    v = as_value(x)
    boxes = CALLS["cast"](as_value(regions, v), v.dtype)
    found = as_value(images, v)
    _check_regions(v.type, boxes.type, found.type)
    pooled, count = per_axis(size, 2, "size"), boxes.shape[0]
    scaled = boxes * scale
    ends = CALLS["cast"](alg.where(scaled < 0, alg.ceil(scaled - 0.5), alg.floor(scaled + 0.5)),
                         int64)  # fmt: skip
    (top, below), (left, right) = (
        _bins(ends[:, k], ends[:, k + 2], bins, d)
        for k, bins, d in ((1, pooled[0], v.shape[2]), (0, pooled[1], v.shape[3]))
    )
    row = make(ArgmaxWithin(), v, found, top, below)  # [r, c, ph, w]
    reshape, iota, owner = CALLS["reshape"], CALLS["iota"], v.node.owner
    n, c, h, w = v.shape
    image = reshape(_existing(found, n), (count, 1, 1, 1))
    plane = (image * _whole(c, v) + iota((1, c, 1, 1), 1, owner=owner)) * _whole(h, v) + row
    place = plane * _whole(w, v) + iota((1, 1, 1, w), 3, owner=owner)
    lines = CALLS["gather"](reshape(v, (-1,)), place)
    empty = reshape(top >= below, (count, 1, pooled[0], 1))
    lines = alg.where(empty, float("-inf"), lines)
    flat = reshape(lines, (count, c * pooled[0], w, 1))
    column = make(ArgmaxWithin(), flat, iota((count,), owner=owner), left, right)
    made = CALLS["take_along_axis"](flat, column, 2)
    made = reshape(made, (count, c, *pooled))
    nothing = empty | reshape(left >= right, (count, 1, 1, pooled[1]))
    return alg.where(nothing, 0.0, made)  # type: ignore[no-any-return]


def _whole(d: Dim, like: Value) -> Any:
    return d if isinstance(d, int) else CALLS["size_of"](d, like.node.owner)


def _bins(start: Value, last: Value, bins: int, size: Dim) -> tuple[Value, Value]:
    """Starts and stops [r, bins] of the bins of regions on one axis, within it."""
    number = CALLS["iota"]((1, bins), 1, owner=start.node.owner)
    length = CALLS["expand_dims"](alg.maximum(last - start + 1, 1), 1)
    first = CALLS["expand_dims"](start, 1)
    begin, end = number * length // bins, ((number + 1) * length + (bins - 1)) // bins
    n = _whole(size, start)
    return (alg.minimum(alg.maximum(begin + first, 0), n),
            alg.minimum(alg.maximum(end + first, 0), n))  # fmt: skip
