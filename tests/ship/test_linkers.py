"""Libraries by other linkers and for another processor: the bits that the session has here.

What is not installed is left out: ziglang (the extra `export`), qemu-user-static and
gcc-aarch64-linux-gnu (of Debian).
"""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import flowmill as fm
import pytest

from .conftest import SOURCES, Shipped, expected, run

CROSS, QEMU = "aarch64-linux-gnu-gcc", "qemu-aarch64-static"
RUNS = [(), ("2",), ("3", "1")]  # alone, in the pool, in the caller's threads
zig = pytest.param("zig", marks=[
    pytest.mark.long,  # makes its C library the first time: a minute
    pytest.mark.skipif(find_spec("ziglang") is None, reason="ziglang is not installed"),
])  # fmt: skip


def train(cc: str, folder: Path) -> str:
    """train.c, linked to the library in `folder`."""
    program = folder / "train"
    run(cc, "-std=c99", "-O1", "-D_ISOC11_SOURCE", f"-I{folder}", f"-L{folder}",
        f"-Wl,-rpath,{folder}", "-pthread", str(SOURCES / "train.c"), "-o", str(program),
        "-lmlp")  # fmt: skip
    return str(program)


@pytest.mark.parametrize("linker", [zig])
def test_here(shipped: Shipped, cc: str, linker: str, tmp_path: Path) -> None:
    fm.export(shipped.module, tmp_path / "libmlp.so", linker=linker)
    program = train(cc, tmp_path)
    for arguments in RUNS:
        assert run(program, *arguments).splitlines()[: 2 * 5 + 1] == expected(shipped)


@pytest.mark.skipif(not (shutil.which(CROSS) and shutil.which(QEMU)), reason=f"no {CROSS}, {QEMU}")
@pytest.mark.parametrize("linker", [None, "cc", zig])
def test_aarch64(shipped: Shipped, linker: str | None, tmp_path: Path,
                 monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv("CC", CROSS)
    fm.export(shipped.module, tmp_path / "libmlp.so", linker=linker, target="aarch64")
    program = train(CROSS, tmp_path)
    for arguments in RUNS:
        lines = run(QEMU, "-L", "/usr/aarch64-linux-gnu", program, *arguments).splitlines()
        assert lines[: 2 * 5 + 1] == expected(shipped)


def test_a_linker_for_another_processor(shipped: Shipped, cc: str, tmp_path: Path,
                                        monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv("CC", f"{cc} -O1")
    foreign = "aarch64" if "x86_64" in run(cc, "-dumpmachine") else "x86-64-v3"
    with pytest.raises(fm.ExportError, match=r"linking with .* -O1 failed(?s:.*)\$CC must be"):
        fm.export(shipped.module, tmp_path / "libmlp.so", linker="cc", target=foreign)
    assert not list(tmp_path.iterdir())
