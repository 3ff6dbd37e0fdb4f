"""Elements and slices at places given by indices along several axes, and writing there.

As everywhere, negative indices count from the end and one that is out of range fails the run. Of
updates that meet one place the later ones come later. A `reduction` says what an update does to
what is there: it replaces it ("none"), or is joined to it by "add", "mul", "max" or "min".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ... import algorithm as alg
from ...algorithm import Check, Compute, Expr, IndexLike, axis
from ...dims import Dim, bounds
from ...dtypes import Array
from ...errors import DTypeError, GraphError, ShapeError
from ..ir import CALLS, TensorType, Value
from .base import Op, Operand, as_value, graph_function, make, normal_axis, own_axis, sample
from .indexing import bounded, check_indices, index_values

REDUCTIONS = ("none", "add", "mul", "max", "min")
_UPDATE = ("float64", "int64", "float64")


@dataclass(frozen=True)
class GatherNd(Op):
    """x, indices -> for each vector along the last axis of indices, the slice of x that it names
    along as many axes. The first `batch_dims` axes of both are the same and stay."""

    batch_dims: int = 0
    arity = 2
    onnx = "GatherND"
    samples = (sample((3, 4), (5, 2), dtypes=("float32", "int64"), low=-3, high=3),
               sample((3, 4, 5), (2, 2, 1), dtypes=("float64", "int32"), low=-3, high=3),
               sample((2, 3, 4), (2, 5, 1), dtypes=("float64", "int64"), low=-3, high=3,
                      batch_dims=1),
               sample((2, 3, 4), (2, 3, 1), dtypes=("float32", "int8"), low=0, high=4,
                      batch_dims=2),
               sample((4,), (0, 1), dtypes=("float32", "int64")))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        x, indices = types
        check_indices(indices)
        named = vector_length(x, indices, self.batch_dims)
        return TensorType(x.dtype, (*indices.shape[:-1], *x.shape[self.batch_dims + named :]))

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        x, indices = xs
        b = self.batch_dims
        axes = tuple(axis(d) for d in out.shape)
        own = [a.index for a in axes]
        first = indices.type.ndim - 1
        place: list[IndexLike] = list(own[:b])
        outside: Expr | None = None
        mask: Expr | None = None
        for k in range(vector_length(x.type, indices.type, b)):
            at, wrong, there = bounded(indices.at([*own[:first], k]), x.shape[b + k])
            place.append(at)
            outside = wrong if outside is None else outside | wrong
            mask = there if mask is None or there is None else mask & there
        checks = () if outside is None else (Check("index", outside),)
        return Compute(axes, (), None, x.at([*place, *own[first:]], mask), checks)

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        x, indices = xs
        return make(ScatterNd("add", self.batch_dims), CALLS["zeros_like"](x), indices, g), None

    def ref(self, *xs: Array) -> Array:
        return np.asarray(xs[0][None][_places(xs[1], self.batch_dims)])

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return 0


def _places(indices: Array, batch_dims: int) -> Any:
    """For references: what to index with, behind one more axis: vectors may be empty."""
    first = np.indices(indices.shape[:-1])[:batch_dims]
    none = np.zeros(indices.shape[:-1], np.int64)
    return (none, *first, *np.moveaxis(indices.astype(np.int64), -1, 0))


def vector_length(x: TensorType, indices: TensorType, batch_dims: int) -> int:
    """How many axes of x the indices name. ShapeError where the shapes do not fit."""
    b = batch_dims
    if not 0 <= b < min(x.ndim, indices.ndim) or x.shape[:b] != indices.shape[:b]:
        raise ShapeError(f"x {x} and indices {indices} do not share {b} axes of batches")
    named = indices.shape[-1]
    if not isinstance(named, int) or not 0 <= named <= x.ndim - b:
        raise ShapeError(f"the last axis of the indices {indices} names axes of {x}: at most "
                         f"{x.ndim - b}, and their number is known")  # fmt: skip
    return named


class Scattering(Op, abstract=True):
    """x, indices, updates -> x with the updates at the places that indices name.

    Where the reduction is "max" or "min" what is equal shares the gradient, and where it is "mul"
    the gradient of an update is made by dividing by it."""

    reduction: str
    arity = 3
    indices: ClassVar[int | None] = 1

    def gathered(self, x: Value, indices: Value) -> Value:
        """The elements of x at the places of the updates."""
        raise NotImplementedError

    def scattered(self, reduction: str, x: Value, indices: Value, updates: Value) -> Value:
        """`updates` put into x in the same places by another reduction."""
        raise NotImplementedError

    def checked(self, x: TensorType, indices: TensorType, updates: TensorType) -> None:
        """The part of the type rule that all share."""
        check_indices(indices)
        if self.reduction not in REDUCTIONS:
            raise GraphError(f"the reduction must be one of {', '.join(REDUCTIONS)}, it is "
                             f"{self.reduction!r}")  # fmt: skip
        if x.dtype != updates.dtype:
            raise DTypeError(f"dtypes differ: {x.dtype} and {updates.dtype}")
        if self.reduction != "none" and not x.dtype.computes:
            raise DTypeError(f"{self.reduction} is not defined for {x.dtype}",
                             "cast to float32 first")  # fmt: skip

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        x, at, u = xs
        if self.reduction == "add":
            return g, None, self.gathered(g, at)
        if self.reduction == "none":
            number = CALLS["iota"]((u.type.size,), owner=g.node.owner)
            number = CALLS["reshape"](number, u.shape)
            holder = CALLS["full"](x.shape, 0, number.dtype, g.node.owner)
            holder = self.scattered("none", holder, at, number)
            stays = CALLS["eq"](self.gathered(holder, at), number)
            kept = self.scattered("none", g, at, CALLS["zeros_like"](u))
            return kept, None, alg.where(stays, self.gathered(g, at), 0)
        if self.reduction == "mul":
            others = self.scattered("mul", CALLS["full"](x.shape, 1, x.dtype, g.node.owner), at, u)
            return g * others, None, self.gathered(g * y, at) / u
        own = alg.cast(CALLS["eq"](x, y), x.dtype)
        hits = alg.cast(CALLS["eq"](u, self.gathered(y, at)), x.dtype)
        each = g / alg.maximum(self.scattered("add", own, at, hits), 1)
        return each * own, None, self.gathered(each, at) * hits


def _combine(reduction: str, out: Array, places: Any, updates: Array) -> Array:
    """For references: `updates` put into a copy of `out`, one after the other; sums and products
    of floats in float64."""
    wide = out.dtype.kind == "f" and reduction in ("add", "mul")
    made = out.astype(np.float64) if wide else out.copy()
    if reduction == "none":
        for k in np.ndindex(places[0].shape):
            made[tuple(p[k] for p in places)] = updates[k]
    else:
        join: Any = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}
        join[reduction].at(made, places, updates.astype(made.dtype))
    return made.astype(out.dtype)


def _more(a: Dim, b: Dim) -> bool:
    """Whether a may be more than b."""
    least = bounds(b - a)[0]
    return least is None or least < 0


@dataclass(frozen=True)
class ScatterElements(Scattering):
    """x, indices, updates -> x with each update at its index along `axis` and at its own place
    along the others. Updates have the shape of indices, which have no more than x along others."""

    axis: int
    reduction: str = "none"
    onnx = "ScatterElements"
    samples = (sample((5, 4), (7, 4), (7, 4), dtypes=_UPDATE, low=-4, high=4, axis=0),
               sample((2, 3, 20), (2, 4, 20), (2, 4, 20), dtypes=("float32", "int32", "float32"),
                      low=-3, high=3, axis=1, reduction="add"),
               sample((3, 5, 4), (2, 6, 3), (2, 6, 3), dtypes=_UPDATE, low=-5, high=5, axis=1,
                      reduction="add"),
               sample((3, 4), (2, 9), (2, 9), dtypes=_UPDATE, low=-4, high=4, axis=1,
                      reduction="mul"),
               sample((6,), (19,), (19,), dtypes=_UPDATE, low=-6, high=6, axis=0,
                      reduction="max"),
               sample((5, 2, 3), (7, 1, 2), (7, 1, 2), dtypes=_UPDATE, low=-5, high=5, axis=0,
                      reduction="min"),
               sample((4, 3), (4, 0), (4, 0), dtypes=_UPDATE, axis=1, reduction="min"),
               sample((4, 3), (2, 2), (2, 2), dtypes=("float16", "int64", "float16"), low=0,
                      high=3, axis=1),
               sample((4, 3), (4, 9), (4, 9), dtypes=("bool", "uint8", "bool"), low=0, high=2,
                      axis=1, reduction="add"))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        x, indices, updates = types
        self.checked(x, indices, updates)
        at = own_axis(self.axis, x.ndim)
        if indices.shape != updates.shape or indices.ndim != x.ndim or any(
            _more(d, n) for k, (d, n) in enumerate(zip(indices.shape, x.shape))
            if k != at
        ):  # fmt: skip
            raise ShapeError(f"indices {indices} and updates {updates} must have one shape, and no "
                             f"more than {x} along axes other than {at}")  # fmt: skip
        return x

    def gathered(self, x: Value, indices: Value) -> Value:
        return gather_elements(x, indices, self.axis)

    def scattered(self, reduction: str, x: Value, indices: Value, updates: Value) -> Value:
        return make(ScatterElements(self.axis, reduction), x, indices, updates)

    def ref(self, *xs: Array) -> Array:
        places: list[Array] = list(np.indices(xs[1].shape))
        places[self.axis] = xs[1].astype(np.int64)
        return _combine(self.reduction, xs[0], tuple(places), xs[2])


@dataclass(frozen=True)
class ScatterNd(Scattering):
    """x, indices, updates -> x with each update, a slice, at the place that a vector along the last
    axis of indices names. The first `batch_dims` axes of all are the same and stay."""

    reduction: str = "none"
    batch_dims: int = 0
    onnx = "ScatterND"
    samples = (sample((5, 4), (7, 1), (7, 4), dtypes=_UPDATE, low=-5, high=5),
               sample((3, 4, 17), (5, 2), (5, 17), dtypes=("float32", "int32", "float32"), low=-3,
                      high=3, reduction="add"),
               sample((3, 4), (2, 6, 2), (2, 6), dtypes=_UPDATE, low=-3, high=3, reduction="mul"),
               sample((2, 3, 4), (2, 5, 1), (2, 5, 4), dtypes=_UPDATE, low=-3, high=3,
                      reduction="max", batch_dims=1),
               sample((6,), (9, 1), (9,), dtypes=_UPDATE, low=-6, high=6, reduction="min"),
               sample((2, 3), (4, 0), (4, 2, 3), dtypes=_UPDATE, reduction="add"),
               sample((4, 3), (0, 1), (0, 3), dtypes=_UPDATE),
               sample((5, 2), (9, 1), (9, 2), dtypes=("int32", "int64", "int32"), low=-5, high=5,
                      reduction="mul"))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        x, indices, updates = types
        self.checked(x, indices, updates)
        named = vector_length(x, indices, self.batch_dims)
        wanted = (*indices.shape[:-1], *x.shape[self.batch_dims + named :])
        if updates.shape != wanted:
            raise ShapeError(f"updates {updates} do not fit indices {indices} into {x}: their shape "
                             f"must be {TensorType(x.dtype, wanted)}")  # fmt: skip
        return x

    def gathered(self, x: Value, indices: Value) -> Value:
        return make(GatherNd(self.batch_dims), x, indices)

    def scattered(self, reduction: str, x: Value, indices: Value, updates: Value) -> Value:
        return make(ScatterNd(reduction, self.batch_dims), x, indices, updates)

    def ref(self, *xs: Array) -> Array:
        x, indices, updates = xs
        places = _places(indices, self.batch_dims)
        return np.asarray(_combine(self.reduction, x[None], places, updates)[0])


@graph_function("gather_elements")
def gather_elements(x: Any, indices: Any, axis: int = 0) -> Value:
    """The element of x at each of `indices` along `axis`, and at the index's own place along the
    other axes, of which indices may have less than x."""
    v = as_value(x)
    at = index_values(indices, v)
    along = normal_axis(axis, v.ndim)
    if at.ndim != v.ndim:
        raise ShapeError(f"gather_elements: indices {at.type} need the axes of {v.type}")
    for k in range(v.ndim):
        if k != along and v.shape[k] != at.shape[k]:
            if _more(at.shape[k], v.shape[k]):
                raise ShapeError(f"gather_elements: indices {at.type} have more than {v.type} "
                                 f"along axis {k}")  # fmt: skip
            v = v[(slice(None),) * k + (slice(0, at.shape[k]),)]
    return CALLS["take_along_axis"](v, at, along)  # type: ignore[no-any-return]


@graph_function("gather_nd")
def gather_nd(x: Any, indices: Any, batch_dims: int = 0) -> Value:
    """The slices of x that the vectors along the last axis of `indices` name along its first axes,
    or along those after the first `batch_dims`, which both share."""
    v = as_value(x)
    return make(GatherNd(int(batch_dims)), v, index_values(indices, v))


@graph_function("scatter_elements")
def scatter_elements(x: Any, indices: Any, updates: Any, axis: int = 0,
                     reduction: str = "none") -> Value:  # fmt: skip
    """x with each of `updates` at its index along `axis`, at its own place along other axes.
    `reduction`: whether it replaces what is there, or is joined by "add", "mul", "max", "min"."""
    v = as_value(x)
    op = ScatterElements(normal_axis(axis, v.ndim), str(reduction))
    return make(op, v, index_values(indices, v), CALLS["cast"](as_value(updates, v), v.dtype))


@graph_function("scatter_nd")
def scatter_nd(x: Any, indices: Any, updates: Any, reduction: str = "none",
               batch_dims: int = 0) -> Value:  # fmt: skip
    """x with each of `updates`, a slice, at the place that a vector along the last axis of
    `indices` names. `reduction`: whether it replaces what is there, or is joined by "add", "mul",
    "max", "min"."""
    v = as_value(x)
    op = ScatterNd(str(reduction), int(batch_dims))
    return make(op, v, index_values(indices, v), CALLS["cast"](as_value(updates, v), v.dtype))
