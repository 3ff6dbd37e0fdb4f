"""Sizes that runs compute: how large what is made of them can become, and what is wrong with one.

In: a dimension, and for each symbol that a run computes the largest value it can have. Out: a
dimension without such symbols that is never smaller.
"""

from __future__ import annotations

from collections.abc import Mapping

from .dims import Dim, Op, Sym, floordiv, free_symbols, maximum, minimum, mod, sym
from .errors import InternalError


def size_problem(op: str, name: str, n: int, most: int) -> str:
    """What an op says of a size that is too large, or negative."""
    return f"{op}: the run computed {n} for dimension {name}, which must be in 0..{most}"


def most_of(d: Dim, most: Mapping[str, Dim]) -> Dim:
    """The largest value of `d`, where the symbols named in `most` are anything from 0 to that."""
    if isinstance(d, int) or not any(s.name in most for s in free_symbols(d)):
        return d
    return most_of(_bound(d, most, True), most)  # limits may depend on other such sizes


def _bound(d: Dim, most: Mapping[str, Dim], upper: bool) -> Dim:
    """A bound of a dimension that is a sum of products of what is never negative."""
    if isinstance(d, int):
        return d
    total: Dim = 0
    for product, factor in d.terms:
        part: Dim = factor
        for atom in product:
            part = part * _atom(atom, most, upper == (factor > 0))
        total = total + part
    return total


def _atom(atom: object, most: Mapping[str, Dim], upper: bool) -> Dim:
    if isinstance(atom, Sym):
        if atom.name in most:
            return most[atom.name] if upper else 0
        return sym(atom.name, atom.lo, atom.hi, atom.multiple)
    if not isinstance(atom, Op):
        raise InternalError(f"unknown atom {atom!r}")
    known = not any(s.name in most for x in (atom.a, atom.b) for s in free_symbols(x))
    a, b = (_bound(x, most, upper) for x in (atom.a, atom.b))
    if atom.kind in ("min", "max"):
        return minimum(a, b) if atom.kind == "min" else maximum(a, b)
    if known:
        return floordiv(a, b) if atom.kind == "floordiv" else mod(a, b)
    if atom.kind == "mod":
        return _bound(atom.b, most, True) - 1 if upper else 0
    if isinstance(atom.b, int):
        return floordiv(a, atom.b)
    return a if upper else 0  # a divisor is 1 or more
