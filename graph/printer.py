"""Printing functions in the textual form that `text.parse` reads back.

    dims batch in 1..
    graph mlp(x: f32[batch,784]) -> (y: f32[batch,10]) {
      %fc.w = variable("fc.w") : f32[784,10] @mlp.py:11 "fc"
      %0 = matmul(%x, %fc.w) : f32[batch,10] @mlp.py:12 "fc"
      %1 = reduce_max(%0, axes=[1], keepdims=true) : f32[batch,1] @mlp.py:14
      update %fc.w = %9
      effect %10
      return y=%0
    }

A value is `%name`, or `%number` where it has none; after the result types stand the places in the
user's program the node comes from. Attributes that have their default are left out. Constants of
up to 16 elements stand in full, larger ones as `data(digest)`. A function that an op holds is
printed inside its attribute.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..dims import DimExpr, Sym, free_symbols
from ..dims import show as show_dim
from ..dtypes import ALL, Array, DType
from ..errors import UNKNOWN, InternalError, Loc
from .ir import Function, Node, Piece, TensorType, Value
from .ops.base import Op
from .ops.source import Constant, Input, Variable

INLINE = 16  # elements of a constant that is printed in full
_BARE = re.compile(r"[A-Za-z_][\w./]*")  # names that need no quotes
DTYPES: Mapping[str, DType] = {d.short: d for d in ALL}
SOURCES = (Input, Variable, Constant)
FROM_TYPE = ("dtype", "shape", "layout")  # fields of a source op that its result type tells


def show(function: Function) -> str:
    """`function` as text; equal functions of different interners give equal texts."""
    symbols = sorted(symbols_in(function), key=lambda s: s.key)
    head = f"dims {', '.join(_symbol(s) for s in symbols)}\n" if symbols else ""
    return head + "\n".join(_function(function, "")) + "\n"


def large_data(function: Function) -> dict[str, bytes]:
    """What `show` leaves out: digest -> bytes of each constant it does not print in full."""
    found = constants_in(function).items()
    return {digest: array.tobytes() for digest, array in found if array.size > INLINE}


def held_functions(op: Op) -> Iterator[Function]:
    """The functions among an op's attributes (bodies of loops, branches, fused groups)."""
    for value in op.attributes().values():
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Function):
                yield item


def every_node(function: Function) -> Iterator[Node]:
    """The nodes of a function and of all it holds."""
    for node in function.nodes():
        yield node
        for inner in held_functions(node.op):
            yield from every_node(inner)


def constants_in(function: Function) -> dict[str, Array]:
    """The elements of every constant by digest."""
    ops = (node.op for node in every_node(function))
    return {op.data.digest: op.data.array for op in ops if isinstance(op, Constant)}


def symbols_in(function: Function) -> set[Sym]:
    """Every dimension symbol of a function, of its types and of its ops' attributes."""
    out: set[Sym] = set()

    def collect(x: Any) -> None:
        if isinstance(x, DimExpr):
            out.update(free_symbols(x))
        elif isinstance(x, tuple):
            for y in x:
                collect(y)
        elif isinstance(x, TensorType):
            collect(x.shape)
        elif isinstance(x, Function):
            out.update(symbols_in(x))

    for v in function.inputs:
        collect(v.shape)
    for node in function.nodes():
        collect(node.types)
        collect(tuple(node.op.attributes().values()))
    return out


def name_text(name: str) -> str:
    """A name, quoted where it could be read as something else."""
    return name if _BARE.fullmatch(name) else json.dumps(name)


def _symbol(s: Sym) -> str:
    text = f"{s.name} in {s.lo}..{'' if s.hi is None else s.hi}"
    return text if s.multiple == 1 else f"{text} multiple {s.multiple}"


def _function(function: Function, indent: str) -> list[str]:
    """The lines of a function; only the first is not indented."""
    labels = _labels(function)
    inputs = ", ".join(f"{name_text(_input_name(v))}: {v.type}" for v in function.inputs)
    outputs = ", ".join(f"{name_text(name)}: {v.type}" for name, v in function.outputs)
    lines = [f"graph {name_text(function.name)}({inputs}) -> ({outputs}) {{"]
    inner = indent + "  "
    given = {v.node for v in function.inputs}
    for node in function.nodes():
        if node not in given:
            lines += _node(node, labels, inner)
    lines += [f"{inner}update {labels[var]} = {labels[new]}" for var, new in function.updates]
    lines += [f"{inner}effect {labels[v]}" for v in function.effects]
    results = ", ".join(f"{name_text(name)}={labels[v]}" for name, v in function.outputs)
    return [*lines, f"{inner}return {results}".rstrip(), f"{indent}}}"]


def _input_name(v: Value) -> str:
    if not isinstance(v.node.op, Input):
        raise InternalError(f"{v!r} is among the inputs of a function but is no input")
    return v.node.op.input_name


def _labels(function: Function) -> dict[Value, str]:
    """How each value is written. A name that two values claim goes to the first."""
    labels: dict[Value, str] = {}
    taken: set[str] = set()
    count = 0
    for v in function.inputs:
        labels[v] = "%" + name_text(_input_name(v))
        taken.add(labels[v])
    for node in function.nodes():
        for v in node.outputs:
            if v in labels:
                continue
            label = "%" + name_text(v.name) if v.name else ""
            if not label or label in taken:
                label = f"%{count}"
                count += 1
            taken.add(label)
            labels[v] = label
    return labels


def _node(node: Node, labels: Mapping[Value, str], indent: str) -> list[str]:
    op = node.op
    parts = [labels[v] for v in node.inputs]
    if isinstance(op, Constant):
        parts.append(_constant(op))
    for f in fields(op):  # type: ignore[arg-type]
        value = getattr(op, f.name)
        if isinstance(op, SOURCES):
            if f.name in FROM_TYPE or f.name == "data":
                continue
            if isinstance(value, str):
                parts.append(json.dumps(value))
                continue
        text = _attribute(value, indent)
        if f.default is MISSING or text != _attribute(f.default, indent):
            parts.append(f"{f.name}={text}")
    results = ", ".join(labels[v] for v in node.outputs)
    types = ", ".join(str(t) for t in node.types)
    text = f"{indent}{results} = {op.name}({', '.join(parts)}) : {types}"
    return "".join((text, *(_loc(x) for x in node.locs))).split("\n")


def _loc(loc: Loc) -> str:
    if loc.file == UNKNOWN.file and not loc.layer:
        return ""
    return f" @{name_text(Path(loc.file).name)}:{loc.line}" + (
        f" {json.dumps(loc.layer)}" if loc.layer else ""
    )


def _attribute(value: Any, indent: str) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating):
        return repr(float(value))
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, DimExpr):
        return show_dim(value)
    if isinstance(value, DType):
        return value.short
    if isinstance(value, TensorType):
        return str(value)
    if isinstance(value, tuple):
        if value and all(isinstance(p, Piece) for p in value):
            return "{" + ",".join(str(p) for p in value) + "}"
        return "[" + ", ".join(_attribute(v, indent) for v in value) + "]"
    if isinstance(value, Function):
        return "\n".join(_function(value, indent))
    raise InternalError(f"an attribute of type {type(value).__name__} has no textual form")


def _constant(op: Constant) -> str:
    array = op.data.array
    if array.size > INLINE:
        return f"data({op.data.digest})"
    flat = array.reshape(-1)
    numbers = [_number(flat[i : i + 1]) for i in range(flat.size)]
    return numbers[0] if array.ndim == 0 else "[" + ", ".join(numbers) + "]"


def _number(x: Array) -> str:
    """One element, exactly: decimal where that is short, else hexadecimal; NaNs with their bits."""
    if x.dtype.kind in "biu":
        return _attribute(x[0], "")
    value = float(x[0])
    if value != value:
        bits, usual = (int(a.view(f"u{a.itemsize}")[0]) for a in (x, _nan(x.dtype)))
        return "nan" if bits == usual else f"bits({bits:#x})"
    text = repr(value)
    return text if len(text) <= 8 else re.sub(r"\.?0+p", "p", value.hex())


def _nan(dtype: Any) -> Array:
    """One element: the NaN that `nan` stands for."""
    return np.full(1, float("nan")).astype(dtype)
