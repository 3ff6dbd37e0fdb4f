"""The functions rules are written with: of pattern variables they make patterns, of values values.

Operands come first, then attributes in the order of the op's fields; attributes may be left out of
a pattern. The operators (`+`, `*`, `<`, ...) stand for themselves in both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .ir import CALLS
from .ops import activation, elementary, indexing, logic, pointwise, reduce, shape
from .ops import softmax as softmaxes
from .ops.base import Op, make
from .patterns import Pattern, applied


def dual(op: type[Op], build: str | None = None) -> Callable[..., Any]:
    """The function that makes `op` of patterns, and of values what the graph function named
    `build` makes, or plainly the op."""

    def call(*args: Any) -> Any:
        if any(isinstance(a, Pattern) for a in args):
            return applied(op, *args)
        if build is not None:
            return CALLS[build](*args)
        count = op.arity or 0
        return make(op(*args[count:]), *args[:count])

    call.__name__, call.__doc__ = op.name, op.__doc__
    return call


def containing(op: type[Op], *first: Any) -> Any:
    """The pattern of any op of a class, whatever its attributes, on operands that begin so."""
    return applied(op, *first, rest=True)


exp, expm1, log, log1p = (
    dual(op, op.name) for op in (elementary.Exp, elementary.Expm1, elementary.Log, elementary.Log1p)
)
tanh, sigmoid, softplus = (
    dual(op, op.name) for op in (elementary.Tanh, elementary.Sigmoid, elementary.Softplus)
)
softmax, log_softmax, logsumexp = (
    dual(op, op.name) for op in (softmaxes.Softmax, softmaxes.LogSoftmax, softmaxes.Logsumexp)
)
maximum, minimum = dual(pointwise.Maximum, "max"), dual(pointwise.Minimum, "min")
equal, not_equal = dual(logic.Eq, "eq"), dual(logic.Ne, "ne")
abs_, isinf, where = (dual(op, op.name) for op in (pointwise.Abs, logic.Isinf, pointwise.Where))
cast, stop_gradient = dual(pointwise.Cast, "cast"), dual(pointwise.StopGradient)
relu = dual(activation.Relu, "relu")
sum_, reduce_max, reduce_min = dual(reduce.Sum), dual(reduce.ReduceMax), dual(reduce.ReduceMin)
reshape, transpose, broadcast_to = (
    dual(op, op.name) for op in (shape.Reshape, shape.Transpose, shape.BroadcastTo)
)
gather = dual(indexing.Gather)
slice_, unslice, pad = dual(shape.Slice), dual(shape.Unslice), dual(shape.Pad)
