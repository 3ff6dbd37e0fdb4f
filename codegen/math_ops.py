"""The vocabulary elementary functions are written in, and the idioms they share.

In: values and a `MathOps` that builds or evaluates one primitive operation per call. Out: values.
A function written against `MathOps` is a straight line of IEEE 754 operations, each of which is
the same on every instruction set; so its results are the same bits for every lane count and on
every CPU with a fused multiply-add. Nothing approximate and no contraction is allowed in here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

V = Any  # a float value of the working width (or of the width of `f64()` where said)
I = Any  # an integer value of the same width and lane count  # noqa: E741
M = Any  # one truth value per lane


class MathOps(Protocol):
    """Primitive operations on values with a fixed number of lanes and `width` bits per lane.

    Floats are IEEE binary32 or binary64, rounded to nearest even, subnormals kept. Integers are
    two's complement of the same width and wrap. Comparisons are false if an operand is NaN,
    except `ne`. Signs and payloads of NaN are unspecified.
    """

    @property
    def width(self) -> int:
        """32 or 64."""

    def const(self, x: float) -> V:
        """`x` rounded to the working float type, in every lane."""

    def iconst(self, i: int) -> I:
        """`i` modulo 2^width, in every lane."""

    def add(self, a: V, b: V) -> V: ...
    def sub(self, a: V, b: V) -> V: ...
    def mul(self, a: V, b: V) -> V: ...
    def div(self, a: V, b: V) -> V: ...
    def fma(self, a: V, b: V, c: V) -> V:
        """a * b + c with one rounding."""

    def neg(self, a: V) -> V: ...
    def abs(self, a: V) -> V: ...
    def sqrt(self, a: V) -> V: ...
    def rint(self, a: V) -> V:
        """To the nearest integer, ties to even."""

    def floor(self, a: V) -> V: ...
    def trunc(self, a: V) -> V: ...

    def lt(self, a: V, b: V) -> M: ...
    def le(self, a: V, b: V) -> M: ...
    def gt(self, a: V, b: V) -> M: ...
    def ge(self, a: V, b: V) -> M: ...
    def eq(self, a: V, b: V) -> M: ...
    def ne(self, a: V, b: V) -> M: ...
    def isnan(self, a: V) -> M: ...
    def select(self, m: M, a: V, b: V) -> V:
        """`a` where `m`, else `b`."""

    def and_(self, a: M, b: M) -> M: ...
    def or_(self, a: M, b: M) -> M: ...
    def not_(self, a: M) -> M: ...

    def bits(self, a: V) -> I:
        """The float's bit pattern."""

    def from_bits(self, i: I) -> V: ...
    def iadd(self, a: I, b: I) -> I: ...
    def isub(self, a: I, b: I) -> I: ...
    def imul(self, a: I, b: I) -> I: ...
    def iand(self, a: I, b: I) -> I: ...
    def ior(self, a: I, b: I) -> I: ...
    def ixor(self, a: I, b: I) -> I: ...
    def shl(self, a: I, count: int) -> I: ...
    def lshr(self, a: I, count: int) -> I:
        """Shift right, zeros enter."""

    def ashr(self, a: I, count: int) -> I:
        """Shift right, the sign enters."""

    def ieq(self, a: I, b: I) -> M: ...
    def ilt(self, a: I, b: I) -> M:
        """Signed less than."""

    def iselect(self, m: M, a: I, b: I) -> I: ...
    def to_int(self, a: V) -> I:
        """The integral value of `a`, rounded towards zero; `a` must be in range and not NaN."""

    def from_int(self, i: I) -> V: ...

    def f64(self) -> MathOps:
        """Operations on binary64 values with the same lanes; of a width-32 `MathOps` only."""

    def ext(self, a: V) -> V:
        """A binary32 value as binary64, for `f64()`."""

    def trunc_f32(self, a: V) -> V:
        """A binary64 value of `f64()` rounded to binary32."""


class Format(NamedTuple):
    """A binary float format. `rounder` is the number whose addition leaves an integer in the low
    bits; `ln2_high + ln2_low` is ln(2), and products of ln2_high with exponents cancel exactly."""

    mantissa: int
    bias: int
    rounder: float
    min_normal: float
    sign: int
    ln2_high: float
    ln2_low: float


FORMATS = {
    32: Format(23, 127, 1.5 * 2.0**23, 2.0**-126, 1 << 31,
               float.fromhex("0x1.62e430p-1"), float.fromhex("-0x1.05c610ca86c39p-29")),
    64: Format(52, 1023, 1.5 * 2.0**52, 2.0**-1022, 1 << 63,
               float.fromhex("0x1.62e42fefa39efp-1"), float.fromhex("0x1.abc9e3b39803fp-56")),
}  # fmt: skip


def polynomial(ops: MathOps, coefficients: Sequence[float], x: V) -> V:
    """c0 + c1 x + c2 x^2 + ... by Horner's rule; the far terms of a long one as two sums of even
    and of odd powers, which a CPU can work on side by side."""
    near = list(coefficients)
    if len(near) > 10:
        far, near = near[3:], near[:3]
        square = ops.mul(x, x)
        value = ops.fma(horner(ops, far[1::2], square), x, horner(ops, far[::2], square))
        for c in reversed(near):
            value = ops.fma(value, x, ops.const(c))
        return value
    return horner(ops, near, x)


def horner(ops: MathOps, coefficients: Sequence[float], x: V) -> V:
    """c0 + x (c1 + x (c2 + ...))."""
    value = ops.const(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        value = ops.fma(value, x, ops.const(c))
    return value


def at_most(ops: MathOps, x: V, limit: float) -> V:
    """min(x, limit); NaN stays."""
    top = ops.const(limit)
    return ops.select(ops.lt(top, x), top, x)


def at_least(ops: MathOps, x: V, limit: float) -> V:
    """max(x, limit); NaN stays."""
    bottom = ops.const(limit)
    return ops.select(ops.gt(bottom, x), bottom, x)


def sign_bit(ops: MathOps, x: V) -> I:
    """The sign bit of x, all others zero."""
    return ops.iand(ops.bits(x), ops.iconst(FORMATS[ops.width].sign))


def with_sign(ops: MathOps, magnitude: V, sign: V) -> V:
    """`magnitude`, whose sign bit is clear, with the sign of `sign`."""
    return ops.from_bits(ops.ior(ops.bits(magnitude), sign_bit(ops, sign)))


def flip_sign(ops: MathOps, x: V, sign: I) -> V:
    """x, negated where the bits of `sign` say so."""
    return ops.from_bits(ops.ixor(ops.bits(x), sign))


def two_sum(ops: MathOps, a: V, b: V) -> tuple[V, V]:
    """a + b rounded, and what the rounding lost (Knuth, TAOCP 4.2.2)."""
    s = ops.add(a, b)
    t = ops.sub(s, a)
    return s, ops.add(ops.sub(a, ops.sub(s, t)), ops.sub(b, t))


def fast_two_sum(ops: MathOps, a: V, b: V) -> tuple[V, V]:
    """The same for |a| >= |b| (Dekker 1971)."""
    s = ops.add(a, b)
    return s, ops.add(ops.sub(a, s), b)


def two_product(ops: MathOps, a: V, b: V) -> tuple[V, V]:
    """a * b rounded, and what the rounding lost."""
    p = ops.mul(a, b)
    return p, ops.fma(a, b, ops.neg(p))


def small_int(ops: MathOps, i: I) -> V:
    """A float equal to i, |i| < 2^22. Not every CPU converts 64-bit integers, all can add."""
    if ops.width == 32:
        return ops.from_int(i)
    rounder = FORMATS[64].rounder
    return ops.sub(ops.from_bits(ops.iadd(i, ops.bits(ops.const(rounder)))), ops.const(rounder))


def inverse_ln2(ops: MathOps) -> V:
    """1 / ln(2)."""
    return ops.const(1 / math.log(2))
