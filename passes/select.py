"""Selection: algorithms and memory layouts.

In: a Function of plain row-major ops. Out: the same function with convolutions and pools in
channels-last layout, weights packed in panels, padding, the gradients of convolutions and the
blocks of long reductions spelled as explicit steps. Logical shapes and meaning never change; every
change of layout is a `Relayout` node, folded into preparation where its operand is constant or a
variable that does not change.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import product as every
from math import prod

from ..dims import Dim, ceildiv, product
from ..errors import InternalError
from ..graph.ir import Function, Layout, Node, Piece, Shape, TensorType, Value
from ..graph.ops.base import Pointwise
from ..graph.ops.convolution import Conv, ConvInputGrad, ConvWeightGrad
from ..graph.ops.fused import ReduceBlocks, Relayout
from ..graph.ops.integer_products import MatmulInteger
from ..graph.ops.linalg import Matmul
from ..graph.ops.pointwise import Add
from ..graph.ops.pooling import Pooling
from ..graph.ops.reduce import Prod, ReduceMax, ReduceMin, Sum
from ..graph.ops.shape import Concat, Pad, Reshape, Slice, Transpose, Unslice
from ..graph.ops.source import Input
from ..graph.ops.windows import Windowed, concrete
from ..target import Target
from .blocks import cuts
from .box import has_small_boxes
from .prepare import steady_nodes
from .tiles import panel_vectors

MOST_PHASES = 9  # so many kernels may stand for one: strides of 3 and less, in two dimensions
PACK_ROWS = 192  # a matrix product with fewer rows does not pay for packing its operand each run


def select(function: Function, target: Target, note: Callable[[str], None],
           steady: Collection[Node] | None = None) -> Function:  # fmt: skip
    """See the module docstring. `steady`: nodes that are not computed at every run or turn (None:
    what the function itself tells)."""
    return _Select(function, target, note, steady).run()


def channels_last(ndim: int) -> Layout:
    """n, spatial..., c."""
    return tuple(Piece(k) for k in (0, *range(2, ndim), 1))


def plain_order(type: TensorType, layout: Layout | None) -> Layout | None:
    """`layout`, or None where it orders the elements as row-major does."""
    if layout is None or any(p.part != "all" for p in layout):
        return layout
    order = [p.axis for p in layout if type.shape[p.axis] != 1]
    return None if order == sorted(order) else layout


class _Select:
    def __init__(self, function: Function, target: Target, note: Callable[[str], None],
                 steady: Collection[Node] | None) -> None:  # fmt: skip
        self.function = function
        self.target = target
        self.note = note
        self.new: dict[Value, Value] = {}
        self.steady = steady_nodes(function) if steady is None else steady

    def run(self) -> Function:
        fn = self.function
        if not any(isinstance(n.op, Windowed | Matmul) or _long(n) for n in fn.nodes()):
            return fn
        for n in fn.nodes():
            owner = n.owner
            before, owner.fixed_loc = owner.fixed_loc, n.loc
            results = self.node(n)
            owner.fixed_loc = before
            for a, b in zip(n.outputs, results):
                self.new[a] = b
                name = owner.names_of.get(a)
                if name is not None and a is not b:
                    owner.names_of.setdefault(b, name)
        out = Function(
            fn.name, fn.inputs,
            tuple((name, self.plain(v)) for name, v in fn.outputs),
            tuple((var, self.plain(v)) for var, v in fn.updates),
            tuple(self.plain(v) for v in fn.effects),
        )  # fmt: skip
        same = all(a is b for a, b in zip(out.roots(), fn.roots()))
        return fn if same else out

    # --- layouts ----------------------------------------------------------------------------

    def plain(self, v: Value) -> Value:
        """v, row-major."""
        return self.placed(self.new[v], None)

    def placed(self, v: Value, layout: Layout | None) -> Value:
        """A rewritten value in `layout`."""
        layout = plain_order(v.type, layout)
        if v.type.layout == layout:
            return v
        if isinstance(v.node.op, Relayout) and v.node.inputs[0].type.layout == layout:
            return v.node.inputs[0]
        return v.node.owner.node(Relayout(layout), (v,)).outputs[0]

    def make(self, like: Node, op: object, inputs: tuple[Value, ...],
             layout: Layout | None = None) -> Value:  # fmt: skip
        """A node, its result in `layout` where that is not row-major anyway."""
        owner = like.owner
        types = op.infer(*(v.type for v in inputs))  # type: ignore[attr-defined]
        layout = plain_order(types, layout)
        return owner.node(op, inputs, None, layout).outputs[0]  # type: ignore[arg-type]

    def node(self, n: Node) -> tuple[Value, ...]:
        """What `n` becomes."""
        op = n.op
        if isinstance(op, Conv):
            return (self.conv(n, op, self.new[n.inputs[0]], n.inputs[1]),)
        if isinstance(op, ConvInputGrad):
            return (self.input_grad(n, op),)
        if isinstance(op, ConvWeightGrad):
            return (self.weight_grad(n, op),)
        if isinstance(op, Pooling):
            last = channels_last(n.types[0].ndim)
            xs = tuple(self.placed(self.new[v], channels_last(v.ndim)) for v in n.inputs)
            return (self.make(n, op, xs, last),)
        if isinstance(op, Matmul):
            return (self.matmul(n, op),)
        if isinstance(op, Sum | ReduceMax | ReduceMin):
            return (self.reduction(n, op),)
        if isinstance(op, Pointwise | Concat | Pad) and len(n.outputs) == 1:
            layout = self.common_layout(n)
            if layout is not None:
                xs = tuple(self.along(self.new[v], n, layout) for v in n.inputs)
                return (self.make(n, op, xs, layout),)
        if not n.inputs:
            return n.outputs
        moved = isinstance(op, Slice | Unslice) or not op.has("compute")
        reads_any = not moved and isinstance(op, Prod)
        xs = tuple(self.new[v] if reads_any else self.plain(v) for v in n.inputs)
        if all(a is b for a, b in zip(xs, n.inputs)):
            return n.outputs
        return n.owner.node(op, xs).outputs

    def common_layout(self, n: Node) -> Layout | None:
        """The layout most of a pointwise node's full-size operands have."""
        shape = n.types[0].shape
        votes = [self.new[v].type.layout for v in n.inputs if v.ndim == len(shape) and
                 (v.shape == shape or not isinstance(n.op, Pointwise))]  # fmt: skip
        found = [x for x in votes if x is not None]
        return found[0] if found and 2 * len(found) >= len(votes) else None

    def along(self, v: Value, n: Node, layout: Layout) -> Value:
        """An operand for a node whose result has `layout`: broadcast operands stay as they are."""
        if v.ndim != n.types[0].ndim or v.shape != n.types[0].shape:
            return v if isinstance(n.op, Pointwise) else self.placed(v, layout)
        return self.placed(v, layout)

    # --- convolutions -----------------------------------------------------------------------

    def conv(self, n: Node, op: Conv, x: Value, weights: Value) -> Value:
        """Channels last, weights packed, padding explicit along the last axis: along the others
        the reduction's loops leave the padding out. Images of few channels are read as they are
        given, tile by tile with what surrounds them (see `box`)."""
        if self.reads_images(op, x, weights):
            w = self.placed(self.new.get(weights, weights),
                            self.weight_layout(op, x, weights.shape, n, as_given=True))  # fmt: skip
            return self.make(n, op, (x, w), channels_last(x.ndim))
        before, after = (_last_only(p) for p in (op.pads_before, op.pads_after))
        x = self.padded(n, x, before, after)
        x = self.placed(x, channels_last(x.ndim))
        bare = replace(op, pads_before=(*op.pads_before[:-1], 0),
                       pads_after=(*op.pads_after[:-1], 0))  # fmt: skip
        w = self.placed(self.new.get(weights, weights),
                        self.weight_layout(op, x, weights.shape, n))  # fmt: skip
        return self.make(n, bare, (x, w), channels_last(x.ndim))

    def reads_images(self, op: Conv, x: Value, weights: Value) -> bool:
        """Whether a convolution's operand is given, and a tile's part of it is small."""
        if not isinstance(x.node.op, Input) or x.type.layout is not None or op.groups != 1:
            return False
        if not all(isinstance(d, int) for d in weights.shape):
            return False
        _, channels, *window = concrete(weights.shape)
        return has_small_boxes(channels, op.covered(window), op.strides, x.dtype.itemsize)

    def padded(self, n: Node, x: Value, before: tuple[Dim, ...], after: tuple[Dim, ...]) -> Value:
        if all(d == 0 for d in (*before, *after)):
            return x
        pad = Pad((0, 0, *before), (0, 0, *after))
        return self.make(n, pad, (x,), x.type.layout or channels_last(x.ndim))

    def weight_layout(self, op: Conv, x: Value, shape: tuple[Dim, ...], n: Node,
                      as_given: bool = False) -> Layout:  # fmt: skip
        """Panels of output channels, inside them window, input channel, channel of the panel; where
        x is read `as_given`, input channel before window."""
        steps = tuple(Piece(k) for k in (*range(2, len(shape)), 1))
        if as_given:
            steps = (steps[-1], *steps[:-1])
        if op.groups > 1:
            return (*steps, Piece(0))
        lanes = self.target.lanes(n.types[0].dtype)
        rows = n.types[0].shape[-1]
        depth = product(shape[1:])
        nv = panel_vectors(shape[0], self.target, lanes, rows, depth)
        block = nv * lanes
        if isinstance(shape[0], int) and shape[0] <= lanes:
            return (*steps, Piece(0))
        return (Piece(0, "outer", block), *steps, Piece(0, "inner", block))

    def input_grad(self, n: Node, op: ConvInputGrad) -> Value:
        """A convolution of the gradient with the weights turned; with strides one for each of the
        positions a window may begin at, or of the gradient spread out where windows are dilated."""
        w, spatial = n.inputs[1], n.types[0].shape[2:]
        window = w.shape[2:]
        phases = prod(op.strides)
        sizes = (*window, *spatial, *n.inputs[0].shape[2:], *op.pads_before)
        if op.groups != 1 or phases > MOST_PHASES or not all(isinstance(d, int) for d in sizes):
            xs = tuple(self.plain(v) for v in n.inputs)
            return n.owner.node(op, xs).outputs[0]
        g = self.placed(self.new[n.inputs[0]], channels_last(n.inputs[0].ndim))
        turned = n.owner.node(Transpose((1, 0, *range(2, w.ndim))), (self.plain(w),)).outputs[0]
        if phases > 1 and all(d == 1 for d in op.dilations):
            return self.by_phases(n, op, g, turned)
        if phases > 1:
            wide = tuple((d - 1) * s + 1 for d, s in zip(g.shape[2:], op.strides))
            spread = Unslice((*g.shape[:2], *wide), (0,) * g.ndim, (1, 1, *op.strides))
            g = self.make(n, spread, (g,), channels_last(g.ndim))
        before = tuple((k - 1) * d - p for k, d, p in zip(window, op.dilations, op.pads_before))
        after = tuple(
            x + (k - 1) * d - b - y
            for x, k, d, b, y in zip(spatial, window, op.dilations, before, g.shape[2:])
        )
        taps = [range(k) for k in window]  # type: ignore[arg-type]
        return self.turned_conv(n, g, turned, taps, before, after, op.dilations)

    def by_phases(self, n: Node, op: ConvInputGrad, g: Value, turned: Value) -> Value:
        """Before: y = ConvInputGrad(g, w), strides s, of which each result needs every s-th tap.
        After: for each r below s the results r, r + s, ... as a convolution with their taps; y is
        all of them side by side."""
        spatial, window = concrete(n.types[0].shape[2:]), concrete(turned.shape[2:])
        pads, whole = concrete(op.pads_before), None
        for first in every(*(range(min(s, d)) for s, d in zip(op.strides, spatial))):
            taps: list[range] = []
            before: list[Dim] = []
            after: list[Dim] = []
            for k, r in enumerate(first):
                s = op.strides[k]
                start, tap = divmod(r + pads[k], s)
                count = -(-(spatial[k] - r) // s)
                taps.append(range(tap, window[k], s))
                before.append(len(taps[-1]) - 1 - start)
                after.append(start + count - g.shape[k + 2])
            if not all(taps):
                continue
            ones = (1,) * len(taps)
            part = self.turned_conv(n, g, turned, taps, tuple(before), tuple(after), ones)
            place = Unslice(n.types[0].shape, (0, 0, *first), (1, 1, *op.strides))
            part = self.make(n, place, (part,), channels_last(g.ndim))
            whole = part if whole is None else self.make(
                n, Add(), (whole, part), channels_last(g.ndim))  # fmt: skip
        if whole is None:
            raise InternalError(f"{n!r} has no taps")
        return whole

    def turned_conv(self, n: Node, g: Value, turned: Value, taps: Sequence[range], before: Shape,
                    after: Shape, dilations: tuple[int, ...]) -> Value:  # fmt: skip
        """g under a window of `taps` of the turned weights, the last one first; negative padding
        takes away."""
        if any(isinstance(d, int) and d < 0 for d in (*before, *after)):
            cut = [max(-d, 0) if isinstance(d, int) else 0 for d in before]
            end = [max(-d, 0) if isinstance(d, int) else 0 for d in after]
            sizes = tuple(d - a - b for d, a, b in zip(g.shape[2:], cut, end))
            part = Slice((0, 0, *cut), (*g.shape[:2], *sizes), (1,) * g.ndim)
            g = self.make(n, part, (g,), channels_last(g.ndim))
            before = tuple(max(d, 0) if isinstance(d, int) else d for d in before)
            after = tuple(max(d, 0) if isinstance(d, int) else d for d in after)
        shape = (*turned.shape[:2], *(len(t) for t in taps))
        backwards = Slice((0, 0, *(t[-1] for t in taps)), shape, (1, 1, *(-t.step for t in taps)))
        flipped = n.owner.node(backwards, (turned,)).outputs[0]
        self.new[flipped] = flipped
        forward = Conv((1,) * len(taps), before, after, dilations, 1)
        return self.conv(n, forward, g, flipped)

    def weight_grad(self, n: Node, op: ConvWeightGrad) -> Value:
        """Sums over positions of input times gradient, both channels last."""
        x, g = (self.new[v] for v in n.inputs)
        x = self.padded(n, x, op.pads_before, op.pads_after)
        x, g = (self.placed(v, channels_last(v.ndim)) for v in (x, g))
        none = (0,) * len(op.strides)
        bare = replace(op, pads_before=none, pads_after=none)
        window = tuple(Piece(k) for k in range(2, n.types[0].ndim))
        if op.groups > 1:
            return self.placed(self.make(n, bare, (x, g), None), None)
        made = self.make(n, bare, (x, g), (*window, Piece(1), Piece(0)))
        return self.placed(made, None)

    # --- matrix products --------------------------------------------------------------------

    def matmul(self, n: Node, op: Matmul) -> Value:
        """The right operand in panels where that pays: it is constant, or read many times."""
        a, b = self.as_it_lies(n) or tuple(self.plain(v) for v in n.inputs)
        rows = a.shape[-2]
        often = isinstance(rows, int) and rows >= PACK_ROWS
        fit = b.dtype.is_float or isinstance(op, MatmulInteger)
        if b.ndim == 2 and fit and (n.inputs[1].node in self.steady or often):
            lanes = self.target.lanes(n.types[0].dtype)
            if not isinstance(b.shape[1], int) or b.shape[1] > lanes:
                nv = panel_vectors(b.shape[1], self.target, lanes, rows, b.shape[0])
                block = nv * lanes
                if ceildiv(b.shape[1], block) != 1 or b.shape[1] != block:
                    self.note(f"select: {n!r}: right operand packed in panels of {block} columns")
                    b = self.placed(b, (Piece(1, "outer", block), Piece(0),
                                        Piece(1, "inner", block)))  # fmt: skip
        return n.owner.node(op, (a, b)).outputs[0]

    def as_it_lies(self, n: Node) -> tuple[Value, Value] | None:
        """Before: a = x, channels last, flattened channels first, which moves every element; b does
        not change. After: a = x flattened as it lies in memory, and the rows of b to match."""
        a, b = n.inputs
        if not isinstance(a.node.op, Reshape) or b.node not in self.steady or a.ndim != 2:
            return None
        x = self.new[a.node.inputs[0]]
        sizes = x.shape[1:]
        if x.type.layout != channels_last(x.ndim) or a.shape != (x.shape[0], product(sizes)) or (
                b.ndim != 2 or not all(isinstance(d, int) for d in sizes)):  # fmt: skip
            return None
        order = (*range(2, x.ndim), 1)
        lies = self.make(n, Reshape(a.shape), (self.make(n, Transpose((0, *order)), (x,)),))
        b = self.make(n, Reshape((*sizes, b.shape[1])), (self.plain(b),))
        b = self.make(n, Transpose((*(k - 1 for k in order), len(sizes))), (b,))
        return lies, self.make(n, Reshape(n.inputs[1].shape), (b,))

    # --- reductions -------------------------------------------------------------------------

    def reduction(self, n: Node, op: Sum | ReduceMax | ReduceMin) -> Value:
        """Where it lies; blocks first where there is much to reduce."""
        x = self.new[n.inputs[0]]
        for cut in cuts(x.shape, x.type.layout, op.axes):
            self.note(f"select: {n!r}: reduced in blocks of {cut.block} along axis {cut.axis}")
            axes = tuple(sorted((cut.axis, *cut.inner)))
            blocks = ReduceBlocks(op.combine, axes, cut.axis, cut.block)
            x = self.make(n, blocks, (x,), x.type.layout)
        return n.owner.node(op, (x,)).outputs[0]


def _long(n: Node) -> bool:
    return isinstance(n.op, Sum | ReduceMax | ReduceMin) and bool(
        cuts(n.inputs[0].shape, None, n.op.axes))  # fmt: skip


def _last_only(pads: tuple[Dim, ...]) -> tuple[Dim, ...]:
    return (*(0 for _ in pads[:-1]), pads[-1])
