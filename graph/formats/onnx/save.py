"""`fm.onnx.save`: a graph as an ONNX model.

In: a graph, and values of its variables. Out: a file that the ONNX checker takes, with the graph's
inputs and outputs under their names, layers as names of nodes, and variables as initial values; and
a second file where the weights are too large for one, or are asked to stand apart. Files are there
whole or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ....dtypes import Array
from ....errors import GraphError, ModelError
from ...definition import Graph, starts
from ...ir import Function, Value
from ...ops.random import STATE
from ...ops.source import Input, Variable
from ...rewrite import copied, rewritten

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 21  # the newest that runtimes know in full: onnxruntime 1.32 lacks operators as of 22


def save(graph: Graph, path: str | os.PathLike[str], variables: Any = None,
         opset: int = OPSET, external: bool | None = None) -> None:  # fmt: skip
    """Writes `graph` as an ONNX model: what its outputs need, under their names, or what
    `graph.results()` gives if none is declared.

    Inputs keep their names, dimensions too. Nodes are called after their layers. Variables become
    initial values: those of `variables`, a session or arrays by name, else what they start from.
    `opset` is that of ai.onnx, from 18 to the newest that the installed `onnx` knows.
    With `external` the larger weights are written to a second file, `<path>.data`; None does so
    where they are too many for one file.

    What fails a run (`fm.check`) or prints is left out: ONNX has nothing like it. ModelError, with
    a list of all of them, where ops have no counterpart in ONNX; where variables do not fit, and
    where the path cannot be written.
    """
    try:
        from onnx import defs
    except ImportError:
        raise ModelError("writing ONNX models needs the package onnx",
                         "python -m pip install 'flowmill[onnx]'") from None  # fmt: skip
    if not isinstance(graph, Graph):
        raise GraphError(f"save: {graph!r} is no graph",
                         "fm.onnx.save(graph, path, variables=session)")  # fmt: skip
    from .store import store
    from .writing import OLDEST

    newest = defs.onnx_opset_version()
    if not OLDEST <= opset <= newest:
        raise ModelError(f"opset {opset} cannot be written: those from {OLDEST} to {newest} can")
    proto, weights = _model(graph, _function(graph), _start(graph, variables), opset)
    store(proto, weights, Path(path), external)


def _function(graph: Graph) -> Function:
    """What is to be written. ModelError where there is nothing."""
    outputs = dict(graph.outputs)
    if not outputs:
        outputs = {v.name or f"output_{k}": v for k, v in enumerate(graph.results())}
    if not outputs:
        raise ModelError(f"graph {graph.graph_name} computes nothing", "declare an output: "
                         "fm.output(name, value)")  # fmt: skip
    return graph.function(graph.graph_name, outputs)


def _start(graph: Graph, given: Any) -> dict[str, Array]:
    """The variables' values by name. ModelError for one that does not fit."""
    values: Mapping[str, Any] = {} if given is None else (
        given if isinstance(given, Mapping) else given.variables)  # fmt: skip
    out: dict[str, Array] = {}
    problems = [f'there is no variable "{n}"' for n in values if n not in graph.variables]
    for name in values:
        info = graph.variables.get(name)
        array = np.asarray(values[name])
        if info is None:
            continue
        if array.shape != info.value.shape or array.dtype != info.value.dtype.numpy:
            problems.append(f'"{name}" is {info.value.type}, given {array.dtype}'
                            f"{list(array.shape)}")  # fmt: skip
        out[name] = array
    if problems:
        raise ModelError("the variables given do not fit the graph", *problems)
    return {**out, **dict(starts(graph, None, out))}


def _unused(graph: Graph, function: Function) -> Iterator[Value]:
    """The inputs that nothing in the graph reads: the model has them for those who feed them."""
    read = {v for n in graph.made_since(0) for v in n.inputs}
    needed = set(function.inputs)
    yield from (v for v in graph.inputs.values() if v not in needed and v not in read)


def _model(graph: Graph, function: Function, start: Mapping[str, Array], opset: int
           ) -> tuple[ModelProto, dict[str, Array]]:  # fmt: skip
    """The model without weights, and its weights by name. ModelError with everything that cannot be
    written."""
    from onnx import helper

    from .dimensions import Dimensions
    from .draft import Draft, Tensor, info
    from .writing import expanded, load_all

    load_all()
    lowered = rewritten(copied(function), lambda n: expanded(n, opset))
    given = [v.node.op.input_name for v in function.inputs if isinstance(v.node.op, Input)]
    draft = Draft(opset, (*given, *(name for name, _ in function.outputs)))
    tensors = draft.tensors
    inputs = []
    for name, v in zip(given, lowered.inputs):
        tensors[v] = Tensor(name, v.dtype)
        inputs.append(info(name, v.type))
    for v in _unused(graph, function):
        assert isinstance(v.node.op, Input)
        inputs.append(info(draft.name(v.node.op.input_name), v.type))
    draft.sizes = Dimensions(draft, dict(tensors))
    for target, _ in function.updates:
        op = target.node.op
        if isinstance(op, Variable) and op.variable_name != STATE:
            draft.refuse(op, target.node.loc, f'the outputs change variable "{op.variable_name}", '
                         "models keep nothing between runs")  # fmt: skip
    plan = Function(lowered.name, lowered.inputs, lowered.outputs)  # checks are left out
    for n in plan.nodes():
        if isinstance(n.op, Variable):
            name = n.op.variable_name
            tensors[n.outputs[0]] = draft.weight(name, start[name], n.op.dtype)
    draft.write(plan.nodes())
    if draft.refusals:
        many = f"{len(draft.refusals)} of its ops" if len(draft.refusals) > 1 else "an op"
        raise ModelError(f"graph {graph.graph_name} cannot be written as an ONNX model: {many} "
                         "cannot be", *draft.refusals)  # fmt: skip
    for name, v in plan.outputs:
        draft.output(tensors[v], name)
    for v, title in lowered.outputs[0][1].node.owner.names_of.items():
        if v in tensors and title not in draft.names and draft.entitle(tensors[v], title):
            draft.names.add(title)
    outputs = [info(name, v.type) for name, v in plan.outputs]
    body = helper.make_graph(draft.finished(dict(plan.outputs)), graph.graph_name, inputs, outputs)
    imports = [helper.make_opsetid("", opset)]
    proto = helper.make_model(
        body, opset_imports=imports, producer_name="flowmill",
        ir_version=helper.find_min_ir_version_for(imports),
    )  # fmt: skip
    return proto, draft.weights
