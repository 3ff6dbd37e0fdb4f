"""Static libraries: relocatable objects by member name in, the bytes of a GNU `.a` archive out.

Source: System V archive format with GNU's long-name table, as `ar rcsD` writes it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from ..errors import ExportError
from .elf_object import STB_LOCAL, read_object

_MAGIC = b"!<arch>\n"
_HEADER_SIZE = 60
# Time, owner, group and mode, as `ar` writes them when asked to be reproducible.
_TABLE, _FILE = b"%-12d%-6d%-6d%-8d" % (0, 0, 0, 0), b"%-12d%-6d%-6d%-8o" % (0, 0, 0, 0o644)
_SHORT_NAME = 15  # bytes that fit into a header, with the closing slash


def write_archive(members: Mapping[str, bytes]) -> bytes:
    """An archive of `members` (ELF objects) with a symbol table, the same bytes every time.

    Raises ExportError for a member that is damaged or badly named, and above 4 GiB.
    """
    long_names = bytearray()
    fields: list[bytes] = []
    symbols: list[tuple[int, bytes]] = []  # (member number, name)
    for number, (name, data) in enumerate(members.items()):
        encoded = name.encode()
        if not name or "/" in name or "\n" in name or "\0" in name:
            raise ExportError(f"not a name for a member of an archive: {name!r}")
        if len(encoded) <= _SHORT_NAME:
            fields.append(encoded + b"/")
        else:
            fields.append(b"/%d" % len(long_names))
            long_names += encoded + b"/\n"
        for s in read_object(data, name).symbols:
            if s.defined and s.bind != STB_LOCAL:
                symbols.append((number, s.name.encode() + b"\0"))

    index_size = _even(4 + 4 * len(symbols) + sum(len(name) for _, name in symbols))
    at = len(_MAGIC) + _HEADER_SIZE + index_size
    if long_names:
        long_names = long_names.ljust(_even(len(long_names)), b"\n")
        at += _HEADER_SIZE + len(long_names)
    offsets = []
    for data in members.values():
        offsets.append(at)
        at += _HEADER_SIZE + _even(len(data))
    if at >= 1 << 32:
        raise ExportError("an archive cannot exceed 4 GiB", "keep large payloads in a file")
    index = struct.pack(f">{1 + len(symbols)}I", len(symbols), *(offsets[n] for n, _ in symbols))
    index += b"".join(name for _, name in symbols)
    parts = [_MAGIC, *_member(b"/", _TABLE, index.ljust(index_size, b"\0"))]
    if long_names:
        parts += _member(b"//", b"", bytes(long_names))
    for field, data in zip(fields, members.values()):
        parts += _member(field, _FILE, data)
    return b"".join(parts)


def _even(size: int) -> int:
    return size + size % 2


def _member(name: bytes, meta: bytes, data: bytes) -> tuple[bytes, bytes, bytes]:
    """Header, contents and padding; `meta` stands for time, owner, group and mode."""
    return b"%-16s%-32s%-10d`\n" % (name, meta, len(data)), data, b"\n" * (len(data) % 2)
