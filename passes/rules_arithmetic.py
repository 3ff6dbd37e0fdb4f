"""Identities of arithmetic that hold bit for bit, with rounding, infinities, NaNs and signed zeros;
those that hold for integers alone say so."""

from __future__ import annotations

from math import frexp
from typing import Any

import numpy as np

from ..graph.ir import Value
from ..graph.notation import abs_
from ..graph.ops.base import Op
from ..graph.ops.logic import And, Eq, Ge, Gt, Le, Lt, Ne, Or, Xor
from ..graph.ops.pointwise import Add, Maximum, Minimum, Mul
from ..graph.patterns import applied, decline, number_of, numbers, rule, variables
from .facts import never_minus_zero, nonnegative

X, Y = variables("x y")
C, D = numbers("c d")


def of_integers(out: Value) -> Any:
    return out.dtype.is_integer or decline("holds for integers only")


# --- order ----------------------------------------------------------------------------------------

SYMMETRIC: tuple[type[Op], ...] = (Add, Mul, Maximum, Minimum, Eq, Ne, And, Or, Xor)
TURNED: dict[type[Op], type[Op]] = {Lt: Gt, Gt: Lt, Le: Ge, Ge: Le}


@rule(*(applied(op, C, X) for op in (*SYMMETRIC, *TURNED)))
def constant_goes_right(out: Value) -> Any:
    first, second = out.node.inputs
    if number_of(first) is None or number_of(second) is not None:
        return None
    turned = TURNED.get(type(out.node.op))
    op = turned() if turned else out.node.op
    return out.node.owner.node(op, (second, first)).outputs[0]


# --- signs ----------------------------------------------------------------------------------------


@rule(-(-X))  # noqa: B002
def double_negation(x: Value) -> Any:
    return x


@rule(X + -Y)
def plus_negative(x: Value, y: Value) -> Any:
    return x - y


@rule(X - -Y)
def minus_negative(x: Value, y: Value) -> Any:
    return x + y


@rule(-(X - Y), where=of_integers)
def negated_difference(x: Value, y: Value) -> Any:
    return y - x


@rule(-X * -Y)
def product_of_negatives(x: Value, y: Value) -> Any:
    return x * y


@rule(-X / -Y)
def ratio_of_negatives(x: Value, y: Value) -> Any:
    return x / y


@rule(-(X * C), -X * C)
def negative_times_number(x: Value, c: Any) -> Any:
    return x * -c


@rule(-(X / C), -X / C)
def negative_over_number(x: Value, c: Any) -> Any:
    return x / -c


@rule(abs_(-X), abs_(abs_(X)))
def absolute_of_negative(x: Value) -> Any:
    return abs_(x)


@rule(abs_(X) * abs_(X))
def square_of_absolute(x: Value) -> Any:
    return x * x


@rule(abs_(X))
def absolute_of_nonnegative(x: Value) -> Any:
    return x if nonnegative(x) and never_minus_zero(x) else None


# --- neutral and absorbing numbers ----------------------------------------------------------------


@rule(X + 0, X + -0.0)
def plus_zero(x: Value, out: Value) -> Any:
    c = number_of(out.node.inputs[1])
    if out.dtype.is_float and not (c == 0 and np.signbit(c)) and not never_minus_zero(x):
        return decline("x may be -0.0, and -0.0 + 0.0 is 0.0")
    return x


@rule(X - 0)
def minus_zero(x: Value) -> Any:
    return x


@rule(0 - X)
def zero_minus(x: Value, out: Value) -> Any:
    return -x if out.dtype.is_integer else decline("0.0 - 0.0 is 0.0, -(0.0) is -0.0")


@rule(X * 1, X / 1)
def times_one(x: Value) -> Any:
    return x


@rule(X * -1, X / -1)
def times_minus_one(x: Value) -> Any:
    return -x


@rule(X * 0)
def times_zero(out: Value) -> Any:
    return decline("x may be NaN, infinite or negative") if out.dtype.is_float else 0


@rule(X - X)
def minus_itself(out: Value) -> Any:
    return decline("x may be NaN or infinite") if out.dtype.is_float else 0


# --- numbers that meet ----------------------------------------------------------------------------


@rule((X + C) + D, where=of_integers)
def sum_with_numbers(x: Value, c: Any, d: Any) -> Any:
    return x + (c + d)


@rule(X - C, where=of_integers)
def minus_number(x: Value, c: Any) -> Any:
    return x + -c


@rule((X * C) * D, where=of_integers)
def product_with_numbers(x: Value, c: Any, d: Any) -> Any:
    return x * (c * d)


@rule(X / C)
def over_power_of_two(x: Value, c: Any) -> Any:
    if not power_of_two(c) or not power_of_two(1 / c):
        return decline("1 / c is not exact")
    return x * (1 / c)


def power_of_two(c: Any) -> bool:
    """Whether multiplying by c changes nothing but the exponent."""
    small = np.finfo(c.dtype).tiny
    return bool(np.isfinite(c) and abs(c) >= small and abs(frexp(float(c))[0]) == 0.5)


# --- powers ---------------------------------------------------------------------------------------


@rule(X**C)
def small_power(x: Value, c: Any) -> Any:
    """Products are as accurate as the function, and faster."""
    if c == 0:
        return 1
    if c == 1:
        return x
    square = x * x
    if c in (2, 3, 4):
        return square if c == 2 else square * x if c == 3 else square * square
    if c == -1:
        return 1 / x
    return None


@rule(C**X)
def power_of_one(c: Any) -> Any:
    return 1 if c == 1 else None
