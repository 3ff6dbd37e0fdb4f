"""Words of the graph language's textual form, with their places, for `text.parse`."""

from __future__ import annotations

import json
import re
from typing import NoReturn

from ..dtypes import ALL
from ..errors import TextError

_WORD = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)
      | (?P<string>"(?:[^"\\\n]|\\.)*")
      | (?P<value>%(?:[A-Za-z_][\w./]*|\d+|"(?:[^"\\\n]|\\.)*"))
      | (?P<name>[A-Za-z_][\w./]*)
      | (?P<float>0x[0-9a-f]+\.?[0-9a-f]*p[+-]?\d+|\d+\.\d+(?:e[+-]?\d+)?|\d+e[+-]?\d+)
      | (?P<hex>0x[0-9a-f]+)
      | (?P<int>\d+)
      | (?P<sign>->|//|\.\.|[-+*%/(){}\[\],:=@])
    """,
    re.VERBOSE,
)
# words that mean something where an attribute stands: no dimension may be named so
RESERVED = frozenset(
    (*(d.short for d in ALL), "true", "false", "none", "inf", "nan", "graph", "data")
)
_OPENING, _CLOSING = frozenset("([{"), frozenset(")]}")


class Reader:
    """Walks over the words of a text. What does not fit raises TextError with line and column."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.kinds: list[str] = []
        self.words: list[str] = []
        self.starts: list[int] = []
        self.at = 0
        pos = 0
        while pos < len(text):
            match = _WORD.match(text, pos)
            if match is None:
                raise self._error_at(pos, f"cannot read {text[pos]!r}")
            if match.lastgroup != "space":
                self.kinds.append(match.lastgroup or "")
                self.words.append(match.group())
                self.starts.append(pos)
            pos = match.end()
        self.kinds.append("end")
        self.words.append("")
        self.starts.append(len(text.rstrip()))

    @property
    def kind(self) -> str:
        """What the next word is; "end" after the last."""
        return self.kinds[self.at]

    @property
    def word(self) -> str:
        """The next word; empty after the last."""
        return self.words[self.at]

    def follows(self, *words: str) -> bool:
        """Whether the next words are these."""
        return tuple(self.words[self.at : self.at + len(words)]) == words

    def take(self, word: str | None = None, kind: str | None = None) -> str:
        """The next word, which must be `word` or of `kind` if given."""
        found = self.word
        if (word is not None and found != word) or (kind is not None and self.kind != kind):
            self.fail(f"expected {repr(word) if word else kind}, found {found or 'the end'}")
        self.at += 1
        return found

    def skip(self, word: str) -> bool:
        """Steps over `word` if it is next; whether it was."""
        if self.word != word or self.kind in ("end", "string"):
            return False
        self.at += 1
        return True

    def string(self) -> str:
        """A quoted string, unquoted."""
        return self._unquote(self.take(kind="string"))

    def name(self) -> str:
        """A name, bare or quoted."""
        return self.string() if self.kind == "string" else self.take(kind="name")

    def value(self) -> tuple[str, str | None]:
        """A `%value`: the label, and the name it gives (None for a number)."""
        label = self.take(kind="value")
        if label[1] == '"':
            return label, self._unquote(label[1:])
        return label, None if label[1].isdigit() else label[1:]

    def integer(self) -> int:
        """An integer, signed."""
        sign = -1 if self.skip("-") else 1
        return sign * int(self.take(kind="int"))

    def raw(self) -> tuple[str, int]:
        """The text up to the next comma or closing bracket of this level, and where it starts."""
        first, depth = self.at, 0
        while self.kind != "end":
            if self.kind == "sign":
                if depth == 0 and (self.word == "," or self.word in _CLOSING):
                    break
                depth += (self.word in _OPENING) - (self.word in _CLOSING)
            self.at += 1
        if self.at == first:
            self.fail(f"expected something, found {self.word or 'the end'}")
        last = self.at - 1
        return self.text[self.starts[first] : self.starts[last] + len(self.words[last])], first

    def fail(self, message: str, at: int | None = None) -> NoReturn:
        """Raises TextError at word number `at`, or at the next word."""
        raise self._error_at(self.starts[self.at if at is None else at], message)

    def _unquote(self, text: str) -> str:
        try:
            return str(json.loads(text))
        except json.JSONDecodeError:
            self.at -= 1
            self.fail(f"cannot read the string {text}")

    def _error_at(self, pos: int, message: str) -> TextError:
        start = self.text.rfind("\n", 0, pos) + 1
        end = self.text.find("\n", pos)
        line = self.text[start : end if end >= 0 else len(self.text)]
        number, column = self.text.count("\n", 0, pos) + 1, pos - start + 1
        return TextError(message, f"line {number}, column {column}: {line.strip()}")
