"""Linked libraries in others' hands: a C compiler, binutils, the loader of another machine."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from flowmill.codegen.elf import SYSTEM, link_shared, link_shared_to

from .programs import AARCH64, EXPORTS, OTHER, PROGRAM, WEIGHTS, emit

# Calls everything and prints what it gets; runs as the main program under the dynamic loader.
MAIN = r"""
@format = private constant [17 x i8] c"%d %d %d %d %.9f\00"
@ints = private constant [37 x i8] c" %d %d %d %d %d %d %d %d %ld %.1f %s\00"
@vector_in = internal global [4 x float] [float 1.0, float 1.0, float 1.0, float 1.0]
declare i32 @printf(ptr, ...)
declare void @exit(i32)
declare i32 @getpid()
declare i32 @get_flag()
declare double @formula(double)
declare i32 @pid()
declare i32 @through_table(i64, i32)
declare i32 @count(i64)
declare i64 @pick(i64)
declare i32 @choose(i32)
declare i32 @read_shared()
declare ptr @greeting()
declare ptr @get_weights()
declare ptr @get_pointer(i64)
declare void @vector(ptr)
define void @main() {
  %a = call i32 @get_flag()
  %mine = call i32 @getpid()
  %theirs = call i32 @pid()
  %b = sub i32 %mine, %theirs
  %c = call i32 @through_table(i64 0, i32 6)
  %d = call i32 @through_table(i64 1, i32 6)
  %e = call double @formula(double 1.5)
  call i32 (ptr, ...) @printf(ptr @format, i32 %a, i32 %b, i32 %c, i32 %d, double %e)
  %f = call i32 @count(i64 999)
  %g = call i32 @count(i64 999)
  %h = call i32 @choose(i32 1)
  %i = call i32 @choose(i32 2)
  %j = call i32 @choose(i32 4)
  %k = call i32 @read_shared()
  %w = call ptr @get_weights()
  %w1 = getelementptr i8, ptr %w, i64 4660
  %l = load i8, ptr %w1
  %l1 = zext i8 %l to i32
  %sq = call ptr @get_pointer(i64 0)
  %m = call i32 %sq(i32 12)
  %n = call i64 @pick(i64 2)
  call void @vector(ptr @vector_in)
  %v = getelementptr float, ptr @vector_in, i64 2
  %o = load float, ptr %v
  %o1 = fpext float %o to double
  %p = call ptr @greeting()
  call i32 (ptr, ...) @printf(ptr @ints, i32 %f, i32 %g, i32 %h, i32 %i, i32 %j, i32 %k, i32 %l1,
    i32 %m, i64 %n, double %o1, ptr %p)
  call void @exit(i32 0)
  unreachable
}
"""


def test_aarch64_runs_under_qemu(tmp_path: Path) -> None:
    """The loader of aarch64 glibc, emulated, loads a library and a main program we linked."""
    qemu = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    root = Path("/usr/aarch64-linux-gnu")
    loader = root / "lib" / "ld-linux-aarch64.so.1"
    if not qemu or not loader.exists():
        pytest.skip("needs qemu-user and an aarch64 glibc")
    link_shared_to(
        tmp_path / "libprogram.so",
        [emit(ir, AARCH64) for ir in (PROGRAM, OTHER)],
        soname="libprogram.so",
        exports=EXPORTS,
        symbol_version="PROGRAM_1",
        payload=WEIGHTS,
    )
    program = bytearray(
        link_shared(
            emit(MAIN, AARCH64),
            soname="main",
            exports=["main"],
            needed=["libprogram.so", "libc.so.6"],
            system={**SYSTEM, **dict.fromkeys(EXPORTS, "libprogram.so")},
        )
    )
    set_entry(program, "main")
    (tmp_path / "main").write_bytes(program)
    os.chmod(tmp_path / "main", 0o755)
    command = [qemu, "-L", root, loader, "--library-path", f"{tmp_path}:{root}/lib"]
    result = subprocess.run([*command, tmp_path / "main"], capture_output=True, text=True)
    assert (result.stderr, result.returncode) == ("", 0)
    expected = "5 0 43 113 15.687161746 1 2 17 81 201 41 52 144 39 4.5 hello"
    assert result.stdout == expected


def set_entry(data: bytearray, name: str) -> None:
    """Makes a library a program: writes the address of `name` into the ELF header."""
    table = ELFFile(io.BytesIO(bytes(data))).get_section_by_name(".dynsym")
    symbol = next(s for s in table.iter_symbols() if s.name == name)
    data[24:32] = symbol["st_value"].to_bytes(8, "little")


def test_readelf_has_nothing_to_complain_about(tmp_path: Path, parts: list[bytes]) -> None:
    if not shutil.which("readelf"):
        pytest.skip("no readelf")
    path = tmp_path / "lib.so"
    link_shared_to(
        path, parts, soname="lib.so", exports=EXPORTS, symbol_version="V_1", payload=WEIGHTS
    )
    for options in ("-aW", "--debug-dump=frames"):
        result = subprocess.run(["readelf", options, path], capture_output=True, text=True)
        assert result.stderr == ""
        assert "Warning" not in result.stdout
        assert "orrupt" not in result.stdout
        assert result.returncode == 0


def test_objdump_shows_local_names(library: Path) -> None:
    if not shutil.which("objdump"):
        pytest.skip("no objdump")
    text = subprocess.run(["objdump", "-d", library], capture_output=True, text=True).stdout
    assert "<square>:" in text
    assert "<exp@plt>" in text


C_PROGRAM = r"""
#include <stdio.h>
double formula(double);
int choose(int), through_table(long, int), get_flag(void);
const unsigned char *get_weights(void);
int main(void) {
  printf("%d %d %d %.9f %d", get_flag(), choose(2), through_table(1, 6), formula(1.5),
         get_weights()[4660]);
  return 0;
}
"""


@pytest.mark.parametrize("options", [[], ["-fuse-ld=gold"], ["-no-pie"]])
def test_c_program_links_and_runs(tmp_path: Path, library: Path, options: list[str]) -> None:
    compiler = shutil.which("gcc")
    if not compiler or ("-fuse-ld=gold" in options and not shutil.which("ld.gold")):
        pytest.skip("no gcc, or no gold")
    (tmp_path / "main.c").write_text(C_PROGRAM)
    command = [compiler, *options, "-Wall", "-Werror", "main.c", "-o", "main", f"-L{tmp_path}"]
    command += ["-lprogram", f"-Wl,-rpath,{tmp_path}", "-Wl,--fatal-warnings"]
    subprocess.run(command, cwd=tmp_path, check=True)
    result = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True)
    assert result.stdout == "5 81 113 15.687161746 52"
    if shutil.which("readelf"):
        needs = subprocess.run(
            ["readelf", "-VW", tmp_path / "main"], capture_output=True, text=True, check=True
        )
        assert "PROGRAM_1" in needs.stdout


def test_strip_leaves_a_library_that_loads(library: Path) -> None:
    if not shutil.which("strip"):
        pytest.skip("no strip")
    subprocess.run(["strip", library], check=True)
    test = "import ctypes, sys; assert ctypes.CDLL(sys.argv[1]).choose(2) == 81"
    subprocess.run([sys.executable, "-c", test, library], check=True)
