"""Functions whose results have sizes that a run computes: unique elements, boxes that are kept.

They are graphs of ordinary ops; `ops/sizes.py` says how a size becomes a dimension.
"""

from __future__ import annotations

from typing import Any

from ... import algorithm as alg
from ...dims import Dim, ceildiv, minimum, product
from ...dtypes import float32, int64
from ...errors import ConfigError, ShapeError
from ..ir import Value
from .arrange import stack
from .base import as_value, make, normal_axis
from .creation import iota, zeros_like
from .cumulative import cumsum
from .indexing import gather, scatter
from .logic import isnan, logical_not, not_equal
from .pointwise import cast, clip, where
from .reduce import any_
from .sequences import bincount
from .shape import reshape, size_of, transpose
from .sizes import nonzero, prefix
from .sorting import RowOrder, argsort
from .suppression import SelectedBoxes


def unique(x: Any, axis: int | None = None, sorted: bool = True) -> tuple[Value, ...]:
    """The distinct elements of x, or with `axis` the distinct slices along it.

    Results: the distinct ones; the place (int64) of the first of each; for every element, or slice,
    of x which of the distinct ones it is (int64, a vector); how often each occurs (int64). How many
    there are is a dimension of its own, called `unique`. They are in order, that of the first
    elements in which two differ, or with `sorted` false as they first occur. NaNs count as equal.
    NumPy's `unique` gives the same, where it is asked for indices, inverse and counts.

    ShapeError where there is no such axis.
    """
    v, at = as_value(x), 0
    if axis is None:
        v = reshape(v, (v.type.size,))
    else:
        at = normal_axis(axis, v.ndim)
    n, others = v.shape[at], [k for k in range(v.ndim) if k != at]
    rows = reshape(transpose(v, (at, *others)), (n, product(v.shape[k] for k in others)))
    order = make(RowOrder(), rows)
    number = iota((n,), owner=v.node.owner)
    ordered = gather(rows, order)
    begins = (number <= 0) | _differ(ordered, gather(ordered, alg.maximum(number - 1, 0)))
    group = cumsum(cast(begins, int64), 0) - 1
    first = gather(order, nonzero(begins, "unique")[0])
    which = scatter(zeros_like(order), order, group)
    counts = prefix(bincount(group, n), first.shape[0])
    if not sorted:
        places = argsort(first)
        rank = scatter(zeros_like(places), places, iota(places.shape, owner=v.node.owner))
        first, counts, which = gather(first, places), gather(counts, places), gather(rank, which)
    return gather(v, first, at), first, which, counts


def _differ(a: Value, b: Value) -> Value:
    """Whether rows differ."""
    found: Value = not_equal(a, b)
    if a.dtype.is_float:
        found = found & logical_not(isnan(a) & isnan(b))
    return any_(found, 1)


def slice_between(x: Any, start: Any, stop: Any, step: int = 1, axis: int = 0) -> Value:
    """x[start:stop:step] along `axis`, where start and stop are int64 scalars that a run computes.
    They count from the end where negative, and are cut off at the ends. How many elements there are
    is a dimension of its own, called `slice`.

    ShapeError where there is no such axis, or the step is 0; DTypeError for other bounds.
    """
    v = as_value(x)
    at = normal_axis(axis, v.ndim)
    if not isinstance(step, int) or step == 0:
        raise ShapeError(f"slice_between: the step is {step!r}")
    owner, length = v.node.owner, v.shape[at]
    size = size_of(length, owner)
    low, high = (0, size) if step > 0 else (-1, size - 1)
    first, last = (clip(where(b < 0, b + size, b), low, high)
                   for b in (as_value(b, owner=owner) for b in (start, stop)))  # fmt: skip
    count = alg.maximum((last - first + (step - 1 if step > 0 else step + 1)) // step, 0)
    places = first + step * prefix(
        iota((ceildiv(length, abs(step)),), owner=owner), count, 0, "slice"
    )
    return gather(v, places, at)


def non_max_suppression(
    boxes: Any, scores: Any, most: Any = None, iou_threshold: Any = 0.0,
    score_threshold: Any = -float("inf"), centred: bool = False,
) -> Value:  # fmt: skip
    """The boxes that overlap no better one that is kept: int64 [n, 3], each row an image, a class and
    the place of a box; by image, by class, the best first.

    boxes [images, boxes, 4] are two opposite corners (y, x, y, x), or if `centred` a centre and sizes
    (x, y, w, h); scores are [images, classes, boxes]; both float32. Of each class of an image at most
    `most` boxes are kept (None: any number), those that score more than `score_threshold` and share
    no more than `iou_threshold` of their union with a better one. The three are numbers or scalar
    values. n, which the run finds out, is a dimension of its own, called `selected`.

    ShapeError or DTypeError for other operands, ConfigError for a negative number of boxes.
    """
    b, s = as_value(boxes), as_value(scores, None)
    owner = b.node.owner
    limit: Dim = s.shape[-1] if s.ndim else 0
    if most is None:
        most = limit
    if not isinstance(most, Value):
        if isinstance(most, int) and most < 0:
            raise ConfigError(f"non_max_suppression: {most} boxes cannot be kept")
        limit = minimum(limit, most)
    many = most if isinstance(most, Value) else as_value(1 << 62, owner=owner)
    limits = (cast(many, int64), *(cast(as_value(t, owner=owner), float32)
                                   for t in (iou_threshold, score_threshold)))  # fmt: skip
    chosen = make(SelectedBoxes(limit, centred), b, s, *limits)
    at = nonzero(chosen >= 0, "selected")
    image, group, rank = at[0], at[1], at[2]
    classes, ranks = (size_of(d, owner) for d in chosen.shape[1:])
    place = gather(reshape(chosen, (chosen.type.size,)), (image * classes + group) * ranks + rank)
    return stack([image, group, place], 1)
