"""The rules of the kernel language: a kernel in, every violation as one sentence out.

`check` raises for the first ones; `unproven_accesses` (from `prove`) lists what cannot be shown
to stay within bounds, which is not a violation.
"""

from __future__ import annotations

from collections.abc import Iterator

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
    walk,
)
from ...dims import Dim, DimExpr, Sym, as_sym, bounds, free_symbols
from ...dtypes import DType, bool_
from ...errors import InternalError
from .grammar import NAME, RESERVED
from .instructions import INSTRUCTIONS
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
    Stmt,
    Store,
    While,
    expressions,
    loop_facts,
)
from .prove import Facts, unproven_accesses
from .structure import parallel_fault, vector_fault
from .text import show_expr, show_head

__all__ = ["check", "unproven_accesses", "verify"]

_ANY_DTYPE = frozenset(("min", "max", "eq", "ne", "lt", "le", "gt", "ge"))
_BITS = frozenset(("and", "or", "xor", "not"))
_SHIFTS = frozenset(("shl", "shr"))
_NUMBERS = frozenset(("add", "sub", "mul", "floordiv", "mod", "pow", "fma", "neg", "abs", "sign"))


def check(kernel: Kernel) -> None:
    """Raises InternalError with the violations of `kernel`, if there are any."""
    found = list(verify(kernel))
    if found:
        more = [f"and {len(found) - 5} more"] if len(found) > 5 else []
        lines = "\n  ".join([*found[:5], *more])
        raise InternalError(f"kernel {kernel.name} breaks the rules of the language:\n  {lines}")


def verify(kernel: Kernel) -> Iterator[str]:
    """Every rule of the language that `kernel` breaks, none if it is right."""
    yield from _Verifier().kernel(kernel)


class _Verifier:
    """Walks a kernel once; the attributes hold what is in scope."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.symbols: dict[str, tuple[Sym, Kind | None]] = {}  # None: a dimension
        self.buffers: dict[str, Buffer] = {}
        self.lets: dict[str, DType] = {}
        self.values: dict[str, Expr] = {}
        self.allocs: set[str] = set()  # of this block
        self.by_lanes: dict[str, bool] = {}  # of register buffers
        self.facts = Facts()
        self.lane: Sym | None = None
        self.lanes = 0

    def kernel(self, k: Kernel) -> Iterator[str]:
        if not NAME.fullmatch(k.name):
            yield f"kernel name {k.name!r} is not an identifier"
        for d in k.dims:
            yield from self.bind(as_sym(d).name)
            self.symbols[as_sym(d).name] = (as_sym(d), None)
        for b in k.params:
            yield from self.bind(b.name)
            if b.space != "arg":
                yield f"parameter {b.name} is in space {b.space}, it must be arg"
            for extent in b.shape:
                yield from self.dim(extent, f"the shape of {b.name}")
            self.buffers[b.name] = b
        fault = parallel_fault(k)
        if fault:
            yield fault
        yield from self.block(k.body)

    def bind(self, name: str) -> Iterator[str]:
        if not NAME.fullmatch(name) or name in RESERVED:
            yield f"{name!r} cannot be a name"
        if name in self.names:
            yield f"{name} is named twice"
        self.names.add(name)

    def block(self, body: tuple[Stmt, ...], loop: For | None = None) -> Iterator[str]:
        """A scope of its own, that of `loop`'s body if there is one."""
        saved = self.__dict__.copy()
        self.names, self.symbols = self.names.copy(), self.symbols.copy()
        self.buffers, self.lets = self.buffers.copy(), self.lets.copy()
        self.values, self.allocs = self.values.copy(), set()
        if loop is not None:
            yield from self.bind(loop.sym.name)
            self.symbols[loop.sym.name] = (loop.sym, loop.kind)
            self.facts = self.facts.inside(loop)
            if loop.kind == "vector" and isinstance(loop.hi, int):
                self.lane, self.lanes = loop.sym, loop.hi
        for s in body:
            problems = list(self.statement(s))
            for problem in problems:
                yield f"{problem}, in `{show_head(s)}`"
            if isinstance(s, For) and s.step >= 1:
                yield from self.block(s.body, s)
            elif isinstance(s, While):
                facts = self.facts
                self.facts = facts.assuming(s.cond, self.values)
                yield from self.block(s.body)
                self.facts = facts
            elif isinstance(s, If):
                facts = self.facts
                self.facts = facts.assuming(s.cond, self.values)
                yield from self.block(s.then)
                self.facts = facts.assuming(s.cond, self.values, False)
                yield from self.block(s.orelse)
                self.facts = facts
        self.__dict__.update(saved)

    def statement(self, s: Stmt) -> Iterator[str]:
        """What is wrong with a statement itself, not with those in its body."""
        for e in expressions(s):
            yield from self.expression(e)
        if isinstance(s, For):
            yield from self.loop(s)
        elif isinstance(s, Let):
            yield from self.bind(s.name)
            self.lets[s.name], self.values[s.name] = s.value.dtype, s.value
        elif isinstance(s, Store):
            yield from self.store(s)
        elif isinstance(s, Alloc):
            yield from self.alloc(s.buffer)
        elif isinstance(s, If | While | Fail):
            if s.cond.dtype != bool_:
                yield f"the condition is {s.cond.dtype!r}, it must be b8"
            if isinstance(s, Fail):
                if s.site < 0:
                    yield f"site {s.site} is negative"
                yield from self.dim(s.index, "the index")
        elif isinstance(s, Call):
            yield from self.call(s)

    def loop(self, s: For) -> Iterator[str]:
        if s.step < 1:
            yield f"step {s.step} is less than 1"
            return
        for what, d in (("lo", s.lo), ("hi", s.hi), ("active", s.active)):
            if d is not None:
                yield from self.dim(d, what)
        yield from self.loop_kind(s)
        var = s.sym
        (low, last), multiple = loop_facts(s.lo, s.hi, s.step)
        if (low is None or low < var.lo) and not self.facts.prove(s.lo - var.lo):
            yield f"{var.name} claims to be at least {var.lo}, which its range does not imply"
        if var.hi is not None and not (
            (last is not None and last <= var.hi) or self.facts.prove(var.hi + 1 - s.hi)
        ):
            yield f"{var.name} claims to be at most {var.hi}, which its range does not imply"
        if multiple % var.multiple:
            yield f"{var.name} claims to be a multiple of {var.multiple}, its range does not imply"

    def loop_kind(self, s: For) -> Iterator[str]:
        if s.active is not None and s.kind != "vector":
            yield f"a loop of kind {s.kind} has no `active`"
        if s.kind == "unroll" and not (isinstance(s.lo, int) and isinstance(s.hi, int)):
            yield "the bounds of an unroll loop must be constant"
        if s.kind == "vector":
            if s.lo != 0 or s.step != 1 or not isinstance(s.hi, int) or s.hi < 1:
                yield "a vector loop runs over 0..lanes with lanes constant"
            fault = vector_fault(s.body)
            if fault:
                yield fault

    def store(self, s: Store) -> Iterator[str]:
        yield from self.access(s.buffer, s.indices, s.mask, stored=True)
        buffer = self.buffers.get(s.buffer)
        if buffer is None:
            return
        if buffer.dtype != s.value.dtype:
            yield f"a {s.value.dtype!r} is stored to {s.buffer}, which holds {buffer.dtype!r}"
        if buffer.space == "arg" and not buffer.written:
            yield f"{s.buffer} is not an out parameter"
        if self.lane is not None:
            own = any(isinstance(i, Expr) or self.lane in free_symbols(i) for i in s.indices)
            if not own:
                yield "all lanes store to the same element"

    def alloc(self, b: Buffer) -> Iterator[str]:
        if b.name in self.allocs:
            self.names.discard(b.name)
        yield from self.bind(b.name)
        self.allocs.add(b.name)
        self.buffers[b.name] = b
        self.by_lanes.pop(b.name, None)
        if b.space == "arg":
            yield f"{b.name} is allocated in space arg, it must be stack or register"
        if not all(isinstance(d, int) and d >= 1 for d in b.shape):
            yield f"the shape of {b.name} must be constant and positive"
        if b.written:
            yield f"only parameters are marked as written, {b.name} is allocated"

    def call(self, s: Call) -> Iterator[str]:
        row = INSTRUCTIONS.get(s.instruction)
        buffer = self.buffers.get(s.buffer)
        if row is None:
            yield f"no instruction {s.instruction}"
        elif buffer is None:
            yield f"no buffer {s.buffer} here"
        elif row.operand == "memory":
            if buffer.space == "register":
                yield f"{s.instruction} needs memory, {s.buffer} is in registers"
            yield from self.access(s.buffer, s.indices, None)
        else:
            if s.indices or buffer.space != "register":
                yield f"{s.instruction} takes a whole register buffer"
            if len(buffer.shape) != 2 or buffer.shape[0] != buffer.shape[1]:
                yield f"{s.instruction} needs a square buffer, {s.buffer} is {buffer.shape}"
            yield from self.row(s.buffer, True)

    def dim(self, d: Dim, what: str) -> Iterator[str]:
        for symbol in sorted(free_symbols(d), key=lambda s: s.key):
            known = self.symbols.get(symbol.name)
            if known is None:
                yield f"{symbol.name} is not defined, in {what}"
            elif known[0] != symbol:
                yield f"{symbol.name} in {what} has other bounds than where it is bound"

    def expression(self, e: Expr) -> Iterator[str]:
        for x in walk(e):
            if isinstance(x, Var):
                if x.name not in self.lets:
                    yield f"{x.name} is not defined"
                elif self.lets[x.name] != x.dtype:
                    yield f"{x.name} is {self.lets[x.name]!r} but used as {x.dtype!r}"
            elif isinstance(x, Index):
                yield from self.dim(x.dim, show_expr(x))
            elif isinstance(x, Load):
                yield from self.access(x.buffer, x.indices, x.mask)
                yield from self.holds(x.buffer, x.dtype)
            elif isinstance(x, Apply):
                yield from _function(x)
            elif isinstance(x, Select):
                if x.cond.dtype != bool_:
                    yield f"the condition of {show_expr(x)} is {x.cond.dtype!r}, it must be b8"
                if x.yes.dtype != x.no.dtype:
                    yield f"{show_expr(x)} joins {x.yes.dtype!r} and {x.no.dtype!r}"
            elif isinstance(x, Bitcast):
                if x.dtype.bits != x.x.dtype.bits or bool_ in (x.dtype, x.x.dtype):
                    yield f"{show_expr(x)} reads {x.x.dtype!r} bits as {x.dtype!r}"
            elif isinstance(x, LaneReduce):
                yield from self.lane_reduce(x)
            elif not isinstance(x, Const | Cast):
                yield f"{type(x).__name__} is not an expression of kernels"

    def holds(self, name: str, dtype: DType) -> Iterator[str]:
        buffer = self.buffers.get(name)
        if buffer is not None and buffer.dtype != dtype:
            yield f"{name} holds {buffer.dtype!r} but is read as {dtype!r}"

    def lane_reduce(self, x: LaneReduce) -> Iterator[str]:
        buffer = self.buffers.get(x.buffer)
        if buffer is None:
            yield f"no buffer {x.buffer} here"
            return
        yield from self.holds(x.buffer, x.dtype)
        if x.fn not in ("add", "mul", "min", "max") or not x.dtype.computes:
            yield f"lanes of {x.dtype!r} are not combined by {x.fn}"
        if buffer.space != "register" or len(x.indices) != len(buffer.shape) - 1:
            yield f"{show_expr(x)} does not name a row of a register buffer"
            return
        yield from self.row(x.buffer, True)
        lanes = buffer.shape[-1]
        if not isinstance(lanes, int) or lanes & (lanes - 1):
            yield f"{x.buffer} has {lanes} lanes, {show_expr(x)} needs a power of two"
        for index, extent in zip(x.indices, buffer.shape):
            yield from self.register_index(x.buffer, index, extent)

    def access(
        self, name: str, indices: tuple[IndexLike, ...], mask: Expr | None, stored: bool = False
    ) -> Iterator[str]:
        buffer = self.buffers.get(name)
        if buffer is None:
            yield f"no buffer {name} here"
            return
        if len(indices) != len(buffer.shape):
            yield f"{len(indices)} indices for {name} of {len(buffer.shape)} dimensions"
            return
        if mask is not None and mask.dtype != bool_:
            yield f"the mask is {mask.dtype!r}, it must be b8"
        if buffer.space == "register":
            if mask is not None:
                yield f"an access to register buffer {name} has a mask"
            by_lanes = bool(indices) and self.lane is not None and indices[-1] == _dim(self.lane)
            yield from self.row(name, by_lanes)
        for number, (index, extent) in enumerate(zip(indices, buffer.shape)):
            if isinstance(index, Expr):
                if not index.dtype.is_integer:
                    yield f"index {show_expr(index)} of {name} is {index.dtype!r}, not an integer"
                if buffer.space == "register":
                    yield f"register buffer {name} has an index that depends on data"
                continue
            yield from self.dim(index, f"an index of {name}")
            if buffer.space != "register":
                continue
            last = number == len(indices) - 1
            if last and self.lane is not None and index == _dim(self.lane):
                if extent != self.lanes:
                    yield f"{name} has rows of {extent}, accessed by {self.lanes} lanes"
            else:
                yield from self.register_index(name, index, extent)

    def row(self, name: str, by_lanes: bool) -> Iterator[str]:
        """Notes how a register buffer is accessed."""
        if self.by_lanes.setdefault(name, by_lanes) != by_lanes:
            yield f"register buffer {name} is accessed both by lanes and by elements"

    def register_index(self, name: str, index: Dim, extent: Dim) -> Iterator[str]:
        for symbol in free_symbols(index):
            known = self.symbols.get(symbol.name)
            if known is not None and known[1] != "unroll":
                yield f"index {index} of register buffer {name} is not constant once unrolled"
                return
        low, high = bounds(index)
        if low is None or high is None or low < 0 or not isinstance(extent, int) or high >= extent:
            yield f"index {index} of register buffer {name} leaves 0..{extent}"


def _dim(s: Sym) -> Dim:
    return DimExpr((((s,), 1),))


def _function(x: Apply) -> Iterator[str]:
    """What is wrong with the arguments or the result of one function."""
    if x.fn not in FUNCTIONS:
        yield f"no function {x.fn}"
        return
    count, result = FUNCTIONS[x.fn]
    dtypes = {a.dtype for a in x.args}
    if len(x.args) != count or len(dtypes) != 1:
        kinds = ", ".join(repr(a.dtype) for a in x.args)
        yield f"{x.fn} of ({kinds}): it takes {count} of one dtype"
        return
    (dtype,) = dtypes
    if x.dtype != (bool_ if result == "bool" else dtype):
        yield f"{x.fn} of {dtype!r} has dtype {x.dtype!r}"
    if x.fn in _ANY_DTYPE:
        fits = dtype.computes
    elif x.fn in _BITS:
        fits = not dtype.is_float
    elif x.fn in _SHIFTS:
        fits = dtype.is_integer
    elif x.fn in _NUMBERS:
        fits = dtype.computes and dtype.kind != "b"
    else:
        fits = dtype.is_float and dtype.computes
    if not fits:
        yield f"{x.fn} is not defined on {dtype!r}"
