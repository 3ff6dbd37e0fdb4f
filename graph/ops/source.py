"""Where values come from: inputs, variables and constants."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...algorithm import Compute, Const, axis
from ...dtypes import Array, DType, as_array, as_dtype, converted
from ...errors import InternalError
from ...mapping import give_back
from ..ir import CALLS, Interner, Layout, Shape, TensorType, Value
from .base import Op, Operand, graph_function


@dataclass(frozen=True)
class Input(Op):
    """A value given at each run, or to a held function by the op that holds it."""

    input_name: str
    dtype: DType
    shape: Shape
    layout: Layout | None = None
    pure = False

    def infer(self, *types: TensorType) -> TensorType:
        return TensorType(self.dtype, self.shape, self.layout)


@dataclass(frozen=True)
class Variable(Op):
    """A value kept between runs; reading it gives its value at the start of the run."""

    variable_name: str
    dtype: DType
    shape: Shape
    trainable: bool = True
    pure = False

    def infer(self, *types: TensorType) -> TensorType:
        return TensorType(self.dtype, self.shape)


class Data:
    """The bytes of a constant. Equal bytes are equal data, unless they have labels that differ; the
    digest is computed once."""

    __slots__ = ("array", "digest")

    def __init__(self, array: Array, label: str = "") -> None:
        array = np.array(array, order="C", copy=not _is_frozen(array))
        array.setflags(write=False)
        self.array = array
        head = f"{label}{(array.dtype.name, array.shape)}"
        digest = hashlib.blake2b(head.encode(), digest_size=16)
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        self.digest = digest.hexdigest()
        give_back(array)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Data) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        if self.array.size <= 8:
            return repr(self.array.tolist())
        return f"data({self.digest})"


def _is_frozen(array: Array) -> bool:
    """Whether nobody can change the elements, through an array it is a view of either."""
    if not array.flags.c_contiguous:
        return False
    base: Any = array
    while isinstance(base, np.ndarray):
        if base.flags.writeable:
            return False
        base = base.base
    return True


@dataclass(frozen=True)
class Constant(Op):
    """A value known while compiling."""

    dtype: DType
    shape: Shape
    data: Data

    def infer(self, *types: TensorType) -> TensorType:
        return TensorType(self.dtype, self.shape)

    def ref(self, *xs: Array) -> Array:
        return self.data.array

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        if self.data.array.size != 1:
            raise InternalError("only one-element constants have an algorithm")
        return Compute(tuple(axis(d) for d in out.shape), (), None,
                       Const(self.data.array.reshape(()).item(), self.dtype))  # fmt: skip


@graph_function("constant")
def constant(value: Any, dtype: Any = None, owner: Interner | None = None,
             label: str = "") -> Value:  # fmt: skip
    """A constant from an array, list or scalar. Lists of floats become float32. Equal constants are
    one value, unless they have labels that differ."""
    array = as_array(value)
    if dtype is not None:
        found = as_dtype(dtype)
    else:
        found = as_dtype(array.dtype)
        if found.name == "float64" and not isinstance(value, np.ndarray | np.float64):
            found = as_dtype("float32")
    data = Data(converted(array, found), label)
    if owner is None:
        owner = CALLS["__current__"]()
    node = owner.node(Constant(found, tuple(int(d) for d in array.shape), data), ())
    return node.outputs[0]


def scalar_value(v: Value) -> float | int | bool | None:
    """The number a one-element constant holds, else None."""
    op = v.node.op
    if isinstance(op, Constant) and op.data.array.size == 1:
        return op.data.array.reshape(()).item()  # type: ignore[no-any-return]
    return None
