"""Order along an axis, and boxes by their scores."""

from __future__ import annotations

from typing import Any

from .....dtypes import bool_, float32, int64, uint64
from ....ir import CALLS, Value
from ....ops.creation import iota
from ..draft import Site, Tensor
from ..writing import Composite, expansion, writer


@writer("sort")
def _sort(site: Site) -> tuple[Tensor, ...]:
    """All elements in order. TopK puts of equal elements the first one first."""
    size = site.types[0].shape[site.op.axis]
    return _ordered(site, size, site.op.descending)


@writer("top_k")
def _top_k(site: Site) -> tuple[Tensor, ...]:
    return _ordered(site, site.op.k, site.op.largest)


@expansion("sort", "top_k")
def _signed(n: Composite) -> Any:
    """Of 64 bits only signed integers are ordered: the first bit is turned over, before and after."""
    (x,) = n.inputs
    if x.dtype != uint64:
        return None
    turn = CALLS["constant"](1 << 63, uint64, n.owner)
    values, places = n.owner.node(n.op, (CALLS["cast"](x ^ turn, int64),)).outputs
    return CALLS["cast"](values, uint64) ^ turn, places


def _ordered(site: Site, count: object, largest: bool) -> tuple[Tensor, ...]:
    return site.several("TopK", [None, int64], site.x, site.dims([count]), axis=site.op.axis,  # type: ignore[list-item]
                        largest=int(largest), sorted=1)  # fmt: skip


@expansion("row_order")
def _row_order(n: Composite) -> Value | None:
    """A stable sort by each column, the last one first."""
    (x,) = n.inputs
    rows, columns = x.shape
    if not isinstance(columns, int):
        return None
    order = iota((rows,), owner=n.owner)
    for k in reversed(range(columns)):
        key = CALLS["gather"](x[:, k], order)
        order = CALLS["gather"](order, CALLS["argsort"](key))
    return order


@writer("selected_boxes")
def _selected_boxes(site: Site) -> Tensor:
    """The places NonMaxSuppression lists, [selected, 3], written to where their image and class
    have theirs: as the how-manieth of them each one is."""
    boxes, scores, many, share, least = site.xs
    share = site.emit("Clip", share, site.constant(0, float32), site.constant(1, float32))
    found = site.emit("NonMaxSuppression", boxes, scores, many, share, least, dtype=int64,
                      center_point_box=int(site.op.centred))  # fmt: skip
    columns = [site.emit("Gather", found, site.constant(k, int64), axis=1) for k in range(3)]
    classes = site.emit("Squeeze", site.dims([site.types[1].shape[1]]), site.ints([0]))
    key = site.emit("Add", site.emit("Mul", columns[0], classes), columns[1])
    down, across = (site.emit("Unsqueeze", key, site.ints([k])) for k in (1, 0))
    same = site.cast(site.emit("Equal", down, across, dtype=bool_), int64)
    count = site.emit("Squeeze", site.emit("Shape", key, dtype=int64), site.ints([0]))
    numbers = site.emit("Range", site.constant(0, int64), count, site.constant(1, int64))
    rows, others = (site.emit("Unsqueeze", numbers, site.ints([k])) for k in (1, 0))
    before = site.cast(site.emit("Less", others, rows, dtype=bool_), int64)
    rank = site.emit("ReduceSum", site.emit("Mul", same, before), site.ints([1]), keepdims=0)
    parts = [site.emit("Unsqueeze", v, site.ints([1])) for v in (*columns[:2], rank)]
    at = site.emit("Concat", *parts, axis=1)
    nothing = site.emit("Expand", site.constant(-1, int64), site.dims(site.out.shape))
    return site.emit("ScatterND", nothing, at, columns[2])
