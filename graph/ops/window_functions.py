"""Window functions, which fade a stretch of signal in and out, and the filters of mel spectra.

A periodic window of `size` is one of `size` + 1 without its last element, for spectra; a symmetric
one is for filters.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ... import algorithm as alg
from ...dims import Dim
from ...dtypes import Array, as_dtype, float32
from ...errors import ConfigError, DTypeError
from ..ir import CALLS, Interner, Value
from .base import graph_function
from .creation import iota
from .shape import as_shape

MOST_WEIGHTS = 1 << 24  # of a matrix made while a graph is built


def _cosines(
    size: Any, weights: tuple[float, ...], periodic: bool, dtype: Any, owner: Interner | None
) -> Value:
    """Sum over k of weights[k] * cos(2 pi k i / n), for i in 0..size, n the period."""
    kind = as_dtype(dtype)
    if not kind.is_float:
        raise DTypeError(f"a window function is made of floats, not {kind}")
    wide = as_dtype("float64") if kind.bits == 64 else float32
    (n,) = as_shape(size)
    step: Value = iota((n,), 0, wide, owner)
    period: Dim = n if periodic else n - 1
    turn = step * (2 * math.pi / max(period, 1)) if isinstance(period, int) else step * (
        2 * math.pi) / CALLS["cast"](CALLS["size_of"](period, owner), wide)  # fmt: skip
    out: Any = weights[0]
    for k, weight in enumerate(weights[1:], 1):
        out = alg.cos(turn * k) * weight + out
    return CALLS["cast"](out, kind)  # type: ignore[no-any-return]


@graph_function("hann_window")
def hann_window(
    size: Any, periodic: bool = True, dtype: Any = float32, owner: Interner | None = None
) -> Value:
    """[size] of 0.5 - 0.5 cos: from 0 to 1 and back."""
    return _cosines(size, (0.5, -0.5), periodic, dtype, owner)


@graph_function("hamming_window")
def hamming_window(
    size: Any, periodic: bool = True, dtype: Any = float32, owner: Interner | None = None
) -> Value:
    """[size] of 25/46 - 21/46 cos."""
    return _cosines(size, (25 / 46, -21 / 46), periodic, dtype, owner)


@graph_function("blackman_window")
def blackman_window(
    size: Any, periodic: bool = True, dtype: Any = float32, owner: Interner | None = None
) -> Value:
    """[size] of 0.42 - 0.5 cos + 0.08 cos of the double."""
    return _cosines(size, (0.42, -0.5, 0.08), periodic, dtype, owner)


@graph_function("mel_weight_matrix")
def mel_weight_matrix(
    bands: int, dft_length: int, sample_rate: int, low: float, high: float, dtype: Any = float32,
    owner: Interner | None = None,
) -> Value:  # fmt: skip
    """[dft_length // 2 + 1, bands]: what a spectrum is multiplied with to give mel bands, triangles
    evenly spaced between the frequencies `low` and `high` (Hz) on the scale 2595 log10(1 + f/700).
    """
    if bands < 1 or dft_length < 2 or not 0 <= low < high:
        raise ConfigError(f"mel_weight_matrix: {bands} bands from {low} to {high} Hz out of a "
                          f"spectrum of length {dft_length}")  # fmt: skip
    if sample_rate < 1 or bands * dft_length > MOST_WEIGHTS:
        raise ConfigError(f"mel_weight_matrix: {bands} bands of a spectrum of length {dft_length} at "
                          f"{sample_rate} Hz: rates begin at 1, and there may be {MOST_WEIGHTS} "
                          "weights")  # fmt: skip
    weights = mel_triangles(bands, dft_length, sample_rate, low, high)
    return CALLS["constant"](weights, as_dtype(dtype), owner)  # type: ignore[no-any-return]


def mel_triangles(bands: int, dft_length: int, sample_rate: int, low: float, high: float) -> Array:
    """The matrix as ONNX defines it: edges of triangles are whole bins, rounded down."""
    ends = 2595 * np.log10(1 + np.array([low, high], np.float64) / 700)
    edges = ends[0] + np.arange(bands + 2) * ((ends[1] - ends[0]) / (bands + 2))
    hertz = 700 * (10 ** (edges / 2595) - 1)
    bins = np.floor((dft_length + 1) * hertz / sample_rate).astype(np.int64)
    out = np.zeros((dft_length // 2 + 1, bands))
    for k, (first, peak, last) in enumerate(zip(bins, bins[1:], bins[2:])):
        if peak == first and peak < len(out):
            out[peak, k] = 1
        for i in range(first, min(peak + 1, len(out))):
            if peak > first:
                out[i, k] = (i - first) / (peak - first)
        for i in range(peak, min(last, len(out))):
            out[i, k] = (last - i) / (last - peak)
    return out
