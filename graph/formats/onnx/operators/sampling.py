"""Images read at places that other tensors name: grids, regions, deformed windows."""

from __future__ import annotations

from ....ir import Value
from ....ops.deformable import deform_conv
from ....ops.grid import affine_grid, grid_sample
from ....ops.pointwise import cast
from ....ops.roi import max_roi_pool, roi_align
from ....ops.shape import reshape
from ..call import Call
from ..registry import converter
from .windows import geometry

_MODES = {"bilinear": "linear", "bicubic": "cubic"}  # as they were called before opset 20


@converter("GridSample")
def _grid_sample(call: Call) -> Value:
    mode = call.text("mode", "linear")
    return grid_sample(call.value(0), call.value(1), _MODES.get(mode, mode),
                       call.text("padding_mode", "zeros"), call.flag("align_corners"))  # fmt: skip


@converter("AffineGrid")
def _affine_grid(call: Call) -> Value:
    return affine_grid(call.value(0), call.dims(1)[2:], call.flag("align_corners"))


@converter("RoiAlign")
def _roi_align(call: Call) -> Value:
    """Before opset 16 places were not moved by half a pixel."""
    usual = "half_pixel" if call.version >= 16 else "output_half_pixel"
    coordinates = call.text("coordinate_transformation_mode", usual)
    mode = {"avg": "mean", "max": "max"}.get(call.text("mode", "avg"))
    if mode is None or coordinates not in ("half_pixel", "output_half_pixel"):
        call.refuse(
            f"mode {call.text('mode', 'avg')!r} or coordinates {coordinates!r} is not known"
        )
    samples = call.integer("sampling_ratio", 0)
    size = call.integer("output_height", 1), call.integer("output_width", 1)
    return roi_align(call.value(0), call.value(1), call.value(2), size, samples,
                     call.number("spatial_scale", 1.0), coordinates == "half_pixel", mode)  # fmt: skip


@converter("MaxRoiPool")
def _max_roi_pool(call: Call) -> Value:
    size = call.integers("pooled_shape")
    if size is None:
        call.refuse('attribute "pooled_shape" is missing')
    regions = call.value(1)
    if regions.ndim != 2 or regions.shape[1] != 5:
        call.refuse(f"regions are [r,5], an image number and a box, not {regions.type}")
    return max_roi_pool(call.value(0), regions[:, 1:], cast(regions[:, 0], "int64"), size,
                        call.number("spatial_scale", 1.0))  # fmt: skip


@converter("DeformConv")
def _deform_conv(call: Call) -> Value:
    x, w = call.value(0), call.value(1)
    window = tuple(d for d in w.shape[2:] if isinstance(d, int))
    g = geometry(call, x, window)
    padding = tuple(zip(g["pads_before"], g["pads_after"]))
    out = deform_conv(x, w, call.value(2), call.optional(4), g["strides"], padding, g["dilations"],
                      call.integer("group", 1), call.integer("offset_group", 1))  # fmt: skip
    if not call.has(3):
        return out
    return out + reshape(call.value(3), (-1, *(1,) * (x.ndim - 2)))
