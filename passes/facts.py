"""What can be told about the elements of a value from how it is computed.

In: a value. Out: True where a fact is certain, False where nothing is known. NaN counts as neither
negative nor a zero. Only a few steps are looked back.
"""

from __future__ import annotations

from ..dtypes import DType
from ..graph.ir import Value
from ..graph.patterns import number_of

_FAR = 4  # steps looked back
_POSITIVE = frozenset({"exp", "exp2", "sigmoid", "softplus", "cosh"})  # or +0, by underflow
_SAME = frozenset({"reshape", "transpose", "broadcast_to", "slice", "stop_gradient", "gather",
                   "reduce_max", "reduce_min"})  # fmt: skip


def nonnegative(v: Value, depth: int = 0) -> bool:
    """Whether no element is below zero; -0.0 is not."""
    if v.dtype.kind in "ub":
        return True
    number = number_of(v)
    if number is not None:
        return bool(number >= 0)
    op, xs = v.node.op.name, v.node.inputs
    if op in _POSITIVE or op == "relu":
        return True
    if op == "abs":
        return v.dtype.is_float  # that of the smallest integer is itself
    if depth == _FAR:
        return False
    if op in _SAME:
        return nonnegative(xs[0], depth + 1)
    if op == "mul" and v.dtype.is_float and xs[0] is xs[1]:
        return True
    if op in ("add", "mul") and v.dtype.is_float:
        return all(nonnegative(x, depth + 1) for x in xs)
    if op == "maximum":
        return any(nonnegative(x, depth + 1) for x in xs)
    return False


def never_minus_zero(v: Value, depth: int = 0) -> bool:
    """Whether no element is -0.0."""
    if not v.dtype.is_float:
        return True
    number = number_of(v)
    if number is not None:
        return not (number == 0 and str(number).startswith("-"))
    op, xs = v.node.op.name, v.node.inputs
    if op in _POSITIVE or op == "abs":
        return True
    if op == "mul" and xs[0] is xs[1]:
        return True
    if depth == _FAR:
        return False
    if op in _SAME:
        return never_minus_zero(xs[0], depth + 1)
    if op == "add":  # rounding to nearest, a sum is -0.0 only where both terms are
        return any(never_minus_zero(x, depth + 1) for x in xs)
    if op == "cast":
        return not xs[0].dtype.is_float
    return False


def holds_all(wide: DType, narrow: DType) -> bool:
    """Whether every value of `narrow` is a value of `wide`."""
    if wide == narrow or narrow.kind == "b":
        return True
    if wide.kind == "b":
        return False
    if wide.is_float:
        if narrow.is_float:
            return _digits(wide) >= _digits(narrow) and _range(wide) >= _range(narrow)
        return _digits(wide) >= narrow.bits - (narrow.kind == "i") and _range(wide) > narrow.bits
    if narrow.is_float:
        return False
    if wide.kind == narrow.kind:
        return wide.bits >= narrow.bits
    return wide.kind == "i" and wide.bits > narrow.bits


def _digits(d: DType) -> int:
    """Bits of precision of a float."""
    return {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}[d.name]


def _range(d: DType) -> int:
    """The exponent up to which a float goes."""
    return {"float16": 16, "bfloat16": 128, "float32": 128, "float64": 1024}[d.name]
