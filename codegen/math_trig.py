"""sin, cos and tan, for arguments of any size.

The argument is divided by one turn, 2 pi, keeping only the fraction s of a turn; then s is folded
into an eighth and multiplied by 2 pi. Division uses as many bits of 1 / (2 pi) as the
argument's exponent asks for (Payne and Hanek 1983), chosen by selects, since every lane may need
others: multiples of whole turns are dropped from the constant, not from the product.
"""

from __future__ import annotations

import math
from fractions import Fraction

from . import math_coefficients as c
from .math_ops import (
    FORMATS,
    MathOps,
    V,
    fast_two_sum,
    flip_sign,
    polynomial,
    two_product,
    two_sum,
)

_BITS = c.INVERSE_TURN_BITS
TURN_HIGH, TURN_LOW = float.fromhex("0x1.921fb54442d18p+2"), float.fromhex("0x1.1a62633145c07p-52")

# float32: below 2^48, and in each 20 binades from there on, two doubles suffice.
_STARTS = (0, 48, 68, 88, 108)
_TINY = {32: 2.0**-13, 64: 2.0**-27}  # sin(x) and tan(x) round to x below

_WORD = 48  # float64: bits of 1 / (2 pi) per word, and binades per choice of words
_WORDS = tuple(
    math.ldexp((c.INVERSE_TURN >> (_BITS - _WORD * (i + 1))) & ((1 << _WORD) - 1), -_WORD)
    for i in range(_BITS // _WORD)
)


def _pair(start: int) -> tuple[float, float]:
    """1 / (2 pi) less its bits that give whole turns with every float32 >= 2^start, as a sum of
    two doubles, the product of the first with such a float32 less whole turns being exact."""
    drop = max(start - 23, 0)
    kept = c.INVERSE_TURN & ((1 << (_BITS - drop)) - 1)
    low_bits = _BITS - (drop + 53 if start else 55)
    high, low = kept >> low_bits, kept & ((1 << low_bits) - 1)
    return (math.ldexp(high, low_bits - _BITS), float(Fraction(low, 1 << _BITS)))


_PAIRS = tuple(_pair(s) for s in _STARTS)


def _turns32(ops: MathOps, x: V) -> tuple[V, V, V]:
    """x / (2 pi) less whole turns, of a float32 x, as f + z l: |f| < 0.505 and an exact
    multiple of 2^-53 unless x is small; |z l| <= 1/500. All three are doubles."""
    d = ops.f64()
    a = ops.abs(x)
    high, low = (d.const(v) for v in _PAIRS[0])
    for start, pair in zip(_STARTS[1:], _PAIRS[1:]):
        beyond = ops.ge(a, ops.const(2.0**start))
        high = d.select(beyond, d.const(pair[0]), high)
        low = d.select(beyond, d.const(pair[1]), low)
    z = ops.ext(x)
    return d.fma(z, high, d.neg(d.rint(d.mul(z, high)))), z, low


def _turns64(ops: MathOps, x: V) -> tuple[V, V]:
    """The same of a float64 x as an unevaluated sum of two doubles, to 2^-117 turns or a relative
    2^-100 (no float64 comes closer than 2^-64 to a multiple of a quarter turn)."""
    words = [ops.const(w) for w in _WORDS]
    for step in (16, 8, 4, 2, 1):
        far = ops.ge(ops.abs(x), ops.const(2.0 ** (52 + _WORD * step)))
        x = ops.select(far, ops.mul(x, ops.const(2.0 ** (-_WORD * step))), x)
        needed = min(5 + step - 1, len(words))
        words = [
            ops.select(far, words[i + step], words[i]) if i + step < len(words) else words[i]
            for i in range(needed)
        ]
    # Now |x| < 2^100, and an integer if words were skipped.
    products = []
    for i, word in enumerate(words):
        shifted = ops.mul(x, ops.const(2.0 ** (-_WORD * i))) if i else x
        products.append(two_product(ops, shifted, word))
    (p0, h0), (p1, h1), (p2, h2), (p3, h3), (p4, _) = products
    p0, h0, p1, p2 = (ops.sub(p, ops.rint(p)) for p in (p0, h0, p1, p2))
    s, e0 = two_sum(ops, p0, h0)
    s, e1 = two_sum(ops, s, p1)
    s, e2 = two_sum(ops, s, h1)
    s, e3 = two_sum(ops, s, p2)
    s = ops.sub(s, ops.rint(s))
    s, e4 = two_sum(ops, s, p3)
    low = ops.add(ops.add(ops.add(e0, e1), ops.add(e2, e3)), ops.add(e4, h2))
    s, low = two_sum(ops, s, low)
    return fast_two_sum(ops, s, ops.add(low, ops.add(p4, h3)))


def _quadrant32(ops: MathOps, x: V) -> tuple[V, V]:
    """(q, r), doubles, with float32 x = q pi/2 + r + whole turns, |r| <= pi/4, |q| <= 2."""
    d = ops.f64()
    f, z, low = _turns32(ops, x)
    q = d.rint(d.mul(d.fma(z, low, f), d.const(4.0)))
    return q, d.mul(d.fma(z, low, d.fma(q, d.const(-0.25), f)), d.const(TURN_HIGH))


def _quadrant64(ops: MathOps, x: V) -> tuple[V, V, V, V, V]:
    """(q, r, sin(r) - r, c, cos(r) - c) with x = q pi/2 + r + whole turns, |r| <= pi/4, |q| <= 2,
    and c = 1 - r^2/2 rounded."""
    s, low = _turns64(ops, x)
    q = ops.rint(ops.mul(s, ops.const(4.0)))
    s, low = two_sum(ops, ops.fma(q, ops.const(-0.25), s), low)
    r, e = two_product(ops, s, ops.const(TURN_HIGH))
    e = ops.add(e, ops.fma(s, ops.const(TURN_LOW), ops.mul(low, ops.const(TURN_HIGH))))
    z = ops.mul(r, r)
    sine_tail = ops.fma(ops.mul(r, z), polynomial(ops, c.SIN_64, z), e)
    one, half = ops.const(1.0), ops.mul(z, ops.const(0.5))
    cosine = ops.sub(one, half)
    half_low = ops.fma(ops.mul(r, ops.const(0.5)), r, ops.neg(half))  # r^2 / 2 less `half`
    tail = ops.fma(ops.mul(z, z), polynomial(ops, c.COS_64, z), ops.neg(half_low))
    tail = ops.fma(ops.neg(r), e, tail)
    return q, r, sine_tail, cosine, ops.add(ops.sub(ops.sub(one, cosine), half), tail)


def _sine(ops: MathOps, x: V, quarters: int) -> V:
    """sin(x + quarters pi/2)."""
    f = FORMATS[ops.width]
    if ops.width == 32:
        q, r = (ops.trunc_f32(v) for v in _quadrant32(ops, x))
        z = ops.mul(r, r)
        sine = ops.fma(ops.mul(r, z), polynomial(ops, c.SIN_32, z), r)
        cosine = polynomial(ops, (1.0, -0.5, *c.COS_32), z)
    else:
        q, r, sine_tail, cosine, cosine_tail = _quadrant64(ops, x)
    n = ops.bits(ops.add(q, ops.const(f.rounder + quarters)))  # q + quarters in the low bits
    even = ops.ieq(ops.iand(n, ops.iconst(1)), ops.iconst(0))
    if ops.width == 32:
        y = ops.select(even, sine, cosine)
    else:
        y = ops.add(ops.select(even, r, cosine), ops.select(even, sine_tail, cosine_tail))
    return flip_sign(ops, y, ops.shl(ops.iand(n, ops.iconst(2)), ops.width - 2))


def _keep_tiny(ops: MathOps, y: V, x: V) -> V:
    return ops.select(ops.lt(ops.abs(x), ops.const(_TINY[ops.width])), x, y)


def sin(ops: MathOps, x: V) -> V:
    """Sine of x radians; NaN for infinities."""
    return _keep_tiny(ops, _sine(ops, x, 0), x)


def cos(ops: MathOps, x: V) -> V:
    """Cosine of x radians; NaN for infinities."""
    return _sine(ops, x, 1)


def tan(ops: MathOps, x: V) -> V:
    """Tangent of x radians; NaN for infinities."""
    return _keep_tiny(ops, _tan32(ops, x) if ops.width == 32 else _tan64(ops, x), x)


def _tan32(ops: MathOps, x: V) -> V:
    d = ops.f64()
    q, r = _quadrant32(ops, x)
    z = d.mul(r, r)
    sine = d.fma(d.mul(r, z), polynomial(d, c.SIN_WIDE, z), r)
    cosine = polynomial(d, (1.0, -0.5, *c.COS_WIDE), z)
    odd = d.eq(d.abs(q), d.const(1.0))  # tan(r + pi/2) = -cos(r) / sin(r)
    above, below = d.select(odd, d.neg(cosine), sine), d.select(odd, sine, cosine)
    inverse = ops.ext(ops.div(ops.const(1.0), ops.trunc_f32(below)))  # then a step of Newton's
    y = d.mul(above, inverse)
    return ops.trunc_f32(d.fma(d.fma(d.neg(y), below, above), inverse, y))


def _tan64(ops: MathOps, x: V) -> V:
    one = ops.const(1.0)
    q, r, r_tail, cosine, cosine_tail = _quadrant64(ops, x)
    sh, sl = fast_two_sum(ops, r, r_tail)
    ch, cl = fast_two_sum(ops, cosine, cosine_tail)
    odd = ops.eq(ops.abs(q), one)
    nh, nl = ops.select(odd, ops.neg(ch), sh), ops.select(odd, ops.neg(cl), sl)
    dh, dl = ops.select(odd, sh, ch), ops.select(odd, sl, cl)
    inverse = ops.div(one, dh)
    y = ops.mul(nh, inverse)
    rest = ops.add(ops.fma(ops.neg(y), dh, nh), ops.fma(ops.neg(y), dl, nl))
    return ops.fma(rest, inverse, y)
