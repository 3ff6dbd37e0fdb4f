"""Groups of graph nodes to stages: the scalar meaning of a kernel, before any choice of loops.

In: a `Function` (the body of a fused group, or a single node wrapped as one). Out: a list of
`Stage`s. Pointwise and movement ops vanish by substitution: each becomes part of the expression of
whoever reads it. Reductions are what stages are made of; a group without one is a single stage.
Nothing is decided here: which nodes form a group is `fuse`'s business, loops are `schedule`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..algorithm import (
    Axis,
    Compute,
    Const,
    Expr,
    Index,
    IndexLike,
    Load,
    Select,
    Var,
    apply,
    axis,
    cast,
    rebuild,
)
from ..dims import Dim, Sym, bounds, substitute
from ..errors import InternalError
from ..graph.ir import Function, Node, TensorType, Value
from ..graph.ops.base import Operand
from ..graph.ops.source import Constant


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
class Stage:
    """`for axes: result = combine over reduce_axes of term; outputs(result)`.

    Axes are in memory order of the first output. Without `combine`, outputs are a plain map.
    """

    axes: tuple[Axis, ...]
    reduce_axes: tuple[Axis, ...]
    combine: str | None
    term: Expr | None
    result: Var | None
    outputs: tuple[Output, ...]
    checks: tuple[StageCheck, ...] = ()


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


class Inliner:
    """Expressions of values at given indices, producers substituted into their users."""

    def __init__(self) -> None:
        self.leaves: dict[Value, str] = {}
        self.types: dict[Value, TensorType] = {}
        self.results: dict[Value, tuple[tuple[Dim, ...], Expr]] = {}
        self.checks: list[StageCheck] = []
        self._computes: dict[Node, Compute] = {}
        self._memo: dict[tuple[Value, tuple[IndexLike, ...], Expr | None], Expr] = {}

    def compute(self, node: Node) -> Compute:
        """The node's algorithm, asked for once."""
        found = self._computes.get(node)
        if found is None:
            operands = [Operand(k, TensorType(v.dtype, v.shape)) for k, v in enumerate(node.inputs)]
            found = node.op.compute(TensorType(node.types[0].dtype, node.types[0].shape), *operands)
            self._computes[node] = found
        return found

    def at(self, value: Value, indices: tuple[IndexLike, ...], mask: Expr | None) -> Expr:
        """Element `indices` of `value`; zero, and nothing read, where `mask` is false."""
        key = (value, indices, mask)
        found = self._memo.get(key)
        if found is None:
            found = self._memo[key] = self._at(value, indices, mask)
        return found

    def _at(self, value: Value, indices: tuple[IndexLike, ...], mask: Expr | None) -> Expr:
        buffer = self.leaves.get(value)
        if buffer is not None:
            return Load(buffer, physical(value.type, indices), value.dtype, mask)
        if value in self.results:
            where, expr = self.results[value]
            for i, j, d in zip(indices, where, value.shape):
                if i != j and d != 1:
                    raise InternalError(f"{value!r} is read at another index than it is made at")
            return expr
        node = value.node
        if isinstance(node.op, Constant):
            data = node.op.data.array
            if data.size != 1:
                raise InternalError(f"constant {value!r} was not made a buffer")
            return Const(data.reshape(()).item(), node.op.dtype)
        c = self.compute(node)
        if c.combine is not None:
            raise InternalError(f"reduction {value!r} was not given a stage")
        made = self._substitute(c, c.value, node, indices, mask)
        for check in getattr(c, "checks", ()):
            cond = self._substitute(c, check.cond, node, indices, mask)
            if mask is not None:
                cond = cond & mask
            flat: Dim = 0
            for i, d in zip(indices, value.shape):
                flat = flat * d + (0 if isinstance(i, Expr) else i)
            self.checks.append(StageCheck(check.code, cond, flat, node))
        if mask is None or isinstance(made, Load):
            return made
        return Select(mask, made, Const(0, made.dtype))

    def _substitute(self, c: Compute, e: Expr, node: Node, indices: tuple[IndexLike, ...],
                    mask: Expr | None) -> Expr:  # fmt: skip
        """`e` of the node's Compute with its axes at `indices` and its operands inlined."""
        values: dict[Sym, Dim] = {}
        for a, i in zip(c.axes, indices):
            if isinstance(i, Expr):
                raise InternalError("an index that depends on data reaches past its operand")
            values[a.sym] = i

        def dim(d: Dim) -> Dim:
            return substitute(d, values)

        def leaf(x: Expr) -> Expr | None:
            if not isinstance(x, Load):
                return None
            at = tuple(rebuild(i, leaf, dim) if isinstance(i, Expr) else dim(i) for i in x.indices)
            at = tuple(i.dim if isinstance(i, Index) else i for i in at)
            inner = None if x.mask is None else rebuild(x.mask, leaf, dim)
            both = inner if mask is None else mask if inner is None else inner & mask
            return self.at(node.inputs[int(x.buffer)], at, both)

        return rebuild(e, leaf, dim)

    def reduction(self, node: Node, logical: tuple[Dim, ...]) -> tuple[Compute, Expr]:
        """The Compute of a reduction and its term at output index `logical`."""
        c = self.compute(node)
        return c, self._substitute(c, c.value, node, logical, None)


def lower(function: Function) -> Lowered:
    """The stages of a group with at most one reduction."""
    inliner = Inliner()
    buffers: list[BufferSpec] = []
    for k, v in enumerate(function.inputs):
        inliner.leaves[v] = f"x{k}"
        buffers.append(BufferSpec(f"x{k}", v.type, False))
    made = [v for _, v in function.outputs]
    for k, v in enumerate(made):
        buffers.append(BufferSpec(f"y{k}", v.type, True))
    reductions = [n for n in function.nodes() if is_reduction(n, inliner)]
    if len(reductions) > 1:
        raise InternalError("a group with several reductions is lowered by rows")
    main = made[0]
    if (reductions and reductions[0].outputs[0] not in made) or reductions:
        anchor = reductions[0].outputs[0]
    else:
        anchor = main
    layout = next((v.type.layout for v in made if v.shape == anchor.shape), None)
    d = domain(TensorType(anchor.dtype, anchor.shape, layout))
    term: Expr | None = None
    result: Var | None = None
    reduce_axes: tuple[Axis, ...] = ()
    combine: str | None = None
    if reductions:
        c, term = inliner.reduction(reductions[0], d.logical)
        reduce_axes, combine = c.reduce_axes, c.combine
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


def reindex(logical: tuple[Dim, ...], anchor: Value, v: Value) -> tuple[Dim, ...]:
    """The index of `v` for the domain of `anchor`: shapes are equal up to leading ones."""
    if v.shape == anchor.shape:
        return logical
    core = tuple(d for d in v.shape if d != 1)
    if core != tuple(d for d in anchor.shape if d != 1):
        raise InternalError(f"{v!r} does not share the domain of {anchor!r}")
    rest = iter([i for i, d in zip(logical, anchor.shape) if d != 1])
    return tuple(0 if d == 1 else next(rest) for d in v.shape)


def is_reduction(node: Node, inliner: Inliner) -> bool:
    """Whether the node's algorithm reduces."""
    if not node.op.has("compute") or isinstance(node.op, Constant):
        return False
    return inliner.compute(node).combine is not None
