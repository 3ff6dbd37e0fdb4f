"""Reproducers: what was being compiled when flowmill itself failed, in one file.

In: the failing function with target and level. Out: a file in the cache folder that
`flowmill replay FILE` compiles again, and an InternalError that says so.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np

from .. import config
from ..dtypes import Array
from ..errors import InternalError, ModelError, UserError
from ..graph.formats import container
from ..graph.ir import Function
from ..graph.printer import large_data, show
from ..target import Target

FORMAT, VERSION = "flowmill-reproducer", "1"


def save(function: Function, target: Target, level: int, error: str, path: Path) -> None:
    """Writes a reproducer. ModelError where the path cannot be written."""
    arrays: dict[str, Array] = {f"data:{digest}": np.frombuffer(blob, np.uint8)
                                for digest, blob in large_data(function).items()}  # fmt: skip
    container.write(path, arrays, {
        "format": FORMAT, "version": VERSION, "graph": show(function), "level": str(level),
        "target": json.dumps(asdict(target)), "error": error,
    })  # fmt: skip


def load(path: Path) -> tuple[Function, Target, int, str]:
    """Function, target, level and the error of a reproducer. ModelError if it is damaged."""
    from ..graph.text import parse

    arrays, metadata = container.read(path)
    if (metadata.get("format"), metadata.get("version")) != (FORMAT, VERSION):
        raise ModelError(f"{path} holds no reproducer that this flowmill reads")
    data = {name.removeprefix("data:"): array.tobytes() for name, array in arrays.items()}
    try:
        fields = json.loads(metadata["target"])
        fields["level_bandwidth"] = tuple(fields["level_bandwidth"])
        function = parse(metadata["graph"], data=data)
        return function, Target(**fields), int(metadata["level"]), metadata["error"]
    except (UserError, ValueError, KeyError, TypeError) as e:
        raise ModelError(f"{path} is damaged: {e}") from None


def reported(error: Exception, function: Function, target: Target, level: int) -> InternalError:
    """The error to raise for a failure of flowmill: with a reproducer, if one can be saved."""
    what = str(error) if isinstance(error, InternalError) else f"{type(error).__name__}: {error}"
    hint = ""
    with suppress(OSError, UserError, InternalError):
        folder = config.cache_dir() / "failures"
        folder.mkdir(parents=True, exist_ok=True)
        digest = hashlib.blake2b(
            f"{show(function)} {target} {level} {what}".encode(), digest_size=6
        )
        path = folder / f"{function.name}-{digest.hexdigest()}.fm"
        save(function, target, level, what, path)
        hint = f"\n  this is a bug in flowmill; to replay it: python -m flowmill replay {path}"
    return InternalError(what + hint)
