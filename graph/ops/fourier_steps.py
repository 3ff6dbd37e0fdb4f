"""How Fourier transforms are computed: as matrix products over factors of the length.

A length n = f1 f2 ... is transformed one factor after the other (Cooley and Tukey, 1965): a product
with the f x f matrix of roots of unity, whose elements meet vector units as any matrix product's
do, then a rotation of what is left. Factors are few and large rather than many and small: a pass
over the data costs more than the arithmetic it saves. Digits of the result come out in reverse
and are turned round at the end. A length with a large prime factor becomes a convolution
(Bluestein, 1970), made of transforms of a length that has none.

Complex numbers are pairs: between steps planar, [.., 2, k], outside interleaved, [.., k, 2].
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from ...algorithm import Compute, axis
from ...dims import Dim, product
from ...dtypes import Array, float64
from ...errors import LimitError, ShapeError
from ..ir import CALLS, TensorType, Value
from .base import Op, Operand, as_value, make, sample

PASS = 9.0  # what one more step costs, in products of 8 x 8
MOST_PRIME = 256  # prime factors beyond are left to convolution
MOST_POINTS = 1 << 22  # of a transform: its tables are made while compiling


def check_length(n: Dim) -> None:
    """LimitError for a transform whose tables would be too large."""
    if isinstance(n, int) and (n > MOST_POINTS or (2 * n > MOST_POINTS and not _factors(n))):
        raise LimitError(f"a transform of {n} elements; there may be {MOST_POINTS}, and half as many "
                         f"where {n} has a prime factor above {MOST_PRIME}")  # fmt: skip


@dataclass(frozen=True)
class DftStep(Op):
    """x [r, n, p, c, q], m [n, c, a, b] -> [r, p, q, a, b]: the sum over n and c of x times m."""

    arity = 2
    differentiable = False
    samples = (sample((2, 5, 3, 2, 1), (5, 2, 5, 2)), sample((1, 4, 6, 2, 17), (4, 2, 2, 4)),
               sample((3, 8, 1, 1, 1), (8, 1, 5, 2)))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        x, m = types
        if x.ndim != 5 or m.ndim != 4 or (x.shape[1], x.shape[3]) != m.shape[:2]:
            raise ShapeError(f"values [r, n, p, c, q] and a matrix [n, c, a, b] are wanted, not {x} "
                             f"and {m}")  # fmt: skip
        r, _, p, _, q = x.shape
        return TensorType(x.dtype, (r, p, q, *m.shape[2:]))

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        x, m = xs
        r, p, q, a, b = (axis(d) for d in out.shape)
        n, c = axis(x.shape[1], "k"), axis(x.shape[3], "k")
        value = x[r.index, n.index, p.index, c.index, q.index] * m[
            n.index, c.index, a.index, b.index]  # fmt: skip
        return Compute((r, p, q, a, b), (n, c), "add", value)

    def ref(self, *xs: Array) -> Array:
        wide = [x.astype(np.float64) for x in xs]
        return np.asarray(np.einsum("rnpcq,ncab->rpqab", *wide)).astype(xs[0].dtype)

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return out.size * types[0].shape[1] * types[0].shape[3] * 2


def transform(x: Value, inverse: bool, real: bool, bins: Dim | None = None) -> Value:
    """x [r, n, p, 2], or [r, n, p, 1] where it has no imaginary part -> its transform along n, the
    first `bins` of it, [r, bins, p, 2]; where `real` its real part only, [r, bins, p, 1]. The
    inverse transform is divided by n."""
    n = x.shape[1]
    many = n if bins is None else bins
    if isinstance(n, int) and isinstance(many, int):
        factors = _factors(n)
        if factors is None:
            return _convolved(x, n, inverse, real, many)
        return _by_factors(x, factors, inverse, real, many)
    parts = x.shape[3]
    matrix = _symbolic_matrix(n, parts, many, 1 if real else 2, inverse, x)
    r, _, p, _ = x.shape
    out = make(DftStep(), CALLS["reshape"](x, (r, n, p, parts, 1)), matrix)
    return _turned(CALLS["reshape"](out, (r, p, many, -1)), (many,), many)


def _by_factors(x: Value, factors: tuple[int, ...], inverse: bool, real: bool, many: int) -> Value:
    r, _, p, parts = x.shape
    rest = prod(factors)
    joined: Dim = p
    state, inner = x, 1
    digits: list[int] = []
    for f in factors[:-1]:
        length, rest = rest, rest // f
        state = CALLS["reshape"](state, (r, f, rest * joined, parts, inner))
        matrix = _matrix(f, parts, f, 2, inverse, 1.0).swapaxes(2, 3)
        state = make(DftStep(), state, _constant(matrix, x))
        joined, inner, parts = joined * inner, f, 2
        state = CALLS["reshape"](state, (r, rest, joined, 2, f))
        for_re, for_im = (_constant(w, x) for w in _rotation(length, rest, f, inverse))
        whole = slice(None)
        state = state[whole, whole, whole, 0:1] * for_re + state[whole, whole, whole, 1:2] * for_im
        digits.append(f)
    f = factors[-1]
    below = prod(digits)
    columns = -(-many // below)  # the last digit counts most: only some of it may be wanted
    scale = 1 / prod(factors) if inverse else 1.0
    matrix = _matrix(f, parts, columns, 1 if real else 2, inverse, scale)
    state = CALLS["reshape"](state, (r, f, joined, parts, inner))
    out = make(DftStep(), state, _constant(matrix, x))
    shape = (r, p, *digits, columns, 1 if real else 2)
    return _turned(CALLS["reshape"](out, shape), (*digits, columns), many)


def _turned(state: Value, digits: tuple[Dim, ...], many: Dim) -> Value:
    """[r, p, *digits, parts] -> [r, many, p, parts], digits in reverse."""
    r, p, *_, parts = state.shape
    last = len(digits) + 1
    out = CALLS["transpose"](state, (0, *range(last, 1, -1), 1, last + 1))
    out = CALLS["reshape"](out, (r, product(digits), p, parts))
    return out if out.shape[1] == many else out[:, :many]  # type: ignore[no-any-return]


def _constant(array: Array, like: Value) -> Value:
    return as_value(array.astype(like.dtype.numpy), like)


def _matrix(n: int, parts: Any, columns: int, out_parts: int, inverse: bool, scale: float) -> Array:
    """[n, parts, columns, out_parts]: what each part of each element adds to each part of each
    column of the result."""
    angle = np.outer(np.arange(n), np.arange(columns)) % n * (2 * np.pi / n)
    cos, sin = np.cos(angle) * scale, np.sin(angle) * (scale if inverse else -scale)
    whole = np.array([[cos, sin], [-sin, cos]]).transpose(2, 0, 3, 1)
    return whole[:, :parts, :, :out_parts]


def _symbolic_matrix(n: Dim, parts: Dim, columns: Dim, out_parts: int, inverse: bool,
                     like: Value) -> Value:  # fmt: skip
    """The same for sizes known at run time only, made there."""
    owner = like.node.owner
    iota, cast, stack = CALLS["iota"], CALLS["cast"], CALLS["stack"]
    size = CALLS["size_of"](n, owner)
    place = iota((n, 1), 0, owner=owner) * iota((1, columns), 1, owner=owner) % size
    angle = cast(place, float64) * (2 * np.pi) / cast(size, float64)
    cos, sin = CALLS["cos"](angle), CALLS["sin"](angle)
    if inverse:
        scale = 1.0 / cast(size, float64)
        cos, sin = cos * scale, sin * scale
    else:
        sin = 0.0 - sin
    rows = [[cos, sin], [0.0 - sin, cos]]
    made = stack([stack(row[:out_parts], 2) for row in rows[: int(parts)]], 1)  # type: ignore[arg-type]
    return cast(made, like.dtype)  # type: ignore[no-any-return]


def _rotation(length: int, rest: int, f: int, inverse: bool) -> tuple[Array, Array]:
    """What real and imaginary parts of [rest, 1, 1, f] are multiplied by, [rest, 1, 2, f] each."""
    angle = np.outer(np.arange(rest), np.arange(f)) % length * (2 * np.pi / length)
    cos, sin = np.cos(angle), np.sin(angle) * (1 if inverse else -1)
    return np.stack([cos, sin], 1)[:, None], np.stack([-sin, cos], 1)[:, None]


@lru_cache(maxsize=1024)
def _factors(n: int) -> tuple[int, ...] | None:
    """Factors of least cost, None where a prime is too large."""
    primes: list[int] = []
    left, p = n, 2
    while left > 1:
        if p * p > left:
            p = left
        while left % p == 0:
            primes.append(p)
            left //= p
        p += 1
    if primes and primes[-1] > MOST_PRIME:
        return None
    return _cheapest(n)[1]


@lru_cache(maxsize=4096)
def _cheapest(n: int) -> tuple[float, tuple[int, ...]]:
    """Cost and factors: a step of factor f takes about f / 8 vectors for each element."""
    best: tuple[float, tuple[int, ...]] = (float("inf"), ())
    if n <= MOST_PRIME:
        best = (float(-(-n // 8)), (n,))
    for f in range(2, min(n // 2, MOST_PRIME) + 1):
        if n % f == 0:
            cost, rest = _cheapest(n // f)
            found = (cost + -(-f // 8) + PASS, (f, *rest))
            best = min(best, found)
    return best


def _convolved(x: Value, n: int, inverse: bool, real: bool, many: int) -> Value:
    """A length with a large prime factor: a convolution with a chirp, by transforms of a length
    that has none."""
    size = 1 << (2 * n - 2).bit_length()
    k = np.arange(n, dtype=np.int64)
    chirp = np.exp((1j if inverse else -1j) * np.pi / n * (k * k % (2 * n)))
    kernel: Any = np.zeros(size, complex)
    kernel[:n] = chirp.conj()
    kernel[size - n + 1 :] = chirp.conj()[1:][::-1]
    spectrum = np.fft.fft(kernel)
    turned = _rotated(x, chirp) if x.shape[3] == 2 else _pairs(x, chirp)
    padded = CALLS["pad"](turned, (0, 0, 0, 0), (0, size - n, 0, 0))
    product_ = _rotated(transform(padded, False, False), spectrum)
    found = transform(product_, True, False, many)
    end = chirp[:many] / (n if inverse else 1)
    out = _rotated(found, end)
    return out[..., 0:1] if real else out


def _rotated(x: Value, by: Any) -> Value:
    """x [r, n, p, 2] times complex numbers [n]."""
    for_re = np.stack([by.real, by.imag], -1)[:, None]
    for_im = np.stack([-by.imag, by.real], -1)[:, None]
    out: Value = x[..., 0:1] * _constant(for_re, x) + x[..., 1:2] * _constant(for_im, x)
    return out


def _pairs(x: Value, by: Any) -> Value:
    """x [r, n, p, 1] times complex numbers [n]: pairs."""
    return x * _constant(np.stack([by.real, by.imag], -1)[:, None], x)
