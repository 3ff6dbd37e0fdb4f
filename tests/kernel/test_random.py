"""Laws that hold for every kernel: text round trip, verification, proofs and the interpreter."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
from flowmill.algorithm import Apply, Bitcast, Cast, Const, Index, Load, Select, Var
from flowmill.codegen.kernel.interpret import run
from flowmill.codegen.kernel.ir import (
    Alloc,
    Buffer,
    Fail,
    For,
    If,
    Kernel,
    Let,
    Stmt,
    Store,
    While,
    loop_var,
)
from flowmill.codegen.kernel.text import parse, show
from flowmill.codegen.kernel.verify import unproven_accesses, verify
from flowmill.dims import Dim, DimExpr, as_sym, floordiv, maximum, minimum, mod, sym
from flowmill.dtypes import ALL, DType, bool_, float32, float64, int32, int64, uint8
from flowmill.errors import InternalError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SIZE = 6  # what the symbol `n` may be, at most
N = sym("n", 1, SIZE)
COMPUTED = (float32, float64, int32, int64, uint8)
FLOAT_ONLY = ("div", "exp", "tanh", "sqrt", "floor")
SPECIAL = (0.0, -0.0, math.inf, -math.inf, math.nan, 1.0, 1e16)
NUMERIC = ("add", "sub", "mul", "min", "max")


class Maker:
    """Draws a kernel that obeys the rules; holds what is in scope."""

    def __init__(self, draw: Any, exact: bool = False) -> None:
        self.draw = draw
        self.float_only = ("div", "sqrt", "floor") if exact else FLOAT_ONLY
        self.count = 0
        self.buffers: list[Buffer] = []
        self.lets: list[tuple[str, DType]] = []
        self.loops: list[DimExpr] = []
        self.lane: DimExpr | None = None

    def pick(self, *options: Any) -> Any:
        return self.draw(st.sampled_from(options))

    def name(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    def dim(self, depth: int = 2) -> Any:
        leaves = [N, *self.loops, *([self.lane] if self.lane is not None else [])]
        if depth == 0 or self.draw(st.booleans()):
            return self.pick(*leaves, self.draw(st.integers(-9, 9)))
        a, b = self.dim(depth - 1), self.dim(depth - 1)
        k = self.draw(st.integers(1, 9))
        return self.pick(
            lambda: a + b, lambda: a - b, lambda: a * k, lambda: a * b, lambda: floordiv(a, k),
            lambda: mod(a, k), lambda: minimum(a, b), lambda: maximum(a, b), lambda: mod(a, N),
        )()  # fmt: skip

    def const(self, dtype: DType) -> Const:
        if dtype.kind == "b":
            return Const(self.draw(st.booleans()), dtype)
        if dtype.is_integer:
            info = np.iinfo(dtype.numpy)
            return Const(self.draw(st.integers(int(info.min), int(info.max))), dtype)
        floats = st.floats() if dtype.bits == 64 else st.floats(width=32)
        return Const(self.draw(floats | st.sampled_from(SPECIAL)), dtype)

    def index(self, extent: Dim) -> Dim:
        """A Dim within 0..extent wherever it is evaluated, or (at times) any near it."""
        inside = maximum(0, minimum(self.dim(), extent - 1))
        return self.pick(inside, inside, self.dim(1))

    def expr(self, dtype: DType, depth: int = 3) -> Any:
        fitting = [b for b in self.buffers if b.dtype == dtype and b.space == "arg"]
        named = [Var(name, d) for name, d in self.lets if d == dtype]
        if depth == 0:
            return self.pick(self.const(dtype), *named, *([Index(self.dim())] * (dtype == int64)))
        go = depth - 1
        choice = self.draw(st.integers(0, 6))
        if choice == 0 and fitting:
            b = self.pick(*fitting)
            mask = self.expr(bool_, 1) if self.draw(st.booleans()) else None
            return Load(b.name, tuple(self.index(d) for d in b.shape), dtype, mask)
        if choice == 1:
            return Select(self.expr(bool_, go), self.expr(dtype, go), self.expr(dtype, go))
        if choice == 2:
            return Cast(self.expr(self.pick(*(d for d in ALL if d != dtype)), 0), dtype)
        if choice == 3 and dtype.bits == 32 and dtype.computes:
            return Bitcast(self.expr(int32 if dtype.is_float else float32, go), dtype)
        if dtype == bool_ and self.draw(st.booleans()):
            fn = self.pick("lt", "le", "gt", "ge", "eq", "ne")
            return Apply(fn, (Index(self.dim(1)), Index(self.dim(1))), bool_)
        if dtype == bool_:
            of = self.pick(*COMPUTED)
            compared = Apply(
                self.pick("lt", "eq", "ge"), (self.expr(of, go), self.expr(of, go)), bool_
            )
            joined = Apply(self.pick("and", "or"), (compared, self.expr(bool_, go)), bool_)
            return self.pick(compared, Apply("not", (compared,), bool_), joined)
        held = [b for b in self.buffers if b.space == "register" and b.dtype == dtype
                and b.name.startswith(self.rows())]  # fmt: skip
        if choice == 4 and held:
            last = 3 if self.lane is None else self.lane
            return Load(self.pick(*held).name, (self.draw(st.integers(0, 1)), last), dtype)
        if dtype not in COMPUTED:
            return self.const(dtype)
        fn = self.pick(*NUMERIC, "neg", "fma", *(self.float_only if dtype.is_float else ("xor",)))
        count = {"neg": 1, "fma": 3, "exp": 1, "tanh": 1, "sqrt": 1, "floor": 1}.get(fn, 2)
        return Apply(fn, tuple(self.expr(dtype, go) for _ in range(count)), dtype)

    def rows(self) -> str:
        """What names of register buffers begin with here: by lanes or by elements, never both."""
        return "r" if self.lane is not None else "e"

    def store(self) -> Stmt:
        b = self.pick(*(b for b in self.buffers if b.written or b.name.startswith(self.rows())))
        if b.space == "register":
            at = (self.draw(st.integers(0, 1)), 3 if self.lane is None else self.lane)
            return Store(b.name, at, self.expr(b.dtype))
        at = tuple(self.index(d) for d in b.shape)
        if self.lane is not None:
            at = (*at[:-1], self.lane)
        mask = self.expr(bool_, 2) if self.draw(st.booleans()) else None
        return Store(b.name, at, self.expr(b.dtype), mask)

    def simple(self) -> Stmt:
        kind = self.pick("let", "store", "fail")
        if kind == "let":
            dtype = self.pick(*COMPUTED, bool_)
            made = Let(self.name("t"), self.expr(dtype))
            self.lets.append((made.name, dtype))
            return made
        if kind == "store":
            return self.store()
        return Fail(1, self.expr(bool_, 2), maximum(self.dim(), 0))  # an element's place: 0 or more

    def block(self, depth: int) -> tuple[Stmt, ...]:
        saved = self.buffers[:], self.lets[:], self.loops[:]
        out: list[Stmt] = []
        for _ in range(self.draw(st.integers(1, 3))):
            kind = (
                self.pick("simple", "for", "unroll", "vector", "if", "while", "alloc")
                if depth
                else "simple"
            )
            if kind == "alloc":
                out += self.registers()
            elif kind == "while":
                out += self.repeat(depth)
            elif kind == "if":
                out.append(If(self.expr(bool_, 2), self.block(depth - 1), self.block(depth - 1)))
            elif kind == "simple":
                out.append(self.simple())
            else:
                out.append(self.loop(kind, depth))
        self.buffers, self.lets, self.loops = saved
        return tuple(out)

    def registers(self) -> list[Stmt]:
        """A register buffer, and a value for each of its elements."""
        b = Buffer(self.name(self.pick("r", "e")), self.pick(float32, int64), (2, 4), "register")
        first = [Const(k, b.dtype) for k in range(2)]
        if b.name.startswith("e"):
            stores = [Store(b.name, (k, 3), c) for k, c in enumerate(first)]
        else:
            lane = loop_var(self.name("v"), 0, 4)
            body = tuple(Store(b.name, (k, lane), c) for k, c in enumerate(first))
            stores = [For(lane, 0, 4, 1, "vector", body)]
        self.buffers.append(b)
        return [Alloc(b), *stores]

    def repeat(self, depth: int) -> list[Stmt]:
        """A `while` with a counter of its turns, so that it ends."""
        b = Buffer(self.name("c"), int64, (1,), "register")
        count = Load(b.name, (0,), int64)
        more = Apply("lt", (count, Const(self.draw(st.integers(0, 3)), int64)), bool_)
        cond = Apply("and", (more, self.expr(bool_, 1)), bool_)
        step = Store(b.name, (0,), Apply("add", (count, Const(1, int64)), int64))
        start = Store(b.name, (0,), Const(0, int64))
        return [Alloc(b), start, While(cond, (*self.block(depth - 1), step))]

    def loop(self, kind: str, depth: int) -> Stmt:
        name, step = self.name("i"), self.draw(st.integers(1, 3))
        lo, hi = self.draw(st.integers(0, 2)), self.pick(N, 5, N + 2)
        active = None
        if kind == "vector":
            lo, hi, step, active = 0, 4, 1, self.pick(None, N, self.dim())
        elif kind == "unroll":
            hi = 3
        var = loop_var(name, lo, hi, step)
        if kind == "for" and self.draw(st.booleans()):
            s = as_sym(var)
            var = sym(name, s.lo - 1, None if s.hi is None else s.hi + 1)
        if kind == "vector":
            saved, self.lane = self.lets[:], var
            body = tuple(self.simple() for _ in range(2))
            self.lane, self.lets = None, saved
            return For(var, lo, hi, step, "vector", body, active)
        self.loops.append(var)
        body = self.block(depth - 1)
        self.loops.pop()
        return For(var, lo, hi, step, "serial" if kind == "for" else "unroll", body)


@st.composite
def kernels(draw: Any, exact: bool = False) -> Kernel:
    """`exact`: without functions that native code may round in another way."""
    maker = Maker(draw, exact)
    dtypes = draw(st.lists(st.sampled_from(COMPUTED), min_size=1, max_size=3))
    params = [Buffer(f"A{n}", d, (N, 4)) for n, d in enumerate(dtypes)]
    params += [Buffer(f"C{n}", d, (N + 1, 4), written=True) for n, d in enumerate(dtypes)]
    maker.buffers = params[:]
    return Kernel("random", (N,), tuple(params), maker.block(2))


LAW = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


@LAW
@given(kernels())
def test_text_reads_back(kernel: Kernel) -> None:
    assert parse(show(kernel)) == kernel
    assert show(parse(show(kernel))) == show(kernel)


@LAW
@given(kernels())
def test_kernels_made_by_the_rules_verify(kernel: Kernel) -> None:
    assert list(verify(kernel)) == []


@LAW
@given(kernels(), st.integers(1, SIZE))
def test_proven_accesses_stay_in_bounds(kernel: Kernel, n: int) -> None:
    """Runs of kernels with every access proven never fail on bounds; all kernels run at all."""
    buffers = {
        b.name: np.ones(((n if b.shape[0] == N else n + 1), 4), b.dtype.numpy)
        for b in kernel.params
    }
    try:
        run(kernel, buffers, {"n": n})
    except InternalError as e:
        outside = re.search(r"index (\d) of (\w+) is", str(e))
        assert outside or "two lanes" in str(e), str(e)
        if outside:
            number, name = outside.groups()
            listed = [u for u in unproven_accesses(kernel) if f"]: index {number} " in u]
            assert any(u.startswith(f"{name}[") for u in listed), show(kernel)


@LAW
@given(st.data())
def test_dims_read_back(data: Any) -> None:
    maker = Maker(data.draw)
    maker.loops = [sym("i", 0, None), sym("j", -3, 9)]
    d = maker.dim(4)
    kernel = Kernel("k", (N, *maker.loops), (), (Let("x", Index(d)),))
    assert parse(show(kernel)) == kernel
