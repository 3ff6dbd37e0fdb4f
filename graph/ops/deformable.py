"""Deformable convolution (Dai et al. 2017; with a mask Zhu et al. 2019): every tap of every window
reads at its own place, moved by an offset that is a value, between the elements by interpolation.

The elements are gathered first, weighted, and then multiplied with the weights as a matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product as every
from typing import Any

import numpy as np

from ... import algorithm as alg
from ...dims import Dim, product, show
from ...dtypes import Array
from ...errors import ShapeError
from ..ir import CALLS, Shape, TensorType, Value
from .activation import narrow
from .base import as_value, graph_function, make, sample
from .convolution import Convolution, convolved, window_of
from .sampling import sample_at
from .windows import concrete, per_axis, resolve_padding

_PLAIN: dict[str, Any] = {"strides": (1, 1), "pads_before": (0, 0), "pads_after": (0, 0),
                          "dilations": (1, 1), "groups": 1, "offset_groups": 1}  # fmt: skip
_OTHER: dict[str, Any] = {"strides": (2, 1), "pads_before": (1, 1), "pads_after": (0, 1),
                          "dilations": (1, 2), "groups": 2, "offset_groups": 2}  # fmt: skip


@dataclass(frozen=True)
class DeformConv(Convolution):
    """x [n, c, *spatial], w [o, c/groups, *window], offsets [n, offset_groups * taps * rank,
    *positions], and perhaps a mask [n, offset_groups * taps, *positions] -> [n, o, *positions].

    The channels of x make `offset_groups` groups, each with offsets of its own: for every tap in
    row-major order its distances along the axes. Beyond x there are zeros.
    """

    offset_groups: int
    arity = None
    onnx = "DeformConv"
    samples = (sample((1, 2, 4, 5), (3, 2, 2, 2), (1, 8, 3, 4), **_PLAIN),
               sample((2, 4, 5, 6), (2, 2, 3, 2), (2, 24, 2, 6), (2, 12, 2, 6), low=-1.4,
                      high=1.4, dtypes=("float64",) * 4, **_OTHER))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        if not 3 <= len(types) <= 4:
            raise ShapeError(f"there are {len(types)} operands: values, weights, offsets and perhaps "
                             "a mask are wanted")  # fmt: skip
        self.check_types(*types)
        x, w = types[:2]
        self.check_channels(x.shape[1], w.shape[0], w.shape)
        if self.offset_groups < 1 or (isinstance(x.shape[1], int)
                                      and x.shape[1] % self.offset_groups):  # fmt: skip
            raise ShapeError(f"{show(x.shape[1])} channels do not make {self.offset_groups} groups "
                             "with offsets of their own")  # fmt: skip
        out = self.out_spatial(x.shape[2:], self.window(w.shape))
        taps = self.offset_groups * product(self.window(w.shape))
        for t, channels in zip(types[2:], (taps * self.rank, taps)):
            if t.shape != (x.shape[0], channels, *out):
                wanted = ",".join(show(d) for d in (x.shape[0], channels, *out))
                raise ShapeError(f"offsets or mask {t} should be [{wanted}]")
        return TensorType(x.dtype, (x.shape[0], w.shape[0], *out))

    def expand(self, *xs: Value) -> Value:
        x, w, offsets = xs[:3]
        reshape, owner = CALLS["reshape"], x.node.owner
        window, out = self.window(w.shape), offsets.shape[2:]
        batch, channels, og = x.shape[0], x.shape[1], self.offset_groups
        taps, many = product(window), product(out)
        apart = reshape(offsets, (batch * og, *window, self.rank, *out))
        places = [self.start(k, window, out, x) + self.axis(apart, k) for k in range(self.rank)]
        indices, weights = [], []
        for corner in every(*[(0, 1)] * self.rank):
            at: Any = 0
            weight: Any = None
            inside: Any = None
            for place, near, size in zip(places, corner, x.shape[2:]):
                below = alg.floor(place)
                n = size if isinstance(size, int) else CALLS["cast"](
                    CALLS["size_of"](size, owner), x.dtype)  # fmt: skip
                i = below + float(near)
                w_axis = place - below if near else below + 1 - place
                weight = w_axis if weight is None else weight * w_axis
                test = (i >= 0) & (i < n)
                inside = test if inside is None else inside & test
                at = at * n + i
            index = CALLS["cast"](alg.where(inside, at, -1.0), "int64")
            indices.append(reshape(index, (batch * og, taps * many)))
            weights.append(reshape(weight, (batch * og, taps * many)))
        factors = CALLS["stack"](weights, 1)
        if len(xs) == 4:
            factors = factors * reshape(xs[3], (batch * og, 1, taps * many))
        grouped = reshape(x, (batch * og, channels // og, *x.shape[2:]))
        read = sample_at(grouped, CALLS["stack"](indices, 1), factors)
        g = self.groups
        columns = reshape(read, (batch, g, channels // g * taps, many))
        matrix = reshape(w, (g, w.shape[0] // g, w.shape[1] * taps))
        return reshape(CALLS["matmul"](matrix, columns), (batch, w.shape[0], *out))  # type: ignore[no-any-return]

    def axis(self, offsets: Value, k: int) -> Value:
        """Offsets along spatial axis k: [batch, *window, *positions]."""
        at = (slice(None),) * (1 + self.rank)
        return offsets[(*at, k)]

    def start(self, k: int, window: Sequence[int], out: Shape, like: Value) -> Value:
        """Where taps lie on spatial axis k before they are moved: [*window, *positions] with 1 for
        the other axes."""
        iota, owner = CALLS["iota"], like.node.owner
        tap: list[Dim] = [1] * (2 * self.rank)
        place = list(tap)
        tap[k], place[self.rank + k] = window[k], out[k]
        position = iota(place, self.rank + k, like.dtype, owner) * self.strides[k]
        before = self.pads_before[k]
        if not isinstance(before, int):
            before = CALLS["cast"](CALLS["size_of"](before, owner), like.dtype)
        start: Value = position + iota(tap, k, like.dtype, owner) * self.dilations[k] - before
        return start

    def ref(self, *xs: Array) -> Array:
        x, w, offsets = (a.astype(np.float64) for a in xs[:3])
        window, out = w.shape[2:], offsets.shape[2:]
        moves = offsets.reshape(len(x), self.offset_groups, *window, self.rank, *out)
        mask = np.ones((len(x), self.offset_groups, *window, *out))
        if len(xs) == 4:
            mask = xs[3].astype(np.float64).reshape(mask.shape)
        made = np.zeros((len(x), w.shape[0], *out))
        before = concrete(self.pads_before)
        each, per = x.shape[1] // self.offset_groups, w.shape[0] // self.groups
        for n, c in np.ndindex(x.shape[:2]):
            first = c // w.shape[1] * per
            for tap in np.ndindex(window):
                for at in np.ndindex(out):
                    og = c // each
                    p = [o * s + t * d - b + moves[(n, og, *tap, k, *at)]
                         for k, (o, s, t, d, b) in enumerate(zip(at, self.strides, tap,
                                                                 self.dilations, before))]  # fmt: skip
                    value = _between_ref(x[n, c], p) * mask[(n, og, *tap, *at)]
                    made[(n, slice(first, first + per), *at)] += (
                        value * w[(slice(first, first + per), c % w.shape[1], *tap)])  # fmt: skip
        return narrow(made, xs[0])

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return out.size * product(types[1].shape[1:]) * 2


def _between_ref(x: Array, place: Sequence[float]) -> float:
    """For references: x read at a place by linear interpolation, zeros around it."""
    total = 0.0
    for corner in every(*[(0, 1)] * x.ndim):
        at = tuple(int(np.floor(p)) + k for p, k in zip(place, corner))
        if all(0 <= i < d for i, d in zip(at, x.shape)):
            total += float(x[at] * np.prod([1 - abs(p - i) for p, i in zip(place, at)]))
    return total


@graph_function("deform_conv")
def deform_conv(
    x: Any, w: Any, offsets: Any, mask: Any = None, strides: int | Sequence[int] = 1,
    padding: Any = "valid", dilations: int | Sequence[int] = 1, groups: int = 1,
    offset_groups: int = 1,
) -> Value:  # fmt: skip
    """Convolution of x [n, c, *spatial] with w [o, c/groups, *window], every tap moved by offsets
    [n, offset_groups * taps * rank, *positions] and what it reads multiplied by a mask
    [n, offset_groups * taps, *positions]: [n, o, *positions]. The rest is as for `conv`."""
    a, b = convolved(x, w, "deform_conv")
    rank = a.ndim - 2
    s, d = per_axis(strides, rank, "strides"), per_axis(dilations, rank, "dilations")
    before, after = resolve_padding(padding, a.shape[2:], window_of(b), s, d)
    more = [CALLS["cast"](as_value(v, a), a.dtype) for v in (offsets, mask) if v is not None]
    return make(DeformConv(s, before, after, d, int(groups), int(offset_groups)), a, b, *more)
