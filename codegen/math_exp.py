"""Exponentials: exp, exp2, expm1, sinh, cosh, tanh, sigmoid, softplus.

e^x = 2^n e^r with n = round(x / ln 2), |r| <= ln(2)/2. Adding a large constant rounds x / ln 2 and
leaves n, biased, in the low bits, from where one shift makes a power of two.
"""

from __future__ import annotations

from . import math_coefficients as c
from .math_log import log_polynomial
from .math_ops import (
    FORMATS,
    I,
    MathOps,
    V,
    at_least,
    at_most,
    fast_two_sum,
    inverse_ln2,
    polynomial,
    with_sign,
)

_EXP = {32: c.EXP_32, 64: c.EXP_64}
_EXP2 = {32: c.EXP2_32, 64: c.EXP2_64}
_SINH = {32: c.SINH_32, 64: c.SINH_64}
_TANH = {32: c.TANH_32, 64: c.TANH_64}
_COSH = {32: c.COSH_32, 64: c.COSH_64}
_EXP_LIMITS = {32: (-104.0, 89.0), 64: (-746.0, 710.0)}  # 0 below, infinity above
_TINY = {32: 2.0**-14, 64: 2.0**-30}  # f(x) rounds to x below, for odd f(x) = x + O(x^3)


def reduce_exp(ops: MathOps, x: V, bias: int) -> tuple[I, V]:
    """(n + bias in the low bits of an integer, r = x - n ln 2), |x| below exponent range."""
    f = FORMATS[ops.width]
    rounder = ops.const(f.rounder + bias)
    t = ops.fma(x, inverse_ln2(ops), rounder)
    n = ops.sub(t, rounder)
    r = ops.fma(n, ops.const(-f.ln2_high), x)
    return ops.bits(t), ops.fma(n, ops.const(-f.ln2_low), r)


def scale(ops: MathOps, n: I, y: V) -> V:
    """y * 2^n, rounded once, for n stored with twice the exponent bias. In two factors, since 2^n
    itself may not be a float where y * 2^n is one."""
    f = FORMATS[ops.width]
    half = ops.lshr(n, 1)
    first = ops.from_bits(ops.shl(half, f.mantissa))
    second = ops.from_bits(ops.shl(ops.isub(n, half), f.mantissa))
    return ops.mul(ops.mul(y, first), second)


def _power(ops: MathOps, n: I) -> V:
    """2^n for n stored with the exponent bias."""
    return ops.from_bits(ops.shl(n, FORMATS[ops.width].mantissa))


def _exp_in_range(ops: MathOps, x: V) -> V:
    """e^x for x within _EXP_LIMITS."""
    n, r = reduce_exp(ops, x, 2 * FORMATS[ops.width].bias)
    return scale(ops, n, polynomial(ops, (1.0, 1.0, *_EXP[ops.width]), r))


def exp(ops: MathOps, x: V) -> V:
    """e^x."""
    low, high = _EXP_LIMITS[ops.width]
    return _exp_in_range(ops, at_most(ops, at_least(ops, x, low), high))


def _exp_minus_abs(ops: MathOps, x: V) -> V:
    """e^-|x|."""
    return _exp_in_range(ops, ops.neg(at_most(ops, ops.abs(x), -_EXP_LIMITS[ops.width][0])))


def exp2(ops: MathOps, x: V) -> V:
    """2^x."""
    f = FORMATS[ops.width]
    low, high = {32: (-151.0, 128.0), 64: (-1076.0, 1024.0)}[ops.width]
    x = at_most(ops, at_least(ops, x, low), high)
    rounder = ops.const(f.rounder + 2 * f.bias)
    t = ops.add(x, rounder)
    r = ops.sub(x, ops.sub(t, rounder))
    return scale(ops, ops.bits(t), polynomial(ops, (1.0, *_EXP2[ops.width]), r))


def expm1(ops: MathOps, x: V) -> V:
    """e^x - 1, exact to the last places near 0."""
    low = {32: -18.0, 64: -38.0}[ops.width]  # -1 below
    z = at_most(ops, at_least(ops, x, low), _EXP_LIMITS[ops.width][1])
    n, r = reduce_exp(ops, z, FORMATS[ops.width].bias - 1)
    half = _power(ops, n)  # 2^(n-1), as 2^n may overflow
    y = ops.fma(half, r, ops.sub(half, ops.const(0.5)))
    tail = ops.mul(ops.mul(r, r), polynomial(ops, _EXP[ops.width], r))
    y = ops.fma(half, tail, y)
    tiny = ops.lt(ops.abs(x), ops.const({32: 2.0**-26, 64: 2.0**-55}[ops.width]))
    return ops.select(tiny, x, ops.add(y, y))


def tanh(ops: MathOps, x: V) -> V:
    """1 - 2 / (e^(2|x|) + 1), or a polynomial where that would cancel."""
    f = FORMATS[ops.width]
    one = ops.const(1.0)
    a = at_most(ops, ops.abs(x), {32: 10.0, 64: 20.0}[ops.width])  # 1 above
    n, r = reduce_exp(ops, ops.add(a, a), f.bias)
    growth = polynomial(ops, (1.0, 1.0, *_EXP[ops.width]), r)
    large = ops.div(ops.const(-2.0), ops.fma(growth, _power(ops, n), one))
    z = ops.mul(a, a)
    small = ops.fma(ops.mul(a, z), polynomial(ops, _TANH[ops.width], z), a)
    y = ops.select(ops.lt(a, ops.const(0.55)), small, ops.add(large, one))
    return with_sign(ops, y, x)


def sigmoid(ops: MathOps, x: V) -> V:
    """1 / (1 + e^-x). With t = e^-|x| it is 1 - t / (1 + t), or t times that for x < 0, which
    keeps the digits of the left tail and is rounded less often than t / (1 + t)."""
    one = ops.const(1.0)
    t = _exp_minus_abs(ops, x)
    share = ops.div(t, ops.add(t, one))
    scaled = ops.select(ops.lt(x, ops.const(0.0)), t, one)
    return ops.fma(ops.neg(share), scaled, scaled)


def softplus(ops: MathOps, x: V) -> V:
    """log(1 + e^x) = max(x, 0) + log(1 + e^-|x|)."""
    f = FORMATS[ops.width]
    zero = ops.const(0.0)
    t = _exp_minus_abs(ops, x)
    upper = ops.gt(t, ops.const(2**0.5 - 1))
    g = ops.select(upper, ops.fma(t, ops.const(0.5), ops.const(-0.5)), t)
    tail = ops.fma(ops.mul(g, g), log_polynomial(ops, g),
                   ops.select(upper, ops.const(f.ln2_low), zero))  # fmt: skip
    y, lost = fast_two_sum(ops, ops.select(upper, ops.const(f.ln2_high), zero), g)
    y = ops.add(y, ops.add(tail, lost))
    return ops.add(ops.select(ops.gt(x, zero), x, zero), y)


def _sinh_parts(ops: MathOps, x: V, limit: float) -> tuple[V, V, V, V, V]:
    """With e^|x| = 2^n e^r: (2^n + 2^-n)/4, (2^n - 2^-n)/4, r, sinh(r) - r, cosh(r) - 1."""
    bias = FORMATS[ops.width].bias - 2
    a = at_most(ops, ops.abs(x), limit)
    n, r = reduce_exp(ops, a, bias)
    up = _power(ops, n)
    down = _power(ops, ops.isub(ops.iconst(2 * bias), n))
    down = ops.select(ops.lt(a, ops.const(40.0)), down, ops.const(0.0))  # n + 2 out of range
    z = ops.mul(r, r)
    sinh_tail = ops.mul(ops.mul(r, z), polynomial(ops, _SINH[ops.width], z))
    cosh_tail = ops.mul(z, polynomial(ops, _COSH[ops.width], z))
    return ops.add(up, down), ops.sub(up, down), r, sinh_tail, cosh_tail


_SINH_LIMIT = {32: 89.5, 64: 710.48}  # infinity above


def sinh(ops: MathOps, x: V) -> V:
    """sinh(a) = sinh(n ln 2) cosh(r) + cosh(n ln 2) sinh(r)."""
    ch, sh, r, sinh_tail, cosh_tail = _sinh_parts(ops, x, _SINH_LIMIT[ops.width])
    y = ops.add(sh, ops.fma(r, ch, ops.fma(cosh_tail, sh, ops.mul(sinh_tail, ch))))
    y = with_sign(ops, ops.add(y, y), x)
    return ops.select(ops.lt(ops.abs(x), ops.const(_TINY[ops.width])), x, y)


def cosh(ops: MathOps, x: V) -> V:
    """cosh(a) = cosh(n ln 2) cosh(r) + sinh(n ln 2) sinh(r)."""
    ch, sh, r, sinh_tail, cosh_tail = _sinh_parts(ops, x, _SINH_LIMIT[ops.width])
    y = ops.add(ch, ops.fma(r, sh, ops.fma(cosh_tail, ch, ops.mul(sinh_tail, sh))))
    return ops.add(y, y)
