"""pow(x, y) = 2^(y log2|x|), with C99's special cases (Annex F).

float32 works in float64; float64 keeps log2|x| and the product with y as sums of two doubles,
good to about 2^-66, for the error of the exponent is multiplied by up to 1075.
"""

from __future__ import annotations

import math

from . import math_coefficients as c
from .math_exp import scale
from .math_log import split
from .math_ops import (
    FORMATS,
    MathOps,
    V,
    at_least,
    at_most,
    fast_two_sum,
    flip_sign,
    polynomial,
    sign_bit,
    two_product,
)

_LOG2_SCALE = float.fromhex("0x1.71547652b82fep+1"), float.fromhex("0x1.777d0ffda0d24p-55")
_THIRD = 1 / 3, float.fromhex("0x1.5555555555555p-56")


def pow(ops: MathOps, x: V, y: V) -> V:
    """x to the power y; NaN for finite x < 0 unless y is an integer."""
    zero, one, inf = ops.const(0.0), ops.const(1.0), ops.const(math.inf)
    a = ops.abs(x)
    z = _power32(ops, a, y) if ops.width == 32 else _power64(ops, a, y)
    towards_infinity = ops.gt(ops.select(ops.eq(a, zero), ops.neg(y), y), zero)
    edge = ops.or_(ops.eq(a, zero), ops.eq(a, inf))
    z = ops.select(edge, ops.select(towards_infinity, inf, zero), z)
    half = ops.mul(y, ops.const(0.5))
    integer = ops.eq(ops.rint(y), y)
    odd = ops.and_(integer, ops.ne(ops.rint(half), half))
    z = flip_sign(ops, z, ops.iselect(odd, sign_bit(ops, x), ops.iconst(0)))
    negative = ops.and_(ops.lt(x, zero), ops.lt(a, inf))
    undefined = ops.or_(ops.and_(negative, ops.not_(integer)),
                        ops.or_(ops.isnan(x), ops.isnan(y)))  # fmt: skip
    z = ops.select(undefined, ops.const(math.nan), z)
    return ops.select(ops.or_(ops.eq(y, zero), ops.eq(x, one)), one, z)


def _power32(ops: MathOps, a: V, y: V) -> V:
    """a^y for positive finite a."""
    d = ops.f64()
    f = FORMATS[64]
    k, m = split(d, ops.ext(a))
    g = d.sub(m, d.const(1.0))
    log = d.fma(g, polynomial(d, c.LOG2_WIDE, g), k)
    y = ops.ext(at_most(ops, at_least(ops, y, -(2.0**60)), 2.0**60))
    power = at_most(d, at_least(d, d.mul(y, log), -300.0), 300.0)
    rounder = d.const(f.rounder + f.bias)
    n = d.add(power, rounder)
    r = d.sub(power, d.sub(n, rounder))
    scaled = d.from_bits(d.shl(d.bits(n), f.mantissa))
    return ops.trunc_f32(d.mul(polynomial(d, (1.0, *c.EXP2_WIDE), r), scaled))


def _power64(ops: MathOps, a: V, y: V) -> V:
    """a^y for positive finite a."""
    f = FORMATS[64]
    high, low = _log2_pair(ops, a)
    y = at_most(ops, at_least(ops, y, -(2.0**70)), 2.0**70)
    power, power_low = two_product(ops, y, high)
    power_low = ops.fma(y, low, power_low)
    limit = 1100.0  # zero or infinity beyond
    power_low = ops.select(ops.lt(ops.abs(power), ops.const(limit)), power_low, ops.const(0.0))
    power = at_most(ops, at_least(ops, power, -limit), limit)
    rounder = ops.const(f.rounder + 2 * f.bias)
    n = ops.add(power, rounder)
    r = ops.add(ops.sub(power, ops.sub(n, rounder)), power_low)
    return scale(ops, ops.bits(n), polynomial(ops, (1.0, *c.EXP2_64), r))


def _log2_pair(ops: MathOps, a: V) -> tuple[V, V]:
    """log2 of positive finite a as a sum: k + 2/ln 2 atanh(s), s = (m - 1) / (m + 1)."""
    one = ops.const(1.0)
    k, m = split(ops, a)
    above = ops.sub(m, one)
    below = ops.add(m, one)
    below_low = ops.sub(m, ops.sub(below, one))
    inverse = ops.div(one, below)
    s = ops.mul(above, inverse)
    minus = ops.neg(s)
    s_low = ops.mul(ops.fma(minus, below_low, ops.fma(minus, below, above)), inverse)
    z, z_low = two_product(ops, s, s)
    z_low = ops.fma(ops.add(s, s), s_low, z_low)
    # atanh(s) = s + s z q with q = 1/3 + z/5 + ...
    tail = ops.mul(z, polynomial(ops, c.ATANH_64, z))
    q, q_low = fast_two_sum(ops, ops.const(_THIRD[0]), tail)
    q_low = ops.add(q_low, ops.const(_THIRD[1]))
    p, p_low = two_product(ops, z, q)
    p_low = ops.add(p_low, ops.fma(z, q_low, ops.mul(z_low, q)))
    t, t_low = two_product(ops, s, p)
    t_low = ops.add(t_low, ops.fma(s, p_low, ops.mul(s_low, p)))
    h, h_low = fast_two_sum(ops, s, t)
    h_low = ops.add(h_low, ops.add(s_low, t_low))
    high, low = _LOG2_SCALE
    g, g_low = two_product(ops, h, ops.const(high))
    g_low = ops.add(g_low, ops.fma(h, ops.const(low), ops.mul(h_low, ops.const(high))))
    total, rest = fast_two_sum(ops, k, g)
    # fast_two_sum wants |k| >= |g|; where k is 0 it is exact all the same
    return total, ops.add(rest, g_low)
