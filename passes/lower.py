"""Groups of graph nodes to stages: the scalar meaning of a kernel, before any choice of loops.

In: a `Function` (the body of a fused group, or a single node wrapped as one). Out: a list of
`Stage`s. Pointwise and movement ops vanish by substitution: each becomes part of the expression of
whoever reads it. A group without a reduction is a map, one with several is a row (see `lower_row`).
Nothing is decided here: which nodes form a group is `fuse`'s business, loops are `schedule`'s.
"""

from __future__ import annotations

from ..algorithm import Axis, Expr, Var, cast
from ..dims import Dim
from ..errors import InternalError
from ..graph.ir import Function, TensorType, Value
from .inline import Inliner, is_reduction
from .lower_row import lower_row
from .stages import BufferSpec, Lowered, Output, Stage, domain, physical


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
    reductions = [n for n in function.nodes() if is_reduction(n, inliner)]
    if len(reductions) > 1 or (reductions and any(
            _lengths(v) != _lengths(reductions[0].outputs[0]) for v in made)):  # fmt: skip
        return Lowered((lower_row(function, inliner, reductions),), tuple(buffers))
    anchor = reductions[0].outputs[0] if reductions else made[0]
    layout = next((v.type.layout for v in made if v.shape == anchor.shape), None)
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
    outputs = []
    for k, v in enumerate(made):
        at = reindex(d.logical, anchor, v)
        value = inliner.at(v, at, d.guard)
        outputs.append(Output(f"y{k}", physical(v.type, at), cast(value, v.dtype)))
    stage = Stage(d.loops, reduce_axes, combine, term, result, tuple(outputs),
                  tuple(inliner.checks))  # fmt: skip
    return Lowered((stage,), tuple(buffers))


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
