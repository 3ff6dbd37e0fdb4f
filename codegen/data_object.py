"""Bytes as an object file: weights for `.o` and `.a`, without passing them through LLVM.

In: bytes and a symbol's name. Out: a relocatable ELF64 object that holds them in .rodata under that
symbol, hidden. Source: System V gABI chapter 4.
"""

from __future__ import annotations

import struct

from ..errors import ExportError
from ..target import Target

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_SHDR = struct.Struct("<IIQQQQIIQQ")
_SYM = struct.Struct("<IBBHQQ")
_MACHINES = {"x86_64": 62, "aarch64": 183}
_PROGBITS, _SYMTAB, _STRTAB = 1, 2, 3
_GLOBAL_OBJECT, _HIDDEN = 0x11, 2


def data_object(symbol: str, data: bytes, target: Target) -> bytes:
    """An object with `data` at the hidden symbol, read-only, at a multiple of 64 bytes."""
    machine = _MACHINES.get(target.triple.split("-")[0])
    if machine is None:
        raise ExportError(f"no object files can be written for {target.triple}")
    names = b"\0.rodata\0.symtab\0.strtab\0.note.GNU-stack\0"
    table = names + symbol.encode() + b"\0"
    symbols = _SYM.pack(0, 0, 0, 0, 0, 0) + _SYM.pack(len(names), _GLOBAL_OBJECT, _HIDDEN, 1, 0,
                                                      len(data))  # fmt: skip
    body = bytearray(64)
    spots = []
    for part in (data, symbols, table):
        body += b"\0" * (-len(body) % 64)
        spots.append(len(body))
        body += part
    body += b"\0" * (-len(body) % 8)
    headers = len(body)
    at = {n: names.index(n.encode() + b"\0") for n in (".rodata", ".symtab", ".strtab",
                                                       ".note.GNU-stack")}  # fmt: skip
    rows = [(0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
            (at[".rodata"], _PROGBITS, 2, 0, spots[0], len(data), 0, 0, 64, 0),
            (at[".symtab"], _SYMTAB, 0, 0, spots[1], len(symbols), 3, 1, 8, _SYM.size),
            (at[".strtab"], _STRTAB, 0, 0, spots[2], len(table), 0, 0, 1, 0),
            (at[".note.GNU-stack"], _PROGBITS, 0, 0, headers, 0, 0, 0, 1, 0)]  # fmt: skip
    for row in rows:
        body += _SHDR.pack(*row)
    body[:64] = _EHDR.pack(b"\x7fELF\x02\x01\x01".ljust(16, b"\0"), 1, machine, 1, 0, 0, headers, 0,
                           64, 0, 0, _SHDR.size, len(rows), 3)  # fmt: skip
    return bytes(body)
