"""Convolutions and pooling: operators with windows that slide over spatial axes."""

from __future__ import annotations

from typing import Any

from .....dims import Dim, DimExpr, product
from ....ir import Value
from ....ops import lp_pool, pooling
from ....ops.base import make
from ....ops.convolution import Conv
from ....ops.creation import iota
from ....ops.shape import reshape, size_of
from ....ops.windows import concrete, same_padding
from ..call import Call
from ..registry import converter


def geometry(call: Call, x: Value, window: tuple[int, ...]) -> dict[str, Any]:
    """Strides, padding and dilations of a node, for windows of these sizes over x."""
    rank = x.ndim - 2
    if rank < 1 or len(window) != rank or any(k < 1 for k in window):
        call.refuse(f"a window {window} over {x.type}")
    strides = call.integers("strides") or (1,) * rank
    dilations = call.integers("dilations") or (1,) * rank
    pads: tuple[Dim, ...] = call.integers("pads") or (0,) * (2 * rank)
    if len(strides) != rank or len(dilations) != rank or len(pads) != 2 * rank:
        call.refuse(f"strides {strides}, dilations {dilations}, pads {pads} over {rank} axes")
    if any(s < 1 for s in (*strides, *dilations)):
        call.refuse(f"strides {strides} and dilations {dilations} must be positive")
    auto = call.text("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        total = [same_padding(*a) for a in zip(x.shape[2:], window, strides, dilations)]
        less = [t // 2 for t in total]
        more = [t - n for t, n in zip(total, less)]
        pads = (*less, *more) if auto == "SAME_UPPER" else (*more, *less)
    elif auto == "VALID":
        pads = (0,) * (2 * rank)
    elif auto != "NOTSET":
        call.refuse(f"auto_pad {auto!r} is not known")
    return {"strides": strides, "pads_before": tuple(pads[:rank]),
            "pads_after": tuple(pads[rank:]), "dilations": dilations}  # fmt: skip


@converter("Conv")
def _conv(call: Call) -> Value:
    x, w = call.value(0), call.value(1)
    window = concrete(w.shape[2:])
    if w.ndim != x.ndim or len(window) != w.ndim - 2:
        call.refuse(f"weights {w.type} for {x.type}")
    given = call.integers("kernel_shape")
    if given is not None and given != window:
        call.refuse(f"kernel_shape {given} does not fit the weights {w.type}")
    op = Conv(**geometry(call, x, window), groups=call.integer("group", 1))
    out = make(op, x, w)
    if not call.has(2):
        return out
    b = call.value(2)
    return out + reshape(b, (1, *b.shape, *(1,) * (x.ndim - 2)))


def _pooled(call: Call) -> tuple[Value, dict[str, Any]]:
    """The operand, and what `max_pool` and its kin take."""
    x = call.value(0)
    window = call.integers("kernel_shape")
    if window is None:
        call.refuse('attribute "kernel_shape" is missing')
    g = geometry(call, x, window)
    pads = tuple(zip(g["pads_before"], g["pads_after"]))
    return x, {"window": window, "strides": g["strides"], "padding": pads,
               "dilations": g["dilations"], "ceil_mode": call.flag("ceil_mode")}  # fmt: skip


@converter("MaxPool")
def _max_pool(call: Call) -> tuple[Value, ...]:
    """Indices count the elements of the whole operand, from the last axis on, or with
    `storage_order` those of each channel from its first spatial axis on."""
    x, g = _pooled(call)
    if not call.wants(1):
        return (pooling.max_pool(x, **g),)
    largest, at = pooling.max_pool_with_indices(x, **g, column_major=call.flag("storage_order"))
    planes = reshape(iota((x.shape[0] * x.shape[1],), owner=call.graph),
                     (*x.shape[:2], *(1,) * (x.ndim - 2)))  # fmt: skip
    plane = product(x.shape[2:])
    step = size_of(plane, call.graph) if isinstance(plane, DimExpr) else plane
    return largest, at + planes * step


@converter("AveragePool")
def _average_pool(call: Call) -> Value:
    x, g = _pooled(call)
    return pooling.average_pool(x, **g, count_include_pad=call.flag("count_include_pad"))


@converter("LpPool")
def _lp_pool(call: Call) -> Value:
    x, g = _pooled(call)
    return lp_pool.lp_pool(x, **g, order=float(call.integer("p", 2)))


@converter("GlobalAveragePool")
def _global_average(call: Call) -> Value:
    return pooling.global_average_pool(call.value(0), True)


@converter("GlobalMaxPool")
def _global_max(call: Call) -> Value:
    return pooling.global_max_pool(call.value(0), True)


@converter("GlobalLpPool")
def _global_lp(call: Call) -> Value:
    return lp_pool.global_lp_pool(call.value(0), float(call.integer("p", 2)), True)
