"""What an op says about its meaning: scalar expressions and `Compute`, shared by both languages.

An `Expr` is one scalar, given the values of loop indices; the graph language builds it inside
`Op.compute`, the kernel language evaluates it inside loops. A `Compute` says for every element of
an output which expression it is, reduced over which axes. Neither says anything about how.

The functions below (`maximum`, `exp`, `where`, ...) are one vocabulary for two kinds of arguments:
given Exprs they build an Expr, given graph values they build graph nodes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from . import dims as _dims
from .dims import Dim, DimExpr, Sym
from .dtypes import DType, bool_, float32, int64, of_scalar, promote
from .errors import InternalError, Loc

# name -> (number of arguments, kind of result). Results: "same" as the promoted arguments,
# "bool", or "index" (int64). Arithmetic wraps for integers; float min and max propagate NaN as
# NumPy does; floordiv and mod round towards minus infinity; shifts are by 0 <= count < width.
FUNCTIONS: dict[str, tuple[int, str]] = {
    "add": (2, "same"), "sub": (2, "same"), "mul": (2, "same"), "div": (2, "same"),
    "floordiv": (2, "same"), "mod": (2, "same"), "pow": (2, "same"), "fma": (3, "same"),
    "min": (2, "same"), "max": (2, "same"), "neg": (1, "same"), "abs": (1, "same"),
    "sign": (1, "same"), "floor": (1, "same"), "ceil": (1, "same"), "round": (1, "same"),
    "trunc": (1, "same"), "sqrt": (1, "same"), "rsqrt": (1, "same"),
    "exp": (1, "same"), "expm1": (1, "same"), "exp2": (1, "same"), "log": (1, "same"),
    "log1p": (1, "same"), "log2": (1, "same"), "sin": (1, "same"), "cos": (1, "same"),
    "tan": (1, "same"), "asin": (1, "same"), "acos": (1, "same"), "atan": (1, "same"),
    "sinh": (1, "same"), "cosh": (1, "same"), "tanh": (1, "same"), "sigmoid": (1, "same"),
    "softplus": (1, "same"), "erf": (1, "same"),
    "and": (2, "same"), "or": (2, "same"), "xor": (2, "same"), "not": (1, "same"),
    "shl": (2, "same"), "shr": (2, "same"),
    "eq": (2, "bool"), "ne": (2, "bool"), "lt": (2, "bool"), "le": (2, "bool"),
    "gt": (2, "bool"), "ge": (2, "bool"), "isnan": (1, "bool"), "isinf": (1, "bool"),
    "isfinite": (1, "bool"),
}  # fmt: skip


class Expr:
    """One scalar. Immutable; equal expressions are equal objects for `==` and `hash`."""

    dtype: DType
    __slots__ = ()

    def __add__(self, o: Any) -> Expr:
        return _of(apply("add", self, o))

    def __radd__(self, o: Any) -> Expr:
        return _of(apply("add", o, self))

    def __sub__(self, o: Any) -> Expr:
        return _of(apply("sub", self, o))

    def __rsub__(self, o: Any) -> Expr:
        return _of(apply("sub", o, self))

    def __mul__(self, o: Any) -> Expr:
        return _of(apply("mul", self, o))

    def __rmul__(self, o: Any) -> Expr:
        return _of(apply("mul", o, self))

    def __truediv__(self, o: Any) -> Expr:
        return _of(apply("div", self, o))

    def __rtruediv__(self, o: Any) -> Expr:
        return _of(apply("div", o, self))

    def __floordiv__(self, o: Any) -> Expr:
        return _of(apply("floordiv", self, o))

    def __mod__(self, o: Any) -> Expr:
        return _of(apply("mod", self, o))

    def __neg__(self) -> Expr:
        return _of(apply("neg", self))

    def __lt__(self, o: Any) -> Expr:
        return _of(apply("lt", self, o))

    def __le__(self, o: Any) -> Expr:
        return _of(apply("le", self, o))

    def __gt__(self, o: Any) -> Expr:
        return _of(apply("gt", self, o))

    def __ge__(self, o: Any) -> Expr:
        return _of(apply("ge", self, o))

    def __and__(self, o: Any) -> Expr:
        return _of(apply("and", self, o))

    def __or__(self, o: Any) -> Expr:
        return _of(apply("or", self, o))

    def __xor__(self, o: Any) -> Expr:
        return _of(apply("xor", self, o))

    def __invert__(self) -> Expr:
        return _of(apply("not", self))

    def __lshift__(self, o: Any) -> Expr:
        return _of(apply("shl", self, o))

    def __rshift__(self, o: Any) -> Expr:
        return _of(apply("shr", self, o))


class _Hashed(Expr):
    """Caches the hash and compares it first: expressions are deep and used as dict keys."""

    __slots__ = ("_hash", "_key")
    _key: tuple[Any, ...]
    _hash: int

    def _seal(self, *key: Any) -> None:
        self._key = key
        self._hash = hash((type(self).__name__, *key))

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, _Hashed) and _same(self, other))

    def __hash__(self) -> int:
        return self._hash


def _same(a: _Hashed, b: _Hashed) -> bool:
    """Structural equality, without recursion and in time linear in the distinct parts."""
    equal: dict[tuple[int, int], tuple[_Hashed, _Hashed]] = {}
    todo: list[tuple[Any, Any]] = [(a, b)]
    while todo:
        x, y = todo.pop()
        if x is y or (id(x), id(y)) in equal:
            continue
        if type(x) is not type(y):
            return False
        if isinstance(x, _Hashed):
            if x._hash != y._hash:
                return False
            equal[id(x), id(y)] = (x, y)
            todo.append((x._key, y._key))
        elif isinstance(x, tuple):
            if len(x) != len(y):
                return False
            todo.extend(zip(x, y))
        elif x != y:
            return False
    for x, y in equal.values():
        x._key = y._key  # comparing them once more ends here
    return True


def scalar_bits(value: float | int | bool, dtype: DType) -> int:
    """The bit pattern of `value` in `dtype`: what makes constants equal (0.0 is not -0.0)."""
    if dtype.is_float:
        if dtype.bits == 64:
            return int.from_bytes(struct.pack("<d", value), "little")
        try:
            return int.from_bytes(struct.pack("<f", value), "little")
        except OverflowError:
            return 0x7F800000 if value > 0 else 0xFF800000
    return int(value) & ((1 << dtype.bits) - 1)


class Const(_Hashed):
    """A literal. `value` is a Python bool, int or float (floats already rounded to the dtype)."""

    __slots__ = ("dtype", "value")

    def __init__(self, value: float | int | bool, dtype: DType) -> None:
        if dtype.is_float:
            value = float(value)
            if dtype.bits == 32:
                bits = scalar_bits(value, dtype)
                value = float(struct.unpack("<f", bits.to_bytes(4, "little"))[0])
        elif dtype.kind == "b":
            value = bool(value)
        else:
            value = int(value)
        self.value, self.dtype = value, dtype
        self._seal(scalar_bits(value, dtype), dtype)


class Index(_Hashed):
    """A dimension expression (loop indices, sizes) as an int64 scalar."""

    __slots__ = ("dim", "dtype")

    def __init__(self, dim: Dim) -> None:
        self.dim, self.dtype = dim, int64
        self._seal(dim)


class Var(_Hashed):
    """A scalar bound by a `Let` of the kernel language."""

    __slots__ = ("dtype", "name")

    def __init__(self, name: str, dtype: DType) -> None:
        self.name, self.dtype = name, dtype
        self._seal(name, dtype)


IndexLike: TypeAlias = "Dim | Expr"


class Load(_Hashed):
    """An element of a buffer; where `mask` is false nothing is read and the value is zero.

    An index is a Dim, or an integer Expr where it depends on data.
    """

    __slots__ = ("buffer", "dtype", "indices", "mask")

    def __init__(
        self, buffer: str, indices: tuple[IndexLike, ...], dtype: DType, mask: Expr | None = None
    ) -> None:
        self.buffer, self.indices, self.dtype, self.mask = buffer, indices, dtype, mask
        self._seal(buffer, indices, dtype, mask)


class Apply(_Hashed):
    """A function of `FUNCTIONS` on arguments of one dtype."""

    __slots__ = ("args", "dtype", "fn")

    def __init__(self, fn: str, args: tuple[Expr, ...], dtype: DType) -> None:
        self.fn, self.args, self.dtype = fn, args, dtype
        self._seal(fn, args)


class Select(_Hashed):
    """`yes` where `cond`, else `no`; both are evaluated."""

    __slots__ = ("cond", "dtype", "no", "yes")

    def __init__(self, cond: Expr, yes: Expr, no: Expr) -> None:
        self.cond, self.yes, self.no, self.dtype = cond, yes, no, yes.dtype
        self._seal(cond, yes, no)


class Cast(_Hashed):
    """Conversion of value; float to integer truncates and saturates, NaN becomes 0."""

    __slots__ = ("dtype", "x")

    def __init__(self, x: Expr, dtype: DType) -> None:
        self.x, self.dtype = x, dtype
        self._seal(x, dtype)


class Bitcast(_Hashed):
    """The same bits read as another dtype of the same width."""

    __slots__ = ("dtype", "x")

    def __init__(self, x: Expr, dtype: DType) -> None:
        self.x, self.dtype = x, dtype
        self._seal(x, dtype)


class LaneReduce(_Hashed):
    """All lanes of one register vector combined by a fixed tree: halves are joined pairwise,
    lane i with lane i + n/2, until one is left. `fn` is add, mul, min or max."""

    __slots__ = ("buffer", "dtype", "fn", "indices")

    def __init__(self, fn: str, buffer: str, indices: tuple[Dim, ...], dtype: DType) -> None:
        self.fn, self.buffer, self.indices, self.dtype = fn, buffer, indices, dtype
        self._seal(fn, buffer, indices, dtype)


def children(e: Expr) -> tuple[Expr, ...]:
    """Direct sub-expressions, data-dependent indices and masks included."""
    if isinstance(e, Apply):
        return e.args
    if isinstance(e, Select):
        return (e.cond, e.yes, e.no)
    if isinstance(e, Cast | Bitcast):
        return (e.x,)
    if isinstance(e, Load):
        data = tuple(i for i in e.indices if isinstance(i, Expr))
        return (*data, e.mask) if e.mask is not None else data
    return ()


def walk(e: Expr) -> Iterator[Expr]:
    """Every distinct sub-expression, `e` included, in no particular order."""
    stack, seen = [e], {e}
    while stack:
        x = stack.pop()
        yield x
        for c in children(x):
            if c not in seen:
                seen.add(c)
                stack.append(c)


def rebuild(e: Expr, leaf: Callable[[Expr], Expr | None], dim: Callable[[Dim], Dim]) -> Expr:
    """`e` with sub-expressions replaced: `leaf` is asked first (None: go on below), `dim` maps
    every index. Shared sub-expressions are rebuilt once."""
    memo: dict[Expr, Expr] = {}

    def go(x: Expr) -> Expr:
        done = memo.get(x)
        if done is None:
            done = leaf(x)
            if done is None:
                done = _rebuild_one(x, go, dim)
            memo[x] = done
        return done

    return go(e)


def _rebuild_one(x: Expr, go: Callable[[Expr], Expr], dim: Callable[[Dim], Dim]) -> Expr:
    if isinstance(x, Const | Var):
        return x
    if isinstance(x, Index):
        return Index(dim(x.dim))
    if isinstance(x, Apply):
        return Apply(x.fn, tuple(go(a) for a in x.args), x.dtype)
    if isinstance(x, Select):
        return Select(go(x.cond), go(x.yes), go(x.no))
    if isinstance(x, Cast):
        return Cast(go(x.x), x.dtype)
    if isinstance(x, Bitcast):
        return Bitcast(go(x.x), x.dtype)
    if isinstance(x, Load):
        indices = tuple(go(i) if isinstance(i, Expr) else dim(i) for i in x.indices)
        indices = tuple(i.dim if isinstance(i, Index) else i for i in indices)
        return Load(x.buffer, indices, x.dtype, None if x.mask is None else go(x.mask))
    if isinstance(x, LaneReduce):
        return LaneReduce(x.fn, x.buffer, tuple(dim(i) for i in x.indices), x.dtype)
    raise InternalError(f"unknown expression {type(x).__name__}")


@dataclass(frozen=True)
class Axis:
    """One loop of a Compute: its index symbol and its extent."""

    index: DimExpr
    extent: Dim

    @property
    def sym(self) -> Sym:
        return _dims.as_sym(self.index)


@dataclass(frozen=True)
class Check:
    """Fails the run with `code` ("index", "zero_division" or "check") where `cond` holds, for any
    value of the loop indices that `cond` mentions. Loads stay within bounds whatever it says."""

    code: str
    cond: Expr


@dataclass(frozen=True)
class Requirement:
    """`dim`, known at run time only, must not be negative; `text` says what is wrong where it is."""

    dim: Dim
    text: str
    loc: Loc

    def violation(self, dims: Mapping[str, int]) -> str | None:
        """What is wrong with the dimensions of a run; None if they will do."""
        if _dims.evaluate(self.dim, dims) >= 0:
            return None
        names = sorted(s.name for s in _dims.free_symbols(self.dim))
        known = " and ".join(f"{n} = {dims[n]}" for n in names)
        return f"{self.text} for {known}: {_dims.show(self.dim)} must not be negative ({self.loc})"


@dataclass(frozen=True)
class Compute:
    """`out[axes] = combine over reduce_axes of value`, element by element.

    `combine` is None (no reduction), "add", "mul", "max", "min", "argmax" or "argmin". For the
    last two `value` is what is compared and the result is the int64 index of its first extreme
    (or first NaN) along the single reduce axis. Operand k is the buffer named `str(k)`.
    `checks` are what can fail while computing it. The extent of a reduce axis may depend on the
    indices of `axes`.
    """

    axes: tuple[Axis, ...]
    reduce_axes: tuple[Axis, ...]
    combine: str | None
    value: Expr
    checks: tuple[Check, ...] = ()
    notes: tuple[str, ...] = field(default=(), compare=False)


_counter = 0


def axis(extent: Dim, name: str = "i") -> Axis:
    """A new axis over `0..extent`, with a name no other axis has. Names sort as they were made, so
    that normal forms do not depend on how many were made before."""
    global _counter
    _counter += 1
    _, hi = _dims.bounds(extent)
    return Axis(
        _dims.sym(f"{name}{_counter:09d}", 0, None if hi is None else max(hi - 1, 0)), extent
    )


def as_expr(x: Any, beside: DType | None = None) -> Expr:
    """An Expr from an Expr, a Dim or a Python scalar (typed after its neighbour)."""
    if isinstance(x, Expr):
        return x
    if isinstance(x, DimExpr):
        return Index(x)
    return Const(x, of_scalar(x, beside))


def cast(x: Any, dtype: DType) -> Any:
    """Conversion of an Expr or a graph value to `dtype`."""
    if not isinstance(x, Expr):
        return x._apply("cast", (x,), dtype=dtype)
    if x.dtype == dtype:
        return x
    if isinstance(x, Const) and not (x.dtype.is_float and not dtype.is_float):
        return Const(x.value, dtype)
    return Cast(x, dtype)


def _of(x: Any) -> Expr:
    """x, known to be an Expr because an operand was one."""
    return x  # type: ignore[no-any-return]


def apply(fn: str, *args: Any) -> Any:
    """`fn` applied to Exprs (an Expr) or graph values (a graph value); scalars join in."""
    for a in args:
        if not isinstance(a, Expr | DimExpr | int | float | bool):
            return a._apply(fn, args)
    known = [a.dtype for a in args if isinstance(a, Expr) and not isinstance(a, Const)] or [
        a.dtype for a in args if isinstance(a, Expr)
    ]
    beside: DType | None = None
    for d in known:
        beside = d if beside is None else promote(beside, d)
    exprs = tuple(as_expr(a, beside) for a in args)
    joint = exprs[0].dtype
    for e in exprs[1:]:
        joint = promote(joint, e.dtype)
    exprs = tuple(cast(e, joint) for e in exprs)
    return Apply(fn, exprs, bool_ if FUNCTIONS[fn][1] == "bool" else joint)


def where(cond: Any, yes: Any, no: Any) -> Any:
    """`yes` where `cond` holds, else `no`; for Exprs or graph values."""
    for a in (cond, yes, no):
        if not isinstance(a, Expr | DimExpr | int | float | bool):
            return a._apply("where", (cond, yes, no))
    beside = yes.dtype if isinstance(yes, Expr) else no.dtype if isinstance(no, Expr) else float32
    a, b = as_expr(yes, beside), as_expr(no, beside)
    joint = promote(a.dtype, b.dtype)
    return Select(as_expr(cond), cast(a, joint), cast(b, joint))


def _function(fn: str) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        return apply(fn, *args)

    call.__name__ = fn
    call.__doc__ = f"`{fn}` of Exprs or graph values."
    return call


maximum, minimum, fma, power = (_function(f) for f in ("max", "min", "fma", "pow"))
abs_, sign, floor, ceil, round_, trunc = (
    _function(f) for f in ("abs", "sign", "floor", "ceil", "round", "trunc")
)
sqrt, rsqrt, exp, expm1, exp2 = (_function(f) for f in ("sqrt", "rsqrt", "exp", "expm1", "exp2"))
log, log1p, log2, tanh, sigmoid = (
    _function(f) for f in ("log", "log1p", "log2", "tanh", "sigmoid")
)
sin, cos, tan, asin, acos, atan = (
    _function(f) for f in ("sin", "cos", "tan", "asin", "acos", "atan")
)
sinh, cosh, erf, softplus = (_function(f) for f in ("sinh", "cosh", "erf", "softplus"))
equal, not_equal = _function("eq"), _function("ne")
isnan, isinf, isfinite = (_function(f) for f in ("isnan", "isinf", "isfinite"))

REDUCTION_START: dict[str, Callable[[DType], Const]] = {
    "add": lambda d: Const(0, d),
    "mul": lambda d: Const(1, d),
    "max": lambda d: Const(extreme(d, -1), d),
    "min": lambda d: Const(extreme(d, 1), d),
}


def extreme(dtype: DType, direction: int) -> float | int | bool:
    """The largest (direction 1) or smallest (-1) value of a dtype; infinities for floats."""
    if dtype.is_float:
        return float("inf") * direction
    if dtype.kind == "b":
        return direction > 0
    if dtype.kind == "u":
        return (1 << dtype.bits) - 1 if direction > 0 else 0
    return (1 << (dtype.bits - 1)) - 1 if direction > 0 else -(1 << (dtype.bits - 1))
