"""Data types and promotion.

A `DType` names an element type: its short name is used in text forms (`f32`), its NumPy name in
the Python interface. Promotion follows NumPy with one difference, made for deep learning: a float
meets an integer of any width and keeps its own width (float32 + int64 is float32).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, TypeAlias

import numpy as np

from .errors import DTypeError, InternalError

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"


@dataclass(frozen=True)
class DType:
    """An element type. `kind`: b(ool), i(nt), u(int), f(loat). `bits` is the stored width."""

    name: str  # NumPy's name: "float32"
    short: str  # name in text forms: "f32"
    kind: str
    bits: int

    @property
    def itemsize(self) -> int:
        """Bytes of one stored element."""
        return self.bits // 8

    @cached_property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy dtype; bfloat16 comes from ml_dtypes, loaded on first use."""
        if self.name == "bfloat16":
            import ml_dtypes

            found: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
            return found
        return np.dtype(self.name)

    @property
    def is_float(self) -> bool:
        return self.kind == "f"

    @property
    def is_integer(self) -> bool:
        return self.kind in "iu"

    @property
    def computes(self) -> bool:
        """Whether arithmetic is defined on it; the 16-bit floats are stored and cast only."""
        return not (self.kind == "f" and self.bits == 16)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return self.short

    def __hash__(self) -> int:
        return hash(self.short)


bool_ = DType("bool", "b8", "b", 8)
int8, int16 = DType("int8", "i8", "i", 8), DType("int16", "i16", "i", 16)
int32, int64 = DType("int32", "i32", "i", 32), DType("int64", "i64", "i", 64)
uint8, uint16 = DType("uint8", "u8", "u", 8), DType("uint16", "u16", "u", 16)
uint32, uint64 = DType("uint32", "u32", "u", 32), DType("uint64", "u64", "u", 64)
float16, bfloat16 = DType("float16", "f16", "f", 16), DType("bfloat16", "bf16", "f", 16)
float32, float64 = DType("float32", "f32", "f", 32), DType("float64", "f64", "f", 64)

ALL = (bool_, int8, int16, int32, int64, uint8, uint16, uint32, uint64,
       float16, bfloat16, float32, float64)  # fmt: skip
FLOATS = (float32, float64)
_BY_NAME = {name: d for d in ALL for name in (d.name, d.short)}


def as_dtype(spec: object) -> DType:
    """A DType from a DType, a name ("float32", "f32"), a NumPy dtype or scalar type."""
    if isinstance(spec, DType):
        return spec
    name = spec if isinstance(spec, str) else repr(spec)
    if spec is not None and not isinstance(spec, str):
        with suppress(TypeError):
            name = np.dtype(spec).name  # type: ignore[call-overload]
    found = _BY_NAME.get(name)
    if found is None:
        supported = ", ".join(d.name for d in ALL)
        raise DTypeError(f"{name} is not a data type of flowmill", f"supported: {supported}")
    return found


def converted(given: Any, to: DType) -> Array:
    """An array or number as an array of `to`. DTypeError where integers cannot hold its values;
    fractions are cut off, as NumPy does."""
    array = np.asarray(given)
    if array.dtype == to.numpy or not to.is_integer or array.dtype.kind not in "iuf":
        return array.astype(to.numpy, copy=False)
    info = np.iinfo(to.numpy)
    bad = ~np.isfinite(array) if array.dtype.kind == "f" else np.zeros(array.shape, bool)
    bad = bad | (array > info.max) | (array < info.min)
    if bad.any():
        raise DTypeError(f"{array[bad].flat[0]} does not fit {to}")
    return array.astype(to.numpy)


def as_array(given: Any) -> Array:
    """The array that NumPy makes of a number, array or nested lists. DTypeError where it makes none
    of numbers."""
    try:
        array = np.asarray(given)
    except ValueError as e:
        raise DTypeError(f"this is no array: {e}") from None
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        what = repr(given) if given is None or isinstance(given, str) else type(given).__name__
        raise DTypeError(f"{what} is not made of numbers: NumPy calls its elements {array.dtype}")
    return array


@lru_cache(maxsize=1024)
def promote(a: DType, b: DType) -> DType:
    """The dtype arithmetic between `a` and `b` has."""
    if a == b:
        return a
    if a.kind == "b" or b.kind == "b":
        return b if a.kind == "b" else a
    if a.is_float != b.is_float:
        return a if a.is_float else b
    if {a.name, b.name} == {"float16", "bfloat16"}:
        return float32
    if a.kind == b.kind:
        return a if a.bits >= b.bits else b
    signed, unsigned = (a, b) if a.kind == "i" else (b, a)
    if signed.bits > unsigned.bits:
        return signed
    if unsigned.bits == 64:
        return float64
    return _BY_NAME[f"i{unsigned.bits * 2}"]


def of_scalar(value: object, beside: DType | None) -> DType:
    """The dtype a bare Python scalar takes next to a tensor of `beside` (None: alone).

    Python scalars are weak, as in NumPy 2: they never widen a tensor of their own or a higher kind.
    """
    if isinstance(value, bool | np.bool_):
        return beside or bool_
    if isinstance(value, int | np.integer):
        if beside is not None and beside.kind != "b":
            if beside.is_integer:
                info = np.iinfo(beside.numpy)
                if not info.min <= int(value) <= info.max:
                    raise DTypeError(f"{value} does not fit {beside}", "cast the tensor first")
            return beside
        return int64
    if isinstance(value, float | np.floating):
        return beside if beside is not None and beside.is_float else float32
    raise InternalError(f"not a scalar: {value!r}")


def sum_dtype(d: DType) -> DType:
    """What `sum` and `prod` return for `d`: NumPy widens small integers and bool to 64 bits."""
    if d.kind in "bi":
        return int64
    return uint64 if d.kind == "u" else d
