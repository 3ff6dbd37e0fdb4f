"""Adaptive pooling: as many windows as are asked for, whatever the size.

Of `size` positions window i of n reads those from floor(i * size / n) to ceil((i + 1) * size / n),
as in PyTorch. A position is read by window i exactly if, with the roles of size and n exchanged,
the position's window reads i: so summing is its own gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import algorithm as alg
from ...algorithm import Axis, Compute, Const, Expr, Index, axis, extreme
from ...dims import Dim, ceildiv, minimum, product, show
from ...dtypes import Array, int64
from ...errors import DTypeError, ShapeError
from ..ir import CALLS, Shape, TensorType, Value
from .base import Op, Operand, as_value, graph_function, make, sample
from .indexing import AddAlongAxis
from .pooling import average_pool, max_pool
from .shape import as_shape
from .windows import both, concrete

_SAMPLES = (sample((2, 3, 7), sizes=(3,)), sample((2, 3, 7), sizes=(9,)),
            sample((1, 2, 5, 6), sizes=(2, 4)), sample((1, 2, 3, 4, 2), sizes=(2, 1, 3)),
            sample((2, 2, 4, 4), sizes=(4, 1)))  # fmt: skip


@dataclass(frozen=True)
class Adaptive(Op, abstract=True):
    """Windows that divide the spatial axes of [n, c, *spatial] into `sizes`."""

    sizes: Shape
    arity = 1

    def pooled(self, *types: TensorType) -> TensorType:
        """The type of the result, with the dtype of the operand."""
        (x,) = types
        if not x.dtype.computes or x.dtype.kind == "b":
            raise DTypeError(f"not defined for {x.dtype}", "cast to float32 first")
        if x.ndim != len(self.sizes) + 2:
            raise ShapeError(f"sizes {self.sizes} are for values with {len(self.sizes) + 2} axes, "
                             f"not for {x}")  # fmt: skip
        if any(isinstance(d, int) and d < 1 for d in (*self.sizes, *x.shape[2:])):
            sizes = ",".join(show(d) for d in self.sizes)
            raise ShapeError(f"{x} cannot be divided into [{sizes}] windows")
        return TensorType(x.dtype, (*x.shape[:2], *self.sizes))

    def bound(self, spatial: Shape) -> Shape:
        """How many positions a window reads at most, on each axis, by a formula for any size."""
        return tuple(minimum((d + n - 2) // n + 1, d) for d, n in zip(spatial, self.sizes))

    def taps(self, spatial: Shape) -> Shape:
        """How many positions a window reads at most, on each axis, exactly where sizes are known."""
        out: list[Dim] = []
        for size, n, most in zip(spatial, self.sizes, self.bound(spatial)):
            if isinstance(size, int) and isinstance(n, int):
                most = max(ceildiv((i + 1) * size, n) - i * size // n for i in range(n))
            out.append(most)
        return tuple(out)

    def read(
        self, at: Sequence[Axis], taps: Sequence[Dim], window: Shape, spatial: Shape
    ) -> tuple[list[Dim], Expr | None]:
        """Where tap `taps` of the window at `at` lies, and the mask that it is in the window, for
        windows of `window` taps."""
        places: list[Dim] = []
        tests: list[Expr] = []
        for o, t, k, size, n in zip(at, taps, window, spatial, self.sizes):
            start = o.index * size // n
            places.append(start + t)
            if k * n != size:  # no window ends beyond the axis, which bounds do not see
                stop = ceildiv((o.index + 1) * size, n)
                tests += [Index(start + t) < Index(stop), Index(start + t) < Index(size)]
        return places, both(*tests)

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return types[0].size

    def windows_ref(self, x: Array) -> list[list[list[int]]]:
        """For references: the positions every window reads, for each axis and window."""
        return [
            [list(range(i * size // n, -(-(i + 1) * size // n))) for i in range(n)]
            for size, n in zip(x.shape[2:], concrete(self.sizes))
        ]

    def each_ref(self, x: Array, reduce: Any) -> Array:
        """For references: `reduce` of every window, its elements along the last axis."""
        lines = self.windows_ref(x)
        out = np.stack(
            [
                reduce(x[(slice(None), slice(None), *np.ix_(*(w[i] for w, i in zip(lines, at))))]
                       .reshape(*x.shape[:2], -1))
                for at in np.ndindex(*concrete(self.sizes))
            ], -1,
        )  # fmt: skip
        return out.reshape(*x.shape[:2], *concrete(self.sizes))


@dataclass(frozen=True)
class AdaptiveSum(Adaptive):
    """The sum of every window of [n, c, *spatial]: [n, c, *sizes]."""

    samples = _SAMPLES

    def infer(self, *types: TensorType) -> TensorType:
        return self.pooled(*types)

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        (x,) = xs
        n, c, *at = axes = tuple(axis(d) for d in out.shape)
        window = self.taps(x.shape[2:])
        taps = tuple(axis(d, "k") for d in window)
        places, mask = self.read(at, [t.index for t in taps], window, x.shape[2:])
        return Compute(axes, taps, "add", x.at([n.index, c.index, *places], mask))

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return (make(AdaptiveSum(xs[0].shape[2:]), g),)

    def ref(self, *xs: Array) -> Array:
        wide = xs[0].astype(np.float64) if xs[0].dtype.kind == "f" else xs[0]
        return np.asarray(self.each_ref(wide, lambda w: w.sum(-1)), xs[0].dtype)


@dataclass(frozen=True)
class AdaptiveMax(Adaptive):
    """The largest element of every window of [n, c, *spatial]: [n, c, *sizes]; NaN wins. The
    gradient goes to the first largest one in row-major order."""

    samples = (*_SAMPLES, sample((1, 2, 5, 6), dtypes=("int32",), low=-9, high=9, sizes=(2, 4)))

    def infer(self, *types: TensorType) -> TensorType:
        return self.pooled(*types)

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        (x,) = xs
        n, c, *at = axes = tuple(axis(d) for d in out.shape)
        window = self.taps(x.shape[2:])
        taps = tuple(axis(d, "k") for d in window)
        places, mask = self.read(at, [t.index for t in taps], window, x.shape[2:])
        value = x.at([n.index, c.index, *places], mask)
        if mask is not None:
            value = alg.where(mask, value, Const(extreme(x.dtype, -1), x.dtype))
        return Compute(axes, taps, "max", value)

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        (x,) = xs
        reshape, plane = CALLS["reshape"], product(x.shape[2:])
        places = reshape(_places(x, self), (*x.shape[:2], -1))
        flat = make(AddAlongAxis(2, plane), places, reshape(g, (*g.shape[:2], -1)))
        return (reshape(flat, x.shape),)

    def ref(self, *xs: Array) -> Array:
        return np.asarray(self.each_ref(xs[0], lambda w: w.max(-1)), xs[0].dtype)


@dataclass(frozen=True)
class AdaptiveMaxTap(Adaptive):
    """Which tap of every window of [n, c, *spatial] is its first largest element (or first NaN),
    int64. Taps are counted in row-major order of a window of `bound` taps on each axis."""

    differentiable = False
    samples = AdaptiveMax.samples

    def infer(self, *types: TensorType) -> TensorType:
        return TensorType(int64, self.pooled(*types).shape)

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        (x,) = xs
        n, c, *at = axes = tuple(axis(d) for d in out.shape)
        window = self.bound(x.shape[2:])
        k = axis(product(window), "k")
        taps = [k.index // product(window[j + 1 :]) % size for j, size in enumerate(window)]
        places, mask = self.read(at, taps, window, x.shape[2:])
        value = x.at([n.index, c.index, *places], mask)
        if mask is not None:
            value = alg.where(mask, value, Const(extreme(x.dtype, -1), x.dtype))
        return Compute(axes, (k,), "argmax", value)

    def ref(self, *xs: Array) -> Array:
        lines = self.windows_ref(xs[0])
        sizes = zip(xs[0].shape[2:], concrete(self.sizes))
        widest = [min((d + n - 2) // n + 1, d) for d, n in sizes]
        out = np.zeros((*xs[0].shape[:2], *concrete(self.sizes)), np.int64)
        for at in np.ndindex(*concrete(self.sizes)):
            reads = [line[i] for line, i in zip(lines, at)]
            part = xs[0][(slice(None), slice(None), *np.ix_(*reads))]
            first = part.reshape(*part.shape[:2], -1).argmax(-1)
            taps = np.unravel_index(first, part.shape[2:])
            out[(..., *at)] = np.ravel_multi_index(taps, widest)
        return out


def _places(x: Value, op: Adaptive) -> Value:
    """Where the first largest element of every window stands within its channel."""
    window, tap, owner = op.bound(x.shape[2:]), make(AdaptiveMaxTap(op.sizes), x), x.node.owner

    def number(d: Dim) -> Any:
        return d if isinstance(d, int) else CALLS["size_of"](d, owner)

    flat: Any = 0
    for k, size in enumerate(x.shape[2:]):
        line: list[Dim] = [1] * x.ndim
        line[k + 2] = op.sizes[k]
        start = CALLS["iota"](line, k + 2, owner=owner) * number(size) // number(op.sizes[k])
        rest = number(product(window[k + 1 :]))
        flat = flat * number(size) + (tap // rest % number(window[k]) + start)
    return flat  # type: ignore[no-any-return]


def _adaptive(x: Any, size: Any, what: str) -> tuple[Value, Shape, tuple[int, ...] | None]:
    """A value, the number of windows on each axis, and their size where they are all alike."""
    v = as_value(x)
    if v.ndim < 3:
        raise ShapeError(f"{what}: values are [batch, channels, *spatial], not {v.type}")
    rank = v.ndim - 2
    given = (size,) * rank if size is None or isinstance(size, int | str) else tuple(size)
    if len(given) != rank:
        raise ShapeError(f"{what}: {size} windows for {v.type}")
    wanted = as_shape([d if n is None else n for n, d in zip(given, v.shape[2:])])
    alike = []
    for d, n in zip(v.shape[2:], wanted):
        if not isinstance(d, int) or not isinstance(n, int) or n < 1 or d < 1 or d % n:
            return v, wanted, None
        alike.append(d // n)
    return v, wanted, tuple(alike)


@graph_function("adaptive_average_pool")
def adaptive_average_pool(x: Any, size: Any) -> Value:
    """The means of windows that divide the spatial axes of x [n, c, *spatial] (floats) into `size`
    parts, overlapping by at most one position: a number, or one for each axis, None meaning that
    axis's own size. Window i of n reads floor(i * d / n) to ceil((i + 1) * d / n) of d positions."""
    v, sizes, alike = _adaptive(x, size, "adaptive_average_pool")
    if alike is not None:
        return average_pool(v, alike)
    total = make(AdaptiveSum(sizes), v)
    if not v.dtype.is_float:
        raise DTypeError(
            f"adaptive_average_pool: not defined for {v.dtype}", "cast to float32 first"
        )
    ones = CALLS["full"]((1, 1, *v.shape[2:]), 1, v.dtype, v.node.owner)
    return total / make(AdaptiveSum(sizes), ones)  # type: ignore[no-any-return]


@graph_function("adaptive_max_pool")
def adaptive_max_pool(x: Any, size: Any) -> Value:
    """The largest elements of windows as of `adaptive_average_pool`."""
    v, sizes, alike = _adaptive(x, size, "adaptive_max_pool")
    return max_pool(v, alike) if alike is not None else make(AdaptiveMax(sizes), v)
