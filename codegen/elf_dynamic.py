"""Tables of a shared object that the loader and the unwinder read, each a function to bytes.

Source: System V gABI chapter 5 (hash table), GNU hash as in glibc's dl-lookup.c, LSB symbol
versioning, LSB .eh_frame and .eh_frame_hdr.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from ..errors import ExportError

_ENCODING_PCREL_SDATA4, _ENCODING_UDATA4, _ENCODING_DATAREL_SDATA4 = 0x1B, 0x03, 0x3B


class StringTable:
    """An ELF string table: `offset = table.add(text)`; the empty string is at 0."""

    def __init__(self) -> None:
        self.data = bytearray(1)
        self._offsets = {"": 0}

    def add(self, text: str) -> int:
        offset = self._offsets.get(text)
        if offset is None:
            offset = self._offsets[text] = len(self.data)
            self.data += text.encode() + b"\0"
        return offset


def sysv_hash(name: str) -> int:
    h = 0
    for c in name.encode():
        h = (h << 4) + c
        h = (h ^ (h >> 24 & 0xF0)) & 0x0FFFFFFF
    return h


def gnu_hash(name: str) -> int:
    h = 5381
    for c in name.encode():
        h = (h * 33 + c) & 0xFFFFFFFF
    return h


def sysv_hash_table(names: Sequence[str]) -> bytes:
    """The .hash section for dynamic symbols `names`; names[0] is the null symbol."""
    count = len(names)
    buckets, chains = [0] * count, [0] * count
    for index in range(count - 1, 0, -1):
        bucket = sysv_hash(names[index]) % count
        chains[index], buckets[bucket] = buckets[bucket], index
    return struct.pack(f"<{2 + 2 * count}I", count, count, *buckets, *chains)


def gnu_bucket_count(exports: int) -> int:
    return max(1, exports // 2)


def gnu_order(exports: Sequence[str]) -> list[str]:
    """Exports in the order the GNU hash table wants: by bucket, then by name."""
    count = gnu_bucket_count(len(exports))
    return sorted(exports, key=lambda name: (gnu_hash(name) % count, name))


def gnu_hash_table(exports: Sequence[str], first: int) -> bytes:
    """The .gnu.hash section; `exports` in `gnu_order`, `first` the index of the first one."""
    count, shift = gnu_bucket_count(len(exports)), 26
    words = 1 << max(0, (len(exports) * 12 // 64).bit_length())
    bloom, buckets, chain = [0] * words, [0] * count, []
    hashes = [gnu_hash(name) for name in exports]
    for i, h in enumerate(hashes):
        bloom[h // 64 % words] |= 1 << h % 64 | 1 << (h >> shift) % 64
        buckets[h % count] = buckets[h % count] or first + i
        last = i + 1 == len(hashes) or hashes[i + 1] % count != h % count
        chain.append(h & ~1 | last)
    head = struct.pack("<4I", count, first, words, shift)
    return head + struct.pack(f"<{words}Q{count}I{len(chain)}I", *bloom, *buckets, *chain)


def version_definitions(soname: str, version: str, strings: StringTable) -> bytes:
    """The .gnu.version_d section: the library itself (index 1), then `version` (index 2)."""
    out = b""
    for flags, index, name, following in ((1, 1, soname, 28), (0, 2, version, 0)):
        out += struct.pack("<4H3I", 1, flags, index, 1, sysv_hash(name), 20, following)
        out += struct.pack("<2I", strings.add(name), 0)
    return out


def count_frames(eh_frame: bytes | memoryview, label: str) -> int:
    """How many functions an input .eh_frame section describes.

    Raises ExportError if the section is damaged or its pointers are not PC-relative 32-bit.
    """
    at = frames = 0
    while at < len(eh_frame):
        if at + 12 > len(eh_frame):
            raise ExportError(f"{label} is damaged: .eh_frame ends inside an entry")
        length, cie = struct.unpack_from("<II", eh_frame, at)
        if length < 8 or length % 4 or at + 4 + length > len(eh_frame):
            raise ExportError(f"{label} is damaged: .eh_frame has an entry of {length} bytes")
        if cie:
            frames += 1
        elif bytes(eh_frame[at + 8 : at + 12]) != b"\1zR\0" or (
            bytes(eh_frame[at + 16 : at + 17]) != bytes([_ENCODING_PCREL_SDATA4])
        ):
            raise ExportError(f"{label}: .eh_frame uses a pointer encoding that is not supported")
        at += 4 + length
    return frames


def eh_frame_header_size(frames: int) -> int:
    return 12 + 8 * frames


def eh_frame_header(
    eh_frame: bytes | bytearray | memoryview, frames: int, eh_frame_address: int, address: int
) -> bytes:
    """The .eh_frame_hdr section: a table of functions sorted by address, for binary search.

    `eh_frame` is relocated and ends with a zero terminator; `count_frames` found `frames` in it.
    Raises ExportError if its relocations overwrote more than its pointers.
    """
    table, at = [], 0
    try:
        while at < len(eh_frame) - 4:
            length, cie, start = struct.unpack_from("<IIi", eh_frame, at)
            if cie:
                entry = eh_frame_address + at
                table.append((entry + 8 + start - address, entry - address))
            at += 4 + length
        rows = b"".join(struct.pack("<ii", *row) for row in sorted(table))
    except struct.error:
        table.clear()
    if len(table) != frames:
        raise ExportError("a damaged object: relocations of .eh_frame hit more than its pointers")
    encodings = (_ENCODING_PCREL_SDATA4, _ENCODING_UDATA4, _ENCODING_DATAREL_SDATA4)
    return struct.pack("<4BiI", 1, *encodings, eh_frame_address - address - 4, frames) + rows
