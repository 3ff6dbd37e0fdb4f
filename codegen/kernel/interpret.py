"""Runs kernels in Python and NumPy: the oracle that native code is compared with.

Slow, and right by being plain: one iteration after the other, vector loops with all lanes of a
statement at once. Every access is checked. What code generation may leave undefined shows: a
register element loaded before it was stored is an error, stack buffers start as NaN or a pattern.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

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
    scalar_bits,
)
from ...dims import Dim, Op, Sym, as_sym, evaluate
from ...dtypes import Array
from ...errors import InternalError
from . import arithmetic
from .ir import Alloc, Buffer, Call, Fail, For, If, Kernel, Let, Stmt, Store, While, statements
from .verify import check


def run(
    kernel: Kernel,
    buffers: Mapping[str, Array],
    dims: Mapping[str, int] | None = None,
    part: int = 0,
    parts: int = 1,
) -> list[tuple[int, int]]:
    """Runs `part` of `parts` of `kernel` on `buffers` (changed in place), its symbols being `dims`.

    Returns the failures recorded, (site, index) in order of execution; the one reported is the
    smallest. Raises InternalError, naming kernel, buffer and index, for an access out of bounds or
    to an undefined element, for two lanes storing to one place, for arguments that do not fit, and
    for a kernel that breaks the language's rules.
    """
    check(kernel)
    machine = _Machine(kernel, dict(buffers), dict(dims or {}), part, parts)
    try:
        with np.errstate(all="ignore"):
            machine.run()
    except ArithmeticError as e:
        raise InternalError(f"kernel {kernel.name}: {e}") from e
    return machine.failures


def _least(a: Any, b: Any) -> Any:
    return min(a, b) if isinstance(a, int) and isinstance(b, int) else np.minimum(a, b)


def _greatest(a: Any, b: Any) -> Any:
    return max(a, b) if isinstance(a, int) and isinstance(b, int) else np.maximum(a, b)


_OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "floordiv": operator.floordiv, "mod": operator.mod, "min": _least, "max": _greatest,
}  # fmt: skip


@lru_cache(maxsize=4096)
def _constant(c: Const) -> Any:
    """A literal as a NumPy scalar with its exact bits."""
    if c.dtype.kind == "b":
        return np.bool_(c.value)
    if c.dtype.is_float and not c.dtype.computes:
        return np.float32(c.value).astype(c.dtype.numpy)
    bits = scalar_bits(c.value, c.dtype).to_bytes(c.dtype.itemsize, "little")
    return np.frombuffer(bits, c.dtype.numpy)[0]


def _shown(place: tuple[Any, ...]) -> str:
    return f"[{', '.join(str(i) for i in place)}]"


class _Machine:
    """The state of a run. `live`: which lanes of the vector loop around take place, else None."""

    def __init__(
        self, kernel: Kernel, buffers: dict[str, Array], dims: dict[str, int], part: int, parts: int
    ) -> None:
        self.kernel, self.buffers, self.part, self.parts = kernel, buffers, part, parts
        self.symbols: dict[str, Any] = dict(dims)
        self.values: dict[str, Any] = {}
        self.memo: dict[Expr, Any] = {}  # operations of the current statement
        self.defined: dict[str, Array] = {}  # of register buffers: elements stored so far
        self.live: Array | None = None
        self.failures: list[tuple[int, int]] = []
        for d in kernel.dims:
            s = as_sym(d)
            n = dims.get(s.name)
            if n is None or n < s.lo or (s.hi is not None and n > s.hi) or n % s.multiple:
                raise InternalError(f"kernel {kernel.name}: dimension {d} cannot be {n}")
        for b in kernel.params:
            given = buffers.get(b.name)
            shape = tuple(evaluate(d, dims) for d in b.shape)
            if given is None or given.shape != shape or given.dtype != b.dtype.numpy:
                found = "nothing" if given is None else f"{given.dtype}{list(given.shape)}"
                wanted = f"{b.dtype}{list(shape)}"
                raise InternalError(f"kernel {kernel.name}: {b.name} is {found}, not {wanted}")

    def run(self) -> None:
        loops = (s.kind for s in statements(self.kernel.body) if isinstance(s, For))
        if self.part == 0 or "parallel" in loops:
            self.block(self.kernel.body)

    # Statements

    def block(self, body: tuple[Stmt, ...]) -> None:
        for s in body:
            self.statement(s)

    def statement(self, s: Stmt) -> None:
        self.memo.clear()
        if isinstance(s, Store):
            self.store(s)
        elif isinstance(s, Let):
            self.values[s.name] = self.value(s.value)
        elif isinstance(s, For):
            self.loop(s)
        elif isinstance(s, If):
            self.block(s.then if self.value(s.cond) else s.orelse)
        elif isinstance(s, While):
            while self.value(s.cond):
                self.block(s.body)
                self.memo.clear()
        elif isinstance(s, Alloc):
            self.alloc(s.buffer)
        elif isinstance(s, Fail):
            self.fail(s)
        elif isinstance(s, Call):
            self.call(s)
        else:
            raise InternalError(f"unknown statement {type(s).__name__}")

    def loop(self, s: For) -> None:
        name, lo, hi = s.sym.name, self.dim(s.lo), self.dim(s.hi)
        if s.kind == "vector":
            lanes = np.arange(hi, dtype=np.int64)
            self.symbols[name] = lanes
            self.live = np.ones(hi, bool) if s.active is None else lanes < self.dim(s.active)
            self.block(s.body)
            self.live = None
            return
        first, last = 0, max(0, -(-(hi - lo) // s.step))
        if s.kind == "parallel":
            count = last
            first, last = count * self.part // self.parts, count * (self.part + 1) // self.parts
        for number in range(first, last):
            self.symbols[name] = lo + number * s.step
            self.block(s.body)

    def alloc(self, b: Buffer) -> None:
        shape = tuple(self.dim(d) for d in b.shape)
        made = np.full(shape, np.nan if b.dtype.is_float else 1, b.dtype.numpy)
        if b.dtype.is_integer:
            made.reshape(-1).view(np.uint8).fill(0xA5)
        self.buffers[b.name] = made
        self.defined.pop(b.name, None)
        if b.space == "register":
            self.defined[b.name] = np.zeros(shape, bool)

    def fail(self, s: Fail) -> None:
        cond, index = self.value(s.cond), self.dim(s.index)
        if self.live is None:
            if cond:
                self.failures.append((s.site, int(index)))
            return
        for hit, where in zip(*np.broadcast_arrays(cond & self.live, index)):
            if hit:
                self.failures.append((s.site, int(where)))

    def call(self, s: Call) -> None:
        if s.instruction == "prefetch":
            return
        if s.instruction != "transpose":
            raise InternalError(f"the interpreter does not know instruction {s.instruction}")
        self.buffers[s.buffer] = self.buffers[s.buffer].T.copy()
        self.defined[s.buffer] = self.defined[s.buffer].T.copy()

    # Memory

    def place(
        self, name: str, indices: tuple[IndexLike, ...], mask: Expr | None
    ) -> tuple[tuple[Any, ...], Any]:
        """The indices of an access, and at which lanes it takes place; raises out of bounds."""
        place = [self.value(i) if isinstance(i, Expr) else self.dim(i) for i in indices]
        takes: Any = True if self.live is None else self.live
        if mask is not None:
            takes = takes & self.value(mask)
        for number, (i, extent) in enumerate(zip(place, self.buffers[name].shape)):
            outside = ((i < 0) | (i >= extent)) & takes
            if np.any(outside):
                worst = int(np.broadcast_to(i, np.shape(outside))[outside][0])
                raise self.error(f"index {number} of {name} is {worst}, not in 0..{extent}", name)
        return tuple(place), takes

    def error(self, what: str, name: str) -> InternalError:
        shape, symbols = list(self.buffers[name].shape), dict(self.symbols)
        return InternalError(f"kernel {self.kernel.name}: {what} ({name}: {shape}; {symbols})")

    def load(self, e: Load) -> Any:
        place, takes = self.place(e.buffer, e.indices, e.mask)
        buffer = self.buffers[e.buffer]
        defined = self.defined.get(e.buffer)
        if self.live is None:
            if not takes:
                return buffer.dtype.type(0)
            if defined is not None and not defined[place]:
                raise self.error(
                    f"{e.buffer}{_shown(place)} is loaded before it is stored", e.buffer
                )
            return buffer[place]
        takes = np.broadcast_to(takes, self.live.shape)
        at = tuple(np.broadcast_to(i, takes.shape)[takes] for i in place)
        if defined is not None and not np.all(defined[at]):
            raise self.error(f"{e.buffer}{_shown(place)} is loaded before it is stored", e.buffer)
        out = np.zeros(takes.shape, buffer.dtype)
        out[takes] = buffer[at]
        return out

    def store(self, s: Store) -> None:
        value = self.value(s.value)
        place, takes = self.place(s.buffer, s.indices, s.mask)
        buffer = self.buffers[s.buffer]
        if self.live is None:
            if not takes:
                return
        else:
            takes = np.broadcast_to(takes, self.live.shape)
            place = tuple(np.broadcast_to(i, takes.shape)[takes] for i in place)
            value = np.broadcast_to(value, takes.shape)[takes]
            if len(set(zip(*place))) < len(value):
                raise self.error(f"two lanes store to one element of {s.buffer}", s.buffer)
        buffer[place] = value
        if s.buffer in self.defined:
            self.defined[s.buffer][place] = True

    # Scalars, or in vector loops one value per lane

    def dim(self, d: Dim) -> Any:
        if isinstance(d, int):
            return d
        total: Any = 0
        for atoms, factor in d.terms:
            part: Any = factor
            for atom in atoms:
                if isinstance(atom, Sym):
                    part = part * self.symbols[atom.name]
                elif isinstance(atom, Op):
                    part = part * _OPERATIONS[atom.kind](self.dim(atom.a), self.dim(atom.b))
            total = total + part
        return total

    def value(self, e: Expr) -> Any:
        if isinstance(e, Apply):
            if e not in self.memo:
                live = True if self.live is None else self.live
                args = [self.value(a) for a in e.args]
                self.memo[e] = arithmetic.evaluate(e.fn, args, e.args[0].dtype, live)
            return self.memo[e]
        if isinstance(e, Load):
            return self.load(e)
        if isinstance(e, Const):
            return _constant(e)
        if isinstance(e, Var):
            return self.values[e.name]
        if isinstance(e, Index):
            return np.asarray(self.dim(e.dim), np.int64)[()]
        if isinstance(e, Select):
            cond, yes, no = self.value(e.cond), self.value(e.yes), self.value(e.no)
            return np.where(cond, yes, no)[()]
        if isinstance(e, Cast):
            return arithmetic.convert(self.value(e.x), e.x.dtype, e.dtype)
        if isinstance(e, Bitcast):
            return np.asarray(self.value(e.x)).view(e.dtype.numpy)
        if isinstance(e, LaneReduce):
            row = tuple(self.dim(i) for i in e.indices)
            if not np.all(self.defined[e.buffer][row]):
                raise self.error(
                    f"{e.buffer}{_shown(row)} is combined before it is stored", e.buffer
                )
            return arithmetic.lanes(e.fn, self.buffers[e.buffer][row])
        raise InternalError(f"unknown expression {type(e).__name__}")
