"""Pointwise and movement ops vanish by substitution: the expression of a value at given indices.

In: values whose elements are loaded from buffers (`leaves`) or known by name (`results`). Out: for
any other value the expression of its producers, substituted into one another.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..algorithm import (
    Axis,
    Compute,
    Const,
    Expr,
    Index,
    IndexLike,
    Load,
    Select,
    rebuild,
)
from ..dims import Dim, Sym, substitute
from ..errors import InternalError
from ..graph.ir import Node, TensorType, Value
from ..graph.ops.base import Operand
from ..graph.ops.source import Constant
from .stages import StageCheck, physical


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
        if self.compute(node).combine is not None:
            raise InternalError(f"reduction {value!r} was not given a stage")
        made = self.element(node, indices, mask)
        if mask is None or isinstance(made, Load):
            return made
        return Select(mask, made, Const(0, made.dtype))

    def element(self, node: Node, indices: tuple[IndexLike, ...], mask: Expr | None) -> Expr:
        """What the node's algorithm says of element `indices`; its checks are noted."""
        c = self.compute(node)
        made = self._substitute(c, c.value, node, indices, mask)
        for check in c.checks:
            cond = self._substitute(c, check.cond, node, indices, mask)
            if mask is not None:
                cond = cond & mask
            flat: Dim = 0
            for i, d in zip(indices, node.outputs[0].shape):
                flat = flat * d + (0 if isinstance(i, Expr) else i)
            self.checks.append(StageCheck(check.code, cond, flat, node))
        return made

    def _substitute(self, c: Compute, e: Expr, node: Node, indices: tuple[IndexLike, ...],
                    mask: Expr | None, columns: Sequence[Dim] = ()) -> Expr:  # fmt: skip
        """`e` of the node's Compute with its axes at `indices`, those it reduces at `columns` if
        these are given, and its operands inlined."""
        values: dict[Sym, Dim] = {a.sym: i for a, i in zip(c.reduce_axes, columns)}
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

    def reduction(self, node: Node, logical: tuple[Dim, ...],
                  columns: Sequence[Dim] = ()) -> tuple[tuple[Axis, ...], Expr]:  # fmt: skip
        """The axes a reduction runs over and its term, at output index `logical` and, if given,
        at `columns`."""
        c = self.compute(node)
        values = {a.sym: i for a, i in zip(c.axes, logical)}
        axes = tuple(Axis(a.index, substitute(a.extent, values)) for a in c.reduce_axes)
        return axes, self._substitute(c, c.value, node, logical, None, columns)


def is_reduction(node: Node, inliner: Inliner) -> bool:
    """Whether the node's algorithm reduces."""
    if not node.op.has("compute") or isinstance(node.op, Constant):
        return False
    return inliner.compute(node).combine is not None
