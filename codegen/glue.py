"""The common ground of the C interface's routines: the context, texts, locks, failures.

A `Glue` collects LLVM text. `library.py`, `library_context.py`, `library_state.py` and
`library_tables.py` write their routines into it. A context is a block of memory that the caller
provides; `FIELDS` says what lies where. All names are prefixed with the library's, so that several
libraries can be linked into one program.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from ..target import Target
from .interface import CODE, TEXT_BYTES, Interface
from .routine import Routine

# Byte offsets in a context. `owner` is the context whose state this one uses: itself, or the one
# given as options.share. The words from `readers` on are used in the owner only.
FIELDS = {
    "magic": 0,  # tells a context from other memory
    "busy": 8,  # i32: 1 while a call uses this context
    "used": 16,  # bytes of text in `text`
    "owner": 24,
    "arena": 32,
    "arena_bytes": 40,
    "arena_mapped": 48,  # bytes to unmap; 0: the caller's
    "fixed": 56,  # 1: the arena is the caller's and cannot grow
    "threads": 64,
    "parallel_for": 72,
    "user": 80,
    "readers": 88,  # i32: runs that read the state; -1: somebody writes it
    "preparing": 92,  # i32: 1 while somebody computes prepared values
    "stale": 96,  # functions whose prepared values are out of date, as bits
    "state": 104,
    "state_mapped": 112,
    "image": 120,  # the weights the state began with
    "image_bytes": 128,
    "image_mapped": 136,
    "text": 144,  # of the last failure
}
_END = FIELDS["text"] + TEXT_BYTES


class Glue:
    """LLVM text of one library's interface, being collected."""

    def __init__(self, interface: Interface, target: Target) -> None:
        self.interface = interface
        self.target = target
        self.prefix = interface.name
        base = "x86-64" if target.triple.startswith("x86_64") else "generic"
        # The interface must run on any CPU, to tell that the kernels do not.
        self.attributes = f'nounwind "target-cpu"="{base}" "target-features"=""'
        self.parts: list[str] = []
        self.declarations: set[str] = set()
        self.strings = bytearray()
        self._known: dict[str, int] = {}
        count = len(interface.variables), len(interface.constants)
        self.fields = dict(FIELDS)
        at = _END
        for name, words in (("variables", count[0]), ("constants", count[1]),
                            ("offsets", sum(count)),
                            ("frame", max(e.frame_words for e in interface.entries))):  # fmt: skip
            self.fields[name] = at
            at += 8 * words
        self.context_bytes = -(-at // 64) * 64

    # --- data -------------------------------------------------------------------------------

    def string(self, text: str) -> int:
        """The offset of a text among all texts."""
        if text not in self._known:
            self._known[text] = len(self.strings)
            self.strings += text.encode() + b"\0"
        return self._known[text]

    def text(self, text: str) -> str:
        """The address of a text, as an operand."""
        return f"getelementptr (i8, ptr @{self.prefix}.strings, i64 {self.string(text)})"

    def table(self, name: str, words: Sequence[int]) -> str:
        """A constant array of 64-bit words; returns its symbol."""
        symbol = f"@{self.prefix}.{name}"
        body = ", ".join(f"i64 {w - (1 << 64) if w >> 63 else w}" for w in words or (0,))
        self.parts.append(f"{symbol} = internal constant [{max(len(words), 1)} x i64] [{body}], "
                          "align 8\n")  # fmt: skip
        return symbol

    def bytes(self, name: str, data: bytes, linkage: str = "internal") -> str:
        """A constant array of bytes."""
        self.parts.append(f"@{name} = {linkage} constant [{len(data)} x i8] "
                          f'c"{_escaped(data)}", align 8\n')  # fmt: skip
        return f"@{name}"

    # --- routines ---------------------------------------------------------------------------

    def begin(self, result: str, name: str, *params: str, public: bool = False) -> Routine:
        """A routine to write; `params` are "type %name". Internal ones are called PREFIX.name."""
        linkage = "" if public else "internal "
        joint = "_" if public else "."
        return Routine(f"define {linkage}{result} @{self.prefix}{joint}{name}"
                       f"({', '.join(params)}) {self.attributes}")  # fmt: skip

    def end(self, r: Routine) -> None:
        """Takes the finished routine."""
        self.declarations |= r.declarations
        self.parts.append(r.finished())

    def call(self, r: Routine, result: str, name: str, *args: str) -> str:
        """Calls an internal routine of the library."""
        return r.call(result, f"{self.prefix}.{name}", *args)

    def get(self, r: Routine, type: str, field: str, context: str = "%c") -> str:
        """A field of the context."""
        return r.load(type, context, self.fields[field])

    def set(self, r: Routine, type: str, field: str, value: int | str, context: str = "%c") -> None:
        r.store(type, value, context, self.fields[field])

    def fail(self, r: Routine, code: str, detail: str = "", name: str = "null") -> None:
        """Notes the failure in the context and returns its code. `name` is the address of a text
        that the message begins with."""
        made = self.call(r, "i32", "fail", "ptr %c", f"i32 {CODE[code]}", f"ptr {name}",
                         f"ptr {self.text(detail) if detail else 'null'}")  # fmt: skip
        r.ret("i32", made)

    def guarded(self, name: str, params: Sequence[str], body: Callable[[Routine], None]) -> None:
        """A public function of a context `%c`, which it holds while `body` runs; the body's code
        is its result."""
        inner = self.begin("i32", f"{name}.inside", "ptr %c", *params)
        body(inner)
        self.end(inner)
        r = self.begin("i32", name, "ptr %c", *params, public=True)
        bad = self.call(r, "i32", "enter", "ptr %c")
        with r.when(r.test("ne", "i32", bad, 0)):
            r.ret("i32", bad)
        code = self.call(r, "i32", f"{name}.inside", "ptr %c", *params)
        self.leave(r)
        r.ret("i32", code)
        self.end(r)

    def leave(self, r: Routine) -> None:
        """Gives the context back."""
        busy = r.at("%c", self.fields["busy"])
        r.line(f"store atomic i32 0, ptr {busy} release, align 4")

    def magic(self) -> int:
        """What the first word of an initialised context holds."""
        return self.interface.signature ^ 0x666C6F776D696C6C

    # --- the whole --------------------------------------------------------------------------

    def finished(self) -> str:
        """All parts, with the texts they use."""
        self.bytes(f"{self.prefix}.strings", bytes(self.strings) or b"\0")
        return "\n".join([*sorted(self.declarations), *self.parts])


def _escaped(data: bytes) -> str:
    return "".join(chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\{b:02X}" for b in data)


def user_line(loc: object, text: str) -> str:
    """A text with the user's place behind it."""
    return f"{text} ({json.dumps(str(loc))[1:-1]})"
