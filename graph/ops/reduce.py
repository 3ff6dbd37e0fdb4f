"""Reductions along axes. `axis` None means all; `keepdims` leaves axes of size 1, as in NumPy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ... import algorithm as alg
from ...algorithm import Compute
from ...algorithm import axis as new_axis
from ...dims import Dim, product
from ...dtypes import Array, DType, as_dtype, float64, int64, sum_dtype
from ...errors import DTypeError, ShapeError
from ..ir import CALLS, TensorType, Value
from .base import Op, Operand, as_value, graph_function, make, normal_axes, normal_axis, sample

_EXTREMES = ("max", "min", "argmax", "argmin")  # of nothing there is none
_SHAPES = ((3, 17), (5, 4, 33), (1, 1), (2, 3, 4, 5))


class Reduction(Op, abstract=True):
    """Combines elements along `axes` (sorted, counted from the front)."""

    axes: tuple[int, ...]
    keepdims: bool
    arity = 1
    combine: ClassVar[str]

    def result_dtype(self, dtype: DType) -> DType:
        return dtype

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        if not x.dtype.computes:
            raise DTypeError(f"not defined for {x.dtype}", "cast to float32 first")
        if normal_axes(self.axes, x.ndim) != self.axes:
            raise ShapeError(f"axes {self.axes} are not sorted and counted from the front")
        if self.combine in _EXTREMES:
            for a in self.axes:
                if x.shape[a] == 0:
                    raise ShapeError(f"axis {a} of {x} is empty: nothing to take the extreme of")
        shape = tuple(
            1 if k in self.axes else d
            for k, d in enumerate(x.shape)
            if self.keepdims or k not in self.axes
        )
        return TensorType(self.result_dtype(x.dtype), shape)

    def requires(self, out: TensorType, *types: TensorType) -> Iterator[tuple[Dim, str]]:
        if self.combine in _EXTREMES:
            for a in self.axes:
                yield types[0].shape[a] - 1, f"axis {a} of {types[0]} is empty"

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        (x,) = xs
        inside = {a: new_axis(x.shape[a], "k") for a in self.axes}
        outside = {a: new_axis(d) for a, d in enumerate(x.shape) if a not in inside}
        value = x.at([(inside.get(a) or outside[a]).index for a in range(len(x.shape))])
        axes = tuple(
            new_axis(1) if a in inside else outside[a]
            for a in range(len(x.shape))
            if self.keepdims or a not in inside
        )
        return Compute(axes, tuple(inside.values()), self.combine, alg.cast(value, out.dtype)
                       if self.combine in ("add", "mul") else value)  # fmt: skip

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return types[0].size

    def expanded(self, g: Value, x: Value) -> Value:
        """g with the reduced axes put back and broadcast to x's shape."""
        if not self.keepdims:
            shape = tuple(1 if a in self.axes else d for a, d in enumerate(x.shape))
            g = CALLS["reshape"](g, shape)
        return CALLS["broadcast_to"](g, x.shape)  # type: ignore[no-any-return]


def _samples(**extra: Any) -> tuple[Any, ...]:
    return (*(sample(s, axes=tuple(range(len(s))), keepdims=False, **extra) for s in _SHAPES),
            sample((7, 33), axes=(1,), keepdims=True, **extra),
            sample((7, 33), axes=(0,), keepdims=False, **extra),
            sample((4, 5, 6), axes=(0, 2), keepdims=False, **extra))  # fmt: skip


@dataclass(frozen=True)
class Sum(Reduction):
    """Sum along axes. Integers and bool widen to 64 bits."""

    axes: tuple[int, ...]
    keepdims: bool = False
    combine = "add"
    onnx = "ReduceSum"
    samples = (*_samples(), sample((0, 3), axes=(0,), keepdims=False),
               sample((9,), dtypes=("int8",), low=-99, high=99, axes=(0,)))  # fmt: skip

    def result_dtype(self, dtype: DType) -> DType:
        return sum_dtype(dtype)

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return (self.expanded(g, xs[0]),)

    def ref(self, *xs: Array) -> Array:
        wide = xs[0].astype(np.float64) if xs[0].dtype.kind == "f" else xs[0]
        out = np.sum(wide, axis=self.axes, keepdims=self.keepdims)
        return np.asarray(out).astype(sum_dtype(as_dtype(xs[0].dtype)).numpy)


@dataclass(frozen=True)
class Prod(Reduction):
    """Product along axes."""

    axes: tuple[int, ...]
    keepdims: bool = False
    combine = "mul"
    onnx = "ReduceProd"
    samples = _samples(low=0.5, high=1.5)

    def result_dtype(self, dtype: DType) -> DType:
        return sum_dtype(dtype)

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        (x,) = xs  # what is multiplied with a zero is the product of the others
        zero = alg.equal(x, 0)
        zeros = self.expanded(make(Sum(self.axes, self.keepdims), alg.cast(zero, x.dtype)), x)
        others = self.expanded(make(self, alg.where(zero, 1, x)), x)
        alone = alg.where(alg.equal(zeros, 1), others, 0)
        rest = alg.where(alg.equal(zeros, 0), others / x, 0)
        return (self.expanded(g, x) * alg.where(zero, alone, rest),)

    def ref(self, *xs: Array) -> Array:
        wide = xs[0].astype(np.float64) if xs[0].dtype.kind == "f" else xs[0]
        out = np.prod(wide, axis=self.axes, keepdims=self.keepdims)
        return np.asarray(out).astype(sum_dtype(as_dtype(xs[0].dtype)).numpy)


class Extreme(Reduction, abstract=True):
    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        x = xs[0]
        hit = alg.cast(alg.equal(x, self.expanded(y, x)), x.dtype)
        ties = make(Sum(self.axes, self.keepdims), hit)
        return (self.expanded(g / ties, x) * hit,)


@dataclass(frozen=True)
class ReduceMax(Extreme):
    """Largest element along axes; NaN wins. Ties share the gradient."""

    axes: tuple[int, ...]
    keepdims: bool = False
    combine = "max"
    onnx = "ReduceMax"
    samples = (*_samples(), sample((8,), special=(float("nan"),), axes=(0,), gradient=False))

    def ref(self, *xs: Array) -> Array:
        return np.asarray(np.max(xs[0], axis=self.axes, keepdims=self.keepdims))


@dataclass(frozen=True)
class ReduceMin(Extreme):
    """Smallest element along axes; NaN wins. Ties share the gradient."""

    axes: tuple[int, ...]
    keepdims: bool = False
    combine = "min"
    onnx = "ReduceMin"
    samples = (*_samples(), sample((8,), special=(float("nan"),), axes=(0,), gradient=False))

    def ref(self, *xs: Array) -> Array:
        return np.asarray(np.min(xs[0], axis=self.axes, keepdims=self.keepdims))


class ArgExtreme(Reduction, abstract=True):
    differentiable = False

    def result_dtype(self, dtype: DType) -> DType:
        return int64


_ARG_SAMPLES = (sample((7, 33), axes=(1,)), sample((7, 33), axes=(0,), keepdims=True),
                sample((19,), dtypes=("int32",), low=-3, high=3, axes=(0,)),
                sample((8,), special=(float("nan"),), axes=(0,)))  # fmt: skip


@dataclass(frozen=True)
class Argmax(ArgExtreme):
    """Index of the first largest element along one axis, int64."""

    axes: tuple[int, ...]
    keepdims: bool = False
    combine = "argmax"
    onnx = "ArgMax"
    samples = _ARG_SAMPLES

    def ref(self, *xs: Array) -> Array:
        return np.asarray(np.argmax(xs[0], axis=self.axes[0], keepdims=self.keepdims))


@dataclass(frozen=True)
class Argmin(ArgExtreme):
    """Index of the first smallest element along one axis, int64."""

    axes: tuple[int, ...]
    keepdims: bool = False
    combine = "argmin"
    onnx = "ArgMin"
    samples = _ARG_SAMPLES

    def ref(self, *xs: Array) -> Array:
        return np.asarray(np.argmin(xs[0], axis=self.axes[0], keepdims=self.keepdims))


Axes = int | Sequence[int] | None


@graph_function("sum")
def sum_(x: Any, axis: Axes = None, keepdims: bool = False) -> Value:
    """Sum along `axis`."""
    v = as_value(x)
    axes = normal_axes(axis, v.ndim)
    return make(Sum(axes, keepdims), v) if axes else CALLS["cast"](v, sum_dtype(v.dtype))


def prod(x: Any, axis: Axes = None, keepdims: bool = False) -> Value:
    """Product along `axis`."""
    v = as_value(x)
    return make(Prod(normal_axes(axis, v.ndim), keepdims), v)


@graph_function("reduce_max")
def reduce_max(x: Any, axis: Axes = None, keepdims: bool = False) -> Value:
    """Largest element along `axis`."""
    v = as_value(x)
    return make(ReduceMax(normal_axes(axis, v.ndim), keepdims), v)


def reduce_min(x: Any, axis: Axes = None, keepdims: bool = False) -> Value:
    """Smallest element along `axis`."""
    v = as_value(x)
    return make(ReduceMin(normal_axes(axis, v.ndim), keepdims), v)


@graph_function("argmax")
def argmax(x: Any, axis: int | None = None, keepdims: bool = False, last: bool = False) -> Value:
    """Index (int64) of the first largest element along `axis`, or with `last` of the last one. None:
    among all elements in row-major order, as in NumPy."""
    return _place_of(Argmax, as_value(x), axis, keepdims, last)


@graph_function("argmin")
def argmin(x: Any, axis: int | None = None, keepdims: bool = False, last: bool = False) -> Value:
    """Index (int64) of the first smallest element along `axis`, or with `last` of the last one.
    None: among all elements in row-major order, as in NumPy."""
    return _place_of(Argmin, as_value(x), axis, keepdims, last)


def _place_of(
    op: type[Argmax | Argmin], x: Value, axis: int | None, keepdims: bool, last: bool
) -> Value:
    if axis is None:
        found = _place_of(op, CALLS["reshape"](x, (x.type.size,)), 0, False, last)
        return CALLS["reshape"](found, (1,) * x.ndim if keepdims else ())  # type: ignore[no-any-return]
    at = normal_axis(axis, x.ndim)
    if not last:
        return make(op((at,), keepdims), x)
    found = make(op((at,), keepdims), CALLS["flip"](x, at))
    size = x.shape[at]
    extent = size if isinstance(size, int) else CALLS["size_of"](size, x.node.owner)
    return extent - 1 - found


@graph_function("mean")
def mean(x: Any, axis: Axes = None, keepdims: bool = False) -> Value:
    """Arithmetic mean along `axis`; integers give float64, as in NumPy."""
    v = as_value(x)
    if not v.dtype.is_float:
        v = CALLS["cast"](v, float64)
    axes = normal_axes(axis, v.ndim)
    return sum_(v, axes, keepdims) * reciprocal(product(v.shape[a] for a in axes), v)


def reciprocal(count: Dim, like: Value) -> Value:
    """1 / count in the dtype of `like`; a count known only at run time is computed there."""
    if isinstance(count, int):
        return as_value(1.0 / count if count > 0 else float("nan"), like)
    return 1.0 / CALLS["cast"](CALLS["size_of"](count, like.node.owner), like.dtype)  # type: ignore[no-any-return]


@graph_function("unbroadcast")
def unbroadcast(g: Value, x: Value) -> Value:
    """g summed over the axes along which x was broadcast to g's shape."""
    extra = g.ndim - x.ndim
    axes = [*range(extra)]
    axes += [k + extra for k, d in enumerate(x.shape) if d == 1 and g.shape[k + extra] != 1]
    if axes:
        g = sum_(g, axes)
    return g if g.shape == x.shape else CALLS["reshape"](g, x.shape)


@graph_function("var")
def var(x: Any, axis: Axes = None, keepdims: bool = False, ddof: int = 0) -> Value:
    """Variance along `axis`: the squared distances to the mean over `count - ddof`. Integers give
    float64, as in NumPy."""
    v = as_value(x)
    if not v.dtype.is_float:
        v = CALLS["cast"](v, float64)
    axes = normal_axes(axis, v.ndim)
    centred = v - mean(v, axes, keepdims=True)
    count = product(v.shape[a] for a in axes)
    return sum_(centred * centred, axes, keepdims) * reciprocal(count - ddof, v)


@graph_function("std")
def std(x: Any, axis: Axes = None, keepdims: bool = False, ddof: int = 0) -> Value:
    """Standard deviation (square root of the variance) along `axis`."""
    return CALLS["sqrt"](var(x, axis, keepdims, ddof))  # type: ignore[no-any-return]


@graph_function("all")
def all_(x: Any, axis: Axes = None, keepdims: bool = False) -> Value:
    """Whether every element along `axis` is true; numbers are where they are not zero."""
    return CALLS["eq"](sum_(CALLS["eq"](x, 0), axis, keepdims), 0)  # type: ignore[no-any-return]


@graph_function("any")
def any_(x: Any, axis: Axes = None, keepdims: bool = False) -> Value:
    """Whether an element along `axis` is true; numbers are where they are not zero."""
    return CALLS["ne"](sum_(CALLS["ne"](x, 0), axis, keepdims), 0)  # type: ignore[no-any-return]
