"""Sequences of several lengths in one tensor, caches that are written along an axis, and places in
sorted sequences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import algorithm as alg
from ...algorithm import Check, Compute, Index, IndexLike, axis
from ...dims import Dim
from ...dtypes import Array, int64
from ...errors import DTypeError, ShapeError
from ..ir import CALLS, TensorType, Value
from .base import Op, Operand, as_value, graph_function, make, normal_axis, promoted, sample
from .indexing import check_indices, index_values


@dataclass(frozen=True)
class ReverseSequence(Op):
    """x, lengths -> x with the first lengths[b] elements along `time_axis` of each entry b of
    `batch_axis` in reverse, the others as they are."""

    batch_axis: int
    time_axis: int
    arity = 2
    onnx = "ReverseSequence"
    samples = (sample((4, 5), (5,), dtypes=("float32", "int64"), low=0, high=5, batch_axis=1,
                      time_axis=0),
               sample((3, 2, 7), (3,), dtypes=("float64", "int32"), low=0, high=8, batch_axis=0,
                      time_axis=2),
               sample((2, 1, 3), (1,), dtypes=("int8", "int8"), low=0, high=4, batch_axis=1,
                      time_axis=2))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        x, lengths = types
        check_indices(lengths)
        b, t = (normal_axis(a, x.ndim) for a in (self.batch_axis, self.time_axis))
        if b == t or lengths.shape != (x.shape[b],):
            raise ShapeError(f"lengths {lengths} are not one for each entry of axis {b} of {x}, or "
                             f"that is the axis of time, {t}")  # fmt: skip
        return x

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        x, lengths = xs
        axes = tuple(axis(d) for d in out.shape)
        place: list[IndexLike] = [a.index for a in axes]
        time, size = Index(axes[self.time_axis].index), out.shape[self.time_axis]
        length = alg.cast(lengths[axes[self.batch_axis].index], int64)
        turned = alg.where(time < length, length - 1 - time, time)
        place[self.time_axis] = alg.maximum(alg.minimum(turned, alg.as_expr(size, int64) - 1), 0)
        outside = (length < 0) | (length > alg.as_expr(size, int64))
        return Compute(axes, (), None, x.at(place), (Check("index", outside),))

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return make(self, g, xs[1]), None

    def ref(self, *xs: Array) -> Array:
        x = np.moveaxis(xs[0], (self.batch_axis, self.time_axis), (0, 1))
        out = np.array(x)
        for b, n in enumerate(xs[1]):
            out[b, :n] = x[b, :n][::-1]
        return np.moveaxis(out, (0, 1), (self.batch_axis, self.time_axis))

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return 0


@dataclass(frozen=True)
class TensorScatter(Op):
    """x, updates, starts -> x with the updates of each batch b (axis 0) from place starts[b] on
    along `axis`. What would lie beyond its end comes to its beginning if `circular`; otherwise the
    run fails."""

    axis: int
    circular: bool = False
    arity = 3
    onnx = "TensorScatter"
    samples = (sample((3, 7, 2), (3, 2, 2), (3,), dtypes=("float64", "float64", "int64"), low=0,
                      high=5, axis=1),
               sample((2, 2, 5), (2, 2, 4), (2,), dtypes=("float32", "float32", "int32"), low=0,
                      high=5, axis=2, circular=True),
               sample((2, 5), (2, 5), (2,), dtypes=("int8", "int8", "int64"), low=-9, high=9,
                      axis=1, circular=True))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        x, updates, starts = types
        check_indices(starts)
        if x.dtype != updates.dtype:
            raise DTypeError(f"dtypes differ: {x.dtype} and {updates.dtype}")
        at = normal_axis(self.axis, x.ndim)
        others = [a == b for k, (a, b) in enumerate(zip(x.shape, updates.shape)) if k != at]
        if at == 0 or x.ndim != updates.ndim or not all(others) or starts.shape != x.shape[:1]:
            raise ShapeError(f"updates {updates} with starts {starts} do not fit {x} along axis "
                             f"{at}: other axes must be the same, the first one has the starts")  # fmt: skip
        return x

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        x, updates, starts = xs
        axes = tuple(axis(d) for d in out.shape)
        place: list[IndexLike] = [a.index for a in axes]
        size, many = (alg.as_expr(v.shape[self.axis], int64) for v in (x, updates))
        start = alg.cast(starts[axes[0].index], int64)
        step = Index(axes[self.axis].index) - start
        checks: tuple[Check, ...] = ()
        if self.circular:
            step = step % size
        else:
            checks = (Check("index", (start < 0) | (start + many > size)),)
        inside = (step >= 0) & (step < many)
        old = x.at(place)
        place[self.axis] = step
        return Compute(axes, (), None, alg.where(inside, updates.at(place, inside), old), checks)

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        _, updates, starts = xs
        kept = make(self, g, CALLS["zeros_like"](updates), starts)
        line = (1,) * self.axis, (1,) * (updates.ndim - 1 - self.axis)
        owner = g.node.owner
        step = CALLS["iota"]((*line[0], updates.shape[self.axis], *line[1]), self.axis, owner=owner)
        first = CALLS["reshape"](CALLS["cast"](starts, int64), (-1, *((1,) * (updates.ndim - 1))))
        place = (first + step) % CALLS["size_of"](g.shape[self.axis], owner)
        place = CALLS["broadcast_to"](place, updates.shape)
        return kept, CALLS["take_along_axis"](g, place, self.axis), None

    def ref(self, *xs: Array) -> Array:
        x, updates, starts = xs
        out = np.array(np.moveaxis(x, self.axis, 1))
        rows = np.moveaxis(updates, self.axis, 1)
        for b, start in enumerate(starts):
            for k in range(rows.shape[1]):
                out[b, (int(start) + k) % out.shape[1]] = rows[b, k]
        return np.moveaxis(out, 1, self.axis)

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return 0


@dataclass(frozen=True)
class Searchsorted(Op):
    """A sorted vector, values -> for each value how many elements of the vector come before it
    (int64); with `right` those equal to it count as well. NaN comes after every number."""

    right: bool = False
    arity = 2
    differentiable = False
    samples = (sample((0,), (3,)), sample((1,), (2, 3), low=-0.1, high=0.1),
               sample((5,), (7,), dtypes=("int32", "int32"), low=2, high=3),
               sample((5,), (7,), dtypes=("int32", "int32"), low=2, high=3, right=True),
               sample((4,), (3,), dtypes=("bool", "bool"), low=1, high=2),
               sample((3,), (1,), low=1.5, high=1.5, right=True))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        line, values = types
        if line.ndim != 1 or line.dtype != values.dtype:
            raise ShapeError(
                f"a vector and values of one dtype are wanted, not {line} and {values}"
            )
        return TensorType(int64, values.shape)

    def ref(self, *xs: Array) -> Array:
        line, values = xs
        return np.asarray(np.searchsorted(line, values, "right" if self.right else "left"))


@graph_function("reverse_sequence")
def reverse_sequence(x: Any, lengths: Any, batch_axis: int = 0, time_axis: int = 1) -> Value:
    """x with the first `lengths[b]` elements along `time_axis` of each entry b of `batch_axis` in
    reverse."""
    v = as_value(x)
    op = ReverseSequence(normal_axis(batch_axis, v.ndim), normal_axis(time_axis, v.ndim))
    return make(op, v, index_values(lengths, v))


@graph_function("tensor_scatter")
def tensor_scatter(x: Any, updates: Any, starts: Any = None, axis: int = -2,
                   circular: bool = False) -> Value:  # fmt: skip
    """x, a cache say, with `updates` written along `axis` from place `starts[b]` (default 0) on for
    each entry b of axis 0; around its end if `circular`."""
    v = as_value(x)
    u = CALLS["cast"](as_value(updates, v), v.dtype)
    first = CALLS["full"](v.shape[:1], 0, int64, v.node.owner) if starts is None else starts
    op = TensorScatter(normal_axis(axis, v.ndim), bool(circular))
    return make(op, v, u, index_values(first, v))


@graph_function("searchsorted")
def searchsorted(line: Any, values: Any, side: str = "left") -> Value:
    """Where in the sorted vector `line` each of `values` belongs: before elements equal to it, or
    after them if `side` is "right"."""
    if side not in ("left", "right"):
        raise ShapeError(f'searchsorted: side must be "left" or "right", it is {side!r}')
    a, v = promoted(line, values)
    return make(Searchsorted(side == "right"), a, v)


@graph_function("bincount")
def bincount(x: Any, size: Any, weights: Any = None) -> Value:
    """How often each number of 0..size-1 occurs in x (int64), or the sum of the `weights` where it
    does. The run fails where x has another number."""
    v = as_value(x)
    flat = CALLS["reshape"](v, (v.type.size,))
    like = CALLS["full"](v.shape, 1, int64, v.node.owner) if weights is None else as_value(weights)
    if like.shape != v.shape:
        raise ShapeError(f"bincount: weights {like.type} need the shape of {v.type}")
    zeros = CALLS["full"]((size,), 0, like.dtype, v.node.owner)
    return CALLS["scatter_add"](zeros, flat, CALLS["reshape"](like, flat.shape))  # type: ignore[no-any-return]
