"""Quantisation, and products of integers and of quantised values."""

from __future__ import annotations

from typing import Any

from ....ir import Value
from ....ops import integer_products, pointwise, qlinear, quantized
from ....ops.windows import concrete
from ..call import Call
from ..registry import converter
from .windows import geometry


def _axis(call: Call, scale: Value) -> int | None:
    """The axis along which scales differ; None where there is one for all."""
    return None if scale.ndim == 0 or scale.type.size == 1 else call.integer("axis", 1)


@converter("QuantizeLinear", halves=True)
def _quantize(call: Call) -> Value:
    x, scale, zero = call.value(0), call.value(1), call.optional(2)
    to = None
    if zero is None and call.integer("output_dtype", 0):
        to = call.dtype("output_dtype")
    return quantized.quantize_linear(x, scale, zero, _axis(call, scale),
                                     call.integer("block_size", 0), to)  # fmt: skip


@converter("DequantizeLinear", halves=True)
def _dequantize(call: Call) -> Value:
    q, scale = call.value(0), call.value(1)
    out = quantized.dequantize_linear(q, scale, call.optional(2), _axis(call, scale),
                                      call.integer("block_size", 0))  # fmt: skip
    return pointwise.cast(out, call.dtype("output_dtype", scale.dtype))


@converter("DynamicQuantizeLinear")
def _dynamic_quantize(call: Call) -> tuple[Value, ...]:
    return quantized.dynamic_quantize_linear(call.value(0))


@converter("MatMulInteger")
def _matmul_integer(call: Call) -> Value:
    return integer_products.matmul_integer(
        call.value(0), call.value(1), call.optional(2), call.optional(3)
    )


@converter("QLinearMatMul", halves=True)
def _qlinear_matmul(call: Call) -> Value:
    return qlinear.qlinear_matmul(*call.values())


def _windows(call: Call, x: Value, w: Value) -> dict[str, Any]:
    """The arguments of a convolution."""
    given = geometry(call, x, concrete(w.shape[2:]))
    padding = list(zip(given["pads_before"], given["pads_after"]))
    return {"strides": given["strides"], "padding": padding, "dilations": given["dilations"],
            "groups": call.integer("group", 1)}  # fmt: skip


@converter("ConvInteger")
def _conv_integer(call: Call) -> Value:
    x, w = call.value(0), call.value(1)
    return integer_products.conv_integer(
        x, w, call.optional(2), call.optional(3), **_windows(call, x, w)
    )


@converter("QLinearConv")
def _qlinear_conv(call: Call) -> Value:
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero = (call.value(k) for k in range(8))
    return qlinear.qlinear_conv(x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero,
                                call.optional(8), **_windows(call, x, w))  # fmt: skip
