"""What cannot be linked: one ExportError that names it, and never any other exception."""

from __future__ import annotations

import random
import re
import struct

import pytest
from flowmill.codegen.elf import imports, link_shared
from flowmill.errors import ExportError

from .programs import AARCH64, EXPORTS, WEIGHTS, X86_64, emit

GOOD = "define i32 @f() { ret i32 1 }"


def refuse(message: str, *objects: bytes, exports: tuple[str, ...] = ("f",)) -> None:
    with pytest.raises(ExportError, match=re.escape(message)):
        link_shared(objects, soname="lib.so", exports=exports)


def test_undefined_symbols_are_all_listed(triple: str) -> None:
    ir = """
    declare i32 @alpha()
    declare i32 @beta()
    declare i32 @getpid()
    define i32 @f() { %a = call i32 @beta() %b = call i32 @alpha() %c = call i32 @getpid()
      %d = add i32 %a, %b  %e = add i32 %d, %c  ret i32 %e }
    """
    refuse("undefined symbols: alpha, beta\n", emit(ir, triple))


def test_missing_exports_are_all_listed(triple: str) -> None:
    refuse("exported but not defined: g, h", emit(GOOD, triple), exports=("h", "f", "g"))


def test_defined_twice() -> None:
    obj = emit(GOOD)
    refuse("'f' is defined twice, also in object 1", obj, obj)
    with pytest.raises(ExportError, match="'f' is defined twice, also in object 0"):
        link_shared(obj, soname="lib.so", exports=["f"], payload={"f": b"x"})


def test_objects_of_two_machines() -> None:
    refuse(
        "object 1 is for aarch64, object 0 for x86-64",
        emit(GOOD, X86_64),
        emit("define i32 @g() { ret i32 1 }", AARCH64),
    )


def test_import_declared_as_if_it_were_here(triple: str) -> None:
    ir = "declare hidden i32 @getpid()\n define ptr @f() { ret ptr @getpid }"
    refuse("against 'getpid': an import cannot be reached directly", emit(ir, triple))


@pytest.mark.parametrize(
    ("ir", "message"),
    [
        ("@x = thread_local global i32 1", "section .tdata (type 0x1, flags 0x403)"),
        ("@x = common global i32 0", "symbol 'x' has the special section 0xfff2"),
        (
            "define ptr @r() { ret ptr null }\n @x = ifunc i32 (), ptr @r",
            "symbol 'x' (type 10, binding 1) is not supported",
        ),
        ("$x = comdat any\n @x = linkonce_odr global i32 1, comdat", "section .group (type 0x11"),
        (
            '@x = global i32 1, section ".init_array", align 65536',
            "section .init_array has alignment 65536",
        ),
        ('@x = constant ptr @f, section ".ctors"', "section .ctors would never run"),
        (
            "@llvm.global_ctors = appending global [1 x {i32, ptr, ptr}] "
            "[{i32, ptr, ptr} {i32 65535, ptr @x, ptr null}]\n define void @x() { ret void }",
            "section .ctors would never run",
        ),
        (
            "@x = global i32 trunc (i64 ptrtoint (ptr @f to i64) to i32)",
            "a 32-bit address in position-independent code",
        ),
    ],
)
def test_unsupported(ir: str, message: str) -> None:
    refuse(message, emit(f"{GOOD}\n{ir}"))


def test_unknown_relocation(triple: str) -> None:
    ir = "declare i32 @getpid()\n define i32 @f() { %a = call i32 @getpid() ret i32 %a }"
    data = bytearray(emit(ir, triple))
    kind = 283 if triple == AARCH64 else 4
    at = next(
        i
        for i in range(0, len(data) - 24, 8)
        if struct.unpack_from("<I", data, i + 8)[0] == kind
        and 0 < struct.unpack_from("<I", data, i + 12)[0] < 64
        and data[i + 7] == 0
        and data[i : i + 8] != bytes(8)
    )
    data[at + 8] = 0xEE
    refuse("against 'getpid' is not supported on", bytes(data))
    refuse("relocation type", bytes(data))


def test_code_out_of_reach() -> None:
    ir = "@x = internal global [2000000000 x i8] zeroinitializer\n define ptr @f() { ret ptr @x }"
    refuse("code and data exceed 1024 MiB at section .bss", emit(ir))


def test_bad_names() -> None:
    obj = emit(GOOD)
    for soname in ("", "a/b.so", "a\0b"):
        with pytest.raises(ExportError, match="not a library name"):
            link_shared(obj, soname=soname, exports=["f"])
    refuse("a name with a zero byte", obj, exports=("f\0",))
    refuse("there is no object to link")
    with pytest.raises(ExportError, match="payload 'w' is empty"):
        link_shared(obj, soname="lib.so", exports=["f"], payload={"w": b""})


@pytest.mark.parametrize(
    "data", [b"", b"\x7fELF", b"!<arch>\n", b"MZ" + bytes(100), b"\x7fELF\x01\x01\x01" + bytes(99)]
)
def test_not_an_object(data: bytes) -> None:
    refuse("object 0 is damaged", data)
    with pytest.raises(ExportError, match="object is damaged"):
        imports(data)


def test_a_shared_object_is_not_an_object() -> None:
    library = link_shared(emit(GOOD), soname="lib.so", exports=["f"])
    refuse("its ELF type is 3, not 1", library)


def attempt(parts: list[bytes]) -> bool:
    """Whether it linked; anything but success and ExportError escapes."""
    try:
        link_shared(parts, soname="lib.so", exports=EXPORTS, symbol_version="V", payload=WEIGHTS)
    except ExportError:
        return False
    return True


def test_truncated_anywhere(parts: list[bytes]) -> None:
    """The section headers come last in LLVM's objects, so any cut is noticed."""
    for length in range(0, len(parts[0]), 13):
        assert not attempt([parts[0][:length], parts[1]])


@pytest.mark.parametrize("seed", range(4))
def test_flipped_bytes(parts: list[bytes], seed: int) -> None:
    rng = random.Random(seed)
    linked = 0
    for _ in range(300):
        data = bytearray(parts[0])
        for _ in range(rng.choice((1, 1, 2, 8))):
            data[rng.randrange(len(data))] = rng.choice(
                (0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256))
            )
        linked += attempt([bytes(data), parts[1]])
    assert 0 < linked < 300


@pytest.mark.parametrize("seed", range(4))
def test_flipped_words_of_tables(parts: list[bytes], seed: int) -> None:
    """Damage where it hurts: section headers, symbols, relocations; extreme values."""
    rng = random.Random(seed)
    extremes = (0, 1, 2, 4, 7, 8, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 63, (1 << 64) - 1)
    offset = struct.unpack_from("<Q", parts[0], 40)[0]
    count = struct.unpack_from("<H", parts[0], 60)[0]
    headers = [struct.unpack_from("<IIQQQQIIQQ", parts[0], offset + 64 * i) for i in range(count)]
    areas = [(offset, 64 * count)]
    areas += [(h[4], h[5]) for h in headers if h[1] in (2, 4) or h[1] == 0x70000001]
    linked = 0
    for _ in range(300):
        data = bytearray(parts[0])
        start, size = rng.choice(areas)
        at = start + 4 * rng.randrange(size // 4)
        value = rng.choice((*extremes, rng.randrange(64)))
        width = rng.choice((4, 8))
        chunk = (value & ((1 << 8 * width) - 1)).to_bytes(width, "little")
        data[at : at + width] = chunk
        linked += attempt([bytes(data[: len(parts[0])]), parts[1]])
    assert 0 < linked < 300
