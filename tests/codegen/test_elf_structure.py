"""Structure of linked libraries, for both machines, as an independent ELF reader sees it."""

from __future__ import annotations

import io
import struct
from typing import Any

import pytest
from elftools.dwarf.callframe import FDE
from elftools.elf.elffile import ELFFile
from flowmill.codegen.elf import link_shared

from .programs import AARCH64, EXPORTS, WEIGHTS, emit


@pytest.fixture(scope="module")
def data(parts: list[bytes]) -> bytes:
    return link_shared(
        parts, soname="libx.so", exports=EXPORTS, symbol_version="X_1", payload=WEIGHTS
    )


@pytest.fixture(scope="module")
def elf(data: bytes) -> Any:
    return ELFFile(io.BytesIO(data))


def segments(elf: Any, kind: str) -> list[Any]:
    return [s.header for s in elf.iter_segments() if s.header.p_type == kind]


def read(elf: Any, address: int, size: int) -> bytes:
    for s in segments(elf, "PT_LOAD"):
        if s.p_vaddr <= address and address + size <= s.p_vaddr + s.p_filesz:
            elf.stream.seek(s.p_offset + address - s.p_vaddr)
            return bytes(elf.stream.read(size))
    raise AssertionError(f"{address:#x} is in no segment")


def test_header(elf: Any, triple: str) -> None:
    assert elf.header.e_type == "ET_DYN"
    expected = "EM_AARCH64" if triple == AARCH64 else "EM_X86_64"
    assert elf.header.e_machine == expected
    assert elf.header.e_ehsize == 64
    assert elf.num_segments() == 9


def test_segments(elf: Any, data: bytes, triple: str) -> None:
    page = 65536 if triple == AARCH64 else 4096
    loads = segments(elf, "PT_LOAD")
    assert [s.p_flags for s in loads] == [4, 5, 6, 6, 4]  # R, RX, RW then RELRO, RW, R
    end = 0
    for s in loads:
        assert s.p_align == page
        assert s.p_offset % page == s.p_vaddr % page
        assert s.p_vaddr // page >= -(-end // page), "two segments share a page"
        assert s.p_filesz <= s.p_memsz
        assert s.p_offset + s.p_filesz <= len(data)
        end = s.p_vaddr + s.p_memsz
    relro = segments(elf, "PT_GNU_RELRO")[0]
    assert (relro.p_vaddr, relro.p_memsz) == (loads[2].p_vaddr, loads[2].p_memsz)
    assert (relro.p_vaddr + relro.p_memsz) % page == 0
    assert segments(elf, "PT_GNU_STACK")[0].p_flags == 6


def test_sections_lie_in_segments_of_their_rights(elf: Any) -> None:
    loads = segments(elf, "PT_LOAD")
    seen = set()
    for section in elf.iter_sections():
        h = section.header
        assert h.sh_addralign == 0 or h.sh_addr % h.sh_addralign == 0
        if not h.sh_flags & 2:
            continue
        seen.add(section.name)
        home = [
            s
            for s in loads
            if s.p_vaddr <= h.sh_addr < h.sh_addr + h.sh_size <= s.p_vaddr + s.p_memsz
        ]
        assert len(home) == 1, section.name
        rights = (6 if h.sh_flags & 1 else 4) | (1 if h.sh_flags & 4 else 0)
        assert home[0].p_flags == rights, section.name
        if h.sh_type != "SHT_NOBITS":
            assert h.sh_addr - home[0].p_vaddr == h.sh_offset - home[0].p_offset
    expected = ".dynsym .gnu.hash .hash .gnu.version .gnu.version_d .dynstr .rela.dyn .rodata"
    expected += " .eh_frame_hdr .eh_frame .text .plt .init_array .data.rel.ro .dynamic .got .data"
    assert seen == {*expected.split(), ".bss", ".payload"}


def test_dynamic_tags(elf: Any) -> None:
    tags: dict[str, list[Any]] = {}
    for tag in elf.get_section_by_name(".dynamic").iter_tags():
        tags.setdefault(tag.entry.d_tag, []).append(tag)
    assert [t.needed for t in tags.pop("DT_NEEDED")] == ["libc.so.6", "libm.so.6"]
    assert tags.pop("DT_SONAME")[0].soname == "libx.so"
    values = {name: t[0].entry.d_val for name, t in tags.items()}
    for tag, name in (
        ("DT_HASH", ".hash"),
        ("DT_GNU_HASH", ".gnu.hash"),
        ("DT_STRTAB", ".dynstr"),
        ("DT_SYMTAB", ".dynsym"),
        ("DT_RELA", ".rela.dyn"),
        ("DT_VERSYM", ".gnu.version"),
        ("DT_VERDEF", ".gnu.version_d"),
        ("DT_INIT_ARRAY", ".init_array"),
    ):
        assert values.pop(tag) == elf.get_section_by_name(name)["sh_addr"], tag
    for tag, name in (
        ("DT_STRSZ", ".dynstr"),
        ("DT_RELASZ", ".rela.dyn"),
        ("DT_INIT_ARRAYSZ", ".init_array"),
    ):
        assert values.pop(tag) == elf.get_section_by_name(name)["sh_size"], tag
    assert values.pop("DT_RELACOUNT") > 0
    assert values == {
        "DT_SYMENT": 24,
        "DT_RELAENT": 24,
        "DT_VERDEFNUM": 2,
        "DT_FLAGS": 8,  # BIND_NOW
        "DT_FLAGS_1": 9,  # NOW, NODELETE
        "DT_NULL": 0,
    }


def test_dynamic_symbols_are_the_exports_and_imports(elf: Any) -> None:
    symbols = list(elf.get_section_by_name(".dynsym").iter_symbols())
    assert symbols[0].name == ""
    undefined = [s.name for s in symbols[1:] if s["st_shndx"] == "SHN_UNDEF"]
    assert undefined == ["exp", "getpid"]
    defined = [s for s in symbols if s["st_shndx"] not in ("SHN_UNDEF", 0)]
    assert sorted(s.name for s in defined) == sorted(EXPORTS)
    for s in defined:
        section = elf.get_section(s["st_shndx"])
        assert section["sh_addr"] <= s["st_value"]
        assert s["st_value"] + s["st_size"] <= section["sh_addr"] + section["sh_size"]
        assert s["st_info"]["bind"] == "STB_GLOBAL"
        function = s.name != "weights"
        assert s["st_info"]["type"] == ("STT_FUNC" if function else "STT_OBJECT")
        assert section.name == (".text" if function else ".payload")


def test_both_hash_tables_find_exactly_the_exports(elf: Any) -> None:
    gnu, old = elf.get_section_by_name(".gnu.hash"), elf.get_section_by_name(".hash")
    for name in EXPORTS:
        assert gnu.get_symbol(name).name == name
        assert old.get_symbol(name).name == name
    for name in ("square", "near", "hidden_other", "no_such"):
        assert gnu.get_symbol(name) is None
        assert old.get_symbol(name) is None
    assert gnu.get_number_of_symbols() == old.get_number_of_symbols()


def test_versions(elf: Any) -> None:
    definitions = [
        (d.entry.vd_ndx, d.entry.vd_flags, [a.name for a in aux])
        for d, aux in elf.get_section_by_name(".gnu.version_d").iter_versions()
    ]
    assert definitions == [(1, 1, ["libx.so"]), (2, 0, ["X_1"])]
    dynsym = elf.get_section_by_name(".dynsym")
    for symbol, version in zip(
        dynsym.iter_symbols(), elf.get_section_by_name(".gnu.version").iter_symbols()
    ):
        index = version.entry["ndx"]
        expected = 2 if symbol.name in EXPORTS else "VER_NDX_GLOBAL"
        assert index == (expected if symbol.name else "VER_NDX_LOCAL")


def test_no_version_tables_unless_asked_for(parts: list[bytes]) -> None:
    data = link_shared(parts, soname="libx.so", exports=EXPORTS, payload=WEIGHTS)
    elf = ELFFile(io.BytesIO(data))
    assert elf.get_section_by_name(".gnu.version") is None
    tags = {t.entry.d_tag for t in elf.get_section_by_name(".dynamic").iter_tags()}
    assert not [t for t in tags if "VER" in str(t)]


def test_relocations(elf: Any, triple: str) -> None:
    relative, glob_dat, pointer = (1027, 1025, 257) if triple == AARCH64 else (8, 6, 1)
    rows = list(elf.get_section_by_name(".rela.dyn").iter_relocations())
    kinds = [r["r_info_type"] for r in rows]
    count = next(
        t.entry.d_val
        for t in elf.get_section_by_name(".dynamic").iter_tags()
        if t.entry.d_tag == "DT_RELACOUNT"
    )
    assert kinds[:count] == [relative] * count
    assert set(kinds[count:]) == {glob_dat, pointer}
    assert len({r["r_offset"] for r in rows}) == len(rows)
    got, dynsym = elf.get_section_by_name(".got"), elf.get_section_by_name(".dynsym")
    loads = segments(elf, "PT_LOAD")
    slots = 0
    for r in rows:
        inside = got["sh_addr"] <= r["r_offset"] < got["sh_addr"] + got["sh_size"]
        slots += inside
        assert any(
            s.p_flags & 2 and s.p_vaddr <= r["r_offset"] < s.p_vaddr + s.p_filesz for s in loads
        )
        if r["r_info_type"] == relative:
            assert r["r_info_sym"] == 0
            assert any(s.p_vaddr <= r["r_addend"] < s.p_vaddr + s.p_memsz for s in loads)
        else:
            assert dynsym.get_symbol(r["r_info_sym"]).name in ("exp", "getpid")
            assert (r["r_info_type"] == glob_dat) == inside
    assert slots == got["sh_size"] // 8


def test_symbol_table_names_what_is_inside(elf: Any) -> None:
    table = elf.get_section_by_name(".symtab")
    symbols = list(table.iter_symbols())
    local = {s.name: s for s in symbols[: table["sh_info"]]}
    assert all(s["st_info"]["bind"] == "STB_LOCAL" for s in local.values())
    assert {s["st_info"]["bind"] for s in symbols[table["sh_info"] :]} == {"STB_GLOBAL"}
    names = {"square", "set_flag", "hidden_other", "zeros", "near", "exp@plt", "getpid@plt"}
    assert names <= local.keys()
    assert local["square"]["st_info"]["type"] == "STT_FUNC"
    assert elf.get_section(local["zeros"]["st_shndx"]).name == ".bss"
    assert {s.name for s in symbols[table["sh_info"] :]} == {*EXPORTS, "exp", "getpid"}


def test_payload(elf: Any) -> None:
    symbols = {s.name: s for s in elf.get_section_by_name(".symtab").iter_symbols()}
    for name, contents in WEIGHTS.items():
        s = symbols[name]
        assert s["st_size"] == len(contents)
        assert s["st_value"] % 4096 == 0
        assert read(elf, s["st_value"], s["st_size"]) == contents


def test_unwind_table(elf: Any) -> None:
    functions = {
        s["st_value"]: s["st_size"]
        for s in elf.get_section_by_name(".symtab").iter_symbols()
        if s["st_info"]["type"] == "STT_FUNC" and "@" not in s.name and s["st_value"]
    }
    header = elf.get_section_by_name(".eh_frame_hdr")
    assert segments(elf, "PT_GNU_EH_FRAME")[0].p_vaddr == header["sh_addr"]
    described = {
        e["initial_location"]: e["address_range"]
        for e in elf.get_dwarf_info().EH_CFI_entries()
        if isinstance(e, FDE)
    }
    assert described
    assert described.items() <= functions.items()
    data = header.data()
    assert data[:4] == bytes([1, 0x1B, 3, 0x3B])
    frame, count = struct.unpack_from("<iI", data, 4)
    assert header["sh_addr"] + 4 + frame == elf.get_section_by_name(".eh_frame")["sh_addr"]
    rows = list(struct.iter_unpack("<ii", data[12:]))
    assert len(rows) == count
    assert [header["sh_addr"] + r[0] for r in rows] == sorted(described)
    for start, entry in rows:
        at = header["sh_addr"] + entry
        place = at + 8
        assert place + struct.unpack("<i", read(elf, place, 4))[0] == header["sh_addr"] + start


def test_code_refers_to_the_right_addresses(elf: Any, triple: str) -> None:
    """`greeting` returns the address of a string: decode its instructions by hand."""
    symbols = {s.name: s for s in elf.get_section_by_name(".symtab").iter_symbols()}
    start = symbols["greeting"]["st_value"]
    code = read(elf, start, symbols["greeting"]["st_size"])
    if triple == AARCH64:
        adrp, add = struct.unpack_from("<2I", code)
        pages = (adrp >> 29 & 3) | (adrp >> 5 & 0x7FFFF) << 2
        pages -= (pages & 1 << 20) << 1
        address = (start & ~0xFFF) + pages * 4096 + (add >> 10 & 0xFFF)
    else:
        assert code[:3] == b"\x48\x8d\x05"  # lea rax, [rip + distance]
        address = start + 7 + struct.unpack_from("<i", code, 3)[0]
    assert read(elf, address, 6) == b"hello\0"


def debug_unit(name: str, line: int) -> str:
    return f"""
    define i32 @{name}(i32 %x) !dbg !5 {{ %y = add i32 %x, {line}, !dbg !8  ret i32 %y, !dbg !8 }}
    !llvm.dbg.cu = !{{!0}}
    !llvm.module.flags = !{{!2, !3}}
    !0 = distinct !DICompileUnit(language: DW_LANG_C99, file: !1, producer: "flowmill",
      emissionKind: FullDebug)
    !1 = !DIFile(filename: "{name}.py", directory: "/home/user")
    !2 = !{{i32 7, !"Dwarf Version", i32 4}}
    !3 = !{{i32 2, !"Debug Info Version", i32 3}}
    !4 = !DISubroutineType(types: !{{}})
    !5 = distinct !DISubprogram(name: "layer_{name}", file: !1, line: {line}, type: !4, unit: !0,
      spFlags: DISPFlagDefinition)
    !8 = !DILocation(line: {line}, column: 3, scope: !5)
    """


def test_debug_lines(triple: str) -> None:
    parts = [emit(debug_unit("first", 12), triple), emit(debug_unit("second", 34), triple)]
    data = link_shared(parts, soname="libd.so", exports=["first", "second"])
    elf = ELFFile(io.BytesIO(data))
    symbols = {s.name: s["st_value"] for s in elf.get_section_by_name(".dynsym").iter_symbols()}
    found = {}
    dwarf = elf.get_dwarf_info(relocate_dwarf_sections=False)
    for unit in dwarf.iter_CUs():
        name = unit.get_top_DIE().attributes["DW_AT_name"].value.decode()
        children = list(unit.get_top_DIE().iter_children())
        function = next(d for d in children if d.tag == "DW_TAG_subprogram")
        entries = dwarf.line_program_for_CU(unit).get_entries()
        address, line = next((e.state.address, e.state.line) for e in entries if e.state)
        found[name] = (function.attributes["DW_AT_name"].value.decode(), address, line)
    assert found == {
        "first.py": ("layer_first", symbols["first"], 12),
        "second.py": ("layer_second", symbols["second"], 34),
    }
