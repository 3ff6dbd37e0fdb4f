"""LLVM IR as text: type names, constants, and a function under construction.

A function's blocks are written in nested scopes, one per loop or branch. Pure instructions go to
the outermost scope in which their operands exist, which places loop-invariant arithmetic before
the loop without an LLVM pass.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

from ..dtypes import DType
from ..errors import InternalError

_MEMORY = {
    "b8": "i8", "i8": "i8", "u8": "i8", "i16": "i16", "u16": "i16", "i32": "i32", "u32": "i32",
    "i64": "i64", "u64": "i64", "f16": "half", "bf16": "i16", "f32": "float", "f64": "double",
}  # fmt: skip


def memory_type(dtype: DType) -> str:
    """How an element is stored. bfloat16 is its bits; bool is a byte."""
    return _MEMORY[dtype.short]


def value_type(dtype: DType, lanes: int = 1) -> str:
    """How an element, or a vector of them, is held: bool is i1."""
    base = "i1" if dtype.kind == "b" else _MEMORY[dtype.short]
    return base if lanes == 1 else f"<{lanes} x {base}>"


def vector_suffix(dtype: DType, lanes: int) -> str:
    """The name part of overloaded intrinsics: `v16f32`, `i64`."""
    base = {"half": "f16", "float": "f32", "double": "f64"}.get(
        value_type(dtype), value_type(dtype)
    )
    return base if lanes == 1 else f"v{lanes}{base}"


def constant(value: float | int | bool, dtype: DType) -> str:
    """A scalar literal, exact."""
    if dtype.kind == "b":
        return "true" if value else "false"
    if dtype.name == "bfloat16":
        raise InternalError("bfloat16 constants are cast from float32")
    if dtype.is_float:
        if dtype.bits == 16:
            try:
                return f"0xH{int.from_bytes(struct.pack('<e', value), 'little'):04X}"
            except OverflowError:
                return "0xH7C00" if value > 0 else "0xHFC00"
        if dtype.bits == 32:  # spelled as the double of the same value
            value = struct.unpack("<f", struct.pack("<f", value))[0]
        return f"0x{int.from_bytes(struct.pack('<d', value), 'little'):016X}"
    bits = dtype.bits
    value = int(value) & ((1 << bits) - 1)
    return str(value - (1 << bits) if value >> (bits - 1) else value)


def splat_constant(text: str, element: str, lanes: int) -> str:
    """A vector literal of equal elements (or the scalar for one lane)."""
    if lanes == 1:
        return text
    if text in ("0", "false", "0x0000000000000000", "0xH0000"):
        return "zeroinitializer"
    return f"splat ({element} {text})"


@dataclass
class Scope:
    """One nesting level: its instructions so far, the block they are in, and known values."""

    label: str
    lines: list[str] = field(default_factory=list)
    known: dict[Any, str] = field(default_factory=dict)


class FunctionText:
    """A function being written: fresh names, nested scopes, intrinsic declarations."""

    def __init__(self) -> None:
        self.scopes = [Scope("entry")]
        self.allocas: list[str] = []
        self.declarations: set[str] = set()
        self._names = 0
        self._labels = 0

    @property
    def depth(self) -> int:
        """Index of the innermost scope."""
        return len(self.scopes) - 1

    @property
    def scope(self) -> Scope:
        return self.scopes[-1]

    def name(self) -> str:
        """A fresh SSA name."""
        self._names += 1
        return f"%v{self._names}"

    def new_label(self, stem: str) -> str:
        """A fresh block name."""
        self._labels += 1
        return f"{stem}{self._labels}"

    def emit(self, right: str, depth: int | None = None) -> str:
        """Appends `%n = right` to a scope (the innermost unless told) and returns `%n`."""
        made = self.name()
        self.scopes[self.depth if depth is None else depth].lines.append(f"  {made} = {right}")
        return made

    def line(self, text: str) -> None:
        """Appends an instruction without a result."""
        self.scope.lines.append("  " + text)

    def start_block(self, label: str) -> None:
        """Begins a basic block in the innermost scope."""
        self.scope.lines.append(f"{label}:")
        self.scope.label = label

    def alloca(self, type: str, align: int = 64) -> str:
        """Stack memory, reserved on entry."""
        made = self.name()
        self.allocas.append(f"  {made} = alloca {type}, align {align}")
        return made

    def intrinsic(self, result: str, name: str, *args: str) -> str:
        """A call of an LLVM intrinsic, `args` being "type value"; declares it."""
        types = ", ".join(" ".join(a.split(" ")[:-1]) if not a.startswith("<") else
                          a[: a.index(">") + 1] for a in args)  # fmt: skip
        self.declarations.add(f"declare {result} @{name}({types})")
        return f"call {result} @{name}({', '.join(args)})"

    def text(self, head: str) -> str:
        """The finished function."""
        if len(self.scopes) != 1:
            raise InternalError("a scope was left open")
        body = [*self.allocas, *self.scopes[0].lines, "  ret void"]
        return f"{head} {{\nentry:\n" + "\n".join(body) + "\n}\n"
