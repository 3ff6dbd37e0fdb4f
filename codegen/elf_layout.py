"""Output sections and where they stand: segments, file offsets, addresses and ELF headers.

Comes in: sections with sizes. Goes out: the same sections with offsets and addresses, and the
bytes of the ELF, program and section headers. Every segment is readable and at most one of
writable or executable; what only the loader writes becomes read-only after relocation.
Source: System V gABI chapters 4 and 5.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import ExportError
from .elf_dynamic import StringTable
from .elf_machine import Machine
from .elf_object import (
    EHDR,
    SHDR,
    SHF_ALLOC,
    SHF_WRITE,
    SHT_NOBITS,
    SHT_STRTAB,
    Section,
)

_PHDR = struct.Struct("<IIQQQQQQ")
_PT_LOAD, _PT_DYNAMIC = 1, 2
_PT_GNU_EH_FRAME, _PT_GNU_STACK, _PT_GNU_RELRO = 0x6474E550, 0x6474E551, 0x6474E552
_PF_X, _PF_W, _PF_R = 1, 2, 4
# Flags, whether read-only after relocation, and sections, in the order of addresses.
_SEGMENTS: tuple[tuple[int, bool, str], ...] = (
    (
        _PF_R,
        False,
        ".dynsym .gnu.hash .hash .gnu.version .gnu.version_d .dynstr .rela.dyn .rodata "
        ".eh_frame_hdr .eh_frame",
    ),
    (_PF_R | _PF_X, False, ".text .plt"),
    (_PF_R | _PF_W, True, ".init_array .fini_array .data.rel.ro .dynamic .got"),
    (_PF_R | _PF_W, False, ".data .bss"),
    (_PF_R, False, ".payload"),
)
_REACH = 1 << 30  # all code and data, so that 32-bit distances and any addend fit


@dataclass(slots=True)
class Output:
    """One section of the shared object. `pieces` are input sections and their offsets in it."""

    name: str
    kind: int
    flags: int
    align: int = 1
    entsize: int = 0
    link: str = ""
    info: int = 0
    size: int = 0
    offset: int = 0
    address: int = 0
    index: int = 0
    data: bytes | bytearray = b""
    pieces: list[tuple[int, Section, int]] = field(default_factory=list)

    def append(self, owner: int, section: Section) -> int:
        """Adds an input section of object `owner`; returns its offset in this one."""
        at = align_up(self.size, section.align)
        self.align = max(self.align, section.align)
        self.size = at + section.size
        self.pieces.append((owner, section, at))
        return at


@dataclass(slots=True)
class _Segment:
    flags: int
    relro: bool
    sections: list[Output]
    offset: int = 0
    address: int = 0
    file_size: int = 0
    memory_size: int = 0


def align_up(value: int, alignment: int) -> int:
    return -(-value // alignment) * alignment


class Layout:
    """Places `outputs` (by name) and knows the headers that describe them.

    Raises ExportError if code and data are larger than 1 GiB (the payload may be of any size).
    """

    def __init__(self, machine: Machine, outputs: Mapping[str, Output]) -> None:
        self._machine = machine
        self._outputs = dict(outputs)
        self._segments = []
        for flags, relro, names in _SEGMENTS:
            if members := [outputs[n] for n in names.split() if n in outputs]:
                self._segments.append(_Segment(flags, relro, members))
        self._trailing = [o for o in outputs.values() if not o.flags & SHF_ALLOC]
        self._names = StringTable()
        last = self._outputs[".shstrtab"] = Output(".shstrtab", SHT_STRTAB, 0)
        self._trailing.append(last)
        self._sections = [o for s in self._segments for o in s.sections] + self._trailing
        for index, section in enumerate(self._sections, 1):
            section.index = index
            self._names.add(section.name)
        last.data, last.size = self._names.data, len(self._names.data)
        self._header_count = len(self._segments) + 3 + (".eh_frame_hdr" in outputs)
        self._place()

    def _place(self) -> None:
        page = self._machine.page
        offset = address = EHDR.size + _PHDR.size * self._header_count
        for number, segment in enumerate(self._segments):
            if number:
                # The next page in memory, the same page in the file: no padding on disk.
                offset = align_up(offset, segment.sections[0].align)
                address = align_up(address, page) + offset % page
            segment.offset, segment.address = (offset, address) if number else (0, 0)
            for section in segment.sections:
                padding = -address % section.align
                address += padding
                if section.kind != SHT_NOBITS:
                    offset += padding
                section.offset, section.address = offset, address
                address += section.size
                if section.kind != SHT_NOBITS:
                    offset += section.size
                if section.name != ".payload" and address > _REACH:
                    raise ExportError(
                        f"code and data exceed {_REACH >> 20} MiB at section {section.name}",
                        "pass large constants as payload",
                    )
            segment.file_size = offset - segment.offset
            if segment.relro:
                address = align_up(address, page)
            segment.memory_size = address - segment.address
        self.head_end = max(
            o.offset + o.size
            for o in self._sections
            if o.flags & SHF_ALLOC and o.kind != SHT_NOBITS and o.name != ".payload"
        )
        for section in self._trailing:
            offset = align_up(offset, section.align)
            section.offset = offset
            offset += section.size
        self._section_headers_at = align_up(offset, 8)

    def program_headers(self) -> bytes:
        """The ELF header and the program headers: the first bytes of the file."""
        page = self._machine.page
        rows: list[tuple[int, int, int, int, int, int, int]] = []
        for s in self._segments:
            rows.append((_PT_LOAD, s.flags, s.offset, s.address, s.file_size, s.memory_size, page))
        special = [(_PT_DYNAMIC, ".dynamic"), (_PT_GNU_EH_FRAME, ".eh_frame_hdr")]
        for kind, name in special:
            if (o := self._outputs.get(name)) is not None:
                flags = _PF_R | (_PF_W if o.flags & SHF_WRITE else 0)
                rows.append((kind, flags, o.offset, o.address, o.size, o.size, o.align))
        rows.append((_PT_GNU_STACK, _PF_R | _PF_W, 0, 0, 0, 0, 16))
        for s in self._segments:
            if s.relro:
                rows.append(
                    (_PT_GNU_RELRO, _PF_R, s.offset, s.address, s.file_size, s.memory_size, 1)
                )
        ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
        head = EHDR.pack(
            ident,
            3,
            self._machine.number,
            1,
            0,
            EHDR.size,
            self._section_headers_at,
            0,
            EHDR.size,
            _PHDR.size,
            len(rows),
            SHDR.size,
            len(self._sections) + 1,
            self._outputs[".shstrtab"].index,
        )
        return head + b"".join(
            _PHDR.pack(kind, flags, offset, address, address, in_file, in_memory, align)
            for kind, flags, offset, address, in_file, in_memory, align in rows
        )

    def trailer(self) -> tuple[int, bytes]:
        """File offset and bytes of everything behind the segments."""
        start = self._trailing[0].offset
        out = bytearray(self._section_headers_at - start)
        for s in self._trailing:
            out[s.offset - start : s.offset - start + s.size] = s.data
        out += bytes(SHDR.size)
        for s in self._sections:
            link = self._outputs[s.link].index if s.link else 0
            out += SHDR.pack(
                self._names.add(s.name),
                s.kind,
                s.flags,
                s.address,
                s.offset,
                s.size,
                link,
                s.info,
                s.align,
                s.entsize,
            )
        return start, bytes(out)
