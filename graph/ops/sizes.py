"""Sizes that are known only when a run has computed them.

Any int64 scalar can become a dimension: a `Prefix` cuts what was computed at its largest size down
to it, and from then on the dimension is a symbol like that of a batch. `fm.nonzero` is made of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...algorithm import Compute, axis
from ...dims import Dim, DimExpr, bounds, free_symbols, show, sym
from ...dims_limits import most_of
from ...dtypes import Array, int64
from ...errors import DTypeError, ShapeError
from ..definition import Graph
from ..ir import CALLS, Binding, Interner, Shape, Size, TensorType, Value
from ..tokens import RESERVED
from .base import (
    Op,
    Operand,
    as_value,
    graph_function,
    make,
    normal_axis,
    sample,
)
from .shape import Movement, bound_sizes, check_sizes
from .windows import concrete


@dataclass(frozen=True)
class Prefix(Movement):
    """The first elements of the first operand along every axis: a tensor of `shape`. The other
    operands, int64 scalars, say what the dimensions `sizes` are in this run, from 0 to `most`; the
    run fails where one is not."""

    shape: Shape
    sizes: Shape = ()
    most: Shape = ()
    arity = None  # type: ignore[assignment]
    samples = (sample((5, 17), shape=(3, 17)), sample((33,), shape=(32,)),
               sample((2, 3), shape=(0, 3)))  # fmt: skip

    def bindings(self) -> tuple[Binding, ...]:
        return bound_sizes(self.sizes, self.most, 1)

    def infer(self, *types: TensorType) -> TensorType:
        x, *sizes = types
        check_sizes(sizes, self.sizes, self.most)
        if x.ndim != len(self.shape):
            raise ShapeError(f"{x} has no beginning of {len(self.shape)} axes")
        for old, new in zip(x.shape, self.shape):
            if (bounds(old - new)[1] or 0) < 0:
                raise ShapeError(f"{show(new)} of {show(old)} elements")
        return TensorType(x.dtype, self.shape)

    def requires(self, out: TensorType, *types: TensorType) -> Iterator[tuple[Dim, str]]:
        limits = dict(zip(self.sizes, self.most))  # compared with when they are computed
        for k, (old, new) in enumerate(zip(types[0].shape, out.shape)):
            yield new, f"axis {k} of the result would have a negative size"
            if limits.get(new) != old:
                yield old - new, f"axis {k} has fewer elements than are wanted"

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        axes = tuple(axis(d) for d in out.shape)
        return Compute(axes, (), None, xs[0].at([a.index for a in axes]))

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        after = [d - e for d, e in zip(xs[0].shape, self.shape)]
        back = CALLS["pad"](g, (0,) * g.ndim, after)
        return (back, *([None] * len(self.sizes)))

    def ref(self, *xs: Array) -> Array:
        return xs[0][tuple(slice(n) for n in concrete(self.shape))]


@dataclass(frozen=True)
class Nonzero(Op):
    """Where elements are not zero, in row-major order: int64 [rank, elements], of which the first
    columns count, the others being 0, and how many columns that are."""

    arity = 1
    differentiable = False
    samples = (sample((33,), dtypes=("int32",), low=-1, high=1),
               sample((3, 4, 5), dtypes=("bool",), low=0, high=1),
               sample((2, 3), dtypes=("float64",), special=(0.0, -0.0, math.nan)),
               sample((), dtypes=("int64",), low=0, high=1), sample((0, 3)))  # fmt: skip

    def infer(self, *types: TensorType) -> tuple[TensorType, TensorType]:
        (x,) = types
        if not x.dtype.computes:
            raise DTypeError(f"not defined for {x.dtype}", "cast to float32 first")
        return TensorType(int64, (x.ndim, x.size)), TensorType(int64, ())

    def ref(self, *xs: Array) -> Any:
        found = np.array(np.nonzero(np.atleast_1d(xs[0])), np.int64)[: xs[0].ndim]
        count = int(np.count_nonzero(xs[0]))
        places = np.zeros((xs[0].ndim, xs[0].size), np.int64)
        places[:, :count] = found
        return places, np.int64(count)

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return types[0].size


@graph_function("prefix")
def prefix(x: Any, n: Any, axis: int = 0, name: str = "size") -> Value:
    """The first `n` elements of `x` along `axis`, where n is an int64 scalar that a run computes.

    The axis gets a dimension of its own, called `name` or `name_2`, ...; whatever is computed of the
    result has it too. Values that are cut by the same n have the same dimension. Memory is planned
    for the largest n, the size of the axis; the run fails where n is larger, or negative. Results
    come back in their true size. A number for n, or a dimension, is as good.

    DTypeError if n is no int64 scalar; ShapeError where there is no such axis.
    """
    v = as_value(x)
    at = normal_axis(axis, v.ndim)
    size: Dim
    if isinstance(n, int | np.integer | DimExpr):
        size = n if isinstance(n, DimExpr) else int(n)
    else:
        count = as_value(n, owner=v.node.owner)
        if count.type != TensorType(int64, ()):
            raise DTypeError(f"prefix: a size is an int64 scalar, not {count.type}",
                             'fm.cast(n, "int64") makes one')  # fmt: skip
        size = dimension(count, v.shape[at], name)
    return cut(v, (*v.shape[:at], size, *v.shape[at + 1 :]))


def dimension(count: Value, most: Dim, name: str) -> DimExpr:
    """The dimension that an int64 scalar is at a run, at most `most`."""
    owner = count.node.owner
    limit = largest((most,), owner)[0]
    for known in owner.sizes.values():
        if known.value is count and known.most == limit:
            return known.dim
    taken = {*owner.sizes, *(owner.symbols if isinstance(owner, Graph) else ())}
    fresh = next(n for k in range(1, len(taken) + 2)
                 if (n := name if k == 1 else f"{name}_{k}") not in taken)  # fmt: skip
    if not fresh.isidentifier() or fresh in RESERVED:
        raise ShapeError(f"prefix: {name!r} cannot name a dimension")
    made = sym(fresh, 0, bounds(limit)[1])
    owner.sizes[fresh] = Size(made, count, limit)
    if isinstance(owner, Graph):
        owner.symbols[fresh] = made
    return made


@graph_function("__cut__")
def cut(x: Value, shape: Shape) -> Value:
    """The beginning of `x`, a tensor of `shape`."""
    return x if x.shape == shape else told(x, sizes_in(shape, x.node.owner), shape)


@graph_function("__told__")
def told(x: Value, sizes: Sequence[Size], shape: Shape | None = None) -> Value:
    """The beginning of `x`, or all of it, after the run has computed some sizes."""
    op = Prefix(x.shape if shape is None else shape, tuple(s.dim for s in sizes),
                tuple(s.most for s in sizes))  # fmt: skip
    return make(op, x, *(s.value for s in sizes))


def sizes_in(shape: Shape, owner: Interner) -> list[Size]:
    """The sizes that runs compute among the symbols of a shape."""
    names = sorted({s.name for d in shape for s in free_symbols(d)})
    return [owner.sizes[name] for name in names if name in owner.sizes]


@graph_function("__most__")
def largest(shape: Shape, owner: Interner) -> Shape:
    """The largest a shape can become, whatever sizes runs compute."""
    most = {name: s.most for name, s in owner.sizes.items()}
    return tuple(most_of(d, most) for d in shape)


@graph_function("nonzero")
def nonzero(x: Any, name: str = "nonzero") -> Value:
    """Where elements of `x` are not zero: int64 [rank, n], a column for each, in row-major order.

    n, which the run finds out, is a dimension of its own, called `name` as in `fm.prefix`; NumPy
    gives the rows as a tuple. NaN is not zero. A scalar gives [0, n], as in ONNX.
    """
    v = as_value(x)
    places, count = v.node.owner.node(Nonzero(), (v,)).outputs
    size = dimension(count, v.type.size, name)
    return cut(places, (v.ndim, size))
