"""Archives are what `ar` reads and a C linker links."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from flowmill.codegen.archive import write_archive
from flowmill.errors import ExportError

from .programs import emit

LONG = "a_member_with_a_name_too_long_for_its_header.o"


def members(triple: str) -> dict[str, bytes]:
    return {
        "first.o": emit('@text = global [3 x i8] c"abc"\ndefine i32 @f() { ret i32 1 }', triple),
        LONG: emit("define i32 @g() { ret i32 2 }\n define weak i32 @w() { ret i32 4 }", triple),
        "fifteen_chars.o": emit("define internal i32 @i() { ret i32 3 }", triple) + b"x",
        "another_name_too_long.o": emit("define i32 @h() { ret i32 5 }", triple),
    }


def test_ar_lists_and_extracts_the_members(tmp_path: Path, triple: str) -> None:
    if not shutil.which("ar"):
        pytest.skip("no ar")
    given = members(triple)
    path = tmp_path / "lib.a"
    path.write_bytes(write_archive(given))
    listed = subprocess.run(["ar", "t", path], capture_output=True, text=True, check=True)
    assert listed.stdout.split() == list(given)
    subprocess.run(["ar", "x", path], cwd=tmp_path, check=True)
    for name, data in given.items():
        assert (tmp_path / name).read_bytes() == data


def test_same_bytes_as_ar(tmp_path: Path, native: str) -> None:
    if not shutil.which("ar"):
        pytest.skip("no ar")
    given = members(native)
    for name, data in given.items():
        (tmp_path / name).write_bytes(data)
    subprocess.run(["ar", "rcsD", "lib.a", *given], cwd=tmp_path, check=True)
    assert write_archive(given) == (tmp_path / "lib.a").read_bytes()


def test_c_program_links_statically(tmp_path: Path, native: str) -> None:
    compiler = shutil.which("gcc")
    if not compiler:
        pytest.skip("no gcc")
    (tmp_path / "libit.a").write_bytes(write_archive(members(native)))
    (tmp_path / "main.c").write_text(
        "int f(void); int g(void); int h(void); int w(void);\n"
        "int main(void) { return f() + g() + h() + w(); }\n"
    )
    command = [compiler, "main.c", "-o", "main", "-L.", "-lit"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "main"], check=False).returncode == 12


def test_bad_members(native: str) -> None:
    for name in ("", "a/b.o", "a\nb.o"):
        with pytest.raises(ExportError, match="not a name for a member"):
            write_archive({name: b""})
    with pytest.raises(ExportError, match=r"x\.o is damaged"):
        write_archive({"x.o": b"not an object"})
