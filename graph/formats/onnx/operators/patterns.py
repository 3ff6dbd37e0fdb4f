"""Matrices of a pattern, triangles, draws from a distribution."""

from __future__ import annotations

from ....ir import Value
from ....ops.arrange import tril, triu
from ....ops.creation import eye
from ....ops.pointwise import cast
from ....ops.random import multinomial
from ..call import Call
from ..registry import converter


@converter("EyeLike", halves=True)
def _eye_like(call: Call) -> Value:
    x = call.value(0)
    if x.ndim != 2:
        call.refuse(f"it makes matrices like a matrix, not like {x.type}")
    kind = call.dtype("dtype") if call.given("dtype") else x.dtype
    rows, columns = x.shape
    return eye(rows, columns, call.integer("k", 0), kind, call.graph)


@converter("Trilu", halves=True)
def _trilu(call: Call) -> Value:
    """The part above a diagonal, or below it."""
    x = call.value(0)
    k: int | Value = 0
    if call.has(1):
        known = call.operand(1).array()
        k = call.value(1) if known is None else int(call.single(1))
    return triu(x, k) if call.flag("upper", True) else tril(x, k)


@converter("Multinomial")
def _multinomial(call: Call) -> Value:
    drawn = multinomial(call.value(0), call.integer("sample_size", 1))
    return cast(drawn, call.dtype("dtype", "int32"))
