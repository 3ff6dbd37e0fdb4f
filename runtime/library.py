"""Exported libraries in Python: `fm.load("liblenet.so")`, without a compiler.

In: the path of a library that `fm.export` wrote. Out: a `Library` whose methods are the library's
functions, on NumPy arrays, with the same bits as the session it came from. Everything goes through
the C interface; the manifest inside the library says what there is.
"""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import config
from ..codegen.interface import ABI, CODE, OPTION, SITE_CODES
from ..dtypes import Array
from ..errors import (
    CheckpointError,
    ExportError,
    FeedError,
    FetchError,
    InternalError,
    ModelError,
    RunError,
)
from . import native
from .arguments import checked, results, trimmed
from .manifest import Area, Manifest
from .state import State, aligned

FORMAT = 1
_RUN_CODES = frozenset(CODE[name] for name in SITE_CODES.values())


def load(path: str | os.PathLike[str], threads: int | None = None,
         weights: str | os.PathLike[str] | None = None) -> Library:  # fmt: skip
    """Loads an exported library. `threads`: how many a run may use (None: what affinity and cgroup
    allow). `weights`: a safetensors file to begin with, instead of the library's own.

    ExportError if the file is no library of flowmill's, is of another version, or cannot run here.
    """
    return Library(Path(path), threads, weights)


class Library:
    """A loaded library. Functions are called by keyword, or in the order of their inputs:
    `lib.infer(x=array)`; one output comes as an array, several as a dict. Several threads may call
    at once; functions that change variables take turns."""

    def __init__(self, path: Path, threads: int | None = None,
                 weights: str | os.PathLike[str] | None = None) -> None:  # fmt: skip
        self._contexts: list[_Context] = []
        self._free: list[_Context] = []
        self._threads = config.thread_count(threads)
        self._library = native.load_file(path.absolute())
        raw = _manifest(self._library, path)
        self.name: str = raw["name"]
        self.manifest: dict[str, Any] = raw
        self.functions = {key: Manifest.parse(json.dumps(m)) for key, m in raw["functions"].items()}
        self._areas: dict[str, tuple[int, Area]] = {
            a.name: (k, a) for m in self.functions.values() for k, a in enumerate(m.variables)
        }
        self._locks = State()  # one writer, many readers
        self._threads = threads or config.available_threads()
        image = _weights_path(path, raw, weights)
        self._main = _Context(self, image, None)
        self._contexts.append(self._main)

    # --- running ----------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self.functions:
            raise AttributeError(f"the library has no function {name!r}")
        return partial(self.call, name)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.functions]

    def call(self, function: str, *args: Any, **inputs: Any) -> Any:
        """Runs a function. FeedError for inputs that do not fit, RunError for a failed check;
        variables are then as they were."""
        m = self.functions.get(function)
        if m is None:
            raise FetchError(f"the library has no function {function!r}",
                             f"functions: {', '.join(self.functions)}")  # fmt: skip
        arrays, dims = checked(m, _ordered(m, args, inputs))
        outs = results(m, dims)
        if m.written:
            with self._locks.writing():
                self._main.run(function, m, dims, arrays, outs)
        else:
            with self._locks.reading(), self._reader() as context:
                context.run(function, m, dims, arrays, outs)
        outs = trimmed(m, dims, outs)
        if len(outs) == 1:
            return outs[0]
        return {a.name: out for a, out in zip(m.results, outs)}

    @contextmanager
    def _reader(self) -> Iterator[_Context]:
        """A context nobody uses; new ones share the variables of the first."""
        try:
            context = self._free.pop()
        except IndexError:
            context = _Context(self, None, self._main)
            self._contexts.append(context)
        try:
            yield context
        finally:
            self._free.append(context)

    # --- variables --------------------------------------------------------------------------

    @property
    def variables(self) -> dict[str, Array]:
        """A copy of every variable by name."""
        return {name: self.get(name) for name in self._areas}

    def get(self, variable: str) -> Array:
        """A copy of one variable's value."""
        number, area = self._find(variable)
        out = np.empty(tuple(d for d in area.shape if isinstance(d, int)), area.dtype.numpy)
        with self._locks.writing():
            self._main.check("get_variable", number, out.ctypes.data, out.nbytes)
        return out

    def set(self, variable: str, value: Any) -> None:
        """Sets one variable. FeedError if shape or dtype do not fit."""
        number, area = self._find(variable)
        array = np.asarray(value)
        if array.shape != area.shape or not np.can_cast(array.dtype, area.dtype.numpy, "same_kind"):
            raise FeedError(f'"{variable}" is {area.dtype}{list(area.shape)}, given '
                            f"{array.dtype}{list(array.shape)}")  # fmt: skip
        array = np.ascontiguousarray(array, area.dtype.numpy)
        with self._locks.writing():
            self._main.check("set_variable", number, array.ctypes.data, array.nbytes)

    def save_state(self) -> bytes:
        """All variables as a safetensors image."""
        out = np.empty(self._main.size("saved_bytes"), np.uint8)
        with self._locks.writing():
            self._main.check("save_state", out.ctypes.data, out.nbytes)
        return out.tobytes()

    def load_state(self, image: bytes) -> None:
        """Takes all variables from an image, of `save_state` or of a safetensors file.
        CheckpointError, and nothing changed, if it is damaged or of another model."""
        data = np.frombuffer(image, np.uint8)
        with self._locks.writing():
            self._main.check("load_state", data.ctypes.data, data.nbytes)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes all variables to a safetensors file, atomically."""
        temporary = f"{os.fspath(path)}.tmp{os.getpid()}"
        try:
            Path(temporary).write_bytes(self.save_state())
            os.replace(temporary, path)
        except OSError as e:
            with suppress(OSError):
                os.unlink(temporary)
            raise CheckpointError(f"cannot write {path}: {e.strerror}") from None

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Reads all variables from a safetensors file."""
        try:
            image = Path(path).read_bytes()
        except OSError as e:
            raise CheckpointError(f"cannot read {path}: {e.strerror}") from None
        self.load_state(image)

    def reset(self) -> None:
        """Variables as they were when the library was loaded."""
        with self._locks.writing():
            self._main.check("reset")

    def _find(self, variable: str) -> tuple[int, Area]:
        if variable not in self._areas:
            raise FetchError(f'there is no variable "{variable}"',
                             f"variables: {', '.join(list(self._areas)[:12])}")  # fmt: skip
        return self._areas[variable]

    def close(self) -> None:
        """Gives back the library's memory; nothing may run, nor be called afterwards."""
        while self._contexts:
            self._contexts.pop().close()
        self._free.clear()

    def __enter__(self) -> Library:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        with suppress(AttributeError, TypeError):  # half made, or Python is ending
            self.close()


class _Context:
    """A context of the C interface, one call at a time."""

    def __init__(self, owner: Library, image: str | None, share: _Context | None) -> None:
        self._library, self._prefix = owner._library, owner.name
        self._memory = aligned(self.size("context_bytes"))
        self._at = self._memory.ctypes.data
        words = (ctypes.c_uint64 * (OPTION["largest"] // 8 + 64))()
        words[0] = _signature(owner)
        words[OPTION["threads"] // 8] = owner._threads
        path = ctypes.create_string_buffer(os.fsencode(image or ""))
        if image is not None:
            words[OPTION["weights_path"] // 8] = ctypes.addressof(path)
        if share is not None:
            words[OPTION["share"] // 8] = share._at
        self.check("init", ctypes.addressof(words))

    def _function(self, name: str, result: Any) -> Any:
        found = self._library[f"{self._prefix}_{name}"]
        found.restype = result
        return found

    def size(self, name: str) -> int:
        return int(self._function(name, ctypes.c_uint64)())

    def run(self, name: str, m: Manifest, dims: dict[str, int], arrays: list[Array],
            outs: list[Array]) -> None:  # fmt: skip
        words = [dims[s.name] for s in m.symbols]
        words += [int(a.ctypes.data) for a in (*arrays, *outs)]
        args = (ctypes.c_int64 * max(len(words), 1))(*words)
        self.check(name, ctypes.addressof(args))

    def check(self, name: str, *args: int) -> None:
        """Calls a function of the context; raises what its code means."""
        given = [ctypes.c_uint64(a) for a in args]
        code = int(self._function(name, ctypes.c_int32)(ctypes.c_void_p(self._at), *given))
        if code:
            raise self._error(code)

    def _error(self, code: int) -> Exception:
        last = self._function("last_error", ctypes.c_char_p)(ctypes.c_void_p(self._at))
        text = last.decode(errors="replace")
        if code in _RUN_CODES:
            return RunError(text, "variables are as they were before the run")
        if code == CODE["BAD_STATE"]:
            return CheckpointError(text, "variables are as they were")
        if code in (CODE["NO_MEMORY"], CODE["BAD_DIMENSION"], CODE["NULL_ARGUMENT"]):
            return FeedError(text)
        if code in (CODE["NO_WEIGHTS"], CODE["FILE_ERROR"], CODE["UNSUPPORTED_CPU"],
                    CODE["MISALIGNED"]):  # fmt: skip
            return ExportError(text)
        return InternalError(f"the library reports code {code}: {text}")

    def close(self) -> None:
        self._function("close", ctypes.c_int32)(ctypes.c_void_p(self._at))


def _manifest(library: ctypes.CDLL, path: Path) -> dict[str, Any]:
    """The manifest inside a library."""
    name = path.name.split(".")[0].removeprefix("lib")
    try:
        text = library[f"{name}_manifest_text"]
    except AttributeError:
        raise ExportError(f"{path} is no library of flowmill's, or was renamed",
                          "the file's name must be the one it was exported under") from None  # fmt: skip
    text.restype = ctypes.c_char_p
    try:
        raw: dict[str, Any] = json.loads(text().decode())
    except ValueError:
        raise ModelError(f"the manifest inside {path} is damaged") from None
    if raw.get("format") != FORMAT or raw.get("abi") != ABI:
        raise ExportError(f"{path} was exported by another version of flowmill",
                          f"its interface is {raw.get('abi')}, this flowmill reads {ABI}")  # fmt: skip
    return raw


def _signature(owner: Library) -> int:
    """What init must be told; the library's own, since no header is involved."""
    return int(owner.manifest["signature"])


def _weights_path(path: Path, raw: dict[str, Any], given: Any) -> str | None:
    if given is not None:
        return str(os.fspath(given))
    if raw["weights"] == "file":
        return str(path.absolute().with_name(raw["weights_file"]))
    if raw["weights"] == "caller":
        raise ExportError(f"{path} has no weights of its own", 'give a file: weights="..."')
    return None


def _ordered(m: Manifest, args: tuple[Any, ...], inputs: dict[str, Any]) -> list[Any]:
    """Inputs in the manifest's order. FeedError names all that are missing or unknown."""
    names = [a.name for a in m.inputs]
    given = dict(zip(names, args))
    problems = [f'"{n}" is given twice' for n in inputs if n in given]
    problems += [f'there is no input "{n}"' for n in inputs if n not in names]
    if len(args) > len(names):
        problems.append(f"{len(args)} arrays were given")
    given |= inputs
    problems += [f'"{n}" is not given' for n in names if n not in given]
    if problems:
        raise FeedError(f"{m.name} takes {', '.join(names) or 'no inputs'}: {problems[0]}",
                        *problems[1:])  # fmt: skip
    return [given[n] for n in names]
