"""How often short sequences of numbers occur in long ones."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import and_
from typing import Any

import numpy as np

from ...dims import Dim
from ...dtypes import int32
from ...errors import DTypeError, ShapeError
from ..ir import CALLS, Value
from .base import as_value, graph_function
from .shape import concat

MOST_STEPS = 256  # each of them is a comparison of its own


@graph_function("count_ngrams")
def count_ngrams(x: Any, grams: Sequence[Sequence[int]], max_skip: int = 0) -> Value:
    """x [..., n], integers -> [..., len(grams)] (int32): how often each of `grams` occurs along the
    last axis, its elements being neighbours or, up to `max_skip` of them, any other equal number of
    elements apart. ShapeError where they would be compared at more than MOST_STEPS distances."""
    v = as_value(x)
    if not v.dtype.is_integer:
        raise DTypeError(f"count_ngrams: sequences of integers are counted, not {v.type}")
    if v.ndim < 1 or not grams or not all(len(g) for g in grams):
        raise ShapeError("count_ngrams: values with an axis are wanted, and grams with elements")
    limits = np.iinfo(v.dtype.numpy)
    numbers = {int(k) for g in grams for k in g}
    if not all(limits.min <= k <= limits.max for k in numbers):
        raise DTypeError(f"count_ngrams: {v.dtype} does not hold all numbers of the grams")
    parts: list[Value] = []
    order: list[int] = []
    for length in sorted({len(g) for g in grams}):
        chosen = [k for k, g in enumerate(grams) if len(g) == length]
        table = np.array([grams[k] for k in chosen], v.dtype.numpy)
        skips = range(1, _steps(v.shape[-1], length, max_skip) + 1)
        parts.append(reduce(lambda a, b: a + b, (_occurrences(v, table, s) for s in skips)))
        order += chosen
    found = parts[0] if len(parts) == 1 else concat(parts, v.ndim - 1)
    places = np.argsort(np.array(order))
    return found if order == sorted(order) else CALLS["gather"](found, places, v.ndim - 1)


def _steps(n: Dim, length: int, max_skip: int) -> int:
    """How many distances between neighbours of a gram are looked at, from 1 on: none at which it
    would be longer than the sequence."""
    if length == 1:
        return 1
    fitting = max((n - 1) // (length - 1), 1) if isinstance(n, int) else max_skip + 1
    steps = min(max_skip + 1, fitting)
    if not 1 <= steps <= MOST_STEPS:
        raise ShapeError(
            f"count_ngrams: max_skip must be from 0 to {MOST_STEPS - 1}, not {max_skip}"
        )
    return steps


def _occurrences(v: Value, table: Any, step: int) -> Value:
    """v [..., n], table [g, length] -> [..., g]: how often each row occurs, elements `step` apart."""
    n, length = v.shape[-1], table.shape[1]
    more = (length - 1) * step
    before = (0,) * v.ndim
    inside = CALLS["pad"](CALLS["full"](v.shape, True, owner=v.node.owner), before,
                          (*before[1:], more), False)  # fmt: skip
    padded = CALLS["pad"](v, before, (*before[1:], more))
    tests = []
    for k in range(length):
        at = (..., slice(k * step, k * step + n), None)
        tests.append(CALLS["eq"](padded[at], table[:, k]))
    tests.append(inside[..., slice(more, more + n), None])
    hits = CALLS["cast"](reduce(and_, tests), int32)
    return CALLS["cast"](CALLS["sum"](hits, v.ndim - 1), int32)  # type: ignore[no-any-return]
