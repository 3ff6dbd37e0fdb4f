"""Reductions, and sums and products that run along an axis."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from .....algorithm import extreme
from .....dtypes import bool_, uint8
from ....ir import Value
from ....ops import elementary, pointwise, reduce, softmax
from ....ops.base import normal_axes
from ....ops.creation import full
from ....ops.cumulative import cumprod, cumsum
from ....ops.norms import norm
from ..call import Call
from ..registry import converter


def _axes(call: Call, x: Value) -> tuple[int, ...] | None:
    """The axes to reduce, an attribute once, an operand today; None where there is nothing to do."""
    given: tuple[int, ...] | None
    if call.has(1):
        given = tuple(call.ints(1))
    else:
        given = call.integers("axes")
    if given:
        return given
    if call.flag("noop_with_empty_axes"):
        return None
    return tuple(range(x.ndim))


def _sum(x: Value, axes: tuple[int, ...], keep: bool) -> Value:
    return pointwise.cast(reduce.sum_(x, axes, keep), x.dtype)


def _prod(x: Value, axes: tuple[int, ...], keep: bool) -> Value:
    return pointwise.cast(reduce.prod(x, axes, keep), x.dtype)


def _extreme(to: Callable[..., Value], sign: int) -> Callable[..., Value]:
    """The largest (sign -1) or smallest (1) element; of none the one that any other exceeds."""

    def take(x: Value, axes: tuple[int, ...], keep: bool) -> Value:
        if x.dtype == bool_:
            return pointwise.cast(take(pointwise.cast(x, uint8), axes, keep), bool_)
        if any(x.shape[a] == 0 for a in axes):
            return _of_nothing(x, axes, keep, extreme(x.dtype, sign))
        return to(x, axes, keep)

    return take


def _of_nothing(x: Value, axes: tuple[int, ...], keep: bool, value: float) -> Value:
    """What a reduction of no elements gives, in the shape of its result."""
    inside = normal_axes(axes, x.ndim)
    shape = [1 if k in inside else d for k, d in enumerate(x.shape) if keep or k not in inside]
    return full(shape, value, x.dtype, x.node.owner)


def _as_float(to: Callable[..., Value]) -> Callable[..., Value]:
    """A reduction of floats; integers are converted there and back."""

    def take(x: Value, axes: tuple[int, ...], keep: bool) -> Value:
        if x.dtype.is_float:
            return to(x, axes, keep)
        wide = pointwise.cast(x, "float64")
        return pointwise.cast(to(wide, axes, keep), x.dtype)

    return take


def _mean(x: Value, axes: tuple[int, ...], keep: bool) -> Value:
    return reduce.mean(x, axes, keep)


def _l1(x: Value, axes: tuple[int, ...], keep: bool) -> Value:
    return _sum(pointwise.abs_(x), axes, keep)


def _l2(x: Value, axes: tuple[int, ...], keep: bool) -> Value:
    return norm(x, 2.0, axes, keep)


def _sum_square(x: Value, axes: tuple[int, ...], keep: bool) -> Value:
    return _sum(x * x, axes, keep)


def _log_sum(x: Value, axes: tuple[int, ...], keep: bool) -> Value:
    return elementary.log(reduce.sum_(x, axes, keep))


def _log_sum_exp(x: Value, axes: tuple[int, ...], keep: bool) -> Value:
    if any(x.shape[a] == 0 for a in axes):
        return _of_nothing(x, axes, keep, -inf)
    return softmax.logsumexp(x, axes, keep)


def _reduction(to: Callable[[Value, tuple[int, ...], bool], Value]) -> Callable[[Call], Value]:
    def convert(call: Call) -> Value:
        x = call.value(0)
        axes = _axes(call, x)
        if axes is None:  # each element by itself
            return to(x, (), True)
        return to(x, axes, call.flag("keepdims", True))

    return convert


for _name, _to in {
    "ReduceSum": _sum, "ReduceProd": _prod, "ReduceMax": _extreme(reduce.reduce_max, -1),
    "ReduceMin": _extreme(reduce.reduce_min, 1), "ReduceMean": _as_float(_mean), "ReduceL1": _l1,
    "ReduceL2": _as_float(_l2), "ReduceSumSquare": _sum_square, "ReduceLogSum": _as_float(_log_sum),
    "ReduceLogSumExp": _as_float(_log_sum_exp),
}.items():  # fmt: skip
    converter(_name)(_reduction(_to))


@converter("ArgMax", "ArgMin")
def _place(call: Call) -> Value:
    to = reduce.argmax if call.node.op_type == "ArgMax" else reduce.argmin
    return to(call.value(0), call.integer("axis", 0), call.flag("keepdims", True),
              call.flag("select_last_index"))  # fmt: skip


@converter("CumSum", "CumProd")
def _running(call: Call) -> Value:
    to = cumsum if call.node.op_type == "CumSum" else cumprod
    x = call.value(0)
    (axis,) = call.ints(1)
    made = to(x, axis, call.flag("exclusive"), call.flag("reverse"))
    return pointwise.cast(made, x.dtype)
