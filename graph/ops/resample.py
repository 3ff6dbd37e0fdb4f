"""Weighted sums of a few elements along one axis: what interpolation is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import algorithm as alg
from ...algorithm import Compute, Const, Expr, Index, IndexLike, axis
from ...dims import Dim, bounds
from ...dtypes import Array, int64
from ...errors import DTypeError, ShapeError
from ..ir import CALLS, TensorType, Value
from .base import Op, Operand, make, own_axis, sample
from .indexing import Gather, ScatterAdd

SPELLED_OUT = 4  # so many taps are added in one expression, more in a loop


@dataclass(frozen=True)
class Resample(Op):
    """x, indices [m, taps], weights [m, taps] -> x with m elements along `axis`: element i is the
    sum over k of weights[i, k] times x at indices[i, k]. An index beyond an end of the axis means
    the element at that end."""

    axis: int
    arity = 3
    samples = (
        sample((3, 5), (7, 2), (7, 2), dtypes=("float32", "int32", "float32"), low=-1, high=7,
               axis=1),
        sample((4, 17), (3, 1), (3, 1), dtypes=("float64", "int64", "float64"), high=4, axis=0),
        sample((2, 5, 3), (4, 6), (4, 6), dtypes=("float32", "int64", "float32"), low=-3, high=7,
               axis=1),
        sample((2, 33), (19, 4), (19, 4), dtypes=("float64", "int32", "float64"), high=33, axis=1),
    )  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        x, indices, weights = types
        at = own_axis(self.axis, x.ndim)
        if not indices.dtype.is_integer:
            raise DTypeError(f"indices must be integers, they are {indices.dtype}")
        if not x.dtype.is_float or not x.dtype.computes or weights.dtype != x.dtype:
            raise DTypeError(f"not defined for {x.dtype} with weights {weights.dtype}")
        if indices.ndim != 2 or indices.shape != weights.shape:
            raise ShapeError(f"indices {indices} and weights {weights} are not [m, taps] both")
        if x.shape[at] == 0:
            raise ShapeError(f"axis {at} of {x} is empty: nothing to take elements from")
        return TensorType(x.dtype, (*x.shape[:at], indices.shape[0], *x.shape[at + 1 :]))

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        x, indices, weights = xs
        axes = tuple(axis(d) for d in out.shape)
        m, taps = axes[self.axis].index, indices.shape[1]

        def term(k: Dim) -> Expr:
            at, some = self.within(indices[m, k], x.shape[self.axis])
            place: list[IndexLike] = [a.index for a in axes]
            place[self.axis] = at
            return x.at(place, some) * weights[m, k]

        if not isinstance(taps, int) or not 1 <= taps <= SPELLED_OUT:
            k = axis(taps, "k")
            return Compute(axes, (k,), "add", term(k.index))
        value = term(0)
        for j in range(1, taps):
            value = value + term(j)
        return Compute(axes, (), None, value)

    def within(self, i: Expr, size: Dim) -> tuple[Expr, Expr | None]:
        """The place for an index into an axis of `size`, and the mask that there is one."""
        n = Const(size, int64) if isinstance(size, int) else Index(size)
        low, _ = bounds(size)
        some = None if low is not None and low > 0 else n > 0
        return alg.maximum(alg.minimum(alg.cast(i, int64), n - 1), 0), some

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        x, indices, weights = xs
        size = x.shape[self.axis]
        last = size - 1 if isinstance(size, int) else CALLS["size_of"](size - 1, x.node.owner)
        at = alg.maximum(alg.minimum(CALLS["cast"](indices, int64), last), 0)
        wide = CALLS["expand_dims"](g, self.axis + 1)
        line = (*weights.shape, *[1] * (x.ndim - self.axis - 1))
        spread = wide * CALLS["reshape"](weights, line)
        others = [k for k in range(x.ndim + 1) if k not in (self.axis, self.axis + 1)]
        slope = CALLS["sum"](make(Gather(self.axis), x, at) * wide, others) if others else (
            make(Gather(self.axis), x, at) * wide)  # fmt: skip
        return make(ScatterAdd(self.axis, size), at, spread), None, slope

    def ref(self, *xs: Array) -> Array:
        x, indices, weights = xs
        at = np.clip(indices.astype(np.int64), 0, x.shape[self.axis] - 1)
        taken = np.take(x.astype(np.float64), at, self.axis)
        shape = (*weights.shape, *[1] * (x.ndim - self.axis - 1))
        return np.asarray(np.sum(taken * weights.reshape(shape), self.axis + 1), x.dtype)

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return out.size * types[1].shape[1] * 2


def resample(x: Value, axis: int, indices: Any, weights: Any) -> Value:
    """`Resample` of x along `axis`, indices and weights [m, taps] being values or arrays."""
    constant = CALLS["constant"]
    owner = x.node.owner
    if not isinstance(indices, Value):
        indices = constant(np.asarray(indices, np.int32), owner=owner)
    if not isinstance(weights, Value):
        weights = constant(np.asarray(weights), dtype=x.dtype, owner=owner)
    return make(Resample(axis), x, indices, CALLS["cast"](weights, x.dtype))
