"""Convolution over any number of spatial axes, and its two gradients as ops of their own.

The three are closed under differentiation: the gradient of each is made of the others. Values are
[batch, channels, *spatial], weights [out channels, in channels / groups, *window]. As everywhere
in deep learning the window is not reversed (cross-correlation).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product as every
from typing import Any

import numpy as np

from ...algorithm import Compute, axis
from ...dims import Dim, product, show
from ...dtypes import Array
from ...errors import DTypeError, ShapeError
from ..ir import Shape, TensorType, Value
from .base import Operand, graph_function, make, promoted, sample
from .windows import Windowed, concrete, per_axis, resolve_padding

_PLAIN: dict[str, Any] = {"strides": (1, 1), "pads_before": (0, 0), "pads_after": (0, 0),
                          "dilations": (1, 1), "groups": 1}  # fmt: skip
_SAME: dict[str, Any] = {**_PLAIN, "pads_before": (1, 1), "pads_after": (1, 1)}
_STRIDED: dict[str, Any] = {**_SAME, "strides": (2, 3), "pads_after": (2, 0)}
_DILATED: dict[str, Any] = {**_SAME, "dilations": (2, 1), "groups": 2}
_DEPTH: dict[str, Any] = {**_SAME, "groups": 3}
_ODD: dict[str, Any] = {
    "strides": (3,),
    "pads_before": (2,),
    "pads_after": (1,),
    "dilations": (2,),
    "groups": 1,
}
_CUBE: dict[str, Any] = {"strides": (1, 2, 1), "pads_before": (1, 0, 0), "pads_after": (0, 0, 0),
         "dilations": (1, 1, 1), "groups": 1}  # fmt: skip
_NO_BATCH: tuple[int, ...] = (0, 2, 4, 4)


@dataclass(frozen=True)
class Convolution(Windowed, abstract=True):
    """What the three share. `groups` divides both kinds of channels into independent parts."""

    groups: int

    def check_types(self, *types: TensorType) -> None:
        for t in types:
            if t.dtype != types[0].dtype:
                raise DTypeError(f"dtypes differ: {types[0].dtype} and {t.dtype}")
            if not t.dtype.computes or t.dtype.kind == "b":
                raise DTypeError(f"not defined for {t.dtype}", "cast to float32 first")
            if t.ndim != self.rank + 2:
                raise ShapeError(f"{self.rank} strides are for values with {self.rank + 2} axes, "
                                 f"not for {t}")  # fmt: skip

    def window(self, shape: Shape) -> tuple[int, ...]:
        """The window's sizes, from the shape of weights."""
        kernel = concrete(shape[2:])
        if len(kernel) != self.rank:
            text = ",".join(show(d) for d in shape)
            raise ShapeError(f"a window needs sizes that are numbers: weights are [{text}]")
        return kernel

    def check_channels(self, ins: Dim, outs: Dim, weights: Shape) -> None:
        """ShapeError where channels, groups and weights do not fit."""
        if self.groups < 1:
            raise ShapeError(f"groups must be positive, not {self.groups}")
        if isinstance(outs, int) and outs % self.groups:
            raise ShapeError(f"{outs} output channels do not divide into {self.groups} groups")
        if weights[1] * self.groups != ins or weights[0] != outs:
            raise ShapeError(
                f"weights [{','.join(show(d) for d in weights)}] with {self.groups} groups are "
                f"from {show(weights[1] * self.groups)} to {show(weights[0])} channels, the values "
                f"have {show(ins)} and {show(outs)}",
                "weights are [out channels, in channels / groups, *window]",
            )


@dataclass(frozen=True)
class Conv(Convolution):
    """x [n, c, *spatial], w [o, c/groups, *window] -> [n, o, *positions]; zeros as padding.

    Each result is a sum over (channel, window) in that order.
    """

    arity = 2
    onnx = "Conv"
    samples = (sample((2, 3, 7, 6), (4, 3, 3, 3), **_SAME),
               sample((1, 4, 9, 8), (5, 4, 3, 2), **_STRIDED),
               sample((2, 4, 7, 6), (6, 2, 3, 3), **_DILATED),
               sample((1, 3, 6, 7), (6, 1, 3, 3), **_DEPTH),
               sample((3, 17, 5, 5), (18, 17, 1, 1), **_PLAIN),
               sample((2, 3, 16), (4, 3, 4), **_ODD),
               sample((1, 2, 3, 5, 4), (3, 2, 2, 3, 2), **_CUBE),
               sample(_NO_BATCH, (3, 2, 2, 2), **_PLAIN),
               sample((1, 2, 4, 4), (3, 2, 2, 2), dtypes=("int32", "int32"), low=-9, high=9,
                      **_SAME))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        self.check_types(*types)
        x, w = types
        self.check_channels(x.shape[1], w.shape[0], w.shape)
        out = self.out_spatial(x.shape[2:], self.window(w.shape))
        return TensorType(x.dtype, (x.shape[0], w.shape[0], *out))

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        x, w = xs
        n, o, *at = axes = tuple(axis(d) for d in out.shape)
        c, *taps = inside = tuple(axis(d, "k") for d in w.shape[1:])
        channel: Dim = c.index
        if self.groups > 1:
            channel = o.index // (w.shape[0] // self.groups) * w.shape[1] + channel
        tap = [t.index for t in taps]
        where, mask = self.read(at, tap, self.window(w.shape), x.shape[2:])
        value = x.at([n.index, channel, *where], mask) * w.at([o.index, c.index, *tap])
        return Compute(axes, inside, "add", value)

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        x, w = xs
        return input_grad(self, g, w, x.shape[2:]), weight_grad(self, x, g, w.shape[2:])

    def ref(self, *xs: Array) -> Array:
        x, w = _wide(xs[0]), _wide(xs[1])
        kernel = w.shape[2:]
        spatial = tuple(range(2, 2 + self.rank))
        windows = np.lib.stride_tricks.sliding_window_view(
            self.pad_ref(x), self.covered(kernel), spatial
        )
        windows = windows[(slice(None), slice(None), *(slice(None, None, s) for s in self.strides),
                           *(slice(None, None, d) for d in self.dilations))]  # fmt: skip
        summed = [1, *range(2 + self.rank, 2 + 2 * self.rank)]
        parts = [
            np.moveaxis(np.tensordot(a, b, (summed, list(range(1, 2 + self.rank)))), -1, 1)
            for a, b in zip(np.split(windows, self.groups, 1), np.split(w, self.groups, 0))
        ]
        return np.concatenate(parts, 1).astype(xs[0].dtype)

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return out.size * product(types[1].shape[1:]) * 2


@dataclass(frozen=True)
class ConvInputGrad(Convolution):
    """g [n, o, *positions], w -> [n, c, *spatial]: the gradient of `Conv` with respect to x, and
    the transposed convolution. `spatial` is the shape of x's spatial axes.

    Each result is a sum over (output channel, window) in that order; with a stride only over those
    taps of the window that meet the position.
    """

    spatial: Shape
    arity = 2
    samples = (sample((2, 4, 7, 6), (4, 3, 3, 3), spatial=(7, 6), **_SAME),
               sample((1, 5, 5, 3), (5, 4, 3, 2), spatial=(9, 8), **_STRIDED),
               sample((2, 6, 5, 6), (6, 2, 3, 3), spatial=(7, 6), **_DILATED),
               sample((1, 6, 6, 7), (6, 1, 3, 3), spatial=(6, 7), **_DEPTH),
               sample((3, 18, 5, 5), (18, 17, 1, 1), spatial=(5, 5), **_PLAIN),
               sample((2, 4, 5), (4, 3, 4), spatial=(16,), **_ODD),
               sample((1, 3, 3, 2, 3), (3, 2, 2, 3, 2), spatial=(3, 5, 4), **_CUBE))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        self.check_types(*types)
        g, w = types
        if any(isinstance(d, int) and d < 1 for d in self.spatial):
            raise ShapeError(f"no positions are left: the result would be {self.spatial}")
        ins = w.shape[1] * self.groups
        self.check_channels(ins, g.shape[1], w.shape)
        _check_positions(g, self.out_spatial(self.spatial, self.window(w.shape)))
        return TensorType(g.dtype, (g.shape[0], ins, *self.spatial))

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        g, w = xs
        n, c, *at = axes = tuple(axis(d) for d in out.shape)
        members = w.shape[0] // self.groups
        o = axis(members, "k")
        taps, windows, tap, mask, tap_mask = self.covering(
            at, self.window(w.shape), g.shape[2:], keep=True
        )
        channel: Dim = o.index
        inner: Dim = c.index
        if self.groups > 1:
            channel = c.index // w.shape[1] * members + channel
            inner = c.index % w.shape[1]
        value = g.at([n.index, channel, *windows], mask) * w.at([channel, inner, *tap], tap_mask)
        return Compute(axes, (o, *taps), "add", value)

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        positions, w = xs
        return make(Conv(**_geometry(self)), g, w), weight_grad(self, g, positions, w.shape[2:])

    def ref(self, *xs: Array) -> Array:
        g, w = _wide(xs[0]), _wide(xs[1])
        before, after = concrete(self.pads_before), concrete(self.pads_after)
        spatial = concrete(self.spatial)
        sizes = (b + d + a for b, d, a in zip(before, spatial, after))
        padded: Array = np.zeros((g.shape[0], w.shape[1] * self.groups, *sizes), g.dtype)
        for tap in every(*(range(k) for k in w.shape[2:])):
            at: Any = (..., *tap)
            weights = np.split(w[at], self.groups, 0)
            parts = [
                np.moveaxis(np.tensordot(a, b, (1, 0)), -1, 1)
                for a, b in zip(np.split(g, self.groups, 1), weights)
            ]
            padded[self.tap_slice(tap, g.shape[2:])] += np.concatenate(parts, 1)
        inside: Any = (..., *(slice(b, b + d) for b, d in zip(before, spatial)))
        return np.asarray(padded[inside], xs[0].dtype)

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return types[0].size * product(types[1].shape[1:]) * 2


@dataclass(frozen=True)
class ConvWeightGrad(Convolution):
    """x [n, c, *spatial], g [n, o, *positions] -> [o, c/groups, *window]: the gradient of `Conv`
    with respect to w. `kernel` is the window's shape.

    Each result is a sum over (image, position) in that order.
    """

    kernel: tuple[int, ...]
    arity = 2
    samples = (sample((2, 3, 7, 6), (2, 4, 7, 6), kernel=(3, 3), **_SAME),
               sample((1, 4, 9, 8), (1, 5, 5, 3), kernel=(3, 2), **_STRIDED),
               sample((2, 4, 7, 6), (2, 6, 5, 6), kernel=(3, 3), **_DILATED),
               sample((1, 3, 6, 7), (1, 6, 6, 7), kernel=(3, 3), **_DEPTH),
               sample((3, 17, 5, 5), (3, 18, 5, 5), kernel=(1, 1), **_PLAIN),
               sample((2, 3, 16), (2, 4, 5), kernel=(4,), **_ODD),
               sample((1, 2, 3, 5, 4), (1, 3, 3, 2, 3), kernel=(2, 3, 2), **_CUBE),
               sample(_NO_BATCH, (0, 3, 3, 3), kernel=(2, 2), **_PLAIN))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        self.check_types(*types)
        x, g = types
        ins, outs = x.shape[1], g.shape[1]
        if isinstance(ins, int) and ins % self.groups:
            raise ShapeError(f"{ins} input channels do not divide into {self.groups} groups")
        weights = (outs, ins // self.groups, *self.kernel)
        self.check_channels(ins, outs, weights)
        if x.shape[0] != g.shape[0]:
            raise ShapeError(f"batches differ: {show(x.shape[0])} and {show(g.shape[0])}")
        _check_positions(g, self.out_spatial(x.shape[2:], self.kernel))
        return TensorType(x.dtype, weights)

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        x, g = xs
        o, c, *taps = axes = tuple(axis(d) for d in out.shape)
        n = axis(x.shape[0], "k")
        at = [axis(d, "k") for d in g.shape[2:]]
        channel: Dim = c.index
        if self.groups > 1:
            channel = o.index // (out.shape[0] // self.groups) * out.shape[1] + channel
        where, mask = self.read(at, [t.index for t in taps], self.kernel, x.shape[2:])
        value = x.at([n.index, channel, *where], mask) * g.at(
            [n.index, o.index, *(a.index for a in at)]
        )
        return Compute(axes, (n, *at), "add", value)

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        x, positions = xs
        return input_grad(self, positions, g, x.shape[2:]), make(Conv(**_geometry(self)), x, g)

    def ref(self, *xs: Array) -> Array:
        x, g = self.pad_ref(_wide(xs[0])), _wide(xs[1])
        summed = [0, *range(2, 2 + self.rank)]
        out = np.zeros((g.shape[1], x.shape[1] // self.groups, *self.kernel), x.dtype)
        for tap in every(*(range(k) for k in self.kernel)):
            read = x[self.tap_slice(tap, g.shape[2:])]
            parts = [
                np.tensordot(b, a, (summed, summed))
                for a, b in zip(np.split(read, self.groups, 1), np.split(g, self.groups, 1))
            ]
            at: Any = (..., *tap)
            out[at] = np.concatenate(parts, 0)
        return out.astype(xs[0].dtype)

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return types[1].size * product(out.shape[1:]) * 2


def _check_positions(g: TensorType, expected: Shape) -> None:
    if g.shape[2:] != expected:
        raise ShapeError(f"{g} does not have the {[show(d) for d in expected]} positions of the "
                         "windows")  # fmt: skip


def _wide(x: Array) -> Array:
    return x.astype(np.float64) if x.dtype.kind == "f" else x


def _geometry(op: Convolution) -> dict[str, Any]:
    return {"strides": op.strides, "pads_before": op.pads_before, "pads_after": op.pads_after,
            "dilations": op.dilations, "groups": op.groups}  # fmt: skip


def input_grad(op: Convolution, g: Value, w: Value, spatial: Shape) -> Value:
    """`ConvInputGrad` with the geometry of `op`."""
    return make(ConvInputGrad(**_geometry(op), spatial=spatial), g, w)


def weight_grad(op: Convolution, x: Value, g: Value, kernel: Shape) -> Value:
    """`ConvWeightGrad` with the geometry of `op`."""
    return make(ConvWeightGrad(**_geometry(op), kernel=concrete(kernel)), x, g)


def convolved(x: Any, w: Any, what: str) -> tuple[Value, Value]:
    """Values and weights of one dtype. ShapeError where their axes do not fit each other."""
    a, b = promoted(x, w)
    if a.ndim < 3 or b.ndim != a.ndim:
        raise ShapeError(f"{what}: values are [batch, channels, *spatial] and weights have as many "
                         f"axes: got {a.type} and {b.type}")  # fmt: skip
    return a, b


@graph_function("conv")
def conv(
    x: Any, w: Any, strides: int | Sequence[int] = 1, padding: Any = "valid",
    dilations: int | Sequence[int] = 1, groups: int = 1,
) -> Value:  # fmt: skip
    """Convolution of x [n, c, *spatial] with w [o, c/groups, *window] -> [n, o, *positions].

    `padding`: "valid", "same", "same_lower", an int, or per axis an int or a pair (before, after).
    """
    a, b = convolved(x, w, "conv")
    rank = a.ndim - 2
    s, d = per_axis(strides, rank, "strides"), per_axis(dilations, rank, "dilations")
    kernel = window_of(b)
    before, after = resolve_padding(padding, a.shape[2:], kernel, s, d)
    return make(Conv(s, before, after, d, int(groups)), a, b)


def window_of(w: Value) -> tuple[int, ...]:
    """The sizes of the window of weights. ShapeError where they are no numbers."""
    kernel = concrete(w.shape[2:])
    if len(kernel) != w.ndim - 2:
        raise ShapeError(f"a window needs sizes that are numbers: weights are {w.type}")
    return kernel
