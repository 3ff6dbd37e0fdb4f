"""The `.fm` file: a graph with its names, outputs, updates and variables in one file.

In: a `Graph`. Out: a file that `container` describes, whose metadata holds

    format      "flowmill-graph"
    version     "1"; a reader refuses versions it does not know
    graph       the textual form (`text.show`) of a function that returns every value below
    structure   JSON: name and seed; which returned value has which names, is which output, carries
                which updates

and whose arrays are "variable:<name>", what each variable starts from, and "data:<digest>", the
constants too large for the text. No pickle: loading runs no code of the file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...dims import sym
from ...dtypes import Array
from ...errors import GraphError, ModelError, UserError
from ..definition import Graph, VariableInfo, initial_values
from ..ir import Function, Value, topological
from ..ops.source import Input, Variable
from ..printer import symbols_in
from ..text import large_data, parse, show
from . import container

FORMAT, VERSION = "flowmill-graph", "1"


def save(graph: Graph, path: str | os.PathLike[str], variables: Any = None) -> None:
    """Writes `graph` to a `.fm` file, whole or not at all.

    `variables`, a session or values by name, is what the loaded graph's variables start from;
    others keep the initial values they have here, initializers being evaluated. Values that nothing
    named, returned or updated needs are not saved.

    ModelError for an unknown variable or one of another shape, and where the path cannot be
    written.
    """
    if not isinstance(graph, Graph):
        raise GraphError(f"save: {graph!r} is no graph", "fm.save(graph, path, variables=session)")
    start = initial_values(graph)
    values_given = variables or {}
    if not isinstance(values_given, Mapping):
        values_given = values_given.variables
    for name, given in values_given.items():
        if name not in start:
            raise ModelError(f'graph {graph.graph_name} has no variable "{name}"',
                             f"it has {', '.join(start) or 'none'}")  # fmt: skip
        array = np.asarray(given)
        if array.shape != start[name].shape:
            raise ModelError(f'variable "{name}" has shape {start[name].shape}, the value to save '
                             f"has {array.shape}")  # fmt: skip
        start[name] = array.astype(start[name].dtype)
    values = _values(graph)
    number = {v: k for k, v in enumerate(values)}
    inputs = tuple(n.outputs[0] for n in topological(v.node for v in values)
                   if isinstance(n.op, Input))  # fmt: skip
    function = Function(graph.graph_name, inputs,
                        tuple((f"v{k}", v) for k, v in enumerate(values)))  # fmt: skip
    structure = {
        "name": graph.graph_name,
        "seed": graph.seed,
        "names": {name: number[v] for name, v in graph.values.items()},
        "outputs": {name: number[v] for name, v in graph.outputs.items()},
        "inputs": {name: number[v] for name, v in graph.inputs.items()},
        "variables": {name: number[i.value] for name, i in graph.variables.items()},
        "counts": graph.counts,
        "chained": sorted(number[v] for v in graph.chained),
        "updates": [[number[token], [[number[v], number[new]] for v, new in pairs]]
                    for token, pairs in graph.updates.items()],
    }  # fmt: skip
    arrays: dict[str, Array] = {f"variable:{name}": array for name, array in start.items()}
    for digest, blob in large_data(function).items():
        arrays[f"data:{digest}"] = np.frombuffer(blob, np.uint8)
    metadata = {"format": FORMAT, "version": VERSION, "graph": show(function),
                "structure": json.dumps(structure)}  # fmt: skip
    container.write(path, arrays, metadata)


def _values(graph: Graph) -> list[Value]:
    """Every value the structure speaks of, in a fixed order."""
    pairs = [v for token, updates in graph.updates.items()
             for v in (token, *(v for pair in updates for v in pair))]  # fmt: skip
    return list(dict.fromkeys((*graph.values.values(), *graph.outputs.values(),
                               *graph.inputs.values(), *pairs, *graph.chained)))  # fmt: skip


def load_graph(path: str | os.PathLike[str]) -> Graph:
    """The graph of a `.fm` file. ModelError where the file is damaged or of another version."""
    arrays, metadata = container.read(path)
    if metadata.get("format") != FORMAT:
        raise ModelError(f"{path} holds no graph of flowmill")
    if metadata.get("version") != VERSION:
        raise ModelError(f"{path} has format version {metadata.get('version')}, this flowmill "
                         f"reads version {VERSION}")  # fmt: skip
    try:
        return _graph(arrays, metadata["graph"], json.loads(metadata["structure"]))
    except UserError as e:
        raise ModelError(f"{path} does not hold a valid graph: {e.message}", *e.notes) from None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as e:
        raise ModelError(f"{path} does not hold a valid graph: {e!r}") from None


def _graph(arrays: Mapping[str, Array], text: str, structure: Mapping[str, Any]) -> Graph:
    graph = Graph(structure["name"], int(structure["seed"]))
    data = {name.removeprefix("data:"): array.tobytes() for name, array in arrays.items()
            if name.startswith("data:")}  # fmt: skip
    function = parse(text, graph, data)
    values = [v for _, v in function.outputs]
    graph.symbols = {s.name: sym(s.name, s.lo, s.hi, s.multiple) for s in symbols_in(function)}
    graph.counts = {str(name): int(n) for name, n in structure["counts"].items()}
    graph.names_of.clear()
    for name, at in structure["names"].items():
        graph.set_name(values[at], name)
    graph.inputs = {name: _checked(values[at], Input) for name, at in structure["inputs"].items()}
    graph.outputs = {name: values[at] for name, at in structure["outputs"].items()}
    for name, at in structure["variables"].items():
        value, start = _checked(values[at], Variable), arrays[f"variable:{name}"]
        if start.shape != value.shape or start.dtype != value.dtype.numpy:
            raise ModelError(f'variable "{name}" is {value.type}, its stored value is '
                             f"{start.dtype}{list(start.shape)}")  # fmt: skip
        graph.variables[name] = VariableInfo(value, start)
    graph.chained = {values[at] for at in structure["chained"]}
    for token, pairs in structure["updates"]:
        updates = tuple((_checked(values[v], Variable), values[new]) for v, new in pairs)
        for target, new in updates:
            if target.type != new.type:
                raise ModelError(f"an update sets {target!r} to {new!r}")
        graph.updates[values[token]] = updates
    return graph


def _checked(value: Value, kind: type[Input] | type[Variable]) -> Value:
    if not isinstance(value.node.op, kind):
        raise ModelError(f"{value!r} is no {kind.__name__.lower()}")
    return value
