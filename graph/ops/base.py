"""What every op is made of, and the registry of all ops.

An op is a frozen dataclass whose fields are its attributes. Its type rule (`infer`), its meaning
(`compute`: an algorithm, or `expand`: other ops), its gradient (`grad`), an independent NumPy
reference (`ref`) and test samples stand together in one class. The printer, the parser, the
documentation, the differential tests and the gradient checks are made from the registry.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np

from ...algorithm import Axis, Check, Compute, Expr, IndexLike, Load, as_expr, axis
from ...dims import Dim, show
from ...dtypes import Array, DType, as_array, as_dtype, float32, of_scalar, promote
from ...errors import DTypeError, GraphError, InternalError, ShapeError
from ..ir import CALLS, Binding, Function, Interner, Shape, TensorType, Value

OPS: dict[str, type[Op]] = {}


@dataclass(frozen=True)
class Sample:
    """Arguments a test tries an op on: operand shapes, attributes, and how to draw the data."""

    shapes: tuple[tuple[int, ...], ...]
    attributes: tuple[tuple[str, Any], ...] = ()
    dtypes: tuple[str, ...] = ()  # of the operands; empty: every float dtype
    low: float = -2.0
    high: float = 2.0
    special: tuple[float, ...] = ()  # planted among the data of the first operand
    gradient: bool = True  # False where a finite difference would step over a kink

    @property
    def kwargs(self) -> dict[str, Any]:
        return dict(self.attributes)


def sample(*shapes: tuple[int, ...], dtypes: Sequence[str] = (), low: float = -2.0,
           high: float = 2.0, special: Sequence[float] = (), gradient: bool = True,
           **attributes: Any) -> Sample:  # fmt: skip
    """A `Sample` with operand `shapes` and the op's `attributes`."""
    return Sample(shapes, tuple(attributes.items()), tuple(dtypes), low, high, tuple(special),
                  gradient)  # fmt: skip


class Operand:
    """An input inside `compute`: `x[i, j]` is an element; broadcasting is the caller's business."""

    def __init__(self, number: int, type: TensorType) -> None:
        self.number, self.type = number, type

    @property
    def shape(self) -> Shape:
        return self.type.shape

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    def __getitem__(self, indices: IndexLike | tuple[IndexLike, ...]) -> Expr:
        return self.at(indices if isinstance(indices, tuple) else (indices,))

    def at(self, indices: Sequence[IndexLike], mask: Expr | None = None) -> Expr:
        """The element at `indices`; zero, and nothing read, where `mask` is false."""
        if len(indices) != self.type.ndim:
            raise InternalError(f"{len(indices)} indices into {self.type}")
        return Load(str(self.number), tuple(indices), self.dtype, mask)

    def broadcast(self, axes: Sequence[Axis]) -> Expr:
        """The element for output indices `axes`, NumPy broadcasting applied."""
        skip = len(axes) - self.type.ndim
        return self.at([0 if size == 1 else a.index for size, a in zip(self.shape, axes[skip:])])


def _place(op: type[Any]) -> str:
    return f"{op.__module__}.{op.__qualname__}"


class Caller(Protocol):
    """Runs functions that an op holds, for its reference."""

    def __call__(self, function: Function, *xs: Array) -> tuple[Array, ...]:
        """The results of `function`."""

    def shape(self, type: TensorType) -> tuple[int, ...]:
        """The shape of a type in this run."""


class Op:
    """An operator. Subclasses are frozen dataclasses; see the module docstring."""

    name: ClassVar[str]
    arity: ClassVar[int | None] = None  # None: any number of operands
    samples: ClassVar[tuple[Sample, ...]] = ()
    differentiable: ClassVar[bool] = True
    pure: ClassVar[bool] = True  # False: has an effect, or reads state; never merged or dropped
    onnx: ClassVar[str | None] = None  # the ONNX operator with the same meaning
    indices: ClassVar[int | None] = None  # the operand whose values fail the run if out of range

    def __init_subclass__(cls, abstract: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if abstract:
            return
        if "name" not in cls.__dict__:
            words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__)
            cls.name = words.lower()
        known = OPS.get(cls.name)
        if known is not None and _place(known) != _place(cls):  # else it is defined anew
            raise GraphError(f"an op named {cls.name!r} exists already: {_place(known)}")
        OPS[cls.name] = cls

    def infer(self, *types: TensorType) -> TensorType | tuple[TensorType, ...]:
        """The result types for operand types. Raises ShapeError or DTypeError."""
        raise InternalError(f"{self.name} has no type rule")

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        """The algorithm. An op has this, or `expand`, or a kernel of its own in `passes`."""
        raise InternalError(f"{self.name} has no algorithm")

    def expand(self, *xs: Value) -> Value:
        """The op in terms of simpler ones (composite ops only)."""
        raise InternalError(f"{self.name} is not a composite")

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        """Gradients with respect to each operand, given the result's gradient g; None: zero."""
        raise InternalError(f"{self.name} has no gradient")

    def ref(self, *xs: Array) -> Array:
        """The same in NumPy, written independently of `compute`."""
        raise InternalError(f"{self.name} has no reference")

    def interpret(self, call: Caller, *xs: Array) -> Any:
        """The reference of an op that holds functions, which `call` runs."""
        raise InternalError(f"{self.name} holds no functions")

    def requires(self, out: TensorType, *types: TensorType) -> Iterator[tuple[Dim, str]]:
        """What must not be negative at a run, and the complaint where it is: the sizes of a result,
        if unsaid. For dimensions that are known only then; what is known, `infer` checks."""
        for k, d in enumerate(out.shape):
            yield d, f"axis {k} of the result would have a negative size"

    def bindings(self) -> tuple[Binding, ...]:
        """The dimensions that operands tell at a run; see `ops/sizes.py`."""
        return ()

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        """Floating-point operations, for reports and the cost model: one per element if unsaid."""
        return out.size

    @classmethod
    def has(cls, member: str) -> bool:
        """Whether the op defines `compute`, `expand`, `grad`, `ref`, ... itself."""
        return getattr(cls, member) is not getattr(Op, member)

    def attributes(self) -> dict[str, Any]:
        """Attribute name -> value."""
        return {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]


def as_value(x: Any, beside: Value | None = None, owner: Interner | None = None) -> Value:
    """A Value from a Value, a scalar or list (typed after its neighbour) or an array."""
    if isinstance(x, Value):
        return x
    if owner is None:
        owner = beside.node.owner if beside is not None else CALLS["__current__"]()
    near = beside.dtype if beside is not None else None
    if isinstance(x, bool | int | float | np.bool_ | np.integer | np.floating):
        if isinstance(x, np.float32 | np.float64) and (near is None or not near.is_float):
            dtype = as_dtype(x.dtype)
        else:
            dtype = of_scalar(x, near)
    else:
        array = as_array(x)
        dtype = as_dtype(array.dtype)
        if not isinstance(x, np.ndarray) and dtype.is_float:  # Python's numbers have no width
            dtype = near if near is not None and near.is_float else float32
        x = array
    return CALLS["constant"](x, dtype=dtype, owner=owner)  # type: ignore[no-any-return]


def condition(cond: Any, what: str, beside: Value | None) -> Value:
    """A condition as a value, in the graph of `beside`. DTypeError for a bare bool: that is what
    `==` gives."""
    if isinstance(cond, bool):
        raise DTypeError(f"{what}: the condition is {cond}, no value of the graph",
                         "== compares values as objects: use fm.equal(a, b)")  # fmt: skip
    return as_value(cond, owner=None if beside is None else beside.node.owner)


def make(op: Op, *xs: Value) -> Value:
    """`op` applied to values of one graph: its first result."""
    return xs[0].node.owner.node(op, xs).outputs[0]


def operands(*xs: Any) -> tuple[Value, ...]:
    """Values from values, scalars and arrays, scalars typed after the first real value."""
    beside = next((x for x in xs if isinstance(x, Value)), None)
    return tuple(as_value(x, beside) for x in xs)


def promoted(*xs: Any) -> tuple[Value, ...]:
    """`operands` cast to their common dtype."""
    values = operands(*xs)
    if not values:
        raise ShapeError("no values are given", "one value at least is needed")
    joint = values[0].dtype
    for v in values[1:]:
        joint = promote(joint, v.dtype)
    return tuple(v if v.dtype == joint else CALLS["cast"](v, joint) for v in values)


def broadcast_shapes(*shapes: Shape) -> Shape:
    """NumPy's broadcast of shapes; a symbol meets only itself or 1. ShapeError otherwise."""
    rank = max((len(s) for s in shapes), default=0)
    out: list[Dim] = []
    for k in range(rank):
        size: Dim = 1
        for s in shapes:
            at = k - (rank - len(s))
            if at < 0 or s[at] == 1:
                continue
            if size not in (1, s[at]):
                texts = " and ".join("[" + ",".join(show(d) for d in t) + "]" for t in shapes)
                raise ShapeError(f"shapes {texts} do not broadcast: {show(size)} against "
                                 f"{show(s[at])} on axis {k}")  # fmt: skip
            size = s[at]
        out.append(size)
    return tuple(out)


def normal_axis(axis: object, ndim: int, what: str = "axis") -> int:
    """An axis counted from the front. ShapeError where there is no such axis."""
    if not isinstance(axis, int | np.integer) or not -ndim <= axis < ndim:
        raise ShapeError(f"{what} {axis!r} does not exist in a value with {ndim} axes")
    return int(axis) % ndim


def own_axis(axis: int, ndim: int) -> int:
    """An op's axis, which is counted from the front. ShapeError where there is no such axis."""
    if not isinstance(axis, int) or not 0 <= axis < ndim:
        raise ShapeError(f"the op's axis {axis!r} is not from 0 to {ndim - 1}")
    return axis


def normal_axes(axes: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """Axes counted from the front, sorted; None means all. ShapeError if one is named twice."""
    if axes is None:
        return tuple(range(ndim))
    given = (axes,) if isinstance(axes, int | np.integer) else tuple(axes)
    out = tuple(sorted(normal_axis(a, ndim) for a in given))
    if len(set(out)) != len(out):
        raise ShapeError(f"axes {given} name an axis twice")
    return out


class Pointwise(Op, abstract=True):
    """Element by element, operands broadcast together. Subclasses give `scalar`."""

    def scalar(self, *xs: Any) -> Any:
        """One element from one element of each operand."""
        raise InternalError(f"{self.name} has no scalar meaning")

    def checks(self, *xs: Expr) -> tuple[Check, ...]:
        """What can fail for one element of each operand."""
        return ()

    def result_dtype(self, *dtypes: DType) -> DType:
        """The result's dtype, for operands that were promoted to one dtype."""
        return dtypes[0]

    def accepts(self, dtype: DType) -> bool:
        """Whether operands of this dtype make sense."""
        return dtype.computes

    def infer(self, *types: TensorType) -> TensorType:
        for t in types:
            if not self.accepts(t.dtype):
                hint = "cast to float32 first" if not t.dtype.computes else ""
                raise DTypeError(f"not defined for {t.dtype}", hint)
        return TensorType(self.result_dtype(*(t.dtype for t in types)),
                          broadcast_shapes(*(t.shape for t in types)))  # fmt: skip

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        axes = tuple(axis(d) for d in out.shape)
        elements = [x.broadcast(axes) for x in xs]
        value = as_expr(self.scalar(*elements), out.dtype)
        return Compute(axes, (), None, value, self.checks(*elements))


_F = TypeVar("_F", bound=Callable[..., Any])


def graph_function(name: str) -> Callable[[_F], _F]:
    """Registers a function of the shared vocabulary under `name`, for operators and gradients."""

    def register(fn: _F) -> _F:
        CALLS[name] = fn
        return fn

    return register
