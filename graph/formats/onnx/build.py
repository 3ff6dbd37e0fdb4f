"""The walk over a model's nodes that makes a graph of them.

In: a checked ModelProto, the folder it lies in, and the values of inputs that decide shapes, as far
as they are known. Out: a `Graph`, or the names of the inputs whose values are missing. Everything
that cannot be converted is collected; one ModelError lists it all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ....dims import Dim, DimExpr, manageable
from ....dims_text import parse
from ....dtypes import Array, DType, as_dtype, bool_, float32, int32, int64
from ....errors import FeedError, Loc, ModelError, UserError
from ...definition import Graph, input, variable
from ...ir import CALLS, MOST_AXES, Shape, TensorType, Value
from ...ops.source import constant
from ...tokens import RESERVED
from .call import FEW, Call, Operand, Undetermined
from .deciding import Place, deciding
from .functions import bindings, check_operands, expanded, resolved, schema_of
from .registry import SHAPE_SOLVERS, SOLVERS, Result, find
from .tensors import DataFiles, array_of, dense, dtype_of

if TYPE_CHECKING:
    from onnx import (
        AttributeProto,
        FunctionProto,
        GraphProto,
        ModelProto,
        NodeProto,
        ValueInfoProto,
    )

_NAME = re.compile(r"[A-Za-z_][\w.]*")
DOMAINS = ("", "ai.onnx")  # two names of one domain
_DEEPEST = 64  # functions and sub-graphs inside each other
_MOST = 1_000_000  # nodes to convert, those of functions included
_SOLVED = ("bool", "int32", "int64", "float32", "float64")
MALFORMED = (ValueError, TypeError, IndexError, KeyError, OverflowError, ZeroDivisionError,
              AttributeError, MemoryError)  # fmt: skip


@dataclass(frozen=True)
class Options:
    """How a model is read: its file's name, for places in errors; where external data lie; values
    of inputs, and shapes of those that state none; sizes of dimensions; whether weights become
    trainable variables."""

    file: str
    data: DataFiles
    values: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    sizes: Mapping[str, int]
    trainable: bool


class Unbuilt(Exception):  # noqa: N818 - what is wrong is said elsewhere
    """A sub-graph could not be converted, for reasons that were noted."""


class Absent:
    """Stands for an operand that a function was not given."""


ABSENT = Absent()


class Scope:
    """The tensors a node can read, by name, those of the graph around it too; and the attributes
    that nodes of a function may refer to."""

    def __init__(self, outer: Scope | None = None,
                 bound: Mapping[str, AttributeProto] | None = None) -> None:  # fmt: skip
        self.outer = outer
        self.bound: Mapping[str, AttributeProto] | None = bound if outer is None else outer.bound
        # None: what could not be converted
        self.operands: dict[str, Operand | Absent | None] = {}

    def find(self, name: str) -> Operand | Absent | None:
        """The tensor called `name`. ModelError if there is none."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.operands:
                return scope.operands[name]
            scope = scope.outer
        raise ModelError(f'it reads "{name}", which nothing before it produces')


class Builder:
    """One model on its way into a graph."""

    def __init__(self, model: ModelProto, graph: Graph, options: Options) -> None:
        self.model, self.graph, self.options = model, graph, options
        self.versions = _versions(model.opset_import)
        self.functions: dict[tuple[str, str, str], FunctionProto] = {
            (f.domain, f.name, f.overload): f for f in model.functions
        }
        self.refusals: list[str] = []
        self.needed: dict[str, None] = {}  # inputs whose values must be known
        self.sizes: dict[str, Place] = {}  # dimensions whose sizes must be, and where they are seen
        self.shapeless: list[str] = []  # inputs whose shapes must be
        self.number = 0  # of the node at hand, counted in the order of conversion
        self.depth = 0
        self.plain = {d.dim_param for info in model.graph.input
                      for d in info.type.tensor_type.shape.dim}  # fmt: skip

    def build(self) -> None:
        """Everything: inputs, weights, nodes, outputs. ModelError with all refusals."""
        proto = self.model.graph
        scope = Scope()
        with self.graph:
            self._initializers(proto, scope)
            self._inputs(proto, scope)
            self.nodes(proto.node, scope, self.versions)
            whole = self._outputs(proto.output, scope)
            self._name_defaults(proto.input, scope)
        if whole:  # what could not be converted or known is not needed
            self.needed.clear()
            self.sizes.clear()
        elif self.refusals:
            many = f"{len(self.refusals)} of its nodes" if len(self.refusals) > 1 else "a node"
            raise ModelError(f"{self.options.file} cannot be converted: {many} cannot be",
                             *self.refusals)  # fmt: skip

    # --- inputs, weights, outputs -----------------------------------------------------------

    def _initializers(self, proto: GraphProto, scope: Scope) -> None:
        fed = {info.name for info in proto.input}
        tensors = [(t.name, t, array_of) for t in proto.initializer]
        tensors += [(t.values.name, t, dense) for t in proto.sparse_initializer]
        for name, t, read in tensors:
            array = read(t, self.options.data)
            if name not in fed or name not in self.options.values:
                label = name if name in fed and self.model.ir_version >= 4 else ""
                scope.operands[name] = self._weight(name, array, label)

    def _weight(self, name: str, array: Array, label: str = "") -> Operand:
        """A tensor of the file. With a label it stays apart from equal ones, to be fed alone."""
        if self.options.trainable and array.dtype.kind == "f":
            value = variable(name, array)
        else:
            value = constant(array, owner=self.graph, label=label)
        return Operand(name, self.graph, value)

    def _name_defaults(self, infos: Iterable[ValueInfoProto], scope: Scope) -> None:
        """Lets inputs with initial values be fed by name, unless what was built depends on them."""
        for info in infos:
            found = scope.operands.get(info.name)
            if self.model.ir_version >= 4 and isinstance(found, Operand) and not found.asked:
                self._name(info.name, found)

    def _inputs(self, proto: GraphProto, scope: Scope) -> None:
        names = [info.name for info in proto.input]
        if len(set(names)) != len(names) or "" in names:
            raise ModelError(f"{self.options.file} has inputs of equal or empty names: {names}")
        for info in proto.input:
            if info.name in self.options.values:
                given = self._fitting(info, self.options.values[info.name])
                scope.operands[info.name] = self._weight(info.name, given)
            elif info.name not in scope.operands:
                dtype, shape = self.type_of(info)
                if shape is None:
                    shape = self.options.shapes.get(info.name)
                if shape is None:
                    self.shapeless.append(info.name)
                    scope.operands[info.name] = None
                    continue
                value = input(info.name, shape, dtype)
                scope.operands[info.name] = Operand(
                    info.name, self.graph, value, sources=frozenset((info.name,))
                )

    def type_of(self, info: ValueInfoProto) -> tuple[DType, Shape | None]:
        """dtype and shape of an input; no shape if its rank is not stated."""
        if info.type.WhichOneof("value") != "tensor_type":
            kind = info.type.WhichOneof("value") or "nothing"
            raise ModelError(f'input "{info.name}" is a {kind.removesuffix("_type")}, no tensor')
        t = info.type.tensor_type
        try:
            dtype = dtype_of(t.elem_type)
        except ModelError as e:
            raise ModelError(f'input "{info.name}": {e.message}') from None
        if not t.HasField("shape"):
            return dtype, None
        shape: list[Any] = []
        for axis, d in enumerate(t.shape.dim):
            if d.WhichOneof("value") == "dim_value" and d.dim_value >= 0:
                shape.append(int(d.dim_value))
            else:
                shape.append(self.dimension(d.dim_param, info.name, axis))
        return dtype, tuple(shape)

    def _fitting(self, info: ValueInfoProto, given: Any) -> Array:
        """A value for an input as an array of its type; numbers and lists become such. FeedError
        where it does not fit."""
        dtype, shape = self.type_of(info)
        found = np.asarray(given)
        if not isinstance(given, np.ndarray | np.generic) and found.dtype != object:
            made = found.astype(dtype.numpy)
            if np.array_equal(made.astype(found.dtype), found) or dtype.is_float:
                found = made
        fits = shape is None or (found.ndim == len(shape) and all(
            d == n for d, n in zip(shape, found.shape) if isinstance(d, int)))  # fmt: skip
        if found.dtype != dtype.numpy or not fits:
            wanted = f"{dtype}" if shape is None else str(TensorType(dtype, shape))
            raise FeedError(f'the value for input "{info.name}" is {found.dtype}'
                            f"{list(found.shape)}, the model takes {wanted}")  # fmt: skip
        return found

    def dimension(self, written: str, input: str, axis: int) -> Dim:
        """A dimension that is no number: a symbol, or an expression of symbols. One that has no
        name, or one of signs alone ("?"), as some exporters write, gets its input's and axis."""
        if not any(c.isalnum() for c in written.lstrip("-0123456789")):
            written = f"{input}_{axis}"
        if all(s in self.plain for s in _NAME.findall(written)):
            try:
                return parse(written, self.symbol)
            except UserError:
                pass  # a name after all
        return self.symbol(written)

    def symbol(self, name: str) -> Dim:
        """The dimension called `name`, spelt so that flowmill's text can hold it; or its size."""
        spelt = "".join(c if (c.isalnum() and c.isascii()) or c == "_" else "_" for c in name)
        if not (spelt[0].isalpha() or spelt[0] == "_") or spelt in RESERVED:
            spelt = f"d_{spelt}"
        if spelt in self.options.sizes:
            return self.options.sizes[spelt]
        return self.graph.dim(spelt, 0)

    def _outputs(self, infos: Sequence[ValueInfoProto], scope: Scope) -> bool:
        """Declares the outputs; whether all are there."""
        for info in infos:
            try:
                found = scope.find(info.name)
            except ModelError:
                raise ModelError(f'nothing produces the output "{info.name}"') from None
            if isinstance(found, Operand):
                self.graph.output(info.name, found.value)
        if not infos:
            raise ModelError(f"{self.options.file} has no outputs")
        return all(info.name in self.graph.outputs for info in infos)

    # --- nodes ------------------------------------------------------------------------------

    def nodes(self, nodes: Iterable[NodeProto], scope: Scope, versions: Mapping[str, int]) -> None:
        """Converts nodes in order; their results join the scope."""
        for node in nodes:
            self.number += 1
            if self.number > _MOST:
                raise ModelError(f"{self.options.file} has more than {_MOST} nodes, functions and "
                                 "sub-graphs expanded")  # fmt: skip
            outer = self.graph.origin
            label = node.name or next(filter(None, node.output), "")
            path = f"{outer.layer}/{label}" if outer is not None and outer.layer else label
            self.graph.origin = Loc(self.options.file, self.number, path)
            try:
                results = self._converted(node, scope, versions)
            except Unbuilt:
                results = None
            except Undetermined as e:
                self._undetermined(node, e)
                results = None
            except UserError as e:
                self._refuse(node, path, e.message, *e.notes)
                results = None
            except MALFORMED as e:
                self._refuse(node, path, f"it is malformed: {e!r}")
                results = None
            finally:
                self.graph.origin = outer
            for k, name in enumerate(node.output):
                if not name:
                    continue
                made = results[k] if results is not None and k < len(results) else None
                if name in scope.operands:
                    self._refuse(node, path, f'it produces "{name}", which is there already')
                    made = None
                scope.operands[name] = made
                self._name(name, made)

    def _name(self, name: str, made: Operand | None) -> None:
        """Lets a tensor be found by its name, unless another has it or it cannot be one."""
        if made is None or self.depth or not made.is_value or name in self.graph.values:
            return
        if name.isprintable():
            self.graph.set_name(made.value, name)

    def _refuse(self, node: NodeProto, path: str, reason: str, *notes: str) -> None:
        domain = "" if node.domain in DOMAINS else f"{node.domain}."
        label = f' "{path}"' if path else ""
        self.refusals.append("; ".join((f"{domain}{node.op_type}{label}: {reason}", *notes)))

    def _undetermined(self, node: NodeProto, e: Undetermined) -> None:
        """The elements of a tensor must be known: values or sizes of inputs are to be given."""
        found = deciding(e.operand)
        if found.fault:
            self._refuse(node, node.name, f'the elements of "{e.operand.name}" must be known while '
                         f"compiling, and {found.fault}")  # fmt: skip
        self.needed.update(dict.fromkeys(found.inputs))
        self.sizes.update(found.sizes)

    def attempt(self, build: Callable[[], Any], otherwise: Callable[[], Any] | None) -> Any:
        """What `build` makes; where it cannot be converted and there is something else to do, what
        was noted against it is forgotten."""
        refusals, needed, sizes = len(self.refusals), dict(self.needed), dict(self.sizes)
        try:
            return build()
        except (Unbuilt, Undetermined, UserError):
            if otherwise is None:
                raise
        del self.refusals[refusals:]
        self.needed, self.sizes = needed, sizes
        return otherwise()

    def _converted(self, node: NodeProto, scope: Scope,
                   versions: Mapping[str, int]) -> list[Operand | None] | None:  # fmt: skip
        """The results of a node; None where an operand could not be converted."""
        found = [scope.find(name) if name else ABSENT for name in node.input]
        if any(x is None for x in found):
            return None
        operands = [None if isinstance(x, Absent) else x for x in found]
        attributes = resolved(node, scope.bound)
        domain = "" if node.domain in DOMAINS else node.domain
        function = self.functions.get((node.domain, node.op_type, node.overload))
        if function is not None:
            return self._expanded(node, function, bindings(function, attributes), operands)
        if domain not in versions:
            raise ModelError(f'the model imports no opset of domain "{domain or "ai.onnx"}"')
        version = versions[domain]
        call = Call(node, self.graph, version, operands, attributes,
                    lambda body, given=(): self.inline(body, given, scope, versions),
                    self.attempt)  # fmt: skip
        check_operands(node, version)
        solved = None if domain else self._solved(call)
        if solved is not None:
            return solved
        entry = find(domain, node.op_type, version)
        if entry is None:
            types = [None if x is None else x.value.type for x in operands]
            function = expanded(node, attributes, version, types)
            if function is None:
                raise ModelError(f"the operator is not supported at opset {version}")
            bound = bindings(function, attributes, schema_of(node, version))
            return self._expanded(node, function, bound, operands)
        if not entry.halves:
            call.operands = [_widened(x) for x in operands]
        made = entry.convert(call)
        results = made if isinstance(made, tuple) else (made,)
        if not entry.halves:
            results = _narrowed(results, operands, call)
        for k, name in enumerate(node.output):
            if name and (k >= len(results) or results[k] is None):
                raise ModelError(f'result {k}, "{name}", is not supported')
        sources = frozenset[str]().union(*(x.sources for x in operands if x is not None))
        return [
            v if v is None or isinstance(v, Operand) else Operand(name, self.graph, v,
                                                                  sources=sources)
            for name, v in zip(node.output, results)
        ]  # fmt: skip

    def _solved(self, call: Call) -> list[Operand | None] | None:
        """The results of a node whose elements are known as dimensions."""
        name = call.node.op_type
        dtype = int64
        if name in SHAPE_SOLVERS:
            made = SHAPE_SOLVERS[name](call)
        elif name in SOLVERS:
            given = [x for x in call.operands if x is not None]
            if not given or any(x.dtype.name not in _SOLVED for x in given):
                return None
            if any(x.dtype.is_float for x in given) and not any(x.sized for x in given):
                return None  # arithmetic of numbers, not of sizes
            elements = [x.elements() for x in given]
            if any(e is None for e in elements):
                return None
            try:
                made = SOLVERS[name](call, *elements)
            except (ValueError, IndexError):  # they do not fit: the converter says how
                return None
            dtype = next((x.dtype for x in given if x.dtype != bool_), bool_)
            if name == "Cast":
                dtype = call.dtype("to")
            elif name == "ConstantOfShape":
                fill = call.tensor("value")
                dtype = dtype if fill is None else as_dtype(fill.dtype)
        else:
            return None
        if made is None:
            return None
        out: list[Operand | None] = []
        for label, solved in zip(call.node.output, made if isinstance(made, list) else [made]):
            if solved.ndim > MOST_AXES:
                raise ModelError(f"the result would have {solved.ndim} axes, more than {MOST_AXES}")
            bools = solved.size > 0 and all(isinstance(d, bool) for d in solved.flat)
            kind = bool_ if bools else dtype
            wraps = kind == int32 and any(
                isinstance(d, int) and not -(1 << 31) <= d < 1 << 31 for d in solved.flat
            )
            if wraps or solved.size > FEW:
                return None
            if not all(isinstance(d, bool) or manageable(d) for d in solved.flat):
                if any(isinstance(d, DimExpr) for d in solved.flat):
                    raise ModelError("the sizes it computes are too long to reason about")
                return None  # whole numbers beyond int64
            out.append(Operand(label, self.graph, elements=solved, dtype=kind))
        return out

    def _expanded(self, node: NodeProto, function: FunctionProto,
                  bound: Mapping[str, AttributeProto], operands: Sequence[Operand | None]
                  ) -> list[Operand | None]:  # fmt: skip
        """The results of a function: its nodes are converted here."""
        if len(operands) > len(function.input):
            raise ModelError(f"{len(operands)} operands, the function takes {len(function.input)}")
        scope = Scope(bound=bound)
        for k, name in enumerate(function.input):
            given = operands[k] if k < len(operands) else None
            scope.operands[name] = ABSENT if given is None else given
        versions = {**self.versions, **_versions(function.opset_import)}
        wanted = [name if used else "" for name, used in zip(function.output, node.output)]
        return self._inside(function.node, wanted, scope, versions)

    def inline(self, body: GraphProto, given: Sequence[Operand], outer: Scope,
               versions: Mapping[str, int]) -> list[Operand]:  # fmt: skip
        """The results of a sub-graph whose nodes are converted here, for operands `given`."""
        if len(given) != len(body.input):
            raise ModelError(f"{len(given)} operands, the sub-graph takes {len(body.input)}")
        scope = Scope(outer)
        for info, operand in zip(body.input, given):
            scope.operands[info.name] = operand
        self._initializers(body, scope)
        made = self._inside(body.node, [info.name for info in body.output], scope, versions)
        found = [x for x in made if x is not None]
        if len(found) != len(made):
            raise Unbuilt
        return found

    def _inside(self, nodes: Iterable[NodeProto], outputs: Iterable[str], scope: Scope,
                versions: Mapping[str, int]) -> list[Operand | None]:  # fmt: skip
        """Converts nodes of a function or sub-graph; the tensors called `outputs`."""
        if self.depth >= _DEEPEST:
            raise ModelError(f"functions or sub-graphs are nested more than {_DEEPEST} deep")
        self.depth += 1
        try:
            self.nodes(nodes, scope, versions)
        finally:
            self.depth -= 1
        found = [scope.find(name) if name else ABSENT for name in outputs]
        return [None if isinstance(x, Absent) else x for x in found]


def _versions(imports: Iterable[Any]) -> dict[str, int]:
    """Opset versions by domain. ModelError for versions that the installed onnx does not know."""
    from onnx import defs

    out: dict[str, int] = {}
    for o in imports:
        domain = "" if o.domain in DOMAINS else o.domain
        version = int(o.version)
        newest = defs.onnx_opset_version() if not domain else version
        if not 1 <= version <= newest:
            raise ModelError(f"opset {version} of ai.onnx is not known; the installed onnx knows "
                             f"those from 1 to {newest}", "install a newer onnx")  # fmt: skip
        out[domain] = version
    return out


def _widened(x: Operand | None) -> Operand | None:
    """16-bit floats as float32; anything else as it is."""
    if x is None or x.dtype.computes:
        return x
    return Operand(x.name, x.graph, CALLS["cast"](x.value, float32), sources=x.sources)


def _narrowed(results: tuple[Result, ...], operands: Sequence[Operand | None],
              call: Call) -> tuple[Result, ...]:  # fmt: skip
    """Results that have the type of a 16-bit operand, converted back to it."""
    halves = [
        (k, x.dtype) for k, x in enumerate(operands) if x is not None and not x.dtype.computes
    ]
    schema = schema_of(call.node, call.version) if halves else None
    if schema is None:
        return results
    types: dict[str, DType] = {}
    for k, dtype in halves:
        types.setdefault(schema.inputs[min(k, len(schema.inputs) - 1)].type_str, dtype)
    out: list[Result] = []
    for k, v in enumerate(results):
        to = types.get(schema.outputs[min(k, len(schema.outputs) - 1)].type_str)
        narrow = isinstance(v, Value) and to is not None and v.dtype == float32
        out.append(CALLS["cast"](v, to) if narrow else v)
    return tuple(out)
