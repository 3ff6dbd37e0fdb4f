"""Operators that put elements in order or choose some of them."""

from __future__ import annotations

from ....ir import Value
from ....ops import sorting
from ..call import Call
from ..registry import converter


@converter("TopK", halves=True)
def _top_k(call: Call) -> tuple[Value, ...]:
    """In order whether `sorted` asks for it or not."""
    k = call.dims(1)[0] if call.version >= 10 else call.integer("k")
    axis, largest = call.integer("axis", -1), call.flag("largest", True)
    return sorting.top_k(call.value(0), k, axis, largest)
