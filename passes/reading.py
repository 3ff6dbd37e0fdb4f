"""What the nodes of a function read: users, algorithms, and values read through other nodes.

In: a Function of plain ops. Ops that only move elements cheaply (reshape, broadcast, slice) are
"virtual": whoever reads them reads through them, at indices that follow from their algorithms.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..algorithm import Compute, Expr, Index, Load, walk
from ..dims import Dim, Sym, substitute
from ..graph.ir import Function, Node, TensorType, Value
from ..graph.ops.base import Operand
from ..graph.ops.control import Control
from ..graph.ops.effects import EnsureShape
from ..graph.ops.linalg import Matmul
from ..graph.ops.shape import BroadcastTo, Reshape, SizeOf, Slice, Transpose
from ..graph.ops.sizes import Prefix
from ..graph.ops.source import Constant, Input, Variable
from .special import KERNELS

_SOURCES = (Input, Variable)
READ_THROUGH = (
    Reshape,
    BroadcastTo,
    Slice,
    Prefix,
    SizeOf,
    EnsureShape,
)  # never computed by themselves
MOST_PASSED = 48  # virtual nodes in a row: each makes an index longer


@dataclass(frozen=True)
class Access:
    """One element of a computed or given value that is read: where, None if that depends on data,
    and whether only under a condition."""

    value: Value
    indices: tuple[Dim, ...] | None
    masked: bool


class Reading:
    """See the module docstring. What is virtual, and what is read through it, is settled once."""

    def __init__(self, function: Function) -> None:
        self.nodes = function.nodes()
        self.told = {n.inputs[b.operand] for n in self.nodes for b in n.op.bindings()}
        self.kept: set[Value] = {*function.roots(), *self.told}  # what lies in memory
        self.users: dict[Value, list[Node]] = {}
        self._computes: dict[Node, Compute] = {}
        self.looked_up: set[Value] = {v for n in self.nodes for v in self._looks_up(n)}
        for n in self.nodes:
            for v in dict.fromkeys(n.inputs):
                self.users.setdefault(v, []).append(n)
        for n in self.nodes:  # what is read through depends on all users
            if n.op.name in KERNELS:
                self.kept.update(v for v in map(memory_of, n.inputs) if self._is_virtual(v.node))
        self._virtual: dict[Node, bool] = {}
        passed: dict[Node, int] = {}  # the virtual nodes that reading goes through
        for n in self.nodes:
            passed[n] = 1 + max((passed[v.node] for v in n.inputs), default=0)
            self._virtual[n] = self._is_virtual(n) and passed[n] <= MOST_PASSED
            if not self._virtual[n]:
                passed[n] = 0
        self._through: dict[Node, list[Value]] = {}

    def is_source(self, n: Node) -> bool:
        """Whether the values of `n` are given."""
        return isinstance(n.op, _SOURCES) or (isinstance(n.op, Constant) and
                                              n.op.data.array.size != 1)  # fmt: skip

    def is_virtual(self, n: Node) -> bool:
        """Read through, never computed: unless the graph asks for the value itself, or it is read
        where other values say."""
        return self._virtual[n]

    def _is_virtual(self, n: Node) -> bool:
        if any(v in self.kept or v in self.looked_up for v in n.outputs):
            return False
        if isinstance(n.op, Constant):
            return n.op.data.array.size == 1
        if any(self.stays(u) for v in n.outputs for u in self.users.get(v, ())):
            return False
        if isinstance(n.op, Transpose):
            return _as_it_lies(n, n.op) or self._only_left_factor(n)
        return isinstance(n.op, READ_THROUGH)

    def is_view(self, n: Node) -> bool:
        """Whether a reshape is not computed though it needs memory: that of its operand."""
        if not isinstance(n.op, Reshape) or n.outputs[0] in self.kept or n.types[0].layout:
            return False
        users = self.users.get(n.outputs[0], ())
        return n.inputs[0].type.layout is None and any(self.stays(u) for u in users)

    def stays(self, n: Node) -> bool:
        """Whether a node is part of no group: it gets its operands in memory, as they are."""
        return isinstance(n.op, Control) or self.is_view(n)

    def _looks_up(self, n: Node) -> list[Value]:
        """The operands that `n` reads at indices which depend on data."""
        if self.is_source(n) or n.op.name in KERNELS or not n.op.has("compute"):
            return []
        return [n.inputs[int(x.buffer)] for x in walk(self.compute(n).value)
                if isinstance(x, Load) and any(isinstance(i, Expr) for i in x.indices)]  # fmt: skip

    def _only_left_factor(self, n: Node) -> bool:
        """Whether a transpose is read by matrix products alone, on their left: single elements
        are taken from there, in any order."""
        users = self.users.get(n.outputs[0], [])
        return bool(users) and all(
            isinstance(u.op, Matmul) and u.inputs[0] is n.outputs[0] is not u.inputs[1]
            for u in users
        )

    def compute(self, n: Node) -> Compute:
        """The node's algorithm, asked for once."""
        found = self._computes.get(n)
        if found is None:
            xs = [Operand(k, TensorType(v.dtype, v.shape)) for k, v in enumerate(n.inputs)]
            found = n.op.compute(TensorType(n.types[0].dtype, n.types[0].shape), *xs)
            self._computes[n] = found
        return found

    def through(self, n: Node) -> list[Value]:
        """The values `n` reads once virtual nodes are read through."""
        found = self._through.get(n)
        if found is None:
            found = self._through[n] = []
            stack = list(reversed(n.inputs))
            while stack:
                v = stack.pop()
                if self.is_virtual(v.node):
                    stack.extend(reversed(v.node.inputs))
                else:
                    found.append(v)
        return found

    def final_users(self, v: Value) -> list[Node]:
        """Nodes that read `v`, directly or through virtual nodes."""
        out: list[Node] = []
        stack = list(self.users.get(v, []))
        while stack:
            u = stack.pop()
            if self.is_virtual(u):
                stack.extend(self.users.get(u.outputs[0], []))
            else:
                out.append(u)
        return out

    def accesses(self, n: Node, values: dict[Sym, Dim]) -> list[Access]:
        """The elements `n` reads, the symbols of its algorithm's axes being `values`."""
        c = self.compute(n)
        out: list[Access] = []
        todo: list[tuple[Node, Expr, dict[Sym, Dim], bool]] = [
            (n, e, values, False) for e in (c.value, *(check.cond for check in c.checks))
        ]
        while todo:
            node, e, known, masked = todo.pop()
            for x in walk(e):
                if not isinstance(x, Load):
                    continue
                v = node.inputs[int(x.buffer)]
                hidden = masked or x.mask is not None
                at = _at(x, known)
                if at is None or not self.is_virtual(v.node):
                    out.append(Access(v, at, hidden))
                elif v.node.inputs:
                    inner = self.compute(v.node)
                    bound = {a.sym: i for a, i in zip(inner.axes, at)}
                    todo.append((v.node, inner.value, bound, hidden))
        return out


def _as_it_lies(n: Node, op: Transpose) -> bool:
    """Whether a transpose gives the elements the order they have in memory."""
    layout = n.inputs[0].type.layout
    return layout is not None and tuple(p.axis for p in layout) == op.perm and (
        n.types[0].layout is None and all(p.part == "all" for p in layout))  # fmt: skip


def _at(x: Load, values: dict[Sym, Dim]) -> tuple[Dim, ...] | None:
    plain = [i.dim if isinstance(i, Index) else i for i in x.indices]
    if any(isinstance(i, Expr) for i in plain):
        return None
    return tuple(substitute(i, values) for i in plain if not isinstance(i, Expr))


def memory_of(v: Value) -> Value:
    """What a kernel of an op's own reads for an operand: memory knows no shapes."""
    while isinstance(v.node.op, Reshape):
        v = v.node.inputs[0]
    return v
