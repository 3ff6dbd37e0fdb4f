"""Division of floats and integers, as compiled: NumPy's results, bit for bit, and never a trap."""

from __future__ import annotations

import flowmill as fm
import numpy as np
import pytest

NOTABLE = [1.0, 0.1, 3.0, -7.5, 1e-30, 2.0**-149, 3.4e38, 1.5e-45, np.inf, -np.inf, np.nan, 0.0,
           -0.0, 16777216.0, 5e-324, 1.7e308, -2.0**-1022, 0.3]  # fmt: skip


def both(a, b, level=2):
    """a // b and a % b, compiled."""
    with fm.Graph() as g:
        x, y = fm.input("x", a.shape, a.dtype), fm.input("y", b.shape, b.dtype)
        return fm.Session(g, threads=1, level=level).run([x // y, x % y], {x: a, y: b})


@pytest.mark.parametrize("level", [0, 2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_floats_divide_as_in_numpy(dtype, level):
    rng = np.random.default_rng(1)
    with np.errstate(all="ignore"):
        grid = np.array(np.meshgrid(NOTABLE, NOTABLE), dtype).reshape(2, -1)
        kind = f"u{np.dtype(dtype).itemsize}"
        words = rng.integers(0, np.iinfo(kind).max, (2, 5000), kind, endpoint=True).view(dtype)
        near = rng.uniform(-9, 9, (2, 3000)).astype(dtype)
        multiples = np.stack([near[0] * np.round(near[1]), near[0]])
        for a, b in (grid, words, near, multiples):
            whole, rest = both(a, b, level)
            for made, expected in ((whole, np.floor_divide(a, b)), (rest, np.mod(a, b))):
                np.testing.assert_array_equal(made, expected)
                fine = ~np.isnan(expected)
                np.testing.assert_array_equal(np.signbit(made[fine]), np.signbit(expected[fine]))


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8", "uint64"])
def test_integers_divide_as_in_numpy(dtype):
    rng, info = np.random.default_rng(2), np.iinfo(dtype)
    a = rng.integers(info.min, info.max, 1001, dtype, endpoint=True)
    b = rng.integers(info.min, info.max, 1001, dtype, endpoint=True)
    b[::3] //= info.max // 5
    b[b == 0] = 1
    a[7] = info.min
    b[7] = info.max if info.min == 0 else -1
    with np.errstate(all="ignore"):
        for level in (0, 2):
            whole, rest = both(a, b, level)
            np.testing.assert_array_equal(whole, a // b)
            np.testing.assert_array_equal(rest, a % b)


def test_elements_that_are_not_read_divide_nothing():
    """Padding and the unused lanes of the last vector hold zeros; no check may see them."""
    a, b = np.arange(1, 14, dtype=np.int32), np.arange(1, 14, dtype=np.int32)
    with fm.Graph() as g:
        x, y = fm.input("x", (13,), "int32"), fm.input("y", (13,), "int32")
        z = fm.pad(x // y, (2,), (2,)) + fm.pad(x, (2,), (2,)) % 5
        got = fm.Session(g, threads=1).run(z, {x: a, y: b})
    np.testing.assert_array_equal(got, np.pad(a // b, 2) + np.pad(a, 2) % 5)
