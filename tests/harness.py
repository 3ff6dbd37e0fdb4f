"""How tests run graphs: the one place that knows by which means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flowmill.dtypes import Array
from flowmill.errors import RunError
from flowmill.graph.definition import Graph, initial_values
from flowmill.graph.interpret import run
from flowmill.graph.ir import Value


class Runner:
    """A graph and the values of its variables; `run` computes fetches and commits updates."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.variables: dict[str, Array] = initial_values(graph)

    def run(self, fetches: Value | Sequence[Value], feeds: Mapping[str, Any] | None = None) -> Any:
        """One array for a value, a list for several. Feeds by input name."""
        several = [fetches] if isinstance(fetches, Value) else list(fetches)
        outputs, updates = evaluate(self.graph, several, feeds or {}, self.variables)
        self.variables.update(updates)
        return outputs[0] if isinstance(fetches, Value) else outputs


def evaluate(
    graph: Graph, fetches: Sequence[Value], feeds: Mapping[str, Any],
    variables: Mapping[str, Array],
) -> tuple[list[Array], dict[str, Array]]:  # fmt: skip
    """The fetched arrays, and the updated variables by name."""
    function = graph.function("test", {f"y{k}": v for k, v in enumerate(fetches)})
    wanted = {graph_name(v) for v in function.inputs}
    try:
        outputs, updates = run(function, {k: v for k, v in feeds.items() if k in wanted}, variables)
    except IndexError as e:  # what NumPy says where compiled programs fail their run
        raise RunError(str(e)) from None
    return [outputs[f"y{k}"] for k in range(len(fetches))], updates


def graph_name(v: Value) -> str:
    """The name an input is fed by."""
    return v.node.op.input_name  # type: ignore[attr-defined, no-any-return]
