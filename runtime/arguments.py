"""Arguments of a run: what the user gives comes in, arrays of the right type and dims go out.

Sessions and loaded libraries check alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dims import evaluate, free_symbols, show
from ..dtypes import Array
from ..errors import DTypeError, FeedError, UserError
from .manifest import Area, Manifest


def checked(m: Manifest, inputs: Sequence[Any]) -> tuple[list[Array], dict[str, int]]:
    """Inputs as arrays of the right type, and the dims they imply. FeedError lists all that
    is wrong."""
    problems: list[str] = []
    arrays: list[Array] = []
    dims: dict[str, int] = {}
    for a, given in zip(m.inputs, inputs):
        try:
            arrays.append(_as_array(a, given))
        except UserError as e:
            problems.append(e.message)
    if not problems:
        for (k, axis), name in m.dim_sources.items():
            array = arrays[k]
            if array.ndim == len(m.inputs[k].shape):
                dims.setdefault(name, array.shape[axis])
        for a, array in zip(m.inputs, arrays):
            problem = _shape_problem(a, array, dims)
            if problem:
                problems.append(problem)
        for s in m.symbols:
            if s.name in dims and not problems:
                problems += _bound_problem(s.name, dims[s.name], s.lo, s.hi)
    if problems:
        raise FeedError(f"cannot run {m.name}: {problems[0]}", *problems[1:])
    return arrays, dims


def results(m: Manifest, dims: dict[str, int],
            outputs: Sequence[Array | None] | None = None) -> list[Array]:  # fmt: skip
    """Memory for the outputs: the caller's where given and fitting."""
    out: list[Array] = []
    for k, a in enumerate(m.outputs):
        shape = tuple(evaluate(d, dims) for d in a.shape)
        given = outputs[k] if outputs else None
        if given is None:
            out.append(np.empty(shape, a.dtype.numpy))
            continue
        fits = (isinstance(given, np.ndarray) and given.shape == shape
                and given.dtype == a.dtype.numpy and given.flags.c_contiguous
                and given.flags.writeable)  # fmt: skip
        if not fits:
            raise FeedError(f'out for "{a.name}" must be a writable, contiguous {a.dtype} '
                            f"array of shape {list(shape)}")  # fmt: skip
        out.append(given)
    return out


def _as_array(a: Area, given: Any) -> Array:
    dtype = a.dtype.numpy
    if isinstance(given, np.ndarray):
        if given.dtype != dtype:
            raise DTypeError(f'"{a.name}" takes {a.dtype}, it was fed {given.dtype}: '
                             f'use .astype("{a.dtype}")')  # fmt: skip
        return np.ascontiguousarray(given).reshape(given.shape)
    try:
        raw = np.asarray(given)
    except (TypeError, ValueError) as e:
        raise FeedError(f'"{a.name}" cannot be made an array: {e}') from None
    if raw.dtype == object or not (np.can_cast(raw.dtype, dtype, "same_kind") or
                                   (raw.dtype.kind in "iu" and dtype.kind in "iuf")):  # fmt: skip
        raise DTypeError(f'"{a.name}" takes {a.dtype}, it was fed {raw.dtype}')
    return np.ascontiguousarray(raw, dtype).reshape(raw.shape)


def _shape_problem(a: Area, array: Array, dims: dict[str, int]) -> str:
    wanted = "[" + ",".join(show(d) for d in a.shape) + "]"
    got = list(array.shape)
    if array.ndim != len(a.shape):
        return f'"{a.name}" has shape {wanted}, it was fed shape {got}'
    for k, d in enumerate(a.shape):
        missing = {s.name for s in free_symbols(d)} - dims.keys()
        if missing:
            return f'"{a.name}": dimension {sorted(missing)[0]} cannot be worked out from the feeds'
        if evaluate(d, dims) != array.shape[k]:
            known = ", ".join(f"{n} = {v}" for n, v in dims.items())
            return f'"{a.name}" has shape {wanted}, it was fed shape {got}' + (
                f" (other feeds say {known})" if known else ""
            )
    return ""


def _bound_problem(name: str, value: int, lo: int, hi: int | None) -> list[str]:
    if value < lo or (hi is not None and value > hi):
        limit = f"at least {lo}" + ("" if hi is None else f" and at most {hi}")
        return [f'dimension "{name}" must be {limit}, the feeds make it {value}']
    return []
