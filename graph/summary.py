"""`summary`: a table of a network's layers, with shapes, parameters, work and memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..dims import Dim, free_symbols, show, substitute, total
from ..errors import ConfigError, GraphError
from .definition import Graph
from .ir import Node, TensorType, Value, topological
from .ops.source import Constant, Input, Variable
from .ops.state import Token


@dataclass(frozen=True)
class Row:
    """One layer: its path, the type of its last result, and what it costs.

    `parameters` counts elements of the layer's variables, `trainable` those `minimize` changes.
    `flops` counts floating-point operations, a multiply-add as two. `bytes` is its variables and
    its result. Symbolic sizes give expressions.
    """

    layer: str
    kind: str
    output: TensorType | None
    parameters: int
    trainable: int
    flops: Dim
    bytes: Dim


@dataclass(frozen=True)
class Summary:
    """The rows, in the order the layers were called. `str()` gives the table."""

    rows: tuple[Row, ...]

    @property
    def parameters(self) -> int:
        """Elements of all variables."""
        return sum(r.parameters for r in self.rows)

    @property
    def trainable(self) -> int:
        """Elements of all trainable variables."""
        return sum(r.trainable for r in self.rows)

    @property
    def flops(self) -> Dim:
        """Floating-point operations of all layers."""
        return total(r.flops for r in self.rows)

    @property
    def bytes(self) -> Dim:
        """Bytes of all layers."""
        return total(r.bytes for r in self.rows)

    def __str__(self) -> str:
        head = ("Layer", "Ops", "Output", "Parameters", "FLOPs", "Bytes")
        body = [
            (r.layer, r.kind, "" if r.output is None else str(r.output), f"{r.parameters:,}",
             _amount(r.flops), _amount(r.bytes))
            for r in self.rows
        ]  # fmt: skip
        sums = ("Total", "", "", f"{self.parameters:,}", _amount(self.flops), _amount(self.bytes))
        table = [head, *body, sums]
        widths = [max(len(line[k]) for line in table) for k in range(len(head))]
        lines = ["  ".join(text.ljust(w) if k < 3 else text.rjust(w)
                           for k, (text, w) in enumerate(zip(line, widths))).rstrip()
                 for line in table]  # fmt: skip
        rule = "-" * max(len(line) for line in lines)
        frozen = self.parameters - self.trainable
        lines = [lines[0], rule, *lines[1:-1], rule, lines[-1]]
        return "\n".join([*lines, f"{self.trainable:,} parameters are trainable, {frozen:,} not"])


def _amount(d: Dim) -> str:
    return f"{d:,}" if isinstance(d, int) else show(d)


def summary(
    what: Graph | Value | Sequence[Value], dims: Mapping[str, int] | None = None
) -> Summary:
    """What the layers of a graph (its outputs, else all its results), or of values, cost.

    `dims` gives numbers for symbolic dimensions: `fm.summary(g, {"batch": 1})`. Operations and
    variables outside any layer stand under "". Only what the values need is counted, updates not.
    """
    numbers = dims or {}
    if not isinstance(numbers, Mapping):
        raise ConfigError(f'summary: dims are sizes by name, {{"batch": 1}}, not {dims!r}')
    found: dict[str, list[Node]] = {}
    for node in topological(v.node for v in _roots(what)):
        op = node.op
        if isinstance(op, Variable):
            found.setdefault(op.variable_name.rpartition("/")[0], []).append(node)
        elif not isinstance(op, Constant):
            path = op.input_name if isinstance(op, Input) else node.loc.layer
            found.setdefault(path, []).append(node)
    order = sorted(found, key=lambda path: _first(found[path]))
    symbols = {s.name for nodes in found.values() for n in nodes for t in n.types for d in t.shape
               for s in free_symbols(d)}  # fmt: skip
    for name in numbers:
        if name not in symbols:
            raise ConfigError(f"summary: there is no dimension {name!r}",
                              f"there are: {', '.join(sorted(symbols)) or 'none'}")  # fmt: skip
    return Summary(tuple(_row(path, found[path], numbers) for path in order))


def _roots(what: Graph | Value | Sequence[Value]) -> list[Value]:
    if not isinstance(what, Graph | Value | list | tuple):
        raise GraphError(f"summary: {what!r} is neither a graph nor values of one")
    if isinstance(what, Graph):
        roots = list(what.outputs.values()) or what.results()
        if not roots:
            raise GraphError(f"graph {what.graph_name} computes nothing yet")
    else:
        roots = [what] if isinstance(what, Value) else list(what)
        if not all(isinstance(v, Value) for v in roots):
            raise GraphError(f"summary: {what!r} is neither a graph nor values of one")
    return [v.node.inputs[0] if isinstance(v.node.op, Token) else v for v in roots]


def _first(nodes: list[Node]) -> int:
    """Where a layer begins: its first operation, or its first variable if it has none."""
    return min((n.serial for n in nodes if not isinstance(n.op, Variable)),
               default=nodes[0].serial)  # fmt: skip


def _row(path: str, nodes: list[Node], numbers: Mapping[str, int]) -> Row:
    variables = [n for n in nodes if isinstance(n.op, Variable)]
    others = [n for n in nodes if not isinstance(n.op, Variable)]
    last = max(others, key=lambda n: n.serial, default=None)
    output = None if last is None else _sized_type(last.types[0], numbers)
    flops = total(n.op.flops(n.types[0], *(v.type for v in n.inputs)) for n in others
                  if not isinstance(n.op, Input))  # fmt: skip
    sizes = [(n, int(n.types[0].size)) for n in variables if isinstance(n.types[0].size, int)]
    kept = sum(size * n.types[0].dtype.itemsize for n, size in sizes)
    kinds = list(dict.fromkeys(n.op.name for n in others))
    return Row(
        path, " ".join(kinds[:3]) + (" ..." if len(kinds) > 3 else ""), output,
        sum(size for _, size in sizes),
        sum(size for n, size in sizes if isinstance(n.op, Variable) and n.op.trainable),
        _sized(flops, numbers), (0 if output is None else output.nbytes) + kept,
    )  # fmt: skip


def _sized_type(t: TensorType, numbers: Mapping[str, int]) -> TensorType:
    return TensorType(t.dtype, tuple(_sized(d, numbers) for d in t.shape), t.layout)


def _sized(d: Dim, numbers: Mapping[str, int]) -> Dim:
    return substitute(d, {s: numbers[s.name] for s in free_symbols(d) if s.name in numbers})
