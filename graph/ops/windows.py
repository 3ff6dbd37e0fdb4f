"""Sliding windows over spatial axes: the geometry that convolution and pooling share.

Values are [batch, channels, *spatial]. Output position o and tap t of a window read the input at
`o * stride + t * dilation - before`. Everything works for symbolic sizes and paddings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import algorithm as alg
from ...algorithm import Axis, Const, Expr, Index
from ...dims import Dim, DimExpr, bounds, ceildiv, maximum, minimum, show
from ...dtypes import Array, int64
from ...errors import ConfigError, ShapeError
from ..ir import Shape, TensorType
from .base import Op


@dataclass(frozen=True)
class Windowed(Op, abstract=True):
    """Attributes of every op with windows, one entry per spatial axis. Padding counts positions
    added on each side; `dilations` is the distance between the taps of a window."""

    strides: tuple[int, ...]
    pads_before: Shape
    pads_after: Shape
    dilations: tuple[int, ...]

    @property
    def rank(self) -> int:
        """Number of spatial axes."""
        return len(self.strides)

    def covered(self, kernel: Sequence[int]) -> tuple[int, ...]:
        """How many input positions a window of `kernel` taps spans on each axis."""
        return tuple((k - 1) * d + 1 for k, d in zip(kernel, self.dilations))

    def out_spatial(self, spatial: Shape, kernel: Sequence[int]) -> Shape:
        """Window positions on each axis. ShapeError where not a single window fits."""
        self.check_geometry(len(spatial), kernel)
        out: list[Dim] = []
        for k, (size, span) in enumerate(zip(spatial, self.covered(kernel))):
            padded = size + self.pads_before[k] + self.pads_after[k]
            n = (padded - span) // self.strides[k] + 1
            if isinstance(n, int) and n < 1:
                raise ShapeError(f"a window over {span} positions does not fit spatial axis {k} of "
                                 f"{show(padded)} positions, padding included")  # fmt: skip
            out.append(n)
        return tuple(out)

    def requires(self, out: TensorType, *types: TensorType) -> Iterator[tuple[Dim, str]]:
        for k, (size, n) in enumerate(zip(types[0].shape[2:] if types else (), out.shape[2:])):
            if isinstance(size, DimExpr) or isinstance(n, DimExpr):
                yield n - 1, f"no window fits spatial axis {k} of {show(size)} positions"

    def check_geometry(self, rank: int, kernel: Sequence[int]) -> None:
        """ShapeError where the attributes do not describe windows over `rank` axes."""
        given = (self.strides, self.pads_before, self.pads_after, self.dilations, kernel)
        if any(len(a) != rank for a in given):
            raise ShapeError(f"strides {self.strides}, padding {self.pads_before} and "
                             f"{self.pads_after}, dilations {self.dilations}, window "
                             f"{tuple(kernel)} need {rank} entries each")  # fmt: skip
        if any(n < 1 for n in (*self.strides, *self.dilations, *kernel)):
            raise ShapeError(f"strides {self.strides}, dilations {self.dilations} and the window "
                             f"{tuple(kernel)} must be positive")  # fmt: skip
        if any(isinstance(n, int) and n < 0 for n in (*self.pads_before, *self.pads_after)):
            raise ShapeError(f"padding is negative: {self.pads_before}, {self.pads_after}",
                             "slice instead")  # fmt: skip

    def read(
        self, out: Sequence[Axis], taps: Sequence[Dim], kernel: Sequence[int], spatial: Shape
    ) -> tuple[list[Dim], Expr | None]:
        """Where tap `taps` of the window at `out` lies in the input, and the mask that it lies
        inside (None: certain)."""
        at: list[Dim] = []
        tests: list[Expr] = []
        for k, (o, t, size) in enumerate(zip(out, taps, spatial)):
            s, d, before = self.strides[k], self.dilations[k], self.pads_before[k]
            where = o.index * s + t * d - before
            low, _ = bounds(where)
            if low is None or low < 0:
                tests.append(Index(where) >= Const(0, int64))
            last = (o.extent - 1) * s + (kernel[k] - 1) * d - before
            if self.pads_after[k] != 0 and not _certain(last, size - 1):
                tests.append(Index(where) <= Index(size - 1))
            at.append(where)
        return at, both(*tests)

    def covering(
        self, at: Sequence[Axis], kernel: Sequence[int], out_spatial: Shape, keep: bool
    ) -> tuple[tuple[Axis, ...], list[Dim], list[Dim], Expr | None, Expr | None]:
        """The windows that read input position `at`: `read` turned round, for gradients.

        Returns axes that number the candidates (one per spatial axis; without `keep` none where
        there is a single candidate), the window position and the tap of a candidate, the mask that
        both exist, and the mask that the tap does. Without dilation only every stride-th tap is a
        candidate.
        """
        axes: list[Axis] = []
        windows: list[Dim] = []
        taps: list[Dim] = []
        tests: list[Expr] = []
        tap_tests: list[Expr] = []
        for k, (i, n, size) in enumerate(zip(at, kernel, out_spatial)):
            s, d, before = self.strides[k], self.dilations[k], self.pads_before[k]
            candidates = alg.axis((n + s - 1) // s if d == 1 else n, "k")
            single = candidates.extent == 1 and not keep
            j: Dim = 0 if single else candidates.index
            if not single:
                axes.append(candidates)
            if d == 1:
                tap: Dim = (i.index + before) % s + j * s
                window: Dim = (i.index + before) // s - j
                if n % s:
                    tap_tests.append(Index(tap) < Const(n, int64))
            else:
                tap = j
                first = i.index + before - tap * d
                window = first // s
                if s > 1:
                    tests.append(alg.equal(Index(first % s), Const(0, int64)))
            low, _ = bounds(window)
            if low is None or low < 0:
                tests.append(Index(window) >= Const(0, int64))
            if not _certain((i.extent - 1 + before) // s, size - 1):
                tests.append(Index(window) <= Index(size - 1))
            windows.append(window)
            taps.append(tap)
        return tuple(axes), windows, taps, both(*tap_tests, *tests), both(*tap_tests)

    def pad_ref(self, x: Array, value: float = 0.0) -> Array:
        """For references: x padded on its spatial axes."""
        width = [(0, 0)] * (x.ndim - self.rank)
        width += list(zip(concrete(self.pads_before), concrete(self.pads_after)))
        return np.pad(x, width, constant_values=value)

    def tap_slice(self, tap: Sequence[int], out_spatial: Sequence[int]) -> tuple[Any, ...]:
        """For references: what tap `tap` of all windows reads of a padded input, as an index."""
        geometry = zip(tap, self.dilations, self.strides, out_spatial)
        return (..., *(slice(t * d, t * d + (n - 1) * s + 1, s) for t, d, s, n in geometry))


def _certain(a: Dim, b: Dim) -> bool:
    """Whether `a <= b` is certain."""
    low, _ = bounds(b - a)
    return low is not None and low >= 0


def both(*tests: Expr) -> Expr | None:
    """All tests joined by and; None for none."""
    out: Expr | None = None
    for t in tests:
        out = t if out is None else out & t
    return out


def concrete(shape: Shape) -> tuple[int, ...]:
    """For references: a shape that consists of numbers."""
    return tuple(d for d in shape if isinstance(d, int))


def per_axis(given: Any, rank: int, what: str) -> tuple[int, ...]:
    """One positive int per spatial axis from an int or a sequence. ConfigError otherwise."""
    alone = isinstance(given, int | np.integer) or not isinstance(given, Iterable)
    values = (given,) * rank if alone else tuple(given)
    if len(values) != rank:
        raise ConfigError(f"{what} {given!r} must be a number or {rank} of them")
    if any(isinstance(v, bool) or not isinstance(v, int | np.integer) or v < 1 for v in values):
        raise ConfigError(f"{what} {given!r} must be positive whole numbers")
    return tuple(int(v) for v in values)


def resolve_padding(
    padding: Any, spatial: Shape, kernel: Sequence[int], strides: Sequence[int],
    dilations: Sequence[int],
) -> tuple[Shape, Shape]:  # fmt: skip
    """Positions added before and after each spatial axis.

    `padding` is "valid" (none), "same" (as many windows as ceil(size / stride), the odd position
    after, as TensorFlow does), "same_lower" (the odd position before), one int, or per axis an int
    or a pair (before, after).
    """
    rank = len(spatial)
    if padding == "valid":
        return (0,) * rank, (0,) * rank
    if padding in ("same", "same_lower"):
        total = [same_padding(*a) for a in zip(spatial, kernel, strides, dilations)]
        return halves(total, padding)
    if isinstance(padding, str):
        raise ConfigError(
            f'padding {padding!r} is not known: "valid", "same", "same_lower" or numbers'
        )
    given = (padding,) * rank if isinstance(padding, int | np.integer) else tuple(padding)
    pairs = [(p, p) if isinstance(p, int | np.integer | DimExpr) else tuple(p) for p in given]
    if len(pairs) != rank or any(len(p) != 2 for p in pairs):
        raise ConfigError(f"padding {padding!r} must be a number, or {rank} numbers or pairs")
    for p in (n for pair in pairs for n in pair):
        if isinstance(p, bool) or not isinstance(p, int | np.integer | DimExpr):
            raise ConfigError(f"padding {padding!r} must be whole numbers")
    whole = [tuple(n if isinstance(n, DimExpr) else int(n) for n in p) for p in pairs]
    return tuple(p[0] for p in whole), tuple(p[1] for p in whole)


def ceil_padding(
    spatial: Shape, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int],
    before: Shape, after: Shape,
) -> Shape:  # fmt: skip
    """Padding after each axis with which the positions that are left over get a window too. It
    begins within the values or the padding before them, as in PyTorch and ONNX."""
    out: list[Dim] = []
    for size, k, s, d, first, last in zip(spatial, kernel, strides, dilations, before, after):
        span = (k - 1) * d + 1
        windows = minimum(ceildiv(size + first + last - span, s) + 1, ceildiv(size + first, s))
        out.append(maximum((windows - 1) * s + span - size - first, 0))
    return tuple(out)


def halves(total: Sequence[Dim], padding: str) -> tuple[Shape, Shape]:
    """Padding in all divided among both sides; "same_lower" puts the odd position before."""
    less, more = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    return (more, less) if padding == "same_lower" else (less, more)


def same_padding(size: Dim, kernel: int, stride: int, dilation: int) -> Dim:
    """Padding in all that gives `ceil(size / stride)` windows on an axis."""
    span = (kernel - 1) * dilation + 1
    needed = (ceildiv(size, stride) - 1) * stride + span - size
    if span == 1:
        return 0
    return needed if span >= stride else maximum(needed, 0)
