"""Ops that move elements: reshape, transpose, broadcast, slice, pad, concatenate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import algorithm as alg
from ...algorithm import Compute, Const, Expr, Index, axis
from ...dims import Dim, DimExpr, bounds, free_symbols, product, show, sole_symbol, total
from ...dtypes import Array, int64
from ...errors import DTypeError, ShapeError
from ..ir import CALLS, Binding, Interner, Shape, TensorType, Value
from .base import (
    Op,
    Operand,
    as_value,
    broadcast_shapes,
    graph_function,
    make,
    normal_axes,
    normal_axis,
    own_axis,
    promoted,
    sample,
)

MOST_JOINED = 64  # operands of one Concat: each is one more choice for every element


class Movement(Op, abstract=True):
    """Every result element is one operand element, or zero."""

    arity = 1

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return 0


def _concrete(shape: Shape) -> tuple[int, ...]:
    """For references only: a shape of plain numbers."""
    return tuple(d if isinstance(d, int) else -1 for d in shape)


@dataclass(frozen=True)
class Reshape(Movement):
    """The same elements in row-major order under another shape."""

    shape: Shape
    onnx = "Reshape"
    samples = (sample((3, 8), shape=(2, 12)), sample((2, 3, 5), shape=(30,)),
               sample((), shape=(1, 1)), sample((0, 3), shape=(0,)),
               sample((6, 7), shape=(6, 1, 7)))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        if x.size != product(self.shape):
            shape = ",".join(show(d) for d in self.shape)
            raise ShapeError(f"cannot reshape {x} to [{shape}]: {show(x.size)} elements against "
                             f"{show(product(self.shape))}")  # fmt: skip
        return TensorType(x.dtype, self.shape)

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        (x,) = xs
        axes = tuple(axis(d) for d in out.shape)
        return Compute(axes, (), None, x.at(reshape_index(axes, out.shape, x.shape)))

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return (reshape(g, xs[0].shape),)

    def ref(self, *xs: Array) -> Array:
        return np.reshape(xs[0], _concrete(self.shape))


def reshape_index(axes: Sequence[alg.Axis], shape: Shape, old: Shape) -> list[Dim]:
    """The old index of the element at new index `axes`. Dimensions are matched in groups of equal
    products, so that axes a reshape keeps stay plain indices."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(shape):
        left, right = [i] if i < len(old) else [], [j] if j < len(shape) else []
        i, j = i + len(left), j + len(right)
        while True:
            a = product(old[k] for k in left)
            b = product(shape[k] for k in right)
            if a == b and left and right:
                break
            if j >= len(shape) and i >= len(old):
                break
            smaller = isinstance(a, int) and isinstance(b, int) and a < b
            if (smaller or not left or j >= len(shape)) and i < len(old):
                left.append(i)
                i += 1
            else:
                right.append(j)
                j += 1
        groups.append((left, right))
    out: list[Dim] = [0] * len(old)
    for left, right in groups:
        flat: Dim = 0
        for k in right:
            flat = flat * shape[k] + axes[k].index
        rest: Dim = flat
        for k in reversed(left):
            if all(old[m] == 1 for m in left[: left.index(k)]):
                out[k] = rest if old[k] != 1 else 0
                break
            size = 1 if old[k] == 0 else old[k]  # of none there is no element to find
            out[k] = rest % size
            rest = rest // size
    return out


@dataclass(frozen=True)
class Transpose(Movement):
    """Axes in another order: result axis k is operand axis `perm[k]`."""

    perm: tuple[int, ...]
    onnx = "Transpose"
    samples = (sample((3, 17), perm=(1, 0)), sample((4, 5, 33), perm=(2, 0, 1)),
               sample((2, 3, 4, 5), perm=(0, 2, 3, 1)), sample((0, 3), perm=(1, 0)))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        if sorted(self.perm) != list(range(x.ndim)):
            raise ShapeError(f"{self.perm} is not an order of the {x.ndim} axes of {x}")
        return TensorType(x.dtype, tuple(x.shape[p] for p in self.perm))

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        axes = tuple(axis(d) for d in out.shape)
        at: list[Dim] = [0] * len(axes)
        for k, p in enumerate(self.perm):
            at[p] = axes[k].index
        return Compute(axes, (), None, xs[0].at(at))

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        back = tuple(self.perm.index(k) for k in range(len(self.perm)))
        return (transpose(g, back),)

    def ref(self, *xs: Array) -> Array:
        return np.transpose(xs[0], self.perm)


@dataclass(frozen=True)
class BroadcastTo(Movement):
    """NumPy's broadcast_to: axes of size 1 and missing leading axes are repeated."""

    shape: Shape
    onnx = "Expand"
    samples = (sample((17,), shape=(3, 17)), sample((4, 1), shape=(4, 33)),
               sample((), shape=(5,)))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        if broadcast_shapes(types[0].shape, self.shape) != self.shape:
            shape = ",".join(show(d) for d in self.shape)
            raise ShapeError(f"cannot broadcast {types[0]} to [{shape}]")
        return TensorType(types[0].dtype, self.shape)

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        axes = tuple(axis(d) for d in out.shape)
        return Compute(axes, (), None, xs[0].broadcast(axes))

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return (CALLS["unbroadcast"](g, xs[0]),)

    def ref(self, *xs: Array) -> Array:
        return np.broadcast_to(xs[0], _concrete(self.shape))


@dataclass(frozen=True)
class Slice(Movement):
    """`x[start : start + size*step : step]` on every axis; steps may be negative."""

    starts: Shape
    sizes: Shape
    steps: tuple[int, ...]
    onnx = "Slice"
    samples = (sample((5, 17), starts=(1, 2), sizes=(3, 7), steps=(1, 2)),
               sample((9,), starts=(8,), sizes=(9,), steps=(-1,)),
               sample((4, 3), starts=(0, 0), sizes=(0, 3), steps=(1, 1)))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        out = TensorType(types[0].dtype, self.sizes)
        ends = (self.starts, self.sizes, self.steps)
        if any(len(e) != types[0].ndim for e in ends) or 0 in self.steps:
            raise ShapeError(f"starts {self.starts}, sizes {self.sizes} and steps {self.steps} "
                             f"do not slice {types[0]}")  # fmt: skip
        for d, text in self.requires(out, *types):
            if isinstance(d, int) and d < 0:
                raise ShapeError(text)
        return out

    def requires(self, out: TensorType, *types: TensorType) -> Iterator[tuple[Dim, str]]:
        yield from super().requires(out, *types)
        for k, (start, n, step) in enumerate(zip(self.starts, self.sizes, self.steps)):
            last = start + (n - 1) * step
            low, high = (start, last) if step > 0 else (last, start)
            if n != 0:
                text = f"an index is out of range along axis {k} of {types[0]}"
                yield low, text
                yield types[0].shape[k] - 1 - high, text

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        axes = tuple(axis(d) for d in out.shape)
        return Compute(axes, (), None, xs[0].at(
            [s + a.index * k for s, a, k in zip(self.starts, axes, self.steps)]))  # fmt: skip

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return (make(Unslice(xs[0].shape, self.starts, self.steps), g),)

    def ref(self, *xs: Array) -> Array:
        index = tuple(
            np.arange(n) * k + s
            for s, n, k in zip(_concrete(self.starts), _concrete(self.sizes), self.steps)
        )
        return xs[0][np.ix_(*index)] if index else xs[0]


@dataclass(frozen=True)
class Unslice(Movement):
    """Zeros of `shape` with the operand placed where a slice took it from: a slice's gradient."""

    shape: Shape
    starts: Shape
    steps: tuple[int, ...]
    samples = (sample((3, 7), shape=(5, 17), starts=(1, 2), steps=(1, 2)),
               sample((9,), shape=(9,), starts=(8,), steps=(-1,)))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        return TensorType(types[0].dtype, self.shape)

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        (x,) = xs
        axes = tuple(axis(d) for d in out.shape)
        at: list[Dim] = []
        mask: Expr | None = None
        for a, size, start, step in zip(axes, x.shape, self.starts, self.steps):
            offset = a.index - start if step > 0 else start - a.index
            hit = _inside(offset, size, abs(step))
            mask = hit if mask is None else mask if hit is None else mask & hit
            at.append(offset // abs(step))
        return Compute(axes, (), None, x.at(at, mask))

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return (make(Slice(self.starts, xs[0].shape, self.steps), g),)

    def ref(self, *xs: Array) -> Array:
        out = np.zeros(_concrete(self.shape), xs[0].dtype)
        index = tuple(np.arange(n) * k + s for s, n, k in zip(self.starts, xs[0].shape, self.steps))
        out[np.ix_(*index)] = xs[0]
        return out


def _inside(offset: Dim, size: Dim, step: int) -> Expr | None:
    """Whether `offset` is one of 0, step, ..., (size-1)*step; None if that is certain."""
    tests: list[Expr] = []
    from ...dims import bounds

    low, _ = bounds(offset)
    if low is None or low < 0:
        tests.append(Index(offset) >= Const(0, int64))
    gap, _ = bounds((size - 1) * step - offset)
    if gap is None or gap < 0:
        tests.append(Index(offset) <= Index((size - 1) * step))
    if step > 1:
        tests.append(alg.equal(Index(offset % step), Const(0, int64)))
    out: Expr | None = None
    for t in tests:
        out = t if out is None else out & t
    return out


@dataclass(frozen=True)
class Pad(Movement):
    """Adds `before` and `after` elements of constant `value` on every axis."""

    before: Shape
    after: Shape
    value: float = 0.0
    onnx = "Pad"
    samples = (sample((3, 5), before=(1, 0), after=(2, 3)),
               sample((17,), before=(4,), after=(0,), value=1.5))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        if any(isinstance(n, int) and n < 0 for n in (*self.before, *self.after)):
            raise ShapeError(f"padding is negative: {self.before}, {self.after}", "slice instead")
        shape = tuple(b + d + a for b, d, a in zip(self.before, x.shape, self.after))
        return TensorType(x.dtype, shape)

    def requires(self, out: TensorType, *types: TensorType) -> Iterator[tuple[Dim, str]]:
        for k, n in enumerate((*self.before, *self.after)):
            yield n, f"the padding of axis {k % out.ndim} is negative"

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        (x,) = xs
        axes = tuple(axis(d) for d in out.shape)
        at = [a.index - b for a, b in zip(axes, self.before)]
        mask: Expr | None = None
        for i, size in zip(at, x.shape):
            hit = _inside(i, size, 1)
            mask = hit if mask is None else mask if hit is None else mask & hit
        value = x.at(at, mask)
        if self.value != 0 and mask is not None:
            value = alg.where(mask, value, Const(self.value, x.dtype))
        return Compute(axes, (), None, value)

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return (make(Slice(self.before, xs[0].shape, (1,) * xs[0].ndim), g),)

    def ref(self, *xs: Array) -> Array:
        width = list(zip(_concrete(self.before), _concrete(self.after)))
        return np.pad(xs[0], width, constant_values=self.value)


@dataclass(frozen=True)
class Concat(Op):
    """Operands joined along one axis."""

    axis: int
    onnx = "Concat"
    samples = (sample((3, 5), (3, 17), axis=1), sample((2, 4), (1, 4), (3, 4), axis=0))

    def infer(self, *types: TensorType) -> TensorType:
        first = types[0]
        own_axis(self.axis, first.ndim)
        for t in types:
            if t.dtype != first.dtype:
                raise DTypeError(f"cannot join {first} and {t}: dtypes differ")
            same = t.ndim == first.ndim and all(
                a == b for k, (a, b) in enumerate(zip(t.shape, first.shape)) if k != self.axis
            )
            if not same:
                raise ShapeError(f"cannot join {first} and {t} along axis {self.axis}")
        shape = list(first.shape)
        shape[self.axis] = total(t.shape[self.axis] for t in types)
        return TensorType(first.dtype, tuple(shape))

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        axes = tuple(axis(d) for d in out.shape)
        along = axes[self.axis].index
        value: Expr | None = None
        start: Dim = 0
        for x in xs:
            at: list[Dim] = [a.index for a in axes]
            at[self.axis] = along - start
            mask = _inside(along - start, x.shape[self.axis], 1)
            piece = x.at(at, mask)
            value = piece if value is None or mask is None else alg.where(mask, piece, value)
            start = start + x.shape[self.axis]
        assert value is not None
        return Compute(axes, (), None, value)

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        out: list[Value] = []
        start: Dim = 0
        for x in xs:
            starts: list[Dim] = [0] * x.ndim
            starts[self.axis] = start
            out.append(make(Slice(tuple(starts), x.shape, (1,) * x.ndim), g))
            start = start + x.shape[self.axis]
        return tuple(out)

    def ref(self, *xs: Array) -> Array:
        return np.concatenate(xs, axis=self.axis)

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return 0


@dataclass(frozen=True)
class SizeOf(Op):
    """A dimension expression as an int64 scalar. Operands are the `sizes` in it that a run computes,
    from 0 to `most`."""

    dim: Dim
    sizes: Shape = ()
    most: Shape = ()
    differentiable = False

    def bindings(self) -> tuple[Binding, ...]:
        return bound_sizes(self.sizes, self.most)

    def infer(self, *types: TensorType) -> TensorType:
        check_sizes(types, self.sizes, self.most)
        return TensorType(int64, ())

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        return Compute((), (), None, Index(self.dim))

    def ref(self, *xs: Array) -> Array:
        return np.asarray(self.dim, np.int64)

    samples = ()


def bound_sizes(sizes: Shape, most: Shape, first: int = 0) -> tuple[Binding, ...]:
    """The bindings of `sizes` by operands from number `first` on."""
    pairs = enumerate(zip(sizes, most), first)
    return tuple(Binding(d, k, limit) for k, (d, limit) in pairs if isinstance(d, DimExpr))


def check_sizes(types: Sequence[TensorType], sizes: Shape, most: Shape) -> None:
    """Whether there is an int64 scalar for each size that a run computes, and a limit."""
    if not len(types) == len(sizes) == len(most):
        raise ShapeError(f"{len(sizes)} sizes, {len(most)} limits, {len(types)} operands for them")
    for t in types:
        if t != TensorType(int64, ()):
            raise DTypeError(f"a size is an int64 scalar, not {t}")
    for d, limit in zip(sizes, most):
        s = sole_symbol(d)
        high = bounds(limit)[1]
        if isinstance(d, DimExpr) and (
            s is None or s.lo > 0 or s.multiple != 1 or (s.hi is not None and s.hi != high)
        ):
            raise ShapeError(
                f"a size is a dimension in 0..{'' if high is None else high}, not {show(d)}"
            )


@graph_function("size_of")
def size_of(dim: Dim, owner: Interner | None = None) -> Value:
    """A dimension as an int64 scalar value."""
    owner = owner if owner is not None else CALLS["__current__"]()
    sizes = [owner.sizes[s.name] for s in sorted(free_symbols(dim), key=lambda s: s.name)
             if s.name in owner.sizes]  # fmt: skip
    if len(sizes) == 1 and sizes[0].dim == dim:
        return sizes[0].value
    op = SizeOf(dim, tuple(s.dim for s in sizes), tuple(s.most for s in sizes))
    return owner.node(op, tuple(s.value for s in sizes)).outputs[0]


def as_shape(shape: Any) -> Shape:
    """A shape from ints, dims and names of dims. ShapeError for anything else."""
    given = (shape,) if isinstance(shape, int | np.integer | str | DimExpr) else shape
    if not isinstance(given, Iterable) or isinstance(given, Value):
        raise ShapeError(f"a shape is a number, a name or a tuple of these, not {shape!r}")
    return tuple(CALLS["__dim__"](d) for d in given)


@graph_function("reshape")
def reshape(x: Any, shape: Any) -> Value:
    """x under another shape; one entry may be -1."""
    v = as_value(x)
    new = list(as_shape(shape))
    if new.count(-1) > 1:
        raise ShapeError(f"only one dimension of {tuple(new)} may be -1")
    if -1 in new:
        at = new.index(-1)
        known = product(d for d in new if d != -1)
        size = v.type.size
        if known == 0 or (isinstance(size, int) and isinstance(known, int) and size % known):
            raise ShapeError(f"cannot reshape {v.type} to {tuple(new)}")
        new[at] = size // known
    return v if tuple(new) == v.shape else make(Reshape(tuple(new)), v)


@graph_function("transpose")
def transpose(x: Any, perm: Sequence[int] | None = None) -> Value:
    """x with axes in the order `perm` (None: reversed)."""
    v = as_value(x)
    order = tuple(reversed(range(v.ndim)))
    if perm is not None:
        order = tuple(normal_axis(p, v.ndim) for p in as_shape(perm))
    return v if order == tuple(range(v.ndim)) else make(Transpose(order), v)


@graph_function("broadcast_to")
def broadcast_to(x: Any, shape: Any) -> Value:
    """x repeated to `shape` by NumPy's broadcasting."""
    v = as_value(x)
    to = as_shape(shape)
    return v if v.shape == to else make(BroadcastTo(to), v)


def concat(values: Iterable[Any], axis: int | None = 0) -> Value:
    """Values joined along `axis`; None: all their elements one after the other, as in NumPy."""
    vs = promoted(*values)
    if axis is None:
        vs, axis = tuple(reshape(v, (-1,)) for v in vs), 0
    if vs and vs[0].ndim == 0:
        raise ShapeError("concat: scalars have no axis to be joined along", "use fm.stack")
    at = normal_axis(axis, vs[0].ndim)
    while len(vs) > MOST_JOINED:
        pieces = [vs[k : k + MOST_JOINED] for k in range(0, len(vs), MOST_JOINED)]
        vs = tuple(p[0] if len(p) == 1 else make(Concat(at), *p) for p in pieces)
    return vs[0] if len(vs) == 1 else make(Concat(at), *vs)


@graph_function("expand_dims")
def expand_dims(x: Any, axis: int | Sequence[int]) -> Value:
    """x with an axis of size 1 inserted at `axis`, or at each of several."""
    v = as_value(x)
    count = 1 if isinstance(axis, int | np.integer) else len(axis)
    at = normal_axes(axis, v.ndim + count)
    rest = iter(v.shape)
    return reshape(v, tuple(1 if k in at else next(rest) for k in range(v.ndim + count)))


@graph_function("squeeze")
def squeeze(x: Any, axis: int | Sequence[int] | None = None) -> Value:
    """x without axes of size 1 (all of them, or those named)."""
    v = as_value(x)
    ones = tuple(k for k, d in enumerate(v.shape) if d == 1)
    drop = ones if axis is None else normal_axes(axis, v.ndim)
    for a in drop:
        if v.shape[a] != 1:
            raise ShapeError(f"axis {a} of {v.type} is not of size 1")
    return reshape(v, tuple(d for k, d in enumerate(v.shape) if k not in drop))
