"""Text in, tokens out, with the small steps any recursive descent is made of."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NoReturn, TypeVar

from ...errors import TextError
from .grammar import NAME

_TOKEN = re.compile(
    r"(?P<skip>(?:\s+|\#[^\n]*)+)"
    r"|(?P<string>\"(?:[^\"\\\n]|\\.)*\")"
    r"|(?P<float>(?:\d+\.\d+(?:e[-+]?\d+)?|\d+e[-+]?\d+)f?)"
    r"|(?P<int>0x[0-9a-f]+|\d+)"
    rf"|(?P<name>{NAME.pattern})"
    r"|(?P<part>\$\d+)"
    r"|(?P<sign>\.\.|//|<<|>>|<=|>=|==|!=|[-+*/%&|^!<>=(){}\[\],;:@])"
)
_T = TypeVar("_T")


class Tokens:
    """The tokens of `text` and a place among them. Errors are TextErrors with line and column."""

    what = "kernel text"

    def __init__(self, text: str) -> None:
        self.text = text
        self.kinds: list[str] = []
        self.tokens: list[str] = []
        self.starts: list[int] = []
        self.at = 0
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                self.error(f"unexpected character {text[position]!r}", position)
            kind = match.lastgroup or ""
            if kind != "skip":
                self.kinds.append(kind)
                self.tokens.append(match.group())
                self.starts.append(position)
            position = match.end()
        self.kinds.append("end")
        self.tokens.append("")
        self.starts.append(len(text))

    def error(self, what: str, position: int | None = None) -> NoReturn:
        """Raises TextError at a position, by default that of the next token."""
        p = self.starts[self.at] if position is None else position
        line, column = self.text.count("\n", 0, p) + 1, p - self.text.rfind("\n", 0, p)
        shown = self.text.split("\n")[line - 1].strip()
        raise TextError(f"{self.what}: {what}", f"line {line}, column {column}: {shown}")

    def peek(self, text: str) -> bool:
        return self.tokens[self.at] == text

    def skip(self, text: str) -> bool:
        """Goes past the next token if it is `text`."""
        if self.tokens[self.at] != text:
            return False
        self.at += 1
        return True

    def expect(self, text: str) -> None:
        if not self.skip(text):
            self.error(f"expected {text!r}, found {self.tokens[self.at] or 'the end'!r}")

    def take(self, kind: str, what: str) -> str:
        if self.kinds[self.at] != kind:
            self.error(f"expected {what}, found {self.tokens[self.at] or 'the end'!r}")
        self.at += 1
        return self.tokens[self.at - 1]

    def name(self, what: str) -> str:
        return self.take("name", what)

    def choice(self, table: dict[str, _T], what: str) -> _T:
        """What the next name stands for in `table`."""
        if self.tokens[self.at] not in table:
            self.error(f"expected {what}, found {self.tokens[self.at] or 'the end'!r}")
        self.at += 1
        return table[self.tokens[self.at - 1]]

    def integer(self) -> int:
        negative = self.skip("-")
        value = int(self.take("int", "an integer"), 0)
        return -value if negative else value

    def items(self, item: Callable[[], _T], *ends: str) -> tuple[_T, ...]:
        """Items between commas up to one of `ends`, which is left."""
        out: list[_T] = []
        while not any(self.peek(end) for end in ends):
            out.append(item())
            if not self.skip(","):
                break
        return tuple(out)

    def sequence(self, close: str, item: Callable[[], _T], stop: str = "") -> tuple[_T, ...]:
        """Items between commas up to `close` (taken) or `stop` (left)."""
        out = self.items(item, close, *filter(None, [stop]))
        if not (stop and self.peek(stop)):
            self.expect(close)
        return out
