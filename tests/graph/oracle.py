"""Shorthands of the ops' tests: one op by its `compute`, and a few values by references."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from flowmill.dtypes import Array, as_dtype
from flowmill.graph.interpret import run
from flowmill.graph.ir import Function, TensorType, Value, topological
from flowmill.graph.ops.base import Op
from flowmill.graph.ops.registry import load_all
from flowmill.graph.ops.source import Input, Variable

from . import naive

load_all()


def operator(op: Op, *xs: Array, types: Sequence[TensorType] = (), **sizes: int) -> Array:
    """`op.compute` of arrays; `types` where some of their dimensions are the symbols `sizes`."""
    types = types or [TensorType(as_dtype(x.dtype), x.shape) for x in xs]
    return naive.operator(op, xs, types, sizes)


def interpret(values: Sequence[Value], feeds: dict[Value, Any]) -> list[Array]:
    """Values of a graph by references, given its inputs and variables."""
    nodes = topological(v.node for v in values)
    inputs = tuple(n.outputs[0] for n in nodes if isinstance(n.op, Input))
    named = tuple((f"y{k}", v) for k, v in enumerate(values))
    held = {n.op.variable_name: feeds[n.outputs[0]] for n in nodes if isinstance(n.op, Variable)}
    given = {v.node.op.input_name: np.asarray(feeds[v]) for v in inputs}
    return list(run(Function("test", inputs, named), given, held)[0].values())
