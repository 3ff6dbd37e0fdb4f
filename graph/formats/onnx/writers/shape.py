"""Ops that move elements, and values that come from nothing."""

from __future__ import annotations

import numpy as np

from .....dims import Dim, bounds, product
from .....dtypes import bool_, int32, int64
from ....ir import CALLS, Value
from ....ops.base import make
from ....ops.creation import full, iota
from ....ops.indexing import Scatter
from ....ops.shape import Slice
from ..draft import Site, Tensor
from ..writing import Composite, expansion, writer

_FIRST, _LAST = -(1 << 63), (1 << 63) - 1  # where a slice ends that goes all the way
_SPELLED_OUT = 4096  # elements of a sequence of numbers that is stored


@writer("reshape")
def _reshape(site: Site) -> Tensor:
    """A size that only a run tells is left to the operator, if it is the only one: 0 stands for the
    operand's own, -1 for what is left over."""
    old, new = site.types[0].shape, site.op.shape
    short = [0 if not isinstance(d, int) and k < len(old) and d == old[k] else d
             for k, d in enumerate(new)]  # fmt: skip
    unknown = [k for k, d in enumerate(short) if not isinstance(d, int)]
    others = product(d for k, d in enumerate(new) if k not in unknown)
    if len(unknown) == 1 and (bounds(others)[0] or 0) > 0:
        short[unknown[0]] = -1
    empty = 0 in new or any(not isinstance(d, int) for d in short)
    to = site.dims(new) if empty else site.ints([d for d in short if isinstance(d, int)])
    return site.emit("Reshape", site.x, to, allowzero=1 if 0 in new else None)


@writer("transpose")
def _transpose(site: Site) -> Tensor:
    return site.emit("Transpose", site.x, perm=site.op.perm) if site.op.perm else site.x


@writer("broadcast_to")
def _expand(site: Site) -> Tensor:
    return site.emit("Expand", site.x, site.dims(site.op.shape))


@writer("concat")
def _concat(site: Site) -> Tensor:
    return site.emit("Concat", *site.xs, axis=site.op.axis)


@writer("slice")
def _slice(site: Site) -> Tensor:
    op, size = site.op, site.types[0].shape
    axes = [k for k, (s, n, step) in enumerate(zip(op.starts, op.sizes, op.steps))
            if s != 0 or n != size[k] or step != 1]  # fmt: skip
    if not axes:
        return site.x
    starts = [_from_end(op.starts[k], size[k]) for k in axes]
    ends = [_end(op.starts[k], op.sizes[k], op.steps[k], size[k]) for k in axes]
    return site.emit("Slice", site.x, site.dims(starts), site.dims(ends), site.ints(axes),
                     site.ints([op.steps[k] for k in axes]))  # fmt: skip


def _from_end(place: Dim, size: Dim) -> Dim:
    """A place on an axis, counted from its end where that is a number."""
    back = place - size
    return back if not isinstance(place, int) and isinstance(back, int) and back < 0 else place


def _end(start: Dim, size: Dim, step: int, axis: Dim) -> Dim:
    """Where a slice of `size` elements ends on an axis; far beyond it where it goes all the way."""
    if step > 0:
        whole = (axis - start + (step - 1)) // step == size
        return _LAST if whole else _from_end(start + size * step, axis)
    return _FIRST if start // -step + 1 == size else start + size * step


@expansion("slice")
def _sliced(n: Composite) -> Value | None:
    """Backwards from a place that only a run tells: an end before the first element would count
    from the other side."""
    op, out = n.op, n.inputs[0]
    unclear = [k for k, args in enumerate(zip(op.starts, op.sizes, op.steps, out.shape))
               if args[2] < 0 and not isinstance(_end(*args), int)]  # fmt: skip
    if not unclear:
        return None
    starts, sizes, steps = list(op.starts), list(op.sizes), list(op.steps)
    for k in unclear:
        at = iota((sizes[k],), owner=n.owner) * steps[k] + number(starts[k], out)
        out = CALLS["gather"](out, at, k)
        starts[k], steps[k] = 0, 1
    return make(Slice(tuple(starts), tuple(sizes), tuple(steps)), out)


def number(d: Dim, like: Value) -> int | Value:
    """A dimension as an operand of arithmetic."""
    return d if isinstance(d, int) else CALLS["size_of"](d, like.node.owner)


@expansion("unslice")
def _unslice(n: Composite) -> Value:
    (x,), op = n.inputs, n.op
    out = x
    for k, (size, start, step) in enumerate(zip(op.shape, op.starts, op.steps)):
        if (size, start, step) == (out.shape[k], 0, 1):
            continue
        if step == 1:
            before, after = ([0] * x.ndim for _ in range(2))
            before[k], after[k] = start, size - start - out.shape[k]
            out = CALLS["pad"](out, before, after, False if x.dtype == bool_ else 0)
            continue
        zeros = full((*out.shape[:k], size, *out.shape[k + 1 :]), 0, x.dtype, n.owner)
        at = iota((out.shape[k],), owner=n.owner) * step + number(start, x)
        out = make(Scatter(k), zeros, at, out)
    return out


@writer("pad")
def _pad(site: Site) -> Tensor:
    op = site.op
    value = site.constant(op.value, site.x.dtype)
    return site.emit("Pad", site.x, site.dims((*op.before, *op.after)), value)


@expansion("pad_from")
def _pad_from(n: Composite) -> Value:
    """Gathers along each axis: what lies in the padding is where the op says."""
    (x,), op = n.inputs, n.op
    out = x
    for k, (b, a) in enumerate(zip(op.before, op.after)):
        if b == 0 and a == 0:
            continue
        like = full((b + x.shape[k] + a,), 0, int64, n.owner)
        at = type(op)((b,), (a,), op.mode).places(like, 0, x.shape[k])
        last = number(x.shape[k] - 1, x)
        out = CALLS["gather"](out, CALLS["max"](CALLS["min"](at, last), 0), k)
    return out


@writer("size_of")
def _size_of(site: Site) -> Tensor:
    return site.emit("Squeeze", site.dims([site.op.dim]), site.ints([0]))


@expansion("iota")
def _iota(n: Composite) -> Value | None:
    """A vector in its place among the other axes."""
    op = n.op
    shape, axis, dtype = op.shape, op.axis, op.dtype
    size = product(shape)
    if isinstance(size, int) and size <= _SPELLED_OUT:
        return CALLS["constant"](np.indices(shape)[axis].astype(dtype.numpy), owner=n.owner)
    if dtype not in (int32, int64):
        return CALLS["cast"](iota(shape, axis, int64, n.owner), dtype)
    if len(shape) == 1:
        return None
    line = CALLS["reshape"](iota((shape[axis],), 0, dtype, n.owner),
                            [d if k == axis else 1 for k, d in enumerate(shape)])  # fmt: skip
    return CALLS["broadcast_to"](line, shape)


@writer("iota")
def _range(site: Site) -> Tensor:
    kind = site.op.dtype
    size = site.cast(site.emit("Squeeze", site.dims(site.op.shape), site.ints([0])), kind)
    return site.emit("Range", site.constant(0, kind), size, site.constant(1, kind))


@expansion("diagonal")
def _diagonal(n: Composite) -> Value:
    """Every row-length-plus-first element of a square laid out in one line."""
    (x,) = n.inputs
    p, q = n.op.axes
    rest = [k for k in range(x.ndim) if k not in (p, q)]
    length = n.outputs[0].shape[-1]
    moved = CALLS["transpose"](x, (*rest, p, q))
    sizes = (*moved.shape[:-2], length, length)
    square = make(Slice((0,) * x.ndim, sizes, (1,) * x.ndim), moved)
    line = CALLS["reshape"](square, (*sizes[:-2], length * length))
    at = iota((length,), owner=n.owner) * (number(length, x) + 1)
    return CALLS["gather"](line, at, len(rest))
