"""Pooling: windows at regular distances, those that divide an axis, and their gradients."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

from ..... import algorithm as alg
from .....dims import product
from .....dtypes import float32, int64
from ....ir import CALLS, Value
from ....ops.adaptive import Adaptive
from ....ops.base import make
from ....ops.creation import iota
from ....ops.patches import Fold, Unfold
from ....ops.pointwise import Div
from ....ops.pooling import PoolCount, Pooling, SumPool
from ....ops.source import scalar_value
from ..draft import Site, Tensor
from ..writing import Composite, expansion, writer
from .linear import fixed, geometry, padded, unpadded
from .shape import number


def _least(x: Value) -> Any:
    return alg.extreme(x.dtype, -1)


@expansion("max_pool", "sum_pool", "lp_pool")
def _known(n: Composite) -> Value | None:
    """Padding that only a run tells, or as wide as the window, is added before; what is no
    float32 is summed as patches."""
    (x,), op = n.inputs, n.op
    if isinstance(op, SumPool) and x.dtype != float32:
        return CALLS["cast"](CALLS["sum"](_taps(op, x, 0), -1), x.dtype)
    pads = (*op.pads_before, *op.pads_after)
    if fixed(pads) and all(p < k for p, k in zip(pads, op.window * 2)):
        whole = op.name != "lp_pool" or (op.order % 1 == 0 and x.dtype == float32)
        return None if whole else op.expand(x)
    fill = _least(x) if op.name == "max_pool" else 0
    return make(replace(op, **unpadded(op)), padded(op, x, fill))


def _taps(op: Pooling, x: Value, fill: Any) -> Value:
    """What every window reads, along a last axis: [n, c, *positions, taps]."""
    patches = make(Unfold(**unpadded(op), window=op.window), padded(op, x, fill))
    rank = op.rank
    last = CALLS["transpose"](patches, (0, 1, *range(2 + rank, 2 + 2 * rank), *range(2, 2 + rank)))
    return CALLS["reshape"](last, (*last.shape[: 2 + rank], prod(op.window)))


def _windows(op: Any) -> dict[str, Any]:
    return {**geometry(op), "kernel_shape": op.window}


@writer("max_pool")
def _max_pool(site: Site) -> Tensor:
    return site.emit("MaxPool", site.x, **_windows(site.op))


@writer("lp_pool")
def _lp_pool(site: Site) -> Tensor:
    return site.emit("LpPool", site.x, **_windows(site.op), p=int(site.op.order))


@writer("sum_pool")
def _sum_pool(site: Site) -> Tensor:
    """Means times how many there are."""
    return _scaled(site, _mean(site, site.op, site.x, True), float(prod(site.op.window)))


def _mean(site: Site, op: Pooling, x: Tensor, with_padding: bool) -> Tensor:
    wide = _windows(op)
    if all(d == 1 for d in op.dilations):
        del wide["dilations"]  # which opset 19 brings
    elif site.draft.opset < 19:
        site.refuse("means of windows with gaps take opset 19")
    return site.emit("AveragePool", x, **wide, count_include_pad=int(with_padding))


def _scaled(site: Site, x: Tensor, by: float) -> Tensor:
    return x if abs(by - 1) < 1e-6 else site.emit("Mul", x, site.constant(by, x.dtype))


@writer("mul")
def _mul(site: Site) -> Tensor:
    """A sum over windows times a number, or over how many elements each has, is a mean."""
    for k, v in enumerate(site.node.inputs):
        pool, other = v.node.op, site.node.inputs[1 - k]
        if not isinstance(pool, SumPool):
            continue
        x = site.draft.tensors[v.node.inputs[0]]
        factor = scalar_value(other)
        if factor is not None:
            return _scaled(site, _mean(site, pool, x, True), factor * prod(pool.window))
        if _counts(other, pool, v.node.inputs[0]):
            return _mean(site, pool, x, False)
    return site.emit("Mul", *site.xs)


def _counts(v: Value, pool: SumPool, x: Value) -> bool:
    """Whether v is 1 over the number of elements each window of `pool` has."""
    n = v.node
    if not isinstance(n.op, Div) or scalar_value(n.inputs[0]) != 1:
        return False
    count = n.inputs[1].node.op
    wanted = PoolCount(pool.strides, pool.pads_before, pool.pads_after, pool.dilations, pool.window,
                       x.shape[2:], x.dtype, ((), ()))  # fmt: skip
    return count == wanted


@writer("pool_count")
def _pool_count(site: Site) -> Tensor:
    """A constant where sizes are known, else counted by adding up ones."""
    op = site.op
    if fixed(op.spatial, op.pads_before, op.pads_after, *op.counted):
        return site.constant(op.ref(), op.dtype)
    none = (0,) * op.rank
    first, last = (given or none for given in op.counted)
    spatial = [d + b + a for d, b, a in zip(op.spatial, first, last)]
    ones = site.emit("Expand", site.constant(1, op.dtype), site.dims([1, 1, *spatial]))
    pads = [[p - c for p, c in zip(*both)]
            for both in ((op.pads_before, first), (op.pads_after, last))]  # fmt: skip
    wide = site.emit("Pad", ones, site.dims([0, 0, *pads[0], 0, 0, *pads[1]]))
    mean = _mean(site, replace(op, pads_before=none, pads_after=none), wide, True)
    return _scaled(site, mean, float(prod(op.window)))


@expansion("max_pool_index")
def _max_pool_index(n: Composite) -> Value:
    return CALLS["argmax"](_taps(n.op, n.inputs[0], _least(n.inputs[0])), -1)


@expansion("max_pool_grad")
def _max_pool_grad(n: Composite) -> Value:
    """Every element at the tap its index names, and taps added up at their places."""
    op, (index, g) = n.op, n.inputs
    taps = iota((prod(op.window),), owner=n.owner)
    hit = alg.equal(CALLS["expand_dims"](CALLS["cast"](index, int64), -1), taps)
    parts = alg.where(hit, CALLS["expand_dims"](g, -1), 0)
    return _together(op, parts, op.spatial)


def _together(op: Pooling, taps: Value, spatial: Any) -> Value:
    """What `_taps` took apart, added up at its place."""
    rank = op.rank
    apart = CALLS["reshape"](taps, (*taps.shape[:-1], *op.window))
    patches = CALLS["transpose"](apart, (0, 1, *range(2 + rank, 2 + 2 * rank), *range(2, 2 + rank)))
    return make(Fold(op.strides, op.pads_before, op.pads_after, op.dilations, op.window, spatial),
                patches)  # fmt: skip


@expansion("max_pool_take")
def _max_pool_take(n: Composite) -> Value:
    op, (index, x) = n.op, n.inputs
    at = CALLS["expand_dims"](CALLS["cast"](index, int64), -1)
    return CALLS["squeeze"](CALLS["take_along_axis"](_taps(op, x, 0), at, -1), -1)


@expansion("sum_pool_grad")
def _sum_pool_grad(n: Composite) -> Value:
    op, (g,) = n.op, n.inputs
    shape = (*g.shape, prod(op.window))
    many = CALLS["broadcast_to"](CALLS["expand_dims"](g, -1), shape)
    return _together(op, many, op.spatial)


@expansion("unfold")
def _unfold(n: Composite) -> Value:
    """A gather along each axis, which puts an axis of taps and one of positions in its place."""
    op, (x,) = n.op, n.inputs
    out, rank = padded(op, x), op.rank
    positions = n.outputs[0].shape[2 + rank :]
    for k in range(rank):
        out = CALLS["gather"](out, _places(op, k, positions[k], out), 2 + 2 * k)
    return CALLS["transpose"](out, (0, 1, *range(2, 2 + 2 * rank, 2), *range(3, 3 + 2 * rank, 2)))


def _places(op: Unfold | Fold, k: int, positions: Any, like: Value) -> Value:
    """What tap t of window p reads on spatial axis k of what is padded: [taps, positions]."""
    tap = iota((op.window[k], 1), 0, owner=like.node.owner) * op.dilations[k]
    return tap + iota((1, positions), 1, owner=like.node.owner) * op.strides[k]


@expansion("fold")
def _fold(n: Composite) -> Value:
    """The gathers of `_unfold` the other way round, and the padding cut off."""
    op, (g,) = n.op, n.inputs
    rank = op.rank
    order = [axis for k in range(rank) for axis in (2 + k, 2 + rank + k)]
    out = CALLS["transpose"](g, (0, 1, *order))
    for k in reversed(range(rank)):
        size = op.spatial[k] + op.pads_before[k] + op.pads_after[k]
        zeros = CALLS["full"]((*out.shape[: 2 + 2 * k], size, *out.shape[4 + 2 * k :]), 0, g.dtype,
                              n.owner)  # fmt: skip
        at = _places(op, k, g.shape[2 + rank + k], g)
        out = CALLS["scatter_add"](zeros, at, out, 2 + 2 * k)
    cut = tuple(slice(b, b + d) for b, d in zip(op.pads_before, op.spatial))
    return out[(slice(None), slice(None), *cut)]


# --- windows that divide an axis -----------------------------------------------------------------


def _bounds(op: Adaptive, k: int, size: Any, like: Value) -> tuple[Value, Value]:
    """Where the windows of spatial axis k begin and end, [windows, 1] each."""
    many, length = number(op.sizes[k], like), number(size, like)
    i = iota((op.sizes[k], 1), 0, owner=like.node.owner)
    return i * length // many, ((i + 1) * length + (many - 1)) // many


@expansion("adaptive_sum")
def _adaptive_sum(n: Composite) -> Value:
    """A product along each axis with a matrix that says which window reads what."""
    op, (x,) = n.op, n.inputs
    out = x
    for k, size in enumerate(x.shape[2:]):
        start, stop = _bounds(op, k, size, x)
        at = iota((1, size), 1, owner=n.owner)
        reads = CALLS["cast"]((at >= start) & (at < stop), x.dtype)
        order = (*(a for a in range(x.ndim) if a != 2 + k), 2 + k)
        back = tuple(order.index(a) for a in range(x.ndim))
        moved = CALLS["matmul"](CALLS["transpose"](out, order), reads.mT)
        out = CALLS["transpose"](moved, back)
    return out


def _read(op: Adaptive, x: Value, fill: Any) -> Value:
    """What every window reads, `fill` beyond its end: [n, c, *windows, taps]."""
    out, rank, most = x, len(op.sizes), op.bound(x.shape[2:])
    inside: Value | None = None
    for k, size in enumerate(x.shape[2:]):
        start, stop = _bounds(op, k, size, x)
        at = start + iota((1, most[k]), 1, owner=x.node.owner)
        here = CALLS["reshape"](at < stop, _line(2 * rank, 2 * k, at.shape))
        inside = here if inside is None else inside & here
        last = number(size - 1, x)
        out = CALLS["gather"](out, CALLS["min"](at, last), 2 + 2 * k)
    assert inside is not None
    out = alg.where(inside, out, fill)
    order = (0, 1, *range(2, 2 + 2 * rank, 2), *range(3, 3 + 2 * rank, 2))
    apart = CALLS["transpose"](out, order)
    return CALLS["reshape"](apart, (*apart.shape[: 2 + rank], product(most)))


def _line(rank: int, at: int, shape: Any) -> list[Any]:
    return [1] * at + list(shape) + [1] * (rank - at - len(shape))


@expansion("adaptive_max", "adaptive_max_tap")
def _adaptive_max(n: Composite) -> Value:
    (x,) = n.inputs
    taps = _read(n.op, x, _least(x))
    return CALLS["reduce_max" if n.op.name == "adaptive_max" else "argmax"](taps, -1)
