"""Convolutions and pooling: operators with windows that slide over spatial axes."""

from __future__ import annotations

from math import prod
from typing import Any

from .....dims import Dim, ceildiv
from ....ir import Value
from ....ops import pointwise, reduce
from ....ops.base import make
from ....ops.convolution import Conv
from ....ops.pooling import MaxPool, PoolCount, SumPool
from ....ops.shape import reshape
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


def _pooled(call: Call) -> tuple[Value, dict[str, Any], list[int]]:
    """The operand, the windows, and how many positions more each axis gets where the last window
    may begin inside and end beyond (ceil_mode); they are padding that never counts."""
    x = call.value(0)
    window = call.integers("kernel_shape")
    if window is None:
        call.refuse('attribute "kernel_shape" is missing')
    g = {**geometry(call, x, window), "window": window}
    beyond = [0] * len(window)
    if call.flag("ceil_mode"):
        for k, size in enumerate(x.shape[2:]):
            span = (window[k] - 1) * g["dilations"][k] + 1
            room = size + g["pads_before"][k] + g["pads_after"][k] - span
            count = ceildiv(room, g["strides"][k]) + 1
            # a window that would begin in the padding behind is left out
            more = (count - 1) * g["strides"][k] - room
            first = (count - 1) * g["strides"][k] - g["pads_before"][k]
            if not isinstance(more, int) or not isinstance(first - size, int):
                call.refuse(f"ceil_mode over an axis of size {size}")
            beyond[k] = more if first - size < 0 else 0
        g["pads_after"] = tuple(p + b for p, b in zip(g["pads_after"], beyond))
    return x, g, beyond


@converter("MaxPool")
def _max_pool(call: Call) -> tuple[Value | None, ...]:
    if call.wants(1):
        call.refuse("the indices of the largest elements are not supported")
    x, g, _ = _pooled(call)
    return (make(MaxPool(**g), x),)


@converter("AveragePool")
def _average_pool(call: Call) -> Value:
    x, g, beyond = _pooled(call)
    total = make(SumPool(**g), x)
    inside = call.flag("count_include_pad")
    if inside and not any(beyond):
        return total * (1.0 / prod(g["window"]))
    if not inside and all(p == 0 for p in (*g["pads_before"], *g["pads_after"])):
        return total * (1.0 / prod(g["window"]))
    spatial = x.shape[2:]
    if inside:  # all but what lies beyond the padding counts
        own = {**g, "pads_before": (0,) * len(beyond), "pads_after": tuple(beyond)}
        spatial = tuple(d + b + a - m for d, b, a, m in
                        zip(spatial, g["pads_before"], g["pads_after"], beyond))  # fmt: skip
        g = own
    count = PoolCount(**g, spatial=spatial, dtype=x.dtype)
    return total / call.graph.node(count, ()).outputs[0]


@converter("LpPool")
def _lp_pool(call: Call) -> Value:
    x, g, _ = _pooled(call)
    p = call.integer("p", 2)
    size = pointwise.abs_(x)
    total = make(SumPool(**g), size if p == 1 else pointwise.power(size, p))
    return total if p == 1 else pointwise.power(total, 1.0 / p)


def _spatial(x: Value) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


@converter("GlobalAveragePool")
def _global_average(call: Call) -> Value:
    x = call.value(0)
    return reduce.mean(x, _spatial(x), True)


@converter("GlobalMaxPool")
def _global_max(call: Call) -> Value:
    x = call.value(0)
    return reduce.reduce_max(x, _spatial(x), True)


@converter("GlobalLpPool")
def _global_lp(call: Call) -> Value:
    from ....ops.norms import norm

    x = call.value(0)
    return norm(x, float(call.integer("p", 2)), _spatial(x), True)
