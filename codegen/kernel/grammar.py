"""The tables that the kernel language's printer and parser share."""

from __future__ import annotations

import re

from .ir import Kind

# function -> (sign, how tightly it binds); comparisons do not chain, the others associate left.
INFIX: dict[str, tuple[str, int]] = {
    "eq": ("==", 1), "ne": ("!=", 1), "lt": ("<", 1), "le": ("<=", 1), "gt": (">", 1),
    "ge": (">=", 1), "or": ("|", 2), "xor": ("^", 3), "and": ("&", 4), "shl": ("<<", 5),
    "shr": (">>", 5), "add": ("+", 6), "sub": ("-", 6), "mul": ("*", 7), "div": ("/", 7),
    "floordiv": ("//", 7), "mod": ("%", 7),
}  # fmt: skip
PREFIX: dict[str, str] = {"neg": "-", "not": "!"}
COMPARISON, UNARY, ATOM = 1, 8, 9

LOOPS: dict[Kind, str] = {
    "serial": "for", "parallel": "parallel", "unroll": "unroll", "vector": "vector",
}  # fmt: skip
NAME = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*")
RESERVED = frozenset((*LOOPS.values(), "alloc", "else", "fail", "false", "if", "inf", "kernel",
                      "let", "nan", "select", "true", "while"))  # fmt: skip
