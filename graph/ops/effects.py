"""Ops that are there for what they do: failing a run, and printing. Both pass their operand on;
they happen whenever what they pass on is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import algorithm as alg
from ...algorithm import Compute, axis
from ...dims import Dim
from ...dtypes import Array, bool_
from ...errors import DTypeError, RunError, ShapeError
from ..ir import CALLS, TensorType, Value
from .base import Op, Operand, as_value, broadcast_shapes, graph_function, make, operands, sample


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


@graph_function("check")
def check(value: Any, condition: Any, message: str = "a check failed") -> Value:
    """`value`, which fails the run with `message` unless all of `condition` is true. Use what this
    returns: a value that nothing needs is not computed."""
    v, cond = operands(value, condition)
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
