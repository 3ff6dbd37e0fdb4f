"""Rules that keep results finite and accurate far from zero, and with them their gradients.

A user writes `log(softmax(x))`; computed as it stands it is -inf where softmax underflows, and its
gradient 0/0. These rules replace such compositions by one function that has neither trouble. They
are the only rules that may change a result beyond rounding, and only towards its exact value. As a
gradient is made of the computation it is the gradient of, `gradients` applies them before it
differentiates; the pass `stabilise` applies them to what a user fetches. Both make the same nodes.

The rewrites are those Theano was known for (Theano Development Team 2016), written for this op set.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from sys import modules
from typing import Any

import numpy as np

from ..dims import product
from ..dtypes import DType
from .ir import Shape, Value
from .notation import (
    broadcast_to,
    cast,
    containing,
    exp,
    expm1,
    isinf,
    log,
    log1p,
    log_softmax,
    logsumexp,
    reduce_max,
    reshape,
    sigmoid,
    softmax,
    softplus,
    sum_,
    tanh,
    where,
)
from .ops.indexing import Gather, TakeAlongAxis
from .ops.pointwise import Neg
from .ops.shape import BroadcastTo, Reshape, SizeOf, Slice, Transpose
from .ops.softmax import Softmax
from .patterns import Rules, Setting, decline, matches, numbers, rule, variables
from .rewrite import Rewriter

X, A, K, S, N, D = variables("x a k s n d")
(C,) = numbers("c")
Axes = tuple[int, ...]


def stabilised(value: Value, opaque: Sequence[Value]) -> tuple[Value, list[Value]]:
    """`value` and `opaque`, and what they are computed from, with the rules of this module applied.

    Nothing is rewritten past a value of `opaque`: whatever depended on it depends on what it became.
    Names stay with the values that were named.
    """
    fixed = set(opaque)
    setting = Setting(opaque=fixed)
    rewriter = Rewriter(lambda n: table().apply(n, None, setting), keep_names=False)
    for v in sorted(opaque, key=lambda v: v.node.serial):  # operands are older than their users
        fixed.add(rewriter.value(v))
    return rewriter.value(value), [rewriter.value(v) for v in opaque]


@cache
def table() -> Rules:
    """The rules of this module."""
    return Rules(modules[__name__])


def one_axis(a: Axes) -> Any:
    return len(a) == 1 or decline("several axes at once")


def negated(x: Value) -> Value:
    """-x, without a double negation."""
    return x.node.inputs[0] if isinstance(x.node.op, Neg) else -x


# --- softmax and its logarithm --------------------------------------------------------------------


MAX = reduce_max(X, (A,), True)
# what logsumexp and its gradient expand to: stable, and computed once for both
CENTRED = X - where(isinf(MAX), 0, MAX)


@rule(
    exp(X) / sum_(exp(X), A, True),
    exp(X) / broadcast_to(sum_(exp(X), A, True), S),
    where=one_axis,
)
def softmax_by_hand(x: Value, a: Axes) -> Any:
    if matches(CENTRED, x, {}):
        return decline("x is centred already")
    return softmax(x, a[0])


@rule(exp(X) / reshape(sum_(exp(X), A, False), S), exp(X) / sum_(exp(X), A, False))
def softmax_by_hand_without_keepdims(x: Value, a: Axes, out: Value) -> Any:
    total = out.node.inputs[1].shape
    kept = tuple(1 if k in a else d for k, d in enumerate(x.shape))
    if len(a) != 1 or (1,) * (x.ndim - len(total)) + total != kept:
        return decline("the sum is not spread along the one axis it was taken of")
    return softmax(x, a[0])


@rule(softmax(X - MAX, A))
def softmax_of_centred(x: Value, a: int) -> Any:
    return softmax(x, a)


@rule(log_softmax(X - MAX, A))
def log_softmax_of_centred(x: Value, a: int) -> Any:
    return log_softmax(x, a)


@rule(log(softmax(X, A)))
def log_of_softmax(x: Value, a: int) -> Any:
    return log_softmax(x, a)


MOVES = (Reshape, Transpose, Slice, BroadcastTo, Gather, TakeAlongAxis)


@rule(*(log(containing(op, softmax(X, A))) for op in MOVES),
      *(log(containing(op, containing(below, softmax(X, A)))) for op in MOVES for below in MOVES))  # fmt: skip
def log_of_chosen_softmax(out: Value) -> Any:
    """log(softmax(x)[i, j]): of elements that were chosen, or laid out anew."""
    moves = []
    v = out.node.inputs[0]
    while not isinstance(v.node.op, Softmax):
        moves.append(v.node)
        v = v.node.inputs[0]
    made = log_softmax(v.node.inputs[0], v.node.op.axis)
    for m in reversed(moves):
        made = m.owner.node(m.op, (made, *m.inputs[1:])).outputs[0]
    return made


@rule(X - logsumexp(X, A, True))
def subtracted_logsumexp(x: Value, a: int) -> Any:
    return log_softmax(x, a)


# --- logarithms of sums ---------------------------------------------------------------------------


@rule(log(sum_(exp(X), A, K)))
def log_of_sum_of_exp(x: Value, a: Axes, k: bool) -> Any:
    return summed(x, a, k)


@rule(log(sum_(exp(X), A, K) * C), where=lambda c: c > 0)
def log_of_mean_of_exp(x: Value, a: Axes, k: bool, c: Any) -> Any:
    made = summed(x, a, k)
    return made + np.log(c) if isinstance(made, Value) else made


@rule(log(sum_(exp(X), A, K) * (1 / cast(N, D))))
def log_of_mean_of_exp_over_symbols(x: Value, a: Axes, k: bool, n: Value, d: DType) -> Any:
    if not isinstance(n.node.op, SizeOf):
        return decline("the divisor is not a size")
    made = summed(x, a, k)
    return made - log(cast(n, d)) if isinstance(made, Value) else made


@rule(logsumexp(X - MAX, A, True) + MAX)
def centred_logsumexp(x: Value, a: int) -> Any:
    return logsumexp(x, a, True)


def summed(x: Value, axes: Axes, keepdims: bool) -> Any:
    """logsumexp along several axes, which must lie side by side: they are joined."""
    first, last = axes[0], axes[-1]
    if any(x.shape[k] == 0 for k in axes):
        return decline("the sum is of nothing")
    if axes != tuple(range(first, last + 1)):
        return decline("the axes do not lie side by side")
    joined: Shape = (*x.shape[:first], product(x.shape[first : last + 1]), *x.shape[last + 1 :])
    made = logsumexp(reshape(x, joined), first, keepdims)
    if not keepdims:
        return made
    return reshape(made, tuple(1 if k in axes else d for k, d in enumerate(x.shape)))


# --- exponentials and logarithms around 1 ---------------------------------------------------------


@rule(log(exp(X)))
def log_of_exp(x: Value) -> Any:
    return x


@rule(log(sigmoid(X)))
def log_of_sigmoid(x: Value) -> Any:
    return -softplus(negated(x))


@rule(log(1 - sigmoid(X)), log(sigmoid(X) * -1 + 1), log1p(-sigmoid(X)))
def log_of_one_minus_sigmoid(x: Value) -> Any:
    return -softplus(x)


@rule(log(1 + exp(X)), log1p(exp(X)))
def log_of_one_plus_exp(x: Value) -> Any:
    return softplus(x)


@rule(log(1 + X))
def log_of_one_plus(x: Value) -> Any:
    return log1p(x)


@rule(log(1 - X))
def log_of_one_minus(x: Value) -> Any:
    return log1p(negated(x))


@rule(exp(X) - 1, exp(X) + -1)
def exp_minus_one(x: Value) -> Any:
    return expm1(x)


@rule(1 - exp(X))
def one_minus_exp(x: Value) -> Any:
    return -expm1(x)


# --- sigmoid and tanh by hand ---------------------------------------------------------------------


@rule(1 / (1 + exp(-X)))
def sigmoid_by_hand(x: Value) -> Any:
    return sigmoid(x)


@rule(1 / (1 + exp(X)))
def sigmoid_of_negative_by_hand(x: Value) -> Any:
    return sigmoid(-x)


@rule(exp(X) / (1 + exp(X)))
def sigmoid_by_hand_as_ratio(x: Value) -> Any:
    return sigmoid(x)


@rule((exp(X) - exp(-X)) / (exp(X) + exp(-X)))
def tanh_by_hand(x: Value) -> Any:
    return tanh(x)
