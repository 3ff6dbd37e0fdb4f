"""Groups of graph nodes to stages: the scalar meaning of a kernel, before any choice of loops.

In: a `Function` (the body of a fused group, or a single node wrapped as one). Out: a list of
`Stage`s. Pointwise and movement ops vanish by substitution: each becomes part of the expression of
whoever reads it. A group without a reduction is a map, a reduction and a pool of its results are one
folded by the other, several reductions otherwise are a row (see `lower_row`).
Nothing is decided here: which nodes form a group is `fuse`'s business, loops are `schedule`'s.
"""

from __future__ import annotations

from ..algorithm import Axis, Const, Expr, Load, Var, cast, walk
from ..dims import Dim, substitute
from ..errors import InternalError
from ..graph.ir import Function, Node, TensorType, Value
from ..graph.ops.pooling import Pooling
from ..graph.ops.shape import Pad
from .inline import Inliner, is_reduction
from .lower_row import lower_row
from .stages import BufferSpec, Domain, Fold, Lowered, Output, Stage, domain, physical


def lower(function: Function) -> Lowered:
    """The stages of a group: a map, a reduction, or a row."""
    inliner = Inliner()
    buffers: list[BufferSpec] = []
    for k, v in enumerate(function.inputs):
        inliner.leaves[v] = f"x{k}"
        buffers.append(BufferSpec(f"x{k}", v.type, False))
    made = [v for _, v in function.outputs]
    for k, v in enumerate(made):
        buffers.append(BufferSpec(f"y{k}", v.type, True))
    stages = _stages(function, inliner, made)
    return Lowered(tuple(stages), tuple(buffers))


def _stages(function: Function, inliner: Inliner, made: list[Value]) -> list[Stage]:
    """What computes the results `made`, then what surrounds them."""
    reductions = [n for n in function.nodes() if is_reduction(n, inliner)]
    if len(reductions) == 2 and isinstance(reductions[1].op, Pooling):
        pool = reductions[1]
        return [_folded(made, inliner, reductions[0], pool), *_borders(made, pool.outputs[0])]
    anchor = reductions[0].outputs[0] if reductions else made[0]
    if len(reductions) > 1 or any(_lengths(v) != _lengths(anchor) for v in made
                                  if _surrounded(v, anchor) is None):  # fmt: skip
        return [lower_row(function, inliner, reductions)]
    layout = next((v.type.layout for v in made if v.shape == anchor.shape or
                   _surrounded(v, anchor) is not None), None)  # fmt: skip
    d = domain(TensorType(anchor.dtype, anchor.shape, layout))
    term: Expr | None = None
    result: Var | None = None
    reduce_axes: tuple[Axis, ...] = ()
    combine: str | None = None
    if reductions:
        combine = inliner.compute(reductions[0]).combine
        reduce_axes, term = inliner.reduction(reductions[0], d.logical)
        result = Var("result", anchor.dtype)
        inliner.results[anchor] = (d.logical, result)
    outputs = _outputs(made, anchor, inliner, d)
    stage = Stage(d.loops, reduce_axes, combine, term, result, outputs, tuple(inliner.checks))
    return [stage, *_borders(made, anchor)]


def _folded(made: list[Value], inliner: Inliner, inner: Node, pool: Node) -> Stage:
    """A reduction whose results a pool reads, each in one window: the pool folds them."""
    result, anchor = inner.outputs[0], pool.outputs[0]
    d = domain(anchor.type)
    c = inliner.compute(pool)
    values = {a.sym: i for a, i in zip(c.axes, d.logical)}
    (read,) = {x for x in walk(c.value) if isinstance(x, Load)}
    where = tuple(substitute(i, values) for i in read.indices if not isinstance(i, Expr))
    reduce_axes, term = inliner.reduction(inner, where)
    inliner.results[result] = (where, Var("result", result.dtype))
    fold_axes, value = inliner.reduction(pool, d.logical)
    inliner.results[anchor] = (d.logical, Var("result", anchor.dtype))
    assert c.combine is not None
    outputs = _outputs(made, anchor, inliner, d)
    return Stage(d.loops, reduce_axes, inliner.compute(inner).combine, term,
                 Var("result", result.dtype), outputs, fold=Fold(fold_axes, c.combine, value))  # fmt: skip


def _outputs(made: list[Value], anchor: Value, inliner: Inliner, d: Domain) -> tuple[Output, ...]:
    """What is written of every value of a group, over the domain of `anchor`."""
    outputs = []
    for k, v in enumerate(made):
        middle = _surrounded(v, anchor)
        what = v if middle is None else middle
        place = at = reindex(d.logical, anchor, what)
        if middle is not None:
            place = tuple(i + b for i, b in zip(at, _pad(v).before))
        value = inliner.at(what, at, d.guard)
        outputs.append(Output(f"y{k}", physical(v.type, place), cast(value, v.dtype)))
    return tuple(outputs)


def _surrounded(v: Value, anchor: Value) -> Value | None:
    """The value of the anchor's shape that `v` is, with padding around it."""
    return v.node.inputs[0] if isinstance(v.node.op, Pad) and v is not anchor else None


def _pad(v: Value) -> Pad:
    assert isinstance(v.node.op, Pad)
    return v.node.op


def _borders(made: list[Value], anchor: Value) -> list[Stage]:
    """Maps that write padding around what a stage writes: on every axis what comes before and what
    comes after, without the corners that axes before it have written."""
    out: list[Stage] = []
    for k, v in enumerate(made):
        middle = _surrounded(v, anchor)
        if middle is None:
            continue
        pad, sizes, starts = _pad(v), list(v.shape), list[Dim]([0] * v.ndim)
        for axis, inside in enumerate(middle.shape):
            before, after = pad.before[axis], pad.after[axis]
            for start, size in ((0, before), (before + inside, after)):
                if size == 0:
                    continue
                slab = (*sizes[:axis], size, *sizes[axis + 1 :])
                d = domain(TensorType(v.dtype, slab, v.type.layout))
                first = (*starts[:axis], start, *starts[axis + 1 :])
                place = tuple(i + b for i, b in zip(d.logical, first))
                fill = Output(f"y{k}", physical(v.type, place), Const(pad.value, v.dtype))
                out.append(Stage(d.loops, (), None, None, None, (fill,)))
            sizes[axis], starts[axis] = inside, before
    return out


def _lengths(v: Value) -> tuple[Dim, ...]:
    """The sizes of a value's axes, without those of one element."""
    return tuple(d for d in v.shape if d != 1)


def reindex(logical: tuple[Dim, ...], anchor: Value, v: Value) -> tuple[Dim, ...]:
    """The index of `v` for the domain of `anchor`: shapes are equal up to leading ones."""
    if v.shape == anchor.shape:
        return logical
    if _lengths(v) != _lengths(anchor):
        raise InternalError(f"{v!r} does not share the domain of {anchor!r}")
    rest = iter([i for i, d in zip(logical, anchor.shape) if d != 1])
    return tuple(0 if d == 1 else next(rest) for d in v.shape)
