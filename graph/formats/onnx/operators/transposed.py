"""Operators that put windows back: transposed convolution, col2im, unpooling."""

from __future__ import annotations

from math import prod
from typing import Any

from ....ir import Value
from ....ops.patches import col2im
from ....ops.pooling import max_unpool
from ....ops.shape import reshape
from ....ops.transposed import conv_transpose
from ..call import Call
from ..registry import converter

_PADDING = {"SAME_UPPER": "same", "SAME_LOWER": "same_lower", "VALID": "valid"}


def _pairs(call: Call, rank: int) -> tuple[tuple[int, int], ...]:
    """Padding before and after every axis, from all befores and then all afters."""
    given = call.integers("pads") or (0,) * (2 * rank)
    if len(given) != 2 * rank:
        call.refuse(f"pads {given} over {rank} axes")
    return tuple(zip(given[:rank], given[rank:]))


@converter("ConvTranspose")
def _conv_transpose(call: Call) -> Value:
    x, w = call.value(0), call.value(1)
    rank = x.ndim - 2
    auto = call.text("auto_pad", "NOTSET")
    if auto != "NOTSET" and auto not in _PADDING:
        call.refuse(f"auto_pad {auto!r} is not known")
    padding: Any = _PADDING.get(auto)
    sizes = call.integers("output_shape")
    if padding is None:
        padding = "same_lower" if sizes else _pairs(call, rank)
    out = conv_transpose(
        x, w, call.integers("strides") or 1, padding, call.integers("output_padding") or 0,
        call.integers("dilations") or 1, call.integer("group", 1), sizes[-rank:] if sizes else None,
    )  # fmt: skip
    return out + reshape(call.value(2), (-1, *(1,) * rank)) if call.has(2) else out


@converter("Col2Im")
def _col2im(call: Call) -> Value:
    window = call.ints(2)
    return col2im(call.value(0), call.dims(1), window, call.integers("strides") or 1,
                  _pairs(call, len(window)), call.integers("dilations") or 1)  # fmt: skip


@converter("MaxUnpool", halves=True)
def _max_unpool(call: Call) -> Value:
    """Indices count the elements of the whole tensor that was pooled; what lies beyond it in the
    shape asked for is zeros."""
    x, indices = call.value(0), call.value(1)
    window = call.integers("kernel_shape")
    if window is None or len(window) != x.ndim - 2:
        call.refuse(f"kernel_shape {window} for {x.type}")
    strides = call.integers("strides") or (1,) * len(window)
    if len(strides) != len(window):
        call.refuse(f"strides {strides} for windows {window}")
    pads = _pairs(call, len(window))
    spatial = [(d - 1) * s - a - b + k
               for d, s, (a, b), k in zip(x.shape[2:], strides, pads, window)]  # fmt: skip
    plane = prod(d for d in spatial if isinstance(d, int))
    if not all(isinstance(d, int) for d in spatial):
        call.refuse(f"the spatial sizes of {x.type} must be known")
    made = max_unpool(x, indices % plane, spatial)
    if not call.has(2):
        return made
    from ....ops.padding import pad

    more = [a - b for a, b in zip(call.dims(2)[-len(window) :], spatial)]
    return pad(made, (0,) * x.ndim, (0, 0, *more))
