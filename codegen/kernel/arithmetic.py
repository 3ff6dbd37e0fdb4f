"""What every function of `algorithm.FUNCTIONS` computes, on NumPy arrays: arrays in, arrays out.

Arithmetic, comparisons, square root, fma and conversions are exact in their dtype: every result is
the correctly rounded one (integers wrap). The other functions of floats are computed in float64
and rounded, so native code may differ from them by the few ulps its documentation states.
Callers silence NumPy's floating-point warnings.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from ...dtypes import Array, DType, bool_


def fma(a: Any, b: Any, c: Any) -> Array:
    """`a*b + c` rounded once; integers wrap.

    float32: the product is exact in float64; the sum is rounded to odd there, which leaves the
    final rounding right (Boldo and Melquiond, "Emulation of FMA", 2008).
    """
    a, b, c = np.broadcast_arrays(a, b, c)
    if a.dtype.kind != "f":
        return np.asarray(a * b + c)
    if a.dtype == np.float64:
        return np.asarray(np.frompyfunc(_fma64, 3, 1)(a, b, c), np.float64)
    p, q = a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64)
    s = np.atleast_1d(p + q)
    back = s - p
    lost = (p - (s - back)) + (q - back)
    even = (s.view(np.int64) & 1) == 0
    odd = np.where(even & (lost != 0) & np.isfinite(s), np.nextafter(s, lost * np.inf), s)
    return np.asarray(odd.astype(np.float32).reshape(a.shape))


def _fma64(a: float, b: float, c: float) -> float:
    if not (math.isfinite(a) and math.isfinite(b) and math.isfinite(c)):
        return a * b + c
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if not exact:
        return a * b + c  # for the sign of zero
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


def _integer_power(base: Any, exponent: Any) -> Array:
    """`base ** exponent`, wrapping; exponent >= 0."""
    base, exponent = np.broadcast_arrays(base, exponent)
    out, left = np.ones_like(base), exponent.copy()
    while np.any(left):
        out = np.where(left & 1, out * base, out)
        base, left = base * base, left >> 1
    return np.asarray(out)


def _sigmoid(x: Array) -> Array:
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1 / (1 + small), small / (1 + small)))


def _erf(x: Array) -> Array:
    return np.asarray(np.frompyfunc(math.erf, 1, 1)(x), np.float64)


_EXACT: dict[str, Callable[..., Any]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "fma": fma,
    "floordiv": np.floor_divide, "mod": np.remainder, "min": np.minimum, "max": np.maximum,
    "neg": np.negative, "abs": np.abs, "sign": np.sign, "floor": np.floor, "ceil": np.ceil,
    "round": np.rint, "trunc": np.trunc, "sqrt": np.sqrt,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "not": np.invert,
    "shl": np.left_shift, "shr": np.right_shift,
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal, "isnan": np.isnan, "isinf": np.isinf, "isfinite": np.isfinite,
}  # fmt: skip
_IN_DOUBLE: dict[str, Callable[..., Any]] = {
    "pow": np.power, "rsqrt": lambda x: 1 / np.sqrt(x), "exp": np.exp, "expm1": np.expm1,
    "exp2": np.exp2, "log": np.log, "log1p": np.log1p, "log2": np.log2, "sin": np.sin,
    "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
    "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "sigmoid": _sigmoid, "erf": _erf,
    "softplus": lambda x: np.logaddexp(0, x),
}  # fmt: skip


def evaluate(fn: str, args: list[Any], dtype: DType, live: Any = True) -> Any:
    """`fn` of arrays or scalars of one dtype, `dtype`.

    Raises ArithmeticError where a live lane leaves the function's domain (integer division by
    zero, a shift by the width or more, a negative integer power): native code is undefined there.
    """
    if not dtype.is_float and fn in ("floordiv", "mod", "shl", "shr", "pow"):
        fits = _domain(fn, args[1], dtype)
        if np.any(~fits & live):
            raise ArithmeticError(f"{fn} by {args[1]} is undefined on {dtype!r}")
        args = [args[0], np.where(fits, args[1], np.ones_like(args[1]))]
        if fn == "pow":
            return _integer_power(*args)
    exact = _EXACT.get(fn)
    if exact is not None:
        return exact(*args)
    wide = _IN_DOUBLE[fn](*(np.asarray(a, np.float64) for a in args))
    return np.asarray(wide).astype(dtype.numpy)


def _domain(fn: str, right: Any, dtype: DType) -> Any:
    if fn in ("shl", "shr"):
        return (right >= 0) & (right < dtype.bits)
    return np.asarray(right >= 0) if fn == "pow" else np.asarray(right != 0)


def convert(x: Any, source: DType, to: DType) -> Any:
    """`x` converted: float to integer truncates and saturates (NaN is 0), integers wrap.

    16-bit floats come from other types by way of float32, but for float64 to float16.
    """
    if source == to:
        return x
    x = np.asarray(x)
    if to == bool_:
        return x != 0
    if not (source.is_float and to.is_integer):
        return x.astype(to.numpy)
    info, whole = np.iinfo(to.numpy), np.trunc(x.astype(np.float64))
    above, below = whole >= 2.0 ** (to.bits - (to.kind == "i")), whole < float(info.min)
    inside = np.where(above | below | np.isnan(whole), 0, whole).astype(to.numpy)
    high, low = np.array(info.max, to.numpy), np.array(info.min, to.numpy)
    return np.where(above, high, np.where(below, low, inside))


def lanes(fn: str, row: Array) -> Any:
    """All elements of `row` (a power of two of them) joined by the tree `LaneReduce` documents."""
    while len(row) > 1:
        half = len(row) // 2
        row = _EXACT[fn](row[:half], row[half:])
    return row[0]
