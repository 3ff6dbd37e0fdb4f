"""How large whole numbers can become that data decide, as far as what they are made of tells.

A tensor whose size a run computes lies in memory for the largest size. In: a value of the graph.
Out: a bound of its elements as a dimension; the elements of a shape, one by one. Whatever exceeds a
bound fails the run, so that nothing depends on sums that overflow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce

import numpy as np

from ....dims import Dim, ceildiv, maximum, minimum, product
from ....dims import bounds as extent
from ....dtypes import Array, bool_, int64
from ...ir import Value
from ...ops import pointwise as p
from ...ops.base import Op
from ...ops.division import TruncDivide
from ...ops.effects import EnsureShape
from ...ops.indexing import Gather
from ...ops.padding import PadFrom
from ...ops.reduce import ArgExtreme, Extreme, Sum
from ...ops.shape import Concat, Movement, Pad, Reshape, SizeOf, Unslice, reshape
from ...ops.sizes import Nonzero
from ...ops.source import Constant

_DEEPEST = 64  # ops in a row to look through
_LARGEST = 1 << 31  # a number as large as this bounds nothing
_Range = tuple[Dim | None, Dim | None]
"""The least and the most; None: unknown."""


def largest(v: Value) -> Dim | None:
    """What no element of `v` exceeds, 0 or more; None if nothing tells. Floats may be fractions."""
    _, high = _range(v, _DEEPEST, {})
    if high is None or (isinstance(high, int) and high >= _LARGEST):
        return None
    return maximum(high, 0)


def elements(v: Value, depth: int = _DEEPEST) -> list[Dim | Value]:
    """The elements of a vector of integers, of a length that is a number: those that are known as
    dimensions, the others as int64 scalars."""
    op = v.node.op
    given = v.node.inputs if depth else ()
    if isinstance(op, Constant):
        return [int(n) for n in op.data.array.reshape(-1)]
    if isinstance(op, p.Cast) and given and given[0].dtype.is_integer:
        return elements(given[0], depth - 1)
    if isinstance(op, Concat) and given and all(isinstance(x.shape[0], int) for x in given):
        return [e for x in given for e in elements(x, depth - 1)]
    if v.type.size == 1:
        while isinstance(v.node.op, Reshape):
            v = v.node.inputs[0]
        if isinstance(v.node.op, SizeOf):
            return [v.node.op.dim]
        if given and v.ndim == 1 and v.node.op is not op:
            return elements(v, depth - 1)
        return [p.cast(reshape(v, ()), int64)]
    return [p.cast(reshape(v[k : k + 1], ()), int64) for k in range(int(v.type.size))]  # type: ignore[arg-type]


def _range(v: Value, depth: int, known: dict[Value, _Range]) -> _Range:
    """A range of all elements of `v`. `known`: those that were found before."""
    if v not in known:
        known[v] = _found(v, depth, known)
    return known[v]


def _found(v: Value, depth: int, known: dict[Value, _Range]) -> _Range:
    if v.dtype == bool_:
        return 0, 1
    if isinstance(v.node.op, Constant):
        return _of_numbers(v.node.op.data.array)
    if depth == 0:
        return None, None
    op, given = v.node.op, [_range(x, depth - 1, known) for x in v.node.inputs]
    if isinstance(op, SizeOf):
        return op.dim, op.dim
    if isinstance(op, Nonzero) and v.index == 1:
        return 0, v.node.inputs[0].type.size
    if isinstance(op, ArgExtreme):
        return 0, product(v.node.inputs[0].shape[k] for k in op.axes) - 1
    if isinstance(op, Sum):
        count = product(v.node.inputs[0].shape[k] for k in op.axes)
        return _times(given[0], (count, count))
    if isinstance(op, Concat):
        return reduce(_either, given)
    if isinstance(op, p.Where):
        return _either(given[1], given[2])
    if isinstance(op, p.Cast | p.Rounding | Extreme | EnsureShape | Gather) or (
        isinstance(op, Movement) and not isinstance(op, Pad | PadFrom | Unslice)
    ):
        return given[0]
    if isinstance(op, p.Div) and (parts := _parts(v.node.inputs[1])) > 1:
        return _times(given[0], (parts, parts))
    found = _PAIRS.get(type(op))
    return (None, None) if found is None else found(*given)


def _of_numbers(a: Array) -> _Range:
    if not a.size or a.dtype.kind not in "iuf" or not np.isfinite(a).all():
        return None, None
    return math.floor(a.min()), math.ceil(a.max())


def _parts(v: Value) -> int:
    """How many of a positive constant make 1, or more; 0 if it is none."""
    a = v.node.op.data.array if isinstance(v.node.op, Constant) else np.zeros(1)
    return math.ceil(1 / a.min()) if a.size and a.min() > 0 else 0


def _add(a: _Range, b: _Range) -> _Range:
    low, high = ((None if x is None or y is None else x + y) for x, y in zip(a, b))
    return low, high


def _neg(a: _Range) -> _Range:
    return (None if a[1] is None else -a[1]), (None if a[0] is None else -a[0])


def _abs(a: _Range) -> _Range:
    return a if _never_below(a, 0) else (0, None if None in a else maximum(-a[0], a[1]))  # type: ignore[operator, arg-type]


def _times(a: _Range, b: _Range) -> _Range:
    if not (_never_below(a, 0) and _never_below(b, 0)):
        return None, None
    return 0, None if a[1] is None or b[1] is None else a[1] * b[1]


def _over(a: _Range, b: _Range) -> _Range:
    """Division by at least 1, rounded or not."""
    if not (_never_below(a, 0) and _never_below(b, 1)):
        return None, None
    return 0, None if a[1] is None else ceildiv(a[1], b[0]) if isinstance(b[0], int) else a[1]


def _lower(a: _Range, b: _Range) -> _Range:
    high = b[1] if a[1] is None else a[1] if b[1] is None else minimum(a[1], b[1])
    return (None if None in (a[0], b[0]) else minimum(a[0], b[0])), high  # type: ignore[arg-type]


def _higher(a: _Range, b: _Range) -> _Range:
    low = b[0] if a[0] is None else a[0] if b[0] is None else maximum(a[0], b[0])
    return low, (None if None in (a[1], b[1]) else maximum(a[1], b[1]))  # type: ignore[arg-type]


def _either(a: _Range, b: _Range) -> _Range:
    return _lower(a, b)[0], _higher(a, b)[1]


def _never_below(a: _Range, least: int) -> bool:
    low = None if a[0] is None else extent(a[0])[0]
    return low is not None and low >= least


_PAIRS: dict[type[Op], Callable[..., _Range]] = {
    p.Add: _add, p.Sub: lambda a, b: _add(a, _neg(b)), p.Neg: _neg, p.Abs: _abs, p.Mul: _times,
    p.Floordiv: _over, TruncDivide: _over, p.Div: _over, p.Minimum: _lower, p.Maximum: _higher,
}  # fmt: skip
