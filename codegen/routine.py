"""A function of the C interface under construction: structured statements in, LLVM text out.

What kernels are to numbers, routines are to bookkeeping: plain scalar code on words in memory.
Names of values are LLVM's (`%context`, `%v3`, `null`, `42`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import InternalError
from .llvm_text import FunctionText, Scope

_TERMINATORS = ("  ret ", "  br ", "  unreachable")


class Routine(FunctionText):
    """A function being written. `head`: "define i32 @name(ptr %a)" with linkage and attributes."""

    def __init__(self, head: str) -> None:
        super().__init__()
        self.head = head
        self._leave: list[str] = []

    # --- values -----------------------------------------------------------------------------

    def at(self, pointer: str, offset: int | str) -> str:
        """The address `offset` bytes on."""
        if offset == 0:
            return pointer
        return self.emit(f"getelementptr i8, ptr {pointer}, i64 {offset}")

    def element(self, pointer: str, index: int | str) -> str:
        """The address of word `index` of an array of 8-byte words."""
        return self.emit(f"getelementptr i64, ptr {pointer}, i64 {index}")

    def load(self, type: str, pointer: str, offset: int | str = 0) -> str:
        return self.emit(f"load {type}, ptr {self.at(pointer, offset)}, align {_align(type)}")

    def store(self, type: str, value: int | str, pointer: str, offset: int | str = 0) -> None:
        to = self.at(pointer, offset)
        self.line(f"store {type} {value}, ptr {to}, align {_align(type)}")

    def word(self, pointer: str, index: int | str) -> str:
        """Word `index` of an array of 8-byte words."""
        return self.load("i64", self.element(pointer, index))

    def test(self, how: str, type: str, a: str, b: int | str) -> str:
        """An integer or pointer comparison: an i1."""
        return self.emit(f"icmp {how} {type} {a}, {b}")

    def bits(self, op: str, a: str, b: int | str) -> str:
        """`op` of two i64."""
        return self.emit(f"{op} i64 {a}, {b}")

    def choose(self, cond: str, type: str, yes: int | str, no: int | str) -> str:
        return self.emit(f"select i1 {cond}, {type} {yes}, {type} {no}")

    def call(self, result: str, name: str, *args: str) -> str:
        """Calls @name with "type value" arguments; the value's name, or "" for void."""
        text = f"call {result} @{name}({', '.join(args)})"
        if result == "void":
            self.line(text)
            return ""
        return self.emit(text)

    def external(self, result: str, name: str, *args: str) -> str:
        """Calls a function of libc or an intrinsic, declaring it."""
        types = ", ".join(a.split(" ")[0] for a in args)
        self.declarations.add(f"declare {result} @{name}({types})")
        return self.call(result, name, *args)

    def copy(self, to: str, source: str, count: int | str) -> None:
        self.external("void", "llvm.memcpy.p0.p0.i64", f"ptr {to}", f"ptr {source}",
                      f"i64 {count}", "i1 false")  # fmt: skip

    def clear(self, to: str, count: int | str) -> None:
        self.external("void", "llvm.memset.p0.i64", f"ptr {to}", "i8 0", f"i64 {count}",
                      "i1 false")  # fmt: skip

    def variable(self, type: str, value: int | str) -> str:
        """Stack memory for a value that changes; returns its address."""
        made = self.alloca(type, 8)
        self.store(type, value, made)
        return made

    # --- control ----------------------------------------------------------------------------

    @contextmanager
    def when(self, cond: str) -> Iterator[None]:
        """The body runs if the i1 `cond` is true."""
        yes, after = self.new_label("yes"), self.new_label("after")
        with self._inner(yes) as body:
            yield
        self.line(f"br i1 {cond}, label %{yes}, label %{after}")
        self._splice(body, yes, after)
        self.start_block(after)

    @contextmanager
    def unless(self, cond: str) -> Iterator[None]:
        """The body runs if `cond` is false."""
        with self.when(self.emit(f"xor i1 {cond}, true")):
            yield

    @contextmanager
    def forever(self) -> Iterator[None]:
        """The body repeats until `leave_if` or a return."""
        head, after = self.new_label("again"), self.new_label("left")
        self._leave.append(after)
        with self._inner(head) as body:
            yield
        self._leave.pop()
        self.line(f"br label %{head}")
        self._splice(body, head, head)
        self.start_block(after)

    def leave_if(self, cond: str) -> None:
        """Ends the innermost loop."""
        go = self.new_label("on")
        self.line(f"br i1 {cond}, label %{self._leave[-1]}, label %{go}")
        self.start_block(go)

    @contextmanager
    def each(self, count: int | str) -> Iterator[str]:
        """The body runs for an index from 0 to count - 1."""
        at = self.variable("i64", 0)
        with self.forever():
            index = self.load("i64", at)
            self.leave_if(self.test("sge", "i64", index, count))
            yield index
            self.store("i64", self.bits("add", index, 1), at)

    def ret(self, type: str, value: int | str = "") -> None:
        self.line(f"ret {type} {value}".rstrip())

    def finished(self) -> str:
        """The function's text."""
        if len(self.scopes) != 1 or not _ended(self.scope):
            raise InternalError(f"{self.head} does not end with a return")
        lines = [*self.allocas, *self.scopes[0].lines]
        return f"{self.head} {{\nentry:\n" + "\n".join(lines) + "\n}\n"

    @contextmanager
    def _inner(self, label: str) -> Iterator[Scope]:
        scope = Scope(label)
        self.scopes.append(scope)
        yield scope
        self.scopes.pop()

    def _splice(self, body: Scope, label: str, then: str) -> None:
        self.start_block(label)
        self.scope.lines.extend(body.lines)
        self.scope.label = body.label
        if not _ended(body):
            self.line(f"br label %{then}")


def _ended(scope: Scope) -> bool:
    return bool(scope.lines) and scope.lines[-1].startswith(_TERMINATORS)


def _align(type: str) -> int:
    return {"i8": 1, "i32": 4}.get(type, 8)
