"""Linked libraries do what their objects say: loaded and called in this process."""

from __future__ import annotations

import ctypes
import math
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from flowmill.codegen.elf import SYSTEM, imports, link_shared, link_shared_to
from flowmill.errors import ExportError

from .programs import EXPORTS, WEIGHTS, emit


def load(tmp_path: Path, name: str, *objects: bytes, **options: object) -> ctypes.CDLL:
    path = tmp_path / f"lib{name}.so"
    path.write_bytes(link_shared(objects, soname=path.name, **options))  # type: ignore[arg-type]
    return ctypes.CDLL(str(path))


def test_code_constants_data_and_imports(library: Path) -> None:
    lib = ctypes.CDLL(str(library))
    lib.formula.restype, lib.formula.argtypes = ctypes.c_double, [ctypes.c_double]
    assert lib.formula(1.5) == math.exp(1.5) * 3.5 + 1.25e-3
    floats = (ctypes.c_float * 4)(1, 1, 1, 1)
    lib.vector(floats)
    assert list(floats) == [2.0, 3.0, 4.5, 5.0]
    assert lib.pid() == os.getpid()
    lib.through_table.argtypes = [ctypes.c_int64, ctypes.c_int]
    assert lib.through_table(0, 6) == 36 + 7
    assert lib.through_table(1, 6) == 106 + 7
    lib.count.argtypes = [ctypes.c_int64]
    assert [lib.count(999), lib.count(999), lib.count(0)] == [1, 2, 1]
    lib.pick.argtypes, lib.pick.restype = [ctypes.c_int64], ctypes.c_int64
    assert [lib.pick(i) for i in range(3)] == [15, 27, 39]
    assert [lib.choose(i) for i in range(6)] == [os.getpid(), 17, 81, 101, 201, -1]
    lib.greeting.restype = ctypes.c_char_p
    assert lib.greeting() == b"hello"


def test_initialisers_run_at_load(library: Path) -> None:
    assert ctypes.CDLL(str(library)).get_flag() == 5


def test_objects_resolve_one_another(library: Path) -> None:
    lib = ctypes.CDLL(str(library))
    assert lib.read_shared() == 41
    assert lib.pid_plus_one() == os.getpid() + 1


def test_pointers_in_data(library: Path) -> None:
    lib = ctypes.CDLL(str(library))
    lib.get_pointer.restype, lib.get_pointer.argtypes = ctypes.c_void_p, [ctypes.c_int64]
    assert ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lib.get_pointer(0))(12) == 144
    assert ctypes.c_int.from_address(lib.get_pointer(1)).value == 7
    assert ctypes.CFUNCTYPE(ctypes.c_int)(lib.get_pointer(2))() == os.getpid()


def test_payload_is_page_aligned_and_read_only(library: Path) -> None:
    lib = ctypes.CDLL(str(library))
    lib.get_weights.restype = lib.get_near.restype = ctypes.c_void_p
    address, near = lib.get_weights(), lib.get_near()
    assert address % 4096 == near % 4096 == 0
    assert ctypes.string_at(address, len(WEIGHTS["weights"])) == WEIGHTS["weights"]
    assert ctypes.string_at(near, len(WEIGHTS["near"])) == WEIGHTS["near"]
    assert ctypes.addressof(ctypes.c_char.in_dll(lib, "weights")) == address
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(x, 16) for x in line.split()[0].split("-"))
        if start <= address < end:
            assert line.split()[1] == "r--p"
            break
    else:
        pytest.fail("the payload is not mapped")


def test_no_page_is_writable_and_executable_and_tables_are_read_only(library: Path) -> None:
    ctypes.CDLL(str(library))
    permissions = [
        line.split()[1]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if line.endswith(str(library))
    ]
    # In order: headers and constants, code, relocated constants, data, payload.
    assert permissions == ["r--p", "r-xp", "r--p", "rw-p", "r--p"]


def test_unwinder_finds_the_functions(library: Path) -> None:
    try:
        find = ctypes.CDLL("libgcc_s.so.1")._Unwind_Find_FDE
    except OSError:
        pytest.skip("no libgcc_s")
    lib = ctypes.CDLL(str(library))
    find.restype, find.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_void_p]
    bases = (ctypes.c_void_p * 3)()
    address = ctypes.cast(lib.formula, ctypes.c_void_p).value
    assert address is not None
    assert find(address + 1, bases)
    assert bases[2] == address


def test_initialisers_run_in_order_of_priority(tmp_path: Path, native: str) -> None:
    def part(digit: int, section: str) -> bytes:
        return emit(
            f"""
            @trace = external hidden global i32
            @entry = internal constant ptr @run, section "{section}", align 8
            @llvm.used = appending global [1 x ptr] [ptr @entry], section "llvm.metadata"
            define internal void @run() {{
              %a = load i32, ptr @trace
              %b = mul i32 %a, 10
              %c = add i32 %b, {digit}
              store i32 %c, ptr @trace
              ret void
            }}
            """,
            native,
        )

    home = emit(
        "@trace = hidden global i32 0\ndefine i32 @get() { %a = load i32, ptr @trace  ret i32 %a }",
        native,
    )
    lib = load(
        tmp_path,
        "order",
        *(home, part(4, ".init_array"), part(3, ".init_array.200")),
        *(part(1, ".init_array.9"), part(2, ".init_array.10"), part(5, ".init_array")),
        exports=["get"],
    )
    assert lib.get() == 12345


def test_finalisers_run_at_exit(tmp_path: Path, native: str) -> None:
    obj = emit(
        r"""
        @text = private constant [4 x i8] c"bye\00"
        @entry = internal constant ptr @run, section ".fini_array", align 8
        @llvm.used = appending global [1 x ptr] [ptr @entry], section "llvm.metadata"
        declare i64 @write(i32, ptr, i64)
        define internal void @run() { %a = call i64 @write(i32 1, ptr @text, i64 3)  ret void }
        """,
        native,
    )
    path = tmp_path / "libbye.so"
    link_shared_to(path, obj, soname=path.name, exports=[])
    # dlclose before the end must not unload it: NODELETE.
    code = (
        "import ctypes, _ctypes, sys; lib = ctypes.CDLL(sys.argv[1]); _ctypes.dlclose(lib._handle);"
        "import os; os.write(1, b'hello ')"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, check=True
    )
    assert result.stdout == b"hello bye"


def test_weak_definitions_yield_and_weak_imports_may_be_missing(
    tmp_path: Path, native: str
) -> None:
    weak = emit(
        """
        declare extern_weak i32 @nobody_defines_this()
        define weak i32 @answer() { ret i32 1 }
        define i32 @ask() { %a = call i32 @answer()  ret i32 %a }
        define i1 @is_there() { %a = icmp ne ptr @nobody_defines_this, null  ret i1 %a }
        """,
        native,
    )
    strong = emit("define i32 @answer() { ret i32 2 }", native)
    system = {**SYSTEM, "nobody_defines_this": ""}
    exports = ["ask", "is_there"]
    alone = load(tmp_path, "alone", weak, exports=exports, system=system)
    assert alone.ask() == 1
    assert load(tmp_path, "after", weak, strong, exports=exports, system=system).ask() == 2
    assert load(tmp_path, "before", strong, weak, exports=exports, system=system).ask() == 2
    alone.is_there.restype = ctypes.c_bool
    assert not alone.is_there()


def test_libraries_bind_inside_despite_equal_names(tmp_path: Path, native: str) -> None:
    def value(n: int) -> ctypes.CDLL:
        ir = f"define i32 @f() {{ ret i32 {n} }}\n define i32 @g() {{ %a = call i32 @f() ret i32 %a }}"
        path = tmp_path / f"libvalue{n}.so"
        path.write_bytes(link_shared(emit(ir, native), soname=path.name, exports=["f", "g"]))
        return ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)

    first, second = value(1), value(2)
    assert (first.g(), second.g()) == (1, 2)


def test_a_large_library_with_many_symbols(tmp_path: Path, native: str) -> None:
    count = 500
    ir = "\n".join(f"define i32 @name_{i}() {{ ret i32 {i * 7} }}" for i in range(count))
    names = [f"name_{i}" for i in range(count)]
    lib = load(tmp_path, "many", emit(ir, native), exports=names, symbol_version="MANY_1")
    assert [getattr(lib, name)() for name in names] == [i * 7 for i in range(count)]
    assert not hasattr(lib, "name_500")


def test_imports(parts: list[bytes]) -> None:
    wanted = {"getpid", "exp", "other", "hidden_other", "shared", "weights", "near"}
    assert imports(parts[0]) == wanted
    assert imports(parts[1]) == {"pid"}


def test_same_input_same_bytes(parts: list[bytes]) -> None:
    def once() -> bytes:
        return link_shared(parts, soname="lib.so", exports=EXPORTS, payload=WEIGHTS)

    reversed_exports = EXPORTS[::-1]
    assert once() == once()
    assert once() == link_shared(parts, soname="lib.so", exports=reversed_exports, payload=WEIGHTS)


def test_payload_from_files(tmp_path: Path, parts: list[bytes]) -> None:
    files = {name: tmp_path / name for name in WEIGHTS}
    for name, path in files.items():
        path.write_bytes(WEIGHTS[name])
    expected = link_shared(parts, soname="lib.so", exports=EXPORTS, payload=WEIGHTS)
    assert link_shared(parts, soname="lib.so", exports=EXPORTS, payload=files) == expected
    target = tmp_path / "lib.so"
    link_shared_to(target, parts, soname="lib.so", exports=EXPORTS, payload=files)
    assert target.read_bytes() == expected
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o755 & ~umask


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, parts: list[bytes]) -> None:
    target = tmp_path / "lib.so"
    target.write_bytes(b"old")
    gone = {"weights": tmp_path / "missing", "near": b"x"}
    with pytest.raises(ExportError, match="cannot read payload 'weights'"):
        link_shared_to(target, parts, soname="lib.so", exports=EXPORTS, payload=gone)
    folder = tmp_path / "folder.so"
    folder.mkdir()
    with pytest.raises(ExportError, match=r"cannot write .*folder\.so"):
        link_shared_to(folder, parts, soname="lib.so", exports=EXPORTS, payload=WEIGHTS)
    with pytest.raises(ExportError, match=r"cannot write .*nowhere"):
        link_shared_to(
            tmp_path / "nowhere" / "lib.so", parts, soname="x", exports=EXPORTS, payload=WEIGHTS
        )
    assert target.read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.so", "lib.so"]


def test_hidden_payload_out_of_reach(tmp_path: Path, native: str) -> None:
    ir = """
    @huge = external hidden global [0 x i8]
    @last = external hidden global [0 x i8]
    define i8 @get() { %a = load i8, ptr @huge  %b = load i8, ptr @last  %c = add i8 %a, %b
      ret i8 %c }
    """
    huge = tmp_path / "huge"
    with huge.open("wb") as f:
        f.truncate(5 << 30)  # sparse, and never copied: the error comes first
    payload: dict[str, bytes | Path] = {"huge": huge, "last": b"x"}
    target = tmp_path / "lib.so"
    with pytest.raises(ExportError, match="against 'last' is out of range"):
        link_shared_to(target, emit(ir, native), soname="x", exports=["get"], payload=payload)
    assert not target.exists()
