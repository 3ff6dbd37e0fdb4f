"""The cache of compiled programs: what is damaged is rebuilt, what cannot be written is no error."""

from __future__ import annotations

import subprocess
import sys
import tempfile

import flowmill as fm
import numpy as np
import pytest
from flowmill.graph.definition import Graph
from flowmill.runtime import cache, native

A = np.arange(12, dtype=np.float32).reshape(3, 4)


def compute():
    """A result that needs a program; in a graph of its own, so that nothing is kept in memory."""
    with Graph() as g:
        x = fm.input("x", ("n", 4))
        y = fm.tanh(x) * 3 + fm.sum(x, axis=1, keepdims=True)
    return fm.Session(g, threads=1).run(y, {x: A})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    native.support()  # is kept where all tests keep it
    monkeypatch.setenv("FLOWMILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def compilations(monkeypatch):
    """One entry per compilation."""
    from flowmill.runtime import build

    seen: list[str] = []
    real = build.compiled
    monkeypatch.setattr(build, "compiled", lambda *a, **k: seen.append("") or real(*a, **k))
    return seen


def test_a_program_is_compiled_once(folder, compilations):
    first = compute()
    assert len(list(folder.glob("*.fmc"))) == 1
    assert compute().tobytes() == first.tobytes()
    assert len(compilations) == 1


def test_damaged_and_foreign_entries_are_rebuilt(folder, compilations):
    expected = compute().tobytes()
    (path,) = folder.glob("*.fmc")
    whole = path.read_bytes()
    damaged = [b"", b"x", whole[:100], whole[: len(whole) // 2], whole[:-1], whole + b"\0",
               b"\0" * len(whole), b"\x7fELF" + whole[4:][::-1]]  # fmt: skip
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(whole), 12):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << int(rng.integers(8))
        damaged.append(bytes(flipped))
    for k, bad in enumerate(damaged):
        path.unlink()  # programs that run keep the old file
        path.write_bytes(bad)
        before = len(compilations)
        assert compute().tobytes() == expected
        assert len(compilations) == before + 1, k
        assert cache.fetch(path.stem) is not None


def test_a_file_that_is_gone_or_must_not_run_is_loaded_from_memory(folder, monkeypatch):
    expected = compute().tobytes()
    real = native.load_file

    def load_file(path):
        if path.suffix == ".fmc":
            raise fm.ExportError(f"cannot load {path}: failed to map segment")
        return real(path)

    monkeypatch.setattr(native, "load_file", load_file)
    assert compute().tobytes() == expected


def test_an_entry_under_another_name_is_foreign(folder, compilations):
    compute()
    (path,) = folder.glob("*.fmc")
    other = "0" * len(path.stem)
    path.rename(folder / f"{other}.fmc")
    assert cache.fetch(other) is None
    assert not list(folder.glob("*.fmc"))


@pytest.mark.parametrize("broken", ["mkdir", "mkstemp", "write", "replace"])
def test_a_folder_that_cannot_be_written(folder, monkeypatch, broken):
    expected = compute().tobytes()
    for path in folder.glob("*"):
        path.unlink()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    if broken == "mkdir":
        monkeypatch.setenv("FLOWMILL_CACHE", "/proc/no/such/folder")
    elif broken == "write":
        real = cache.os.fdopen

        class Full:
            def __init__(self, *args, **options):
                self.file = real(*args, **options)

            def __enter__(self):
                return self

            def __exit__(self, *_):
                self.file.close()

            def write(self, data):
                if self.file.name != memory[0]:
                    full()
                self.file.write(data)

        memory = [-1]
        create = native.os.memfd_create
        monkeypatch.setattr(
            native.os, "memfd_create", lambda name: memory.__setitem__(0, create(name)) or memory[0]
        )

        monkeypatch.setattr(cache.os, "fdopen", Full)
    else:
        monkeypatch.setattr(tempfile if broken == "mkstemp" else cache.os, broken, full)
    assert cache.store("a", b"code", "{}").path is None
    assert compute().tobytes() == expected
    assert not list(folder.glob("*.tmp"))


def test_the_size_limit_drops_what_was_not_used_longest(folder, monkeypatch):
    for k in range(4):
        cache.store(f"entry{k}", b"\0" * 1000, "{}")
        path = folder / f"entry{k}.fmc"
        cache.os.utime(path, (1000 + k, 1000 + k))
    assert cache.fetch("entry0") is not None  # now the latest
    monkeypatch.setenv("FLOWMILL_CACHE_BYTES", "3000")
    cache.store("entry4", b"\0" * 1000, "{}")
    assert sorted(p.stem for p in folder.glob("*.fmc")) == ["entry0", "entry4"]
    assert cache.clear() == 2 and cache.entries() == []


CODE = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if {blocked} and name.split(".")[0] in ("llvmlite", "networkx", "onnx"):
            raise ImportError(name)
sys.meta_path.insert(0, Blocker())
import numpy as np
import flowmill as fm
with fm.Graph() as g:
    x = fm.input("x", ("n", 16))
    y = fm.relu(fm.layers.Dense(8)(x))
    loss = fm.mean(y ** 2)
    train = fm.optimizers.Adam(0.01).minimize(loss)
s = fm.Session(g, threads=2)
data = np.ones((5, 16), np.float32)
for _ in range(3):
    s.run(train, {{x: data}})
print(s.run(y, {{x: data}}).tobytes().hex())
"""


def python(code):
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)  # fmt: skip


def finished(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def test_processes_compile_at_once_and_a_hit_needs_no_compiler(folder):
    pair = [python(CODE.format(blocked=False)) for _ in range(2)]
    first, second = map(finished, pair)
    assert first == second
    assert finished(python(CODE.format(blocked=True))) == first
    assert not list(folder.glob("*.tmp"))
