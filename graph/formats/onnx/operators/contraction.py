"""Einstein's summation, determinants."""

from __future__ import annotations

from ....ir import Value
from ....ops.einsum import einsum
from ....ops.linalg import det
from ..call import Call
from ..registry import converter


@converter("Einsum")
def _einsum(call: Call) -> Value:
    return einsum(call.text("equation"), *call.values())


@converter("Det")
def _det(call: Call) -> Value:
    return det(call.value(0))
