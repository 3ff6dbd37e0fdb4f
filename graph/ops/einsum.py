"""Einstein's summation: products of several values summed over what the result does not name.

In: an equation as NumPy has them ("bij,bjk->bik", "...ii->...i"). Out: diagonals, sums, matrix
products and multiplications; operands join from left to right, and each index is summed as soon as
nothing after needs it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import algorithm as alg
from ...algorithm import Compute, axis
from ...dims import Dim, bounds, minimum, product, show
from ...dtypes import Array
from ...errors import DTypeError, ShapeError
from ..ir import CALLS, TensorType, Value
from .base import Op, Operand, as_value, graph_function, make, normal_axis, promoted, sample
from .linalg import matmul
from .shape import Movement, Pad, Slice, reshape, transpose

Labels = tuple[str, ...]


@dataclass(frozen=True)
class Diagonal(Movement):
    """The elements whose indices along two axes are equal, `axes` in order; the diagonal becomes
    the last axis."""

    axes: tuple[int, int]
    samples = (sample((4, 4), axes=(0, 1)), sample((3, 5, 2), axes=(0, 1)),
               sample((2, 3, 17, 5), axes=(1, 3)))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        p, q = (normal_axis(a, x.ndim) for a in self.axes)
        if p >= q:
            raise ShapeError(f"axes {self.axes} of a diagonal are not two axes in order")
        rest = (d for k, d in enumerate(x.shape) if k not in (p, q))
        return TensorType(x.dtype, (*rest, minimum(x.shape[p], x.shape[q])))

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        axes = tuple(axis(d) for d in out.shape)
        at: list[Dim] = [a.index for a in axes[:-1]]
        for k in self.axes:
            at.insert(k, axes[-1].index)
        return Compute(axes, (), None, xs[0].at(at))

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        p, q = self.axes
        wide: list[Dim] = list(g.shape[:-1])
        rows, columns = (list[Dim]([1] * xs[0].ndim) for _ in range(2))
        length = g.shape[-1]
        wide.insert(p, length)
        wide.insert(q, 1)
        rows[p] = columns[q] = length
        line = transpose(g, (*range(p), g.ndim - 1, *range(p, g.ndim - 1)))
        iota, owner = CALLS["iota"], g.node.owner
        same = alg.equal(iota(rows, p, owner=owner), iota(columns, q, owner=owner))
        square = alg.where(same, reshape(line, wide), 0)
        missing = tuple(d - length if k in self.axes else 0 for k, d in enumerate(xs[0].shape))
        if all(d == 0 for d in missing):
            return (square,)
        return (make(Pad((0,) * xs[0].ndim, missing), square),)

    def ref(self, *xs: Array) -> Array:
        return np.diagonal(xs[0], 0, *self.axes)


@graph_function("diagonal")
def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Value:
    """The elements of x whose index along `axis2` is that along `axis1` plus `offset`; they become
    the last axis, as NumPy's diagonal."""
    v = as_value(x)
    p, q = normal_axis(axis1, v.ndim), normal_axis(axis2, v.ndim)
    if p == q:
        raise ShapeError(f"diagonal: the two axes of {v.type} are both axis {p}")
    if offset:
        at, skip = (q, offset) if offset > 0 else (p, -offset)
        low, _ = bounds(v.shape[at] - skip)
        if low is None or low < 0:
            raise ShapeError(f"diagonal: {v.type} has no diagonal {offset}")
        starts = tuple(skip if k == at else 0 for k in range(v.ndim))
        sizes = tuple(d - s for d, s in zip(v.shape, starts))
        v = make(Slice(starts, sizes, (1,) * v.ndim), v)
    return make(Diagonal((min(p, q), max(p, q))), v)


@dataclass(frozen=True)
class Equation:
    """The labels of the axes of every operand and of the result; axes under an ellipsis are labelled
    by their distance from its end."""

    operands: tuple[Labels, ...]
    result: Labels


def parsed(equation: str, ranks: Sequence[int]) -> Equation:
    """The labels for operands of `ranks` axes. ShapeError where the equation does not fit them."""
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise ShapeError(f"{equation!r} is for {len(terms)} operands, there are {len(ranks)}")
    letters = equation.replace("...", "").replace("->", "").replace(",", "")
    if not all(c.isascii() and c.isalpha() for c in letters):
        raise ShapeError(f"{equation!r}: indices are letters")
    operands = tuple(_labels(equation, term, rank) for term, rank in zip(terms, ranks))
    hidden = max((tuple(n for n in labels if len(n) > 1) for labels in operands), key=len)
    if arrow:
        named = sum(1 for c in right if c.isalpha())
        result = _labels(equation, right, named + len(hidden) * right.count("..."))
        if len(set(result)) != len(result):
            raise ShapeError(f"{equation!r}: the result has an index twice")
    else:
        once = sorted(c for c in set(letters) if letters.count(c) == 1)
        result = (*hidden, *once)
    unknown = set(result).difference(*operands)
    if unknown:
        raise ShapeError(f"{equation!r}: index {min(unknown)} of the result is in no operand")
    return Equation(operands, result)


def _labels(equation: str, term: str, rank: int) -> Labels:
    before, dots, after = term.partition("...")
    hidden = rank - len(before) - len(after)
    if "..." in after or hidden < 0 or (hidden and not dots):
        raise ShapeError(f"{equation!r}: {term!r} does not fit a value with {rank} axes")
    return (*before, *(f"...{hidden - k}" for k in range(hidden)), *after)


@dataclass(frozen=True)
class Term:
    """An operand on the way, its axes labelled; no label stands twice."""

    value: Value
    labels: Labels

    def size(self, label: str) -> Dim:
        return self.value.shape[self.labels.index(label)]

    def ordered(self, labels: Iterable[str]) -> Term:
        """The axes in the order of `labels`, those it lacks being of size 1."""
        wanted = tuple(labels)
        known = tuple(n for n in wanted if n in self.labels)
        moved = transpose(self.value, [self.labels.index(n) for n in known])
        shape = tuple(self.size(n) if n in known else 1 for n in wanted)
        return Term(reshape(moved, shape), wanted)

    def summed(self, gone: Iterable[str]) -> Term:
        """Without the axes `gone`, summed."""
        axes = [self.labels.index(n) for n in gone]
        if not axes:
            return self
        total = CALLS["cast"](CALLS["sum"](self.value, axes), self.value.dtype)
        return Term(total, tuple(n for n in self.labels if n not in gone))


@dataclass(frozen=True)
class Einsum(Op):
    """The sum over all indices that `equation` does not name in its result of the product of the
    operands, each with the indices the equation gives its axes. Sizes of 1 broadcast."""

    equation: str
    arity = None
    onnx = "Einsum"
    samples = (sample((3, 5), (5, 4), equation="ij,jk->ik"),
               sample((3, 4, 4), equation="...ii->...i"), sample((4, 4), equation="ii"),
               sample((2, 3, 5), (2, 5, 4), equation="bij, bjk"),
               sample((2, 3, 4, 5), (1, 5, 6), equation="...ij,...jk->...ik"),
               sample((3, 5), (1, 5), (4,), equation="ij,ij,k->ki"),
               sample((2, 3, 5, 7), (7, 3, 4), equation="abcd,dbe->eca"),
               sample((4,), (5,), (), equation="i,j,"), sample((3, 5), equation="ij->"),
               sample((7,), (7,), dtypes=("int32", "int32"), low=-9, high=9,
                      equation="i,i"))  # fmt: skip

    def sizes(self, equation: Equation, shapes: Sequence[Sequence[Dim]]) -> dict[str, Dim]:
        """The size of every index; ShapeError where operands disagree."""
        found: dict[str, Dim] = {}
        for labels, shape in zip(equation.operands, shapes):
            for label, size in zip(labels, shape):
                known = found.setdefault(label, size)
                if known == 1:
                    found[label] = size
                elif size not in (1, known):
                    raise ShapeError(f"{self.equation!r}: index {label} is {show(known)} and "
                                     f"{show(size)}")  # fmt: skip
        return found

    def infer(self, *types: TensorType) -> TensorType:
        if not types:
            raise ShapeError("there are no operands")
        for t in types:
            if t.dtype != types[0].dtype:
                raise DTypeError(f"dtypes differ: {types[0].dtype} and {t.dtype}")
        if not types[0].dtype.computes or types[0].dtype.kind == "b":
            raise DTypeError(f"not defined for {types[0].dtype}", "cast to float32 first")
        equation = parsed(_bare(self.equation), [t.ndim for t in types])
        sizes = self.sizes(equation, [t.shape for t in types])
        return TensorType(types[0].dtype, tuple(sizes[n] for n in equation.result))

    def expand(self, *xs: Value) -> Value:
        equation = parsed(_bare(self.equation), [x.ndim for x in xs])
        sizes = self.sizes(equation, [x.shape for x in xs])
        terms = [_simple(x, labels, sizes) for x, labels in zip(xs, equation.operands)]
        done = terms[0]
        for k, term in enumerate(terms[1:], 2):
            done = _joined(
                done, term, {*equation.result, *(n for t in terms[k:] for n in t.labels)}
            )
        return done.summed(set(done.labels) - set(equation.result)).ordered(equation.result).value

    def ref(self, *xs: Array) -> Array:
        wide = (x.astype(np.float64) if x.dtype.kind == "f" else x for x in xs)
        return np.asarray(np.einsum(self.equation, *wide)).astype(xs[0].dtype)

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        equation = parsed(_bare(self.equation), [t.ndim for t in types])
        return product(self.sizes(equation, [t.shape for t in types]).values()) * len(types)


def _bare(equation: str) -> str:
    return equation.replace(" ", "")


def _simple(x: Value, labels: Labels, sizes: dict[str, Dim]) -> Term:
    """An operand without repeated labels, and without axes that only broadcast."""
    while len(set(labels)) != len(labels):
        twice = next(n for n in labels if labels.count(n) > 1)
        p = labels.index(twice)
        q = labels.index(twice, p + 1)
        if x.shape[p] != x.shape[q]:  # one of them is 1 and broadcasts
            gone = p if x.shape[p] == 1 else q
            x = reshape(x, (*x.shape[:gone], *x.shape[gone + 1 :]))
            labels = (*labels[:gone], *labels[gone + 1 :])
            continue
        x = make(Diagonal((p, q)), x)
        labels = (*labels[:p], *labels[p + 1 : q], *labels[q + 1 :], twice)
    kept_axes = [k for k, n in enumerate(labels) if x.shape[k] == sizes[n]]
    x = reshape(x, tuple(x.shape[k] for k in kept_axes))
    return Term(x, tuple(labels[k] for k in kept_axes))


def _joined(a: Term, b: Term, needed: set[str]) -> Term:
    """The product of two operands, summed over what is not `needed`."""
    a = a.summed({n for n in a.labels if n not in needed and n not in b.labels})
    b = b.summed({n for n in b.labels if n not in needed and n not in a.labels})
    both = [n for n in a.labels if n in b.labels]
    batch, inner = [n for n in both if n in needed], [n for n in both if n not in needed]
    rows = [n for n in a.labels if n not in both]
    columns = [n for n in b.labels if n not in both]
    if not inner or not (rows or columns):
        every = (*batch, *inner, *rows, *columns)
        whole = a.ordered(every).value * b.ordered(every).value
        return Term(whole, every).summed(inner)
    left, right = a.ordered((*batch, *rows, *inner)), b.ordered((*batch, *inner, *columns))
    lead = tuple(a.size(n) for n in batch)
    m, k, n = (product(t.size(x) for x in names) for t, names in
               ((a, rows), (a, inner), (b, columns)))  # fmt: skip
    made = matmul(reshape(left.value, (*lead, m, k)), reshape(right.value, (*lead, k, n)))
    shape = (*lead, *(a.size(x) for x in rows), *(b.size(x) for x in columns))
    return Term(reshape(made, shape), (*batch, *rows, *columns))


@graph_function("einsum")
def einsum(equation: str, *operands: Any) -> Value:
    """Einstein's summation, as NumPy's einsum: "ij,jk->ik" is a matrix product, "ii->i" a diagonal,
    "...ij->...ji" a transpose. Without "->" the indices that stand once are the result's, in
    alphabetical order behind those of the ellipsis."""
    if not operands:
        raise ShapeError("einsum: there are no operands")
    return make(Einsum(_bare(equation)), *promoted(*operands))
