"""The fast call: a plan of a program's arguments comes in, a plain C function for Python goes out.

`FastCall(...).call(*arrays)` checks the arrays, fills the frame and runs the program without any
Python in between (30 ns for three arrays), or returns MISMATCH or IN_USE without running it, see
`codegen/pycall.py`. It accepts exact, C-contiguous, aligned NumPy arrays of native byte order only:
everything else is for the slow path, which converts or explains. So are arrays to write to that
share memory with an argument before them.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..codegen import pycall as layout
from ..errors import InternalError

_C_CONTIGUOUS, _ALIGNED = 0x1, 0x100  # NumPy's flag bits
_METH_FASTCALL = 0x80
_I64_MAX = 2**63 - 1
# Scalar types that do not tell the whole dtype: bytes, str and records have a length, times a unit.
_SIZED = (np.flexible, np.datetime64, np.timedelta64, np.object_)


@dataclass(frozen=True)
class DimPlan:
    """A symbolic dimension: where its i64 goes in the frame (bytes), and which values may run.

    `most` must not exceed what the frame's arena was sized for.
    """

    offset: int
    least: int = 0
    most: int = _I64_MAX
    multiple: int = 1


@dataclass(frozen=True)
class ArgPlan:
    """One positional argument: its type, and where its data address goes in the frame (bytes).

    Each entry of `shape` is a size or the name of a symbolic dimension.
    """

    dtype: np.dtype[Any]
    shape: tuple[int | str, ...]
    offset: int
    writable: bool = False


class _MethodDef(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


@functools.cache
def _method(symbol: int) -> _MethodDef:
    """The method definition of a compiled `fm_pycall`; kept for good, as CPython points to it."""
    return _MethodDef(b"flowmill_run", symbol, _METH_FASTCALL, None)


@functools.cache
def supported() -> bool:
    """Whether this interpreter and this NumPy lay out objects as the compiled code reads them.

    False on other Pythons than CPython, on free-threaded and debug builds, and off 64-bit.
    """
    if sys.implementation.name != "cpython" or object.__basicsize__ != 16:
        return False
    if np.ndarray.__basicsize__ < layout.ARRAY_FLAGS + 4:
        return False
    if ctypes.sizeof(ctypes.c_void_p) != 8 or ctypes.sizeof(ctypes.c_long) != 8:
        return False
    if not all(hasattr(ctypes.pythonapi, name) for name in (*_PYTHON_API, "PyCFunction_NewEx")):
        return False
    frozen = np.ones((3, 5), np.int64)[:, ::2]
    frozen.flags.writeable = False
    samples = (
        np.arange(6, dtype=np.float32).reshape(1, 2, 3),
        np.zeros((), np.bool_),
        np.zeros((2, 0, 7), ">i4"),
        frozen,
    )
    return all(_laid_out_as_read(a) for a in samples)


def _laid_out_as_read(array: np.ndarray[Any, Any]) -> bool:
    at, dtype = id(array), id(array.dtype)
    word = ctypes.c_void_p.from_address
    read = (
        word(at + layout.OBJECT_TYPE).value,
        word(at + layout.ARRAY_DTYPE).value,
        word(at + layout.ARRAY_DATA).value,
        ctypes.c_int.from_address(at + layout.ARRAY_RANK).value,
        ctypes.c_int.from_address(at + layout.ARRAY_FLAGS).value,
    )
    if read != (id(np.ndarray), dtype, array.ctypes.data, array.ndim, array.flags.num):
        return False
    shape = word(at + layout.ARRAY_SHAPE).value or 0
    if array.ndim and tuple((ctypes.c_int64 * array.ndim).from_address(shape)) != array.shape:
        return False
    scalar = word(dtype + layout.DTYPE_SCALAR).value
    order = ctypes.c_char.from_address(dtype + layout.DTYPE_ORDER).value
    return (scalar, order) == (id(array.dtype.type), _order(array.dtype))


def _order(dtype: np.dtype[Any]) -> bytes:
    return dtype.byteorder.encode()


_PYTHON_API = ("PyLong_FromLong", "PyEval_SaveThread", "PyEval_RestoreThread")


def _python(name: str) -> int:
    return ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value or 0


class FastCall:
    """A callable for one program and one frame.

    symbol: address of the compiled `fm_pycall`, whose code must stay loaded for good.
    entry: address of the program, `i32 entry(void *frame)`; its status must not be negative.
    frame, frame_bytes: where the program reads its arguments. Whatever else the frame holds (the
        arena, the weights) is written beforehand by its owner.
    args, dims: the positional arguments in order and the symbolic dimensions in their shapes.
    release_gil: let other Python threads run meanwhile; costs 40 ns, for long programs.
    guard: address of an i32 that is 1 while somebody uses the frame, taken with
        `fm_pycall_claim`; by default one of its own, then nobody else may use the frame.
    owner: anything that must live as long as the callable: the frame's memory, the loaded program.

    `call` is safe in several Python threads at once. Raises InternalError if `supported()` is
    False or the plan contradicts itself.
    """

    call: Callable[..., int]

    def __init__(
        self,
        symbol: int,
        entry: int,
        frame: int,
        frame_bytes: int,
        args: Sequence[ArgPlan],
        dims: dict[str, DimPlan],
        *,
        release_gil: bool = False,
        guard: int | None = None,
        owner: object = None,
    ) -> None:
        if not supported():
            raise InternalError("the fast call does not fit this interpreter: use the slow path")
        if not (symbol and entry and frame):
            raise InternalError("fast call with a null address")
        for offset in (*(a.offset for a in args), *(d.offset for d in dims.values())):
            if offset % 8 or not 0 <= offset <= frame_bytes - 8:
                raise InternalError(f"no word at offset {offset} of a {frame_bytes}-byte frame")
        save, restore = _python("PyEval_SaveThread"), _python("PyEval_RestoreThread")
        header = [len(args), frame, entry, guard or 0, id(np.ndarray), _python("PyLong_FromLong")]
        header += [save, restore] if release_gil else [0, 0]
        words = np.array([*header, *_records(args, dims), 0], np.int64)
        if guard is None:
            words[3] = words.ctypes.data + words.nbytes - 8  # the last word is the guard
        words.flags.writeable = False
        # The callable holds its `self`, the plan, and its `module`: all that its addresses need.
        new = ctypes.PYFUNCTYPE(
            ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.py_object
        )(("PyCFunction_NewEx", ctypes.pythonapi))
        keep = (owner, tuple(a.dtype.type for a in args))
        self.call = new(ctypes.addressof(_method(symbol)), words, keep)


def _records(args: Sequence[ArgPlan], dims: dict[str, DimPlan]) -> Iterator[int]:
    """The argument and dimension records, in the words of `codegen/pycall.py`."""
    bound: set[str] = set()
    for arg in args:
        order = _order(arg.dtype)
        if order not in (b"=", b"|") or issubclass(arg.dtype.type, _SIZED):
            raise InternalError(f"fast call cannot take {arg.dtype!r}")
        flags = _C_CONTIGUOUS | _ALIGNED | (layout.WRITEABLE if arg.writable else 0)
        yield from (id(arg.dtype.type), order[0], flags, len(arg.shape), arg.offset)
        yield from (arg.dtype.itemsize, 0, 0)
        for size in arg.shape:
            if isinstance(size, int):
                yield from (layout.FIXED, 0, size, size, 1)
                continue
            dim = dims.get(size)
            if dim is None or dim.multiple < 1 or dim.least < 0:
                raise InternalError(f"no such dimension in a fast call: {size}: {dim}")
            kind = layout.MATCH if size in bound else layout.BIND
            bound.add(size)
            yield from (kind, dim.offset, dim.least, dim.most, dim.multiple)
    if bound != dims.keys():
        raise InternalError(f"no argument has dimension {sorted(dims.keys() - bound)}")
