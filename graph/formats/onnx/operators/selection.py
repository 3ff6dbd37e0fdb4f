"""Operators that put elements in order or choose some of them. How many these are may be known only
when a run has computed it: such a size is a dimension of its own (`ops/sizes.py`)."""

from __future__ import annotations

from ....ir import Value
from ....ops import selection, sizes, sorting
from ....ops.arrange import compress
from ....ops.shape import reshape
from ..call import Call
from ..registry import converter


@converter("TopK", halves=True)
def _top_k(call: Call) -> tuple[Value, ...]:
    """In order whether `sorted` asks for it or not."""
    axis, largest = call.integer("axis", -1), call.flag("largest", True)
    x = call.value(0)
    if call.version >= 10 and call.told_by_run(1):
        every = sorting.top_k(x, x.shape[axis], axis, largest)
        k = reshape(call.value(1), ())
        return tuple(sizes.prefix(v, k, axis, "top_k") for v in every)
    return sorting.top_k(
        x, call.dims(1)[0] if call.version >= 10 else call.integer("k"), axis, largest
    )


@converter("NonZero", halves=True)
def _nonzero(call: Call) -> Value:
    return sizes.nonzero(call.value(0))


@converter("Compress", halves=True)
def _compress(call: Call) -> Value:
    axis = call.integer("axis") if call.given("axis") else None
    known = call.operand(1).array()
    return compress(call.value(0), call.value(1) if known is None else known.tolist(), axis)


@converter("Unique", halves=True)
def _unique(call: Call) -> tuple[Value, ...]:
    axis = call.integer("axis") if call.given("axis") else None
    return selection.unique(call.value(0), axis, call.flag("sorted", True))


@converter("NonMaxSuppression")
def _non_max_suppression(call: Call) -> Value:
    """Without a number of boxes to keep none is kept."""
    limits: list[Value | float] = [0, 0.0, -float("inf")]
    for k in range(3):
        if call.has(2 + k):
            known = call.operand(2 + k).array()
            limits[k] = (
                reshape(call.value(2 + k), ()) if known is None else call.single(2 + k).item()
            )
    most, share, least = limits
    if not isinstance(most, Value):
        most = max(int(most), 0)
    return selection.non_max_suppression(call.value(0), call.value(1), most, share, least,
                                         call.flag("center_point_box"))  # fmt: skip
