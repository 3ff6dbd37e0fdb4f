"""The verifier names the violation of every rule; `unproven_accesses` proves what it should."""

from __future__ import annotations

import pytest
from flowmill.algorithm import Apply, Bitcast, Const, Expr, Index, LaneReduce, Load, Select, Var
from flowmill.codegen.kernel.ir import (
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
)
from flowmill.codegen.kernel.text import parse
from flowmill.codegen.kernel.verify import check, unproven_accesses, verify
from flowmill.dims import sym
from flowmill.dtypes import bfloat16, bool_, float32, float64, int32, int64
from flowmill.errors import InternalError

N = sym("n", 1)
I8 = sym("i", 0, 7)
A = Buffer("A", float32, (N, 16))
C = Buffer("C", float32, (N, 16), written=True)
ACC = Alloc(Buffer("acc", float32, (4, 16), "register"))
ONE, TRUE = Const(1.0, float32), Const(True, bool_)


def kernel(*body: Stmt) -> Kernel:
    return Kernel("k", (N,), (A, C), body)


def let(value: Expr) -> Kernel:
    return kernel(Let("x", value))


def vector(*body: Stmt, lo: int = 0, step: int = 1) -> For:
    return For(sym("v", 0, 15), lo, 16, step, "vector", body)


def parallel(*body: Stmt) -> For:
    return For(sym("p", 0, 3), 0, 4, 1, "parallel", body)


def serial(*body: Stmt) -> For:
    return For(I8, 0, 8, 1, "serial", body)


V = sym("v", 0, 15)
KEEP_ONE = Store("C", (0, 0), ONE)
KEEP = Store("C", (0, V), ONE)

RULES: list[tuple[Kernel, str]] = [
    (Kernel("2k", (), (), ()), "'2k' is not an identifier"),
    (Kernel("k", (N, N), (), ()), "n is named twice"),
    (Kernel("k", (N,), (A, A), ()), "A is named twice"),
    (Kernel("k", (), (A,), ()), "n is not defined, in the shape of A"),
    (Kernel("k", (), (Buffer("if", float32, ()),), ()), "'if' cannot be a name"),
    (Kernel("k", (), (Buffer("B", float32, (4,), "stack"),), ()), "is in space stack"),
    (kernel(Let("x", ONE), Let("x", ONE)), "x is named twice"),
    (kernel(Let("A", ONE)), "A is named twice"),
    (let(Var("y", float32)), "y is not defined"),
    (kernel(Let("y", ONE), Let("x", Var("y", float64))), "y is f32 but used as f64"),
    (kernel(serial(Let("x", ONE)), Let("y", Var("x", float32))), "x is not defined"),
    (let(Index(I8)), "i is not defined"),
    (kernel(serial(Let("x", Index(sym("i", 0, 99))))), "has other bounds than where it is bound"),
    (let(Apply("sinc", (ONE,), float32)), "no function sinc"),
    (let(Apply("add", (ONE,), float32)), "takes 2 of one dtype"),
    (let(Apply("add", (ONE, Const(1, int32)), float32)), "add of (f32, i32)"),
    (let(Apply("add", (ONE, ONE), float64)), "add of f32 has dtype f64"),
    (let(Apply("lt", (ONE, ONE), float32)), "lt of f32 has dtype f32"),
    (let(Apply("exp", (Const(1, int32),), int32)), "exp is not defined on i32"),
    (let(Apply("shl", (ONE, ONE), float32)), "shl is not defined on f32"),
    (let(Apply("and", (ONE, ONE), float32)), "and is not defined on f32"),
    (let(Apply("add", (TRUE, TRUE), bool_)), "add is not defined on b8"),
    (let(Apply("neg", (Const(1.0, bfloat16),), bfloat16)), "neg is not defined on bf16"),
    (let(Select(ONE, ONE, ONE)), "is f32, it must be b8"),
    (let(Select(TRUE, ONE, Const(1, int32))), "joins f32 and i32"),
    (let(Bitcast(ONE, int64)), "reads f32 bits as i64"),
    (let(Load("B", (0,), float32)), "no buffer B here"),
    (let(Load("A", (0,), float32)), "1 indices for A of 2 dimensions"),
    (let(Load("A", (0, 0), float64)), "A holds f32 but is read as f64"),
    (let(Load("A", (0, ONE), float32)), "is f32, not an integer"),
    (let(Load("A", (0, 0), float32, ONE)), "the mask is f32"),
    (kernel(Store("C", (0, 0), Const(1, int32))), "a i32 is stored to C, which holds f32"),
    (kernel(Store("C", (0, 0), ONE, ONE)), "the mask is f32"),
    (kernel(Store("A", (0, 0), ONE)), "A is not an out parameter"),
    (kernel(Store("B", (0, 0), ONE)), "no buffer B here"),
    (kernel(If(ONE, ())), "the condition is f32"),
    (kernel(Fail(0, ONE, 0)), "the condition is f32"),
    (kernel(While(ONE, ())), "the condition is f32"),
    (kernel(vector(While(TRUE, ()))), "a vector loop holds"),
    (kernel(While(TRUE, (parallel(),))), "parallel loop p stands in `while true {`"),
    (kernel(parallel(), While(TRUE, (KEEP_ONE,))), "every part would do `C[0, 0] = 1.0f`"),
    (kernel(Fail(-1, TRUE, 0)), "site -1 is negative"),
    (kernel(Fail(0, TRUE, I8)), "i is not defined, in the index"),
    (kernel(Alloc(Buffer("B", float32, (N,), "stack"))), "must be constant and positive"),
    (kernel(Alloc(Buffer("B", float32, (4,), "arg"))), "allocated in space arg"),
    (kernel(Alloc(Buffer("B", float32, (4,), "stack", True))), "B is allocated"),
    (kernel(serial(ACC), Store("acc", (0, 0), ONE)), "no buffer acc here"),
    (kernel(For(sym("i"), 0, 8, 0, "serial", ())), "step 0 is less than 1"),
    (kernel(For(sym("i"), 0, sym("m"), 1, "serial", ())), "m is not defined, in hi"),
    (kernel(For(sym("i", 1), 0, N, 1, "serial", ())), "claims to be at least 1"),
    (kernel(For(sym("i", 0, 8), 0, N, 1, "serial", ())), "claims to be at most 8"),
    (kernel(For(sym("i", 0, None, 4), 0, N, 2, "serial", ())), "a multiple of 4"),
    (kernel(For(sym("i", 0), 0, N, 1, "unroll", ())), "bounds of an unroll loop must be constant"),
    (kernel(For(I8, 0, 8, 1, "serial", (), active=N)), "kind serial has no `active`"),
    (kernel(vector(KEEP, step=2)), "runs over 0..lanes"),
    (kernel(For(sym("v", 0), 0, N, 1, "vector", (KEEP,))), "runs over 0..lanes"),
    (kernel(vector(serial())), "a vector loop holds"),
    (kernel(vector(If(TRUE, ()))), "a vector loop holds"),
    (kernel(vector(ACC)), "a vector loop holds"),
    (kernel(vector(Call("prefetch", "A", (0, 0)))), "a vector loop holds"),
    (kernel(vector(For(I8, 0, 8, 1, "unroll", (If(TRUE, ()),)))), "a vector loop holds"),
    (kernel(vector(Store("C", (0, 0), ONE))), "all lanes store to the same element"),
    (kernel(ACC, serial(Store("acc", (sym("i", 0, 7), 0), ONE))), "is not constant once unrolled"),
    (kernel(ACC, Store("acc", (4, 0), ONE)), "index 4 of register buffer acc leaves 0..4"),
    (kernel(ACC, vector(Store("acc", (0, 15 - V), ONE))), "is not constant once unrolled"),
    (kernel(ACC, vector(Store("acc", (0, V), Load("acc", (V, 0), float32)))), "not constant once"),
    (kernel(ACC, Store("acc", (0, Index(N)), ONE)), "an index that depends on data"),
    (kernel(Alloc(Buffer("acc", float32, (8,), "register")), vector(Store("acc", (V,), ONE))),
     "acc has rows of 8, accessed by 16 lanes"),
    (kernel(ACC, Store("acc", (0, 0), ONE, TRUE)), "register buffer acc has a mask"),
    (kernel(ACC, Store("acc", (0, 0), ONE), Let("x", Load("acc", (0, 0), float32, TRUE))),
     "register buffer acc has a mask"),
    (kernel(ACC, Store("acc", (0, 0), ONE), Let("x", LaneReduce("add", "acc", (0,), float32))),
     "acc is accessed both by lanes and by elements"),
    (kernel(ACC, Store("acc", (0, 0), ONE), vector(Store("acc", (1, V), ONE))), "both by lanes"),
    (kernel(Alloc(Buffer("acc", float32, (4, 4), "register")), Store("acc", (0, 0), ONE),
            Call("transpose", "acc")), "both by lanes"),
    (let(LaneReduce("add", "A", (0,), float32)), "does not name a row of a register buffer"),
    (let(LaneReduce("add", "B", (0,), float32)), "no buffer B here"),
    (kernel(ACC, Let("x", LaneReduce("add", "acc", (), float32))), "does not name a row"),
    (kernel(ACC, Let("x", LaneReduce("sub", "acc", (0,), float32))), "not combined by sub"),
    (kernel(ACC, Let("x", LaneReduce("add", "acc", (0,), int32))), "acc holds f32"),
    (kernel(ACC, Let("x", LaneReduce("add", "acc", (9,), float32))), "leaves 0..4"),
    (kernel(Alloc(Buffer("acc", float32, (3,), "register")),
            Let("x", LaneReduce("add", "acc", (), float32))), "needs a power of two"),
    (kernel(Call("halt", "A", ())), "no instruction halt"),
    (kernel(Call("prefetch", "B", ())), "no buffer B here"),
    (kernel(Call("prefetch", "A", (0,))), "1 indices for A of 2 dimensions"),
    (kernel(ACC, Call("prefetch", "acc", (0, 0))), "prefetch needs memory"),
    (kernel(ACC, Call("transpose", "acc", ())), "transpose needs a square buffer"),
    (kernel(Call("transpose", "A", ())), "takes a whole register buffer"),
    (kernel(parallel(), Store("C", (0, 0), ONE)), "every part would do `C[0, 0] = 1.0f`"),
    (kernel(parallel(), serial(Fail(0, TRUE, 0))), "every part would do `fail 0 if true at 0`"),
    (kernel(parallel(serial(parallel()))), "parallel loop p stands in another"),
    (kernel(If(TRUE, (parallel(),))), "parallel loop p stands in `if true {`"),
    (kernel(For(I8, 0, 8, 1, "unroll", (parallel(),))), "parallel loop p stands in `unroll"),
    (kernel(parallel(Store("C", (0, 0), ONE)), parallel(Let("x", Load("C", (0, 0), float32)))),
     "parallel loop p loads C, stored by another part"),
    (kernel(serial(serial())), "i is named twice"),
]  # fmt: skip


@pytest.mark.parametrize("broken, violation", RULES, ids=[v for _, v in RULES])
def test_violations_are_named(broken: Kernel, violation: str) -> None:
    found = list(verify(broken))
    assert any(violation in v for v in found), found
    with pytest.raises(InternalError, match="breaks the rules"):
        check(broken)


@pytest.mark.parametrize(
    "right",
    [
        kernel(Let("x", ONE), serial(Let("y", Var("x", float32))), serial(Let("y", ONE))),
        kernel(ACC, serial(parallel(KEEP_ONE), parallel(KEEP_ONE)), Let("x", ONE)),
        kernel(ACC, vector(Store("acc", (0, V), ONE)), ACC, Store("acc", (0, 0), ONE)),
        kernel(ACC, vector(Store("acc", (3, V), Load("A", (0, V), float32)))),
        kernel(Alloc(Buffer("acc", float32, (4, 4), "register")), Call("transpose", "acc")),
    ],
    ids=[
        "siblings may share names",
        "parallel loops in a row",
        "a second alloc",
        "rows of lanes",
        "transpose",
    ],
)
def test_right_kernels_pass(right: Kernel) -> None:
    assert list(verify(right)) == []


def test_bounds_may_follow_from_enclosing_loops() -> None:
    """i + j < 60 although the intervals of i and j alone say 63."""
    text = """kernel k(out C: f32[60]) {
      for i in 0..60 step 8 { for j in 0..min(8, 60 - i) {
        for l{0..=59} in 0..i + j + 1 { C[l] = 1.0f } } } }"""
    assert list(verify(parse(text))) == []
    assert "at most 58" in "".join(verify(parse(text.replace("=59", "=58"))))


PROVEN = [
    "for i in 0..n { C[i, 0] = 1.0f }",
    "for i in 0..n step 8 { vector v in 0..8 active n - i { C[i + v, 15] = 1.0f } }",
    "for i in 0..n step 8 { for r in i..min(i + 8, n) { C[r, 0] = 1.0f } }",
    "for i in 0..n { vector v in 0..16 { C[i, v ; if [i + v] < n] = A[i, 15 - v] } }",
    "for i in 0..m { if i < n { C[i, 0] = 1.0f } }",
    "for i in 0..m { if i >= n { } else { C[i, 0] = 1.0f } }",
    "for i in 0..m { let in_n = (i < n) & (i > 2) C[i - 3, 0 ; if in_n] = 1.0f }",
    "for i in 0..m { if !(i >= n) { C[i, 0] = 1.0f } }",
    "for i in 0..m { if (i >= n) | (i < 2) { } else { C[i - 2, 0] = 1.0f } }",
    "for i in 0..m { if i == [n - 1] { C[i, 0] = 1.0f } }",
    "for i in 0..n { P[i//8, i%8] = 1.0f }",
    "for i in 0..n step 8 { vector v in 0..8 { P[i//8, v] = 1.0f } }",
    "for i in 0..n { for j in 0..m { F[i*m + j] = 1.0f } }",
    "for i in 0..n*m { C[i//m, 0] = 1.0f }",
    "for i in 0..m { C[max(0, min(i - 5, n - 1)), 0] = 1.0f }",
    "for i in 0..k step 8 { vector v in 0..8 { G[i + v] = 1.0f } }",
    "for i in 0..n { C[i, 16 - 1] = A[@[i], 0] }",
    "for i in 0..n { C[i, 0] = A[i, 99 ; if [-1] >= 0:i64] }",
    "for i in 0..n { vector v in 0..32 active 16 { C[i, v] = A[i, 2*(v//2) + 1 ; if [v%2] < 1:i64] } }",
]
UNPROVEN = [
    ("for i in 0..n { C[i + 1, 0] = 1.0f }", "C[i + 1, 0]: index 0 may leave 0..n"),
    ("for i in 0..n { C[i - 1, 0] = 1.0f }", "index 0 may leave"),
    ("for i in 0..n { C[i, 16] = 1.0f }", "index 1 may leave 0..16"),
    ("for i in 0..n step 8 { vector v in 0..8 { C[i + v, 0] = 1.0f } }", "index 0 may leave"),
    ("for i in 0..m { if i < n { } C[i, 0] = 1.0f }", "index 0 may leave"),
    ("for i in 0..m { if i < n { } else { C[i, 0] = 1.0f } }", "index 0 may leave"),
    ("for i in 0..m { if (i < n) | (i < 3) { C[i, 0] = 1.0f } }", "index 0 may leave"),
    ("for i in 0..m { C[i, 0] = A[i, 0 ; if i < n] }", "C[i, 0]: index 0"),
    ("for i in 0..n { C[i, 0] = A[@ids[i], 0] }", "A[@ids[i], 0]: index 0 depends on data"),
    ("for i in 0..n { P[i//8, i%9] = 1.0f }", "index 1 may leave"),
    ("for i in 0..n { for j in 0..m { F[i*m + j + 1] = 1.0f } }", "may leave 0..m*n"),
]
HEADER = (
    "kernel p(n in 1.., m in 1.., k in 8.. by 8, A: f32[n,16], ids: i64[n], out C: f32[n,16], "
    "out P: f32[(n + 7)//8,8], out F: f32[n*m], out G: f32[k]) {"
)


@pytest.mark.parametrize("body", PROVEN)
def test_accesses_are_proven(body: str) -> None:
    kernel = parse(HEADER + body + "}")
    assert list(verify(kernel)) == []
    assert list(unproven_accesses(kernel)) == []


@pytest.mark.parametrize("body, listed", UNPROVEN)
def test_what_is_not_proven_is_listed(body: str, listed: str) -> None:
    kernel = parse(HEADER + body + "}")
    assert list(verify(kernel)) == []
    found = list(unproven_accesses(kernel))
    assert len(found) == 1 and listed in found[0], found
