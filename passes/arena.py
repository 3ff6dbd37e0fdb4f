"""One block of memory for all values that have no place of their own, by lifetime.

In: areas with sizes and first and last moments. Out: an offset for each, and how many bytes there
are. Sizes that depend on symbols are planned exactly within classes: all sizes that are the same
polynomial up to a constant factor share one sub-arena, measured in that polynomial.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import Any

from ..dims import Dim, round_up

ALIGN = 64


@dataclass(eq=False)
class Area:
    """Memory for values whose lifetimes follow one another; `place` is its byte offset."""

    values: list[Any]
    size: Dim
    first: int
    last: int
    units: int = 0
    offset: int = 0
    place: Dim = 0


def aligned(size: Dim) -> Dim:
    """A size at which something else may follow."""
    return round_up(size, ALIGN) if isinstance(size, int) else size


def packed(areas: list[Area]) -> tuple[Dim, Dim]:
    """Gives areas their places; returns the bytes they take, and the least any plan could need."""
    classes: dict[Dim, list[Area]] = {}
    for a in areas:
        unit, a.units = _unit(a.size)
        classes.setdefault(unit, []).append(a)
    base: Dim = 0
    peak: Dim = 0
    for unit in sorted(classes, key=repr):
        members = classes[unit]
        height = _pack(members)
        for a in members:
            a.place = base + unit * a.offset
        base = base + unit * height
        peak = peak + unit * _live_peak(members)
    return base, peak


def _unit(size: Dim) -> tuple[Dim, int]:
    """`(polynomial, factor)` with size <= polynomial * factor, the factor a multiple of ALIGN."""
    if isinstance(size, int):
        return 1, -(-size // ALIGN) * ALIGN
    common = 0
    for _, c in size.terms:
        common = gcd(common, c)
    whole = size // common
    return whole, -(-common // ALIGN) * ALIGN


def _pack(areas: list[Area]) -> int:
    """Offsets by decreasing size, each in the lowest gap among those alive at the same time."""
    placed: list[Area] = []
    height = 0
    for a in sorted(areas, key=lambda a: (-a.units, a.first)):
        busy = sorted((b.offset, b.offset + b.units) for b in placed
                      if b.first <= a.last and a.first <= b.last)  # fmt: skip
        at = 0
        for lo, hi in busy:
            if lo - at >= a.units:
                break
            at = max(at, hi)
        a.offset = at
        placed.append(a)
        height = max(height, at + a.units)
    return height


def _live_peak(areas: list[Area]) -> int:
    events: dict[int, int] = {}
    for a in areas:
        events[a.first] = events.get(a.first, 0) + a.units
        events[a.last + 1] = events.get(a.last + 1, 0) - a.units
    live = best = 0
    for step in sorted(events):
        live += events[step]
        best = max(best, live)
    return best
