"""Dimensions written as text, read: `4*batch + (h + 1)//2 - 3`, as `dims.show` writes them."""

from __future__ import annotations

import re
from collections.abc import Callable

from .dims import FUNCTIONS, Dim
from .errors import TextError

_TOKEN = re.compile(r"\s*(?:(\d+)|([A-Za-z_][\w.]*)|(//|[-+*%(),]))")


def parse(text: str, symbol: Callable[[str], Dim]) -> Dim:
    """Reads what `show` wrote; `symbol` gives the Dim of a name. TextError where it does not."""
    tokens: list[str] = []
    pos = 0
    text = text.strip()
    while pos < len(text):
        match = _TOKEN.match(text, pos)
        if not match:
            raise TextError(f"cannot read dimension {text!r} at column {pos + 1}")
        tokens.append(match.group(match.lastindex or 0))
        pos = match.end()
    at = 0

    def take(expected: str | None = None) -> str:
        nonlocal at
        if at >= len(tokens) or (expected is not None and tokens[at] != expected):
            raise TextError(f"cannot read dimension {text!r}: expected {expected or 'more'}")
        at += 1
        return tokens[at - 1]

    def peek() -> str:
        return tokens[at] if at < len(tokens) else ""

    def expression() -> Dim:
        out = term()
        while peek() in ("+", "-"):
            out = out + term() if take() == "+" else out - term()
        return out

    def term() -> Dim:
        out = factor()
        while peek() in ("*", "//", "%"):
            sign = take()
            right = factor()
            out = out * right if sign == "*" else FUNCTIONS[
                "floordiv" if sign == "//" else "mod"](out, right)  # fmt: skip
        return out

    def factor() -> Dim:
        token = take()
        if token == "-":
            return -factor()
        if token == "(":
            out = expression()
            take(")")
            return out
        if token.isdigit():
            return int(token)
        if token in ("min", "max") and peek() == "(":
            take("(")
            a = expression()
            take(",")
            b = expression()
            take(")")
            return FUNCTIONS[token](a, b)
        if not (token[0].isalpha() or token[0] == "_"):
            raise TextError(f"cannot read dimension {text!r} at {token!r}")
        return symbol(token)

    out = expression()
    if at != len(tokens):
        raise TextError(f"cannot read dimension {text!r} at {tokens[at]!r}")
    return out
