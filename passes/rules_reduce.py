"""Identities of reductions. Sums may be taken in another order, never of more elements."""

from __future__ import annotations

from typing import Any

from ..dims import bounds, product
from ..graph.ir import CALLS, Shape, Value
from ..graph.notation import (
    broadcast_to,
    containing,
    reduce_max,
    reduce_min,
    reshape,
    sum_,
    transpose,
)
from ..graph.ops.base import make
from ..graph.ops.reduce import Argmax, Argmin, Prod, ReduceMax, ReduceMin, Sum
from ..graph.patterns import decline, once, rule, variables

X, A, B, K, L, S, P = variables("x a b k l s p")
Axes = tuple[int, ...]
PLAIN = (Sum, Prod, ReduceMax, ReduceMin)


# --- nested and trivial ---------------------------------------------------------------------------


def below(inner: Axes, keepdims: bool, outer: Axes, ndim: int) -> Axes:
    """The axes of both of two nested reductions, counted in the operand of the inner one."""
    left = [k for k in range(ndim) if keepdims or k not in inner]
    return tuple(sorted({*inner, *(left[k] for k in outer)}))


@rule(
    reduce_max(once(reduce_max(X, A, K)), B, L),
    reduce_min(once(reduce_min(X, A, K)), B, L),
    sum_(once(sum_(X, A, K)), B, L),
)
def nested_reduction(x: Value, a: Axes, k: bool, b: Axes, l: bool, out: Value) -> Any:  # noqa: E741
    op: Any = out.node.op
    if out.dtype.is_float and isinstance(op, Sum):
        return decline("the terms would be added in another order")
    axes = below(a, k, b, x.ndim)
    made = make(type(op)(axes, l), x)
    return reshape(made, out.shape)


@rule(*(containing(op, X) for op in PLAIN))
def reduction_of_ones(x: Value, out: Value) -> Any:
    """Along axes of one element there is nothing to combine."""
    op: Any = out.node.op
    axes = tuple(k for k in op.axes if x.shape[k] != 1)
    if axes == op.axes:
        return None
    made = make(type(op)(axes, True), x) if axes else CALLS["cast"](x, out.dtype)
    return reshape(made, out.shape)


# --- the shape of the result ----------------------------------------------------------------------


@rule(*(reshape(once(containing(op, X)), S) for op in (*PLAIN, Argmax, Argmin)))
def reshaped_reduction(x: Value, s: Shape, out: Value) -> Any:
    """A reduction leaves its axes out, or keeps them as ones, by itself."""
    reduction = out.node.inputs[0].node
    op: Any = reduction.op
    axes, keeps = op.axes, op.keepdims
    shape = tuple(1 if k in axes else d for k, d in enumerate(x.shape))
    if keeps:
        shape = tuple(d for k, d in enumerate(shape) if k not in axes)
    if shape != s or shape == reduction.types[0].shape:
        return None
    return make(type(op)(axes, not keeps), x)


# --- what is reduced ------------------------------------------------------------------------------


@rule(*(containing(op, transpose(X, P)) for op in PLAIN))
def reduction_of_transposed(x: Value, p: Axes, out: Value) -> Any:
    """Reduced where it lies, if what is left stays in order."""
    op: Any = out.node.op
    axes = tuple(sorted(p[k] for k in op.axes))
    left = [i for i in p if i not in axes]
    if left != sorted(left):
        return None
    if op.keepdims and any(p[k] != k for k in range(len(p)) if k not in op.axes):
        return None
    return make(type(op)(axes, op.keepdims), x)


@rule(*(containing(op, reshape(X, S)) for op in PLAIN))
def whole_reduction_of_reshaped(x: Value, s: Shape, out: Value) -> Any:
    """All elements are all elements under any shape."""
    op: Any = out.node.op
    if len(op.axes) != len(s) or not x.ndim:
        return None
    return reshape(make(type(op)(tuple(range(x.ndim)), False), x), out.shape)


@rule(*(containing(op, broadcast_to(X, S)) for op in (Sum, ReduceMax, ReduceMin)))
def reduction_of_repeated(x: Value, s: Shape, out: Value) -> Any:
    """The extreme of equal numbers is that number, their sum a product."""
    op: Any = out.node.op
    skip = len(s) - x.ndim
    repeated = [k for k in op.axes if k < skip or (x.shape[k - skip] == 1 and s[k] != 1)]
    if not repeated:
        return None
    count = product(s[k] for k in repeated)
    low, _ = bounds(count)
    if low is None or low < 1:
        return decline("there may be nothing to reduce")
    rest = tuple(k for k in op.axes if k not in repeated)
    once = reshape(x, tuple(1 for _ in range(skip)) + x.shape)
    once = broadcast_to(once, tuple(1 if k in repeated else d for k, d in enumerate(s)))
    made = make(type(op)(rest, True), once) if rest else CALLS["cast"](once, out.dtype)
    if isinstance(op, Sum):
        made = made * (count if isinstance(count, int) else
                       CALLS["cast"](CALLS["size_of"](count, x.node.owner), out.dtype))  # fmt: skip
    return reshape(made, out.shape)
