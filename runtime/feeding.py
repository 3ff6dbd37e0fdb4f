"""What a run computes: fetched and fed values of a graph come in, a `Function` goes out.

Any value can be fed. What only fed values depend on is then no part of the run: not computed, not
printed, not checked, not updated.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import FeedError
from ..graph.definition import Graph
from ..graph.ir import Function, Interner, Node, Value, topological
from ..graph.ops.source import Input


def function_for(graph: Graph, fetches: Sequence[Value], fed: Sequence[Value],
                 name: str = "run") -> Function:  # fmt: skip
    """The function of some fetches when some values are given: those are its first inputs, in
    order, and whatever else it needs follows. FeedError where a fed variable is to be updated."""
    function = graph.function(name, {f"y{k}": v for k, v in enumerate(fetches)}, fed)
    if any(not isinstance(v.node.op, Input) for v in fed):
        return _with_fed(function, fed)
    rest = [v for v in function.inputs if v not in set(fed)]
    return Function(name, (*fed, *rest), function.outputs, function.updates, function.effects)


def _with_fed(function: Function, fed: Sequence[Value]) -> Function:
    """A copy in which fed values are inputs."""
    interner = Interner()
    new: dict[Value, Value] = {}
    for v in fed:
        if any(target is v for target, _ in function.updates):
            raise FeedError(f'"{v.name}" is a variable that this run updates, it cannot be fed',
                            f"{v.node.loc}", "set it before the run: session.set")  # fmt: skip
        label = v.name or f"{v.node.op.name}_{v.node.serial}"
        made = interner.node(Input(label, v.dtype, v.shape), (), v.node.loc).outputs[0]
        interner.names_of[made] = label
        new[v] = made
    for n in topological([*(v.node for v in function.roots()),
                          *(v.node for v, _ in function.updates)], _cut(fed)):  # fmt: skip
        if all(v in new for v in n.outputs):
            continue
        copy = interner.node(n.op, tuple(new[v] for v in n.inputs), n.loc)
        for a, b in zip(n.outputs, copy.outputs):
            new.setdefault(a, b)
            if n.owner.names_of.get(a):
                interner.names_of.setdefault(b, n.owner.names_of[a])
    given = tuple(new[v] for v in fed)
    rest = tuple(new[v] for v in function.inputs if v not in set(fed))
    return Function(function.name, (*given, *rest),
                    tuple((k, new[v]) for k, v in function.outputs),
                    tuple((new[a], new[b]) for a, b in function.updates),
                    tuple(new[v] for v in function.effects))  # fmt: skip


def _cut(fed: Sequence[Value]) -> set[Node]:
    """Nodes of which every result is fed."""
    given = set(fed)
    return {v.node for v in fed if all(other in given for other in v.node.outputs)}
