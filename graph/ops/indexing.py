"""Reading and writing at places that other values name.

Indices are integers of any width; negative ones count from the end. One that is out of range fails
the run ("index"). Where several updates meet one place they come in the order of the indices.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ... import algorithm as alg
from ...algorithm import Check, Compute, Const, Expr, Index, IndexLike, axis
from ...dims import Dim, bounds
from ...dtypes import Array, DType, as_dtype, float32, int64
from ...errors import DTypeError, ShapeError
from ..ir import CALLS, Shape, TensorType, Value
from .base import (
    Op,
    Operand,
    as_value,
    graph_function,
    make,
    normal_axis,
    own_axis,
    promoted,
    sample,
)
from .shape import as_shape

_ROWS = ("float32", "int64")


def bounded(i: Expr, size: Dim) -> tuple[Expr, Expr, Expr | None]:
    """For an index into an axis of `size`: a place that is safe to access (int64), whether the
    index is out of range, and the mask to access with (None: the axis is certainly not empty)."""
    n = Index(size) if not isinstance(size, int) else Const(size, int64)
    at = alg.cast(i, int64)
    if i.dtype.kind == "i":
        at = alg.where(at < 0, at + n, at)
    outside = (at < 0) | (at >= n)
    low, _ = bounds(size)
    mask = None if low is not None and low > 0 else n > 0
    return alg.maximum(alg.minimum(at, n - 1), 0), outside, mask


def check_indices(t: TensorType) -> None:
    """DTypeError unless these are integers."""
    if not t.dtype.is_integer:
        raise DTypeError(f"indices must be integers, they are {t.dtype}")


def _dense(x: Array, axis: int, taken: int = 1) -> Array:
    """For references: x as [outer, axes that indices stand for, inner], floats as float64."""
    wide = x.astype(np.float64) if x.dtype.kind == "f" else x
    middle = prod(x.shape[axis : axis + taken])
    return np.reshape(wide, (prod(x.shape[:axis]), middle, prod(x.shape[axis + taken :])))


@dataclass(frozen=True)
class Gather(Op):
    """x, indices -> x with `axis` replaced by the axes of indices, as NumPy's take."""

    axis: int
    arity = 2
    onnx = "Gather"
    samples = (sample((5, 17), (4,), dtypes=_ROWS, axis=0),
               sample((3, 4, 5), (2, 3), dtypes=_ROWS, axis=1),
               sample((2, 7), (), dtypes=("float64", "int32"), axis=1),
               sample((9,), (5, 2), dtypes=("int8", "int8"), low=-9, high=9, axis=0),
               sample((9,), (0,), dtypes=_ROWS, axis=0),
               sample((6, 2), (3,), dtypes=("int32", "uint8"), low=0, high=6, axis=0))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        x, indices = types
        check_indices(indices)
        at = own_axis(self.axis, x.ndim)
        return TensorType(x.dtype, (*x.shape[:at], *indices.shape, *x.shape[at + 1 :]))

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        x, indices = xs
        axes = tuple(axis(d) for d in out.shape)
        inside = [a.index for a in axes[self.axis : self.axis + indices.type.ndim]]
        at, outside, mask = bounded(indices.at(inside), x.shape[self.axis])
        place: list[IndexLike] = [a.index for a in axes[: self.axis]]
        place += [at, *(a.index for a in axes[self.axis + indices.type.ndim :])]
        return Compute(axes, (), None, x.at(place, mask), (Check("index", outside),))

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        x, indices = xs
        return make(ScatterAdd(self.axis, x.shape[self.axis]), indices, g), None

    def ref(self, *xs: Array) -> Array:
        return np.take(xs[0], xs[1].astype(np.int64), self.axis)

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return 0


@dataclass(frozen=True)
class ScatterAdd(Op):
    """indices, updates -> zeros with `size` places along `axis`, to which every update is added
    at its index: the gradient of `Gather`. Updates have the axes of indices in place of `axis`."""

    axis: int
    size: Dim
    arity = 2
    indices = 0
    samples = (sample((4,), (4, 17), dtypes=("int64", "float32"), axis=0, size=3),
               sample((2, 3), (5, 2, 3, 4), dtypes=("int32", "float64"), axis=1, size=4),
               sample((19,), (19,), dtypes=("int32", "float32"), axis=0, size=2),
               sample((0,), (0, 3), dtypes=("int64", "float32"), axis=0, size=4),
               sample((6,), (33, 6), dtypes=("int64", "int32"), axis=1, size=2))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        indices, updates = types
        check_indices(indices)
        if not updates.dtype.computes or updates.dtype.kind == "b":
            raise DTypeError(f"not defined for {updates.dtype}", "cast to float32 first")
        outer, inner = _around(self.axis, indices, updates)
        return TensorType(updates.dtype, (*outer, self.size, *inner))

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return None, make(Gather(self.axis), g, xs[0])

    def ref(self, *xs: Array) -> Array:
        indices, updates = xs
        rows = _dense(updates, self.axis, indices.ndim)
        size = int(self.size) if isinstance(self.size, int) else -1
        out = np.zeros((rows.shape[0], size, rows.shape[2]), rows.dtype)
        at: Any = (slice(None), indices.reshape(-1).astype(np.int64))
        np.add.at(out, at, rows)
        shape = (*updates.shape[: self.axis], size, *updates.shape[self.axis + indices.ndim :])
        return out.reshape(shape).astype(updates.dtype)

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return types[1].size


def _around(axis: int, indices: TensorType, updates: TensorType) -> tuple[Shape, Shape]:
    """The axes of updates before and after those that indices stand for."""
    end = axis + indices.ndim
    if not 0 <= axis <= updates.ndim - indices.ndim or updates.shape[axis:end] != indices.shape:
        raise ShapeError(f"updates {updates} do not have the axes of the indices {indices} from "
                         f"axis {axis} on")  # fmt: skip
    return updates.shape[:axis], updates.shape[end:]


@dataclass(frozen=True)
class Scatter(Op):
    """x, indices, updates -> x with the updates at the places along `axis` that indices name;
    of several updates for a place the last stays."""

    axis: int
    arity = 3
    indices = 1
    samples = (sample((5, 17), (4,), (4, 17), dtypes=("float32", "int64", "float32"), axis=0),
               sample((5, 4, 3), (2, 3), (5, 2, 3, 3), dtypes=("float64", "int32", "float64"),
                      axis=1),
               sample((2,), (19,), (19,), dtypes=("int32", "int32", "int32"), axis=0))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        x, indices, updates = types
        check_indices(indices)
        if x.dtype != updates.dtype:
            raise DTypeError(f"dtypes differ: {x.dtype} and {updates.dtype}")
        at = own_axis(self.axis, x.ndim)
        outer, inner = _around(at, indices, updates)
        if (*outer, x.shape[at], *inner) != x.shape:
            raise ShapeError(f"updates {updates} do not fit into {x} along axis {at}")
        return x

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        x, indices, updates = xs
        kept = make(self, g, indices, CALLS["zeros_like"](updates))
        number = CALLS["iota"]((indices.type.size,), owner=g.node.owner)
        number = CALLS["reshape"](number, indices.shape)
        none = CALLS["full"]((x.shape[self.axis],), 0, int64, g.node.owner)
        holder = make(Scatter(0), none, indices, number)
        stays = CALLS["eq"](make(Gather(0), holder, indices), number)
        after = updates.ndim - self.axis - indices.ndim
        stays = CALLS["reshape"](stays, (*indices.shape, *((1,) * after)))
        return kept, None, alg.where(stays, make(Gather(self.axis), g, indices), 0)

    def ref(self, *xs: Array) -> Array:
        x, indices, updates = xs
        out = np.array(np.moveaxis(x, self.axis, 0))
        shape = (*x.shape[: self.axis], -1, *x.shape[self.axis + 1 :])
        rows = np.moveaxis(updates.reshape(shape), self.axis, 0)
        for row, k in zip(rows, indices.reshape(-1).tolist()):
            out[k] = row
        return np.moveaxis(out, 0, self.axis)

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return 0


@dataclass(frozen=True)
class TakeAlongAxis(Op):
    """x, indices of as many axes -> the element of each line of x along `axis` that each index
    names, as NumPy's take_along_axis and ONNX's GatherElements."""

    axis: int
    arity = 2
    onnx = "GatherElements"
    samples = (sample((3, 17), (3, 1), dtypes=_ROWS, axis=1),
               sample((5, 4), (7, 4), dtypes=_ROWS, axis=0),
               sample((2, 3, 4), (2, 5, 4), dtypes=("float64", "int32"), axis=1))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        x, indices = types
        check_indices(indices)
        at = own_axis(self.axis, x.ndim)
        if indices.ndim != x.ndim or any(
            a != b for k, (a, b) in enumerate(zip(indices.shape, x.shape)) if k != at
        ):
            raise ShapeError(f"indices {indices} differ from {x} in more than axis {at}")
        return TensorType(x.dtype, indices.shape)

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        x, indices = xs
        axes = tuple(axis(d) for d in out.shape)
        place: list[IndexLike] = [a.index for a in axes]
        at, outside, mask = bounded(indices.at(place), x.shape[self.axis])
        place[self.axis] = at
        return Compute(axes, (), None, x.at(place, mask), (Check("index", outside),))

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        x, indices = xs
        size = x.shape[self.axis]
        if indices.shape[self.axis] != 1:
            return make(AddAlongAxis(self.axis, size), indices, g), None
        line = [1] * x.ndim
        number = CALLS["iota"](
            (*line[: self.axis], size, *line[self.axis + 1 :]), self.axis, owner=g.node.owner
        )
        at = CALLS["cast"](indices, int64)
        if indices.dtype.kind == "i":
            extent = size if isinstance(size, int) else CALLS["size_of"](size, g.node.owner)
            at = alg.where(at < 0, at + extent, at)
        return alg.where(alg.equal(at, number), g, 0), None

    def ref(self, *xs: Array) -> Array:
        return np.take_along_axis(xs[0], xs[1].astype(np.int64), self.axis)

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return 0


@dataclass(frozen=True)
class AddAlongAxis(Op):
    """indices, updates of one shape -> zeros with `size` places along `axis`; each update is added
    in its line at its index: the gradient of `TakeAlongAxis`."""

    axis: int
    size: Dim
    arity = 2
    indices = 0
    samples = (sample((5, 4), (5, 4), dtypes=("int64", "float32"), axis=0, size=3),
               sample((2, 7, 3), (2, 7, 3), dtypes=("int32", "float64"), axis=1, size=4),
               sample((3, 19), (3, 19), dtypes=("int64", "float32"), axis=1, size=2))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        indices, updates = types
        check_indices(indices)
        if not updates.dtype.computes or updates.dtype.kind == "b":
            raise DTypeError(f"not defined for {updates.dtype}", "cast to float32 first")
        at = own_axis(self.axis, updates.ndim)
        if indices.shape != updates.shape:
            raise ShapeError(f"updates {updates} need indices of their shape, not {indices}")
        shape = (*updates.shape[:at], self.size, *updates.shape[at + 1 :])
        return TensorType(updates.dtype, shape)

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return None, make(TakeAlongAxis(self.axis), g, xs[0])

    def ref(self, *xs: Array) -> Array:
        indices, updates = _dense(xs[0], self.axis), _dense(xs[1], self.axis)
        size = int(self.size) if isinstance(self.size, int) else -1
        out = np.zeros((updates.shape[0], size, updates.shape[2]), updates.dtype)
        outer, _, inner = np.indices(updates.shape)
        np.add.at(out, (outer, indices.astype(np.int64), inner), updates)
        shape = (*xs[1].shape[: self.axis], size, *xs[1].shape[self.axis + 1 :])
        return out.reshape(shape).astype(xs[1].dtype)


@dataclass(frozen=True)
class OneHot(Op):
    """indices -> one more axis of size `depth` at the end: 1 at the index, 0 elsewhere. An index
    outside 0..depth-1 gives zeros."""

    depth: Dim
    dtype: DType = float32
    arity = 1
    differentiable = False
    samples = (sample((7,), dtypes=("int64",), low=-1, high=6, depth=5),
               sample((3, 4), dtypes=("uint8",), low=0, high=19, depth=17,
                      dtype=as_dtype("bool")))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        check_indices(types[0])
        if isinstance(self.depth, int) and self.depth < 1:
            raise ShapeError(f"the depth must be positive, not {self.depth}")
        return TensorType(self.dtype, (*types[0].shape, self.depth))

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        axes = tuple(axis(d) for d in out.shape)
        index = alg.cast(xs[0].at([a.index for a in axes[:-1]]), int64)
        hit = alg.equal(index, Index(axes[-1].index))
        return Compute(axes, (), None, alg.cast(hit, self.dtype))

    def ref(self, *xs: Array) -> Array:
        depth = int(self.depth) if isinstance(self.depth, int) else -1
        return np.asarray(xs[0][..., None] == np.arange(depth), self.dtype.numpy)


@graph_function("gather")
def gather(x: Any, indices: Any, axis: int = 0) -> Value:
    """The slices of x along `axis` that `indices` name: rows of a table, by default."""
    v = as_value(x)
    return make(Gather(normal_axis(axis, v.ndim)), v, index_values(indices, v))


def index_values(indices: Any, beside: Value) -> Value:
    """Indices as a value; an empty list counts as integers."""
    if isinstance(indices, Value):
        return indices
    array = np.asarray(indices)
    return as_value(array.astype(np.int64) if array.size == 0 else array, beside)


@graph_function("take_along_axis")
def take_along_axis(x: Any, indices: Any, axis: int = -1) -> Value:
    """One element of each line of x along `axis` for each index; `indices` has x's other axes."""
    v = as_value(x)
    return make(TakeAlongAxis(normal_axis(axis, v.ndim)), v, index_values(indices, v))


@graph_function("scatter")
def scatter(x: Any, indices: Any, updates: Any, axis: int = 0) -> Value:
    """x with `updates` at the places along `axis` that `indices` name, the last one staying."""
    v = as_value(x)
    u = CALLS["cast"](as_value(updates, v), v.dtype)
    return make(Scatter(normal_axis(axis, v.ndim)), v, index_values(indices, v), u)


@graph_function("scatter_add")
def scatter_add(x: Any, indices: Any, updates: Any, axis: int = 0) -> Value:
    """x with every one of `updates` added at the place along `axis` that its index names."""
    v, u = promoted(x, updates)
    at = normal_axis(axis, v.ndim)
    total: Value = v + make(ScatterAdd(at, v.shape[at]), index_values(indices, v), u)
    return total


@graph_function("one_hot")
def one_hot(
    indices: Any, depth: Any, dtype: Any = float32, axis: int = -1, on: Any = 1, off: Any = 0
) -> Value:
    """`on` at the index and `off` elsewhere, along a new axis of size `depth` at `axis`. An index
    outside 0..depth-1 is nowhere. `on` and `off` are numbers or scalar values."""
    v = as_value(indices)
    plain = all(isinstance(x, int | float) and x == y for x, y in ((on, 1), (off, 0)))
    made = make(OneHot(as_shape(depth)[0], as_dtype(dtype) if plain else as_dtype("bool")), v)
    if not plain:
        made = CALLS["cast"](alg.where(made, as_value(on, owner=v.node.owner), off), dtype)
    at, last = normal_axis(axis, v.ndim + 1), v.ndim
    order = (*range(at), last, *range(at, last))
    return CALLS["transpose"](made, order)  # type: ignore[no-any-return]
