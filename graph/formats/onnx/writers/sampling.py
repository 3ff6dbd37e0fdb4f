"""Interpolation: weighted elements at places that data or geometry name."""

from __future__ import annotations

from typing import Any

from ..... import algorithm as alg
from .....dtypes import int64
from ....ir import CALLS, Value
from ....ops.base import make
from ....ops.indexing import AddAlongAxis
from ..draft import Site, Tensor
from ..writing import Composite, expansion, writer
from .shape import number


@expansion("resample")
def _resample(n: Composite) -> Value:
    x, indices, weights = n.inputs
    axis = n.op.axis
    last = number(x.shape[axis] - 1, x)
    at = CALLS["max"](CALLS["min"](CALLS["cast"](indices, int64), last), 0)
    taken = CALLS["gather"](x, at, axis)
    line = CALLS["reshape"](weights, (*weights.shape, *[1] * (x.ndim - axis - 1)))
    return CALLS["sum"](taken * line, axis + 1)


def _inside(indices: Value, size: Any) -> tuple[Value, Value]:
    """Which indices name an element, and all of them as indices that do."""
    at = CALLS["cast"](indices, int64)
    inside = (at >= 0) & (at < number(size, at))
    return inside, alg.where(inside, at, 0)


def _lines(at: Value, channels: Any) -> Value:
    """Indices [n, taps, m] for every channel, [n, channels, taps * m]."""
    n, taps, m = at.shape
    flat = CALLS["reshape"](at, (n, 1, taps * m))
    return CALLS["broadcast_to"](flat, (n, channels, taps * m))


@expansion("sample_at")
def _sample_at(n: Composite) -> Value:
    x, indices, weights = n.inputs
    inside, at = _inside(indices, x.shape[2])
    taken = CALLS["take_along_axis"](x, _lines(at, x.shape[1]), 2)
    apart = CALLS["reshape"](taken, (*x.shape[:2], *indices.shape[1:]))
    factors = CALLS["expand_dims"](alg.where(inside, weights, 0), 1)
    return CALLS["sum"](apart * factors, 2)


@expansion("spread_at")
def _spread_at(n: Composite) -> Value:
    g, indices, weights = n.inputs
    size = n.op.size
    inside, at = _inside(indices, size)
    factors = CALLS["expand_dims"](alg.where(inside, weights, 0), 1)
    parts = CALLS["expand_dims"](g, 2) * factors
    shape = (*g.shape[:2], indices.shape[1] * indices.shape[2])
    return make(AddAlongAxis(2, size), _lines(at, g.shape[1]), CALLS["reshape"](parts, shape))


@expansion("sample_dot")
def _sample_dot(n: Composite) -> Value:
    x, indices, g = n.inputs
    inside, at = _inside(indices, x.shape[2])
    taken = CALLS["take_along_axis"](x, _lines(at, x.shape[1]), 2)
    apart = CALLS["reshape"](taken, (*x.shape[:2], *indices.shape[1:]))
    dots = CALLS["sum"](apart * CALLS["expand_dims"](g, 2), 1)
    return alg.where(inside, dots, 0)


@expansion("grid_sample")
def _grid_sample(n: Composite) -> Value | None:
    """The operator is for images and volumes."""
    return None if n.inputs[0].ndim in (4, 5) else n.op.expand(*n.inputs)


@writer("grid_sample", since=20)
def _grid_sample_out(site: Site) -> Tensor:
    op = site.op
    return site.emit("GridSample", *site.xs, mode=op.mode, padding_mode=op.padding,
                     align_corners=int(op.align_corners))  # fmt: skip


@writer("roi_align")
def _roi_align(site: Site) -> Tensor:
    op = site.op
    x, regions, images = site.xs
    return site.emit(
        "RoiAlign", x, regions, site.cast(images, int64), mode="max" if op.largest else "avg",
        output_height=op.size[0], output_width=op.size[1], sampling_ratio=op.samples_per_bin,
        spatial_scale=op.scale,
        coordinate_transformation_mode="half_pixel" if op.half_pixel else "output_half_pixel",
    )  # fmt: skip
