"""Order along an axis. Sorting is stable: equal elements keep their order, whichever way it goes.
NaN counts as larger than every number, -0.0 as equal to 0.0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...dims import Dim, bounds, show
from ...dtypes import Array, int64
from ...errors import ShapeError
from ..ir import CALLS, TensorType, Value
from .base import Op, as_value, graph_function, make, normal_axis, own_axis, sample
from .indexing import AddAlongAxis
from .shape import as_shape

_NAN = float("nan")


def _order(x: Array, axis: int, descending: bool) -> Array:
    """For references: the places of the elements along `axis`, in order."""
    if not descending:
        return np.argsort(x, axis, kind="stable")
    turned = np.flip(np.argsort(np.flip(x, axis), axis, kind="stable"), axis)
    return np.asarray(x.shape[axis] - 1 - turned)


class Ordered(Op, abstract=True):
    """Elements of every line along `axis` in some order, and the places they come from."""

    axis: int
    arity = 1

    def grad(self, g: Any, y: Any, *xs: Value) -> tuple[Value | None, ...]:
        place = AddAlongAxis(self.axis, xs[0].shape[self.axis])
        return (None if g[0] is None else make(place, y[1], g[0]),)

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return types[0].size * 20


@dataclass(frozen=True)
class Sort(Ordered):
    """x -> its elements in order along an axis; their places in x (int64)."""

    axis: int
    descending: bool = False
    samples = (sample((33,), axis=0), sample((3, 17), axis=1), sample((5, 4, 3), axis=1),
               sample((2, 70), axis=1, descending=True), sample((1, 1), axis=0),
               sample((0, 3), axis=0), sample((4, 0), axis=1), sample((3, 0), axis=0),
               sample((80,), dtypes=("int8",), low=-4, high=4, axis=0),
               sample((19,), dtypes=("uint64",), low=0, high=9, axis=0, descending=True),
               sample((2, 21), dtypes=("bool",), low=0, high=2, axis=1, descending=True),
               sample((20,), dtypes=("float16",), axis=0),
               sample((37,), axis=0, special=(_NAN, -0.0, 0.0, float("-inf"), _NAN),
                      gradient=False),
               sample((37,), axis=0, descending=True, special=(0.0, -0.0, _NAN, float("inf")),
                      gradient=False))  # fmt: skip

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (x,) = types
        own_axis(self.axis, x.ndim)
        return x, TensorType(int64, x.shape)

    def ref(self, *xs: Array) -> Any:
        places = _order(xs[0], self.axis, self.descending)
        return np.take_along_axis(xs[0], places, self.axis), places


@dataclass(frozen=True)
class TopK(Ordered):
    """x -> the `k` largest (or smallest) elements along an axis, the most extreme first; their
    places in x (int64). Of equal ones those with lower places come first."""

    k: Dim
    axis: int
    largest: bool = True
    name = "top_k"
    onnx = "TopK"
    samples = (sample((33,), axis=0, k=5), sample((1, 600), axis=1, k=7, gradient=False),
               sample((1, 320, 2), axis=1, k=20, largest=False, gradient=False),
               sample((2, 5, 3), axis=1, k=3), sample((2, 9), axis=1, k=9),
               sample((7,), axis=0, k=0), sample((1, 3), axis=0, k=1),
               sample((900,), dtypes=("int8",), low=-4, high=4, axis=0, k=300),
               sample((50,), dtypes=("int32",), low=0, high=9, axis=0, k=20, largest=False),
               sample((400,), axis=0, k=3, special=(1.0, _NAN, float("inf"), _NAN),
                      gradient=False))  # fmt: skip

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (x,) = types
        size = x.shape[own_axis(self.axis, x.ndim)]
        low, high = bounds(size - self.k)[1], bounds(self.k)[1]
        if (low is not None and low < 0) or (high is not None and high < 0):
            raise ShapeError(f"there are no {show(self.k)} of {show(size)} elements along axis "
                             f"{self.axis} of {x}")  # fmt: skip
        shape = (*x.shape[: self.axis], self.k, *x.shape[self.axis + 1 :])
        return TensorType(x.dtype, shape), TensorType(int64, shape)

    def ref(self, *xs: Array) -> Any:
        k = int(self.k) if isinstance(self.k, int) else -1
        places = np.take(_order(xs[0], self.axis, self.largest), range(k), self.axis)
        return np.take_along_axis(xs[0], places, self.axis), places


@dataclass(frozen=True)
class RowOrder(Op):
    """x [n, m] -> the places (int64) of its rows in order: that of the first elements in which two
    rows differ."""

    arity = 1
    differentiable = False
    samples = (sample((9, 3), dtypes=("int32",), low=0, high=3), sample((17, 2)),
               sample((20, 1), dtypes=("bool",), low=0, high=2), sample((1, 4)), sample((5, 0)),
               sample((0, 3)), sample((6, 2), special=(_NAN, 1.0, _NAN, 0.0, 2.0)))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        if x.ndim != 2:
            raise ShapeError(f"a matrix is wanted, not {x}")
        return TensorType(int64, x.shape[:1])

    def ref(self, *xs: Array) -> Array:
        order = np.arange(xs[0].shape[0])
        for column in range(xs[0].shape[1] - 1, -1, -1):
            order = order[np.argsort(xs[0][order, column], kind="stable")]
        return order

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return out.size * 60


def _results(op: Op, x: Value) -> tuple[Value, ...]:
    return x.node.owner.node(op, (x,)).outputs


@graph_function("sort")
def sort(x: Any, axis: int = -1, descending: bool = False) -> Value:
    """x's elements in order along `axis`."""
    v = as_value(x)
    return _results(Sort(normal_axis(axis, v.ndim), bool(descending)), v)[0]


@graph_function("argsort")
def argsort(x: Any, axis: int = -1, descending: bool = False) -> Value:
    """The places (int64) of x's elements along `axis`, in the elements' order."""
    v = as_value(x)
    return _results(Sort(normal_axis(axis, v.ndim), bool(descending)), v)[1]


def top_k(x: Any, k: Any, axis: int = -1, largest: bool = True) -> tuple[Value, Value]:
    """The `k` largest (or smallest) elements along `axis`, the most extreme first, and their places
    (int64). Where the axis has a size that is known at run time only, the run fails if that is less
    than `k`."""
    v = as_value(x)
    at = normal_axis(axis, v.ndim)
    (many,) = as_shape(k)
    values, places = _results(TopK(many, at, bool(largest)), v)
    low = bounds(v.shape[at] - many)[0]
    if low is None or low < 0:
        size = CALLS["size_of"](v.shape[at], v.node.owner)
        enough = CALLS["ge"](size, CALLS["size_of"](many, v.node.owner))
        message = f"top_k: k = {show(many)}, and axis {at} has only {show(v.shape[at])} elements"
        values, places = (CALLS["check"](r, enough, message) for r in (values, places))
    return values, places
