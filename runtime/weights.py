"""Weights of other frameworks into variables, by name.

In: a safetensors file of anybody's, or arrays by name (a `state_dict` of PyTorch). Out: the
variables of a state set, all that were found or, where something does not fit, none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..dtypes import Array
from ..errors import CheckpointError, ModelError
from ..graph.formats import container
from .state import State

_UNCHANGED = "variables are as they were"


class Loaded(NamedTuple):
    """What `load_weights` did not find, as PyTorch's `load_state_dict` says it: variables for which
    there was no array, and arrays (by their own names) for which there was no variable."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]


def load_weights(
    state: State, source: str | os.PathLike[str] | Mapping[str, Any],
    rename: Mapping[str, str | None] | None = None,
    transpose: Mapping[str, Sequence[int]] | None = None, strict: bool = True,
) -> Loaded:  # fmt: skip
    """See `Session.load_weights`."""
    arrays = _arrays(source)
    found: dict[str, Array] = {}
    unexpected: list[str] = []
    problems: list[str] = []
    origin: dict[str, str] = {}
    for key, given in arrays.items():
        name = _renamed(key, rename or {})
        if name is None:
            continue
        if name not in state.arrays:
            unexpected.append(key)
        elif name in origin:
            problems.append(f'"{origin[name]}" and "{key}" are both for "{name}"')
        else:
            origin[name] = key
            found[name] = given
            for pattern, axes in (transpose or {}).items():
                if _matches(pattern, name):
                    found[name] = _transposed(given, axes, key, problems)
                    break
    missing = [name for name in state.arrays if name not in found]
    for name, array in found.items():
        home = state.arrays[name]
        if array.shape != home.shape:
            turned = array.ndim > 1 and array.T.shape == home.shape
            problems.append(f'"{origin[name]}" is {list(array.shape)}, "{name}" {list(home.shape)}'
                            + (": transpose it?" if turned else ""))  # fmt: skip
        elif not np.can_cast(array.dtype, home.dtype, "same_kind"):
            problems.append(f'"{origin[name]}" is {array.dtype}, "{name}" {home.dtype}')
    if strict:
        problems += [f'nothing is for "{name}" ({list(state.arrays[name].shape)})'
                     for name in missing]  # fmt: skip
        problems += [f'"{key}" ({list(arrays[key].shape)}) is for no variable'
                     for key in unexpected]  # fmt: skip
    if problems:
        raise CheckpointError("the weights do not fit the graph", *problems,
                              f"variables: {', '.join(list(state.arrays)[:12])}", _UNCHANGED)  # fmt: skip
    state.write(found)
    return Loaded(tuple(missing), tuple(unexpected))


def _arrays(source: Any) -> dict[str, Array]:
    if not isinstance(source, Mapping):
        try:
            return container.read_plain(source)
        except ModelError as e:
            raise CheckpointError(e.message, *e.notes, _UNCHANGED) from None
    out: dict[str, Array] = {}
    for key, given in source.items():
        try:
            out[str(key)] = np.asarray(given)
        except (TypeError, ValueError, RuntimeError) as e:
            raise CheckpointError(f'"{key}" cannot be made an array: {e}',
                                  "of a tensor of PyTorch give .detach().cpu().float()",
                                  _UNCHANGED) from None  # fmt: skip
    return out


def _renamed(key: str, rename: Mapping[str, str | None]) -> str | None:
    """The variable's name for an array's; None where it is left out."""
    for pattern, text in rename.items():
        if text is None:
            if _matches(pattern, key):
                return None
            continue
        try:
            key = re.sub(pattern, text, key)
        except re.error as e:
            raise CheckpointError(f"the pattern {pattern!r} is none: {e}") from None
    return key


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.search(pattern, name) is not None
    except re.error as e:
        raise CheckpointError(f"the pattern {pattern!r} is none: {e}") from None


def _transposed(array: Array, axes: Sequence[int], key: str, problems: list[str]) -> Array:
    if sorted(axes) != list(range(array.ndim)):
        problems.append(f'"{key}" has {array.ndim} axes, it cannot be transposed by {list(axes)}')
        return array
    return array.transpose(axes)
