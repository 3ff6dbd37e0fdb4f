"""`clone`: a graph again, with some values replaced, for fine-tuning and surgery."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import GraphError, ShapeError
from .ir import Value, topological
from .ops.base import as_value
from .ops.source import Input, Variable
from .ops.state import Token
from .rewire import rewire

if TYPE_CHECKING:
    from .definition import Graph


def clone(
    graph: Graph, replace: Mapping[Value | str, Any] | None = None,
    outputs: Iterable[Value | str] | None = None, name: str | None = None,
) -> Graph:  # fmt: skip
    """A new graph that computes what `graph` does, with some values replaced.

    `replace` maps a value, or its name, to what stands for it wherever it was used: another value
    of `graph`, or an array or number, which becomes a constant. `outputs` says what is copied,
    with all it needs; None means the graph's outputs, or all its results if it declared none. So
    what only replaced values needed is left out, their variables too:

        with graph:
            head = fm.layers.Dense(5, name="new_head")(graph.find("features"))
        tuned = fm.clone(graph, {"head": head}, outputs=["head"])

    Names, outputs, variables with their initial values, and updates come along; a name given to
    `replace` names the replacement. Of a training step whose loss is changed by a replacement only
    the loss is copied: its gradients belong to the old network, `minimize` is to be called again.

    GraphError for an unknown or foreign value, ShapeError where a replacement does not fit its
    users (the note names the node that uses it).
    """
    made = type(graph)(name or graph.graph_name, graph.seed)
    made.symbols, made.counts = dict(graph.symbols), dict(graph.counts)
    swaps: dict[Value, Value] = {}
    for key, given in (replace or {}).items():
        old = graph.find(key) if isinstance(key, str) else key
        if old.node.owner is not graph:
            raise GraphError(f"{old!r} is not part of graph {graph.graph_name}")
        new = as_value(given, old)
        if new.node.owner is not graph:
            raise GraphError(f"the replacement {new!r} of {old!r} is not part of graph "
                             f"{graph.graph_name}", "define it inside `with graph:`")  # fmt: skip
        if new.dtype != old.dtype:
            raise ShapeError(f"the replacement of {old!r} has type {new.type}")
        swaps[old] = new
    plain = rewire(swaps.values(), {}, made)
    mapping = {old: plain[new] for old, new in swaps.items()}
    chosen = _chosen(graph, outputs)
    stale = _stale(graph, chosen, swaps)
    chosen = [v.node.inputs[0] if v in stale else v for v in chosen]
    found = rewire(chosen, mapping, made)
    while True:
        missing = [v for t, pairs in graph.updates.items() if t in found and t not in stale
                   for pair in pairs for v in pair if v not in found]  # fmt: skip
        if not missing:
            break
        found = rewire(missing, found, made)
    _describe(graph, made, {**plain, **found}, stale)
    return made


def _chosen(graph: Graph, outputs: Iterable[Value | str] | None) -> list[Value]:
    if outputs is not None:
        return [graph.find(v) if isinstance(v, str) else v for v in outputs]
    return list(graph.outputs.values()) or graph.results()


def _stale(graph: Graph, roots: Sequence[Value], swaps: Mapping[Value, Value]) -> set[Value]:
    """The training steps among `roots` that a replacement changes."""
    changed = set(swaps)
    for node in topological(v.node for v in roots):
        if not changed.isdisjoint(node.inputs):
            changed.update(node.outputs)
    return {v for v in roots if v in changed and v in graph.updates
            and isinstance(v.node.op, Token) and v.node.op.trains}  # fmt: skip


def _describe(graph: Graph, made: Graph, copies: Mapping[Value, Value], stale: set[Value]) -> None:
    """Gives the copies the names, outputs, variables and updates of what they are copies of."""
    for label, old in graph.values.items():
        new = copies.get(old)
        if new is not None:
            made.values[label] = new
            made.names_of.setdefault(new, label)
            made.named_at[label] = graph.named_at[label]
            if isinstance(old.node.op, Input) and isinstance(new.node.op, Input):
                made.inputs[label] = new
    for label, info in graph.variables.items():
        new = copies.get(info.value)
        if new is not None and isinstance(new.node.op, Variable):
            made.variables[label] = dataclasses.replace(info, value=new)
    for label, old in graph.outputs.items():
        new = copies.get(old.node.inputs[0] if old in stale else old)
        if new is not None:
            made.outputs[label] = new
    for token, pairs in graph.updates.items():
        if token in copies and token not in stale:
            made.updates[copies[token]] = tuple((copies[v], copies[new]) for v, new in pairs)
    made.chained = {copies[v] for v in graph.chained if v in copies}
