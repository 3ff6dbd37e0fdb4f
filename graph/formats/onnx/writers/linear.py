"""Products: matrices, sums over named indices, convolutions and their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from .....dims import Dim, product
from .....dtypes import float32, int32
from ....ir import CALLS, Value
from ....ops.base import make
from ....ops.convolution import Conv, Convolution
from ....ops.patches import Fold, Unfold
from ....ops.shape import Slice
from ....ops.windows import concrete
from ..draft import Site, Tensor
from ..writing import Composite, expansion, writer


def fixed(*shapes: Any) -> bool:
    """Whether shapes consist of numbers."""
    return all(isinstance(d, int) for shape in shapes for d in shape)


def geometry(op: Any) -> dict[str, Any]:
    """Strides, padding and dilations as attributes."""
    return {"strides": op.strides, "pads": (*op.pads_before, *op.pads_after),
            "dilations": op.dilations}  # fmt: skip


def padded(op: Any, x: Value, fill: Any = 0) -> Value:
    """x with the padding of windows."""
    return CALLS["pad"](x, (0, 0, *op.pads_before), (0, 0, *op.pads_after), fill)


def unpadded(op: Any) -> dict[str, Any]:
    """The attributes of windows without padding."""
    none = (0,) * op.rank
    return {"strides": op.strides, "pads_before": none, "pads_after": none,
            "dilations": op.dilations}  # fmt: skip


@writer("matmul")
def _matmul(site: Site) -> Tensor:
    return site.emit("MatMul", *site.xs)


@expansion("matmul")
def _small_matmul(n: Composite) -> Value | None:
    """MatMul takes integers of 32 bits and more."""
    x = n.inputs[0]
    if x.dtype.is_float or x.dtype.bits > 16:
        return None
    return CALLS["cast"](make(n.op, *(CALLS["cast"](v, int32) for v in n.inputs)), x.dtype)


@expansion("einsum")
def _hidden(n: Composite) -> Value | None:
    """Axes under an ellipsis broadcast in flowmill only."""
    return n.op.expand(*n.inputs) if "..." in n.op.equation else None


@writer("einsum")
def _einsum(site: Site) -> Tensor:
    return site.emit("Einsum", *site.xs, equation=site.op.equation)


@expansion("conv")
def _conv(n: Composite) -> Value | None:
    """Conv is for floats, to most runtimes for float32, and for padding that is known."""
    op, (x, w) = n.op, n.inputs
    if x.dtype != float32:
        return _by_patches(op, x, w)
    if fixed(op.pads_before, op.pads_after):
        return None
    return make(Conv(**unpadded(op), groups=op.groups), padded(op, x), w)


def _by_patches(op: Convolution, x: Value, w: Value) -> Value:
    """A convolution as a product of the weights with what windows read."""
    window = op.window(w.shape)
    patches = make(Unfold(op.strides, op.pads_before, op.pads_after, op.dilations, window), x)
    positions = patches.shape[2 + op.rank :]
    g, many = op.groups, product(positions)
    reshape = CALLS["reshape"]
    columns = reshape(patches, (x.shape[0], g, w.shape[1] * product(window), many))
    matrix = reshape(w, (g, w.shape[0] // g, w.shape[1] * product(window)))
    return reshape(CALLS["matmul"](matrix, columns), (x.shape[0], w.shape[0], *positions))


@writer("conv")
def _conv_out(site: Site) -> Tensor:
    window = site.types[1].shape[2:]
    return site.emit("Conv", *site.xs, **geometry(site.op), group=site.op.groups,
                     kernel_shape=window if fixed(window) else None)  # fmt: skip


@expansion("conv_input_grad")
def _conv_input_grad(n: Composite) -> Value | None:
    """ConvTranspose, over all that windows reach where padding or the rest are known at a run only,
    cut out of it. Of anything but float32 the patches are added up."""
    op, (g, w) = n.op, n.inputs
    spatial = op.spatial
    if g.dtype != float32:
        return _added(op, g, w, spatial)
    if fixed(op.pads_before, op.pads_after, _rest(op, w, spatial)):
        return None
    more = tuple(s - 1 for s in op.strides)
    sizes = tuple((p - 1) * s + span + m for p, s, span, m in
                  zip(g.shape[2:], op.strides, op.covered(op.window(w.shape)), more))  # fmt: skip
    whole = make(type(op)(**unpadded(op), groups=op.groups, spatial=sizes), g, w)
    shape = n.outputs[0].shape
    return make(Slice((0, 0, *op.pads_before), shape, (1,) * g.ndim), whole)


def _rest(op: Any, w: Value, spatial: Any) -> list[Dim]:
    """How many positions at the end no window reaches, on each axis."""
    spans = op.covered(op.window(w.shape))
    return [(d + b + a - span) % s for d, b, a, span, s in
            zip(spatial, op.pads_before, op.pads_after, spans, op.strides)]  # fmt: skip


def _added(op: Convolution, g: Value, w: Value, spatial: Any) -> Value:
    """The gradient of `_by_patches` with respect to the values."""
    window, k = op.window(w.shape), op.groups
    reshape, positions = CALLS["reshape"], g.shape[2:]
    inner = w.shape[1] * product(window)
    rows = reshape(g, (g.shape[0], k, w.shape[0] // k, product(positions)))
    matrix = CALLS["transpose"](reshape(w, (k, w.shape[0] // k, inner)), (0, 2, 1))
    patches = reshape(CALLS["matmul"](matrix, rows),
                      (g.shape[0], w.shape[1] * k, *window, *positions))  # fmt: skip
    return make(Fold(op.strides, op.pads_before, op.pads_after, op.dilations, window, spatial),
                patches)  # fmt: skip


@writer("conv_input_grad")
def _conv_transpose(site: Site) -> Tensor:
    w = site.node.inputs[1]
    return site.emit("ConvTranspose", *site.xs, **geometry(site.op), group=site.op.groups,
                     kernel_shape=w.shape[2:], output_padding=_rest(site.op, w, site.op.spatial))  # fmt: skip


@expansion("conv_weight_grad")
def _conv_weight_grad(n: Composite) -> Value:
    """The patches of x times g, summed over images and positions."""
    op, (x, g) = n.op, n.inputs
    window, k = op.kernel, op.groups
    reshape, transpose = CALLS["reshape"], CALLS["transpose"]
    patches = make(Unfold(op.strides, op.pads_before, op.pads_after, op.dilations, window), x)
    batch, ins, outs = x.shape[0], x.shape[1] // k, g.shape[1] // k
    many = product(g.shape[2:])
    columns = reshape(patches, (batch, k, ins * product(window), many))
    rows = reshape(g, (batch, k, outs, many))
    columns = reshape(transpose(columns, (1, 0, 3, 2)), (k, batch * many, ins * product(window)))
    rows = reshape(transpose(rows, (1, 2, 0, 3)), (k, outs, batch * many))
    return reshape(CALLS["matmul"](rows, columns), n.outputs[0].shape)


@writer("deform_conv", since=19)
def _deform_conv(site: Site) -> Tensor:
    op = site.op
    bias = site.constant(np.zeros(concrete(site.types[1].shape[:1])), site.x.dtype)
    x, w, offsets, *mask = site.xs
    return site.emit("DeformConv", x, w, offsets, bias, *mask, **geometry(op), group=op.groups,
                     offset_group=op.offset_groups, kernel_shape=site.types[1].shape[2:])  # fmt: skip


@expansion("matmul_integer", "conv_integer")
def _integer_product(n: Composite) -> Value | None:
    """The operators take 8 bits; and ConvInteger padding that is known."""
    op, (x, w) = n.op, n.inputs
    conv = isinstance(op, Convolution)
    if x.dtype.bits == w.dtype.bits == 8 and not (
        conv and not fixed(op.pads_before, op.pads_after)
    ):  # fmt: skip
        return None
    a, b = (CALLS["cast"](v, int32) for v in (x, w))
    return _by_patches(op, a, b) if isinstance(op, Convolution) else CALLS["matmul"](a, b)


@writer("matmul_integer")
def _matmul_integer(site: Site) -> Tensor:
    return site.emit("MatMulInteger", *site.xs, dtype=int32)


@writer("conv_integer")
def _conv_integer(site: Site) -> Tensor:
    return site.emit("ConvInteger", *site.xs, dtype=int32, **geometry(site.op),
                     group=site.op.groups, kernel_shape=site.types[1].shape[2:])  # fmt: skip


@expansion("dft_step")
def _dft_step(n: Composite) -> Value:
    """[r, n, p, c, q] times [n, c, a, b], as matrices."""
    x, m = n.inputs
    r, k, p, c, q = x.shape
    reshape = CALLS["reshape"]
    rows = reshape(CALLS["transpose"](x, (0, 2, 4, 1, 3)), (r * p * q, k * c))
    made = CALLS["matmul"](rows, reshape(m, (k * c, m.shape[2] * m.shape[3])))
    return reshape(made, n.outputs[0].shape)
