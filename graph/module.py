"""Modules: named functions over the variables of one graph, as an exported library has them.

In: a graph and what each function is to give, as fetches of a session. Out: a `Module`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..errors import FetchError, GraphError
from .definition import Graph
from .ir import Function, Value


class Module:
    """Functions that share one state.

    `Module(graph, infer=probabilities, train_step={"loss": step})`: each function computes its
    fetches (a value or name, a list, a dict, or None for all outputs of the graph) and performs the
    updates they stand for. Its inputs are the graph's inputs that it needs, by their names, in the
    order in which they were defined. Outputs are called by their key in a dict, else by the value's
    name, else `y`, `y_2`...

    FetchError or GraphError where a fetch is not in the graph or a name cannot be used.
    """

    def __init__(self, graph: Graph, /, name: str = "", **functions: Any) -> None:
        if not functions:
            raise GraphError("a module needs a function", "fm.Module(graph, infer=value)")
        self.graph = graph
        self.name = name or graph.graph_name
        self.functions: dict[str, Function] = {
            key: _function(graph, key, fetches) for key, fetches in functions.items()
        }

    @classmethod
    def of(cls, given: Module | Graph) -> Module:
        """The module itself; of a graph, the module whose function `infer` gives its outputs."""
        return given if isinstance(given, Module) else cls(given, infer=None)

    def __repr__(self) -> str:
        return f"Module({self.name}: {', '.join(self.functions)})"


def _function(graph: Graph, key: str, fetches: Any) -> Function:
    made = graph.function(key, _outputs(graph, fetches))
    order = list(graph.inputs.values())
    return replace(made, inputs=tuple(sorted(made.inputs, key=order.index)))


def _outputs(graph: Graph, fetches: Any) -> dict[str, Value]:
    if fetches is None:
        if not graph.outputs:
            raise FetchError("the graph declares no outputs", 'declare them: fm.output("y", y)')
        return dict(graph.outputs)
    if isinstance(fetches, Mapping):
        return {str(k): _value(graph, v) for k, v in fetches.items()}
    out: dict[str, Value] = {}
    for f in fetches if isinstance(fetches, list | tuple) else [fetches]:
        v = _value(graph, f)
        base = f if isinstance(f, str) else v.name or "y"
        name, k = base, 2
        while name in out:
            name, k = f"{base}_{k}", k + 1
        out[name] = v
    return out


def _value(graph: Graph, f: Any) -> Value:
    if isinstance(f, str):
        return graph.find(f)
    if not isinstance(f, Value):
        raise FetchError(f"cannot fetch {f!r}", "fetch a value, a name, a list or a dict of these")
    if f.node.owner is not graph:
        raise FetchError(f"{f!r} belongs to another graph")
    return f
