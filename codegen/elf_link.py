"""Linking: parsed objects in; bound symbols, gathered sections and relocated bytes out.

Every reference between the objects is bound here, once; only imports and absolute pointers are
left to the loader, as eager dynamic relocations. A `Linker` is made (symbols bound, sections
gathered, the loader's needs counted), its `outputs` are laid out by someone else, then `locate`
and `relocate` finish the job.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ..errors import ExportError
from .elf_dynamic import count_frames, gnu_order
from .elf_layout import Output, align_up
from .elf_machine import MACHINES, Kind, Patch, Via
from .elf_object import (
    MAX_ALIGN,
    RELA,
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHF_WRITE,
    SHT_FINI_ARRAY,
    SHT_INIT_ARRAY,
    SHT_NOBITS,
    SHT_PROGBITS,
    STB_GLOBAL,
    STB_LOCAL,
    STT_FUNC,
    STT_NOTYPE,
    STT_OBJECT,
    Object,
    Section,
)

_PLAIN_PRIORITY = 1 << 16  # .init_array.N runs in the order of N, before plain .init_array
_WORD = (1 << 64) - 1

# Where a symbol is: (object, its index there), or the name of an import or of a payload.
Identity = tuple[int, int] | str


class Located(NamedTuple):
    """A symbol of the shared object: `at` is its offset in `output`."""

    name: str
    kind: int
    output: Output
    at: int
    size: int


class Linker:
    """Raises ExportError, here and in its methods, for what cannot be linked."""

    def __init__(
        self,
        objects: Sequence[Object],
        imports: Sequence[str],
        exports: Sequence[str],
        payload: Mapping[str, int],
    ) -> None:
        self.machine = MACHINES[objects[0].machine]
        for o in objects:
            if o.machine != self.machine.number:
                raise ExportError(
                    f"{o.label} is for {MACHINES[o.machine].name}, "
                    f"{objects[0].label} for {self.machine.name}"
                )
        self._objects = objects
        self._dynamic_index = {name: i for i, name in enumerate(imports, 1)}
        self.outputs: dict[str, Output] = {}
        self.payload_at: dict[str, int] = {}  # offsets in section .payload
        self.frames = 0  # functions that .eh_frame describes
        self.got: dict[Identity, int] = {}  # slot numbers
        self.stubs: dict[str, int] = {}  # slot numbers of imports that are called
        self._relative: list[tuple[int, int, int]] = []
        self._symbolic: list[tuple[int, int, int]] = []
        self._bind(exports, payload)
        self._gather(payload)
        self._scan()

    def _bind(self, exports: Sequence[str], payload: Mapping[str, int]) -> None:
        """Decides for each symbol of each object what it refers to."""
        self._defined: dict[str, Identity] = {name: name for name in payload}
        strong = set(payload)
        for number, o in enumerate(self._objects):
            for index, s in enumerate(o.symbols):
                if not s.defined or s.bind == STB_LOCAL:
                    continue
                if s.section is None:
                    raise ExportError(f"{o.label}: {s.name!r} is in an empty or dropped section")
                if s.bind == STB_GLOBAL:
                    if s.name in strong:
                        raise ExportError(f"{s.name!r} is defined twice, also in {o.label}")
                    strong.add(s.name)
                    self._defined[s.name] = (number, index)
                else:
                    self._defined.setdefault(s.name, (number, index))
        if missing := sorted(set(exports) - self._defined.keys()):
            raise ExportError(f"exported but not defined: {', '.join(missing)}")
        self.exports = gnu_order(sorted(set(exports)))
        self._identities: list[list[Identity]] = [
            [
                (number, index) if s.bind == STB_LOCAL else self._defined.get(s.name, s.name)
                for index, s in enumerate(o.symbols)
            ]
            for number, o in enumerate(self._objects)
        ]

    def _gather(self, payload: Mapping[str, int]) -> None:
        """Collects input sections into output sections, payloads into .payload."""
        self._placed: list[dict[int, tuple[Output, int]]] = [{} for _ in self._objects]
        arrays: list[tuple[int, int, int]] = []
        for number, o in enumerate(self._objects):
            for index, section in o.sections.items():
                if section.kind in (SHT_INIT_ARRAY, SHT_FINI_ARRAY):
                    if section.size % 8 or section.align > 8:
                        raise ExportError(f"{o.label} is damaged: {section.name} has a broken size")
                    priority = section.name.rpartition(".")[2]
                    arrays.append(
                        (int(priority) if priority.isdecimal() else _PLAIN_PRIORITY, number, index)
                    )
                    continue
                if _output_name(section) == ".eh_frame":
                    if section.size % 8 or section.align > 8:
                        raise ExportError(f"{o.label} is damaged: .eh_frame has a broken size")
                    self.frames += count_frames(section.data, o.label)
                self._place(number, index, section)
        for _, number, index in sorted(arrays):
            self._place(number, index, self._objects[number].sections[index])
        if ".eh_frame" in self.outputs:
            self.outputs[".eh_frame"].size += 4  # the terminator
        for name, size in payload.items():
            out = self.outputs.setdefault(".payload", Output(".payload", SHT_PROGBITS, SHF_ALLOC))
            out.align = MAX_ALIGN
            self.payload_at[name] = align_up(out.size, MAX_ALIGN)
            out.size = self.payload_at[name] + size
        self._payload_sizes = payload

    def _place(self, number: int, index: int, section: Section) -> None:
        name, flags = _output_name(section), section.flags & (SHF_ALLOC | SHF_WRITE | SHF_EXECINSTR)
        out = self.outputs.setdefault(name, Output(name, section.kind, flags))
        self._placed[number][index] = (out, out.append(number, section))

    def _kind(self, o: Object, section: Section, info: int) -> Kind:
        kind = self.machine.kinds.get(info & 0xFFFFFFFF)
        if kind is None:
            raise ExportError(
                f"{o.label}: relocation type {info & 0xFFFFFFFF} in {section.name} against "
                f"{o.symbols[info >> 32].name!r} is not supported on {self.machine.name}"
            )
        return kind

    def _imported(self, identity: Identity) -> str | None:
        """The name, if the loader has to find the symbol."""
        local = not isinstance(identity, str) or identity in self.payload_at
        return None if local else str(identity)

    def _scan(self) -> None:
        """Finds which GOT slots, PLT stubs and dynamic relocations are needed."""
        pointers = 0
        for number, o in enumerate(self._objects):
            for section in o.sections.values():
                vias: dict[int, Via] = {}
                for _, info, _ in section.relocations:
                    via = vias.get(info)
                    if via is None:
                        via = vias[info] = self._kind(o, section, info).via
                        identity = self._identities[number][info >> 32]
                        called = self._imported(identity) if via is Via.BRANCH else None
                        if called is not None:
                            self.stubs.setdefault(called, len(self.stubs))
                        if called is not None or via is Via.GOT:
                            self.got.setdefault(identity, len(self.got))
                    if via is Via.POINTER and section.flags & SHF_ALLOC:
                        pointers += 1
        self.rela_count = pointers + len(self.got)

    def find(self, name: str) -> Located:
        """The definition of an exported or payload symbol."""
        identity = self._defined[name]
        if isinstance(identity, str):
            at, size = self.payload_at[identity], self._payload_sizes[identity]
            return Located(name, STT_OBJECT, self.outputs[".payload"], at, size)
        number, index = identity
        symbol = self._objects[number].symbols[index]
        assert symbol.section is not None
        out, at = self._placed[number][symbol.section]
        return Located(name, symbol.kind, out, at + symbol.value, symbol.size)

    def names_inside(self) -> Iterator[Located]:
        """Symbols that are not exported, for debuggers, profilers and disassemblers."""
        exported = set(self.exports)
        for number, o in enumerate(self._objects):
            for s in o.symbols:
                if s.section is None or (s.bind != STB_LOCAL and s.name in exported):
                    continue
                # $x and $d tell disassemblers of aarch64 code from data.
                mapping = s.kind == STT_NOTYPE and s.name[:2] in ("$x", "$d")
                if (s.kind in (STT_FUNC, STT_OBJECT) and not s.name.startswith(".L")) or mapping:
                    out, at = self._placed[number][s.section]
                    if out.flags & SHF_ALLOC:
                        yield Located(s.name, s.kind, out, at + s.value, s.size)
        yield from (self.find(name) for name in self.payload_at if name not in exported)
        size = self.machine.stub_size
        for name, slot in self.stubs.items():
            yield Located(f"{name}@plt", STT_FUNC, self.outputs[".plt"], slot * size, size)

    # After layout -------------------------------------------------------------------------------

    def locate(self) -> None:
        """Takes the addresses of the laid-out sections over into the symbols."""
        self._addresses: list[list[int | None]] = []
        bases = [
            {index: out.address + at for index, (out, at) in placed.items()}
            for placed in self._placed
        ]

        def address(identity: Identity) -> int | None:
            if isinstance(identity, str):
                at = self.payload_at.get(identity)
                return None if at is None else self.outputs[".payload"].address + at
            symbol = self._objects[identity[0]].symbols[identity[1]]
            return (
                None
                if symbol.section is None
                else bases[identity[0]][symbol.section] + symbol.value
            )

        self._addresses = [[address(i) for i in identities] for identities in self._identities]
        got = self.outputs[".got"].address if self.got else 0
        for identity, slot in self.got.items():
            place = got + 8 * slot
            imported = self._imported(identity)
            if imported is not None:
                info = self._dynamic_index[imported] << 32 | self.machine.glob_dat
                self._symbolic.append((place, info, 0))
            elif (target := address(identity)) is not None:
                self._relative.append((place, self.machine.relative, target))
            else:
                raise ExportError("a symbol of an empty or dropped section is used")

    def relocate(self, image: bytearray) -> None:
        """Copies the input sections into `image` (the file from its first byte) or, for DWARF,
        into their output section's `data`, and applies their relocations."""
        for out in self.outputs.values():
            into, start = image, out.offset
            if out.pieces and not out.flags & SHF_ALLOC:
                into, start = bytearray(out.size), 0
                out.data = into
            for number, section, at in out.pieces:
                if section.kind != SHT_NOBITS:
                    into[start + at : start + at + section.size] = section.data
                    self._relocate_section(into, start + at, out.address + at, number, section)

    def _relocate_section(
        self, image: bytearray, position: int, address: int, number: int, section: Section
    ) -> None:
        o = self._objects[number]
        plan: dict[int, tuple[Patch, int, int]] = {}
        for offset, info, addend in section.relocations:
            step = plan.get(info)
            if step is None:
                step = plan[info] = self._resolve(number, section, info)
            patch, target, width = step
            if offset + width > section.size:
                raise ExportError(
                    f"{o.label} is damaged: a relocation lies outside of {section.name}"
                )
            try:
                patch(image, position + offset, target + addend, address + offset)
            except (OverflowError, struct.error):
                raise ExportError(
                    f"{o.label}: {self._kind(o, section, info).name} at "
                    f"{section.name}+{offset:#x} against {o.symbols[info >> 32].name!r} "
                    "is out of range or misaligned"
                ) from None

    def _resolve(self, number: int, section: Section, info: int) -> tuple[Patch, int, int]:
        """(patch, target without addend, width) for a relocation type and symbol."""
        kind = self.machine.kinds[info & 0xFFFFFFFF]  # _scan has met it
        via, index = kind.via, info >> 32
        identity, address = self._identities[number][index], self._addresses[number][index]
        loaded = section.flags & SHF_ALLOC
        if via is Via.DIRECT or via is Via.BRANCH:
            if address is not None and loaded:
                return kind.patch, address, kind.width
            if via is Via.BRANCH and isinstance(identity, str) and loaded:
                stub = self.machine.stub_size * self.stubs[identity]
                return kind.patch, self.outputs[".plt"].address + stub, kind.width
        elif via is Via.GOT:
            if loaded:
                return kind.patch, self.outputs[".got"].address + 8 * self.got[identity], kind.width
        elif via is Via.POINTER:
            imported = self._imported(identity)
            if loaded and section.flags & SHF_WRITE:
                if imported is not None:
                    return self._pointer(self._dynamic_index[imported]), 0, kind.width
                if address is not None:
                    return self._pointer(0), address, kind.width
            elif address is not None and not loaded:
                return kind.patch, address, kind.width
        elif via is Via.OFFSET:
            if address is not None and not loaded:
                return kind.patch, address, kind.width
        else:
            return kind.patch, 0, 0
        raise self._refusal(number, section, info)

    def _refusal(self, number: int, section: Section, info: int) -> ExportError:
        """Why a relocation of a known kind cannot be done."""
        o, kind = self._objects[number], self.machine.kinds[info & 0xFFFFFFFF]
        identity = self._identities[number][info >> 32]
        why, advice = "the symbol is in an empty or dropped section", ""
        if not section.flags & SHF_ALLOC:
            why = "not supported in debug information"
        elif kind.via is Via.OFFSET:
            why = "a 32-bit address in position-independent code"
        elif kind.via is Via.POINTER and not section.flags & SHF_WRITE:
            why = "a pointer in a read-only section"
        elif self._imported(identity) is not None:
            why = "an import cannot be reached directly"
            advice = "declare it with default visibility and without dso_local"
        what = f"{o.label}: {kind.name} in {section.name} against {o.symbols[info >> 32].name!r}"
        return ExportError(f"{what}: {why}", advice)

    def _pointer(self, symbol: int) -> Patch:
        """A patch that leaves a pointer to the loader; `symbol` 0 means this library."""
        rows = self._symbolic if symbol else self._relative
        info = symbol << 32 | (self.machine.pointer if symbol else self.machine.relative)

        def patch(image: bytearray, at: int, target: int, place: int) -> None:
            rows.append((place, info, target))

        return patch

    def dynamic_relocations(self) -> tuple[int, bytes]:
        """How many relative ones come first, and all as the contents of .rela.dyn."""
        rows = sorted(self._relative) + sorted(self._symbolic, key=lambda r: (r[1] >> 32, r[0]))
        size = 1 << 63
        return len(self._relative), b"".join(
            RELA.pack(place, info, ((target + size) & _WORD) - size) for place, info, target in rows
        )

    def stub_code(self) -> bytes:
        """The contents of .plt."""
        size, got, plt = self.machine.stub_size, self.outputs[".got"], self.outputs[".plt"]
        return b"".join(
            self.machine.stub(plt.address + size * slot, got.address + 8 * self.got[name])
            for name, slot in self.stubs.items()
        )


def _output_name(section: Section) -> str:
    if not section.flags & SHF_ALLOC:
        return section.name
    if section.kind == SHT_NOBITS:
        return ".bss"
    if section.kind in (SHT_INIT_ARRAY, SHT_FINI_ARRAY):
        return ".init_array" if section.kind == SHT_INIT_ARRAY else ".fini_array"
    if section.flags & SHF_EXECINSTR:
        return ".text"
    if section.flags & SHF_WRITE:
        return ".data.rel.ro" if section.name.startswith(".data.rel.ro") else ".data"
    return ".eh_frame" if section.name == ".eh_frame" else ".rodata"
