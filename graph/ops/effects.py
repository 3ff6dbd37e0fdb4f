"""Ops that are there for what they do: failing a run, and printing. They pass their operand on, and
happen whenever what they pass on is computed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import and_
from typing import Any

import numpy as np

from ... import algorithm as alg
from ...algorithm import Compute, Const, Index, axis
from ...dims import Dim, DimExpr, show
from ...dtypes import Array, bool_, int64
from ...errors import DTypeError, RunError, ShapeError
from ..ir import CALLS, Shape, TensorType, Value
from .base import Op, Operand, as_value, broadcast_shapes, graph_function, make, operands, sample
from .base import condition as needed


class Effect(Op, abstract=True):
    """The first operand, and an effect."""

    pure = False

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return (g, *([None] * (len(xs) - 1)))

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return 0


@dataclass(frozen=True)
class Check(Effect):
    """The first operand; the run fails with `message` where an element of the second (bool, it
    broadcasts to the first) is false."""

    message: str
    arity = 2
    samples = (sample((3, 5), (3, 5), dtypes=("float32", "bool"), low=1, message="positive"),
               sample((3, 5), (), dtypes=("float64", "bool"), low=1, message="one"))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        x, cond = types
        if cond.dtype != bool_:
            raise DTypeError(f"the condition must be bool, it is {cond.dtype}")
        if broadcast_shapes(x.shape, cond.shape) != x.shape:
            raise ShapeError(f"the condition {cond} does not broadcast to {x}")
        return x

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        axes = tuple(axis(d) for d in out.shape)
        holds = xs[1].broadcast(axes)
        return Compute(axes, (), None, xs[0].broadcast(axes), (alg.Check("check", ~holds),))

    def ref(self, *xs: Array) -> Array:
        if not np.all(xs[1]):
            raise RunError(self.message)
        return xs[0]


@dataclass(frozen=True)
class Print(Effect):
    """Its operand, which is also printed after `message` at each run."""

    message: str
    arity = 1
    samples = (sample((3, 5), message="x"),)

    def infer(self, *types: TensorType) -> TensorType:
        return types[0]

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        axes = tuple(axis(d) for d in out.shape)
        return Compute(axes, (), None, xs[0].broadcast(axes))

    def ref(self, *xs: Array) -> Array:
        return xs[0]


@dataclass(frozen=True)
class EnsureShape(Op):
    """The first operand as a value of `shape`. The second operand is the check that this is its
    shape at run time; where it is not, nothing is read. See `ensure_shape`."""

    shape: Shape
    arity = 2
    samples = (sample((3, 5), (), dtypes=("float32", "int64"), shape=(3, 5)),
               sample((), (), dtypes=("float64", "int64"), shape=()))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        x, _ = types
        if len(self.shape) != x.ndim:
            raise ShapeError(f"{x} does not have {len(self.shape)} axes")
        return TensorType(x.dtype, self.shape)

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        axes = tuple(axis(d) for d in out.shape)
        tests = [alg.equal(Index(old) if isinstance(old, DimExpr) else Const(old, int64), Index(new)
                           if isinstance(new, DimExpr) else Const(new, int64))
                 for old, new in zip(xs[0].shape, out.shape) if old != new]  # fmt: skip
        mask = reduce(and_, tests) if tests else None
        return Compute(axes, (), None, xs[0].at([a.index for a in axes], mask))

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return make(EnsureShape(xs[0].shape), g, xs[1]), None

    def ref(self, *xs: Array) -> Array:
        return xs[0]

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return 0


@graph_function("ensure_shape")
def ensure_shape(x: Any, shape: Any) -> Value:
    """x as a value of `shape`; the run fails where it has another. For sizes that are equal without
    flowmill being able to know: None stands for one that is left as it is, a name or an expression
    for a dimension. ShapeError where the ranks differ, or numbers do."""
    v = as_value(x)
    given = tuple(shape)
    if len(given) != v.ndim:
        raise ShapeError(f"ensure_shape: {v.type} does not have {len(given)} axes")
    wanted = tuple(d if new is None else CALLS["__dim__"](new) for d, new in zip(v.shape, given))
    different = [(a, b) for a, b in zip(v.shape, wanted) if a != b]
    if not different:
        return v
    owner = v.node.owner
    tests = []
    for old, new in different:
        if isinstance(old, int) and isinstance(new, int):
            raise ShapeError(f"ensure_shape: {v.type} is not [{','.join(map(show, wanted))}]")
        sides = [CALLS["size_of"](d, owner) if isinstance(d, DimExpr) else
                 CALLS["constant"](d, int64, owner) for d in (old, new)]  # fmt: skip
        tests.append(alg.equal(*sides))
    text = " and ".join(f"{show(old)} = {show(new)}" for old, new in different)
    none = CALLS["constant"](0, int64, owner)
    checked = check(none, reduce(and_, tests), f"sizes are not as they must be: {text}")
    return make(EnsureShape(wanted), v, checked)


@graph_function("check")
def check(value: Any, condition: Any, message: str = "a check failed") -> Value:
    """`value`, which fails the run with `message` unless all of `condition` is true. Use what this
    returns: a value that nothing needs is not computed."""
    (v,) = operands(value)
    cond = needed(condition, "check", v)
    if cond.dtype == bool_ and not _fits(cond, v):
        cond = CALLS["all"](cond)
    return make(Check(str(message)), v, cond)


def _fits(cond: Value, value: Value) -> bool:
    try:
        return broadcast_shapes(value.shape, cond.shape) == value.shape
    except ShapeError:
        return False


@graph_function("print")
def print_(value: Any, message: str = "") -> Value:
    """`value`, printed with `message` at each run that computes it. Use what this returns."""
    return make(Print(str(message)), as_value(value))
