"""asin, acos, atan, atan2."""

from __future__ import annotations

import math

from . import math_coefficients as c
from .math_ops import M, MathOps, V, flip_sign, polynomial, sign_bit, with_sign

_ASIN = {32: c.ASIN_32, 64: c.ASIN_64}
_ATAN = {32: c.ATAN_32, 64: c.ATAN_64}
_HALF_PI_HIGH = {32: float.fromhex("0x1.921fb6p+0"), 64: float.fromhex("0x1.921fb54442d18p+0")}
_HALF_PI_LOW = {32: float.fromhex("-0x1.777a5cf72cecep-25"),
                64: float.fromhex("0x1.1a62633145c07p-54")}  # fmt: skip


def _asin_parts(ops: MathOps, x: V) -> tuple[M, V, V]:
    """(|x| > 1/2, s, asin(s) - s) with s = |x|, or sqrt((1 - |x|) / 2) where |x| > 1/2: there
    asin|x| = pi/2 - 2 asin(s). NaN for |x| > 1."""
    a = ops.abs(x)
    far = ops.gt(a, ops.const(0.5))
    half = ops.fma(a, ops.const(-0.5), ops.const(0.5))
    z = ops.select(far, half, ops.mul(a, a))
    s = ops.select(far, ops.sqrt(half), a)
    return far, s, ops.mul(ops.mul(s, z), polynomial(ops, _ASIN[ops.width], z))


def asin(ops: MathOps, x: V) -> V:
    """Arcsine in [-pi/2, pi/2]; NaN outside [-1, 1]."""
    far, s, tail = _asin_parts(ops, x)
    two, half_pi = ops.const(-2.0), ops.const(_HALF_PI_HIGH[ops.width])
    high = ops.fma(s, two, half_pi)
    lost = ops.fma(s, two, ops.sub(half_pi, high))
    low = ops.add(ops.fma(tail, two, ops.const(_HALF_PI_LOW[ops.width])), lost)
    y = ops.add(ops.select(far, high, s), ops.select(far, low, tail))
    return with_sign(ops, y, x)


def acos(ops: MathOps, x: V) -> V:
    """Arccosine in [0, pi]; NaN outside [-1, 1]. Beyond 1/2 it is 2 asin(s), or pi - 2 asin(s);
    else pi/2 - asin(x)."""
    far, s, tail = _asin_parts(ops, x)
    sign = sign_bit(ops, x)
    s, tail = flip_sign(ops, s, sign), flip_sign(ops, tail, sign)
    right = ops.and_(far, ops.gt(x, ops.const(0.0)))
    factor = ops.select(far, ops.const(2.0), ops.const(-1.0))
    zero = ops.const(0.0)
    turn = ops.select(far, ops.const(2 * _HALF_PI_HIGH[ops.width]),
                      ops.const(_HALF_PI_HIGH[ops.width]))  # fmt: skip
    turn_low = ops.select(far, ops.const(2 * _HALF_PI_LOW[ops.width]),
                          ops.const(_HALF_PI_LOW[ops.width]))  # fmt: skip
    high = ops.fma(s, factor, ops.select(right, zero, turn))
    return ops.add(high, ops.fma(tail, factor, ops.select(right, zero, turn_low)))


def _atan_tail(ops: MathOps, z: V) -> V:
    """atan(z) - z for 0 <= z <= 1."""
    u = ops.mul(z, z)
    return ops.mul(ops.mul(z, u), polynomial(ops, _ATAN[ops.width], u))


def atan(ops: MathOps, x: V) -> V:
    """Arctangent; beyond 1 it is pi/2 - atan(1/x)."""
    a = ops.abs(x)
    far = ops.gt(a, ops.const(1.0))
    z = ops.select(far, ops.div(ops.const(1.0), a), a)
    tail = _atan_tail(ops, z)
    high = ops.sub(ops.const(_HALF_PI_HIGH[ops.width]), z)
    low = ops.sub(ops.const(_HALF_PI_LOW[ops.width]), tail)
    y = ops.add(ops.select(far, high, z), ops.select(far, low, tail))
    return with_sign(ops, y, x)


def atan2(ops: MathOps, y: V, x: V) -> V:
    """The angle of the point (x, y), in [-pi, pi]; signs of zero and infinities as in C99."""
    zero, one = ops.const(0.0), ops.const(1.0)
    a, b = ops.abs(y), ops.abs(x)
    steep = ops.gt(a, b)
    small, large = ops.select(steep, b, a), ops.select(steep, a, b)
    z = ops.div(small, large)
    z = ops.select(ops.eq(large, zero), zero, z)
    z = ops.select(ops.eq(small, ops.const(math.inf)), one, z)
    tail = _atan_tail(ops, z)
    left = sign_bit(ops, x)
    negative = ops.ilt(left, ops.iconst(0))
    # steep: pi/2 - t, or + t on the left; flat: t, or pi - t on the left
    half, half_low = ops.const(_HALF_PI_HIGH[ops.width]), ops.const(_HALF_PI_LOW[ops.width])
    flat_high = ops.select(negative, ops.add(half, half), zero)
    flat_low = ops.select(negative, ops.add(half_low, half_low), zero)
    sign = ops.ixor(left, ops.iselect(steep, sign_bit(ops, ops.const(-1.0)), ops.iconst(0)))
    high = ops.add(ops.select(steep, half, flat_high), flip_sign(ops, z, sign))
    low = ops.add(ops.select(steep, half_low, flat_low), flip_sign(ops, tail, sign))
    angle = with_sign(ops, ops.abs(ops.add(high, low)), y)
    ordered = ops.and_(ops.eq(x, x), ops.eq(y, y))
    return ops.select(ordered, angle, ops.const(math.nan))
