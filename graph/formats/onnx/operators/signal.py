"""Fourier transforms."""

from __future__ import annotations

from .....dims import Dim
from ....ir import Value
from ....ops import fourier, window_functions
from ....ops.base import normal_axis
from ....ops.shape import concat, reshape
from ..call import Call
from ..registry import converter


@converter("DFT")
def _dft(call: Call) -> Value:
    """Real signals are those with one part instead of two; their half spectrum is transformed back
    to real numbers by the inverse with `onesided`."""
    x = call.value(0)
    size: Dim | None = call.dims(1)[0] if call.has(1) else None
    if call.version < 20:
        axis = call.integer("axis", 1)
    else:
        axis = call.ints(2)[0] if call.has(2) else -2
    at = normal_axis(axis, x.ndim)
    inverse, onesided = call.flag("inverse"), call.flag("onesided")
    if at == x.ndim - 1 or x.shape[-1] not in (1, 2):
        call.refuse(f"axis {axis} of {x.type}, whose last axis must be that of one or two parts")
    if inverse and onesided:
        out = fourier.irfft(x, at, size)
        return reshape(out, (*out.shape, 1))
    if onesided:
        if x.shape[-1] != 1:
            call.refuse(f"half the transform of complex numbers, {x.type}")
        return fourier.rfft(x[..., 0], at, size)
    if x.shape[-1] == 1:
        x = concat([x, x * 0], x.ndim - 1)
    return (fourier.ifft if inverse else fourier.fft)(x, at, size)


@converter("MelWeightMatrix")
def _mel_weight_matrix(call: Call) -> Value:
    bands, length, rate = (call.ints(k)[0] for k in range(3))
    low, high = (float(call.single(k)) for k in (3, 4))
    dtype = call.dtype("output_datatype", "float32")
    return window_functions.mel_weight_matrix(bands, length, rate, low, high, dtype, call.graph)


@converter("STFT")
def _stft(call: Call) -> Value:
    signal, step = call.value(0), call.ints(1)[0]
    if signal.ndim == 3 and signal.shape[-1] == 1:
        signal = signal[..., 0]
    length = call.ints(3)[0] if call.has(3) else None
    return fourier.stft(signal, step, call.optional(2), length, call.flag("onesided", True))
