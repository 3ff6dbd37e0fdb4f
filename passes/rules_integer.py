"""Identities of integers, truth values and conversions."""

from __future__ import annotations

from typing import Any

from ..dtypes import DType
from ..graph.ir import CALLS, Value
from ..graph.notation import cast, equal, not_equal
from ..graph.ops.base import Op
from ..graph.ops.logic import Ge, Gt, Le, Lt
from ..graph.patterns import applied, decline, numbers, rule, variables
from .facts import holds_all

X, Y, T, U = variables("x y t u")
(C,) = numbers("c")


def of_integers(out: Value) -> Any:
    return out.dtype.is_integer


def ordered(x: Value) -> Any:
    return not x.dtype.is_float or decline("x may be NaN")


# --- division -------------------------------------------------------------------------------------


@rule(X // 1, where=of_integers)
def floordiv_by_one(x: Value) -> Any:
    return x


@rule(X % 1, where=of_integers)
def mod_one() -> Any:
    return 0


def shift_of(c: Any) -> int | None:
    """k where c is 2**k, k > 0."""
    n = int(c)
    return n.bit_length() - 1 if n > 1 and n & (n - 1) == 0 else None


@rule(X // C, where=of_integers)
def floordiv_by_power_of_two(x: Value, c: Any) -> Any:
    k = shift_of(c)
    return None if k is None else x >> k


@rule(X % C, where=of_integers)
def mod_power_of_two(x: Value, c: Any) -> Any:
    return None if shift_of(c) is None else x & (int(c) - 1)


# --- bits and truth values ------------------------------------------------------------------------


@rule(X & X, X | X)
def and_or_itself(x: Value) -> Any:
    return x


@rule(X ^ X)
def xor_itself() -> Any:
    return 0


@rule(X | 0, X ^ 0, X << 0, X >> 0)
def or_zero(x: Value) -> Any:
    return x


@rule(X & 0)
def and_zero() -> Any:
    return 0


@rule(X & C)
def and_all_ones(x: Value, c: Any) -> Any:
    return x if int(~c) == 0 else None


@rule(X | C)
def or_all_ones(c: Any) -> Any:
    return c if int(~c) == 0 else None


@rule(~~X)
def double_not(x: Value) -> Any:
    return x


@rule(~equal(X, Y))
def not_equal_for_not(x: Value, y: Value) -> Any:
    return not_equal(x, y)


@rule(~not_equal(X, Y))
def equal_for_not(x: Value, y: Value) -> Any:
    return equal(x, y)


OPPOSITE: dict[type[Op], type[Op]] = {Lt: Ge, Ge: Lt, Gt: Le, Le: Gt}


@rule(*(~applied(op, X, Y) for op in OPPOSITE), where=ordered)
def comparison_for_not(x: Value, y: Value, out: Value) -> Any:
    opposite = OPPOSITE[type(out.node.inputs[0].node.op)]
    return out.node.owner.node(opposite(), (x, y)).outputs[0]


@rule(equal(X, X), X <= X, X >= X, where=ordered)
def equal_to_itself() -> Any:
    return True


@rule(not_equal(X, X), X < X, X > X, where=ordered)
def differs_from_itself() -> Any:
    return False


def of_truth_values(x: Value) -> bool:
    return x.dtype.kind == "b"


@rule(equal(X, True), not_equal(X, False), where=of_truth_values)
def equal_to_true(x: Value) -> Any:
    return x


@rule(equal(X, False), not_equal(X, True), where=of_truth_values)
def equal_to_false(x: Value) -> Any:
    return ~x


# --- conversions ----------------------------------------------------------------------------------


@rule(cast(X, T))
def cast_to_itself(x: Value, t: DType) -> Any:
    return x if x.dtype == t else None


@rule(cast(cast(X, U), T))
def cast_of_cast(x: Value, u: DType, t: DType) -> Any:
    """Through a dtype that holds every value of the first."""
    if not holds_all(u, x.dtype):
        return decline(f"{u} does not hold every {x.dtype}")
    if u.is_float and not x.dtype.is_float and t.is_integer and not holds_all(t, x.dtype):
        return decline(f"floats saturate in {t}, integers wrap")
    return CALLS["cast"](x, t)
