"""Operators that move elements, and those that make tensors of a pattern."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from .....dims import Dim, DimExpr, bounds, ceildiv, maximum, minimum, product
from .....dtypes import float32, int64
from .....errors import ModelError, ShapeError
from ....ir import CALLS, Value
from ....ops import arrange, creation, padding, pointwise, shape
from ....ops.base import make, normal_axes, normal_axis
from ....ops.selection import slice_between
from ....ops.source import constant
from ..call import Call
from ..registry import converter
from ..sizes import alike, as_sized, reshaped, simplest


@converter("Identity", halves=True)
def _identity(call: Call) -> Value:
    return call.value(0)


@converter("Constant", halves=True)
def _constant(call: Call) -> Value:
    found = call.constant()
    return constant(found, owner=call.graph)


@converter("ConstantOfShape", halves=True)
def _constant_of_shape(call: Call) -> Value:
    fill = call.tensor("value")
    fill = np.zeros((), np.float32) if fill is None else fill
    if fill.size != 1:
        call.refuse(f'attribute "value" must have one element, it has {fill.size}')
    return shape.broadcast_to(constant(fill.reshape(()), owner=call.graph), call.sizes(0))


@converter("Reshape", halves=True)
def _reshape(call: Call) -> Value:
    x = call.value(0)
    wanted: list[Dim] = list(call.integers("shape") or ()) if call.version < 5 else call.sizes(1)
    if not call.flag("allowzero"):
        if any(d == 0 and k >= x.ndim for k, d in enumerate(wanted)):
            call.refuse(f"shape {wanted} keeps an axis that {x.type} does not have")
        wanted = [x.shape[k] if d == 0 else d for k, d in enumerate(wanted)]
    if any(isinstance(d, int) and d < -1 for d in wanted):
        call.refuse(f"shape {wanted} is negative")
    return reshaped(x, wanted)


@converter("Flatten", halves=True)
def _flatten(call: Call) -> Value:
    x = call.value(0)
    axis = call.integer("axis", 1)
    if not -x.ndim <= axis <= x.ndim:
        call.refuse(f"axis {axis} does not exist in {x.type}")
    at = axis if axis >= 0 else axis + x.ndim
    return shape.reshape(x, (product(x.shape[:at]), product(x.shape[at:])))


def _axes(call: Call) -> list[int] | None:
    """Axes, an attribute before opset 13, an operand since."""
    if call.has(1):
        return call.ints(1)
    given = call.integers("axes")
    return None if given is None else list(given)


@converter("Squeeze", halves=True)
def _squeeze(call: Call) -> Value:
    x, axes = call.value(0), _axes(call)
    if axes is not None:  # sizes that are not known to be 1 must be
        inside = normal_axes(axes, x.ndim)
        x = as_sized(x, [1 if k in inside else d for k, d in enumerate(x.shape)])
    return shape.squeeze(x, axes)


@converter("Unsqueeze", halves=True)
def _unsqueeze(call: Call) -> Value:
    x, axes = call.value(0), _axes(call)
    if axes is None:
        call.refuse("it has no axes")
    at = normal_axes(axes, x.ndim + len(axes))
    old = iter(x.shape)
    return shape.reshape(x, [1 if k in at else next(old) for k in range(x.ndim + len(axes))])


@converter("Transpose", halves=True)
def _transpose(call: Call) -> Value:
    return shape.transpose(call.value(0), call.integers("perm"))


@converter("Concat", halves=True)
def _concat(call: Call) -> Value:
    values = call.values()
    axis = normal_axis(call.integer("axis"), values[0].ndim)
    return shape.concat(alike(values, axis), axis)


@converter("Expand", halves=True)
def _expand(call: Call) -> Value:
    """Broadcast both ways: the result may be larger than `shape` says."""
    x, wanted = call.value(0), call.sizes(1)
    rank = max(x.ndim, len(wanted))
    theirs = [*(1,) * (rank - len(wanted)), *wanted]
    mine = [*(1,) * (rank - x.ndim), *x.shape]
    target = [b if a == 1 else a if b == 1 else simplest((a, b)) for a, b in zip(mine, theirs)]
    own = target[rank - x.ndim :]
    sized = as_sized(x, [1 if d == 1 else t for d, t in zip(x.shape, own)])
    return shape.broadcast_to(sized, target)


@converter("Tile", halves=True)
def _tile(call: Call) -> Value:
    x, repeats = call.value(0), call.sizes(1)
    if len(repeats) != x.ndim:
        call.refuse(f"{len(repeats)} repeats for {x.type}")
    apart = [d for n, s in zip(repeats, x.shape) for d in (1, s)]
    wide = [d for n, s in zip(repeats, x.shape) for d in (n, s)]
    together = [s * n for n, s in zip(repeats, x.shape)]
    return shape.reshape(shape.broadcast_to(shape.reshape(x, apart), wide), together)


@converter("Slice", halves=True)
def _slice(call: Call) -> Value:
    x = call.value(0)
    if call.version < 10:
        starts: Sequence[Dim] = call.integers("starts") or ()
        ends: Sequence[Dim] = call.integers("ends") or ()
        axes: Sequence[int] | None = call.integers("axes")
        steps: Sequence[int] | None = None
    else:
        axes = call.ints(3) if call.has(3) else None
        steps = call.ints(4) if call.has(4) else None
        if call.told_by_run(1) or call.told_by_run(2):
            return _slice_at_run(call, axes, steps)
        starts, ends = call.dims(1), call.dims(2)
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps):
        call.refuse(f"{len(starts)} starts, {len(ends)} ends, {len(axes)} axes, {len(steps)} steps")
    firsts: list[Dim] = [0] * x.ndim
    sizes = list(x.shape)
    strides = [1] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps):
        at = normal_axis(axis, x.ndim)
        firsts[at], sizes[at], strides[at] = sliced(x.shape[at], start, end, step)
    if sizes == list(x.shape) and all(s == 1 for s in strides):
        return x
    return make(shape.Slice(tuple(firsts), tuple(sizes), tuple(strides)), x)


def _slice_at_run(call: Call, axes: Sequence[int] | None, steps: Sequence[int] | None) -> Value:
    """A slice whose bounds only a run tells."""
    x, starts, ends = call.value(0), call.value(1), call.value(2)
    count = starts.type.size
    axes = list(range(count)) if axes is None and isinstance(count, int) else axes or ()
    steps = [1] * len(axes) if steps is None else steps
    if not count == ends.type.size == len(axes) == len(steps):
        call.refuse(f"starts {starts.type}, ends {ends.type}, {len(axes)} axes, {len(steps)} steps")
    for k, (axis, step) in enumerate(zip(axes, steps)):
        first, last = (
            pointwise.cast(shape.reshape(v, (len(axes),))[k], int64) for v in (starts, ends)
        )
        x = slice_between(x, first, last, step, axis)
    return x


def sliced(size: Dim, start: Dim, end: Dim, step: int) -> tuple[Dim, Dim, int]:
    """First index, count and step of `start:end:step` on an axis, bounds beyond it cut off."""
    if step == 0:
        raise ShapeError("a slice has the step 0")
    if all(isinstance(d, int) for d in (size, start, end)):
        bound = end if step > 0 or end >= -size else None  # type: ignore[operator]
        index = range(*slice(start, bound, step).indices(size))  # type: ignore[arg-type]
        return index.start if len(index) else 0, len(index), step
    low, high = (0, size) if step > 0 else (-1, size - 1)
    first, last = _bound(start, size, low, high), _bound(end, size, low, high)
    count = ceildiv(last - first, step) if step > 0 else ceildiv(first - last, -step)
    return first, maximum(count, 0), step


def _bound(at: Dim, size: Dim, low: Dim, high: Dim) -> Dim:
    """A bound of a slice, counted from the front and cut off at `low` and `high`."""
    if isinstance(at, int) and abs(at) >= 1 << 30:  # as far as it goes
        return high if at > 0 else low
    least, most = bounds(at)
    if most is not None and most < 0:
        at = at + size
    elif least is None or least < 0:
        raise ModelError(f"whether the bound {at} of a slice counts from the end is unknown")
    return minimum(maximum(at, low), high)


@converter("Split", halves=True)
def _split(call: Call) -> tuple[Value, ...]:
    x = call.value(0)
    axis = normal_axis(call.integer("axis", 0), x.ndim)
    given: Sequence[Dim] | None = call.dims(1) if call.has(1) else call.integers("split")
    if given is not None:
        return arrange.split(x, list(given), axis)
    count = call.integer("num_outputs", call.results)
    size = x.shape[axis]
    if count < 1 or count != call.results:
        call.refuse(f"{count} parts for {call.results} results")
    chunk = ceildiv(size, count)
    if call.version < 18 and size - chunk * count != 0:
        call.refuse(f"axis {axis} of {x.type} does not split into {count} equal parts")
    starts = [minimum(chunk * k, size) for k in range(count + 1)]
    return arrange.split(x, [b - a for a, b in pairwise(starts)], axis)


_MODES = {"constant": "constant", "reflect": "reflect", "edge": "edge", "wrap": "wrap"}


@converter("Pad", halves=True)
def _pad(call: Call) -> Value:
    x = call.value(0)
    mode = call.text("mode", "constant")
    if mode not in _MODES:
        call.refuse(f"mode {mode!r} is none of {', '.join(_MODES)}")
    value: Value | float
    if call.version < 11:
        pads: Sequence[Dim] = call.integers("pads" if call.version > 1 else "paddings") or ()
        value = call.number("value", 0.0)
        axes: Sequence[int] = range(x.ndim)
    else:
        pads = call.dims(1)
        value = call.value(2) if call.has(2) else 0.0
        axes = call.ints(3) if call.has(3) else range(x.ndim)
        if call.has(2) and call.operand(2).array() is not None:
            value = call.single(2).item()
    if len(pads) != 2 * len(axes):
        call.refuse(f"{len(pads)} pads for {len(axes)} axes")
    before: list[Dim] = [0] * x.ndim
    after: list[Dim] = [0] * x.ndim
    for axis, b, a in zip(axes, pads, pads[len(axes) :]):
        at = normal_axis(axis, x.ndim)
        before[at], after[at] = b, a
    return padding.pad(x, before, after, value, _MODES[mode])


@converter("Range", halves=True)
def _range(call: Call) -> Value:
    dtype = call.operand(0).dtype
    known = [call.operand(k).elements() for k in range(3)]
    if all(e is not None and e.size == 1 for e in known):
        first, last, step = (e.reshape(-1)[0] for e in known if e is not None)
        if step == 0 or isinstance(step, DimExpr):
            call.refuse(f"the step is {step}")
        count = ceildiv(last - first, step) if step > 0 else ceildiv(first - last, -step)
        number = creation.iota((maximum(count, 0),), 0, int64, call.graph) * step
        start = CALLS["size_of"](first, call.graph) if isinstance(first, DimExpr) else first
        return pointwise.cast(number + start, dtype)
    if any(call.operand(k).array() is None and call.told_by_run(k) for k in range(3)):
        return _range_at_run(call)
    a, b, c = (call.single(k) for k in range(3))
    with np.errstate(all="ignore"):
        count = np.ceil((np.float64(b) - np.float64(a)) / np.float64(c))
    if not np.isfinite(count):
        call.refuse(f"from {a} to {b} in steps of {c} there is no number of elements")
    size = max(int(count), 0)
    number = creation.iota((size,), 0, "int64", call.graph)
    wide = dtype if dtype.computes else float32
    made = pointwise.cast(number, wide) * constant(c, wide, call.graph)
    return pointwise.cast(made + constant(a, wide, call.graph), dtype)


def _range_at_run(call: Call) -> Value:
    """Numbers up to a limit, from a start, or in steps that data decide."""
    dtype = call.operand(0).dtype
    wide = dtype if dtype.computes and dtype.kind in "if" else float32 if dtype.is_float else int64
    first, last, step = (pointwise.cast(shape.reshape(call.value(k), ()), wide) for k in range(3))
    known = call.operand(2).array()
    if known is not None and known.item() == 0:
        call.refuse("the step is 0")
    down = known is not None and known.item() < 0
    span, by = (first - last, -step) if down else (last - first, step)
    if wide.is_float:
        count = pointwise.ceil(span / by)
    else:
        count = pointwise.floordiv(span + (by - 1), by)
    whole = pointwise.maximum(pointwise.cast(count, int64), 0)
    size = call.size(whole, "the number of elements")
    number = creation.iota((size,), 0, int64, call.graph)
    return pointwise.cast(pointwise.cast(number, wide) * step + first, dtype)


@converter("DepthToSpace", "SpaceToDepth", halves=True)
def _depth_and_space(call: Call) -> Value:
    x, n = call.value(0), call.integer("blocksize")
    if x.ndim != 4 or n < 1:
        call.refuse(f"blocks of {n} of {x.type}")
    b, c, h, w = x.shape
    if call.node.op_type == "SpaceToDepth":
        apart = shape.reshape(x, (b, c, h // n, n, w // n, n))
        return shape.reshape(shape.transpose(apart, (0, 3, 5, 1, 2, 4)),
                             (b, c * (n * n), h // n, w // n))  # fmt: skip
    mode = call.text("mode", "DCR")
    if mode not in ("DCR", "CRD"):
        call.refuse(f"mode {mode!r} is neither DCR nor CRD")
    if mode == "DCR":
        apart = shape.reshape(x, (b, n, n, c // (n * n), h, w))
        moved = shape.transpose(apart, (0, 3, 4, 1, 5, 2))
    else:
        apart = shape.reshape(x, (b, c // (n * n), n, n, h, w))
        moved = shape.transpose(apart, (0, 1, 4, 2, 5, 3))
    return shape.reshape(moved, (b, c // (n * n), h * n, w * n))
