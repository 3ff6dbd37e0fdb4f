"""Element-by-element ops. Operands are promoted and broadcast as in NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ... import algorithm as alg
from ...dtypes import Array, DType, as_dtype, bool_
from ...errors import DTypeError
from ..ir import CALLS, TensorType, Value
from .base import Pointwise, Sample, as_value, condition, graph_function, make, promoted, sample

NAN, INF = float("nan"), float("inf")
PAIRS = (sample((3, 5), (3, 5)), sample((7,), (4, 1)), sample((), (33,)), sample((0, 3), (3,)))
INTEGER_PAIRS = (sample((3, 17), (3, 17), dtypes=("int32", "int32"), low=-9, high=9),
                  sample((9,), (9,), dtypes=("uint8", "uint8"), low=0, high=9))  # fmt: skip


def _same(g: Value, x: Value) -> Value:
    """The gradient `g` summed down to the shape `x` was broadcast from."""
    return CALLS["unbroadcast"](g, x)  # type: ignore[no-any-return]


class Binary(Pointwise, abstract=True):
    arity = 2
    samples: ClassVar[tuple[Sample, ...]] = PAIRS + INTEGER_PAIRS


class Numeric(Binary, abstract=True):
    def accepts(self, dtype: DType) -> bool:
        return dtype.computes and dtype.kind != "b"


@dataclass(frozen=True)
class Add(Binary):
    """x + y."""

    onnx = "Add"

    def scalar(self, *xs: Any) -> Any:
        return xs[0] + xs[1] if xs[0].dtype.kind != "b" else xs[0] | xs[1]

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return _same(g, xs[0]), _same(g, xs[1])

    def ref(self, *xs: Array) -> Array:
        return np.add(*xs)


@dataclass(frozen=True)
class Sub(Numeric):
    """x - y."""

    onnx = "Sub"

    def scalar(self, *xs: Any) -> Any:
        return xs[0] - xs[1]

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return _same(g, xs[0]), _same(-g, xs[1])

    def ref(self, *xs: Array) -> Array:
        return np.subtract(*xs)


@dataclass(frozen=True)
class Mul(Binary):
    """x * y."""

    onnx = "Mul"

    def scalar(self, *xs: Any) -> Any:
        return xs[0] * xs[1] if xs[0].dtype.kind != "b" else xs[0] & xs[1]

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return _same(g * xs[1], xs[0]), _same(g * xs[0], xs[1])

    def ref(self, *xs: Array) -> Array:
        return np.multiply(*xs)


@dataclass(frozen=True)
class Div(Binary):
    """x / y for floats; `/` casts integers to float first, as NumPy does."""

    onnx = "Div"
    samples = (sample((3, 5), (3, 5), low=0.5), sample((7,), (4, 1), low=0.5))

    def accepts(self, dtype: DType) -> bool:
        return dtype.computes and dtype.is_float

    def scalar(self, *xs: Any) -> Any:
        return xs[0] / xs[1]

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return _same(g / xs[1], xs[0]), _same(-g * y / xs[1], xs[1])

    def ref(self, *xs: Array) -> Array:
        return np.divide(*xs)


class Division(Numeric, abstract=True):
    """Integers by zero fail the run; the quotient is then that by one."""

    samples: ClassVar[tuple[Sample, ...]] = (
        sample((3, 5), (3, 5), low=0.5, gradient=False),
        sample((19,), (19,), dtypes=("int32", "int32"), low=1, high=9))  # fmt: skip

    def checks(self, *xs: alg.Expr) -> tuple[alg.Check, ...]:
        if xs[1].dtype.is_float:
            return ()
        return (alg.Check("zero_division", alg.equal(xs[1], 0)),)

    def divisor(self, x: Any) -> Any:
        """x, or 1 in place of an integer zero."""
        return x if x.dtype.is_float else alg.where(alg.equal(x, 0), 1, x)


@dataclass(frozen=True)
class Floordiv(Division):
    """Division rounded towards minus infinity. Integer division by zero fails the run."""

    def scalar(self, *xs: Any) -> Any:
        return xs[0] // self.divisor(xs[1])

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return None, None

    def ref(self, *xs: Array) -> Array:
        return np.floor_divide(*xs)


@dataclass(frozen=True)
class Mod(Division):
    """Remainder with the sign of the divisor. Integer division by zero fails the run."""

    def scalar(self, *xs: Any) -> Any:
        return xs[0] % self.divisor(xs[1])

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return _same(g, xs[0]), _same(-g * alg.floor(xs[0] / xs[1]), xs[1])

    def ref(self, *xs: Array) -> Array:
        return np.mod(*xs)


@dataclass(frozen=True)
class Pow(Binary):
    """x raised to y (floats)."""

    onnx = "Pow"
    samples = (sample((3, 5), (3, 5), low=0.2), sample((7,), (4, 1), low=0.2))

    def accepts(self, dtype: DType) -> bool:
        return dtype.computes and dtype.is_float

    def scalar(self, *xs: Any) -> Any:
        return alg.power(xs[0], xs[1])

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        x, p = xs
        log_x = alg.log(alg.where(x > 0, x, 1))
        return _same(g * p * alg.power(x, p - 1), x), _same(g * y * log_x, p)

    def ref(self, *xs: Array) -> Array:
        return np.power(*xs)


@dataclass(frozen=True)
class Maximum(Binary):
    """The larger one; NaN wins. At a tie half of the gradient goes to each."""

    onnx = "Max"
    samples = (*PAIRS, *INTEGER_PAIRS, sample((8,), (8,), special=(NAN, INF), gradient=False))

    def scalar(self, *xs: Any) -> Any:
        return alg.maximum(*xs)

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return _extreme_grad(g, y, *xs)

    def ref(self, *xs: Array) -> Array:
        return np.maximum(*xs)


@dataclass(frozen=True)
class Minimum(Binary):
    """The smaller one; NaN wins. At a tie half of the gradient goes to each."""

    onnx = "Min"
    samples = Maximum.samples

    def scalar(self, *xs: Any) -> Any:
        return alg.minimum(*xs)

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return _extreme_grad(g, y, *xs)

    def ref(self, *xs: Array) -> Array:
        return np.minimum(*xs)


def _extreme_grad(g: Value, y: Value, a: Value, b: Value) -> tuple[Value, Value]:
    tie = alg.where(alg.equal(a, b), g * 0.5, g)
    return _same(alg.where(alg.equal(y, a), tie, 0), a), _same(
        alg.where(alg.equal(y, b), tie, 0), b
    )


class Unary(Pointwise, abstract=True):
    arity = 1
    samples: ClassVar[tuple[Sample, ...]] = (
        sample((3, 17)), sample(()), sample((0, 4)), sample((65,)),
        sample((6,), special=(NAN, INF, -INF, -0.0), gradient=False),
    )  # fmt: skip


class FloatUnary(Unary, abstract=True):
    def accepts(self, dtype: DType) -> bool:
        return dtype.computes and dtype.is_float


@dataclass(frozen=True)
class Neg(Unary):
    """-x."""

    onnx = "Neg"

    def accepts(self, dtype: DType) -> bool:
        return dtype.computes and dtype.kind != "b"

    def scalar(self, *xs: Any) -> Any:
        return -xs[0]

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return (-g,)

    def ref(self, *xs: Array) -> Array:
        return np.negative(*xs)


@dataclass(frozen=True)
class Abs(Unary):
    """|x|; the gradient at 0 is 0."""

    onnx = "Abs"

    def accepts(self, dtype: DType) -> bool:
        return dtype.computes and dtype.kind != "b"

    def scalar(self, *xs: Any) -> Any:
        return alg.abs_(xs[0])

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return (g * alg.sign(xs[0]),)

    def ref(self, *xs: Array) -> Array:
        return np.abs(*xs)


class Step(Unary, abstract=True):
    """Piecewise constant: its gradient is zero."""

    samples = tuple(sample(*s.shapes, special=s.special, gradient=False) for s in Unary.samples)

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return (None,)


@dataclass(frozen=True)
class Sign(Step):
    """-1, 0 or 1; NaN stays NaN."""

    onnx = "Sign"

    def accepts(self, dtype: DType) -> bool:
        return dtype.computes and dtype.kind != "b"

    def scalar(self, *xs: Any) -> Any:
        return alg.sign(xs[0])

    def ref(self, *xs: Array) -> Array:
        return np.sign(*xs)


class Rounding(Step, abstract=True):
    def accepts(self, dtype: DType) -> bool:
        return dtype.computes and dtype.is_float


@dataclass(frozen=True)
class Floor(Rounding):
    """The nearest integer below."""

    onnx = "Floor"

    def scalar(self, *xs: Any) -> Any:
        return alg.floor(xs[0])

    def ref(self, *xs: Array) -> Array:
        return np.floor(*xs)


@dataclass(frozen=True)
class Ceil(Rounding):
    """The nearest integer above."""

    onnx = "Ceil"

    def scalar(self, *xs: Any) -> Any:
        return alg.ceil(xs[0])

    def ref(self, *xs: Array) -> Array:
        return np.ceil(*xs)


@dataclass(frozen=True)
class Round(Rounding):
    """The nearest integer, ties to even."""

    onnx = "Round"

    def scalar(self, *xs: Any) -> Any:
        return alg.round_(xs[0])

    def ref(self, *xs: Array) -> Array:
        return np.round(*xs)


@dataclass(frozen=True)
class Trunc(Rounding):
    """The nearest integer towards zero."""

    def scalar(self, *xs: Any) -> Any:
        return alg.trunc(xs[0])

    def ref(self, *xs: Array) -> Array:
        return np.trunc(*xs)


@dataclass(frozen=True)
class Where(Pointwise):
    """`yes` where `cond` (bool) holds, else `no`."""

    arity = 3
    onnx = "Where"
    samples = (sample((3, 17), (3, 17), (3, 17), dtypes=("bool", "float32", "float32")),
               sample((7,), (4, 1), (), dtypes=("bool", "float64", "float64")))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        if types[0].dtype != bool_:
            raise DTypeError(f"the condition must be bool, it is {types[0].dtype}")
        return super().infer(*types)

    def accepts(self, dtype: DType) -> bool:
        return True

    def result_dtype(self, *dtypes: DType) -> DType:
        return dtypes[1]

    def scalar(self, *xs: Any) -> Any:
        return alg.where(*xs)

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        c, a, b = xs
        return None, _same(alg.where(c, g, 0), a), _same(alg.where(c, 0, g), b)

    def ref(self, *xs: Array) -> Array:
        return np.where(*xs)


@dataclass(frozen=True)
class Cast(Pointwise):
    """Conversion to another dtype; float to integer truncates, saturates, and NaN becomes 0."""

    dtype: DType
    arity = 1
    onnx = "Cast"
    samples = (sample((19,), dtypes=("float32",), dtype=as_dtype("int32"), gradient=False),
               sample((19,), dtypes=("int8",), low=-9, high=9, dtype=as_dtype("float32")),
               sample((19,), dtypes=("float32",), dtype=as_dtype("float16"), gradient=False),
               sample((19,), dtypes=("float32",), dtype=as_dtype("bfloat16"), gradient=False),
               sample((19,), dtypes=("float16",), dtype=as_dtype("float64"), gradient=False),
               sample((19,), dtypes=("float64",), dtype=as_dtype("float32")),
               sample((19,), dtypes=("float32",), dtype=bool_, gradient=False))  # fmt: skip

    def accepts(self, dtype: DType) -> bool:
        return True

    def result_dtype(self, *dtypes: DType) -> DType:
        return self.dtype

    def scalar(self, *xs: Any) -> Any:
        return alg.cast(xs[0], self.dtype)

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return (cast(g, xs[0].dtype) if xs[0].dtype.is_float else None,)

    def ref(self, *xs: Array) -> Array:
        x = xs[0]
        if self.dtype.is_integer and x.dtype.kind == "f":
            info = np.iinfo(self.dtype.numpy)
            x = np.clip(np.nan_to_num(np.trunc(x.astype(np.float64)), nan=0.0), info.min, info.max)
        return x.astype(self.dtype.numpy)


@dataclass(frozen=True)
class StopGradient(Pointwise):
    """x itself; no gradient flows through it."""

    arity = 1
    samples = (sample((3, 17), gradient=False), sample((), gradient=False),
               sample((5,), dtypes=("int32",), gradient=False))  # fmt: skip

    def accepts(self, dtype: DType) -> bool:
        return True

    def scalar(self, *xs: Any) -> Any:
        return xs[0]

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return (None,)

    def ref(self, *xs: Array) -> Array:
        return xs[0].copy()


def binary_function(op: Pointwise) -> Any:
    @graph_function(op.name)
    def build(x: Any, y: Any) -> Value:
        return make(op, *promoted(x, y))

    build.__name__, build.__doc__ = op.name, type(op).__doc__
    return build


def unary_function(op: Pointwise) -> Any:
    @graph_function(op.name)
    def build(x: Any) -> Value:
        return make(op, as_value(x))

    build.__name__, build.__doc__ = op.name, type(op).__doc__
    return build


def rounding_function(op: Rounding) -> Any:
    @graph_function(op.name)
    def build(x: Any) -> Value:
        v = as_value(x)
        return v if v.dtype.is_integer else make(op, v)

    build.__name__, build.__doc__ = op.name, type(op).__doc__
    return build


add, sub, mul, floordiv, mod = (
    binary_function(o) for o in (Add(), Sub(), Mul(), Floordiv(), Mod())
)
maximum, minimum = binary_function(Maximum()), binary_function(Minimum())
CALLS["max"], CALLS["min"] = maximum, minimum
neg, abs_, sign = (unary_function(o) for o in (Neg(), Abs(), Sign()))
floor, ceil, round_, trunc = (rounding_function(o) for o in (Floor(), Ceil(), Round(), Trunc()))
stop_gradient = unary_function(StopGradient())


def _as_float(*values: Value) -> tuple[Value, ...]:
    """Integers as floats that hold them: 8 and 16 bits as float32, more as float64."""
    wide = any(v.dtype.bits > 16 for v in values)
    to = as_dtype("float64" if wide else "float32")
    return tuple(v if v.dtype.is_float else cast(v, to) for v in values)


@graph_function("div")
def div(x: Any, y: Any) -> Value:
    """x / y; integers are divided as floats: those of 8 and 16 bits as float32, others as float64."""
    return make(Div(), *_as_float(*promoted(x, y)))


@graph_function("reciprocal")
def reciprocal(x: Any) -> Value:
    """1 / x; integers are divided as floats."""
    return div(1, as_value(x))


@graph_function("clip")
def clip(x: Any, low: Any = None, high: Any = None) -> Value:
    """x, but at least `low` and at most `high`, numbers or values that broadcast; None: no bound.
    As in NumPy `high` wins where the two contradict, and NaN stays NaN."""
    out = as_value(x)
    if low is not None:
        out = maximum(out, low)
    return out if high is None else minimum(out, high)


@graph_function("pow")
def power(x: Any, y: Any) -> Value:
    """x ** y. As in NumPy, the exponents 1 to 4, 0.5 and -1 (a float's) multiply, take the square
    root, and divide; integers to integers stay integers, and must not have negative exponents."""
    if isinstance(y, int | float) and not isinstance(y, bool):
        v = as_value(x)
        if v.dtype.is_integer and isinstance(y, int) and y < 0:
            raise DTypeError(f"power: {v.dtype} to the power {y}: integers have no negative powers",
                             "cast to float32 first")  # fmt: skip
        if y in (1, 2, 3, 4) and (v.dtype.is_float or isinstance(y, int)):
            square = v * v if y > 1 else v
            return v if y == 1 else square if y == 2 else square * v if y == 3 else square * square
        if v.dtype.is_float and y in (0.5, -1):
            return 1.0 / v if y == -1 else CALLS["sqrt"](v)
    a, b = promoted(x, y)
    if not a.dtype.is_integer:
        return make(Pow(), *_as_float(a, b))
    if b.dtype.kind == "i":
        b = CALLS["check"](b, b >= 0, "power: an integer has a negative exponent")
    return CALLS["integer_power"](a, b)  # type: ignore[no-any-return]


@graph_function("where")
def where(cond: Any, yes: Any, no: Any) -> Value:
    """`yes` where `cond` holds, else `no`."""
    c = condition(cond, "where", next((v for v in (yes, no) if isinstance(v, Value)), None))
    near = [v for v in (yes, no) if isinstance(v, Value)]
    a, b = (as_value(v, near[0] if near else None, c.node.owner) for v in (yes, no))
    return make(Where(), c, *promoted(a, b))


@graph_function("cast")
def cast(x: Any, dtype: Any) -> Value:
    """x converted to `dtype`; x itself if it has it already."""
    value, to = as_value(x), as_dtype(dtype)
    return value if value.dtype == to else make(Cast(to), value)
