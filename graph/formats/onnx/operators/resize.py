"""Resizing, and the older operators that resize."""

from __future__ import annotations

from typing import Any

from .....dtypes import float32
from ....ir import Value
from ....ops import pointwise, resize
from ....ops.base import normal_axis
from ..call import Call
from ..registry import converter

_NEAREST_FLOOR = {"coordinates": "asymmetric", "rounding": "floor"}


@converter("Resize", since=11)
def _resize(call: Call) -> Value:
    x = call.value(0)
    axes = call.integers("axes")
    chosen = range(x.ndim) if axes is None else [normal_axis(a, x.ndim) for a in axes]
    options: dict[str, Any] = {
        "axes": chosen, "mode": call.text("mode", "nearest"),
        "coordinates": call.text("coordinate_transformation_mode", "half_pixel"),
        "rounding": call.text("nearest_mode", "round_prefer_floor"),
        "antialias": call.flag("antialias"), "cubic": call.number("cubic_coeff_a", -0.75),
        "exclude_outside": call.flag("exclude_outside"),
        "extrapolation": call.number("extrapolation_value", 0.0),
        "policy": call.text("keep_aspect_ratio_policy", "stretch"),
    }  # fmt: skip
    if options["coordinates"] == "tf_crop_and_resize":
        given = call.operand(1)
        known = given.array()
        options["roi"] = given.value if known is None else call.numbers_of(1)
    if call.has(3):
        options["sizes"] = call.dims(3)
    else:
        options["scales"] = call.numbers_of(2)
    return _resized(x, options)


@converter("Resize", since=10)
@converter("Upsample", since=9)
def _by_scales(call: Call) -> Value:
    x = call.value(0)
    return _resized(x, {"scales": call.numbers_of(1), "mode": call.text("mode", "nearest"),
                        **_NEAREST_FLOOR})  # fmt: skip


@converter("Upsample", since=7)
def _by_attribute(call: Call) -> Value:
    scales = call.numbers("scales")
    if scales is None:
        call.refuse('attribute "scales" is missing')
    return _resized(call.value(0), {"scales": scales, "mode": call.text("mode", "nearest"),
                                    **_NEAREST_FLOOR})  # fmt: skip


def _resized(x: Value, options: dict[str, Any]) -> Value:
    """x resized; integers are interpolated as floats."""
    if x.dtype.is_float or options["mode"] == "nearest":
        return resize.resize(x, **options)
    return pointwise.cast(resize.resize(pointwise.cast(x, float32), **options), x.dtype)
