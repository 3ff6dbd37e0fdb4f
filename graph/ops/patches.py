"""Images taken apart into the patches that windows see, and patches added up to images.

The two are each other's gradient. Values are [batch, channels, *spatial]; patches are
[batch, channels, *window, *positions], or with the middle and the last axes joined
[batch, channels * window, positions], as im2col and col2im have them.
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
from .base import Operand, as_value, graph_function, make, sample
from .shape import as_shape, reshape
from .windows import Windowed, concrete, per_axis, resolve_padding

_PLAIN: dict[str, Any] = {"strides": (1, 2), "pads_before": (0, 0), "pads_after": (0, 0),
                          "dilations": (1, 1), "window": (2, 3)}  # fmt: skip
_PADDED: dict[str, Any] = {"strides": (2, 1), "pads_before": (1, 0), "pads_after": (1, 2),
                           "dilations": (1, 2), "window": (3, 2)}  # fmt: skip
_LINE: dict[str, Any] = {"strides": (3,), "pads_before": (2,), "pads_after": (0,),
                         "dilations": (1,), "window": (2,)}  # fmt: skip


@dataclass(frozen=True)
class Patches(Windowed, abstract=True):
    """Windows of `window` taps."""

    window: tuple[int, ...]

    def apart(self, x: TensorType) -> TensorType:
        """The type of the patches of x."""
        if not x.dtype.computes:
            raise DTypeError(f"not defined for {x.dtype}", "cast to float32 first")
        if x.ndim != len(self.window) + 2:
            raise ShapeError(f"a window {self.window} is for values with {len(self.window) + 2} "
                             f"axes, not for {x}")  # fmt: skip
        positions = self.out_spatial(x.shape[2:], self.window)
        return TensorType(x.dtype, (*x.shape[:2], *self.window, *positions))

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return types[0].size

    def geometry(self) -> dict[str, Any]:
        return {"strides": self.strides, "pads_before": self.pads_before, "window": self.window,
                "pads_after": self.pads_after, "dilations": self.dilations}  # fmt: skip


@dataclass(frozen=True)
class Unfold(Patches):
    """x [n, c, *spatial] -> [n, c, *window, *positions], what every tap of every window reads."""

    arity = 1
    samples = (sample((2, 3, 4, 7), **_PLAIN), sample((1, 2, 5, 6), **_PADDED),
               sample((2, 2, 7), **_LINE),
               sample((1, 2, 5, 6), dtypes=("int32",), low=-9, high=9, **_PADDED))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        return self.apart(types[0])

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        (x,) = xs
        n, c, *rest = axes = tuple(axis(d) for d in out.shape)
        taps, at = rest[: self.rank], rest[self.rank :]
        where, mask = self.read(at, [t.index for t in taps], self.window, x.shape[2:])
        return Compute(axes, (), None, x.at([n.index, c.index, *where], mask))

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return (make(Fold(**self.geometry(), spatial=xs[0].shape[2:]), g),)

    def ref(self, *xs: Array) -> Array:
        x = self.pad_ref(xs[0])
        spans = self.covered(self.window)
        sizes = tuple((n - span) // s + 1 for n, span, s in zip(x.shape[2:], spans, self.strides))
        out = np.zeros((*x.shape[:2], *self.window, *sizes), x.dtype)
        for tap in every(*(range(k) for k in self.window)):
            at: Any = (slice(None), slice(None), *tap)
            out[at] = x[self.tap_slice(tap, sizes)]
        return out


@dataclass(frozen=True)
class Fold(Patches):
    """Patches [n, c, *window, *positions] -> [n, c, *spatial], every element added up at its place;
    those that lie in the padding are dropped."""

    spatial: Shape
    arity = 1
    samples = (sample((2, 3, 2, 3, 3, 3), spatial=(4, 7), **_PLAIN),
               sample((1, 2, 3, 2, 3, 6), spatial=(5, 6), **_PADDED),
               sample((2, 2, 2, 3), spatial=(7,), **_LINE))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        (g,) = types
        x = TensorType(g.dtype, (*g.shape[:2], *self.spatial))
        if self.apart(x).shape != g.shape:
            wanted = ",".join(show(d) for d in self.apart(x).shape)
            raise ShapeError(f"{g} are not the patches [{wanted}] of {x}")
        return x

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        (g,) = xs
        n, c, *at = axes = tuple(axis(d) for d in out.shape)
        positions = g.shape[2 + self.rank :]
        inside, windows, taps, mask, _ = self.covering(at, self.window, positions, keep=False)
        value = g.at([n.index, c.index, *taps, *windows], mask)
        return Compute(axes, inside, "add" if inside else None, value)

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return (make(Unfold(**self.geometry()), g),)

    def ref(self, *xs: Array) -> Array:
        g = xs[0].astype(np.float64)
        spatial, before = concrete(self.spatial), concrete(self.pads_before)
        padded = self.pad_ref(np.zeros((*g.shape[:2], *spatial)))
        for tap in every(*(range(k) for k in self.window)):
            at: Any = (slice(None), slice(None), *tap)
            padded[self.tap_slice(tap, g.shape[2 + self.rank :])] += g[at]
        inside: Any = (..., *(slice(b, b + d) for b, d in zip(before, spatial)))
        return np.asarray(padded[inside], xs[0].dtype)


def _geometry(
    spatial: Shape, window: Any, strides: Any, padding: Any, dilations: Any
) -> dict[str, Any]:
    rank = len(spatial)
    size = per_axis(window, rank, "window")
    s, d = per_axis(strides, rank, "strides"), per_axis(dilations, rank, "dilations")
    before, after = resolve_padding(padding, spatial, size, s, d)
    return {"strides": s, "pads_before": before, "pads_after": after, "dilations": d,
            "window": size}  # fmt: skip


@graph_function("im2col")
def im2col(
    x: Any, window: int | Sequence[int], strides: int | Sequence[int] = 1, padding: Any = "valid",
    dilations: int | Sequence[int] = 1,
) -> Value:  # fmt: skip
    """The patches of x [n, c, *spatial] as columns: [n, c * window, positions], each axis in
    row-major order. `padding` as for `conv`."""
    v = as_value(x)
    if v.ndim < 3:
        raise ShapeError(f"im2col: values are [batch, channels, *spatial], not {v.type}")
    op = Unfold(**_geometry(v.shape[2:], window, strides, padding, dilations))
    out = make(op, v)
    positions = product(out.shape[2 + op.rank :])
    return reshape(out, (v.shape[0], v.shape[1] * product(op.window), positions))


@graph_function("col2im")
def col2im(
    columns: Any, shape: Sequence[Any], window: int | Sequence[int],
    strides: int | Sequence[int] = 1, padding: Any = "valid", dilations: int | Sequence[int] = 1,
) -> Value:  # fmt: skip
    """Columns [n, c * window, positions] added up at the places `im2col` takes them from, in an
    image [n, c, *shape]."""
    v = as_value(columns)
    spatial = as_shape(shape)
    if v.ndim != 3:
        raise ShapeError(f"col2im: columns are [batch, channels * window, positions], not {v.type}")
    geometry = _geometry(spatial, window, strides, padding, dilations)
    op = Fold(**geometry, spatial=spatial)
    taps = product(op.window)
    if isinstance(v.shape[1], int) and v.shape[1] % taps:
        raise ShapeError(f"col2im: the columns of {v.type} are not whole windows of {taps} taps")
    positions = op.out_spatial(spatial, op.window)
    if product(positions) != v.shape[2]:
        raise ShapeError(f"col2im: {v.type} does not have the {show(product(positions))} positions "
                         "of the windows")  # fmt: skip
    return make(op, reshape(v, (v.shape[0], v.shape[1] // taps, *op.window, *positions)))
