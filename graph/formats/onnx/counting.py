"""How often a loop with a condition runs, where that follows from sizes.

Exporters write a loop over a sequence as one that counts and compares. In: the condition as a value
of the body's inputs, the first carries and the next ones. Out: the number of turns as a dimension.
"""

from __future__ import annotations

from collections.abc import Sequence

from ....dims import Dim, ceildiv, maximum
from ...ir import Value
from ...ops.logic import Ge, Gt, Le, Lt
from ...ops.pointwise import Add, Cast, Sub
from ...ops.shape import Concat, Reshape, SizeOf
from ...ops.source import Constant


def turns(again: Value, begins: bool | Value, inputs: Sequence[Value], first: Sequence[Value],
          after: Sequence[Value]) -> Dim | None:  # fmt: skip
    """The number of turns of a loop that goes on while `again`, of values of `inputs`; these begin
    as `first` and become `after`. None where it does not follow from sizes."""
    found = _less(again)
    if found is None:
        return None
    (counter, offset), (none, most) = found
    k = next((k for k, v in enumerate(inputs) if v is counter), None)
    if k is None or none is not None:
        return None
    grows, step = _sum(after[k])
    constant, start = _sum(first[k])
    if grows is not counter or not isinstance(step, int) or step < 1 or constant is not None:
        return None
    more = maximum(ceildiv(most - offset - start, step), 0)  # after the first turn
    if begins is True:
        return 1 + more
    asked = _less(begins) if isinstance(begins, Value) else None
    same = asked is not None and asked == ((None, start), (None, most)) and offset == step
    return maximum(ceildiv(most - start, step), 0) if same else None


_Sum = tuple[Value | None, Dim]
"""A value, or 0, and what is added to it."""


def _less(v: Value) -> tuple[_Sum, _Sum] | None:
    """a and b where v says whether a < b, of whole numbers."""
    v = _bare(v)
    if not isinstance(v.node.op, Lt | Le | Gt | Ge):
        return None
    a, b = map(_sum, v.node.inputs)
    if isinstance(v.node.op, Gt | Ge):
        a, b = b, a
    return a, ((b[0], b[1] + 1) if isinstance(v.node.op, Le | Ge) else b)


def _sum(v: Value) -> _Sum:
    v = _bare(v)
    op, inputs = v.node.op, v.node.inputs
    if isinstance(op, SizeOf):
        return None, op.dim
    if isinstance(op, Constant) and op.data.array.size == 1:
        number = op.data.array.reshape(-1)[0].item()
        if number == int(number):
            return None, int(number)
    if isinstance(op, Add | Sub) and v.dtype.is_integer:
        (a, x), (b, y) = map(_sum, inputs)
        if isinstance(op, Add) and (a is None or b is None):
            return (a if b is None else b), x + y
        if isinstance(op, Sub) and b is None:
            return a, x - y
    return v, 0


def _bare(v: Value) -> Value:
    """v without what neither moves nor changes whole numbers that count something."""
    while (isinstance(v.node.op, Cast) and v.dtype.itemsize >= 4) or (
        isinstance(v.node.op, Reshape | Concat) and len(v.node.inputs) == 1
    ):
        v = v.node.inputs[0]
    return v
