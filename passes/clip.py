"""Reduction loops without their zero terms.

A convolution's term is zero where its window leaves the image. Where that depends on one reduction
index and on loops around it, the loop's bounds say so instead of a mask in every load:

Before:  for k in 0..3 { acc += (x[i + k - 1] if 0 <= i + k - 1 < n) * w[k] }
After:   for k in max(0, 1 - i)..min(3, n + 1 - i) { acc += x[i + k - 1] * w[k] }
"""

from __future__ import annotations

from dataclasses import dataclass

from ..algorithm import Apply, Cast, Const, Expr, Index, Load, rebuild
from ..dims import Dim, DimExpr, Sym, ceildiv, coefficient, free_symbols, maximum, minimum


@dataclass(frozen=True)
class Clipped:
    """A term and the bounds of each reduction index within which it may be other than zero."""

    term: Expr
    bounds: dict[Sym, tuple[Dim, Dim]]


def clip(term: Expr, extents: dict[Sym, Dim], varying: set[Sym]) -> Clipped:
    """`term` of a sum, its masks turned into bounds of the reduction indices in `extents`.

    A condition moves into a bound if it is linear in exactly one of them, does not involve
    `varying` symbols (those inside the reduction loops), and holding false makes the term zero.
    """
    bounds: dict[Sym, tuple[Dim, Dim]] = {s: (0, d) for s, d in extents.items()}
    done: set[Expr] = set()
    for load in _factors(term):
        if load.mask is None:
            continue
        for cond in conditions(load.mask):
            moved = _bound(cond, extents, varying)
            if moved is None:
                continue
            s, lo, hi = moved
            old_lo, old_hi = bounds[s]
            bounds[s] = (old_lo if lo is None else maximum(old_lo, lo),
                         old_hi if hi is None else minimum(old_hi, hi))  # fmt: skip
            done.add(cond)
    if not done:
        return Clipped(term, bounds)

    def leaf(x: Expr) -> Expr | None:
        if isinstance(x, Load) and x.mask is not None:
            rest = [c for c in conditions(x.mask) if c not in done]
            mask = None
            for c in rest:
                mask = c if mask is None else mask & c
            return Load(x.buffer, x.indices, x.dtype, mask)
        return None

    return Clipped(rebuild(term, leaf, lambda d: d), bounds)


def _factors(term: Expr) -> list[Load]:
    """Loads that make the whole term zero when they are masked off."""
    if isinstance(term, Load):
        return [term]
    if isinstance(term, Cast):
        return _factors(term.x)
    if isinstance(term, Apply) and term.fn == "mul":
        return [x for a in term.args for x in _factors(a)]
    return []


def conditions(mask: Expr) -> list[Expr]:
    """The parts of a conjunction."""
    if isinstance(mask, Apply) and mask.fn == "and":
        return [c for a in mask.args for c in conditions(a)]
    return [mask]


def _bound(cond: Expr, extents: dict[Sym, Dim], varying: set[Sym]
           ) -> tuple[Sym, Dim | None, Dim | None] | None:  # fmt: skip
    """`(index, lowest, first above)` that a comparison of index expressions amounts to."""
    if not isinstance(cond, Apply) or cond.fn not in ("ge", "gt", "le", "lt"):
        return None
    sides = [_dim(a) for a in cond.args]
    if sides[0] is None or sides[1] is None:
        return None
    gap = sides[0] - sides[1]  # compared with 0
    mine = [s for s in extents if s in free_symbols(gap)]
    if len(mine) != 1 or free_symbols(gap) & varying:
        return None
    s = mine[0]
    k = coefficient(gap, s)
    if not isinstance(k, int) or k == 0:
        return None
    rest = gap - k * _symbol(s)
    if cond.fn in ("le", "lt"):  # k*s + rest <= 0 is -k*s - rest >= 0
        k, rest = -k, -rest
    if cond.fn in ("gt", "lt"):
        rest = rest - 1
    if k > 0:  # s >= -rest / k
        return s, ceildiv(-rest, k), None
    return s, None, rest // -k + 1


def _dim(e: Expr) -> Dim | None:
    if isinstance(e, Index):
        return e.dim
    if isinstance(e, Const) and e.dtype.is_integer:
        return int(e.value)
    return None


def _symbol(s: Sym) -> Dim:
    return DimExpr((((s,), 1),))
