"""Running products; running sums stand in `indexing`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...dtypes import Array, as_dtype, sum_dtype
from ...errors import DTypeError
from ..ir import CALLS, TensorType, Value
from .base import Op, as_value, graph_function, make, normal_axis, own_axis, sample


@dataclass(frozen=True)
class Cumprod(Op):
    """Running products along an axis, in order. `exclusive` leaves out the element itself,
    `reverse` starts from the end. Integers and bool widen to 64 bits, as in NumPy. The gradient
    is defined where no element is 0."""

    axis: int
    exclusive: bool = False
    reverse: bool = False
    arity = 1
    onnx = "CumProd"
    samples = (sample((3, 17), low=0.5, axis=1), sample((7, 33), low=0.5, axis=0),
               sample((3, 17), low=0.5, axis=1, exclusive=True, reverse=True),
               sample((2, 5, 3), low=0.5, axis=1, exclusive=True),
               sample((7, 18), axis=0, reverse=True, gradient=False), sample((0, 3), axis=0),
               sample((19,), dtypes=("int8",), low=-99, high=99, axis=0))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        if not x.dtype.computes:
            raise DTypeError(f"not defined for {x.dtype}", "cast to float32 first")
        own_axis(self.axis, x.ndim)
        return TensorType(sum_dtype(x.dtype), x.shape)

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        (x,) = xs
        below = CALLS["cumsum"](g * y, self.axis, self.exclusive, not self.reverse)
        return (below / x,)

    def ref(self, *xs: Array) -> Array:
        to = sum_dtype(as_dtype(xs[0].dtype)).numpy
        x = np.moveaxis(xs[0].astype(np.float64 if to.kind == "f" else to), self.axis, 0)
        x = x[::-1] if self.reverse else x
        out = np.cumprod(x, 0, dtype=x.dtype)
        if self.exclusive:
            out = np.concatenate([np.ones_like(x[:1]), out[:-1]])
        out = out[::-1] if self.reverse else out
        return np.moveaxis(out, 0, self.axis).astype(to)


@graph_function("cumprod")
def cumprod(x: Any, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Value:
    """Running products along `axis`."""
    v = as_value(x)
    return make(Cumprod(normal_axis(axis, v.ndim), exclusive, reverse), v)
