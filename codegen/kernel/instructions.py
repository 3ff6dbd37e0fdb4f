"""Machine instructions that no expression says: what `Call` may name.

Their meaning is given in words here and in NumPy by `interpret`; their spelling in machine code
belongs to code generation.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Instruction:
    """`operand`: "memory", an element of an arg or stack buffer, or "square", a whole register
    buffer of shape [n, n]."""

    name: str
    operand: str
    meaning: str


INSTRUCTIONS: dict[str, Instruction] = {
    i.name: i
    for i in (
        Instruction("prefetch", "memory", "brings the element's cache line nearer; no effect"),
        Instruction("transpose", "square", "element [i, j] takes the value of element [j, i]"),
    )
}
