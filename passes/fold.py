"""Folding: what depends on nothing but constants is computed now, by the ops' references.

Before:  y = x * sqrt(constant(16.0))
After:   y = x * constant(4.0)

Only small results are worth it: what depends on large constants is computed natively when a program
is loaded. A number repeated to a shape stays a number; loops are run when the program is; what can
fail at run time is left to fail there.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..graph.interpret import run
from ..graph.ir import CALLS, Function, Node, TensorType, Value
from ..graph.ops.base import Operand
from ..graph.ops.control import Control
from ..graph.ops.shape import BroadcastTo
from ..graph.ops.source import Constant
from ..graph.printer import symbols_in
from ..graph.rewrite import rewritten
from .base import Context, Pass

LIMIT = 4096  # bytes of a result that is folded


@dataclass(frozen=True)
class Fold(Pass):
    """See the module docstring. Operands may have `limit` bytes each, and so may results."""

    limit: int = LIMIT
    name = "fold"

    def run(self, function: Function, context: Context) -> Function:
        def replace(n: Node) -> tuple[Value, ...] | None:
            if not self.foldable(n):
                return None
            if can_fail(n):
                context.note(n, "not folded: it can fail at run time")
                return None
            context.note(n, "folded")
            return evaluated(n)

        return rewritten(function, replace)

    def foldable(self, n: Node) -> bool:
        if not n.op.pure or isinstance(n.op, Constant | BroadcastTo | Control):
            return False
        if not all(isinstance(v.node.op, Constant) and self.small(v.type) for v in n.inputs):
            return False
        if not all(self.small(t) and t.layout is None for t in n.types):
            return False
        if not n.inputs and n.types[0].size != 1:
            return False  # counting costs less than reading what was counted
        return not symbols_in(alone(n))

    def small(self, t: TensorType) -> bool:
        return isinstance(t.nbytes, int) and t.nbytes <= self.limit


def alone(n: Node) -> Function:
    """The function that computes one node, of constants."""
    return Function("fold", (), tuple((f"y{k}", v) for k, v in enumerate(n.outputs)))


def can_fail(n: Node) -> bool:
    """Whether it checks what its operands hold."""
    if n.op.indices is not None:
        return True
    if not n.op.has("compute") or len(n.types) != 1:
        return False
    xs = [Operand(k, v.type) for k, v in enumerate(n.inputs)]
    return bool(n.op.compute(n.types[0], *xs).checks)


def evaluated(n: Node) -> tuple[Value, ...]:
    """Constants with the results of a node whose operands are constants."""
    results, _ = run(alone(n), {})
    return tuple(
        CALLS["constant"](array, dtype=v.dtype, owner=n.owner)
        for array, v in zip(results.values(), n.outputs)
    )
