"""Channels read at places that data names, several weighted elements for each place.

`SampleAt` reads, `SpreadAt` is its gradient with respect to what is read, `SampleDot` with respect
to the weights; the three are closed under differentiation, as those of convolution are. Values are
[batch, channels, elements]; indices and weights [batch, taps, places] serve all channels. An index
outside of the elements stands for a zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...algorithm import Compute, Expr, Index, cast
from ...algorithm import axis as new_axis
from ...dims import Dim
from ...dtypes import Array, int64
from ...errors import DTypeError, ShapeError
from ..ir import CALLS, TensorType, Value
from .base import Op, Operand, make, sample

SPELLED_OUT = 4  # so many taps are added in one expression, more in a loop


class Sampling(Op, abstract=True):
    """Operands: values, indices [batch, taps, places], and values or weights."""

    arity = 3

    def checked(self, x: TensorType, indices: TensorType, other: TensorType) -> None:
        """ShapeError or DTypeError where the operands do not fit each other."""
        if not indices.dtype.is_integer:
            raise DTypeError(f"indices must be integers, they are {indices.dtype}")
        if not x.dtype.is_float or not x.dtype.computes or other.dtype != x.dtype:
            raise DTypeError(f"not defined for {x.dtype} and {other.dtype}")
        if any(t.ndim != 3 or t.shape[0] != x.shape[0] for t in (x, indices, other)):
            raise ShapeError(f"{x}, {indices} and {other} do not have three axes and one batch")

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return types[0].shape[1] * types[1].size * 2


def _taken(x: Operand, at: tuple[Dim, Dim], index: Expr) -> Expr:
    """Element `index` of a channel, zero outside."""
    i = cast(index, int64)
    inside = (i >= 0) & (i < Index(x.shape[2]))
    return x.at((*at, i), inside)


@dataclass(frozen=True)
class SampleAt(Sampling):
    """x [n, c, s], indices [n, taps, m], weights [n, taps, m] -> [n, c, m]: place j of a channel is
    the sum over the taps of weights[n, t, j] * x[n, c, indices[n, t, j]]."""

    samples = (sample((2, 3, 7), (2, 4, 5), (2, 4, 5), dtypes=("float32", "int32", "float32"),
                      low=-1, high=9),
               sample((1, 2, 17), (1, 1, 33), (1, 1, 33), dtypes=("float64", "int64", "float64"),
                      high=17),
               sample((2, 2, 5), (2, 6, 3), (2, 6, 3), dtypes=("float32", "int64", "float32"),
                      high=5))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        x, indices, weights = types
        self.checked(x, indices, weights)
        if indices.shape != weights.shape:
            raise ShapeError(f"indices {indices} and weights {weights} differ in shape")
        return TensorType(x.dtype, (*x.shape[:2], indices.shape[2]))

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        x, indices, weights = xs
        n, c, m = axes = tuple(new_axis(d) for d in out.shape)
        taps = indices.shape[1]

        def term(t: Dim) -> Expr:
            place = (n.index, t, m.index)
            return _taken(x, (n.index, c.index), indices[place]) * weights[place]

        if not isinstance(taps, int) or not 1 <= taps <= SPELLED_OUT:
            t = new_axis(taps, "k")
            return Compute(axes, (t,), "add", term(t.index))
        value = term(0)
        for k in range(1, taps):
            value = value + term(k)
        return Compute(axes, (), None, value)

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        x, indices, weights = xs
        return (make(SpreadAt(x.shape[2]), g, indices, weights), None,
                make(SampleDot(), x, indices, g))  # fmt: skip

    def ref(self, *xs: Array) -> Array:
        x, indices, weights = (
            a.astype(np.int64 if a.dtype.kind in "iu" else np.float64) for a in xs
        )
        inside = (indices >= 0) & (indices < x.shape[2])
        at = np.where(inside, indices, 0)
        taken = np.stack([one[:, i] for one, i in zip(x, at)])  # [n, c, taps, m]
        return np.sum(taken * (weights * inside)[:, None], 2).astype(xs[0].dtype)


@dataclass(frozen=True)
class SpreadAt(Sampling):
    """g [n, c, m], indices [n, taps, m], weights [n, taps, m] -> [n, c, size]: g times the weight of
    every tap added at its index, in the order of the taps, then of the places."""

    size: Dim
    samples = (sample((2, 3, 5), (2, 4, 5), (2, 4, 5), dtypes=("float32", "int32", "float32"),
                      low=-1, high=9, size=7),
               sample((1, 2, 33), (1, 1, 33), (1, 1, 33), dtypes=("float64", "int64", "float64"),
                      high=17, size=17))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        g, indices, weights = types
        self.checked(g, indices, weights)
        if indices.shape != weights.shape or g.shape[2] != indices.shape[2]:
            raise ShapeError(f"{g}, indices {indices} and weights {weights} differ in places")
        return TensorType(g.dtype, (*g.shape[:2], self.size))

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        below, indices, weights = xs
        return make(SampleAt(), g, indices, weights), None, make(SampleDot(), g, indices, below)

    def ref(self, *xs: Array) -> Array:
        g, indices, weights = (
            a.astype(np.int64 if a.dtype.kind in "iu" else np.float64) for a in xs
        )
        size = int(self.size) if isinstance(self.size, int) else -1
        out = np.zeros((*g.shape[:2], size))
        for n, t, j in np.ndindex(indices.shape):
            if 0 <= indices[n, t, j] < size:
                out[n, :, indices[n, t, j]] += g[n, :, j] * weights[n, t, j]
        return out.astype(xs[0].dtype)


@dataclass(frozen=True)
class SampleDot(Sampling):
    """x [n, c, s], indices [n, taps, m], g [n, c, m] -> [n, taps, m]: the sum over the channels of
    x[n, c, indices[n, t, j]] * g[n, c, j]."""

    samples = (sample((2, 3, 7), (2, 4, 5), (2, 3, 5), dtypes=("float32", "int32", "float32"),
                      low=-1, high=9),
               sample((1, 2, 17), (1, 1, 33), (1, 2, 33), dtypes=("float64", "int64", "float64"),
                      high=17))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        x, indices, g = types
        self.checked(x, indices, g)
        if g.shape[1:] != (x.shape[1], indices.shape[2]):
            raise ShapeError(f"{x}, indices {indices} and {g} do not have one number of channels "
                             "and places")  # fmt: skip
        return TensorType(x.dtype, indices.shape)

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        x, indices, g = xs
        n, t, m = axes = tuple(new_axis(d) for d in out.shape)
        c = new_axis(x.shape[1], "k")
        index = indices[n.index, t.index, m.index]
        value = _taken(x, (n.index, c.index), index) * g[n.index, c.index, m.index]
        return Compute(axes, (c,), "add", value)

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        x, indices, below = xs
        return (make(SpreadAt(x.shape[2]), below, indices, g), None,
                make(SampleAt(), x, indices, g))  # fmt: skip

    def ref(self, *xs: Array) -> Array:
        x, indices, g = (a.astype(np.int64 if a.dtype.kind in "iu" else np.float64) for a in xs)
        inside = (indices >= 0) & (indices < x.shape[2])
        taken = np.stack([one[:, i] for one, i in zip(x, np.where(inside, indices, 0))])
        return (np.sum(taken * g[:, :, None], 1) * inside).astype(xs[0].dtype)


def sample_at(x: Value, indices: Value, weights: Value) -> Value:
    """`SampleAt`; x is [n, c, ...], its spatial axes are one axis of elements."""
    flat = CALLS["reshape"](x, (*x.shape[:2], -1))
    return make(SampleAt(), flat, indices, CALLS["cast"](weights, x.dtype))
