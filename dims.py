"""Symbolic integers: dimensions of tensors, loop indices, offsets, all in one normal form.

A `Dim` is a Python int or a `DimExpr`, a sum of products of atoms with integer coefficients. An
atom is a `Sym` (a named integer with bounds) or one of floordiv, mod, min, max of two Dims. Equal
normal forms are equal objects for `==` and `hash`, so passes compare dimensions directly. Facts
(bounds, divisibility) travel inside the symbol: no environment is needed to simplify.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias, Union

from .errors import InternalError, ShapeError

Dim: TypeAlias = Union[int, "DimExpr"]
Bounds: TypeAlias = tuple[int | None, int | None]
_Monomial: TypeAlias = "tuple[Atom, ...]"
_MOST_TERMS = 4096  # of a product, before terms are joined
_MOST_FACTORS = 64  # of one term
_LONGEST = 4096  # characters that an expression takes, as far as `manageable` goes


class Atom:
    """What a product multiplies: a symbol, or an operation no polynomial expresses."""

    __slots__ = ("_hash", "key")
    key: str  # total order and identity
    _hash: int

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Atom) and self.key == other.key)

    def __hash__(self) -> int:
        return self._hash


class Sym(Atom):
    """A named integer in `lo..hi` (inclusive; None: unbounded) that is a multiple of `multiple`."""

    __slots__ = ("hi", "lo", "multiple", "name")

    def __init__(self, name: str, lo: int = 0, hi: int | None = None, multiple: int = 1) -> None:
        self.name, self.lo, self.hi, self.multiple = name, lo, hi, multiple
        self.key = f"{name}:{lo}:{hi}:{multiple}"
        self._hash = hash(self.key)

    def __repr__(self) -> str:
        return self.name


class Op(Atom):
    """`floordiv`, `mod`, `min` or `max` of two Dims."""

    __slots__ = ("a", "b", "kind")

    def __init__(self, kind: str, a: Dim, b: Dim) -> None:
        self.kind, self.a, self.b = kind, a, b
        self.key = f"{kind}({_key(a)},{_key(b)})"
        self._hash = hash(self.key)


class DimExpr:
    """A non-constant Dim: `sum(coefficient * product of atoms)`, terms in a fixed order."""

    __slots__ = ("_bounds", "_hash", "_symbols", "terms")

    def __init__(self, terms: tuple[tuple[_Monomial, int], ...]) -> None:
        self.terms = terms
        self._hash = hash(terms)
        self._bounds: Bounds | None = None
        self._symbols: frozenset[Sym] | None = None

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, DimExpr) and self._hash == other._hash and self.terms == other.terms
        )

    def __hash__(self) -> int:
        return self._hash

    def __add__(self, other: Dim) -> Dim:
        return _sum(((self, 1), (other, 1)))

    __radd__ = __add__

    def __sub__(self, other: Dim) -> Dim:
        return _sum(((self, 1), (other, -1)))

    def __rsub__(self, other: Dim) -> Dim:
        return _sum(((other, 1), (self, -1)))

    def __neg__(self) -> Dim:
        return _sum(((self, -1),))

    def __mul__(self, other: Dim) -> Dim:
        if isinstance(other, int):
            return self if other == 1 else _sum(((self, other),))
        if len(self.terms) * len(other.terms) > _MOST_TERMS:
            raise ShapeError(
                f"a size is a product too long to reason about: ({show(self)[:80]}...)"
            )
        out: dict[_Monomial, int] = {}
        for m1, c1 in self.terms:
            for m2, c2 in other.terms:
                m = tuple(sorted(m1 + m2, key=_atom_key))
                if len(m) > _MOST_FACTORS:
                    raise ShapeError(f"a size is a product of more than {_MOST_FACTORS} factors: "
                                     f"{show(self)[:80]}...")  # fmt: skip
                out[m] = out.get(m, 0) + c1 * c2
        return _make(out)

    __rmul__ = __mul__

    def __floordiv__(self, other: Dim) -> Dim:
        return floordiv(self, other)

    def __rfloordiv__(self, other: Dim) -> Dim:
        return floordiv(other, self)

    def __mod__(self, other: Dim) -> Dim:
        return mod(self, other)

    def __rmod__(self, other: Dim) -> Dim:
        return mod(other, self)

    def __repr__(self) -> str:
        return show(self)


def _atom_key(atom: Atom) -> str:
    return atom.key


def _key(d: Dim) -> str:
    if isinstance(d, int):
        return str(d)
    return "+".join(f"{c}*{'*'.join(a.key for a in m)}" for m, c in d.terms)


def _make(terms: dict[_Monomial, int]) -> Dim:
    """Normal form: no zero terms, `c*(x//c) + x%c` folded to `x`, terms sorted, ints unwrapped."""
    live = {m: c for m, c in terms.items() if c}
    if not live:
        return 0
    if len(live) == 1:
        return live[()] if () in live else DimExpr(tuple(live.items()))
    for m, c in live.items():
        if len(m) == 1 and isinstance(m[0], Op) and m[0].kind == "mod":
            whole = m[0]
            partner = (Op("floordiv", whole.a, whole.b),)
            if isinstance(whole.b, int) and live.get(partner) == c * whole.b:
                del live[m], live[partner]
                return _sum(((_make(live), 1), (whole.a, c)))
    return DimExpr(tuple(sorted(live.items(), key=_term_key)))


def _term_key(term: tuple[_Monomial, int]) -> tuple[int, str]:
    m = term[0]
    return (-len(m), m[0].key if len(m) == 1 else "*".join([a.key for a in m]))


def _sum(parts: Iterable[tuple[Dim, int]]) -> Dim:
    out: dict[_Monomial, int] = {}
    for d, k in parts:
        if isinstance(d, int):
            out[()] = out.get((), 0) + d * k
        else:
            for m, c in d.terms:
                out[m] = out.get(m, 0) + c * k
    return _make(out)


def manageable(d: Dim) -> bool:
    """Whether an expression is short enough to be computed with, and its numbers small enough to be
    counted with by native code."""
    if isinstance(d, int):
        return abs(d) < 1 << 63
    length = sum(len(a.key) for m, _ in d.terms for a in m)
    return length <= _LONGEST and all(abs(c) < 1 << 62 for _, c in d.terms)


def total(dims: Iterable[Dim]) -> Dim:
    """Sum of many dims."""
    return _sum((d, 1) for d in dims)


def product(dims: Iterable[Dim]) -> Dim:
    """Product of many dims; 1 for none."""
    out: Dim = 1
    for d in dims:
        out = out * d
    return out


def sym(name: str, lo: int = 0, hi: int | None = None, multiple: int = 1) -> DimExpr:
    """The Dim of a fresh named symbol with bounds `lo..hi`, inclusive."""
    return DimExpr((((Sym(name, lo, hi, multiple),), 1),))


def as_sym(d: Dim) -> Sym:
    """The symbol that `d` consists of; InternalError if it is anything else."""
    found = sole_symbol(d)
    if found is None:
        raise InternalError(f"{d!r} is not a plain symbol")
    return found


def sole_symbol(d: Dim) -> Sym | None:
    """The symbol that `d` consists of, if it is nothing else."""
    if isinstance(d, DimExpr) and len(d.terms) == 1:
        m, c = d.terms[0]
        if c == 1 and len(m) == 1 and isinstance(m[0], Sym):
            return m[0]
    return None


def _split(d: Dim, c: int) -> tuple[Dim, Dim]:
    """`(q, r)` with `d == c*q + r`, q as large as the coefficients allow."""
    if isinstance(d, int):
        return divmod(d, c)
    quotient: dict[_Monomial, int] = {}
    rest: dict[_Monomial, int] = {}
    for m, k in d.terms:
        q, r = divmod(k, c)
        if not m or r == 0:
            quotient[m], rest[m] = q, r
        else:
            rest[m] = k
    return _make(quotient), _make(rest)


def _exact(d: Dim, by: DimExpr) -> tuple[Dim, Dim]:
    """`(q, r)` with `d == by*q + r`: term by term for a divisor of one term; for a longer one r is
    0 or d."""
    if isinstance(d, int):
        return 0, d
    if len(by.terms) > 1:
        return _polynomial(d, by)
    ((divisor, k),) = by.terms
    quotient: dict[_Monomial, int] = {}
    rest: dict[_Monomial, int] = {}
    for m, c in d.terms:
        left = _without(m, divisor)
        if left is None or c % k:
            rest[m] = c
        else:
            quotient[left] = c // k
    return _make(quotient), _make(rest)


def _polynomial(d: DimExpr, by: DimExpr) -> tuple[Dim, Dim]:
    """`(q, 0)` where `by` divides d as polynomials of their atoms, else `(0, d)`."""
    divisor, k = _leading(by)
    quotient: Dim = 0
    rest: Dim = d
    for _ in range(4 * len(d.terms)):
        if rest == 0:
            return quotient, 0
        m, c = _leading(rest) if isinstance(rest, DimExpr) else ((), rest)
        left = _without(m, divisor)
        if left is None or c % k:
            break
        part = _make({left: c // k})
        quotient, rest = quotient + part, rest - part * by
    return (quotient, 0) if rest == 0 else (0, d)


def _leading(d: DimExpr) -> tuple[_Monomial, int]:
    """The first term by degree, then by its atoms: an order that multiplication keeps."""
    return min(d.terms, key=lambda term: (-len(term[0]), [a.key for a in term[0]]))


def _without(m: _Monomial, divisor: _Monomial) -> _Monomial | None:
    """The product `m` without the factors of `divisor`; None where it does not have them all."""
    left = list(m)
    for atom in divisor:
        if atom not in left:
            return None
        left.remove(atom)
    return tuple(left)


def floordiv(a: Dim, b: Dim) -> Dim:
    """Floor division, b > 0; where b is 0 at run time, what it gives is of no use to anyone."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    if b == 1 or a == 0:
        return a
    if a == b:
        return 1
    q, r = _split(a, b) if isinstance(b, int) else _exact(a, b)
    if r == 0 or in_range(r, b):
        return q
    if isinstance(r, DimExpr) and isinstance(b, int) and len(r.terms) == 1:
        (m, c) = r.terms[0]
        if c == 1 and len(m) == 1 and isinstance(m[0], Op) and m[0].kind == "floordiv":
            inner = m[0]
            if isinstance(inner.b, int):
                return q + floordiv(inner.a, inner.b * b)
    return q + DimExpr((((Op("floordiv", r, b),), 1),))


def mod(a: Dim, b: Dim) -> Dim:
    """Remainder of floor division, b > 0: always in `0..b-1`."""
    if isinstance(a, int) and isinstance(b, int):
        return a % b
    if b == 1 or a == b or a == 0:
        return 0
    _, r = _split(a, b) if isinstance(b, int) else _exact(a, b)
    if r == 0 or in_range(r, b):
        return r
    if isinstance(b, int) and divisor(r) % b == 0:
        return 0
    return DimExpr((((Op("mod", r, b),), 1),))


def minimum(a: Dim, b: Dim) -> Dim:
    """The smaller of two dims."""
    return _extreme("min", a, b)


def maximum(a: Dim, b: Dim) -> Dim:
    """The larger of two dims."""
    return _extreme("max", a, b)


def _extreme(kind: str, a: Dim, b: Dim) -> Dim:
    if a == b:
        return a
    low, high = bounds(a - b)
    if high is not None and high <= 0:
        return a if kind == "min" else b
    if low is not None and low >= 0:
        return b if kind == "min" else a
    for x, y in ((a, b), (b, a)):
        if y in _operands(kind, x):
            return x
    a, b = sorted((a, b), key=_key)
    return DimExpr((((Op(kind, a, b),), 1),))


def _operands(kind: str, d: Dim) -> tuple[Dim, ...]:
    """a and b where `d` is the smaller or larger one (`kind`) of them."""
    if (
        isinstance(d, DimExpr)
        and len(d.terms) == 1
        and d.terms[0][1] == 1
        and len(d.terms[0][0]) == 1
    ):
        atom = d.terms[0][0][0]
        if isinstance(atom, Op) and atom.kind == kind:
            return atom.a, atom.b
    return ()


def ceildiv(a: Dim, b: Dim) -> Dim:
    """Division rounded up."""
    return floordiv(a + (b - 1), b)


def round_up(a: Dim, b: int) -> Dim:
    """The next multiple of b."""
    return ceildiv(a, b) * b


def in_range(d: Dim, stop: Dim) -> bool:
    """Whether `0 <= d < stop` is certain."""
    low, _ = bounds(d)
    if low is None or low < 0:
        return False
    gap, _ = bounds(stop - d)
    return gap is not None and gap > 0


def divisor(d: Dim) -> int:
    """The largest integer known to divide `d` (0 for the constant 0)."""
    from math import gcd

    if isinstance(d, int):
        return abs(d)
    out = 0
    for m, c in d.terms:
        k = abs(c)
        for atom in m:
            if isinstance(atom, Sym):
                k *= atom.multiple
        out = gcd(out, k)
    return out


def bounds(d: Dim) -> Bounds:
    """Smallest and largest possible value, None where unbounded."""
    if isinstance(d, int):
        return d, d
    if d._bounds is None:
        low: int | None = 0
        high: int | None = 0
        for m, c in d.terms:
            lo, hi = 1, 1  # type: int | None, int | None
            for atom in m:
                lo, hi = _interval_mul(lo, hi, *_atom_bounds(atom))
            lo, hi = _interval_mul(lo, hi, c, c)
            low = None if low is None or lo is None else low + lo
            high = None if high is None or hi is None else high + hi
        d._bounds = (low, high)
    return d._bounds


def _atom_bounds(atom: Atom) -> Bounds:
    if isinstance(atom, Sym):
        return atom.lo, atom.hi
    if not isinstance(atom, Op):
        raise InternalError(f"unknown atom {atom!r}")
    (alo, ahi), (blo, bhi) = bounds(atom.a), bounds(atom.b)
    if atom.kind == "mod":
        return 0, None if bhi is None else bhi - 1
    if atom.kind == "floordiv":
        if blo is None or blo < 1:
            return None, None
        low = None if alo is None else (alo // blo if alo < 0 else (alo // bhi if bhi else 0))
        return low, None if ahi is None else (ahi // blo if ahi >= 0 else -1)
    if atom.kind == "min":
        known = [v for v in (ahi, bhi) if v is not None]
        low = None if alo is None or blo is None else min(alo, blo)
        return low, min(known) if known else None
    known = [v for v in (alo, blo) if v is not None]
    high = None if ahi is None or bhi is None else max(ahi, bhi)
    return max(known) if known else None, high


def _interval_mul(
    alo: int | None, ahi: int | None, blo: int | None, bhi: int | None
) -> tuple[int | None, int | None]:
    if alo is not None and blo is not None and alo >= 0 and blo >= 0:
        high = 0 if ahi == 0 or bhi == 0 else None if ahi is None or bhi is None else ahi * bhi
        return alo * blo, high
    if alo == ahi:
        alo, ahi, blo, bhi = blo, bhi, alo, ahi
    if blo == bhi and blo is not None:
        a = None if alo is None else alo * blo
        b = None if ahi is None else ahi * blo
        return (a, b) if blo >= 0 else (b, a)
    if alo is None or ahi is None or blo is None or bhi is None:
        return None, None
    ends = (alo * blo, alo * bhi, ahi * blo, ahi * bhi)
    return min(ends), max(ends)


def free_symbols(d: Dim) -> frozenset[Sym]:
    """Every symbol in `d`."""
    if isinstance(d, int):
        return frozenset()
    if d._symbols is None:
        atoms = [atom for m, _ in d.terms for atom in m]
        ops = [atom for atom in atoms if isinstance(atom, Op)]
        d._symbols = frozenset(atom for atom in atoms if isinstance(atom, Sym)).union(
            *(free_symbols(part) for op in ops for part in (op.a, op.b)))  # fmt: skip
    return d._symbols


def rewrite(d: Dim, leaf: Callable[[Sym], Dim]) -> Dim:
    """`d` with every symbol replaced, simplified anew."""
    if isinstance(d, int):
        return d
    parts: list[tuple[Dim, int]] = []
    for m, c in d.terms:
        part: Dim = 1
        for atom in m:
            if isinstance(atom, Sym):
                part = leaf(atom) * part
            elif isinstance(atom, Op):
                part = FUNCTIONS[atom.kind](rewrite(atom.a, leaf), rewrite(atom.b, leaf)) * part
        parts.append((part, c))
    return _sum(parts)


def substitute(d: Dim, values: Mapping[Sym, Dim]) -> Dim:
    """`d` with some symbols replaced."""
    if isinstance(d, int) or values.keys().isdisjoint(free_symbols(d)):
        return d
    same: dict[_Monomial, int] = {}
    parts: list[tuple[Dim, int]] = []
    for m, c in d.terms:
        left: list[Atom] = []
        part: Dim = 1
        for atom in m:
            if isinstance(atom, Sym):
                value = values.get(atom)
                if value is None:
                    left.append(atom)
                elif isinstance(value, int):
                    c *= value
                else:
                    part = value * part
            elif isinstance(atom, Op):
                a, b = substitute(atom.a, values), substitute(atom.b, values)
                if a is atom.a and b is atom.b:
                    left.append(atom)
                else:
                    part = FUNCTIONS[atom.kind](a, b) * part
        rest = tuple(left)
        if isinstance(part, int):
            same[rest] = same.get(rest, 0) + c * part
        else:
            parts.append((part * DimExpr(((rest, 1),)) if left else part, c))
    return _sum([(_make(same), 1), *parts]) if parts else _make(same)


def evaluate(d: Dim, values: Mapping[str, int]) -> int:
    """The integer `d` stands for, given every symbol's value by name."""
    if isinstance(d, int):
        return d
    out = 0
    for m, c in d.terms:
        for atom in m:
            if isinstance(atom, Sym):
                c *= values[atom.name]
            elif isinstance(atom, Op):
                c *= _INTEGER[atom.kind](evaluate(atom.a, values), evaluate(atom.b, values))
        out += c
    return out


_INTEGER: dict[str, Callable[[int, int], int]] = {  # dividing by nothing must not stop a run
    "floordiv": lambda a, b: a // (b or 1), "mod": lambda a, b: a % (b or 1),
    "min": min, "max": max,
}  # fmt: skip


def coefficient(d: Dim, s: Sym) -> Dim | None:
    """k in `d == k*s + rest` with k and rest free of s; None if `d` is not linear in s."""
    if isinstance(d, int):
        return 0
    k: dict[_Monomial, int] = {}
    for m, c in d.terms:
        uses = 0
        for atom in m:
            if atom == s:
                uses += 1
            elif isinstance(atom, Op) and s in free_symbols(DimExpr((((atom,), 1),))):
                return None
        if uses > 1:
            return None
        if uses:
            key = tuple(a for a in m if a != s)
            k[key] = k.get(key, 0) + c
    return _make(k)


FUNCTIONS: dict[str, Callable[[Dim, Dim], Dim]] = {
    "floordiv": floordiv, "mod": mod, "min": minimum, "max": maximum,
}  # fmt: skip


def show(d: Dim) -> str:
    """Text that `dims_text.parse` reads back: `4*batch + (h + 1)//2 - 3`."""
    if isinstance(d, int):
        return str(d)
    out = ""
    for m, c in sorted(d.terms, key=lambda term: (not term[0], term[1] < 0)):
        body = "*".join(_show_atom(a) for a in m)
        size = abs(c)
        text = str(size) if not m else body if size == 1 else f"{size}*{body}"
        out += (" - " if c < 0 else " + ") + text if out else ("-" if c < 0 else "") + text
    return out


def _show_atom(atom: Atom) -> str:
    if isinstance(atom, Sym):
        return atom.name
    if not isinstance(atom, Op):
        raise InternalError(f"unknown atom {atom!r}")
    if atom.kind in ("min", "max"):
        return f"{atom.kind}({show(atom.a)}, {show(atom.b)})"
    sign = "//" if atom.kind == "floordiv" else "%"
    return f"({_show_operand(atom.a)}{sign}{_show_operand(atom.b)})"


def _show_operand(d: Dim) -> str:
    simple = isinstance(d, int) or (
        len(d.terms) == 1 and d.terms[0][1] == 1 and len(d.terms[0][0]) == 1
    )
    return show(d) if simple else f"({show(d)})"
