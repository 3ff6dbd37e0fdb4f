"""What lowering hands to schedules: stages, the scalar meaning of a kernel before any choice of loops.

A `Stage` is a map, a reduction with work before and after it (or one folded by another), or a row
with several reductions over the same columns. `domain` and `physical` say where the elements of a tensor lie.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..algorithm import Axis, Expr, Index, IndexLike, Var, apply, axis
from ..dims import Dim, bounds
from ..dtypes import DType
from ..errors import InternalError
from ..graph.ir import Node, TensorType


@dataclass(frozen=True)
class Domain:
    """The elements of a tensor in memory order: `loops` over physical dimensions, the `logical`
    index they stand for, and where blocks are padded a `guard` that holds inside the tensor."""

    loops: tuple[Axis, ...]
    logical: tuple[Dim, ...]
    guard: Expr | None


def domain(type: TensorType) -> Domain:
    """The domain of a tensor type."""
    if type.layout is None:
        loops = tuple(axis(d) for d in type.shape)
        return Domain(loops, tuple(a.index for a in loops), None)
    loops = tuple(axis(p.extent(type.shape[p.axis])) for p in type.layout)
    logical: list[Dim] = [0] * type.ndim
    guard: Expr | None = None
    for piece, loop in zip(type.layout, loops):
        step = piece.block if piece.part == "outer" else 1
        logical[piece.axis] = logical[piece.axis] + loop.index * step
    for k, (i, d) in enumerate(zip(logical, type.shape)):
        low, _ = bounds(d - 1 - i)
        if low is None or low < 0:
            if any(p.axis == k and p.part != "all" for p in type.layout):
                inside = apply("lt", Index(i), Index(d))
                guard = inside if guard is None else guard & inside
    return Domain(loops, tuple(logical), guard)


def physical(type: TensorType, logical: tuple[IndexLike, ...]) -> tuple[IndexLike, ...]:
    """Indices into the dense buffer of `type` for a logical index."""
    if type.layout is None:
        return logical
    out: list[IndexLike] = []
    for piece in type.layout:
        i = logical[piece.axis]
        if isinstance(i, Expr):
            if piece.part != "all":
                raise InternalError("an index that depends on data meets a blocked layout")
            out.append(i)
        else:
            out.append(piece.index(i))
    return tuple(out)


@dataclass(frozen=True)
class Output:
    """What a stage writes for each element of its domain."""

    buffer: str
    indices: tuple[IndexLike, ...]
    value: Expr


@dataclass(frozen=True)
class StageCheck:
    """A condition that fails the run: `code` names the error, `cond` where it happens."""

    code: str
    cond: Expr
    index: Dim
    node: Node


@dataclass(frozen=True)
class Part:
    """A named value of a row, which later parts and outputs read as a `Var`: once per row; `wide`,
    for every column; or, with `combine`, over the columns. `checks`: ordinals of those of the
    stage that belong to it."""

    name: str
    value: Expr
    dtype: DType
    wide: bool
    combine: str | None = None
    checks: tuple[int, ...] = ()


@dataclass(frozen=True)
class Row:
    """What is computed for each row, in order. `along`: the columns of a row lie side by side in
    memory; else neighbouring rows do."""

    parts: tuple[Part, ...]
    along: bool


@dataclass(frozen=True)
class Fold:
    """A second reduction, of few results: `combine over axes of value(result)` is what the outputs
    then call their result. A pool folds what a convolution computes for its window."""

    axes: tuple[Axis, ...]
    combine: str
    value: Expr


@dataclass(frozen=True)
class Stage:
    """`for axes: result = combine over reduce_axes of term; outputs(result)`.

    Axes are in memory order of the first output. Without `combine`, outputs are a plain map. With
    `row`, axes are the rows, reduce_axes the columns, outputs are parts. With `fold`, results are
    folded before the outputs are made of them.
    """

    axes: tuple[Axis, ...]
    reduce_axes: tuple[Axis, ...]
    combine: str | None
    term: Expr | None
    result: Var | None
    outputs: tuple[Output, ...]
    checks: tuple[StageCheck, ...] = ()
    row: Row | None = None
    fold: Fold | None = None


@dataclass(frozen=True)
class BufferSpec:
    """A buffer of a lowered group: a name, its type, and whether it is written."""

    name: str
    type: TensorType
    written: bool


@dataclass(frozen=True)
class Lowered:
    """Stages that run one after the other over `buffers` (inputs first, then outputs)."""

    stages: tuple[Stage, ...]
    buffers: tuple[BufferSpec, ...]
