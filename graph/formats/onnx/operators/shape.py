"""Operators that move elements."""

from __future__ import annotations

from ....ir import Value
from ....ops import shape
from ..call import Call
from ..registry import converter


@converter("Identity", halves=True)
def _identity(call: Call) -> Value:
    return call.value(0)


@converter("Transpose", halves=True)
def _transpose(call: Call) -> Value:
    return shape.transpose(call.value(0), call.integers("perm"))


@converter("Concat", halves=True)
def _concat(call: Call) -> Value:
    return shape.concat(call.values(), call.integer("axis"))
