"""The kernel language: loops over buffers. What native code is made from, one construct at a time.

A `Kernel` reads and writes `Buffer`s (dense, row-major, indexed by `Dim`s) in nested loops. Its
expressions are those of `algorithm`. Everything that decides speed is said here: tiles are loops,
vectors are loops of kind "vector", registers are buffers in space "register", threads share the
loop of kind "parallel".

Loop kinds:
  serial    one iteration after the other;
  parallel  iterations are divided among the parts of a phase: part p of P runs the contiguous
            share [n*p//P, n*(p+1)//P) of the n iterations. Stands in serial loops at most; if a
            kernel has parallel loops, all its failures and stores to args happen in them, and
            none loads what another stores. Part 0 alone runs a kernel without any;
  unroll    constant bounds; the body is repeated with the index replaced by each value;
  vector    0..lanes with lanes constant; all iterations at once as one SIMD operation. The body
            holds Let, Store, unroll loops and Fail only. With `active` only the iterations below
            it take place. Iterations must not depend on one another.

A register buffer's indices are constants once unroll loops are expanded, apart from the last one,
which may be the index of the enclosing vector loop (the lane). Each element, or row of lanes, is
one SSA value. Only elements stored before are loaded, and accesses have no mask. A buffer is
accessed by lanes everywhere, and then has their number as its last dimension, or nowhere.

Where `algorithm` leaves it open: integers convert to integers by wrapping and anything to bool as
`x != 0`; 16-bit floats are made from float32 and other types go through it, except that float64
to float16 rounds once; integer floordiv and mod need a divisor that is not 0, pow an exponent
>= 0, in every iteration that takes place (the least integer // -1 wraps); round is to even; float
floordiv and mod are Python's; min and max of zeros of unlike sign may be either.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import gcd
from typing import Literal, TypeAlias

from ...algorithm import Expr, IndexLike, Load, children, walk
from ...dims import Bounds, Dim, DimExpr, Sym, as_sym, bounds, divisor, free_symbols, sym
from ...dtypes import DType
from ...errors import InternalError

Space: TypeAlias = Literal["arg", "stack", "register"]
Kind: TypeAlias = Literal["serial", "parallel", "unroll", "vector"]


@dataclass(frozen=True)
class Buffer:
    """Memory a kernel uses. `arg`: given by the caller, 64-byte aligned unless `aligned` is
    smaller; `stack`: private to the part, constant shape; `register`: SSA values."""

    name: str
    dtype: DType
    shape: tuple[Dim, ...]
    space: Space = "arg"
    written: bool = False  # args only: whether the kernel stores to it


class Stmt:
    """A statement."""

    __slots__ = ()


@dataclass(frozen=True)
class For(Stmt):
    """`kind var in lo..hi step step { body }`: var takes lo, lo+step, ... below hi."""

    var: DimExpr
    lo: Dim
    hi: Dim
    step: int
    kind: Kind
    body: tuple[Stmt, ...]
    active: Dim | None = None  # vector loops: iterations var >= active do nothing

    @property
    def sym(self) -> Sym:
        return as_sym(self.var)


@dataclass(frozen=True)
class Let(Stmt):
    """Names a value for the rest of the block: `let name = value`."""

    name: str
    value: Expr


@dataclass(frozen=True)
class Store(Stmt):
    """`buffer[indices] = value`, where `mask` holds."""

    buffer: str
    indices: tuple[IndexLike, ...]
    value: Expr
    mask: Expr | None = None


@dataclass(frozen=True)
class Alloc(Stmt):
    """Makes a stack or register buffer for the rest of the block; contents are undefined.

    Its name may be that of an earlier Alloc of the same block, which is then gone."""

    buffer: Buffer


@dataclass(frozen=True)
class If(Stmt):
    """A branch on a scalar condition."""

    cond: Expr
    then: tuple[Stmt, ...]
    orelse: tuple[Stmt, ...] = ()


@dataclass(frozen=True)
class While(Stmt):
    """`while cond { body }`: the scalar `cond` is evaluated before each turn.

    Whoever writes one sees to it that it ends, whatever the data."""

    cond: Expr
    body: tuple[Stmt, ...]


@dataclass(frozen=True)
class Fail(Stmt):
    """Where `cond` holds, records error `site` (an ordinal within the kernel) at `index`.

    The smallest recorded (site, index) of a run is the one reported. Execution goes on, so what
    follows must stay within bounds whatever the condition says."""

    site: int
    cond: Expr
    index: Dim


@dataclass(frozen=True)
class Call(Stmt):
    """A machine instruction no expression says: a row of `instructions.INSTRUCTIONS`.

    prefetch buffer[indices]  brings a cache line nearer; no effect on values.
    transpose buffer          a register buffer of shape [n, n] becomes its transpose.
    """

    instruction: str
    buffer: str
    indices: tuple[Dim, ...] = ()


@dataclass(frozen=True)
class Kernel:
    """A named function over buffers. `dims` are the symbols of the buffers' shapes that are known
    only at run time, passed as arguments after the buffers."""

    name: str
    dims: tuple[DimExpr, ...]
    params: tuple[Buffer, ...]
    body: tuple[Stmt, ...]

    def renamed(self, name: str) -> Kernel:
        return replace(self, name=name)


def loop_facts(lo: Dim, hi: Dim, step: int) -> tuple[Bounds, int]:
    """What `lo..hi step step` implies of its variable: bounds (inclusive) and a divisor."""
    step = max(step, 1)  # the verifier refuses others
    multiple = gcd(divisor(lo), step)
    low, last = bounds(lo)[0], bounds(hi - 1)[1]
    if last is not None:
        last -= (last - lo) % step if isinstance(lo, int) else last % multiple
        last = last if low is None else max(low, last)
    return (low, last), multiple


def loop_var(name: str, lo: Dim, hi: Dim, step: int = 1) -> DimExpr:
    """The variable of a loop over `lo..hi step step`, knowing all that the range implies."""
    (low, last), multiple = loop_facts(lo, hi, step)
    if low is None:
        raise InternalError(f"loop {name} in {lo}..{hi} has no least value")
    return sym(name, low, last, multiple)


def statements(body: tuple[Stmt, ...]) -> Iterator[Stmt]:
    """Every statement at any depth, outer before inner."""
    for s in body:
        yield s
        if isinstance(s, For | While):
            yield from statements(s.body)
        elif isinstance(s, If):
            yield from statements(s.then)
            yield from statements(s.orelse)


def expressions(stmt: Stmt) -> Iterator[Expr]:
    """The expressions a statement holds itself, not those of its body."""
    if isinstance(stmt, Let):
        yield stmt.value
    elif isinstance(stmt, Store):
        yield stmt.value
        yield from (i for i in stmt.indices if isinstance(i, Expr))
        if stmt.mask is not None:
            yield stmt.mask
    elif isinstance(stmt, If | While | Fail):
        yield stmt.cond


def loads(body: tuple[Stmt, ...]) -> Iterator[Load]:
    """Every load at any depth."""
    for s in statements(body):
        for e in expressions(s):
            for x in walk(e):
                if isinstance(x, Load):
                    yield x


__all__ = [
    "Alloc", "Buffer", "Call", "Fail", "For", "If", "Kernel", "Kind", "Let", "Space", "Stmt",
    "Store", "While", "children", "expressions", "free_symbols", "loads", "loop_facts", "loop_var",
    "statements",
]  # fmt: skip
