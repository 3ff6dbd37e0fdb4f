"""The kernel language as text: `show` prints a kernel, `parse` reads it back; exact inverses.

    kernel dense(batch in 1.., A: f32[batch,784], out C: f32[batch,16]) {
      parallel i in 0..batch step 8 {
        alloc acc: f32[16] in register
        vector v in 0..16 active batch - i {
          let t = exp(A[i + v, 3] + 1.5f)
          C[i + v, 0 ; if t < [batch - i]] = select(isnan(t), 0.0f, f32(i))
        }
        fail 0 if batch < 1 at i
      }
    }

Sizes. A dimension in the header has bounds `lo..` or `lo..=hi`, and `by m` where it is a multiple
of m. A loop variable has the bounds its range implies (`ir.loop_var`); where it has others they
stand behind its name: `for i{0..=7} in 0..n`.

Expressions. Operators bind as in Python, `!` is "not". A loop variable or dimension is written by
its name where a scalar is expected, any other dimension expression in brackets: `[batch - i]`. An
index that depends on data is marked: `A[@ids[i], j]`. Literals: `1.5f` float32, `1.5` float64, `3`
int64, `3:u8`, `0.5:f16`, `inf:f32`, `nan:f64`, `nan(0x7fc00001):f32` with its bits. `f32(x)`
converts, `bits_f32(x)` reads the bits anew, `lanes_add(acc[r])` combines the lanes of a row.
`$1 = x * x + 1.0f` before a statement says what `$1` stands for in it. `#` begins a comment.
"""

from __future__ import annotations

import math
import struct
from collections import Counter

import numpy as np

from ...algorithm import (
    Apply,
    Bitcast,
    Cast,
    Const,
    Expr,
    Index,
    IndexLike,
    LaneReduce,
    Load,
    Select,
    Var,
    children,
    scalar_bits,
)
from ...dims import Dim, DimExpr, Sym, as_sym
from ...dims import show as show_dim
from ...errors import InternalError
from .grammar import ATOM, COMPARISON, INFIX, LOOPS, PREFIX, UNARY
from .ir import (
    Alloc,
    Buffer,
    Call,
    Fail,
    For,
    If,
    Kernel,
    Let,
    Stmt,
    Store,
    While,
    expressions,
    loop_facts,
)
from .read import parse

__all__ = ["parse", "show", "show_access", "show_bounds", "show_expr", "show_head", "show_stmts"]

_SHARED_SIZE = 8  # parts of fewer operations are repeated rather than named
_DEEP = 50  # parts this deep are named, so that no recursion here or in the parser is deeper


def show(kernel: Kernel) -> str:
    """The text of `kernel`, ending in a line break."""
    dims = [f"{as_sym(d).name} in {show_bounds(as_sym(d))}" for d in kernel.dims]
    params = [("out " if b.written else "") + _buffer(b) for b in kernel.params]
    head = f"kernel {kernel.name}({', '.join(dims + params)}) {{\n"
    return head + show_stmts(kernel.body, 1) + "}\n"


def show_stmts(stmts: tuple[Stmt, ...], depth: int = 0) -> str:
    """The text of statements, each on lines of its own, indented by `depth` steps."""
    out: list[str] = []
    _lines(stmts, "  " * depth, out)
    return "".join(line + "\n" for line in out)


def _lines(stmts: tuple[Stmt, ...], indent: str, out: list[str]) -> None:
    for s in stmts:
        texts = _Expressions(tuple(expressions(s)))
        out.extend(indent + line for line in texts.definitions())
        out.append(indent + _head(s, texts))
        if isinstance(s, For | While):
            _lines(s.body, indent + "  ", out)
            out.append(indent + "}")
        elif isinstance(s, If):
            _lines(s.then, indent + "  ", out)
            if s.orelse:
                out.append(indent + "} else {")
                _lines(s.orelse, indent + "  ", out)
            out.append(indent + "}")


def show_head(s: Stmt) -> str:
    """The first line of a statement: all of it but a loop's or branch's body."""
    return _head(s, _Expressions(tuple(expressions(s))))


def show_expr(e: Expr) -> str:
    """The text of an expression, with no more parentheses than reading needs."""
    return _Expressions((e,)).show(e)


def show_access(buffer: str, indices: tuple[IndexLike, ...], mask: Expr | None = None) -> str:
    """The text of a place in a buffer: `C[i, @ids[j] ; if m]`."""
    inside = [i for i in (*indices, mask) if isinstance(i, Expr)]
    return _Expressions(tuple(inside)).access(buffer, indices, mask)


def _head(s: Stmt, texts: _Expressions) -> str:
    if isinstance(s, For):
        step = f" step {s.step}" if s.step != 1 else ""
        active = f" active {show_dim(s.active)}" if s.active is not None else ""
        return f"{LOOPS[s.kind]} {_loop_name(s)} in {_range(s)}{step}{active} {{"
    if isinstance(s, Let):
        return f"let {s.name} = {texts.show(s.value)}"
    if isinstance(s, Store):
        return f"{texts.access(s.buffer, s.indices, s.mask)} = {texts.show(s.value)}"
    if isinstance(s, Alloc):
        return f"alloc {_buffer(s.buffer)} in {s.buffer.space}"
    if isinstance(s, If):
        return f"if {texts.show(s.cond)} {{"
    if isinstance(s, While):
        return f"while {texts.show(s.cond)} {{"
    if isinstance(s, Fail):
        return f"fail {s.site} if {texts.show(s.cond)} at {show_dim(s.index)}"
    if isinstance(s, Call):
        where = texts.access(s.buffer, s.indices) if s.indices else s.buffer
        return f"{s.instruction} {where}"
    raise InternalError(f"unknown statement {type(s).__name__}")


def _range(s: For) -> str:
    return f"{show_dim(s.lo)}..{show_dim(s.hi)}"


def _loop_name(s: For) -> str:
    var = s.sym
    (low, high), multiple = loop_facts(s.lo, s.hi, s.step)
    if (var.lo, var.hi, var.multiple) == (low, high, multiple):
        return var.name
    return f"{var.name}{{{show_bounds(var)}}}"


def show_bounds(s: Sym) -> str:
    """What a symbol may be: `1..`, `0..=64 by 8`."""
    high = "" if s.hi is None else f"={s.hi}"
    return f"{s.lo}..{high}" + (f" by {s.multiple}" if s.multiple != 1 else "")


def _buffer(b: Buffer) -> str:
    return f"{b.name}: {b.dtype.short}[{','.join(show_dim(d) for d in b.shape)}]"


class _Expressions:
    """The texts of a statement's expressions.

    A part that stands in several places, or deep inside, is written once and called `$1`: random
    numbers and polynomials are graphs of shared parts, and as trees would be endless.
    """

    def __init__(self, roots: tuple[Expr, ...]) -> None:
        self.names: dict[Expr, str] = {}
        order = _postorder(roots)
        uses = Counter(c for e in order for c in children(e))
        uses.update(roots)
        size: dict[Expr, int] = {}
        depth: dict[Expr, int] = {}
        for e in order:
            below = [c for c in children(e) if c not in self.names]
            size[e] = 1 + len(children(e)) - len(below) + sum(size[c] for c in below)
            depth[e] = 1 + max((depth[c] for c in below), default=0)
            if (uses[e] > 1 and size[e] >= _SHARED_SIZE) or depth[e] >= _DEEP:
                self.names[e] = f"${len(self.names) + 1}"

    def definitions(self) -> list[str]:
        """`$1 = ...` for every part with a name."""
        return [f"{name} = {self._text(e)[0]}" for e, name in self.names.items()]

    def show(self, e: Expr) -> str:
        return self.names.get(e) or self._text(e)[0]

    def access(self, buffer: str, indices: tuple[IndexLike, ...], mask: Expr | None = None) -> str:
        shown = [f"@{self.show(i)}" if isinstance(i, Expr) else show_dim(i) for i in indices]
        where = f" ; if {self.show(mask)}" if mask is not None else ""
        return f"{buffer}[{', '.join(shown)}{where}]"

    def _operand(self, e: Expr) -> tuple[str, int]:
        """Text and how tightly its outermost operator binds."""
        name = self.names.get(e)
        return (name, ATOM) if name is not None else self._text(e)

    def _text(self, e: Expr) -> tuple[str, int]:
        if isinstance(e, Apply):
            return self._apply(e)
        if isinstance(e, Const):
            return _literal(e), ATOM
        if isinstance(e, Var):
            return e.name, ATOM
        if isinstance(e, Index):
            return _index(e.dim), ATOM
        if isinstance(e, Load):
            return self.access(e.buffer, e.indices, e.mask), ATOM
        if isinstance(e, Select):
            return f"select({', '.join(map(self.show, (e.cond, e.yes, e.no)))})", ATOM
        if isinstance(e, Cast):
            return f"{e.dtype.short}({self.show(e.x)})", ATOM
        if isinstance(e, Bitcast):
            return f"bits_{e.dtype.short}({self.show(e.x)})", ATOM
        if isinstance(e, LaneReduce):
            row = self.access(e.buffer, e.indices) if e.indices else e.buffer
            return f"lanes_{e.fn}({row})", ATOM
        raise InternalError(f"unknown expression {type(e).__name__}")

    def _apply(self, e: Apply) -> tuple[str, int]:
        if e.fn in INFIX and len(e.args) == 2:
            sign, tight = INFIX[e.fn]
            (left, a), (right, b) = map(self._operand, e.args)
            if a < tight or a == tight == COMPARISON:
                left = f"({left})"
            return f"{left} {sign} " + (f"({right})" if b <= tight else right), tight
        if e.fn in PREFIX and len(e.args) == 1:
            text, tight = self._operand(e.args[0])
            bare = tight >= UNARY and text[0] not in "-!" and not isinstance(e.args[0], Const)
            return PREFIX[e.fn] + (text if bare else f"({text})"), UNARY
        return f"{e.fn}({', '.join(map(self.show, e.args))})", ATOM


def _postorder(roots: tuple[Expr, ...]) -> list[Expr]:
    """Every distinct sub-expression after those inside it."""
    order: dict[Expr, None] = {}
    stack = [(e, False) for e in reversed(roots)]
    while stack:
        e, ready = stack.pop()
        if ready:
            order[e] = None
        elif e not in order:
            stack.append((e, True))
            stack.extend((c, False) for c in reversed(children(e)))
    return list(order)


def _index(d: Dim) -> str:
    if isinstance(d, DimExpr) and len(d.terms) == 1:
        atoms, factor = d.terms[0]
        if factor == 1 and len(atoms) == 1 and isinstance(atoms[0], Sym):
            return atoms[0].name
    return f"[{show_dim(d)}]"


def _literal(c: Const) -> str:
    short, bits = c.dtype.short, scalar_bits(c.value, c.dtype)
    if c.dtype.kind == "b":
        return "true" if c.value else "false"
    if c.dtype.is_integer:
        negative = c.dtype.kind == "i" and bits >> (c.dtype.bits - 1)
        number = bits - (1 << c.dtype.bits) if negative else bits
        return str(number) if short == "i64" else f"{number}:{short}"
    value = float(c.value)
    if math.isnan(value):
        plain = bits == scalar_bits(math.nan, c.dtype)
        return f"nan:{short}" if plain else f"nan({bits:#x}):{short}"
    if math.isinf(value):
        return f"{'-' if value < 0 else ''}inf:{short}"
    if short == "f64":
        return repr(value)
    if short == "f32":
        text = str(np.float32(value))
        exact = struct.pack("<f", float(text)) == struct.pack("<f", value)
        return f"{text}f" if exact else f"{value!r}f"
    return f"{value!r}:{short}"
