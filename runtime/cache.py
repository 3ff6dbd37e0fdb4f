"""Compiled programs on disk, found by content.

An entry is one file: a shared object that the system can load in place, then its manifest, then
facts about both (format, sizes, digest) as JSON with their length at the very end. What is damaged,
of another version or not readable counts as absent and is rebuilt. A folder that cannot be written
is no error: programs are then compiled in every process.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.machinery import PathFinder
from pathlib import Path

from .. import config

FORMAT = 1


@lru_cache(maxsize=1)
def _compiler_version() -> str:
    """Changes whenever generated code may: the compiler's sources and LLVM's version."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.blake2b(digest_size=8)
    for folder in ("", "graph", "graph/ops", "passes", "codegen", "codegen/kernel"):
        with os.scandir(root / folder) as found:
            for file in sorted((f for f in found if f.name.endswith(".py")), key=lambda f: f.name):
                status = file.stat()
                digest.update(f"{file.name} {status.st_size} {status.st_mtime_ns};".encode())
    llvmlite = PathFinder.find_spec("llvmlite")  # importlib.metadata would take 15 ms to load
    if llvmlite is not None and llvmlite.origin is not None:
        with suppress(OSError):
            digest.update(Path(llvmlite.origin).with_name("_version.py").read_bytes())
    return digest.hexdigest()


def key(*parts: str) -> str:
    """The name of the entry made from `parts` by this version of the compiler."""
    digest = hashlib.blake2b(digest_size=20)
    for part in (str(FORMAT), _compiler_version(), *parts):
        digest.update(f"{len(part)}:".encode())
        digest.update(part.encode())
    return digest.hexdigest()


def _path(name: str) -> Path:
    return config.cache_dir() / f"{name}.fmc"


@dataclass(frozen=True)
class Entry:
    """A compiled program: its shared object, in a file too unless `path` is None, and manifest."""

    path: Path | None
    code: bytes
    manifest: str


def fetch(name: str) -> Entry | None:
    """The sound entry called `name`, if there is one."""
    path = _path(name)
    try:
        raw = path.read_bytes()
        (size,) = struct.unpack("<I", raw[-4:])
        facts = json.loads(raw[-4 - size : -4])
        code, manifest = int(facts["code"]), int(facts["manifest"])
        sound = (
            facts["format"] == FORMAT
            and facts["name"] == name
            and code + manifest + size + 4 == len(raw)
            and facts["digest"] == _digest(raw[: code + manifest])
        )
        text = raw[code : code + manifest].decode() if sound else ""
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        sound = False
    if not sound:
        with suppress(OSError):
            path.unlink()
        return None
    with suppress(OSError):
        os.utime(path)
    return Entry(path, raw[:code], text)


def store(name: str, code: bytes, manifest: str) -> Entry:
    """Keeps an entry on disk if the folder allows, else in memory."""
    import tempfile  # a run from the cache does without it

    text = manifest.encode()
    facts = json.dumps({"format": FORMAT, "name": name, "code": len(code), "manifest": len(text),
                        "digest": _digest(code + text)}).encode()  # fmt: skip
    path = _path(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    except OSError:
        return Entry(None, code, manifest)
    try:
        with os.fdopen(handle, "wb") as f:
            f.write(code + text + facts + struct.pack("<I", len(facts)))
        os.replace(temporary, path)
    except OSError:
        with suppress(OSError):
            os.unlink(temporary)
        return Entry(None, code, manifest)
    trim(config.integer("cache_bytes"), keep=path)
    return Entry(path, code, manifest)


def _digest(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=20).hexdigest()


def entries() -> list[tuple[Path, int, float]]:
    """Every entry: path, bytes, time of last use; least recently used first."""
    found = []
    with suppress(OSError):
        for path in config.cache_dir().glob("*.fmc"):
            with suppress(OSError):
                status = path.stat()
                found.append((path, status.st_size, status.st_mtime))
    return sorted(found, key=lambda e: e[2])


def clear() -> int:
    """Removes every entry; returns how many."""
    count = 0
    for path, _, _ in entries():
        with suppress(OSError):
            path.unlink()
            count += 1
    return count


def trim(limit: int, keep: Path | None = None) -> int:
    """Drops the least recently used entries beyond `limit` bytes, but not `keep`; returns how
    many."""
    found = entries()
    size = sum(e[1] for e in found)
    count = 0
    for path, bytes_, _ in found:
        if size <= limit:
            break
        if path == keep:
            continue
        with suppress(OSError):
            path.unlink()
            count += 1
        size -= bytes_
    return count
