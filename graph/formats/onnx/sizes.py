"""Sizes that a model promises to be equal without their being known to be: run-time checks.

ONNX says nothing about dimensions but at run time: a sum of [batch, n] and [batch_2, n] is right
where the batches are equal, a reshape where the elements suffice. These functions make values whose
sizes are the same expressions, by `ensure_shape` where they are not; what is certainly wrong is
left to the type rules of the ops. A size that may be 1 at run time is taken not to be: which axes
are repeated is decided while compiling.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ....dims import Dim, DimExpr, Sym, evaluate, free_symbols, product, show
from ....errors import ModelError
from ...ir import Shape, Value
from ...ops.effects import ensure_shape
from ...ops.shape import reshape

_FACTORS = 720_720  # divisible by all small numbers: divisions of samples leave no rest


def simplest(dims: Iterable[Dim]) -> Dim:
    """Of sizes that are equal at run time the one to go on with: a number, a symbol, the shortest
    expression."""

    def cost(d: Dim) -> tuple[int, int]:
        return (
            (0, 0) if isinstance(d, int) else (1 + (show(d).isidentifier() is False), len(show(d)))
        )

    return min(dims, key=cost)


def conforming(*values: Value) -> list[Value]:
    """Values that broadcast together."""
    rank = max(v.ndim for v in values)
    target: list[Dim] = []
    for k in range(rank):
        sizes = [v.shape[k - rank + v.ndim] for v in values if k >= rank - v.ndim]
        target.append(simplest([d for d in sizes if d != 1] or [1]))
    return [as_sized(v, [1 if d == 1 else t for d, t in zip(v.shape, target[rank - v.ndim :])])
            for v in values]  # fmt: skip


def alike(values: Sequence[Value], apart: int) -> list[Value]:
    """Values of one rank with equal sizes on all axes but `apart`."""
    if any(v.ndim != values[0].ndim for v in values):
        return list(values)
    target = [simplest(v.shape[k] for v in values) for k in range(values[0].ndim)]
    return [as_sized(v, [d if k == apart else t for k, (d, t) in enumerate(zip(v.shape, target))])
            for v in values]  # fmt: skip


def as_sized(v: Value, shape: Sequence[Dim]) -> Value:
    """v as a value of `shape`, checked at run time where sizes are other expressions. Numbers that
    differ stay as they are: the next op says what is wrong with them."""
    wanted = [old if isinstance(old, int) and isinstance(new, int) else new
              for old, new in zip(v.shape, shape)]  # fmt: skip
    return ensure_shape(v, wanted)


def reshaped(x: Value, shape: Sequence[Dim]) -> Value:
    """x under another shape of as many elements; one entry may be -1. Groups of axes that hold the
    same elements are matched by what their sizes are for some values of the symbols."""
    new = list(shape)
    if new.count(-1) > 1:
        raise ModelError(f"only one dimension of [{', '.join(map(show, new))}] may be -1")
    if -1 in new:
        known = product(d for d in new if d != -1)
        if known == 0:
            raise ModelError(f"nothing says what -1 stands for in [{', '.join(map(show, new))}]")
        new[new.index(-1)] = x.type.size // known
    if x.type.size == product(new) or not any(isinstance(d, DimExpr) for d in (*new, *x.shape)):
        return reshape(x, new)
    groups = matched(x.shape, tuple(new))
    old_sizes = [product(x.shape[k] for k in old) for old, _ in groups]
    new_sizes = [product(new[k] for k in group) for _, group in groups]
    return reshape(as_sized(reshape(x, old_sizes), new_sizes), new)


def matched(old: Shape, new: Shape) -> list[tuple[list[int], list[int]]]:
    """Axes of two shapes of equal size in groups of equal products, as many as there are."""
    samples = [_sample({s for d in (*old, *new) for s in free_symbols(d)}, k) for k in (0, 7)]
    numbers = [[[evaluate(d, values) for d in dims] for values in samples] for dims in (old, new)]

    def size(which: int, axes: Iterable[int]) -> list[int]:
        at = list(axes)
        return [int(product(row[k] for k in at)) for row in numbers[which]]  # type: ignore[arg-type]

    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) and j < len(new):
        found = next(((a, b) for total in range(2, len(old) - i + len(new) - j + 1)
                      for a in range(1, total) for b in [total - a]
                      if i + a <= len(old) and j + b <= len(new)
                      and size(0, range(i, i + a)) == size(1, range(j, j + b))), None)  # fmt: skip
        if found is None:
            break
        groups.append((list(range(i, i + found[0])), list(range(j, j + found[1]))))
        i, j = i + found[0], j + found[1]
    if i < len(old) or j < len(new) or not groups:
        groups.append((list(range(i, len(old))), list(range(j, len(new)))))
    return groups


def _sample(symbols: Iterable[Sym], shift: int) -> dict[str, int]:
    """Sizes for symbols that no accident makes equal."""
    primes = (101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167, 173, 179, 181)
    ordered = sorted(symbols, key=lambda s: s.name)
    return {s.name: _FACTORS * primes[(k + shift) % len(primes)] * (1 + k // len(primes))
            for k, s in enumerate(ordered)}  # fmt: skip
