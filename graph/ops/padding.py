"""Padding: more elements at both ends of axes, of one value or taken from inside, and fewer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import algorithm as alg
from ...algorithm import Compute, Const, Expr, Index, axis
from ...dims import Dim, DimExpr, bounds, maximum, minimum
from ...dtypes import Array, converted, int64
from ...errors import ConfigError, ShapeError
from ..ir import CALLS, Shape, TensorType, Value
from .base import Operand, as_value, graph_function, make, sample
from .indexing import ScatterAdd
from .shape import Movement, Pad, Slice, as_shape
from .windows import concrete

MODES = ("constant", "edge", "reflect", "symmetric", "wrap")
_WIDE: dict[str, Any] = {"before": (7, 0), "after": (3, 9)}
_THIN: dict[str, Any] = {"before": (1, 2), "after": (0, 3)}


@dataclass(frozen=True)
class PadFrom(Movement):
    """Adds `before` and `after` elements on every axis, taken from inside as NumPy's pad does:
    "edge" repeats the outermost one, "reflect" mirrors at it, "symmetric" mirrors with it, "wrap"
    begins again at the other end. Padding may be wider than the axis."""

    before: Shape
    after: Shape
    mode: str
    samples = (
        *(sample((3, 5), mode=mode, **_THIN) for mode in MODES[1:]),
        *(sample((3, 4), mode=mode, **_WIDE) for mode in MODES[1:]),
        sample((1, 4), mode="reflect", **_WIDE),
        sample((2, 3, 33), before=(0, 1, 2), after=(0, 1, 2), mode="reflect"),
        sample((17,), dtypes=("int32",), low=-9, high=9, before=(4,), after=(0,), mode="edge"),
    )

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        if self.mode not in MODES[1:]:
            raise ShapeError(f"padding mode {self.mode!r} is none of {', '.join(MODES[1:])}")
        widths = list(zip(self.before, x.shape, self.after, strict=True))
        for b, d, a in widths:
            if any(isinstance(n, int) and n < 0 for n in (b, a)):
                raise ShapeError(f"padding is negative: {self.before}, {self.after}",
                                 "slice instead")  # fmt: skip
            if d == 0 and (b != 0 or a != 0):
                raise ShapeError(f"an empty axis of {x} has nothing to pad it with")
        return TensorType(x.dtype, tuple(b + d + a for b, d, a in widths))

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        (x,) = xs
        axes = tuple(axis(d) for d in out.shape)
        at: list[Dim] = []
        mask: Expr | None = None
        for k, (a, b, size) in enumerate(zip(axes, self.before, x.shape)):
            if b == 0 and self.after[k] == 0:
                at.append(a.index)
                continue
            at.append(self.source(a.index - b, size))
            low, _ = bounds(size)
            if low is None or low < 1:
                some = Index(size) > Const(0, int64)
                mask = some if mask is None else mask & some
        return Compute(axes, (), None, x.at(at, mask))

    def source(self, i: Dim, size: Dim) -> Dim:
        """The element of an axis of `size` that stands at place i, 0 being its first one."""
        if self.mode == "edge":
            return maximum(minimum(i, size - 1), 0)
        if self.mode == "wrap":
            return i % size
        turn = maximum(2 * (size - 1), 1) if self.mode == "reflect" else 2 * size
        forth = i % turn
        back = turn - forth if self.mode == "reflect" else turn - 1 - forth
        return maximum(minimum(minimum(forth, back), size - 1), 0)

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        for k, (b, a) in enumerate(zip(self.before, self.after)):
            if b != 0 or a != 0:
                size = xs[0].shape[k]
                g = make(ScatterAdd(k, size), self.places(g, k, size), g)
        return (g,)

    def places(self, g: Value, k: int, size: Dim) -> Value:
        """`source` of every place along axis k of g, as a value."""
        owner = g.node.owner

        def number(d: Dim) -> Any:
            return d if isinstance(d, int) else CALLS["size_of"](d, owner)

        i = CALLS["iota"]((g.shape[k],), owner=owner) - number(self.before[k])
        n = number(size)
        if self.mode == "edge":
            return alg.maximum(alg.minimum(i, n - 1), 0)  # type: ignore[no-any-return]
        if self.mode == "wrap":
            return i % n  # type: ignore[no-any-return]
        turn = number(maximum(2 * (size - 1), 1) if self.mode == "reflect" else 2 * size)
        forth = i % turn
        back = turn - forth if self.mode == "reflect" else turn - 1 - forth
        return alg.minimum(forth, back)  # type: ignore[no-any-return]

    def ref(self, *xs: Array) -> Array:
        width = list(zip(concrete(self.before), concrete(self.after)))
        mode: Any = self.mode
        return np.asarray(np.pad(xs[0], width, mode))


@graph_function("pad")
def pad(x: Any, before: Any, after: Any = None, value: Any = 0.0, mode: str = "constant") -> Value:
    """x with `before[k]` and `after[k]` elements added on axis k, or taken away where negative.

    Without `after`, `before` is what NumPy's pad takes: a number for every side, a pair (before,
    after) for every axis, or such a pair for each axis. `mode` says what is added: `value`, a number
    or a scalar value, for "constant"; elements of x, as NumPy's pad takes them, for "edge",
    "reflect", "symmetric" and "wrap".
    """
    v = as_value(x)
    first, last = _width(before, v) if after is None else (as_shape(before), as_shape(after))
    if len(first) != v.ndim or len(last) != v.ndim:
        raise ShapeError(f"padding for {len(first)} and {len(last)} axes, {v.type} has {v.ndim}")
    if mode not in MODES:
        raise ConfigError(f"pad: mode {mode!r} is none of {', '.join(MODES)}")
    v, first, last = _cropped(v, first, last)
    if all(d == 0 for d in (*first, *last)):
        return v
    if mode != "constant":
        return make(PadFrom(first, last, mode), v)
    if not isinstance(value, Value):
        converted(value, v.dtype)
    exact = isinstance(value, float) or (isinstance(value, int) and abs(value) <= 1 << 53)
    if exact:
        return make(Pad(first, last, float(value)), v)
    inside = CALLS["full"](v.shape, True, owner=v.node.owner)
    out: Value = alg.where(make(Pad(first, last), inside), make(Pad(first, last), v),
                           CALLS["cast"](as_value(value, v), v.dtype))  # fmt: skip
    return out


def _width(given: Any, v: Value) -> tuple[Shape, Shape]:
    """NumPy's pad_width as what goes before and after each axis."""
    one = isinstance(given, int | np.integer | str | DimExpr)
    rows = [given] if one else list(given)
    if len(rows) == 2 and all(isinstance(n, int | np.integer | str | DimExpr) for n in rows):
        rows = [rows]
    pairs = [p * 2 if len(p) == 1 else p for p in map(as_shape, rows)]
    pairs = pairs * v.ndim if len(pairs) == 1 else pairs
    if any(len(p) != 2 for p in pairs):
        raise ShapeError(f"padding {given!r} is no number, pair, or pair for each axis")
    return tuple(p[0] for p in pairs), tuple(p[1] for p in pairs)


def _cropped(v: Value, before: Shape, after: Shape) -> tuple[Value, Shape, Shape]:
    """v without what negative padding takes away, and what is left to be added."""
    cut = [tuple(-d if isinstance(d, int) and d < 0 else 0 for d in pads)
           for pads in (before, after)]  # fmt: skip
    if not any(cut[0]) and not any(cut[1]):
        return v, before, after
    sizes = tuple(d - a - b for d, a, b in zip(v.shape, *cut))
    if any(isinstance(n, int) and n < 0 for n in sizes):
        raise ShapeError(f"padding {before} and {after} takes more away than {v.type} has")
    kept = make(Slice(cut[0], sizes, (1,) * v.ndim), v)
    left = (tuple(d + c for d, c in zip(p, c)) for p, c in zip((before, after), cut))
    first, last = left
    return kept, first, last
