"""Transposed convolution: what a convolution's gradient with respect to its input computes.

In: values [n, c, *positions] and weights [c, o/groups, *window]. Out: every position's value times
the window, added up where the windows lie: [n, o, *spatial].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...dims import Dim, bounds, maximum
from ...errors import ConfigError, ShapeError
from ..ir import CALLS, Shape, Value
from .base import graph_function, make
from .convolution import ConvInputGrad, convolved, window_of
from .shape import as_shape
from .windows import halves, per_axis, resolve_padding


@dataclass(frozen=True)
class Extent:
    """One spatial axis of the result: what is cut off before and after, its size, and how many
    zeros follow where no window reaches."""

    before: Dim
    after: Dim
    size: Dim
    rest: Dim


@graph_function("conv_transpose")
def conv_transpose(
    x: Any, w: Any, strides: int | Sequence[int] = 1, padding: Any = "valid",
    output_padding: int | Sequence[int] = 0, dilations: int | Sequence[int] = 1, groups: int = 1,
    output_shape: Sequence[Any] | None = None,
) -> Value:  # fmt: skip
    """Transposed convolution of x [n, c, *positions] with w [c, o/groups, *window].

    The result [n, o, *spatial] has `(positions - 1) * stride + span - padding + output_padding` on
    each axis, `span` being what a window covers; with padding "same" or "same_lower" that is
    positions * stride. `output_shape` gives the spatial sizes instead; the padding that makes them
    is divided as "same" does, or "same_lower".
    """
    a, b = convolved(x, w, "conv_transpose")
    rank = a.ndim - 2
    s, d = per_axis(strides, rank, "strides"), per_axis(dilations, rank, "dilations")
    extra = (output_padding,) * rank if isinstance(output_padding, int) else tuple(output_padding)
    if len(extra) != rank or any(e < 0 for e in extra):
        raise ConfigError(f"output_padding {output_padding!r} must be a number, or {rank} numbers, "
                          "not below 0")  # fmt: skip
    span = tuple((k - 1) * e + 1 for k, e in zip(window_of(b), d))
    full = tuple((n - 1) * k + m for n, k, m in zip(a.shape[2:], s, span))
    if padding in ("same", "same_lower") or output_shape is not None:
        sizes = tuple(n * k for n, k in zip(a.shape[2:], s))
        if output_shape is not None:
            sizes = as_shape(output_shape)
        if len(sizes) != rank:
            raise ShapeError(f"output_shape {output_shape} must have {rank} entries")
        total = [_surplus(f + e - n) for f, e, n in zip(full, extra, sizes)]
        before, after = halves(total, padding)
        extra = tuple(n - f + t for n, f, t in zip(sizes, full, total))
    else:
        before, after = resolve_padding(padding, a.shape[2:], window_of(b), s, d)
    extents = [_extent(*args) for args in zip(full, before, after, extra, s)]
    geometry = ((e.before for e in extents), (e.after for e in extents), (e.size for e in extents))
    first, last, spatial = (tuple(g) for g in geometry)
    out = make(ConvInputGrad(s, first, last, d, int(groups), spatial), a, b)
    rest: Shape = (0, 0, *(e.rest for e in extents))
    return CALLS["pad"](out, (0,) * a.ndim, rest)  # type: ignore[no-any-return]


def _surplus(total: Dim) -> Dim:
    """Padding that is not negative."""
    low, _ = bounds(total)
    return total if low is not None and low >= 0 else maximum(total, 0)


def _extent(full: Dim, before: Dim, after: Dim, extra: Dim, stride: int) -> Extent:
    """An axis over which windows reach `full` positions, cut by `before` and `after`, with `extra`
    positions more at the end."""
    if isinstance(extra, int) and 0 <= extra < stride:  # the same windows fit in
        return Extent(before, after, full - before - after + extra, 0)
    cut = _surplus(after - extra)
    return Extent(before, cut, full - before - cut, extra - after + cut)
