"""Which accesses stay within their buffers: facts about dimensions in, proofs out.

`Facts` collects Dims known to be >= 0 at one place of a kernel (from the ranges of the loops
around it, their `active`, branches and masks) and proves others from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import gcd

from ...algorithm import Apply, Const, Expr, Index, IndexLike, Load, Var, walk
from ...dims import Atom, Dim, DimExpr, Op, bounds, divisor
from ...dtypes import int64
from .ir import Alloc, Buffer, For, If, Kernel, Let, Stmt, Store, While, expressions
from .text import show_access

_BUDGET = 400  # goals looked at per proof; proofs of real kernels need fewer than 30


class Facts:
    """Dims known to be >= 0; `never` where they contradict each other, which no run reaches.
    Immutable; the methods return larger sets."""

    __slots__ = ("known", "never")

    def __init__(self, known: tuple[DimExpr, ...] = (), never: bool = False) -> None:
        self.known, self.never = known, never

    def adding(self, *dims: Dim) -> Facts:
        """With more Dims known to be >= 0; `min(a, b) - c >= 0` counts as two facts."""
        new: list[DimExpr] = []
        never = self.never
        todo = list(dims)
        while todo:
            d = todo.pop()
            if isinstance(d, int):
                never = never or d < 0
                continue
            for op, k in _operations(d):
                if op.kind == ("min" if k > 0 else "max"):
                    rest = d - DimExpr((((op,), k),))
                    todo += [rest + op.a * k, rest + op.b * k]
                    break
            else:
                new.append(d)
        return Facts(self.known + tuple(new), never) if new or never else self

    def inside(self, loop: For) -> Facts:
        """What holds in the body of `loop`."""
        last = loop.hi - (loop.step if divisor(loop.hi - loop.lo) % loop.step == 0 else 1)
        out = self.adding(loop.var - loop.lo, last - loop.var)
        return out if loop.active is None else out.adding(loop.active - 1 - loop.var)

    def assuming(self, cond: Expr, lets: Mapping[str, Expr], truth: bool = True) -> Facts:
        """What holds where `cond` is `truth`; comparisons of dimensions joined by and, or, not."""
        if isinstance(cond, Var) and cond.name in lets:
            return self.assuming(lets[cond.name], lets, truth)
        if not isinstance(cond, Apply):
            return self
        if cond.fn == "not":
            return self.assuming(cond.args[0], lets, not truth)
        if cond.fn == ("and" if truth else "or"):
            return self.assuming(cond.args[0], lets, truth).assuming(cond.args[1], lets, truth)
        dims = [as_dim(a, lets) for a in cond.args]
        if len(dims) != 2 or dims[0] is None or dims[1] is None:
            return self
        a, b = dims[0], dims[1]
        fn = cond.fn if truth else _OPPOSITE.get(cond.fn)
        if fn == "eq":
            return self.adding(a - b, b - a)
        if fn in ("gt", "ge"):
            a, b = b, a
        return self.adding(b - a - (fn in ("lt", "gt"))) if fn in _ORDER else self

    def prove(self, goal: Dim) -> bool:
        """Whether `goal >= 0` follows; False means "not found"."""
        left = _BUDGET
        seen: set[Dim] = set()

        def go(g: Dim, depth: int) -> bool:
            nonlocal left
            g = _tight(g)
            low, _ = bounds(g)
            if low is not None and low >= 0:
                return True
            left -= 1
            if isinstance(g, int) or g in seen or depth == 0 or left < 0:
                return False
            seen.add(g)
            for op, k in _operations(g):
                rest = g - DimExpr((((op,), k),))
                if op.kind == ("min" if k > 0 else "max"):
                    return go(rest + op.a * k, depth) and go(rest + op.b * k, depth)
            facts = self.known + tuple(f for op, _ in _operations(g) for f in _meaning(op))
            nearer = [r for f in facts for r in _without(g, f)]
            return any(go(r, depth - 1) for r in sorted(nearer, key=_terms))

        return go(goal, 6)

    def within(self, index: Dim, extent: Dim) -> bool:
        """Whether `0 <= index < extent` follows."""
        return self.never or (self.prove(index) and self.prove(extent - 1 - index))


def _tight(goal: Dim) -> Dim:
    """A Dim that is >= 0 exactly where `goal` is, without a factor that all but its constant have:
    what they make is a whole number."""
    if isinstance(goal, int):
        return goal
    common = gcd(*(k for atoms, k in goal.terms if atoms))
    if common == 1:
        return goal
    return DimExpr(tuple((atoms, k // common) for atoms, k in goal.terms if atoms)) + sum(
        k // common for atoms, k in goal.terms if not atoms
    )


def _terms(d: Dim) -> int:
    return 0 if isinstance(d, int) else len(d.terms)


_ORDER = ("lt", "le", "gt", "ge")
_OPPOSITE = {"lt": "ge", "le": "gt", "gt": "le", "ge": "lt", "ne": "eq"}


def _operations(d: DimExpr) -> list[tuple[Op, int]]:
    """The operations that stand in `d` as terms of their own, with their factors."""
    return [(m[0], k) for m, k in d.terms if len(m) == 1 and isinstance(m[0], Op)]


def _meaning(op: Op) -> list[DimExpr]:
    """What is >= 0 by the definition of an operation."""
    it: Dim = DimExpr((((op,), 1),))
    facts: tuple[Dim, ...]
    if op.kind == "min":
        facts = (op.a - it, op.b - it)
    elif op.kind == "max":
        facts = (it - op.a, it - op.b)
    elif op.kind == "mod":
        facts = (op.b - 1 - it,)
    else:
        facts = (op.a - op.b * it, op.b * it + op.b - 1 - op.a)
    return [f for f in facts if isinstance(f, DimExpr)]


def _without(goal: DimExpr, fact: DimExpr) -> Iterator[Dim]:
    """Dims whose being >= 0 gives `goal >= 0` by way of `fact`: one term is gone from each.

    With s >= 1 and t >= 0, `s*goal - t*fact >= 1 - s` gives `s*goal > -s`; goal is an integer.
    """
    for atoms, b in goal.terms:
        for part, a in fact.terms:
            if (a > 0) != (b > 0) or not any(atom in part for atom in atoms):
                continue
            s, t = _missing(atoms, part) * abs(a), _missing(part, atoms) * abs(b)
            (least_s, _), (least_t, _) = bounds(s), bounds(t)
            if least_s is not None and least_s >= 1 and least_t is not None and least_t >= 0:
                yield goal * s - fact * t + (s - 1)


def _missing(atoms: tuple[Atom, ...], product: tuple[Atom, ...]) -> Dim:
    """What of `product` is not in `atoms`, multiplied."""
    rest = list(product)
    for atom in atoms:
        if atom in rest:
            rest.remove(atom)
    return DimExpr(((tuple(rest), 1),)) if rest else 1


def as_dim(e: Expr, lets: Mapping[str, Expr]) -> Dim | None:
    """The Dim a scalar is, if it is one."""
    if isinstance(e, Var) and e.name in lets:
        return as_dim(lets[e.name], lets)
    if isinstance(e, Index):
        return e.dim
    return int(e.value) if isinstance(e, Const) and e.dtype == int64 else None


def unproven_accesses(kernel: Kernel) -> Iterator[str]:
    """Loads and stores of args and stack buffers not proven to stay within bounds.

    Takes facts from loop ranges, `active`, branches and masks. An index that depends on data is
    always listed. `kernel` is verified.
    """
    buffers = {b.name: b for b in kernel.params}
    yield from _unproven(kernel.body, Facts(), buffers, {})


def _unproven(
    body: tuple[Stmt, ...], facts: Facts, buffers: dict[str, Buffer], lets: dict[str, Expr]
) -> Iterator[str]:
    buffers, lets = buffers.copy(), lets.copy()
    for s in body:
        for e in expressions(s):
            for x in walk(e):
                if isinstance(x, Load):
                    buffer = buffers[x.buffer]
                    yield from _unproven_access(buffer, x.indices, x.mask, facts, lets)
        if isinstance(s, Store):
            buffer = buffers[s.buffer]
            yield from _unproven_access(buffer, s.indices, s.mask, facts, lets)
        elif isinstance(s, For):
            most = bounds(s.hi - s.lo)[1]
            if most is None or most > 0:
                yield from _unproven(s.body, facts.inside(s), buffers, lets)
        elif isinstance(s, While):
            yield from _unproven(s.body, facts.assuming(s.cond, lets), buffers, lets)
        elif isinstance(s, If):
            yield from _unproven(s.then, facts.assuming(s.cond, lets), buffers, lets)
            yield from _unproven(s.orelse, facts.assuming(s.cond, lets, False), buffers, lets)
        elif isinstance(s, Let):
            lets[s.name] = s.value
        elif isinstance(s, Alloc):
            buffers[s.buffer.name] = s.buffer


def _unproven_access(
    buffer: Buffer, indices: tuple[IndexLike, ...], mask: Expr | None, facts: Facts,
    lets: dict[str, Expr],
) -> Iterator[str]:  # fmt: skip
    if buffer.space == "register":
        return
    if mask is not None:
        facts = facts.assuming(mask, lets)
    for number, (index, extent) in enumerate(zip(indices, buffer.shape)):
        dim = as_dim(index, lets) if isinstance(index, Expr) else index
        if dim is None:
            yield f"{show_access(buffer.name, indices, mask)}: index {number} depends on data"
        elif not facts.within(dim, extent):
            yield f"{show_access(buffer.name, indices, mask)}: index {number} may leave 0..{extent}"
