"""Reading one relocatable ELF64 object: bytes in, sections, symbols and relocations out.

Everything is bounds-checked here, so that what comes later may trust indices, names and sizes: a
truncated or corrupt object gives `ExportError`, and so does any section or symbol kind the linker
does not understand (thread-local data, COMDAT groups, common symbols, indirect functions).
Source: System V gABI chapters 4 and 5; x86-64 and AArch64 psABI.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from ..errors import ExportError

SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_RELA, SHT_HASH, SHT_DYNAMIC = 1, 2, 3, 4, 5, 6
SHT_NOBITS, SHT_DYNSYM, SHT_INIT_ARRAY, SHT_FINI_ARRAY = 8, 11, 14, 15
SHT_X86_64_UNWIND = 0x70000001
SHT_GNU_HASH, SHT_GNU_VERDEF, SHT_GNU_VERSYM = 0x6FFFFFF6, 0x6FFFFFFD, 0x6FFFFFFF
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR, SHF_INFO_LINK = 1, 2, 4, 0x40
_SHF_MERGE, _SHF_STRINGS, _SHF_RETAIN = 0x10, 0x20, 0x200000
_SHF_KNOWN = (
    SHF_WRITE | SHF_ALLOC | SHF_EXECINSTR | SHF_INFO_LINK | _SHF_MERGE | _SHF_STRINGS | _SHF_RETAIN
)
SHN_UNDEF, _SHN_LORESERVE, _SHN_ABS = 0, 0xFF00, 0xFFF1
STB_LOCAL, STB_GLOBAL, STB_WEAK = 0, 1, 2
STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_SECTION, STT_FILE = 0, 1, 2, 3, 4
EM_X86_64, EM_AARCH64 = 62, 183

EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
SHDR = struct.Struct("<IIQQQQIIQQ")
SYM = struct.Struct("<IBBHQQ")
RELA = struct.Struct("<QQq")

MAX_ALIGN = 4096
_DROPPED = (".note.", ".comment", ".llvm", ".deplibs")


class Section(NamedTuple):
    """A section that goes into the output. `data` is empty for .bss, whose `size` still counts."""

    name: str
    kind: int
    flags: int
    size: int
    align: int
    data: memoryview
    relocations: Sequence[tuple[int, int, int]]  # (offset, symbol << 32 | type, addend)


class Symbol(NamedTuple):
    """`section` indexes `Object.sections`; None: undefined, or in an empty or dropped section."""

    name: str
    value: int
    size: int
    kind: int
    bind: int
    section: int | None
    defined: bool


class Object(NamedTuple):
    label: str
    machine: int
    sections: dict[int, Section]
    symbols: list[Symbol]

    def undefined(self) -> set[str]:
        return {s.name for s in self.symbols if not s.defined and s.name}


def read_object(data: bytes, label: str) -> Object:
    """Parses a little-endian ELF64 relocatable object; `label` names it in errors.

    Raises ExportError for anything damaged or not understood.
    """
    view = memoryview(data)
    if len(data) < EHDR.size or data[:7] != b"\x7fELF\x02\x01\x01":
        raise _damaged(label, "it is not a little-endian ELF64 file")
    _, etype, machine, _, _, _, shoff, _, _, _, _, shsize, count, names = EHDR.unpack_from(data)
    if etype != 1:
        raise _damaged(label, f"its ELF type is {etype}, not 1 (relocatable)")
    if machine not in (EM_X86_64, EM_AARCH64):
        raise ExportError(f"{label}: machine {machine} is neither x86-64 nor aarch64")
    if shsize != SHDR.size or shoff + count * SHDR.size > len(data) or names >= count:
        raise _damaged(label, "its section headers lie outside of the file")
    headers = list(SHDR.iter_unpack(view[shoff : shoff + count * SHDR.size]))
    for index, (_, kind, _, _, offset, size, *_) in enumerate(headers):
        if kind != SHT_NOBITS and offset + size > len(data):
            raise _damaged(label, f"section {index} lies outside of the file")
    section_names = _Strings(data, headers, names, label)
    named = [section_names[h[0]] for h in headers]
    symtab = [i for i, h in enumerate(headers) if h[1] == SHT_SYMTAB]
    if len(symtab) > 1:
        raise _damaged(label, "it has several symbol tables")
    symbol_count = headers[symtab[0]][5] // SYM.size if symtab else 0

    relocations: dict[int, list[tuple[int, int, int]]] = {}
    kept: list[int] = []
    for index, (_, kind, flags, _, offset, size, link, info, align, entsize) in enumerate(headers):
        if kind == SHT_RELA:
            if info >= count or info in relocations or [link] != symtab or entsize != RELA.size:
                raise _damaged(label, f"relocation section {named[index]} is malformed")
            if size % RELA.size:
                raise _damaged(label, f"relocation section {named[index]} has a broken entry")
            entries = list(RELA.iter_unpack(view[offset : offset + size]))
            if entries and max(e[1] for e in entries) >> 32 >= symbol_count:
                raise _damaged(label, f"{named[index]} names a symbol that does not exist")
            relocations[info] = entries
        elif size and _is_kept(label, named[index], kind, flags):
            if align > MAX_ALIGN or align & (align - 1):
                raise ExportError(
                    f"{label}: section {named[index]} has alignment {align}",
                    f"allowed are powers of two up to {MAX_ALIGN}",
                )
            kept.append(index)
    sections = {
        i: Section(
            named[i],
            SHT_PROGBITS if headers[i][1] == SHT_X86_64_UNWIND else headers[i][1],
            headers[i][2],
            headers[i][5],
            max(headers[i][8], 1),
            view[:0] if headers[i][1] == SHT_NOBITS else view[headers[i][4] :][: headers[i][5]],
            relocations.get(i, ()),
        )
        for i in kept
    }
    if any(s.kind == SHT_NOBITS and s.relocations for s in sections.values()):
        raise _damaged(label, "a section without contents has relocations")
    symbols = _read_symbols(data, headers, symtab[0], sections, label) if symtab else []
    return Object(label, machine, sections, symbols)


class _Strings:
    """A string table section: `table[offset]` is the text that begins there."""

    def __init__(
        self, data: bytes, headers: Sequence[tuple[int, ...]], index: int, label: str
    ) -> None:
        if index >= len(headers) or headers[index][1] != SHT_STRTAB:
            raise _damaged(label, f"section {index} should be a string table")
        offset, size = headers[index][4], headers[index][5]
        self._data = data[offset : offset + size]
        self._label = label

    def __getitem__(self, offset: int) -> str:
        end = self._data.find(b"\0", offset)
        if end < 0:
            raise _damaged(self._label, f"no name begins at string offset {offset}")
        try:
            return self._data[offset:end].decode()
        except UnicodeDecodeError:
            raise _damaged(self._label, f"the name at {offset} is not UTF-8") from None


def _is_kept(label: str, name: str, kind: int, flags: int) -> bool:
    """Whether a section goes into the output; ExportError if it is not understood."""
    if kind in (0, SHT_SYMTAB, SHT_STRTAB) or name.startswith(_DROPPED):
        return False
    if name.startswith((".ctors", ".dtors")):
        raise ExportError(
            f"{label}: section {name} would never run", "place the pointers in .init_array"
        )
    allowed = {SHT_PROGBITS, SHT_NOBITS, SHT_INIT_ARRAY, SHT_FINI_ARRAY, SHT_X86_64_UNWIND}
    if kind not in allowed or flags & ~_SHF_KNOWN:
        raise ExportError(
            f"{label}: section {name} (type {kind:#x}, flags {flags:#x}) is not supported"
        )
    if not flags & SHF_ALLOC:
        if not name.startswith(".debug_") or kind != SHT_PROGBITS:
            raise ExportError(f"{label}: section {name} is not supported")
    elif flags & SHF_WRITE and flags & SHF_EXECINSTR:
        raise ExportError(f"{label}: section {name} is both writable and executable")
    elif kind in (SHT_NOBITS, SHT_INIT_ARRAY, SHT_FINI_ARRAY) and (
        flags & (SHF_WRITE | SHF_EXECINSTR) != SHF_WRITE
    ):
        raise ExportError(f"{label}: section {name} (type {kind:#x}) is not writable")
    return True


def _read_symbols(
    data: bytes,
    headers: Sequence[tuple[int, ...]],
    symtab: int,
    sections: dict[int, Section],
    label: str,
) -> list[Symbol]:
    offset, size, link, entsize = (headers[symtab][i] for i in (4, 5, 6, 9))
    if entsize != SYM.size or size % SYM.size:
        raise _damaged(label, "its symbol table has broken entries")
    strings = _Strings(data, headers, link, label)
    symbols = []
    for name_at, info, _, index, value, length in SYM.iter_unpack(data[offset : offset + size]):
        name = strings[name_at]
        kind, bind = info & 15, info >> 4
        if kind > STT_FILE or bind > STB_WEAK:
            raise ExportError(
                f"{label}: symbol {name!r} (type {kind}, binding {bind}) is not supported"
            )
        if index >= _SHN_LORESERVE:
            if index != _SHN_ABS or kind != STT_FILE:
                raise ExportError(
                    f"{label}: symbol {name!r} has the special section {index:#x}, "
                    "which is not supported"
                )
        elif index >= len(headers):
            raise _damaged(label, f"symbol {name!r} lies in section {index}, which does not exist")
        elif index and value + length > headers[index][5]:
            raise _damaged(label, f"symbol {name!r} lies outside of its section")
        if bind != STB_LOCAL and not name:
            raise _damaged(label, "a global symbol has no name")
        if bind == STB_LOCAL and index == SHN_UNDEF and name:
            raise _damaged(label, f"local symbol {name!r} is undefined")
        section = index if index in sections else None
        symbols.append(Symbol(name, value, length, kind, bind, section, index != SHN_UNDEF))
    return symbols


def _damaged(label: str, why: str) -> ExportError:
    return ExportError(f"{label} is damaged: {why}")
