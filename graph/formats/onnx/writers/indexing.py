"""Reading and writing at places that data name."""

from __future__ import annotations

from ..... import algorithm as alg
from .....dtypes import bool_, int32, int64
from ....ir import CALLS, Value
from ....ops.base import make
from ....ops.creation import full, iota
from ....ops.scattering import ScatterElements, ScatterNd
from ....ops.shape import concat
from ..draft import Site, Tensor
from ..writing import Composite, expansion, writer
from .shape import number


def index(site: Site, x: Tensor) -> Tensor:
    """Indices as integers that index operators take."""
    return x if x.dtype in (int32, int64) else site.cast(x, int64)


@writer("gather")
def _gather(site: Site) -> Tensor:
    return site.emit("Gather", site.x, index(site, site.xs[1]), axis=site.op.axis)


@writer("take_along_axis")
def _gather_elements(site: Site) -> Tensor:
    return site.emit("GatherElements", site.x, index(site, site.xs[1]), axis=site.op.axis)


@writer("gather_nd")
def _gather_nd(site: Site) -> Tensor:
    return site.emit("GatherND", site.x, site.cast(site.xs[1], int64),
                     batch_dims=site.op.batch_dims)  # fmt: skip


@writer("scatter_elements")
def _scatter_elements(site: Site) -> Tensor:
    x, at, updates = site.xs
    return site.emit("ScatterElements", x, index(site, at), updates, axis=site.op.axis,
                     reduction=site.op.reduction)  # fmt: skip


@writer("scatter_nd")
def _scatter_nd(site: Site) -> Tensor:
    x, at, updates = site.xs
    return site.emit("ScatterND", x, site.cast(at, int64), updates, reduction=site.op.reduction)


@expansion("scatter_nd")
def _batched(n: Composite) -> Value | None:
    """Axes that all share become further indices."""
    x, at, updates = n.inputs
    many = n.op.batch_dims
    if not many:
        return None
    shape = (*at.shape[:-1], 1)
    lead = [CALLS["broadcast_to"](iota(shape, k, owner=n.owner), shape) for k in range(many)]
    whole = concat([*lead, CALLS["cast"](at, int64)], -1)
    return make(ScatterNd(n.op.reduction), x, whole, updates)


@expansion("scatter", "scatter_add")
def _rows(n: Composite) -> Value:
    """Every index stands for all elements of its slice."""
    op, axis = n.op, n.op.axis
    at, updates = n.inputs[-2:]
    before, after = updates.shape[:axis], updates.shape[axis + at.ndim :]
    flat = CALLS["reshape"](updates, (*before, at.type.size, *after))
    line = CALLS["reshape"](at, (*[1] * axis, at.type.size, *[1] * len(after)))
    whole = CALLS["broadcast_to"](CALLS["cast"](line, int64), flat.shape)
    adds = op.name == "scatter_add"
    x = full((*before, op.size, *after), 0, updates.dtype, n.owner) if adds else n.inputs[0]
    return make(ScatterElements(axis, "add" if adds else "none"), x, whole, flat)


@expansion("add_along_axis")
def _add_along_axis(n: Composite) -> Value:
    at, updates = n.inputs
    axis, size = n.op.axis, n.op.size
    shape = (*updates.shape[:axis], size, *updates.shape[axis + 1 :])
    zeros = full(shape, 0, updates.dtype, n.owner)
    return make(ScatterElements(axis, "add"), zeros, CALLS["cast"](at, int64), updates)


@expansion("one_hot")
def _one_hot(n: Composite) -> Value:
    """OneHot would count negative indices from the end."""
    depth, to = n.op.depth, n.op.dtype
    at = CALLS["expand_dims"](CALLS["cast"](n.inputs[0], int64), -1)
    return CALLS["cast"](CALLS["eq"](at, iota((depth,), owner=n.owner)), to)


@writer("reverse_sequence")
def _reverse_sequence(site: Site) -> Tensor:
    return site.emit("ReverseSequence", site.x, site.cast(site.xs[1], int64),
                     batch_axis=site.op.batch_axis, time_axis=site.op.time_axis)  # fmt: skip


@expansion("reverse_sequence")
def _reversed(n: Composite) -> Value | None:
    """The operator takes the first two axes."""
    op, (x, lengths) = n.op, n.inputs
    b, t = op.batch_axis, op.time_axis
    if {b, t} == {0, 1}:
        return None
    order = (b, t, *(k for k in range(x.ndim) if k not in (b, t)))
    back = tuple(order.index(k) for k in range(x.ndim))
    made = make(type(op)(0, 1), CALLS["transpose"](x, order), lengths)
    return CALLS["transpose"](made, back)


@expansion("tensor_scatter")
def _chosen(n: Composite) -> Value:
    """Place by place either what is there or an update; TensorScatter is known to few."""
    x, updates, starts = n.inputs
    axis = n.op.axis
    size, many = number(x.shape[axis], x), number(updates.shape[axis], x)
    line = [1] * x.ndim
    at = iota((*line[:axis], x.shape[axis], *line[axis + 1 :]), axis, owner=n.owner)
    step = at - CALLS["reshape"](CALLS["cast"](starts, int64), (-1, *line[1:]))
    if n.op.circular:
        step = step % size
    inside = (step >= 0) & (step < many)
    place = CALLS["broadcast_to"](alg.where(inside, step, 0), x.shape)
    return alg.where(inside, CALLS["take_along_axis"](updates, place, axis), x)


@expansion("searchsorted")
def _searchsorted(n: Composite) -> Value:
    """Counts what comes before each value; a NaN comes after all but NaN."""
    line, values = n.inputs
    right = n.op.right
    wide = CALLS["expand_dims"](values, -1)
    before = line <= wide if right else line < wide
    if line.dtype.is_float:
        nan = CALLS["isnan"](wide)
        last = full(line.shape, True, bool_, n.owner) if right else ~CALLS["isnan"](line)
        before = CALLS["where"](nan, last, before)
    return CALLS["sum"](before, -1)


@expansion("argmax_within")
def _argmax_within(n: Composite) -> Value:
    x, images, start, stop = n.inputs
    reshape = CALLS["reshape"]
    r, p = start.shape
    rows = iota((1, 1, x.shape[2], 1, 1), 2, owner=n.owner)
    edges = [reshape(CALLS["cast"](v, int64), (r, 1, 1, p, 1)) for v in (start, stop)]
    within = (rows >= edges[0]) & (rows < edges[1])
    taken = CALLS["expand_dims"](CALLS["gather"](x, images, 0), 3)
    return CALLS["argmax"](alg.where(within, taken, alg.extreme(x.dtype, -1)), 2)
