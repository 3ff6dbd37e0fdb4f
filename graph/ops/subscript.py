"""`x[...]`: NumPy's basic indexing, in terms of slices and reshapes.

Sizes may be known at run time only. Slices are then clipped there, as NumPy clips them; an integer
that turns out to be out of range fails the run before it begins.
"""

from __future__ import annotations

from operator import index
from typing import Any

import numpy as np

from ...dims import Dim, DimExpr, ceildiv, maximum, minimum
from ...errors import DTypeError, ShapeError
from ..ir import Value
from .base import graph_function, make
from .shape import Slice, reshape

_HINT = "use fm.gather for indices that are values or arrays, fm.where for masks"


@graph_function("getitem")
def getitem(x: Value, item: Any) -> Value:
    """NumPy's basic indexing: integers, slices, None and ..., no arrays."""
    items = item if isinstance(item, tuple) else (item,)
    whole = [k for k, i in enumerate(items) if i is Ellipsis]
    if len(whole) > 1:
        raise ShapeError("an index may hold ... only once")
    used = sum(1 for i in items if i is not None and i is not Ellipsis)
    if used > x.ndim:
        raise ShapeError(f"{used} indices into {x.type}")
    at = whole[0] if whole else len(items)
    items = (*items[:at], *([slice(None)] * (x.ndim - used)), *items[at + 1 :])
    starts: list[Dim] = []
    sizes: list[Dim] = []
    steps: list[int] = []
    final: list[Dim] = []
    for i in items:
        if i is None:
            final.append(1)
            continue
        axis = len(starts)
        if isinstance(i, slice):
            start, length, step = _range(i, x, axis)
            final.append(length)
        else:
            start, length, step = _place(i, x, axis), 1, 1
        starts.append(start)
        sizes.append(length)
        steps.append(step)
    out = x
    if any(s != 0 or n != d or k != 1 for s, n, d, k in zip(starts, sizes, x.shape, steps)):
        out = make(Slice(tuple(starts), tuple(sizes), tuple(steps)), x)
    return reshape(out, tuple(final))


def _place(i: Any, x: Value, axis: int) -> Dim:
    """An integer index, counted from the front."""
    at, size = _whole(i, x), x.shape[axis]
    if isinstance(at, int) and isinstance(size, int) and not -size <= at < size:
        raise ShapeError(f"index {at} is out of range for axis {axis} of {x.type}")
    return at + size if isinstance(at, int) and at < 0 else at


def _range(i: slice, x: Value, axis: int) -> tuple[Dim, Dim, int]:
    """start, length, step of a slice, clipped to the axis as NumPy does."""
    size = x.shape[axis]
    step = 1 if i.step is None else _whole(i.step, x)
    if not isinstance(step, int) or step == 0:
        raise ShapeError(f"a slice of {x.type} has the step {step}", "a step is a number, not 0")
    first, last = (None if e is None else _whole(e, x) for e in (i.start, i.stop))
    if step < 0:
        start = _clipped(first, size, size - 1, -1)
        covered = maximum(start - _clipped(last, size, -1, -1), 0)
    elif last is None and isinstance(first, int):  # as simple as can be
        start = _clipped(first, size, 0, 0)
        covered = maximum(size - first, 0) if first >= 0 else minimum(size, -first)
    else:
        start = _clipped(first, size, 0, 0)
        covered = maximum(_clipped(last, size, size, 0) - start, 0)
    count = ceildiv(covered, abs(step))
    return (0 if count == 0 else start), count, step


def _clipped(end: Dim | None, size: Dim, unsaid: Dim, low: int) -> Dim:
    """One end of a slice, counted from the front and brought into low..size + low."""
    if end is None:
        return unsaid
    if isinstance(end, int) and end < 0:
        return maximum(end + size, low)
    return minimum(end, size + low)


def _whole(i: Any, x: Value) -> Dim:
    """An index or an end of a slice as a number or dimension. DTypeError for anything else."""
    if isinstance(i, DimExpr):
        return i
    if not isinstance(i, bool | np.bool_ | np.ndarray):
        try:
            return int(index(i))
        except TypeError:
            pass
    raise DTypeError(f"cannot index {x.type} with {type(i).__name__}", _HINT)
