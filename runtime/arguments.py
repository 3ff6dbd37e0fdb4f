"""Arguments of a run: what the user gives comes in, arrays of the right type and dims go out.

Sessions and loaded libraries check alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from ..codegen.kernel.frame import TOLD
from ..dims import evaluate, free_symbols, show
from ..dtypes import Array
from ..errors import DTypeError, FeedError, RunError, UserError
from ..graph.ir import Value
from .manifest import Area, Manifest, Symbol


def checked(m: Manifest, inputs: Sequence[Any], places: Sequence[str] = ()
            ) -> tuple[list[Array], dict[str, int]]:  # fmt: skip
    """Inputs as arrays of the right type, and the dims they imply. FeedError lists all that
    is wrong; `places` are the user's lines of the inputs (`Loc.aside`), to go with that."""
    problems: list[str] = []
    arrays: list[Array] = []
    dims: dict[str, int] = {}
    where = places or [""] * len(m.inputs)
    for a, given, place in zip(m.inputs, inputs, where):
        try:
            arrays.append(_as_array(a, given))
        except UserError as e:
            problems.append(e.message + place)
            problems += _rank_problem(a, given, place)
    if not problems:
        for (k, axis), name in m.dim_sources.items():
            array = arrays[k]
            if array.ndim == len(m.inputs[k].shape):
                dims.setdefault(name, array.shape[axis])
        for a, array, place in zip(m.inputs, arrays, where):
            problem = _shape_problem(a, array, dims)
            if problem:
                problems.append(problem + place)
        for s in m.symbols:
            if s.name in dims and not problems:
                problems += _bound_problem(s, dims[s.name])
        if not problems:
            problems += [p for r in m.requires if (p := r.violation(dims))]
    else:
        for a, given, place in zip(m.inputs, inputs, where):
            if isinstance(given, np.ndarray) and given.dtype == a.dtype.numpy:
                problems += _rank_problem(a, given, place)
    if problems:
        raise FeedError(f"cannot run: {problems[0]}", *problems[1:])
    return arrays, dims


def results(m: Manifest, dims: dict[str, int],
            outputs: Sequence[Array | None] | None = None) -> list[Array]:  # fmt: skip
    """Memory for the outputs, as large as they can become: the caller's where given and fitting.
    FeedError otherwise."""
    out: list[Array] = []
    room = m.room(dims)
    for k, a in enumerate(m.outputs):
        shape = tuple(evaluate(d, room) for d in a.shape)
        given = outputs[k] if outputs and k < len(m.results) else None
        if given is not None and any(s.name not in dims for d in a.shape for s in free_symbols(d)):
            raise FeedError(f'"{a.name}" is {_shown(a)}: how large it is the run finds out',
                            "leave its memory to the session")  # fmt: skip
        if given is None:
            try:
                out.append(np.empty(shape, a.dtype.numpy))
            except (MemoryError, ValueError):
                raise RunError(f"the system gives no memory for a result {a.dtype}{list(shape)}"
                               ) from None  # fmt: skip
            continue
        fits = (isinstance(given, np.ndarray) and given.shape == shape
                and given.dtype == a.dtype.numpy and given.flags.c_contiguous
                and given.flags.writeable)  # fmt: skip
        if not fits:
            which = "out" if len(m.results) == 1 else f"result {k} of out"
            raise FeedError(f"{which} must be a writable, contiguous {a.dtype} array of shape "
                            f"{list(shape)}")  # fmt: skip
        out.append(given)
    return out


def trimmed(m: Manifest, dims: dict[str, int], outs: list[Array]) -> list[Array]:
    """The results of a run in their true sizes. `dims` gets the sizes that came with them."""
    if not m.told:
        return outs
    for a, n in zip(m.outputs[len(m.results) :], outs[len(m.results) :]):
        dims[a.name.removeprefix(TOLD)] = int(n)
    made = []
    for a, out in zip(m.results, outs):
        shape = tuple(evaluate(d, dims) for d in a.shape)
        made.append(out if out.shape == shape else out.reshape(-1)[: prod(shape)].reshape(shape))
    return made


def overlap(inputs: Sequence[Array], given: Sequence[Array | None]) -> None:
    """FeedError where memory for results is also memory of an input or of another result."""
    busy = list(inputs)
    for array in given:
        if array is None:
            continue
        if any(np.may_share_memory(array, other) for other in busy):
            raise FeedError("an array of `out` shares memory with another argument",
                            "give every result memory of its own")  # fmt: skip
        busy.append(array)


def _as_array(a: Area, given: Any) -> Array:
    dtype = a.dtype.numpy
    if isinstance(given, Value):
        raise DTypeError(f'"{a.name}" was fed {given!r}, a value of a graph: feed an array')
    if isinstance(given, np.ndarray):
        if given.dtype.newbyteorder("=") != dtype:
            hint = f': use .astype("{a.dtype}")' if given.dtype.kind in "biuf" else ""
            raise DTypeError(f'"{a.name}" takes {a.dtype}, it was fed {given.dtype}{hint}')
        return np.require(given, dtype, ("C", "A"))
    try:
        raw = np.asarray(given)
    except (TypeError, ValueError) as e:
        raise FeedError(f'"{a.name}" cannot be made an array: {e}') from None
    if raw.dtype == object or not (np.can_cast(raw.dtype, dtype, "same_kind") or
                                   (raw.dtype.kind in "iu" and dtype.kind in "iuf")):  # fmt: skip
        what = "None" if given is None else str(raw.dtype)
        raise DTypeError(f'"{a.name}" takes {a.dtype}, it was fed {what}')
    with np.errstate(over="ignore"):
        made = np.require(raw, dtype, ("C", "A"))
    lost = made != raw
    if dtype.kind == "f":
        lost &= abs(made) == np.inf  # the others are rounded
    if lost.any():
        raise DTypeError(f'"{a.name}" takes {a.dtype}, which cannot hold {raw[lost].flat[0]}')
    return made


def _shown(a: Area) -> str:
    return f"{a.dtype}[{','.join(map(show, a.shape))}]"


def _rank_problem(a: Area, given: Any, place: str) -> list[str]:
    """What is wrong with a shape, as far as one feed alone tells."""
    shape = np.shape(given) if isinstance(given, np.ndarray) else None
    if shape is None:
        return []
    fits = len(shape) == len(a.shape) and all(
        d == n for d, n in zip(a.shape, shape) if isinstance(d, int)
    )
    return [] if fits else [_wrong_shape(a, list(shape)) + place]


def _wrong_shape(a: Area, got: list[int]) -> str:
    return f'"{a.name}" has shape [{",".join(map(show, a.shape))}], it was fed shape {got}'


def feed_problems(feeds: Mapping[Value, Any]) -> list[str]:
    """What is wrong with arrays that are fed, as far as each alone tells."""
    problems: list[str] = []
    for v, given in feeds.items():
        area = Area(v.name or v.node.op.name, v.dtype, v.shape)
        place = v.node.loc.aside
        try:
            problems += _rank_problem(area, _as_array(area, given), place)
        except UserError as e:
            problems.append(e.message + place)
            problems += _rank_problem(area, given, place)
    return problems


def _shape_problem(a: Area, array: Array, dims: dict[str, int]) -> str:
    wrong = _wrong_shape(a, list(array.shape))
    if array.ndim != len(a.shape):
        return wrong
    for k, d in enumerate(a.shape):
        missing = {s.name for s in free_symbols(d)} - dims.keys()
        if missing:
            return f'"{a.name}": dimension {sorted(missing)[0]} cannot be worked out from the feeds'
        if evaluate(d, dims) != array.shape[k]:
            known = ", ".join(f"{n} = {v}" for n, v in dims.items())
            return wrong + (f" (the feeds say {known})" if known else "")
    return ""


def _bound_problem(s: Symbol, value: int) -> list[str]:
    if s.lo <= value and (s.hi is None or value <= s.hi) and value % s.multiple == 0:
        return []
    limit = f"at least {s.lo}" + ("" if s.hi is None else f" and at most {s.hi}")
    limit += "" if s.multiple == 1 else f" and a multiple of {s.multiple}"
    return [f'dimension "{s.name}" must be {limit}, the feeds make it {value}']
