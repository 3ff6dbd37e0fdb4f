"""What need not be computed at every run.

In: a function. Out: the nodes that depend on nothing but constants and variables that the function
does not change, and those of its groups that are prepared: computed once, and again when such a
variable is written.
"""

from __future__ import annotations

from collections.abc import Collection

from ..graph.ir import Function, Node, Value
from ..graph.ops.fused import Fused
from ..graph.ops.source import Constant, Variable


def steady_nodes(function: Function, given: Collection[Value] = ()) -> frozenset[Node]:
    """See the module docstring. `given`: inputs of the function that count as steady."""
    written = {v.node for v, _ in function.updates}
    steady = {v.node for v in given}
    for n in function.nodes():
        source = isinstance(n.op, Constant) or (isinstance(n.op, Variable) and n not in written)
        if source or (n.inputs and n.op.pure and all(v.node in steady for v in n.inputs)):
            steady.add(n)
    return frozenset(steady)


def prepared_nodes(function: Function) -> frozenset[Node]:
    """The groups that are prepared: those whose sizes are numbers."""
    steady = steady_nodes(function)
    results = {v.node for v in function.roots()}  # at every run, in the run's own memory
    found: set[Node] = set()
    for n in function.nodes():  # what follows one that is not prepared is not either
        ready = all(v.node in found or isinstance(v.node.op, Constant | Variable) for v in n.inputs)
        if n in steady and ready and isinstance(n.op, Fused) and n not in results:
            if all(isinstance(t.nbytes, int) for t in n.types):
                found.add(n)
    return frozenset(found)
