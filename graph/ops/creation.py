"""Values that come from nothing: counting, and filling with one number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import algorithm as alg
from ...algorithm import Compute, Index, axis
from ...dims import Dim, DimExpr, ceildiv, maximum
from ...dtypes import Array, DType, as_dtype, float32, int64
from ...errors import ConfigError, DTypeError
from ..ir import CALLS, Interner, Shape, TensorType, Value
from .base import Op, Operand, as_value, graph_function, normal_axis, own_axis, sample
from .shape import as_shape
from .windows import concrete


@dataclass(frozen=True)
class Iota(Op):
    """Each element is its own index along one axis: 0, 1, 2, ..."""

    shape: Shape
    axis: int
    dtype: DType = int64
    arity = 0
    differentiable = False
    samples = (sample(shape=(5,), axis=0), sample(shape=(3, 17), axis=1, dtype=float32),
               sample(shape=(0, 3), axis=0))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        own_axis(self.axis, len(self.shape))
        if not self.dtype.computes or self.dtype.kind == "b":
            raise DTypeError(f"not defined for {self.dtype}")
        return TensorType(self.dtype, self.shape)

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        axes = tuple(axis(d) for d in out.shape)
        return Compute(axes, (), None, alg.cast(Index(axes[self.axis].index), self.dtype))

    def ref(self, *xs: Array) -> Array:
        return np.asarray(np.indices(concrete(self.shape))[self.axis], self.dtype.numpy)

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return 0


def _owner(owner: Interner | None) -> Interner:
    made: Interner = owner if owner is not None else CALLS["__current__"]()
    return made


@graph_function("iota")
def iota(shape: Any, axis: int = 0, dtype: Any = int64, owner: Interner | None = None) -> Value:
    """0, 1, 2, ... along `axis` of `shape`."""
    dims, made = as_shape(shape), _owner(owner)
    op = Iota(CALLS["__most__"](dims, made), normal_axis(axis, len(dims)), as_dtype(dtype))
    return CALLS["__cut__"](made.node(op, ()).outputs[0], dims)  # type: ignore[no-any-return]


def arange(start: Any, stop: Any = None, step: int | float = 1, dtype: Any = None) -> Value:
    """start, start + step, ... below stop, as NumPy's arange. Sizes may be dimensions or names of
    dimensions when the step is 1. The dtype is int64, or float32 if a bound is a float."""
    first, last = (0, start) if stop is None else (start, stop)
    numbers = int | float | np.integer | np.floating
    if not all(isinstance(d, numbers | str | DimExpr) for d in (first, last)):
        raise ConfigError(f"arange: {first!r} and {last!r} are to be numbers or dimensions")
    if not isinstance(step, numbers) or step == 0:
        raise ConfigError(f"arange: the step must be a number and not 0, it is {step!r}")
    first, last = (CALLS["__dim__"](d) if isinstance(d, str) else d for d in (first, last))
    if any(isinstance(d, DimExpr) for d in (first, last)):
        if isinstance(step, float) or step < 1:
            raise ConfigError(f"arange: dimensions need a positive whole step, not {step}")
        count: Dim = maximum(ceildiv(last - first, step), 0)
        kind = as_dtype(dtype or int64)
    else:
        count = max(0, len(np.arange(first, last, step)))
        whole = all(isinstance(d, int | np.integer) for d in (first, last, step))
        kind = as_dtype(dtype or (int64 if whole else float32))
    out = iota((count,), 0, kind)
    if step != 1:
        out = out * step
    if isinstance(first, DimExpr):
        first = CALLS["cast"](CALLS["size_of"](first), kind)
    return out + first if isinstance(first, Value) or first != 0 else out


@graph_function("full")
def full(shape: Any, value: Any, dtype: Any = None, owner: Interner | None = None) -> Value:
    """`value` (a number, or a scalar value) repeated to `shape`."""
    if not isinstance(value, Value):
        value = CALLS["constant"](value, dtype=dtype, owner=_owner(owner))
    elif dtype is not None:
        value = CALLS["cast"](value, dtype)
    return CALLS["broadcast_to"](value, shape)  # type: ignore[no-any-return]


def zeros(shape: Any, dtype: Any = float32) -> Value:
    """Zeros of `shape`."""
    return full(shape, 0, dtype)


def ones(shape: Any, dtype: Any = float32) -> Value:
    """Ones of `shape`."""
    return full(shape, 1, dtype)


@graph_function("zeros_like")
def zeros_like(x: Any) -> Value:
    """Zeros of x's type."""
    v = as_value(x)
    return full(v.shape, 0, v.dtype, v.node.owner)


def ones_like(x: Any) -> Value:
    """Ones of x's type."""
    v = as_value(x)
    return full(v.shape, 1, v.dtype, v.node.owner)


@graph_function("eye")
def eye(rows: Any, columns: Any = None, k: int = 0, dtype: Any = float32,
        owner: Interner | None = None) -> Value:  # fmt: skip
    """[rows, columns] (None: as many as rows) with ones on the k-th diagonal, zeros elsewhere."""
    m, n = as_shape((rows, rows if columns is None else columns))
    diagonal = iota((1, n), 1, owner=owner) - iota((m, 1), 0, owner=owner)
    return CALLS["cast"](CALLS["eq"](diagonal, k), dtype)  # type: ignore[no-any-return]
