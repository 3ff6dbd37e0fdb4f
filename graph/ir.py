"""The graph language's data: tensor types, nodes, values, functions.

A `Node` is an op applied to values; it is immutable and interned, so equal computations are one
node. A `Function` names what a user wants computed: outputs, and new values for variables. What a
node means is its op's business (`ops/`), how it is printed `text`'s, what it evaluates to
`interpret`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from itertools import takewhile
from math import copysign
from typing import TYPE_CHECKING, Any, TypeAlias

from ..dims import (
    Dim,
    DimExpr,
    Sym,
    as_sym,
    ceildiv,
    free_symbols,
    manageable,
    product,
    show,
)
from ..dtypes import DType
from ..errors import (
    UNKNOWN,
    GraphError,
    InternalError,
    LimitError,
    Loc,
    ShapeError,
    UserError,
    user_frame,
)

if TYPE_CHECKING:
    from .ops.base import Op


@dataclass(frozen=True)
class Piece:
    """One physical dimension of a layout: a logical axis, its blocks, or the inside of a block."""

    axis: int
    part: str = "all"  # "all", "outer" (axis // block) or "inner" (axis % block)
    block: int = 1

    def extent(self, size: Dim) -> Dim:
        if self.part == "all":
            return size
        return ceildiv(size, self.block) if self.part == "outer" else self.block

    def index(self, i: Dim) -> Dim:
        """The physical index for logical index i."""
        if self.part == "all":
            return i
        return i // self.block if self.part == "outer" else i % self.block

    def __str__(self) -> str:
        if self.part == "all":
            return str(self.axis)
        return f"{self.axis}{'/' if self.part == 'outer' else '%'}{self.block}"


MOST_AXES = 32  # as many as all of NumPy's functions take
_MOST_BYTES = 1 << 62  # what native code can count with room to spare
Layout: TypeAlias = tuple[Piece, ...]
Shape: TypeAlias = tuple[Dim, ...]


@dataclass(frozen=True)
class TensorType:
    """dtype and logical shape; `layout` (None: row-major) says where elements lie in memory.

    A layout never changes meaning. Elements that only padding to whole blocks created are zero.
    """

    dtype: DType
    shape: Shape
    layout: Layout | None = None

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> Dim:
        """Number of elements."""
        return product(self.shape)

    @property
    def physical_shape(self) -> Shape:
        """The dense shape in memory."""
        if self.layout is None:
            return self.shape
        return tuple(p.extent(self.shape[p.axis]) for p in self.layout)

    @property
    def nbytes(self) -> Dim:
        """Bytes in memory, padding to whole blocks included."""
        return product(self.physical_shape) * self.dtype.itemsize

    def __str__(self) -> str:
        text = f"{self.dtype.short}[{','.join(show(d) for d in self.shape)}]"
        if self.layout is not None:
            text += "{" + ",".join(str(p) for p in self.layout) + "}"
        return text


class Node:
    """An op applied to values. Made by `Interner.node` only; compared by identity."""

    __slots__ = ("inputs", "locs", "op", "outputs", "owner", "serial", "types")

    def __init__(
        self, owner: Interner, op: Op, inputs: tuple[Value, ...], types: tuple[TensorType, ...],
        loc: Loc, serial: int,
    ) -> None:  # fmt: skip
        self.owner, self.op, self.inputs, self.types = owner, op, inputs, types
        self.locs: tuple[Loc, ...] = (loc,)
        self.serial = serial
        self.outputs = tuple(Value(self, i) for i in range(len(types)))

    @property
    def loc(self) -> Loc:
        """Where the first of the merged computations was written."""
        return self.locs[0]

    def __repr__(self) -> str:
        return f"{self.op.name}#{self.serial}"


class Value:
    """One result of a node: what users hold and operators apply to."""

    __slots__ = ("index", "node")
    __array_ufunc__ = None  # NumPy arrays leave mixed operators to us

    def __init__(self, node: Node, index: int) -> None:
        self.node, self.index = node, index

    @property
    def type(self) -> TensorType:
        return self.node.types[self.index]

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def shape(self) -> Shape:
        return self.type.shape

    @property
    def ndim(self) -> int:
        return self.type.ndim

    @property
    def name(self) -> str | None:
        """The name it was given, or None."""
        return self.node.owner.names_of.get(self)

    def _apply(self, fn: str, args: tuple[Any, ...], **attributes: Any) -> Any:
        """`fn` of the shared vocabulary, applied to graph values."""
        return call(fn, *args, **attributes)

    def eval(self, feeds: Mapping[Any, Any] | None = None) -> Any:
        """This value as an array, computed in a throw-away session. Feeds by value or name."""
        return call("__eval__", self, feeds or {})

    # fmt: off
    def __add__(self, o: Any) -> Value: return call("add", self, o)
    def __radd__(self, o: Any) -> Value: return call("add", o, self)
    def __sub__(self, o: Any) -> Value: return call("sub", self, o)
    def __rsub__(self, o: Any) -> Value: return call("sub", o, self)
    def __mul__(self, o: Any) -> Value: return call("mul", self, o)
    def __rmul__(self, o: Any) -> Value: return call("mul", o, self)
    def __truediv__(self, o: Any) -> Value: return call("div", self, o)
    def __rtruediv__(self, o: Any) -> Value: return call("div", o, self)
    def __floordiv__(self, o: Any) -> Value: return call("floordiv", self, o)
    def __rfloordiv__(self, o: Any) -> Value: return call("floordiv", o, self)
    def __mod__(self, o: Any) -> Value: return call("mod", self, o)
    def __rmod__(self, o: Any) -> Value: return call("mod", o, self)
    def __pow__(self, o: Any) -> Value: return call("pow", self, o)
    def __rpow__(self, o: Any) -> Value: return call("pow", o, self)
    def __matmul__(self, o: Any) -> Value: return call("matmul", self, o)
    def __rmatmul__(self, o: Any) -> Value: return call("matmul", o, self)
    def __pos__(self) -> Value: return self
    def __neg__(self) -> Value: return call("neg", self)
    def __abs__(self) -> Value: return call("abs", self)
    def __lt__(self, o: Any) -> Value: return call("lt", self, o)
    def __le__(self, o: Any) -> Value: return call("le", self, o)
    def __gt__(self, o: Any) -> Value: return call("gt", self, o)
    def __ge__(self, o: Any) -> Value: return call("ge", self, o)
    def __and__(self, o: Any) -> Value: return call("and", self, o)
    def __rand__(self, o: Any) -> Value: return call("and", o, self)
    def __or__(self, o: Any) -> Value: return call("or", self, o)
    def __ror__(self, o: Any) -> Value: return call("or", o, self)
    def __xor__(self, o: Any) -> Value: return call("xor", self, o)
    def __rxor__(self, o: Any) -> Value: return call("xor", o, self)
    def __invert__(self) -> Value: return call("not", self)
    def __lshift__(self, o: Any) -> Value: return call("shl", self, o)
    def __rlshift__(self, o: Any) -> Value: return call("shl", o, self)
    def __rshift__(self, o: Any) -> Value: return call("shr", self, o)
    def __rrshift__(self, o: Any) -> Value: return call("shr", o, self)
    def __getitem__(self, item: Any) -> Value: return call("getitem", self, item)
    # fmt: on

    @property
    def T(self) -> Value:  # noqa: N802 - NumPy's name
        """Axes reversed."""
        return call("transpose", self, tuple(reversed(range(self.ndim))))

    @property
    def mT(self) -> Value:  # noqa: N802 - NumPy's name
        """The last two axes exchanged."""
        n = self.ndim
        if n < 2:
            raise UserError(f"mT needs two axes or more, this value is {self.type}")
        return call("transpose", self, (*range(n - 2), n - 1, n - 2))

    def __bool__(self) -> bool:
        raise GraphError(
            f"a symbolic value ({self}) has no truth value while the graph is being defined",
            "use fm.where(cond, a, b) to choose inside the graph",
        )

    def __eq__(self, other: object) -> bool:
        """Whether both are one value: values are keys of feeds and fetches."""
        if self is other or isinstance(other, Value):
            return self is other
        if not isinstance(other, bool | int | float) and not hasattr(other, "__array__"):
            return False
        raise GraphError(f"== compares {self} as an object, not its elements",
                         "use fm.equal(a, b), fm.not_equal(a, b)")  # fmt: skip

    __hash__ = object.__hash__

    def __array__(self, *args: Any, **options: Any) -> Any:
        raise GraphError(f"a symbolic value ({self}) has no elements while the graph is being "
                         "defined", "use functions of flowmill on it, fm.stack to put values "
                         "together, value.eval(feeds) or a session to compute it")  # fmt: skip

    def __getattr__(self, name: str) -> Any:
        hint = f": use fm.{name}(value, ...)" if name in CALLS else ""
        raise AttributeError(f"a value of a graph has no attribute {name!r}{hint}")

    def __copy__(self) -> Value:
        return self

    def __deepcopy__(self, memo: object) -> Value:
        return self

    def __iter__(self) -> Iterator[Value]:
        if not self.shape or not isinstance(self.shape[0], int):
            raise GraphError(f"cannot iterate over {self}: its first dimension is not a number")
        return (self[i] for i in range(self.shape[0]))

    def __repr__(self) -> str:
        label = self.name or f"{self.node.op.name}#{self.node.serial}"
        return f"<{label}: {self.type}>"


@dataclass(frozen=True)
class Binding:
    """What an op says of a dimension: the symbol `dim` is operand number `operand` in this run, an
    int64 scalar from 0 to `most`."""

    dim: DimExpr
    operand: int
    most: Dim

    @property
    def name(self) -> str:
        return as_sym(self.dim).name


@dataclass(frozen=True)
class Size:
    """A dimension that a run computes: `value`, an int64 scalar, which is `most` at most. No symbol
    in `most` is computed by a run."""

    dim: DimExpr
    value: Value
    most: Dim

    @property
    def name(self) -> str:
        return as_sym(self.dim).name


# The shared vocabulary for graph values, filled by the op modules: name -> function.
CALLS: dict[str, Callable[..., Any]] = {}


def call(fn: str, *args: Any, **attributes: Any) -> Value:
    """Applies the graph function named `fn`."""
    found = CALLS.get(fn)
    if found is None:
        raise InternalError(f"no graph function is named {fn!r}")
    return found(*args, **attributes)  # type: ignore[no-any-return]


class Interner:
    """Makes nodes, one for each distinct (op, inputs)."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[Any, ...], Node] = {}
        self.names_of: dict[Value, str] = {}
        self.sizes: dict[str, Size] = {}  # dimensions that runs compute, by name
        self.layer_path = ""
        self.fixed_loc: Loc | None = None  # passes: what they build stands where the original did
        self.origin: Loc | None = None  # readers of files: the place in the file
        self._serial = 0

    def node(self, op: Op, inputs: tuple[Value, ...], loc: Loc | None = None,
             layout: Layout | None = None) -> Node:  # fmt: skip
        """The node `op(inputs)`. Infers its types; errors name the user's line. `layout` puts the
        (single) result in another order in memory."""
        key = (op, layout, *_signs(op), *((v.node.serial, v.index) for v in inputs))
        found = self._nodes.get(key)
        if loc is None:
            loc = self.fixed_loc or self.origin
        if loc is None:
            file, line = user_frame()
            loc = Loc(file, line, self.layer_path)
        if found is not None:
            if loc not in found.locs and loc is not UNKNOWN and len(found.locs) < 8:
                found.locs = (*found.locs, loc)
            return found
        for v in inputs:
            if v.node.owner is not self:
                raise GraphError(
                    f"{op.name}: {v!r} belongs to another graph", f"{loc}",
                    "define all parts of one computation inside one fm.Graph()",
                )  # fmt: skip
        try:
            types = op.infer(*(v.type for v in inputs))
            if isinstance(types, TensorType):
                types = (types,)
            for t in types:
                if any(isinstance(d, int) and d < 0 for d in t.shape):
                    raise ShapeError(f"the result would be {t}: a size is negative")
                if not all(map(manageable, t.shape)):
                    raise LimitError("the result would have sizes too large or long to reason about: "
                                     f"{str(t)[:80]}...")  # fmt: skip
                if t.ndim > MOST_AXES:
                    raise LimitError(f"the result would have {t.ndim} axes, more than {MOST_AXES}")
                if isinstance(t.size, int) and t.size * t.dtype.itemsize > _MOST_BYTES:
                    raise LimitError(f"the result would be {t}: more than 2**62 bytes")
        except UserError as e:
            raise _located(e, op, inputs, loc) from None
        if inputs and self.sizes and (untold := self.untold(op, inputs, types)):
            return self.node(op, (CALLS["__told__"](inputs[0], untold), *inputs[1:]), loc, layout)
        if layout is not None:
            types = (replace(types[0], layout=layout),)
        self._serial += 1
        made = Node(self, op, inputs, types, loc, self._serial)
        self._nodes[key] = made
        for b in op.bindings():
            self.sizes[b.name] = Size(b.dim, inputs[b.operand], b.most)
        return made

    def untold(
        self, op: Op, inputs: tuple[Value, ...], types: tuple[TensorType, ...]
    ) -> list[Size]:
        """The sizes computed by a run that a result has and no operand: nothing would say that they
        must be there first."""
        names = {
            s.name for t in types for d in t.shape for s in free_symbols(d)
        } & self.sizes.keys()
        names -= {b.name for b in op.bindings()}
        for v in inputs if names else ():
            names -= {s.name for d in v.shape for s in free_symbols(d)}
            names -= {b.name for b in v.node.op.bindings()}
        return [self.sizes[name] for name in sorted(names)]

    def mark(self) -> int:
        """A number for this moment: nodes made later have higher serials."""
        return self._serial

    def made_since(self, mark: int) -> list[Node]:
        """The nodes made after `mark`, oldest first."""
        found = list(takewhile(lambda n: n.serial > mark, reversed(self._nodes.values())))
        return found[::-1]

    def forget(self, mark: int, leaves: Iterable[Value]) -> set[Value]:
        """Forgets what was made of `leaves` after `mark`, and its names; the values forgotten.

        What was made meanwhile without them stays. The nodes live on where they are held.
        """
        gone = set(leaves)
        recent: list[tuple[tuple[Any, ...], Node]] = []
        while self._nodes:
            key, node = self._nodes.popitem()
            if node.serial <= mark:
                self._nodes[key] = node
                break
            recent.append((key, node))
        for key, node in reversed(recent):
            if any(v in gone for v in (*node.inputs, *node.outputs)):
                gone.update(node.outputs)
            else:
                self._nodes[key] = node
        for v in gone:
            self.names_of.pop(v, None)
        self.sizes = {k: s for k, s in self.sizes.items() if s.value not in gone}
        return gone


@cache
def _float_fields(op_class: type[Any]) -> tuple[str, ...]:
    """The attributes whose equality says too little about a node: 0.0 == -0.0."""
    return tuple(f.name for f in fields(op_class) if f.type == "float")


def _signs(op: Op) -> Iterator[float]:
    """What equality does not see of an op."""
    return (copysign(1, getattr(op, name)) for name in _float_fields(type(op)))  # type: ignore[arg-type]


def structure(function: Function) -> Hashable:
    """Equal for functions that compute the same in the same way, wherever they were written."""
    number: dict[Value, int] = {}
    nodes = []
    for n in (*(v.node for v in function.inputs), *function.nodes()):
        for v in n.outputs:
            number.setdefault(v, len(number))
        nodes.append((n.op, *_signs(n.op), n.types, *(number[v] for v in n.inputs)))
    return (tuple(nodes), tuple(number[v] for v in function.roots()))


def _located(e: UserError, op: Op, inputs: tuple[Value, ...], loc: Loc) -> UserError:
    """The error of a type rule, with the user's line and where each operand comes from."""
    notes = [str(loc)]
    for letter, v in zip("abcdefgh", inputs):
        what = f'"{v.name}"' if v.name else v.node.op.name
        notes.append(f"{letter} = {what}: {v.type}, {v.node.loc}")
    more = [n for n in e.notes if not any(n in known for known in notes)]
    return type(e)(f"{op.name}: {e.message}", *notes, *more)


@dataclass(frozen=True)
class Function:
    """What is to be computed: named outputs from inputs, and updates of variables.

    Immutable. Passes return a new Function, or the same object when they change nothing.
    `inputs` and the targets of `updates` are values of Input and Variable nodes.
    """

    name: str
    inputs: tuple[Value, ...]
    outputs: tuple[tuple[str, Value], ...]
    updates: tuple[tuple[Value, Value], ...] = ()
    effects: tuple[Value, ...] = ()  # values computed for what they check or print

    @property
    def interner(self) -> Interner:
        """What makes the nodes of the function; a new one for a function without any."""
        roots = self.roots()
        return roots[0].node.owner if roots else Interner()

    def roots(self) -> tuple[Value, ...]:
        """Everything that must be computed."""
        return (*(v for _, v in self.outputs), *(new for _, new in self.updates), *self.effects)

    def nodes(self) -> tuple[Node, ...]:
        """Every node needed, inputs before users, in a deterministic order."""
        return topological(v.node for v in (*self.roots(), *(var for var, _ in self.updates)))

    def symbols(self) -> tuple[Sym, ...]:
        """The dimension symbols of its inputs, by name."""
        found = {s for v in self.inputs for d in v.shape for s in free_symbols(d)}
        return tuple(sorted(found, key=lambda s: s.name))


def topological(roots: Iterable[Node], given: Container[Node] = ()) -> tuple[Node, ...]:
    """`roots` and everything they depend on, inputs first, but not what `given` nodes depend on.
    Iterative: graphs are deep."""
    order: list[Node] = []
    done: set[Node] = set()
    for root in roots:
        stack: list[tuple[Node, int]] = [(root, 0)]
        while stack:
            node, i = stack.pop()
            if node in done:
                continue
            if i < len(node.inputs) and node not in given:
                stack.append((node, i + 1))
                if node.inputs[i].node not in done:
                    stack.append((node.inputs[i].node, 0))
            else:
                done.add(node)
                order.append(node)
    return tuple(order)
