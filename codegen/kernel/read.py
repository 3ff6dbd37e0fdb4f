"""Reads the text form of kernels: text in, a `Kernel` or a TextError with line and column out."""

from __future__ import annotations

import struct

from ...algorithm import (
    FUNCTIONS,
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
)
from ...dims import Dim, DimExpr, floordiv, maximum, minimum, mod, sym
from ...dtypes import ALL, DType, bool_, float32, float64, int64
from ...errors import InternalError, TextError
from .grammar import COMPARISON, INFIX, LOOPS
from .ir import (
    Alloc,
    Buffer,
    Call,
    Fail,
    For,
    If,
    Kernel,
    Kind,
    Let,
    Space,
    Stmt,
    Store,
    While,
    loop_var,
)
from .tokens import Tokens

DTYPES: dict[str, DType] = {d.short: d for d in ALL}
_KINDS: dict[str, Kind] = {word: kind for kind, word in LOOPS.items()}
_SPACES: dict[str, Space] = {"arg": "arg", "stack": "stack", "register": "register"}
_BINARY = {sign: (fn, tight) for fn, (sign, tight) in INFIX.items()}


def parse(text: str) -> Kernel:
    """The kernel that `text.show` wrote as `text`; whether it makes sense is `verify`'s business.

    Raises TextError, naming line and column, for anything else.
    """
    try:
        return Reader(text).kernel()
    except RecursionError:
        raise TextError("kernel text: nested too deeply") from None


class Reader(Tokens):
    """Recursive descent; `names` and `buffers` hold what is in scope."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.names: dict[str, DimExpr | DType] = {}  # a symbol, or the dtype of a `let`
        self.buffers: dict[str, Buffer] = {}
        self.parts: dict[str, Expr] = {}  # what `$1` stands for

    # The header

    def kernel(self) -> Kernel:
        self.expect("kernel")
        name = self.name("the kernel's name")
        self.expect("(")
        dims: list[DimExpr] = []
        params: list[Buffer] = []

        def item() -> None:
            if self.tokens[self.at + 1] == "in":
                symbol_name = self.name("a dimension")
                self.expect("in")
                symbol = sym(symbol_name, *self.bounds())
                self.names[symbol_name] = symbol
                dims.append(symbol)
            else:
                written = self.tokens[self.at + 1] != ":" and self.skip("out")
                params.append(self.buffer(written))

        self.sequence(")", item)
        body = self.block()
        if self.kinds[self.at] != "end":
            self.error(f"expected the end, found {self.tokens[self.at]!r}")
        return Kernel(name, tuple(dims), tuple(params), body)

    def bounds(self) -> tuple[int, int | None, int]:
        low = self.integer()
        self.expect("..")
        high = self.integer() if self.skip("=") else None
        return low, high, self.integer() if self.skip("by") else 1

    def buffer(self, written: bool = False, of_alloc: bool = False) -> Buffer:
        name = self.name("a buffer's name")
        self.expect(":")
        dtype = self.choice(DTYPES, "a data type")
        self.expect("[")
        shape = self.sequence("]", self.dim)
        space: Space = "arg"
        if of_alloc:
            self.expect("in")
            space = self.choice(_SPACES, "stack or register")
        self.buffers[name] = out = Buffer(name, dtype, shape, space, written)
        return out

    # Statements

    def block(self) -> tuple[Stmt, ...]:
        self.expect("{")
        names, buffers = self.names.copy(), self.buffers.copy()
        out: list[Stmt] = []
        while not self.skip("}"):
            if self.kinds[self.at] == "part":
                self.part()
            else:
                out.append(self.statement())
        self.names, self.buffers = names, buffers
        return tuple(out)

    def part(self) -> None:
        """`$1 = expression`, to be read wherever `$1` stands."""
        name = self.take("part", "a part")
        self.expect("=")
        self.parts[name] = self.expr()

    def statement(self) -> Stmt:
        word = self.name("a statement")
        if word in _KINDS:
            return self.loop(_KINDS[word])
        if word == "let":
            name = self.name("a name")
            self.expect("=")
            value = self.expr()
            self.names[name] = value.dtype
            return Let(name, value)
        if word == "alloc":
            return Alloc(self.buffer(of_alloc=True))
        if word == "if":
            cond = self.expr()
            then = self.block()
            return If(cond, then, self.block() if self.skip("else") else ())
        if word == "while":
            return While(self.expr(), self.block())
        if word == "fail":
            site = self.integer()
            self.expect("if")
            cond = self.expr()
            self.expect("at")
            return Fail(site, cond, self.dim())
        if self.peek("["):
            buffer = self.known_buffer(word)
            indices, mask = self.access()
            self.expect("=")
            return Store(buffer.name, indices, self.expr(), mask)
        if self.kinds[self.at] == "name":
            buffer = self.known_buffer(self.name("a buffer"))
            place = self.sequence("]", self.dim) if self.skip("[") else ()
            return Call(word, buffer.name, place)
        self.at -= 1
        self.error(f"expected a statement, found {word!r}")

    def loop(self, kind: Kind) -> For:
        name = self.name("a loop variable")
        given = None
        if self.skip("{"):
            given = sym(name, *self.bounds())
            self.expect("}")
        self.expect("in")
        start = self.starts[self.at]
        lo = self.dim()
        self.expect("..")
        hi = self.dim()
        step = self.integer() if self.skip("step") else 1
        active = self.dim() if self.skip("active") else None
        if step < 1:
            self.error(f"the step of loop {name} is {step}, it must be at least 1", start)
        try:
            var = given or loop_var(name, lo, hi, step)
        except InternalError as e:
            self.error(f"{e}; write its bounds: {name}{{0..}}", start)
        outer = self.names.get(name)
        self.names[name] = var
        body = self.block()
        del self.names[name]
        if outer is not None:
            self.names[name] = outer
        return For(var, lo, hi, step, kind, body, active)

    def known_buffer(self, name: str) -> Buffer:
        if name not in self.buffers:
            self.at -= 1
            self.error(f"no buffer {name} here")
        return self.buffers[name]

    def access(self) -> tuple[tuple[IndexLike, ...], Expr | None]:
        self.expect("[")
        indices = self.items(self.index, "]", ";")
        mask = None
        if self.skip(";"):
            self.expect("if")
            mask = self.expr()
        self.expect("]")
        return indices, mask

    def index(self) -> IndexLike:
        return self.expr() if self.skip("@") else self.dim()

    # Dimensions

    def dim(self) -> Dim:
        out = self.dim_product()
        while True:
            if self.skip("+"):
                out = out + self.dim_product()
            elif self.skip("-"):
                out = out - self.dim_product()
            else:
                return out

    def dim_product(self) -> Dim:
        out = self.dim_factor()
        while True:
            if self.skip("*"):
                out = out * self.dim_factor()
            elif self.skip("//"):
                out = floordiv(out, self.divisor())
            elif self.skip("%"):
                out = mod(out, self.divisor())
            else:
                return out

    def divisor(self) -> Dim:
        start = self.starts[self.at]
        d = self.dim_factor()
        if isinstance(d, int) and d < 1:
            self.error(f"division by {d}", start)
        return d

    def dim_factor(self) -> Dim:
        if self.kinds[self.at] == "int":
            self.at += 1
            return int(self.tokens[self.at - 1], 0)
        if self.skip("-"):
            return -self.dim_factor()
        if self.skip("("):
            out = self.dim()
            self.expect(")")
            return out
        name = self.name("a dimension")
        if name in ("min", "max") and self.skip("("):
            a = self.dim()
            self.expect(",")
            b = self.dim()
            self.expect(")")
            return minimum(a, b) if name == "min" else maximum(a, b)
        known = self.names.get(name)
        if not isinstance(known, DimExpr):
            self.at -= 1
            self.error(f"no dimension or loop variable {name} here")
        return known

    # Expressions

    def expr(self, least: int = COMPARISON) -> Expr:
        """An expression of operators that bind at least as tightly as `least`."""
        left = self.unary()
        while True:
            operator = _BINARY.get(self.tokens[self.at])
            if operator is None or operator[1] < least:
                return left
            self.at += 1
            fn, tight = operator
            left = _apply(fn, (left, self.expr(tight + 1)))
            if tight == COMPARISON:
                return left

    def unary(self) -> Expr:
        if self.skip("!"):
            return _apply("not", (self.unary(),))
        if self.skip("-"):
            if self.kinds[self.at] in ("int", "float") or self.peek("inf"):
                return self.number(-1)
            return _apply("neg", (self.unary(),))
        return self.atom()

    def atom(self) -> Expr:
        if self.kinds[self.at] in ("int", "float"):
            return self.number(1)
        if self.skip("("):
            out = self.expr()
            self.expect(")")
            return out
        if self.skip("["):
            dim = self.dim()
            self.expect("]")
            return Index(dim)
        if self.tokens[self.at] in self.parts:
            self.at += 1
            return self.parts[self.tokens[self.at - 1]]
        word = self.name("a value")
        if word in ("inf", "nan"):
            self.at -= 1
            return self.number(1)
        if word in ("true", "false"):
            return Const(word == "true", bool_)
        if self.peek("["):
            buffer = self.known_buffer(word)
            indices, mask = self.access()
            return Load(buffer.name, indices, buffer.dtype, mask)
        if self.skip("("):
            return self.call(word)
        known = self.names.get(word)
        if known is None:
            self.at -= 1
            self.error(f"nothing named {word} here")
        return Index(known) if isinstance(known, DimExpr) else Var(word, known)

    def call(self, word: str) -> Expr:
        """What stands behind `word(`."""
        start = self.at - 2
        if word.startswith("lanes_"):
            buffer = self.known_buffer(self.name("a register buffer"))
            indices = self.sequence("]", self.dim) if self.skip("[") else ()
            self.expect(")")
            return LaneReduce(word.removeprefix("lanes_"), buffer.name, indices, buffer.dtype)
        args: tuple[Expr, ...] = self.sequence(")", self.expr)
        if word in FUNCTIONS and args:
            return _apply(word, args)
        if word == "select" and len(args) == 3:
            return Select(*args)
        dtype = DTYPES.get(word.removeprefix("bits_"))
        if dtype is not None and len(args) == 1:
            return Bitcast(args[0], dtype) if word.startswith("bits_") else Cast(args[0], dtype)
        self.at = start
        self.error(f"no function {word} of {len(args)} arguments")

    def number(self, sign: int) -> Const:
        """A literal of a number; its `-` has been read."""
        kind, token = self.kinds[self.at], self.tokens[self.at]
        self.at += 1
        bits: int | None = None
        if token == "nan" and self.skip("("):
            bits = int(self.take("int", "the bits"), 0)
            self.expect(")")
        dtype = float64 if kind == "float" else int64
        if token.endswith("f") and kind == "float":
            token, dtype = token[:-1], float32
        elif self.skip(":"):
            dtype = self.choice(DTYPES, "a data type")
        if kind == "int":
            if dtype.is_integer:
                return Const(sign * int(token, 0), dtype)
            self.at -= 1
            self.error(f"{token} is not a literal of {dtype}")
        if not dtype.is_float:
            self.at -= 1
            self.error(f"{token} is not a literal of {dtype}")
        if bits is None:
            return Const(sign * float(token), dtype)
        width = 8 if dtype.bits == 64 else 4
        if bits >> (8 * width):
            self.error(f"{bits:#x} has more bits than {dtype}")
        (value,) = struct.unpack("<d" if width == 8 else "<f", bits.to_bytes(width, "little"))
        return Const(value, dtype)


def _apply(fn: str, args: tuple[Expr, ...]) -> Apply:
    return Apply(fn, args, bool_ if FUNCTIONS[fn][1] == "bool" else args[0].dtype)
