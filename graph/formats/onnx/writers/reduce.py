"""Reductions, and running sums and products."""

from __future__ import annotations

from typing import Any

from .....dtypes import int64
from ....ir import CALLS, Value
from ....ops.base import make
from ....ops.creation import full
from ....ops.recurrent import scan
from ....ops.reduce import reduce_max, reduce_min, sum_
from ..draft import Site, Tensor
from ..writing import Composite, expansion, writer

_REDUCE = {"add": sum_, "max": reduce_max, "min": reduce_min}


@expansion("sum", "prod", "cumsum")
def _widened(n: Composite) -> Any:
    """Small integers and bools become 64 bits wide before, not after. Unsigned ones are summed as
    int64, which wraps as they do and which everything that reads models has."""
    (x,), to = n.inputs, n.outputs[0].dtype
    if to.kind == "u":
        return CALLS["cast"](make(n.op, CALLS["cast"](x, int64)), to)
    return make(n.op, CALLS["cast"](x, to)) if x.dtype != to else None


@writer("sum", "prod", "reduce_max", "reduce_min")
def _reduced(site: Site) -> Tensor:
    if not site.op.axes:
        return site.x
    return site.emit(site.op.onnx, site.x, site.ints(site.op.axes), keepdims=int(site.op.keepdims))


@writer("argmax", "argmin")
def _place(site: Site) -> Tensor:
    return site.emit(site.op.onnx, site.x, dtype=int64, axis=site.op.axes[0],
                     keepdims=int(site.op.keepdims))  # fmt: skip


@writer("cumsum")
def _cumsum(site: Site) -> Tensor:
    op = site.op
    return site.emit("CumSum", site.x, site.constant(op.axis, int64),
                     exclusive=int(op.exclusive), reverse=int(op.reverse))  # fmt: skip


@expansion("cumprod")
def _turn_by_turn(n: Composite) -> Any:
    """A loop: CumProd is known to few."""
    (x,), op = n.inputs, n.op
    wide = _widened(n)
    if wide is not None:
        return wide
    if x.shape[op.axis] == 0:
        return x
    order = (op.axis, *(k for k in range(x.ndim) if k != op.axis))
    line = CALLS["transpose"](x, order)

    def step(before: Value, element: Value) -> tuple[Value, Value]:
        after = before * element
        return after, before if op.exclusive else after

    first = full(line.shape[1:], 1, x.dtype, n.owner)
    _, made = scan(step, first, line, reverse=op.reverse)
    return CALLS["transpose"](made, tuple(order.index(k) for k in range(x.ndim)))


@expansion("reduce_blocks")
def _blocks(n: Composite) -> Value:
    """Blocks as an axis of their own, the last one filled up."""
    (x,), op = n.inputs, n.op
    axis, block, combine = op.axis, op.block, op.combine
    missing = -x.shape[axis] % block
    fill = {"add": 0.0, "max": -float("inf"), "min": float("inf")}[combine]
    after = tuple(missing if k == axis else 0 for k in range(x.ndim))
    padded = CALLS["pad"](x, (0,) * x.ndim, after, fill if x.dtype.is_float else 0)
    size = padded.shape[axis] // block
    apart = CALLS["reshape"](padded, (*x.shape[:axis], size, block, *x.shape[axis + 1 :]))
    axes = tuple(k + 1 if k >= axis else k for k in op.axes)
    return CALLS["squeeze"](_REDUCE[combine](apart, axes, True), axis + 1)
