"""A function and all that its loops and branches hold.

In: a function, and how to change one. Out: the function with every one changed, inner ones first.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from ..graph.ir import Function, Node, Value
from ..graph.ops.control import Control
from ..graph.rewrite import rebuilt
from .prepare import steady_nodes


def everywhere(function: Function, change: Callable[[Function, frozenset[Node]], Function],
               given: Collection[Value] = ()) -> Function:  # fmt: skip
    """`change` applied to the functions that loops and branches hold, then to the whole. It gets a
    function and the nodes that are not computed at every turn of a loop, nor at every run; `given`
    are inputs that count as such."""
    steady = steady_nodes(function, given)

    def inside(n: Node, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
        op = n.op
        if not isinstance(op, Control):
            return None
        first, numbers = op.leading, range(op.varying, len(n.inputs) - op.leading)
        same = [k for k in numbers if op.loops or n.inputs[first + k].node in steady]
        held = [everywhere(f, change, [f.inputs[k] for k in same]) for f in op.functions]
        if all(a is b for a, b in zip(held, op.functions)):
            return None
        return n.owner.node(op.holding(held), inputs).outputs

    return change(rebuilt(function, inside), steady)
