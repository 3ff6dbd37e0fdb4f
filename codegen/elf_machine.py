"""What differs between x86-64 and aarch64 when linking: relocations, PLT stubs, page size.

Only the relocations LLVM emits for position-independent code of the small code model are known.
A patch writes one relocation into the image; it raises OverflowError or struct.error when the
value does not fit. Source: x86-64 psABI 1.0 section 4.4; ELF for the Arm 64-bit Architecture.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from .elf_object import EM_AARCH64, EM_X86_64

Patch = Callable[[bytearray, int, int, int], None]  # image, position, target, own address

_I32 = struct.Struct("<i")
_U32 = struct.Struct("<I")
_I64 = struct.Struct("<q")
_U64 = struct.Struct("<Q")


class Via(Enum):
    """What the target of a relocation is."""

    NOTHING = "nothing"
    DIRECT = "direct"  # the symbol, which this library must define
    BRANCH = "branch"  # the symbol, or a PLT stub for an import
    GOT = "got"  # the symbol's slot in the global offset table
    POINTER = "pointer"  # the symbol's run-time address: a dynamic relocation, except in DWARF
    OFFSET = "offset"  # a 32-bit section offset: DWARF only


class Kind(NamedTuple):
    name: str
    via: Via
    width: int
    patch: Patch


class Machine(NamedTuple):
    name: str
    number: int
    page: int  # the largest page size a kernel of this machine may use
    glob_dat: int
    relative: int
    pointer: int
    stub_size: int
    stub: Callable[[int, int], bytes]  # (own address, address of the GOT slot) -> code
    kinds: dict[int, Kind]


def _nothing(image: bytearray, at: int, target: int, place: int) -> None:
    pass


def _rel32(image: bytearray, at: int, target: int, place: int) -> None:
    _I32.pack_into(image, at, target - place)


def _rel64(image: bytearray, at: int, target: int, place: int) -> None:
    _I64.pack_into(image, at, target - place)


def _abs32(image: bytearray, at: int, target: int, place: int) -> None:
    _U32.pack_into(image, at, target)


def _abs64(image: bytearray, at: int, target: int, place: int) -> None:
    _U64.pack_into(image, at, target)


def _adrp(image: bytearray, at: int, target: int, place: int) -> None:
    pages = (target >> 12) - (place >> 12)
    if not -(1 << 20) <= pages < 1 << 20:
        raise OverflowError
    word = _U32.unpack_from(image, at)[0] & 0x9F00001F
    _U32.pack_into(image, at, word | (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5)


def _low12(shift: int) -> Patch:
    """The low 12 bits of the target in the immediate of an add, load or store."""

    def patch(image: bytearray, at: int, target: int, place: int) -> None:
        low = target & 0xFFF
        if low & ((1 << shift) - 1):
            raise OverflowError
        word = _U32.unpack_from(image, at)[0] & 0xFFC003FF
        _U32.pack_into(image, at, word | low >> shift << 10)

    return patch


def _branch26(image: bytearray, at: int, target: int, place: int) -> None:
    distance = target - place
    if distance & 3 or not -(1 << 27) <= distance < 1 << 27:
        raise OverflowError
    word = _U32.unpack_from(image, at)[0] & 0xFC000000
    _U32.pack_into(image, at, word | distance >> 2 & 0x3FFFFFF)


def _x86_stub(place: int, slot: int) -> bytes:
    return b"\xff\x25" + _I32.pack(slot - place - 6) + b"\x66\x90"  # jmp *slot(%rip); nop


def _aarch64_stub(place: int, slot: int) -> bytes:
    # adrp x16, slot; ldr x17, [x16, slot]; br x17; nop
    code = bytearray(struct.pack("<4I", 0x90000010, 0xF9400211, 0xD61F0220, 0xD503201F))
    _adrp(code, 0, slot, place)
    _low12(3)(code, 4, slot, place + 4)
    return bytes(code)


_X86_64 = Machine(
    name="x86-64",
    number=EM_X86_64,
    page=4096,
    glob_dat=6,
    relative=8,
    pointer=1,
    stub_size=8,
    stub=_x86_stub,
    kinds={
        0: Kind("R_X86_64_NONE", Via.NOTHING, 0, _nothing),
        1: Kind("R_X86_64_64", Via.POINTER, 8, _abs64),
        2: Kind("R_X86_64_PC32", Via.DIRECT, 4, _rel32),
        4: Kind("R_X86_64_PLT32", Via.BRANCH, 4, _rel32),
        9: Kind("R_X86_64_GOTPCREL", Via.GOT, 4, _rel32),
        10: Kind("R_X86_64_32", Via.OFFSET, 4, _abs32),
        24: Kind("R_X86_64_PC64", Via.DIRECT, 8, _rel64),
        41: Kind("R_X86_64_GOTPCRELX", Via.GOT, 4, _rel32),
        42: Kind("R_X86_64_REX_GOTPCRELX", Via.GOT, 4, _rel32),
    },
)

_AARCH64 = Machine(
    name="aarch64",
    number=EM_AARCH64,
    page=65536,
    glob_dat=1025,
    relative=1027,
    pointer=257,
    stub_size=16,
    stub=_aarch64_stub,
    kinds={
        0: Kind("R_AARCH64_NONE", Via.NOTHING, 0, _nothing),
        257: Kind("R_AARCH64_ABS64", Via.POINTER, 8, _abs64),
        258: Kind("R_AARCH64_ABS32", Via.OFFSET, 4, _abs32),
        260: Kind("R_AARCH64_PREL64", Via.DIRECT, 8, _rel64),
        261: Kind("R_AARCH64_PREL32", Via.DIRECT, 4, _rel32),
        275: Kind("R_AARCH64_ADR_PREL_PG_HI21", Via.DIRECT, 4, _adrp),
        277: Kind("R_AARCH64_ADD_ABS_LO12_NC", Via.DIRECT, 4, _low12(0)),
        278: Kind("R_AARCH64_LDST8_ABS_LO12_NC", Via.DIRECT, 4, _low12(0)),
        282: Kind("R_AARCH64_JUMP26", Via.BRANCH, 4, _branch26),
        283: Kind("R_AARCH64_CALL26", Via.BRANCH, 4, _branch26),
        284: Kind("R_AARCH64_LDST16_ABS_LO12_NC", Via.DIRECT, 4, _low12(1)),
        285: Kind("R_AARCH64_LDST32_ABS_LO12_NC", Via.DIRECT, 4, _low12(2)),
        286: Kind("R_AARCH64_LDST64_ABS_LO12_NC", Via.DIRECT, 4, _low12(3)),
        299: Kind("R_AARCH64_LDST128_ABS_LO12_NC", Via.DIRECT, 4, _low12(4)),
        311: Kind("R_AARCH64_ADR_GOT_PAGE", Via.GOT, 4, _adrp),
        312: Kind("R_AARCH64_LD64_GOT_LO12_NC", Via.GOT, 4, _low12(3)),
    },
)

MACHINES = {m.number: m for m in (_X86_64, _AARCH64)}
