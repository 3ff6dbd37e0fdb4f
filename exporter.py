"""From a module to files that need no Python: shared object, header, objects, archive, weights.

In: a `Module` or `Graph` and the values of its variables. Out: the paths of what was written, each
complete or not there at all.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from . import config
from . import target as targets
from .codegen import weights_image
from .codegen.interface import ABI, Interface, identifier
from .codegen.kernel.program import Array as Area
from .dtypes import Array, as_dtype
from .errors import ConfigError, ExportError
from .graph.definition import Graph, initial_values
from .graph.module import Module
from .runtime.manifest import Manifest
from .target import Target

FORMAT = 1  # of the library's manifest
_WEIGHTS = ("embed", "file", "caller")
_KINDS = ("so", "o", "a")
_LINKERS = (None, "cc", "zig")
# Zig's names of targets, with the glibc that has the threads' functions in libc.so.6.
_ZIG = {"x86_64": "x86_64-linux-gnu.2.34", "aarch64": "aarch64-linux-gnu.2.34"}


def export(
    module: Module | Graph, path: str | os.PathLike[str], *, variables: Any = None,
    weights: str = "embed", target: str | Target | None = None,
    kinds: Sequence[str] = ("so",), header: bool = True, linker: str | None = None,
    level: int | None = None,
) -> list[Path]:  # fmt: skip
    """Writes a library that C programs call; returns the paths written, the library first.

    `path` names the shared object, `lib<name>.so`; everything else stands beside it under the same
    stem, and `<name>` begins every C identifier. `variables`: a session or a dict of arrays that
    holds the values to begin with (None: the graph's initial values). `weights`: "embed" puts them
    into the library, "file" into `<stem>.weights`, which a program maps, "caller" leaves them to
    the program. `kinds`: "so", "o" (the code, and the weights as an object of their own), "a".
    `linker`: None needs nothing installed; "cc" runs $CC (else cc), which must know the target;
    "zig" runs `python -m ziglang cc`, which knows them all.

    ExportError if a file cannot be written or a name not be used; nothing is left behind then.
    ConfigError for an option that does not exist.
    """
    for what, given, known in (("weights", weights, _WEIGHTS), ("linker", linker, _LINKERS),
                               *(("kind", k, _KINDS) for k in kinds)):  # fmt: skip
        if given not in known:
            raise ConfigError(f"{what} {given!r} is not known",
                              f"choose one of {', '.join(repr(k) for k in known)}")  # fmt: skip
    if not kinds:
        raise ConfigError("kinds is empty", 'name one: kinds=("so",)')
    so = Path(path)
    check_path(so)
    chosen = _target(target)
    made = compile_library(Module.of(module), library_name(so), chosen, variables, weights,
                           config.level(level),
                           f"{so.stem}.weights")  # fmt: skip
    files = _files(made, so, kinds, linker)
    if weights == "file":
        files[so.with_suffix(".weights")] = made.image
    if header:
        files[so.with_suffix(".h")] = made.header.encode()
    _write_all(files)
    return list(files)


@dataclass(frozen=True)
class CompiledLibrary:
    """A library before it is linked."""

    interface: Interface
    target: Target
    code: bytes  # relocatable object
    header: str
    image: bytes  # the weights
    exports: list[str]

    @property
    def objects(self) -> dict[str, bytes]:
        """Everything to link, by file name."""
        from .codegen.data_object import data_object

        name = self.interface.name
        out = {f"{name}.o": self.code}
        if self.interface.embedded:
            symbol = f"{name}_weights"
            out[f"{name}_weights.o"] = data_object(symbol, self.image, self.target)
        return out


def compile_library(module: Module, name: str, target: Target, variables: Any, weights: str,
                    level: int, weights_file: str) -> CompiledLibrary:  # fmt: skip
    """All functions of a module as one object with its C interface."""
    from .codegen.header import header_text
    from .codegen.library import emit_library, exports
    from .codegen.merge import merge
    from .codegen.objects import object_code
    from .compiler import compile_function

    compiled = [compile_function(f, target, level) for f in module.functions.values()]
    programs = [replace(c.program, name=f"{name}.program.{key}")
                for key, c in zip(module.functions, compiled)]  # fmt: skip
    merged = merge(programs, f"{name}.kernel")
    held: dict[str, Array] = {}
    for c in compiled:
        held |= c.constants()
    constants = tuple(Area(f"constant {d}", as_dtype(held[d].dtype), held[d].shape)
                      for d in merged.constants)  # fmt: skip
    values = _values(module.graph, merged.variables, variables)
    values |= {a.name: held[d] for a, d in zip(constants, merged.constants)}
    image = weights_image.image([*merged.variables, *constants], values)
    needs = bool(merged.variables or constants)
    bare = Interface(name, tuple(zip(module.functions, merged.programs)), merged.variables,
                     constants, "", len(image) if weights == "embed" and needs else 0)  # fmt: skip
    facts = {"weights": weights, "weights_file": weights_file if weights == "file" else "",
             "module": module.name}  # fmt: skip
    interface = replace(bare, manifest=_manifest(bare, target, facts))
    text = emit_library(interface, target)
    summary = f"For {target.cpu} {target.features}".strip() + f", {target.triple}."
    return CompiledLibrary(interface, target, object_code(text, target),
                           header_text(interface, summary), image, exports(interface))  # fmt: skip


def library_name(path: Path) -> str:
    """The prefix of C identifiers for a library: `liblenet.so` is `lenet`."""
    stem = path.name.split(".")[0]
    name = identifier(stem.removeprefix("lib"))
    if path.suffix != ".so" or not stem.removeprefix("lib") or not stem.isascii():
        raise ExportError(f"{path} cannot be the name of a library", "call it lib<name>.so")
    return name


def _target(given: str | Target | None) -> Target:
    if isinstance(given, Target):
        return given
    name = given if given is not None else config.setting("target")
    return targets.host() if name in ("", "native") else targets.named(name)


def _values(graph: Graph, wanted: Sequence[Area], given: Any) -> dict[str, Array]:
    """Every variable's value. ExportError for one that is missing or does not fit."""
    if given is None:
        source: Mapping[str, Array] = initial_values(graph)
    else:
        source = given if isinstance(given, Mapping) else given.variables
    out: dict[str, Array] = {}
    problems = []
    for a in wanted:
        if a.name not in source:
            problems.append(f'"{a.name}" has no value')
            continue
        array = np.asarray(source[a.name])
        if array.shape != a.shape or array.dtype != a.dtype.numpy:
            problems.append(f'"{a.name}" is {a.dtype}{list(a.shape)}, given '
                            f"{array.dtype}{list(array.shape)}")  # fmt: skip
        out[a.name] = array
    if problems:
        raise ExportError("the variables given do not fit the graph", *problems)
    return out


def _manifest(interface: Interface, target: Target, facts: Mapping[str, str]) -> str:
    functions = {e.name: json.loads(Manifest.of(e.program).text()) for e in interface.entries}
    return json.dumps({
        "format": FORMAT, "abi": ABI, "signature": interface.signature, "name": interface.name,
        "triple": target.triple, "cpu": target.cpu, "features": target.features, **facts,
        "functions": functions,
    }, separators=(",", ":"))  # fmt: skip


# --- files ----------------------------------------------------------------------------------------


def _files(made: CompiledLibrary, so: Path, kinds: Sequence[str],
           linker: str | None) -> dict[Path, bytes]:  # fmt: skip
    from .codegen.archive import write_archive

    out: dict[Path, bytes] = {}
    for kind in dict.fromkeys(kinds):
        if kind == "so":
            out[so] = _linked(made, so.name, linker)
        elif kind == "a":
            out[so.with_suffix(".a")] = write_archive(made.objects)
        else:
            for name, data in made.objects.items():
                out[so.with_name(name)] = data
    return out


def _linked(made: CompiledLibrary, soname: str, linker: str | None) -> bytes:
    if linker is None:
        from .codegen.elf import link_shared

        name = f"{made.interface.name}_weights"
        return link_shared(made.code, soname=soname, exports=made.exports,
                           payload={name: made.image} if made.interface.embedded else {})  # fmt: skip
    triple = made.target.triple
    if linker == "cc":
        command = shlex.split(os.environ.get("CC", "cc"))
        advice = f"$CC must be a compiler for {triple}"
    else:
        command = [sys.executable, "-m", "ziglang", "cc", "-target", _ZIG[triple.split("-")[0]]]
        advice = 'zig comes with the extra "export"'
    with tempfile.TemporaryDirectory() as folder:
        names = []
        for k, data in enumerate(made.objects.values()):
            names.append(f"{folder}/{k}.o")
            Path(names[-1]).write_bytes(data)
        result = f"{folder}/{soname}"
        done = None
        with suppress(OSError):
            done = subprocess.run([*command, "-shared", f"-Wl,-soname,{soname}", "-Wl,-z,nodelete",
                                   "-o", result, *names], capture_output=True, text=True)  # fmt: skip
        if done is None or done.returncode != 0:
            why = "it cannot be started" if done is None else done.stderr.strip()
            raise ExportError(f"linking with {' '.join(command)} failed", why[:400], advice,
                              "linker=None needs no linker")  # fmt: skip
        return Path(result).read_bytes()


def check_path(so: Path) -> None:
    """ExportError, before minutes of compiling, where no library of this name can be written."""
    library_name(so)
    folder = so.parent
    if not folder.is_dir():
        raise ExportError(f"cannot write {so}: there is no folder {folder}")
    if not os.access(folder, os.W_OK | os.X_OK) or so.is_dir():
        raise ExportError(f"cannot write {so}: " + (
            "it is a folder" if so.is_dir() else f"the folder {folder} is read-only"))  # fmt: skip


def _write_all(files: Mapping[Path, bytes]) -> None:
    """Writes every file under a temporary name, then renames them all."""
    made: list[tuple[str, Path]] = []
    try:
        for path, data in files.items():
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            made.append((temporary, path))
            with os.fdopen(handle, "wb") as f:
                f.write(data)
            os.chmod(temporary, 0o755 if path.suffix == ".so" else 0o644)
        while made:
            os.replace(*made[0])
            made.pop(0)
    except OSError as e:
        for temporary, _ in made:
            with suppress(OSError):
                os.unlink(temporary)
        raise ExportError(f"cannot write {e.filename or 'the library'}: {e.strerror}") from None
