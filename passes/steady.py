"""What stays the same from run to run: nodes that depend on nothing but constants and variables
that a function does not change. They can be computed once, and again when a variable is written."""

from __future__ import annotations

from ..graph.ir import Function, Node
from ..graph.ops.source import Constant, Variable


def steady_nodes(function: Function) -> set[Node]:
    """Such nodes of `function`, sources included."""
    written = {v.node for v, _ in function.updates}
    out: set[Node] = set()
    for n in function.nodes():
        if isinstance(n.op, Constant) or (isinstance(n.op, Variable) and n not in written):
            out.add(n)
        elif n.inputs and n.op.pure and all(v.node in out for v in n.inputs):
            if all(isinstance(t.nbytes, int) for t in n.types):
                out.add(n)
    return out
