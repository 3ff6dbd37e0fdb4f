"""Checkpoints: the variables of a session in one safetensors file.

In: a `State`. Out: a file that any safetensors reader opens, written whole or not at all; and back,
into a state of the same names, shapes and dtypes, all of it or nothing.
"""

from __future__ import annotations

import os

from ..errors import CheckpointError, ModelError
from ..graph.formats import container
from .state import State

FORMAT, VERSION = "flowmill-checkpoint", "1"
_LISTED = 8  # complaints of each kind that an error spells out


def save(state: State, path: str | os.PathLike[str]) -> None:
    """Writes all variables as they are between two runs. CheckpointError where that cannot be."""
    try:
        container.write(path, state.snapshot(), {"format": FORMAT, "version": VERSION})
    except ModelError as e:
        raise CheckpointError(e.message, *e.notes, "variables were not saved") from None


def restore(state: State, path: str | os.PathLike[str]) -> None:
    """Sets all variables to what `save` wrote. CheckpointError, and nothing changed, where the file
    is missing or damaged, or has not exactly the names, shapes and dtypes of `state`."""
    try:
        arrays, metadata = container.read(path)
    except ModelError as e:
        raise CheckpointError(e.message, *e.notes, _UNCHANGED) from None
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a checkpoint, it holds {metadata.get('format')}",
                              _UNCHANGED)  # fmt: skip
    if metadata.get("version") != VERSION:
        raise CheckpointError(f"{path} is a checkpoint of version {metadata.get('version')}, this "
                              f"flowmill reads version {VERSION}", _UNCHANGED)  # fmt: skip
    problems = _differences(
        {n: (tuple(a.shape), str(a.dtype)) for n, a in arrays.items()},
        {n: (tuple(a.shape), str(a.dtype)) for n, a in state.arrays.items()},
    )
    if problems:
        raise CheckpointError(f"{path} belongs to another model", *problems, _UNCHANGED)
    state.write(arrays)


_UNCHANGED = "variables are as they were"


def _differences(
    stored: dict[str, tuple[tuple[int, ...], str]], wanted: dict[str, tuple[tuple[int, ...], str]]
) -> list[str]:  # fmt: skip
    """What keeps `stored` from being `wanted`, in words."""

    def text(found: tuple[tuple[int, ...], str]) -> str:
        return f"{found[1]}{list(found[0])}"

    absent = [f'"{n}" ({text(t)}) is missing from the file'
              for n, t in wanted.items() if n not in stored]  # fmt: skip
    unknown = [f'"{n}" ({text(t)}) is no variable of this graph'
               for n, t in stored.items() if n not in wanted]  # fmt: skip
    differs = [f'"{n}" is {text(wanted[n])}, in the file it is {text(t)}'
               for n, t in stored.items() if n in wanted and t != wanted[n]]  # fmt: skip
    out: list[str] = []
    for kind in (absent, unknown, differs):
        out += kind[:_LISTED]
        if len(kind) > _LISTED:
            out.append(f"... and {len(kind) - _LISTED} more")
    return out
