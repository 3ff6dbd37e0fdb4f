"""Pooling by p-norms: the p-th root of the sum of |x|**p over every window, or over all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import algorithm as alg
from ...dtypes import Array
from ...errors import ConfigError, DTypeError
from ..ir import CALLS, TensorType, Value
from .base import as_value, graph_function, make, sample
from .norms import norm
from .pooling import Pooling, SumPool, SumPoolGrad, pooled

_OVERLAP: dict[str, Any] = {"strides": (2, 1), "pads_before": (1, 0), "pads_after": (1, 2),
                            "dilations": (1, 2), "window": (3, 2)}  # fmt: skip
_LINE: dict[str, Any] = {"strides": (3,), "pads_before": (0,), "pads_after": (0,),
                         "dilations": (1,), "window": (2,)}  # fmt: skip


@dataclass(frozen=True)
class LpPool(Pooling):
    """The p-norm of every window; padding counts as zero. The gradient is 0 where the norm is."""

    order: float = 2.0
    arity = 1
    onnx = "LpPool"
    samples = (sample((2, 3, 17), **_LINE), sample((1, 2, 7, 6), **_OVERLAP),
               sample((1, 2, 7, 6), low=0.5, order=1.0, **_OVERLAP),
               sample((1, 2, 7, 6), low=0.5, order=3.0, **_OVERLAP),
               sample((1, 1, 9), special=(0.0,) * 9, gradient=False, **_LINE))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        if not types[0].dtype.is_float:
            raise DTypeError(f"not defined for {types[0].dtype}", "cast to float32 first")
        return self.positions(types[0])

    def expand(self, *xs: Value) -> Value:
        (x,) = xs
        total = make(SumPool(**self.windows()), self.powers(x, self.order))
        if self.order == 2:
            return alg.sqrt(total)  # type: ignore[no-any-return]
        return total if self.order == 1 else CALLS["pow"](total, 1 / self.order)

    def powers(self, x: Value, p: float) -> Value:
        """|x|**p."""
        if p == 2:
            return x * x
        return alg.abs_(x) if p == 1 else CALLS["pow"](alg.abs_(x), p)  # type: ignore[no-any-return]

    def windows(self) -> dict[str, Any]:
        return {"strides": self.strides, "pads_before": self.pads_before, "window": self.window,
                "pads_after": self.pads_after, "dilations": self.dilations}  # fmt: skip

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        (x,) = xs
        slope = g
        if self.order != 1:
            safe = alg.where(alg.equal(y, 0), 1, y)
            slope = g / (safe if self.order == 2 else CALLS["pow"](safe, self.order - 1))
        back = make(SumPoolGrad(**self.windows(), spatial=x.shape[2:]), slope)
        if self.order == 2:
            return (back * x,)
        if self.order == 1:
            return (back * alg.sign(x),)
        return (back * alg.sign(x) * self.powers(x, self.order - 1),)

    def ref(self, *xs: Array) -> Array:
        taps = np.abs(self.windows_ref(xs[0].astype(np.float64), 0)) ** self.order
        return np.asarray(taps.sum(-1) ** (1 / self.order)).astype(xs[0].dtype)


@graph_function("lp_pool")
def lp_pool(
    x: Any, window: int | Sequence[int], strides: int | Sequence[int] | None = None,
    padding: Any = "valid", order: float = 2.0, dilations: int | Sequence[int] = 1,
    ceil_mode: bool = False,
) -> Value:  # fmt: skip
    """The norm of order `order` of every window of x [n, c, *spatial] (floats). The rest is as for
    `max_pool`."""
    v, geometry, _ = pooled(x, window, strides, padding, dilations, ceil_mode, "lp_pool")
    if not order > 0:
        raise ConfigError(f"lp_pool: the order must be positive, not {order}")
    return make(LpPool(**geometry, order=float(order)), v)


@graph_function("global_lp_pool")
def global_lp_pool(x: Any, order: float = 2.0, keepdims: bool = False) -> Value:
    """The norm of order `order` of every channel: [n, c, *spatial] -> [n, c]."""
    v = as_value(x)
    return norm(v, order, tuple(range(2, v.ndim)), keepdims)
