"""Images read at the places a grid names: spatial transformers (Jaderberg et al. 2015).

In: values [n, c, *spatial] and a grid [n, *positions, r] of places in -1..1, the last spatial axis
first, as ONNX's GridSample and PyTorch's grid_sample have them. Out: [n, c, *positions].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product as every
from typing import Any

import numpy as np

from ... import algorithm as alg
from ...dims import Dim, product
from ...dtypes import Array, float32
from ...errors import ConfigError, DTypeError, ShapeError
from ..ir import CALLS, TensorType, Value
from .activation import narrow
from .base import Op, as_value, graph_function, make, operands, sample
from .sampling import sample_at
from .shape import as_shape

MODES = ("linear", "nearest", "cubic")
PADDINGS = ("zeros", "border", "reflection")
_CUBIC = -0.75
_SHAPES = ((2, 3, 4, 5), (2, 3, 2, 2))
_CUBE = ((1, 2, 3, 4, 2), (1, 2, 1, 3, 3))


def _count(d: Dim, like: Value) -> Any:
    return d if isinstance(d, int) else CALLS["cast"](
        CALLS["size_of"](d, like.node.owner), like.dtype)  # fmt: skip


@dataclass(frozen=True)
class GridSample(Op):
    """x [n, c, *spatial] read at grid [n, *positions, r], whose last axis names a place by numbers
    from -1 to 1 for the axes in reverse. These are the centres of the first and the last element
    with `align_corners`, else their outer edges. Beyond them lie zeros, the outermost element, or
    a reflection."""

    mode: str = "linear"
    padding: str = "zeros"
    align_corners: bool = False
    arity = 2
    samples = (
        *(sample(*_SHAPES, low=-1.4, high=1.4, mode=mode, padding=padding, align_corners=corners,
                 gradient=mode == "linear" and padding == "zeros", dtypes=("float32",) * 2)
          for mode, padding, corners in (("linear", "zeros", False), ("linear", "border", True),
                                         ("linear", "reflection", False),
                                         ("linear", "reflection", True),
                                         ("nearest", "reflection", False),
                                         ("nearest", "zeros", True), ("cubic", "zeros", False),
                                         ("cubic", "reflection", True))),
        sample(*_CUBE, low=-1.2, high=1.2, dtypes=("float32",) * 2),
        sample((1, 2, 7), (1, 5, 1), low=-0.9, high=0.9, mode="cubic"),
    )  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        x, grid = types
        for t in types:
            if not t.dtype.is_float or not t.dtype.computes or t.dtype != x.dtype:
                raise DTypeError(f"not defined for {x.dtype} at {t.dtype}", "cast to float32 first")
        if self.mode not in MODES or self.padding not in PADDINGS:
            raise ShapeError(f"mode {self.mode!r} is none of {', '.join(MODES)}, or padding "
                             f"{self.padding!r} none of {', '.join(PADDINGS)}")  # fmt: skip
        if x.ndim < 3 or grid.ndim != x.ndim or grid.shape[-1] != x.ndim - 2:
            raise ShapeError(f"a grid for {x} has its number of axes, the last one of size "
                             f"{x.ndim - 2}; this is {grid}")  # fmt: skip
        if x.shape[0] != grid.shape[0]:
            raise ShapeError(f"{x} and the grid {grid} are batches of different sizes")
        if any(d == 0 for d in x.shape[2:]):
            raise ShapeError(f"{x} has no elements to read")
        return TensorType(x.dtype, (*x.shape[:2], *grid.shape[1:-1]))

    def expand(self, *xs: Value) -> Value:
        x, grid = xs
        rank = x.ndim - 2
        many = product(grid.shape[1:-1])
        flat = CALLS["reshape"](grid, (grid.shape[0], many, rank))
        lines = [self.taps(flat[:, :, rank - 1 - k], x.shape[2 + k]) for k in range(rank)]
        indices, weights = [], []
        for chosen in every(*lines):
            at: Any = 0
            weight: Any = None
            for (i, w), size in zip(chosen, x.shape[2:]):
                at = at * _count(size, grid) + i
                weight = w if weight is None else w if w is None else weight * w
            inside = self.inside([i for i, _ in chosen], x.shape[2:])
            if inside is not None:
                at = alg.where(inside, at, -1.0)
            indices.append(CALLS["cast"](at, "int64"))
            weights.append(CALLS["full"](at.shape, 1, grid.dtype, x.node.owner)
                           if weight is None else weight)  # fmt: skip
        made = sample_at(x, CALLS["stack"](indices, 1), CALLS["stack"](weights, 1))
        return CALLS["reshape"](made, (*x.shape[:2], *grid.shape[1:-1]))  # type: ignore[no-any-return]

    def taps(self, g: Value, size: Dim) -> list[tuple[Value, Value | None]]:
        """For places on one axis: whole numbers that say which elements are read, and their
        weights (None: 1)."""
        n = _count(size, g)
        place = (g + 1) * 0.5 * (n - 1) if self.align_corners else ((g + 1) * n - 1) * 0.5
        if self.mode == "nearest":
            place = alg.round_(place)
        if self.mode != "cubic":
            place = self.moved(place, n)
        if self.mode == "nearest":
            return [(self.moved(alg.round_(place), n), None)]
        below = alg.floor(place)
        reach = 1 if self.mode == "linear" else 2
        out: list[tuple[Value, Value | None]] = []
        for k in range(1 - reach, 1 + reach):
            out.append((self.moved(below + float(k), n, whole=True), self.weight(place - below, k)))
        return out

    def weight(self, part: Value, k: int) -> Value:
        """How much the element `k` after the one below counts, `part` above which the place is."""
        if self.mode == "linear":
            return part if k else 1 - part
        x = part - k if k <= 0 else k - part  # the distance
        if k in (0, 1):
            return ((_CUBIC + 2) * x - (_CUBIC + 3)) * x * x + 1
        return ((x * _CUBIC - 5 * _CUBIC) * x + 8 * _CUBIC) * x - 4 * _CUBIC

    def moved(self, place: Value, n: Any, whole: bool = False) -> Value:
        """A place brought onto the axis, where the padding says how; `whole`: it is an index."""
        if self.padding == "zeros":
            return place
        if self.padding == "reflection":
            low = 0.0 if self.align_corners else -0.5
            span = n - 1 if self.align_corners else n
            turn = alg.maximum(2 * span, 1.0) if isinstance(span, Value) else max(2.0 * span, 1.0)
            back = (place - low) % turn
            place = alg.minimum(back, turn - back) + low
            place = alg.where(alg.equal(span, 0), 0.0, place) if isinstance(span, Value) else (
                place if span else place * 0)  # fmt: skip
        place = alg.minimum(alg.maximum(place, 0.0), n - 1)
        return alg.round_(place) if whole else place

    def inside(self, indices: Sequence[Value], spatial: Sequence[Dim]) -> Value | None:
        """Whether an element exists; None where padding has brought all onto the axes."""
        if self.padding != "zeros":
            return None
        out: Value | None = None
        for i, size in zip(indices, spatial):
            test: Value = (i >= 0) & (i < _count(size, i))
            out = test if out is None else out & test
        return out

    def ref(self, *xs: Array) -> Array:
        x, grid = (a.astype(np.float64) for a in xs)
        spatial = x.shape[2:]
        out = np.zeros((*x.shape[:2], *grid.shape[1:-1]))
        for n, *at in np.ndindex(grid.shape[:-1]):
            places = [_place_ref(g, d, self.align_corners)
                      for g, d in zip(grid[(n, *at)][::-1], spatial)]  # fmt: skip
            lines = [self.taps_ref(p, d) for p, d in zip(places, spatial)]
            for chosen in every(*lines):
                index = [self.padded_ref(i, d) for (i, _), d in zip(chosen, spatial)]
                weight = np.prod([w for _, w in chosen])
                if None not in index:
                    out[(n, slice(None), *at)] += weight * x[(n, slice(None), *index)]
        return narrow(out, xs[0])

    def taps_ref(self, p: float, size: int) -> list[tuple[int, float]]:
        """For references: index and weight of every element that counts on one axis."""
        if self.mode == "nearest":
            p = float(np.rint(p))
        if self.mode != "cubic" and self.padding == "border":
            p = min(max(p, 0), size - 1)
        if self.mode != "cubic" and self.padding == "reflection":
            p = _reflected_ref(p, size, self.align_corners)
        if self.mode == "nearest":
            return [(int(np.rint(p)), 1.0)]
        first = int(np.floor(p))
        if self.mode == "linear":
            return [(first, 1 - (p - first)), (first + 1, p - first)]
        a, out = -0.75, []
        for k in range(-1, 3):
            d = abs(p - first - k)
            w = (a + 2) * d**3 - (a + 3) * d**2 + 1 if d <= 1 else (
                a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a)  # fmt: skip
            out.append((first + k, w))
        return out

    def padded_ref(self, i: int, size: int) -> int | None:
        """For references: the element an index stands for."""
        if self.padding == "zeros":
            return i if 0 <= i < size else None
        if self.padding == "reflection":
            i = round(_reflected_ref(i, size, self.align_corners))
        return min(max(i, 0), size - 1)

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        taps: int = (4 if self.mode == "cubic" else 2) ** (types[0].ndim - 2)
        return out.size * taps * 2


def _place_ref(g: float, size: int, align_corners: bool) -> float:
    return (g + 1) / 2 * (size - 1) if align_corners else ((g + 1) * size - 1) / 2


def _reflected_ref(p: float, size: int, align_corners: bool) -> float:
    low, high = (0, size - 1) if align_corners else (-0.5, size - 0.5)
    while high > low and not low <= p <= high:
        p = 2 * low - p if p < low else 2 * high - p
    return min(max(p, 0), size - 1)


@graph_function("grid_sample")
def grid_sample(
    x: Any, grid: Any, mode: str = "linear", padding: str = "zeros", align_corners: bool = False
) -> Value:
    """x [n, c, *spatial] read at grid [n, *positions, r], r the number of spatial axes: [n, c,
    *positions]. A place is named by numbers from -1 to 1, for the last spatial axis first.

    `mode`: "linear", "nearest" or "cubic"; `padding`: "zeros", "border" or "reflection", what lies
    outside; `align_corners`: whether -1 and 1 are the centres of the outermost elements, else their
    outer edges. Gradients flow to both.
    """
    for what, given, names in (("mode", mode, MODES), ("padding", padding, PADDINGS)):
        if given not in names:
            raise ConfigError(f"grid_sample: {what} {given!r} is none of {', '.join(names)}")
    v, g = operands(x, grid)
    return make(GridSample(mode, padding, bool(align_corners)), v, CALLS["cast"](g, v.dtype))


@graph_function("affine_grid")
def affine_grid(theta: Any, size: Sequence[Any], align_corners: bool = False) -> Value:
    """The grid, as `grid_sample` takes it, that maps positions of an image of `size` [*spatial]
    through the matrices theta [n, r, r + 1]: [n, *spatial, r]."""
    v = as_value(theta)
    spatial = as_shape(size)
    rank = len(spatial)
    if v.ndim != 3 or v.shape[1:] != (rank, rank + 1):
        raise ShapeError(f"affine_grid: matrices for {rank} spatial axes are "
                         f"[n,{rank},{rank + 1}], these are {v.type}")  # fmt: skip
    kind = v.dtype if v.dtype.computes else float32
    lines: list[Value] = []
    for k, d in reversed(list(enumerate(spatial))):
        shape: list[Dim] = [1] * rank
        shape[k] = d
        i = CALLS["iota"](shape, k, kind, v.node.owner)
        n = _count(d, i)
        if align_corners:
            line = i * 2 / alg.maximum(n - 1, 1.0) - 1 if isinstance(n, Value) else (
                i * (2 / (n - 1)) - 1 if n > 1 else i)  # fmt: skip
        else:
            line = (i * 2 + 1) / n - 1
        lines.append(CALLS["broadcast_to"](line, spatial))
    ones = CALLS["full"](spatial, 1, kind, v.node.owner)
    places = CALLS["reshape"](CALLS["stack"]([*lines, ones], -1), (product(spatial), rank + 1))
    mapped = CALLS["matmul"](places, CALLS["transpose"](v, (0, 2, 1)))
    return CALLS["reshape"](mapped, (v.shape[0], *spatial, rank))  # type: ignore[no-any-return]
