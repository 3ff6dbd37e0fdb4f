"""Discrete Fourier transforms of any length, complex numbers being pairs along the last axis.

The transform of x is the sum over j of x[j] exp(-2 pi i j k / n); the inverse has the other sign
and is divided by n.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...dims import Dim, product
from ...dtypes import Array
from ...errors import DTypeError, ShapeError
from ..ir import CALLS, TensorType, Value
from .base import Op, as_value, graph_function, make, normal_axis, sample
from .fourier_steps import check_length, transform
from .shape import Slice, as_shape, concat


def _check(x: TensorType, axis: int, complex_: bool) -> int:
    """The axis counted from the front. Raises where x is not of the kind wanted."""
    if not x.dtype.is_float or not x.dtype.computes:
        raise DTypeError(f"not defined for {x.dtype}", "cast to float32 first")
    if complex_ and (x.ndim < 2 or x.shape[-1] != 2):
        raise ShapeError(f"complex numbers are pairs along the last axis, {x} has none")
    at = normal_axis(axis, x.ndim)
    if complex_ and at == x.ndim - 1:
        raise ShapeError(f"axis {axis} of {x} is that of the pairs")
    if x.shape[at] == 0:
        raise ShapeError(f"axis {at} of {x} is empty: there is nothing to transform")
    check_length(x.shape[at])
    return at


def _sides(shape: tuple[Dim, ...], axis: int) -> tuple[Dim, Dim]:
    return product(shape[:axis]), product(shape[axis + 1 :])


def _complex(x: Array) -> Any:
    """For references: pairs as NumPy's complex numbers, in double precision."""
    return x[..., 0].astype(np.float64) + 1j * x[..., 1]


def _pairs(z: Any, like: Array) -> Array:
    return np.stack([z.real, z.imag], -1).astype(like.dtype)


@dataclass(frozen=True)
class Fft(Op):
    """Pairs [.., n, .., 2] -> their transform along `axis`, or its inverse."""

    axis: int
    inverse: bool = False
    arity = 1
    onnx = "DFT"
    samples = (sample((8, 2), axis=0), sample((3, 17, 2), axis=1), sample((2, 12, 3, 2), axis=1),
               sample((1, 2), axis=0, inverse=True), sample((5, 4, 2), axis=0, inverse=True),
               sample((100, 2), axis=0), sample((2, 360, 2), axis=1, inverse=True, gradient=False),
               sample((263, 2), axis=0, gradient=False),
               sample((263, 2), axis=0, inverse=True, gradient=False))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        _check(types[0], self.axis, True)
        return types[0]

    def expand(self, *xs: Value) -> Value:
        (x,) = xs
        before, after = _sides(x.shape[:-1], self.axis)
        state = CALLS["reshape"](x, (before, x.shape[self.axis], after, 2))
        return CALLS["reshape"](transform(state, self.inverse, False), x.shape)  # type: ignore[no-any-return]

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        other = make(Fft(self.axis, not self.inverse), g)
        n = CALLS["cast"](CALLS["size_of"](g.shape[self.axis], g.node.owner), g.dtype)
        return (other / n if self.inverse else other * n,)

    def ref(self, *xs: Array) -> Array:
        do = np.fft.ifft if self.inverse else np.fft.fft
        return _pairs(do(_complex(xs[0]), axis=self.axis), xs[0])

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return out.size * 40


@dataclass(frozen=True)
class Rfft(Op):
    """Real numbers [.., n, ..] -> the first n // 2 + 1 of their transform along `axis`, the others
    being these in reverse, conjugated; pairs along a new last axis."""

    axis: int
    arity = 1
    samples = (sample((8,), axis=0), sample((3, 17), axis=1), sample((2, 12, 3), axis=1),
               sample((1,), axis=0), sample((2,), axis=0), sample((100,), axis=0),
               sample((2, 400), axis=1, gradient=False),
               sample((263,), axis=0, gradient=False))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        at = _check(x, self.axis, False)
        bins = x.shape[at] // 2 + 1
        return TensorType(x.dtype, (*x.shape[:at], bins, *x.shape[at + 1 :], 2))

    def expand(self, *xs: Value) -> Value:
        (x,) = xs
        n = x.shape[self.axis]
        before, after = _sides(x.shape, self.axis)
        state = CALLS["reshape"](x, (before, n, after, 1))
        out = transform(state, False, False, n // 2 + 1)
        shape = (*x.shape[: self.axis], n // 2 + 1, *x.shape[self.axis + 1 :], 2)
        return CALLS["reshape"](out, shape)  # type: ignore[no-any-return]

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        n = xs[0].shape[self.axis]
        missing = tuple(n - d if k == self.axis else 0 for k, d in enumerate(g.shape))
        whole = make(Fft(self.axis, True), CALLS["pad"](g, (0,) * g.ndim, missing))
        size = CALLS["cast"](CALLS["size_of"](n, g.node.owner), g.dtype)
        return (whole[..., 0] * size,)

    def ref(self, *xs: Array) -> Array:
        return _pairs(np.fft.rfft(xs[0].astype(np.float64), axis=self.axis), xs[0])

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return types[0].size * 40


@dataclass(frozen=True)
class Irfft(Op):
    """Pairs [.., size // 2 + 1, .., 2], the first half of the transform of real numbers along
    `axis` -> these `size` numbers. Imaginary parts that must be 0 do not count."""

    axis: int
    size: Dim
    arity = 1
    samples = (sample((5, 2), axis=0, size=8), sample((3, 9, 2), axis=1, size=17),
               sample((2, 7, 3, 2), axis=1, size=12), sample((1, 2), axis=0, size=1),
               sample((2, 2), axis=0, size=2), sample((51, 2), axis=0, size=100),
               sample((1, 201, 2), axis=1, size=400, gradient=False),
               sample((132, 2), axis=0, size=263, gradient=False))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        at = _check(x, self.axis, True)
        if x.shape[at] != self.size // 2 + 1:
            raise ShapeError(f"{x} has not the {self.size // 2 + 1} bins along axis {at} that "
                             f"{self.size} real numbers have")  # fmt: skip
        check_length(self.size)
        return TensorType(x.dtype, (*x.shape[:at], self.size, *x.shape[at + 1 : -1]))

    def expand(self, *xs: Value) -> Value:
        (x,) = xs
        before, after = _sides(x.shape[:-1], self.axis)
        bins = x.shape[self.axis]
        half: Value = CALLS["reshape"](x, (before, bins, after, 2))
        others = self.size - bins
        if others != 0:
            sign = np.array([1, -1], x.dtype.numpy)
            inner = make(Slice((0, 1, 0, 0), (before, others, after, 2), (1, 1, 1, 1)), half)
            half = concat([half, CALLS["flip"](inner, 1) * sign], 1)
        out = transform(half, True, True)
        shape = (*x.shape[: self.axis], self.size, *x.shape[self.axis + 1 : -1])
        return CALLS["reshape"](out, shape)  # type: ignore[no-any-return]

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        owner = g.node.owner
        made = make(Rfft(self.axis), g)
        bins = xs[0].shape[self.axis]
        line = [1] * made.ndim
        place = CALLS["iota"]((*line[: self.axis], bins, *line[self.axis + 1 :]), self.axis,
                              owner=owner)  # fmt: skip
        size = CALLS["size_of"](self.size, owner)
        alone = CALLS["eq"](place, 0) | CALLS["eq"](place * 2, size)
        weight = CALLS["where"](alone, 1.0, 2.0) / CALLS["cast"](size, g.dtype)
        return (made * CALLS["cast"](weight, g.dtype),)

    def ref(self, *xs: Array) -> Array:
        size = int(self.size) if isinstance(self.size, int) else -1
        return np.fft.irfft(_complex(xs[0]), size, axis=self.axis).astype(xs[0].dtype)

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return out.size * 40


def _sized(x: Value, axis: int, size: Any) -> Value:
    """x cut to, or filled up with zeros to, `size` elements along an axis."""
    if size is None:
        return x
    (wanted,) = as_shape(size)
    have = x.shape[axis]
    if wanted == have:
        return x
    after = tuple(wanted - have if k == axis else 0 for k in range(x.ndim))
    return CALLS["pad"](x, (0,) * x.ndim, after)  # type: ignore[no-any-return]


@graph_function("fft")
def fft(x: Any, axis: int = -2, size: Any = None) -> Value:
    """The Fourier transform of complex numbers, pairs along the last axis, along another `axis`.
    `size`: cut to so many or filled up with zeros before."""
    v = as_value(x)
    at = _check(v.type, axis, True)
    return make(Fft(at), _sized(v, at, size))


@graph_function("ifft")
def ifft(x: Any, axis: int = -2, size: Any = None) -> Value:
    """The inverse Fourier transform of complex numbers, pairs along the last axis, along another
    `axis`. `size`: cut to so many or filled up with zeros before."""
    v = as_value(x)
    at = _check(v.type, axis, True)
    return make(Fft(at, True), _sized(v, at, size))


@graph_function("rfft")
def rfft(x: Any, axis: int = -1, size: Any = None) -> Value:
    """The first half of the Fourier transform of real numbers along `axis`: n // 2 + 1 complex
    numbers, pairs along a new last axis. `size`: cut to so many or filled up with zeros before."""
    v = as_value(x)
    at = _check(v.type, axis, False)
    return make(Rfft(at), _sized(v, at, size))


@graph_function("irfft")
def irfft(x: Any, axis: int = -2, size: Any = None) -> Value:
    """The real numbers whose Fourier transform begins with the complex numbers x, pairs along the
    last axis: `size` of them, twice the number of x less two if it is not given."""
    v = as_value(x)
    at = _check(v.type, axis, True)
    (many,) = as_shape(v.shape[at] * 2 - 2 if size is None else size)
    return make(Irfft(at, many), _sized(v, at, many // 2 + 1))


@graph_function("stft")
def stft(signal: Any, frame_step: int, window: Any = None, frame_length: int | None = None,
         onesided: bool = True) -> Value:  # fmt: skip
    """Transforms of frames of a signal, [batch, n] or pairs [batch, n, 2] -> pairs [batch, frames,
    bins, 2]. Frames have `frame_length` elements, by default those of the window they are
    multiplied by, and begin `frame_step` apart; there are as many as fit. Of a real signal the
    first half of the transform is returned, unless `onesided` is false."""
    v = as_value(signal)
    w = None if window is None else as_value(window, v)
    if frame_length is None:
        if w is None or not isinstance(w.shape[0], int):
            raise ShapeError("stft: give a frame_length, or a window of a size that is a number")
        frame_length = w.shape[0]
    pairs = v.ndim == 3
    if v.ndim not in (2, 3) or (pairs and v.shape[-1] != 2):
        raise ShapeError(f"stft: a signal is [batch, n] or [batch, n, 2], not {v.type}")
    if w is not None and w.shape != (frame_length,):
        raise ShapeError(f"stft: the window {w.type} does not fit frames of {frame_length}")
    channels = CALLS["transpose"](v, (0, 2, 1)) if pairs else CALLS["expand_dims"](v, 1)
    frames = CALLS["im2col"](channels, frame_length, int(frame_step))
    parts = 2 if pairs else 1
    frames = CALLS["reshape"](frames, (v.shape[0], parts, frame_length, frames.shape[-1]))
    if w is not None:
        frames = frames * CALLS["reshape"](CALLS["cast"](w, v.dtype), (frame_length, 1))
    if pairs:
        return fft(CALLS["transpose"](frames, (0, 3, 2, 1)), 2)
    line = CALLS["transpose"](frames[:, 0], (0, 2, 1))
    if onesided:
        return rfft(line, 2)
    zeros = CALLS["zeros_like"](line)
    return fft(CALLS["stack"]([line, zeros], -1), 2)
