"""Identities of maximum, minimum, relu and where. Which zero a maximum of zeros is, is open."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..graph.ir import Value
from ..graph.notation import maximum, minimum, relu, stop_gradient, where
from ..graph.ops.source import Constant
from ..graph.patterns import decline, number_of, numbers, rule, variables
from .facts import nonnegative

X, Y, Z, W = variables("x y z w")
C, D = numbers("c d")


def no_nan(c: Any, d: Any) -> Any:
    return not (np.isnan(c) or np.isnan(d)) or decline("a bound is NaN")


# --- maximum and minimum --------------------------------------------------------------------------


@rule(maximum(X, X), minimum(X, X))
def extreme_of_itself(x: Value) -> Any:
    return x


@rule(maximum(maximum(X, Y), Y))
def maximum_again(x: Value, y: Value) -> Any:
    return maximum(x, y)


@rule(minimum(minimum(X, Y), Y))
def minimum_again(x: Value, y: Value) -> Any:
    return minimum(x, y)


@rule(maximum(maximum(X, C), D), where=no_nan)
def maximum_of_numbers(x: Value, c: Any, d: Any) -> Any:
    return maximum(x, max(c, d))


@rule(minimum(minimum(X, C), D), where=no_nan)
def minimum_of_numbers(x: Value, c: Any, d: Any) -> Any:
    return minimum(x, min(c, d))


@rule(maximum(minimum(X, C), D), where=no_nan)
def empty_range(x: Value, c: Any, d: Any, out: Value) -> Any:
    """Above every bound from above there is one number only, where NaN cannot be."""
    if c > d:
        return None
    return decline("x may be NaN") if out.dtype.is_float else d


# --- relu -----------------------------------------------------------------------------------------


@rule(maximum(X, 0), maximum(X, -0.0))
def maximum_with_zero(x: Value, out: Value) -> Any:
    return relu(x) if out.dtype.kind in "fi" else x if out.dtype.kind == "u" else None


@rule(relu(X))
def relu_of_nonnegative(x: Value) -> Any:
    return x if nonnegative(x) else None


@rule(maximum(relu(X), C), where=lambda c: not np.isnan(c))
def maximum_of_relu(x: Value, c: Any) -> Any:
    return relu(x) if c <= 0 else maximum(x, c)


@rule(relu(maximum(X, C)), where=lambda c: not np.isnan(c))
def relu_of_maximum(x: Value, c: Any) -> Any:
    return relu(x) if c <= 0 else maximum(x, c)


# --- where ----------------------------------------------------------------------------------------


def decided(cond: Value) -> bool | None:
    """What a condition that is the same for all elements is."""
    number = number_of(cond)
    if number is not None:
        return bool(number)
    op = cond.node.op
    if isinstance(op, Constant) and op.data.array.size:
        return True if op.data.array.all() else None if op.data.array.any() else False
    return None


@rule(where(X, Y, Z))
def where_decided(x: Value, y: Value, z: Value) -> Any:
    chosen = decided(x)
    return None if chosen is None else y if chosen else z


@rule(where(X, Y, Y))
def where_same(y: Value) -> Any:
    return y


@rule(where(~X, Y, Z))
def where_not(x: Value, y: Value, z: Value) -> Any:
    return where(x, z, y)


@rule(where(X, where(X, Y, Z), W))
def where_where_true(x: Value, y: Value, w: Value) -> Any:
    return where(x, y, w)


@rule(where(X, W, where(X, Y, Z)))
def where_where_false(x: Value, w: Value, z: Value) -> Any:
    return where(x, w, z)


@rule(where(X, True, False))
def where_true_false(x: Value, out: Value) -> Any:
    return x if out.dtype.kind == "b" else None


@rule(where(X, False, True))
def where_false_true(x: Value, out: Value) -> Any:
    return ~x if out.dtype.kind == "b" else None


# --- values passed on -----------------------------------------------------------------------------


@rule(stop_gradient(X))
def gradient_was_stopped(x: Value) -> Any:
    """Gradients are nodes by now."""
    return x
