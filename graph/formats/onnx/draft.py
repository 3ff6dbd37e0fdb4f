"""A model that is being written: its nodes, weights and names.

In: values of a graph, in an order in which each comes after what it is made of, and tensors that
stand for those already there. Out: ONNX nodes, sub-graphs, initial values. `Site` is one node on
its way, what writers get: the mirror of `call.Call`. Whatever cannot be written is collected.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from onnx import AttributeProto, GraphProto, NodeProto, ValueInfoProto, helper

from ....dims import Dim, show
from ....dtypes import Array, DType, int64
from ....errors import Loc, ModelError, UserError
from ...ir import Function, Node, TensorType, Value
from ...ops.base import Op
from ...ops.source import Constant
from .signatures import signature, taken
from .tensors import code_of
from .writing import find

if TYPE_CHECKING:
    from .dimensions import Dimensions

_SMALL = 1024  # bytes of a constant that is looked for among those there are


@dataclass(frozen=True)
class Tensor:
    """A tensor of the model: its name and element type."""

    name: str
    dtype: DType


class Draft:
    """One model on its way out. `weights` are its initial values by name."""

    def __init__(self, opset: int, reserved: Iterable[str]) -> None:
        self.opset = opset
        self.names = set(reserved)  # of tensors, in sub-graphs too
        self.labels: set[str] = set()  # of nodes
        self.weights: dict[str, Array] = {}
        self.nodes: list[NodeProto] = []  # of the model's own graph
        self.refusals: dict[str, None] = {}
        self.sizes: Dimensions
        self.tensors: dict[Value, Tensor] = {}
        self.titles: dict[str, str] = {}  # what tensors are called in the end
        self._inner: list[list[NodeProto]] = []
        self._made: set[str] = set()  # results of nodes of the model's own graph
        self._known: dict[Any, Tensor] = {}

    @property
    def inside(self) -> bool:
        """Whether a sub-graph is being written."""
        return bool(self._inner)

    # --- names -------------------------------------------------------------------------------

    def name(self, wanted: str) -> str:
        """`wanted` as the name of a tensor, with a number if it is taken."""
        return _free(wanted, self.names)

    def entitle(self, x: Tensor, name: str) -> bool:
        """Lets a tensor be called `name` in the end; whether it can."""
        if x.name not in self._made or x.name in self.titles:
            return False
        self.titles[x.name] = name
        return True

    def output(self, x: Tensor, name: str) -> None:
        """Makes x a result of the model, called `name`."""
        if not self.entitle(x, name):
            self.nodes.append(
                helper.make_node("Identity", [x.name], [name], self._label("", "Identity"))
            )

    def finished(self, outputs: Iterable[str]) -> list[NodeProto]:
        """The nodes that `outputs` need, tensors being called what they are to be called; other
        weights are dropped."""
        _retitle(self.nodes, self.titles)
        needed = set(outputs)
        kept: list[NodeProto] = []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                kept.append(node)
                needed.update(_read([node]))
        self.weights = {name: a for name, a in self.weights.items() if name in needed}
        return kept[::-1]

    # --- emitting ----------------------------------------------------------------------------

    def emit(self, label: str, operator: str, inputs: Sequence[Tensor | None],
             dtypes: Sequence[DType | None], at_top: bool = False, **attributes: Any
             ) -> tuple[Tensor, ...]:  # fmt: skip
        """The results of an operator. `dtypes` has one for each result, None where it is that of the
        operands it shares its type with. Operands of types it does not take are cast, and results
        that share their type cast back. `at_top`: in the model's own graph, whatever is open."""
        to = taken(operator, self.opset, [None if x is None else x.dtype for x in inputs])
        known = signature(operator, self.opset)
        given: dict[str, DType] = {}
        cast: list[Tensor | None] = []
        for k, x in enumerate(inputs):
            kind = known.input(k)
            if x is not None and kind in to:
                given.setdefault(kind, x.dtype)
                x = self.cast(label, x, to[kind], at_top)
            cast.append(x)
        while cast and cast[-1] is None:
            cast.pop()
        made: list[Tensor] = []
        wanted: list[DType] = []
        node_label = self._label(label, operator)
        for k, dtype in enumerate(dtypes):
            kind = known.output(k)
            name = self.name(node_label if len(dtypes) == 1 else f"{node_label}:{k}")
            wanted.append(dtype or given.get(kind) or known.only(kind))
            made.append(Tensor(name, to.get(kind, wanted[-1])))
        plain = {k: v for k, v in attributes.items() if v is not None}
        node = helper.make_node(operator, ["" if x is None else x.name for x in cast],
                                [t.name for t in made], node_label, **plain)  # fmt: skip
        if at_top or not self._inner:
            self.nodes.append(node)
            self._made.update(node.output)
        else:
            self._inner[-1].append(node)
        return tuple(self.cast(label, t, d, at_top) for t, d in zip(made, wanted))

    def cast(self, label: str, x: Tensor, to: DType, at_top: bool = False) -> Tensor:
        """x as another dtype; itself if it has it."""
        if x.dtype == to:
            return x
        return self.emit(label, "Cast", [x], [to], at_top, to=code_of(to))[0]

    def weight(self, name: str, array: Array, dtype: DType) -> Tensor:
        """An initial value of its own."""
        made = Tensor(self.name(name), dtype)
        self.weights[made.name] = array
        return made

    def constant(self, array: Array, dtype: DType, hint: str = "constant") -> Tensor:
        """An initial value. Small ones that are equal are one."""
        array = np.asarray(array, dtype.numpy)
        key = (dtype, array.shape, array.tobytes()) if array.nbytes <= _SMALL else None
        found = self._known.get(key) if key is not None else None
        if found is None:
            found = self.weight(hint, array, dtype)
            if key is not None:
                self._known[key] = found
        return found

    def _label(self, path: str, operator: str) -> str:
        """A name for a node: the layer it belongs to, and the operator unless that says it."""
        last = path.rpartition("/")[2]
        said = last == operator or (last.startswith(f"{operator}_") and last[-1].isdigit())
        return _free(path if said else f"{path}/{operator}" if path else operator, self.labels)

    # --- walking -----------------------------------------------------------------------------

    def write(self, nodes: Iterable[Node]) -> None:
        """Writes nodes in order; their results join `tensors`."""
        for n in nodes:
            if n.outputs[0] in self.tensors:
                continue
            try:
                made = self._written(n)
            except UserError as e:
                self.refuse(n.op, n.loc, "; ".join((e.message, *e.notes)))
                made = tuple(Tensor("", t.dtype) for t in n.types)
            self.tensors.update(zip(n.outputs, made))

    def _written(self, n: Node) -> tuple[Tensor, ...]:
        if isinstance(n.op, Constant):
            hint = n.owner.names_of.get(n.outputs[0]) or _under(n.loc, "constant")
            return (self.constant(n.op.data.array, n.op.dtype, hint),)
        write = find(n.op, self.opset)
        if write is None:
            raise ModelError("no operator of ONNX, and nothing made of several, does this")
        made = write(Site(self, n, [self.tensors[v] for v in n.inputs]))
        return made if isinstance(made, tuple) else (made,)

    def refuse(self, op: Op, loc: Loc, reason: str) -> None:
        """Notes that an op cannot be written, and why."""
        self.refusals[f"{op.name}{loc.aside}: {reason}"] = None

    # --- sub-graphs --------------------------------------------------------------------------

    def graph(self, label: str, function: Function, given: Mapping[Value, Tensor],
              before: Sequence[tuple[str, TensorType]] = (), passed: bool = False
              ) -> GraphProto:  # fmt: skip
        """A sub-graph that computes a function. `given` has those of its inputs that come from
        outside; the others are inputs of the graph, after `before`. With `passed` the last of
        `before` is the first result. Names are unlike all others of the model."""
        outer, self.tensors = self.tensors, dict(given)
        self._inner.append([])
        inputs, outputs = [], []
        for name, t in before:
            found = Tensor(self.name(f"{label}/{name}"), t.dtype)
            inputs.append(info(found.name, t))
        for v in function.inputs:
            if v not in self.tensors:
                self.tensors[v] = Tensor(self.name(f"{label}/input"), v.dtype)
                inputs.append(info(self.tensors[v].name, v.type))
        if passed:
            outputs.append(info(self._own(label, found), before[-1][1]))
        plan = Function(function.name, function.inputs, function.outputs)  # checks are left out
        self.write(plan.nodes())
        outputs += [info(self._own(label, self.tensors[v]), v.type) for _, v in plan.outputs]
        self.tensors = outer
        return helper.make_graph(self._inner.pop(), label, inputs, outputs)

    def _own(self, label: str, x: Tensor) -> str:
        """The name of a copy of x: results of a graph are made in it, and each once."""
        return self.emit(label, "Identity", [x], [x.dtype])[0].name


class Site:
    """One node on its way: the op, its operands `xs`, and the model it goes to."""

    def __init__(self, draft: Draft, node: Node, xs: Sequence[Tensor]) -> None:
        self.draft, self.node, self.xs = draft, node, list(xs)
        self.op: Any = node.op
        self.label = node.loc.layer

    @property
    def x(self) -> Tensor:
        """The first operand."""
        return self.xs[0]

    @property
    def types(self) -> tuple[TensorType, ...]:
        """The types of the operands."""
        return tuple(v.type for v in self.node.inputs)

    @property
    def out(self) -> TensorType:
        """The type of the first result."""
        return self.node.types[0]

    def emit(self, operator: str, *inputs: Tensor | None, dtype: DType | None = None,
             **attributes: Any) -> Tensor:  # fmt: skip
        """The result of an operator, of `dtype` if it is not that of its operands."""
        return self.draft.emit(self.label, operator, inputs, [dtype], **attributes)[0]

    def several(self, operator: str, dtypes: Sequence[DType | None], *inputs: Tensor | None,
                **attributes: Any) -> tuple[Tensor, ...]:  # fmt: skip
        """The results of an operator that has several."""
        return self.draft.emit(self.label, operator, inputs, dtypes, **attributes)

    def cast(self, x: Tensor, to: DType) -> Tensor:
        """x as another dtype."""
        return self.draft.cast(self.label, x, to)

    def constant(self, value: Any, dtype: DType) -> Tensor:
        """A number or an array as an initial value."""
        return self.draft.constant(np.asarray(value), dtype, _under(self.node.loc, "constant"))

    def ints(self, values: Sequence[int]) -> Tensor:
        """A vector of integers."""
        return self.constant(np.array(values, np.int64), int64)

    def dims(self, shape: Sequence[Dim]) -> Tensor:
        """Dimensions as a vector of integers, computed in the model where they are no numbers."""
        return self.draft.sizes.vector(shape)

    def refuse(self, reason: str, *notes: str) -> NoReturn:
        """Says that the node cannot be written, and why."""
        raise ModelError(reason, *notes)


def _read(nodes: Iterable[NodeProto]) -> Iterator[str]:
    """The names that nodes read, in sub-graphs too."""
    for node in nodes:
        yield from node.input
        for a in node.attribute:
            if a.type == AttributeProto.GRAPH:
                yield from _read(a.g.node)


def _retitle(nodes: Iterable[NodeProto], titles: Mapping[str, str]) -> None:
    for node in nodes:
        for names in (node.input, node.output):
            for k, name in enumerate(names):
                if name in titles:
                    names[k] = titles[name]
        for a in node.attribute:
            if a.type == AttributeProto.GRAPH:
                _retitle(a.g.node, titles)


def _free(wanted: str, names: set[str]) -> str:
    name, k = wanted, 1
    while name in names:
        k += 1
        name = f"{wanted}_{k}"
    names.add(name)
    return name


def _under(loc: Loc, name: str) -> str:
    return f"{loc.layer}/{name}" if loc.layer else name


def info(name: str, t: TensorType) -> ValueInfoProto:
    """An input or result with its type; dimensions that are no numbers are named."""
    dims = [d if isinstance(d, int) else show(d) for d in t.shape]
    return helper.make_tensor_value_info(name, code_of(t.dtype), dims)
