"""The error function and its complement."""

from __future__ import annotations

import math

from . import math_coefficients as c
from .math_exp import scale
from .math_ops import (
    FORMATS,
    MathOps,
    V,
    at_most,
    fast_two_sum,
    inverse_ln2,
    polynomial,
    two_product,
    two_sum,
    with_sign,
)


def erf(ops: MathOps, x: V) -> V:
    """2 / sqrt(pi) times the integral of e^(-t^2) from 0 to x."""
    a = ops.abs(x)
    near = ops.lt(a, ops.const(1.0))
    small = ops.fma(a, polynomial(ops, _ERF[ops.width], ops.mul(a, a)), a)
    if ops.width == 32:
        root = polynomial(ops, c.ERFC_ROOT_32, at_most(ops, a, 3.93))
        square = ops.mul(root, root)
        large = ops.fma(ops.neg(square), square, ops.const(1.0))
    else:
        large = ops.sub(ops.const(1.0), _erfc64(ops, at_most(ops, a, 6.0)))
    return with_sign(ops, ops.select(near, small, large), x)


_ERF = {32: c.ERF_32, 64: c.ERF_64}


def erfc(ops: MathOps, x: V) -> V:
    """1 - erf(x), with all its digits in the right tail."""
    negative = ops.lt(x, ops.const(0.0))
    if ops.width == 32:
        d = ops.f64()
        tail = _erfc32(d, at_most(d, d.abs(ops.ext(x)), 10.3))
        return ops.trunc_f32(d.select(negative, d.sub(d.const(2.0), tail), tail))
    tail = _erfc64(ops, at_most(ops, ops.abs(x), 27.3))
    y = ops.select(negative, ops.sub(ops.const(2.0), tail), tail)
    minus = ops.neg(x)
    middle = ops.fma(minus, polynomial(ops, c.ERF_64, ops.mul(x, x)), ops.sub(ops.const(1.0), x))
    return ops.select(ops.lt(ops.abs(x), ops.const(0.6875)), middle, y)


def _erfc32(d: MathOps, a: V) -> V:
    """erfc of 0 <= a <= 10.3 in float64, good to float32."""
    inverse = d.div(d.const(1.0), d.add(a, d.const(3.0)))
    t = d.mul(d.sub(a, d.const(3.0)), inverse)
    y = d.mul(inverse, polynomial(d, c.ERFCX_WIDE, t))
    power = d.mul(d.mul(a, a), d.const(-1 / math.log(2)))
    rounder = d.const(FORMATS[64].rounder + FORMATS[64].bias)
    n = d.add(power, rounder)
    fraction = d.sub(power, d.sub(n, rounder))
    y = d.mul(y, polynomial(d, (1.0, *c.EXP2_WIDE), fraction))
    return d.mul(y, d.from_bits(d.shl(d.bits(n), FORMATS[64].mantissa)))


def _erfc64(ops: MathOps, a: V) -> V:
    """erfc of 11/16 <= a <= 27.3: e^(-a^2) P(t) / (a + 4) with t = (a - 4) / (a + 4). What rounding
    loses of a^2, of the quotients and of the last steps of P is made up for."""
    f = FORMATS[64]
    four, one = ops.const(4.0), ops.const(1.0)
    below, below_low = two_sum(ops, a, four)
    inverse = ops.div(one, below)
    lost = ops.fma(ops.neg(inverse), below_low, ops.fma(ops.neg(inverse), below, one))
    above, above_low = two_sum(ops, a, ops.const(-4.0))
    t = ops.mul(above, inverse)
    rest = ops.fma(ops.neg(t), below_low, ops.fma(ops.neg(t), below, above))
    t = ops.fma(ops.add(rest, above_low), inverse, t)
    c0, c0_low, c1, c1_low, *others = c.ERFCX_64
    q, q_low = two_sum(ops, ops.const(c1), ops.mul(t, polynomial(ops, others, t)))
    u, u_low = two_product(ops, t, q)
    p, p_low = two_sum(ops, ops.const(c0), u)
    q_low = ops.add(q_low, ops.const(c1_low))
    p_low = ops.add(ops.add(p_low, ops.const(c0_low)), ops.fma(t, q_low, u_low))
    y, y_low = two_product(ops, inverse, p)
    y_low = ops.fma(inverse, p_low, y_low)
    square, square_low = two_product(ops, a, a)
    rounder = ops.const(f.rounder + 2 * f.bias)
    n = ops.fma(square, ops.neg(inverse_ln2(ops)), rounder)
    k = ops.sub(n, rounder)
    r = ops.fma(k, ops.const(-f.ln2_high), ops.neg(square))
    r, r_low = two_sum(ops, r, ops.fma(k, ops.const(-f.ln2_low), ops.neg(square_low)))
    tail = ops.mul(ops.mul(r, r), polynomial(ops, c.EXP_64, r))
    small = ops.fma(y_low, ops.add(r, tail), y_low)
    small = ops.fma(y, ops.add(tail, ops.add(lost, r_low)), small)
    grown, grown_low = two_product(ops, y, r)
    y, lost = fast_two_sum(ops, y, grown)
    return scale(ops, ops.bits(n), ops.add(y, ops.add(lost, ops.add(grown_low, small))))
