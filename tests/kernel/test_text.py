"""Text form: literals, operators, errors with line and column."""

from __future__ import annotations

import math
import struct

import pytest
from flowmill.algorithm import Apply, Const, Expr, Index, Load, Var
from flowmill.codegen.kernel.ir import Buffer, Kernel, Let, Store
from flowmill.codegen.kernel.text import parse, show
from flowmill.codegen.kernel.verify import verify
from flowmill.dims import sym
from flowmill.dtypes import as_dtype, bool_, float32, float64, int64
from flowmill.errors import TextError

EXAMPLE = """\
kernel dense(m in 1.., n in 0..=64 by 8, A: f32[m,784], ids: i32[m], out C: f32[m,16]) {
  parallel i in 0..m step 8 {
    alloc acc: f32[2,16] in register
    alloc t: f32[] in stack
    let q = ids[i] + -3:i32
    let few = (i < 3) & ([i + 1] > 4)
    unroll r in 0..2 {
      vector v in 0..16 active m - i {
        acc[r, v] = exp(A[i + v, 3] + 1.5f)
        C[i + v, 0 ; if i < [m - i]] = select(few, -0.0f, f32(i)) - (1.0f - 2.0f)
      }
    }
    for j{0..=99} in 0..min(i + 2, n) step 4 {
      prefetch A[i, j]
      t[] = A[@ids[i ; if few] + 1:i32, (j//8)]
    }
    if [i + 1] == 2 {
    }
    if !few {
      C[i, 0] = lanes_add(acc[1])
    } else {
      fail 0 if q < 1:i32 at i + 1
    }
    transpose acc
    while (t[] > 0.0f) & (few | (q == 1:i32)) {
      t[] = t[] - 1.0f
    }
    let after = bits_u32(-(A[i, 0] * 2.0f))
  }
}
"""


def test_example_is_kept_to_the_letter() -> None:
    kernel = parse(EXAMPLE)
    assert show(kernel) == EXAMPLE
    assert parse(show(kernel)) == kernel


def test_symbols_carry_their_bounds() -> None:
    kernel = parse("kernel k(n in 2..=64 by 2) { for i in 0..n step 4 { let x = i } }")
    (n,) = kernel.dims
    assert n == sym("n", 2, 64, 2)
    (loop,) = kernel.body
    assert loop.var == sym("i", 0, 60, 4)  # type: ignore[attr-defined]
    assert loop.body == (Let("x", Index(loop.var)),)  # type: ignore[attr-defined]


def let(value: object) -> Kernel:
    return Kernel("k", (), (), (Let("x", value),))  # type: ignore[arg-type]


SINGLE_NAN = struct.unpack("<f", bytes.fromhex("0100c0ff"))[0]
LITERALS = [
    (Const(True, bool_), "true"),
    (Const(3, int64), "3"),
    (Const(-3, int64), "-3"),
    (Const(-(1 << 63), int64), "-9223372036854775808"),
    (Const(255, as_dtype("u8")), "255:u8"),
    (Const(-1, as_dtype("i8")), "-1:i8"),
    (Const(1.5, float32), "1.5f"),
    (Const(0.1, float32), "0.1f"),
    (Const(-0.0, float32), "-0.0f"),
    (Const(1e-45, float32), "1e-45f"),
    (Const(3.4028234663852886e38, float32), "3.4028235e+38f"),
    (Const(0.1, float64), "0.1"),
    (Const(5e-324, float64), "5e-324"),
    (Const(0.5, as_dtype("f16")), "0.5:f16"),
    (Const(-2.0, as_dtype("bf16")), "-2.0:bf16"),
    (Const(math.inf, float32), "inf:f32"),
    (Const(-math.inf, float64), "-inf:f64"),
    (Const(math.nan, float32), "nan:f32"),
    (Const(SINGLE_NAN, float32), "nan(0xffc00001):f32"),
    (Const(-math.nan, float64), "nan(0xfff8000000000000):f64"),
    (Index(7), "[7]"),
]


@pytest.mark.parametrize("value, text", LITERALS, ids=[t for _, t in LITERALS])
def test_literals(value: Const, text: str) -> None:
    shown = show(let(value))
    assert shown == f"kernel k() {{\n  let x = {text}\n}}\n"
    assert parse(shown) == let(value)


@pytest.mark.parametrize(
    "text",
    [
        "a - (b - c)", "a - b - c", "-a * b", "-(a * b)", "-(-a)", "-(2.0f)", "a - -2.0f",
        "-(inf:f32)", "-(nan:f32)", "-inf:f32",
        "(a + b) * c", "a + b * c", "a / b / c", "a // b % c", "fma(a, b, c)", "min(a, max(b, c))",
        "f32((a < b) == (b < c))", "f32(!(a < b) | (a > b) & (b > c))",
        "bits_f32(bits_i32(a) << 2:i32)",
    ],
)  # fmt: skip
def test_operators_need_no_more_parentheses(text: str) -> None:
    lines = "let a = 1.0f\n  let b = 2.0f\n  let c = 3.0f\n"
    shown = f"kernel k() {{\n  {lines}  let x = {text}\n}}\n"
    assert show(parse(shown)) == shown


def test_comparisons_bind_weaker_than_and() -> None:
    kernel = parse("kernel k() { let a = true\n let x = a == a & a }")
    a = Var("a", bool_)
    joined = Apply("and", (a, a), bool_)
    assert kernel.body[1] == Let("x", Apply("eq", (a, joined), bool_))


def test_names_that_end_where_dots_begin() -> None:
    text = "kernel k(fc.n in 1.., fc.w: f32[fc.n]) { for i in 0..fc.n { for j in i..fc.n { } } }"
    kernel = parse(text)
    assert kernel.params == (Buffer("fc.w", float32, (sym("fc.n", 1),)),)
    assert parse(show(kernel)) == kernel


def chain(length: int, shared: bool) -> Expr:
    """A sum of `length` steps, each using the one before twice if `shared`."""
    e: Expr = Const(1.5, float32)
    for n in range(length):
        e = Apply("mul", (e, e if shared else Const(n, float32)), float32)
    return e


@pytest.mark.parametrize("shared", [True, False])
def test_endless_trees_are_written_as_graphs(shared: bool) -> None:
    kernel = let(chain(400, shared))
    text = show(kernel)
    assert len(text) < 20_000
    assert parse(text) == kernel
    assert show(parse(text)) == text
    assert list(verify(kernel)) == []


def test_shared_parts_are_named() -> None:
    x = Load("A", (0,), float32)
    square = Apply("mul", (Apply("add", (x, Const(1, float32)), float32),) * 2, float32)
    fourth = Apply("mul", (Apply("sub", (square, x), float32),) * 2, float32)
    kernel = Kernel("k", (), (Buffer("A", float32, (1,)),), (Let("x", fourth),))
    assert (
        show(kernel)
        == """\
kernel k(A: f32[1]) {
  $1 = (A[0] + 1.0f) * (A[0] + 1.0f) - A[0]
  let x = $1 * $1
}
"""
    )
    assert parse(show(kernel)) == kernel


def test_comments_and_space_are_free() -> None:
    kernel = parse("# first\nkernel k(out C: f32[2]){C[0]=1.0f # one\nC[1]=2.0f}")
    assert [type(s) for s in kernel.body] == [Store, Store]


def test_masked_load_of_a_scalar_buffer() -> None:
    text = "kernel k(A: f32[]) {\n  let x = A[ ; if true]\n}\n"
    assert parse(text).body == (Let("x", Load("A", (), float32, Const(True, bool_))),)
    assert parse(show(parse(text))) == parse(text)


ERRORS = [
    ("kernel k() { C[0] = 1 }", "no buffer C here", "line 1, column 14"),
    ("kernel k(\n  A: f31[3]) {}", "expected a data type, found 'f31'", "line 2, column 6"),
    ("kernel k() {\n  let x = y\n}", "nothing named y here", "line 2, column 11"),
    ("kernel k() { let x = (1 + 2 }", "expected ')', found '}'", "line 1, column 29"),
    ("kernel k() { let x = 1 ", "expected a statement, found 'the end'", "line 1, column 24"),
    ("kernel k() { let x = foo(1) }", "no function foo of 1 arguments", "line 1, column 22"),
    ("kernel k() { let x = $ }", "unexpected character '$'", "line 1, column 22"),
    ("kernel k() { let x = 3:f32 }", "3 is not a literal of float32", "line 1, column 24"),
    ("kernel k() { let x = 1.5:i32 }", "1.5 is not a literal of int32", "line 1, column 26"),
    ("kernel k() { for i in 0..m {} }", "no dimension or loop variable m", "line 1, column 26"),
    ("kernel k() { for i in 0..8 step 0 {} }", "must be at least 1", "line 1, column 23"),
    ("kernel k(n in 0..) { let x = [n//0] }", "division by 0", "line 1, column 34"),
    ("kernel k() { let x = $1 }", "expected a value, found '$1'", "line 1, column 22"),
    ("kernel k() {} let", "expected the end, found 'let'", "line 1, column 15"),
    ("kernel k() { 3 }", "expected a statement, found '3'", "line 1, column 14"),
    ("kernel k() { let x = nan(0x1ffffffff):f32 }", "more bits than float32", "line 1, column"),
    ("kernel k() { let x = " + "(" * 5000 + " }", "nested too deeply", ""),
]


@pytest.mark.parametrize("text, what, where", ERRORS, ids=[w for _, w, _ in ERRORS])
def test_errors_name_line_and_column(text: str, what: str, where: str) -> None:
    with pytest.raises(TextError) as caught:
        parse(text)
    assert what in caught.value.message
    assert where in " ".join(caught.value.notes)
