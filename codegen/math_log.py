"""Logarithms: log, log1p, log2.

x = 2^k (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)); log(1 + f) = f + f^2 L(f).
"""

from __future__ import annotations

import math

from . import math_coefficients as c
from .math_ops import FORMATS, I, MathOps, V, inverse_ln2, polynomial, small_int

_LOG = {32: c.LOG_32, 64: c.LOG_64}
_SQRT_HALF_BITS = {32: 0x3F3504F3, 64: 0x3FE6A09E667F3BCD}
_INVERSE_LN2_LOW = {32: 1 / math.log(2) - float.fromhex("0x1.715476p+0"),
                    64: float.fromhex("0x1.777d0ffda0d24p-56")}  # fmt: skip


def log_polynomial(ops: MathOps, f: V) -> V:
    """(log(1 + f) - f) / f^2."""
    return polynomial(ops, _LOG[ops.width], f)


def _exponent(ops: MathOps, x: V) -> I:
    """k of normal x, shifted to the place of the exponent."""
    f = FORMATS[ops.width]
    above = ops.isub(ops.bits(x), ops.iconst(_SQRT_HALF_BITS[ops.width]))
    return ops.iand(above, ops.iconst(-1 << f.mantissa))


def split(ops: MathOps, x: V) -> tuple[V, V]:
    """(k, 1 + f) of positive finite x, subnormal ones too."""
    f = FORMATS[ops.width]
    small = ops.lt(x, ops.const(f.min_normal))
    lift = f.mantissa + 1
    x = ops.select(small, ops.mul(x, ops.const(2.0**lift)), x)
    shifted = _exponent(ops, x)
    k = small_int(ops, ops.ashr(shifted, f.mantissa))
    k = ops.sub(k, ops.select(small, ops.const(lift), ops.const(0.0)))
    return k, ops.from_bits(ops.isub(ops.bits(x), shifted))


def _edges(ops: MathOps, y: V, x: V, pole: float) -> V:
    """y, or what a logarithm with its pole at `pole` is for x not between pole and infinity."""
    at = ops.const(pole)
    outside = ops.select(ops.eq(x, at), ops.const(-math.inf), ops.const(math.nan))
    y = ops.select(ops.lt(x, ops.const(math.inf)), y, x)
    return ops.select(ops.gt(x, at), y, outside)


def _assemble(ops: MathOps, k: V, g: V) -> V:
    """k ln 2 + log(1 + g)."""
    f = FORMATS[ops.width]
    tail = ops.fma(ops.mul(g, g), log_polynomial(ops, g), ops.mul(k, ops.const(f.ln2_low)))
    return ops.add(ops.fma(k, ops.const(f.ln2_high), g), tail)


def log(ops: MathOps, x: V) -> V:
    """Natural logarithm."""
    k, m = split(ops, x)
    return _edges(ops, _assemble(ops, k, ops.sub(m, ops.const(1.0))), x, 0.0)


def log2(ops: MathOps, x: V) -> V:
    """Logarithm to base 2, exact for powers of two."""
    k, m = split(ops, x)
    g = ops.sub(m, ops.const(1.0))
    tail = ops.mul(ops.mul(g, g), log_polynomial(ops, g))
    low = ops.mul(g, ops.const(_INVERSE_LN2_LOW[ops.width]))
    high = inverse_ln2(ops)
    return _edges(ops, ops.add(k, ops.fma(g, high, ops.fma(tail, high, low))), x, 0.0)


def log1p(ops: MathOps, x: V) -> V:
    """log(1 + x), exact to the last places near 0. 1 + f = 2^-k + x 2^-k costs one rounding."""
    f = FORMATS[ops.width]
    one = ops.const(1.0)
    u = ops.add(x, one)
    shifted = _exponent(ops, u)
    power = ops.from_bits(ops.isub(ops.bits(one), shifted))  # 2^-k, for x not huge
    near = ops.fma(x, power, ops.sub(power, one))
    far = ops.sub(ops.from_bits(ops.isub(ops.bits(u), shifted)), one)
    g = ops.select(ops.gt(x, ops.const(2.0 ** (f.mantissa + 2))), far, near)
    k = small_int(ops, ops.ashr(shifted, f.mantissa))
    y = _edges(ops, _assemble(ops, k, g), x, -1.0)
    tiny = ops.lt(ops.abs(x), ops.const(2.0 ** -(f.mantissa + 2)))
    return ops.select(tiny, x, y)
