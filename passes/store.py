"""Storing: what is read at places that data names, or by a kernel of its own, stands in memory.

Before:  y = gather(x[1:], i)
After:   y = gather(relayout(x[1:]), i)

Fusion reads through what only moves or repeats elements, where the place is an expression of loop
indices. These readers need a buffer; a copy is one.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from ..algorithm import Expr, Load, walk
from ..graph.ir import Function, Node, TensorType, Value
from ..graph.ops.base import Operand, Pointwise
from ..graph.ops.fused import Relayout
from ..graph.ops.reduce import Reduction
from ..graph.ops.shape import BroadcastTo, Movement, Reshape, SizeOf, Slice
from ..graph.ops.source import Constant
from ..graph.rewrite import rewritten
from .base import Context, Pass
from .expand import no_composites
from .special import KERNELS


@dataclass(frozen=True)
class Store(Pass):
    """See the module docstring."""

    name = "store"
    requires = (no_composites,)

    def run(self, function: Function, context: Context) -> Function:
        def replace(n: Node) -> tuple[Value, ...] | None:
            if not any(read_through(v) for v in n.inputs):
                return None
            needed = _from_memory(n)
            operands = tuple(
                v.node.owner.node(Relayout(v.type.layout), (v,)).outputs[0]
                if k in needed and read_through(v)
                else v
                for k, v in enumerate(n.inputs)
            )
            return None if operands == n.inputs else n.owner.node(n.op, operands).outputs

        return rewritten(function, replace)


def read_through(v: Value) -> bool:
    """Whether fusion may read `v` where its operand lies."""
    op = v.node.op
    moved = isinstance(op, Reshape | BroadcastTo | Slice | SizeOf)
    return moved or (isinstance(op, Constant) and v.type.size == 1)


def _from_memory(n: Node) -> Container[int]:
    """The operands of a node that must be buffers."""
    if n.op.name in KERNELS:
        return range(len(n.inputs))
    if isinstance(n.op, Pointwise | Reduction | Movement) or not n.op.has("compute"):
        return ()
    operands = [Operand(k, TensorType(v.dtype, v.shape)) for k, v in enumerate(n.inputs)]
    made = n.op.compute(TensorType(n.types[0].dtype, n.types[0].shape), *operands)
    return {int(x.buffer) for x in walk(made.value)
            if isinstance(x, Load) and any(isinstance(i, Expr) for i in x.indices)}  # fmt: skip
