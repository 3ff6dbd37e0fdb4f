"""A node of a model as its converter sees it: attributes, operands, and what is known of them.

`Operand` is a tensor while a model is built: a value of the graph, or, for the small integer
tensors that shapes are made of, the dimensions its elements are known to be; the value is then made
when something asks for it. `Call` is one node. Whatever is wrong with a node is a ModelError, the
reason of a refusal; a converter that needs an element which only a run will tell raises
`Undetermined`, and the model becomes a template (`graph.template`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import numpy as np

from ....dims import Dim, DimExpr
from ....dtypes import Array, DType, as_dtype
from ....errors import ModelError
from ...definition import Graph
from ...interpret import run
from ...ir import CALLS, MOST_AXES, Function, Value, topological
from ...ops.shape import reshape
from ...ops.sizes import dimension
from ...ops.source import Constant, constant
from .bounding import elements, largest
from .tensors import array_of

if TYPE_CHECKING:
    from onnx import AttributeProto, GraphProto, NodeProto

_T = TypeVar("_T")
FEW = 1024  # elements a tensor may have to be known by element
_WHOLE = 1 << 24  # below, every whole number is a float32
_FOLDED = 1 << 22  # elements that may be computed to learn what a constant expression gives


class Undetermined(Exception):  # noqa: N818 - a question, not an error
    """Elements of `operand` are needed that only a run tells, by its inputs or their sizes."""

    def __init__(self, operand: Operand) -> None:
        self.operand = operand
        super().__init__(operand.name)


class Operand:
    """A tensor of the model. `sources` are the graph inputs whose elements decide its own."""

    __slots__ = ("_array", "_elements", "_value", "asked", "dtype", "graph", "name", "sources")

    def __init__(self, name: str, graph: Graph, value: Value | None = None,
                 elements: Array | None = None, dtype: DType | None = None,
                 sources: frozenset[str] = frozenset()) -> None:  # fmt: skip
        self.name, self.graph, self.sources = name, graph, sources
        self._value, self._elements = value, elements
        self._array: Array | None = None
        self.asked = False  # whether what is built depends on the elements
        found = dtype if value is None else value.dtype
        assert found is not None
        self.dtype: DType = found

    @property
    def value(self) -> Value:
        """The value in the graph."""
        if self._value is None:
            assert self._elements is not None
            self._value = value_of(self._elements, self.dtype, self.graph)
        return self._value

    @property
    def is_value(self) -> bool:
        """Whether there is a value in the graph already."""
        return self._value is not None

    @property
    def ndim(self) -> int:
        return self.value.ndim if self._value is not None else np.ndim(self._elements)  # type: ignore[arg-type]

    def elements(self) -> Array | None:
        """An object array of Dims, if this is a small tensor and every element is known and whole;
        bools stay bools."""
        if self._elements is None:
            size = self.value.type.size
            if isinstance(size, int) and size <= FEW:
                known = self.array()
                if known is not None and known.dtype.kind not in "iub":
                    wide = known.astype(np.float64)
                    whole = bool(np.all(np.abs(wide) < _WHOLE) and np.all(wide == np.rint(wide)))
                    known = wide.astype(np.int64) if whole else None
                if known is not None:
                    self._elements = known.astype(object)
        return self._elements

    @property
    def sized(self) -> bool:
        """Whether its elements are known as dimensions that are no numbers."""
        return self._elements is not None and any(
            isinstance(d, DimExpr) for d in self._elements.flat
        )

    def array(self) -> Array | None:
        """All elements as numbers, if none depends on inputs, variables or sizes."""
        self.asked = True
        if self._array is None:
            if self._value is None:
                assert self._elements is not None
                if all(isinstance(d, int) for d in self._elements.flat):
                    self._array = self._elements.astype(self.dtype.numpy)
            elif isinstance(self._value.node.op, Constant):
                self._array = self._value.node.op.data.array
            else:
                self._array = folded(self._value)
        return self._array


def value_of(elements: Array, dtype: DType, graph: Graph) -> Value:
    """A tensor of dimensions as a value: a constant if they are numbers."""
    if all(isinstance(d, int) for d in elements.flat):
        return constant(elements.astype(dtype.numpy), owner=graph)
    cast, size_of = CALLS["cast"], CALLS["size_of"]
    sizes = [size_of(d, graph) if isinstance(d, DimExpr) else constant(np.int64(d), owner=graph)
             for d in elements.flat]  # fmt: skip
    stacked: Value = cast(CALLS["stack"](sizes, 0), dtype)
    return reshape(stacked, elements.shape)


def folded(value: Value) -> Array | None:
    """What a value is, if it depends on nothing that only a run tells, and is not much work."""
    work = 0
    for n in topological([value.node]):
        if not n.op.pure or any(_symbolic(v) for v in n.op.attributes().values()):
            return None
        for t in n.types:
            if not isinstance(t.size, int):
                return None
            work += t.size
    if work > _FOLDED:
        return None
    outputs, _ = run(Function("fold", (), (("y", value),)), {})
    return outputs["y"]


def _symbolic(attribute: Any) -> bool:
    """Whether an attribute holds a dimension that is no number."""
    if isinstance(attribute, tuple):
        return any(map(_symbolic, attribute))
    return isinstance(attribute, DimExpr)


def _is_data(v: Value) -> bool:
    """Whether an input is more than a parameter: a few numbers that decide a shape."""
    size = v.type.size
    return not isinstance(size, int) or size > FEW or (v.dtype.is_float and v.ndim > 1)


class Call:
    """One node: see the module docstring. `version` is the opset's; `path` the node's name."""

    def __init__(self, node: NodeProto, graph: Graph, version: int,
                 operands: Sequence[Operand | None], attributes: dict[str, AttributeProto],
                 inline: Callable[..., list[Operand]], attempt: Callable[..., Any]
                 ) -> None:  # fmt: skip
        self.node, self.graph, self.version = node, graph, version
        self.operands, self.attributes = operands, attributes
        self._inline, self._attempt = inline, attempt

    # --- operands ---------------------------------------------------------------------------

    def has(self, k: int) -> bool:
        """Whether operand k is given: an optional one may be left out, or named ""."""
        return k < len(self.operands) and self.operands[k] is not None

    def operand(self, k: int) -> Operand:
        """Operand k. ModelError if it is not given."""
        found = self.operands[k] if k < len(self.operands) else None
        if found is None:
            raise ModelError(f"operand {k} is missing")
        return found

    def value(self, k: int) -> Value:
        """Operand k as a value."""
        return self.operand(k).value

    def optional(self, k: int) -> Value | None:
        """Operand k as a value, None if it is not given."""
        return self.value(k) if self.has(k) else None

    def values(self) -> list[Value]:
        """All operands, of an operator that takes any number. ModelError if one is left out."""
        return [self.value(k) for k in range(len(self.operands))]

    def dims(self, k: int) -> list[Dim]:
        """The elements of operand k, a scalar or vector of integers, as dimensions."""
        operand = self.operand(k)
        if operand.dtype.kind not in "iu":
            raise ModelError(f'operand "{operand.name}" must hold integers, it is {operand.dtype}')
        elements = operand.elements()
        if elements is None:
            size = operand.value.type.size
            if isinstance(size, int) and size > FEW:
                raise ModelError(f'operand "{operand.name}" has {size:,} elements: sizes and axes '
                                 f"are read from tensors of at most {FEW:,}")  # fmt: skip
            raise Undetermined(operand)
        return [d if isinstance(d, DimExpr) else int(d) for d in elements.reshape(-1)]

    def sizes(self, k: int) -> list[Dim]:
        """The elements of operand k as `dims`; those that data decide become dimensions of their
        own, if something bounds them. ModelError if nothing does."""
        if not self.told_by_run(k) or self.operand(k).dtype.kind not in "iu":
            return self.dims(k)
        name, v = self.operand(k).name, self.value(k)
        if not isinstance(v.type.size, int) or v.type.size > MOST_AXES:
            raise ModelError(f'"{name}" is {v.type}, a shape has at most {MOST_AXES} elements')
        v = reshape(v, (v.type.size,))
        return [self.size(e, f'element {j} of "{name}"') if isinstance(e, Value) else e
                for j, e in enumerate(elements(v))]  # fmt: skip

    def size(self, count: Value, what: str) -> DimExpr:
        """A dimension that is `count`, an int64 scalar that a run computes. ModelError, naming it
        `what`, if nothing bounds it."""
        most = largest(count)
        if most is None:
            raise ModelError(f"{what} decides a size, data decide it, and nothing bounds it",
                             "sizes of tensors bound it, or a number: Min(it, the largest)")  # fmt: skip
        return dimension(count, most, "size")

    def ints(self, k: int) -> list[int]:
        """The elements of operand k, a scalar or vector of integers that sizes have no part in."""
        found = self.dims(k)
        if not all(isinstance(d, int) for d in found):
            raise Undetermined(self.operand(k))
        return found  # type: ignore[return-value]

    def array(self, k: int) -> Array:
        """The elements of operand k, whatever its type."""
        operand = self.operand(k)
        found = operand.array()
        if found is None:
            raise Undetermined(operand)
        return found

    def numbers_of(self, k: int) -> list[float]:
        """The elements of operand k, a vector. ModelError if it has other axes."""
        found = self.array(k)
        if found.ndim != 1:
            raise ModelError(f'operand "{self.operand(k).name}" must be a vector, it has '
                             f"{found.ndim} axes")  # fmt: skip
        return [float(x) for x in found]

    def single(self, k: int) -> Any:
        """The one element of operand k, a NumPy scalar. ModelError if it has none or several."""
        found = self.array(k)
        if found.size != 1:
            raise ModelError(f'operand "{self.operand(k).name}" must have one element, it has '
                             f"{found.size}")  # fmt: skip
        return found.reshape(-1)[0]

    def told_by_run(self, k: int) -> bool:
        """Whether the elements of operand k follow from data: not from small inputs, for whose
        values a graph of its own can be made."""
        operand = self.operand(k)
        if operand.elements() is not None:
            return False
        found = [self.graph.inputs.get(name) for name in operand.sources]
        return not found or any(v is None or _is_data(v) for v in found)

    # --- results ----------------------------------------------------------------------------

    def wants(self, k: int) -> bool:
        """Whether the model uses result k."""
        return k < len(self.node.output) and bool(self.node.output[k])

    @property
    def results(self) -> int:
        """How many results the node names, those left out in between included."""
        return len(self.node.output)

    def refuse(self, reason: str, *notes: str) -> NoReturn:
        """Says that the node cannot be converted, and why."""
        raise ModelError(reason, *notes)

    # --- attributes -------------------------------------------------------------------------

    def given(self, name: str) -> bool:
        """Whether the node has an attribute."""
        return name in self.attributes

    def _attribute(self, name: str, kind: str) -> Any:
        from onnx import AttributeProto

        found = self.attributes.get(name)
        if found is None:
            return None
        if found.type != AttributeProto.AttributeType.Value(kind):
            actual = AttributeProto.AttributeType.Name(found.type)
            raise ModelError(f'attribute "{name}" must be {kind}, it is {actual}')
        return found

    def _default(self, name: str, default: Any) -> Any:
        if default is None:
            raise ModelError(f'attribute "{name}" is missing')
        return default

    def integer(self, name: str, default: int | None = None) -> int:
        """An INT attribute. ModelError if it is missing and has no default."""
        found = self._attribute(name, "INT")
        return int(self._default(name, default) if found is None else found.i)

    def flag(self, name: str, default: bool = False) -> bool:
        """An INT attribute that means yes or no."""
        return bool(self.integer(name, int(default)))

    def number(self, name: str, default: float | None = None) -> float:
        """A FLOAT attribute. ModelError if it is missing and has no default."""
        found = self._attribute(name, "FLOAT")
        return float(self._default(name, default) if found is None else found.f)

    def text(self, name: str, default: str | None = None) -> str:
        """A STRING attribute. ModelError if it is missing and has no default."""
        found = self._attribute(name, "STRING")
        if found is None:
            return str(self._default(name, default))
        try:
            return str(found.s.decode())
        except UnicodeDecodeError:
            raise ModelError(f'attribute "{name}" is no text') from None

    def integers(self, name: str) -> tuple[int, ...] | None:
        """An INTS attribute, None if it is missing."""
        found = self._attribute(name, "INTS")
        return None if found is None else tuple(int(i) for i in found.ints)

    def numbers(self, name: str) -> tuple[float, ...] | None:
        """A FLOATS attribute, None if it is missing."""
        found = self._attribute(name, "FLOATS")
        return None if found is None else tuple(float(f) for f in found.floats)

    def texts(self, name: str) -> tuple[str, ...] | None:
        """A STRINGS attribute, None if it is missing."""
        found = self._attribute(name, "STRINGS")
        return None if found is None else tuple(s.decode() for s in found.strings)

    def tensor(self, name: str) -> Array | None:
        """A TENSOR attribute, None if it is missing."""
        found = self._attribute(name, "TENSOR")
        return None if found is None else array_of(found.t)

    def constant(self) -> Array:
        """The array that the attributes of a Constant hold. ModelError if they hold none."""
        for name, read in (("value", self.tensor), ("value_int", self.integer),
                           ("value_float", self.number), ("value_ints", self.integers),
                           ("value_floats", self.numbers)):  # fmt: skip
            if name in self.attributes:
                found: Any = read(name)
                kind = np.float32 if "float" in name else np.int64
                return found if name == "value" else np.asarray(found, kind)
        if "sparse_value" in self.attributes:
            from .tensors import dense

            return dense(self._attribute("sparse_value", "SPARSE_TENSOR").sparse_tensor)
        raise ModelError(f"its value is not supported: {', '.join(self.attributes)}")

    def dtype(self, name: str, default: Any = None) -> DType:
        """An INT attribute that names an element type. ModelError if flowmill has no such type."""
        from .tensors import dtype_of

        if name not in self.attributes and default is not None:
            return as_dtype(default)
        return dtype_of(self.integer(name))

    def subgraph(self, name: str) -> GraphProto:
        """A GRAPH attribute. ModelError if it is missing."""
        found = self._attribute(name, "GRAPH")
        if found is None:
            raise ModelError(f'attribute "{name}" is missing')
        body: GraphProto = found.g
        return body

    def inline(self, body: GraphProto, operands: Sequence[Operand] = ()) -> list[Operand]:
        """The results of a sub-graph whose nodes are built here, for these operands."""
        return self._inline(body, operands)

    def attempt(self, build: Callable[[], _T], otherwise: Callable[[], _T] | None) -> _T:
        """What `build` makes; where it fails, what `otherwise` does instead. None: it fails."""
        made: _T = self._attempt(build, otherwise)
        return made
