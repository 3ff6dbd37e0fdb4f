"""`MathOps` evaluated in NumPy, bit for bit as IEEE 754 asks, fma included: the oracle for native
code. Slow, and right."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
_FLOAT: dict[int, Any] = {32: np.float32, 64: np.float64}
_INT: dict[int, Any] = {32: np.int32, 64: np.int64}


def _two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def _round_to_odd(a: Array, b: Array) -> Array:
    """a + b (doubles) where an inexact sum is given an odd last bit, so that rounding it again to
    fewer bits is as good as rounding once (Boldo and Melquiond 2008)."""
    s, e = _two_sum(a, b)
    bits = np.asarray(s).view(np.int64)
    inexact = np.isfinite(s) & (e != 0) & ((bits & 1) == 0)
    away = (e > 0) == (s > 0)
    return np.where(inexact, np.where(away, bits + 1, bits - 1), bits).view(np.float64)


def _two_product(a: Array, b: Array) -> tuple[Array, Array]:
    p = a * b
    split = 134217729.0
    t, u = split * a, split * b
    ah, bh = t - (t - a), u - (u - b)
    al, bl = a - ah, b - bh
    return p, ((ah * bh - p) + ah * bl + al * bh) + al * bl


def _exact(a: float, b: float, c: float) -> float:
    total = Fraction(a) * Fraction(b) + Fraction(c)
    if total == 0:
        return a * b + c  # the sign of zero
    try:
        return float(total)
    except OverflowError:
        return float("inf") if total > 0 else float("-inf")


def fma(a: Array, b: Array, c: Array) -> Array:
    """a * b + c rounded once."""
    a, b, c = np.broadcast_arrays(a, b, c)
    with np.errstate(all="ignore"):
        if a.dtype == np.float32:
            p = a.astype(np.float64) * b.astype(np.float64)
            return _round_to_odd(p, c.astype(np.float64)).astype(np.float32)
        out = a * b + c
        size = np.maximum(np.abs(a) * np.abs(b), np.abs(c))
        least = np.minimum(np.where(c == 0, 1, np.abs(c)), np.abs(a) * np.abs(b))
        easy = (size < 1e200) & (least > 1e-200) & (np.abs(a) < 1e200) & (np.abs(b) < 1e200)
        easy &= (np.abs(a) > 1e-200) & (np.abs(b) > 1e-200)
        uh, ul = _two_product(a, b)
        th, tl = _two_sum(c, ul)
        vh, vl = _two_sum(uh, th)
        out = np.where(easy, vh + _round_to_odd(tl, vl), out)
        zero = (a == 0) | (b == 0)  # then a * b + c rounds once at most
        hard = ~easy & ~zero & np.isfinite(a) & np.isfinite(b) & np.isfinite(c)
        for i in zip(*np.nonzero(hard)):
            out[i] = _exact(float(a[i]), float(b[i]), float(c[i]))
        return np.asarray(out)


class NumpyMath:
    """Values are arrays of any shape."""

    def __init__(self, width: int) -> None:
        self.width = width

    def const(self, x: float) -> Any:
        return _FLOAT[self.width](x)

    def iconst(self, i: int) -> Any:
        i &= (1 << self.width) - 1
        return _INT[self.width](i - (1 << self.width) if i >> (self.width - 1) else i)

    def add(self, a: Any, b: Any) -> Any:
        return a + b

    def sub(self, a: Any, b: Any) -> Any:
        return a - b

    def mul(self, a: Any, b: Any) -> Any:
        return a * b

    def div(self, a: Any, b: Any) -> Any:
        return a / b

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        return fma(a, b, c)

    def neg(self, a: Any) -> Any:
        return -a

    def abs(self, a: Any) -> Any:
        return np.abs(a)

    def sqrt(self, a: Any) -> Any:
        return np.sqrt(a)

    def rint(self, a: Any) -> Any:
        return np.rint(a)

    def floor(self, a: Any) -> Any:
        return np.floor(a)

    def trunc(self, a: Any) -> Any:
        return np.trunc(a)

    def lt(self, a: Any, b: Any) -> Any:
        return a < b

    def le(self, a: Any, b: Any) -> Any:
        return a <= b

    def gt(self, a: Any, b: Any) -> Any:
        return a > b

    def ge(self, a: Any, b: Any) -> Any:
        return a >= b

    def eq(self, a: Any, b: Any) -> Any:
        return a == b

    def ne(self, a: Any, b: Any) -> Any:
        return a != b

    def isnan(self, a: Any) -> Any:
        return np.isnan(a)

    def select(self, m: Any, a: Any, b: Any) -> Any:
        return np.where(m, a, b)

    def and_(self, a: Any, b: Any) -> Any:
        return a & b

    def or_(self, a: Any, b: Any) -> Any:
        return a | b

    def not_(self, a: Any) -> Any:
        return ~a

    def bits(self, a: Any) -> Any:
        return a.view(_INT[self.width])

    def from_bits(self, i: Any) -> Any:
        return i.view(_FLOAT[self.width])

    def iadd(self, a: Any, b: Any) -> Any:
        return a + b

    def isub(self, a: Any, b: Any) -> Any:
        return a - b

    def imul(self, a: Any, b: Any) -> Any:
        return a * b

    def iand(self, a: Any, b: Any) -> Any:
        return a & b

    def ior(self, a: Any, b: Any) -> Any:
        return a | b

    def ixor(self, a: Any, b: Any) -> Any:
        return a ^ b

    def shl(self, a: Any, count: int) -> Any:
        return a << self.iconst(count)

    def lshr(self, a: Any, count: int) -> Any:
        unsigned = {32: np.uint32, 64: np.uint64}[self.width]
        return (a.view(unsigned) >> unsigned(count)).view(_INT[self.width])

    def ashr(self, a: Any, count: int) -> Any:
        return a >> self.iconst(count)

    def ieq(self, a: Any, b: Any) -> Any:
        return a == b

    def ilt(self, a: Any, b: Any) -> Any:
        return a < b

    def iselect(self, m: Any, a: Any, b: Any) -> Any:
        return np.where(m, a, b)

    def to_int(self, a: Any) -> Any:
        return a.astype(_INT[self.width])

    def from_int(self, i: Any) -> Any:
        return i.astype(_FLOAT[self.width])

    def f64(self) -> NumpyMath:
        return NumpyMath(64)

    def ext(self, a: Any) -> Any:
        return a.astype(np.float64)

    def trunc_f32(self, a: Any) -> Any:
        return a.astype(np.float32)
