"""Writing: a `Linker` in, the bytes of the shared object around its payload out.

Makes the tables the loader reads (dynamic symbols, hashes, versions, relocations, .dynamic), the
symbol table that debuggers read, and puts everything at its place in the file.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from . import elf_dynamic as tables
from .elf_layout import Layout, Output
from .elf_link import Linker
from .elf_object import (
    RELA,
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHF_WRITE,
    SHT_DYNAMIC,
    SHT_DYNSYM,
    SHT_GNU_HASH,
    SHT_GNU_VERDEF,
    SHT_GNU_VERSYM,
    SHT_HASH,
    SHT_PROGBITS,
    SHT_RELA,
    SHT_STRTAB,
    SHT_SYMTAB,
    STB_GLOBAL,
    STB_WEAK,
    SYM,
)

_DT_NEEDED, _DT_SONAME, _DT_FLAGS, _DT_FLAGS_1 = 1, 14, 30, 0x6FFFFFFB
_DT_STRSZ, _DT_SYMENT, _DT_RELASZ, _DT_RELAENT, _DT_RELACOUNT = 10, 11, 8, 9, 0x6FFFFFF9
_DT_INIT_ARRAYSZ, _DT_FINI_ARRAYSZ, _DT_VERDEFNUM = 27, 28, 0x6FFFFFFD
# Tags that hold the address of a section, and those that hold its size.
_ADDRESS_TAGS = {
    25: ".init_array",
    26: ".fini_array",
    4: ".hash",
    0x6FFFFEF5: ".gnu.hash",
    5: ".dynstr",
    6: ".dynsym",
    7: ".rela.dyn",
    0x6FFFFFF0: ".gnu.version",
    0x6FFFFFFC: ".gnu.version_d",
}
_SIZE_TAGS = {
    _DT_INIT_ARRAYSZ: ".init_array",
    _DT_FINI_ARRAYSZ: ".fini_array",
    _DT_STRSZ: ".dynstr",
    _DT_RELASZ: ".rela.dyn",
}
_DF_BIND_NOW, _DF_1_NOW_NODELETE = 8, 9


class Linked(NamedTuple):
    """`head` begins the file; payload NAME is written at `payload[NAME]`, `tail` at `tail_at`."""

    head: bytearray
    payload: dict[str, int]
    tail_at: int
    tail: bytes


def write_shared(
    linker: Linker,
    *,
    soname: str,
    imports: Mapping[str, bool],
    needed: Sequence[str],
    symbol_version: str | None,
) -> Linked:
    """`imports` tells, in the order the Linker was given them, whether each may be missing."""
    outputs = linker.outputs

    def section(
        name: str,
        kind: int,
        align: int,
        contents: bytes | int,
        entsize: int = 0,
        link: str = "",
        info: int = 0,
        flags: int = SHF_ALLOC,
    ) -> Output:
        data, size = (b"", contents) if isinstance(contents, int) else (contents, len(contents))
        out = outputs[name] = Output(name, kind, flags, align, entsize, link, info, size)
        out.data = data
        return out

    names = ["", *imports, *linker.exports]
    strings = tables.StringTable()
    for text in (*names, *needed, soname):
        strings.add(text)
    section(".dynsym", SHT_DYNSYM, 8, SYM.size * len(names), SYM.size, ".dynstr", 1)
    gnu_hash = tables.gnu_hash_table(linker.exports, len(imports) + 1)
    section(".gnu.hash", SHT_GNU_HASH, 8, gnu_hash, 0, ".dynsym")
    section(".hash", SHT_HASH, 8, tables.sysv_hash_table(names), 4, ".dynsym")
    if symbol_version is not None:
        indices = [0] + [1] * len(imports) + [2] * len(linker.exports)
        versions = struct.pack(f"<{len(indices)}H", *indices)
        section(".gnu.version", SHT_GNU_VERSYM, 2, versions, 2, ".dynsym")
        definitions = tables.version_definitions(soname, symbol_version, strings)
        section(".gnu.version_d", SHT_GNU_VERDEF, 8, definitions, 0, ".dynstr", 2)
    section(".dynstr", SHT_STRTAB, 1, bytes(strings.data))
    if linker.rela_count:
        section(".rela.dyn", SHT_RELA, 8, RELA.size * linker.rela_count, RELA.size, ".dynsym")
    if linker.frames:
        size = tables.eh_frame_header_size(linker.frames)
        section(".eh_frame_hdr", SHT_PROGBITS, 4, size)
    writable, code = SHF_ALLOC | SHF_WRITE, SHF_ALLOC | SHF_EXECINSTR
    if linker.stubs:
        size = linker.machine.stub_size
        section(".plt", SHT_PROGBITS, 16, size * len(linker.stubs), size, flags=code)
    if linker.got:
        section(".got", SHT_PROGBITS, 8, 8 * len(linker.got), 8, flags=writable)
    entries = [(_DT_NEEDED, strings.add(name)) for name in needed]
    entries.append((_DT_SONAME, strings.add(soname)))
    size = len(_dynamic_section(entries, outputs, 0))
    section(".dynamic", SHT_DYNAMIC, 8, size, 16, ".dynstr", flags=writable)

    inside = list(linker.names_inside())
    debug_names = tables.StringTable()
    for located in inside:
        debug_names.add(located.name)
    for name in names:
        debug_names.add(name)
    count = len(inside) + len(names)
    section(".symtab", SHT_SYMTAB, 8, SYM.size * count, SYM.size, ".strtab", len(inside) + 1, 0)
    section(".strtab", SHT_STRTAB, 1, bytes(debug_names.data), flags=0)

    layout = Layout(linker.machine, outputs)
    linker.locate()
    image = bytearray(layout.head_end)

    def put(name: str, data: bytes) -> None:
        at = outputs[name].offset
        image[at : at + len(data)] = data

    headers = layout.program_headers()
    image[: len(headers)] = headers
    for out in outputs.values():
        if out.data and out.flags & SHF_ALLOC:
            put(out.name, bytes(out.data))
    linker.relocate(image)
    relative, rela = linker.dynamic_relocations()
    if rela:
        put(".rela.dyn", rela)
    if linker.stubs:
        put(".plt", linker.stub_code())
    if linker.frames:
        frame, header = outputs[".eh_frame"], outputs[".eh_frame_hdr"]
        contents = image[frame.offset : frame.offset + frame.size]
        put(
            ".eh_frame_hdr",
            tables.eh_frame_header(contents, linker.frames, frame.address, header.address),
        )
    put(".dynamic", _dynamic_section(entries, outputs, relative))

    public = _public_symbols(linker, imports, strings)
    put(".dynsym", bytes(SYM.size) + public)
    local = b"".join(
        SYM.pack(
            debug_names.add(s.name), s.kind, 0, s.output.index, s.output.address + s.at, s.size
        )
        for s in inside
    )
    outputs[".symtab"].data = (
        bytes(SYM.size) + local + _public_symbols(linker, imports, debug_names)
    )
    payload = {n: outputs[".payload"].offset + at for n, at in linker.payload_at.items()}
    return Linked(image, payload, *layout.trailer())


def _public_symbols(
    linker: Linker, imports: Mapping[str, bool], strings: tables.StringTable
) -> bytes:
    out = bytearray()
    for name, weak in imports.items():
        out += SYM.pack(strings.add(name), (STB_WEAK if weak else STB_GLOBAL) << 4, 0, 0, 0, 0)
    for name in linker.exports:
        s = linker.find(name)
        address = s.output.address + s.at
        info = STB_GLOBAL << 4 | s.kind
        out += SYM.pack(strings.add(name), info, 0, s.output.index, address, s.size)
    return bytes(out)


def _dynamic_section(
    entries: Sequence[tuple[int, int]], outputs: Mapping[str, Output], relative: int
) -> bytes:
    """The contents of .dynamic; its length does not depend on addresses or on `relative`."""
    rows = list(entries)
    rows += [(tag, outputs[n].address) for tag, n in _ADDRESS_TAGS.items() if n in outputs]
    rows += [(tag, outputs[n].size) for tag, n in _SIZE_TAGS.items() if n in outputs]
    rows.append((_DT_SYMENT, SYM.size))
    if ".rela.dyn" in outputs:
        rows += [(_DT_RELAENT, RELA.size), (_DT_RELACOUNT, relative)]
    if ".gnu.version_d" in outputs:
        rows.append((_DT_VERDEFNUM, 2))
    rows += [(_DT_FLAGS, _DF_BIND_NOW), (_DT_FLAGS_1, _DF_1_NOW_NODELETE), (0, 0)]
    return b"".join(struct.pack("<QQ", *row) for row in rows)
