"""Fourier transforms against NumPy's in double precision: any length, any axis, sizes known at run
time, frames of signals."""

from __future__ import annotations

import flowmill as fm
import numpy as np
import pytest
from flowmill.errors import DTypeError, ShapeError
from flowmill.graph.ops.fourier_steps import _factors

RNG = np.random.default_rng(5)


def complex_(x: np.ndarray) -> np.ndarray:
    return x[..., 0].astype(np.float64) + 1j * x[..., 1]


def near(made: np.ndarray, expected: np.ndarray) -> None:
    """Within 1e-6 (float32) of the largest element."""
    assert made.shape == expected.shape
    wide = 1e-6 if made.dtype in (np.float32, np.complex64) else 1e-14
    assert np.abs(made - expected).max() <= wide * max(np.abs(expected).max(), 1e-3)


@pytest.mark.parametrize("n", [2, 7, 60, 97, 128, 211, 720, 1009, 2048])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lengths(n, dtype):
    x = RNG.standard_normal((3, n, 2)).astype(dtype)
    with fm.Graph() as graph:
        v, r = fm.input("x", (3, n, 2), dtype), fm.input("r", (3, n), dtype)
        half = fm.rfft(r)
        fetches = [fm.fft(v), fm.ifft(v), half, fm.irfft(half, size=n)]
    feeds = {"x": x, "r": x[..., 0]}
    forward, inverse, real, back = fm.Session(graph).run(fetches, feeds)
    for made, expected in ((forward, np.fft.fft(complex_(x))), (inverse, np.fft.ifft(complex_(x))),
                           (real, np.fft.rfft(x[..., 0].astype(np.float64)))):  # fmt: skip
        near(made[..., 0] + 1j * made[..., 1].astype(made.dtype), expected)
    near(back, x[..., 0])


def test_factors_make_the_length_or_one_of_its_primes_is_large():
    for n in range(1, 2000):
        found = _factors(n)
        if found is None:
            assert any(n % p == 0 for p in range(257, n + 1) if all(p % q for q in range(2, 46)))
        else:
            assert np.prod(found) == n and max(found) <= 256


def test_axes_and_sizes():
    x = RNG.standard_normal((4, 6, 5, 2)).astype(np.float32)
    with fm.Graph() as graph:
        v = fm.input("x", ("n", 6, "m", 2))
        fetches = [fm.fft(v, 1, 9), fm.ifft(v, 0), fm.fft(v, 2), fm.rfft(v[..., 0], 2),
                   fm.irfft(v, 1, 11), fm.irfft(v, 2)]  # fmt: skip
    made = fm.Session(graph).run(fetches, {"x": x})
    z = complex_(x)
    for m, expected in zip(made, [np.fft.fft(z, 9, 1), np.fft.ifft(z, axis=0), np.fft.fft(z, axis=2),
                                  np.fft.rfft(z.real, axis=2)]):  # fmt: skip
        near(complex_(m).astype(np.complex64), expected)
    near(made[4], np.fft.irfft(z, 11, 1))
    near(made[5], np.fft.irfft(z, axis=2))


def test_frames_of_signals():
    x = RNG.standard_normal((2, 50, 2)).astype(np.float32)
    window = np.hanning(16).astype(np.float32)
    with fm.Graph() as graph:
        v = fm.input("x", (2, "n", 2))
        fetches = [fm.stft(v, 5, window), fm.stft(v[..., 0], 7, None, 12),
                   fm.stft(v[..., 0], 7, window, 16, onesided=False)]  # fmt: skip
    pairs, real, whole = fm.Session(graph).run(fetches, {"x": x})

    def frames(z: np.ndarray, step: int, size: int) -> np.ndarray:
        return np.lib.stride_tricks.sliding_window_view(z, size, 1)[:, ::step]

    near(complex_(pairs).astype(np.complex64), np.fft.fft(frames(complex_(x), 5, 16) * window))
    near(complex_(real).astype(np.complex64), np.fft.rfft(frames(x[..., 0], 7, 12)))
    near(complex_(whole).astype(np.complex64), np.fft.fft(frames(x[..., 0], 7, 16) * window))


def test_errors():
    with fm.Graph():
        x = fm.input("x", (3, 4))
        with pytest.raises(ShapeError, match="pairs along the last axis"):
            fm.fft(x)
        with pytest.raises(ShapeError, match="is that of the pairs"):
            fm.fft(fm.input("y", (3, 2)), 1)
        with pytest.raises(DTypeError, match="not defined for int32"):
            fm.rfft(fm.input("i", (3,), "int32"))
        with pytest.raises(ShapeError, match="give a frame_length"):
            fm.stft(x, 2)
