"""Programs as text: exact inverses, and errors with line and column."""

from __future__ import annotations

import pytest
from flowmill.algorithm import Requirement
from flowmill.codegen.kernel.program import Array, Launch, Phase, Program, Site, Slot
from flowmill.codegen.kernel.program_text import parse, show, show_body
from flowmill.codegen.kernel.text import parse as parse_kernel
from flowmill.dims import sym
from flowmill.dtypes import float32, int64
from flowmill.errors import UNKNOWN, Loc, TextError

N = sym("n", 1, 64)
KERNEL = parse_kernel(
    "kernel k_0(n in 1.., A: f32[n], out B: f32[n]) { for i in 0..n { B[i] = A[i] } }"
)
HERE = Loc("net.py", 12, "block/dense")
LAUNCH = Launch("k_0", (Slot("argument", 0), Slot("arena", 4 * N + 64)), (N,), 1, "mul + 1", (HERE,),
                2 * N, 8 * N)  # fmt: skip
BARE = Launch(
    "k_0", (Slot("variable", 0), Slot("prepared", 0)), (3,), 0, 'a "b"', (UNKNOWN,), 0, 24
)
PROGRAM = Program(
    "train", (N,), (Array("x y", float32, (N,)),), (Array("loss", float32, ()),),
    (Array("fc/kernel", float32, (3,)), Array("step", int64, ())), (1,), ("00ff",), (KERNEL,),
    (Phase((BARE,), 1),), (Phase((LAUNCH, BARE), 1), Phase((LAUNCH,), N // 4 + 1)), 128, (0,),
    4 * N + 192,
    (Site("index", HERE, "gather", (N, 3)), Site("check", UNKNOWN, "x > 0")),
    ((Slot("variable", 1), Slot("constant", 0), 8), (Slot("argument", 1), Slot("arena", 0), 4 * N)),
    4 * N + 64, requires=(Requirement(N - 4, "slice: too far", HERE),),
)  # fmt: skip


def test_a_program_is_read_back_as_it_was() -> None:
    assert parse(show(PROGRAM)) == PROGRAM
    assert show(parse(show(PROGRAM))) == show(PROGRAM)


def test_the_text() -> None:
    assert show_body(PROGRAM).splitlines()[:13] == [
        "program train(n in 1..=64) {",
        "  memory arena 4*n + 192 peak 4*n + 64 prepared 128",
        '  input "x y": f32[n]',
        '  output "loss": f32[]',
        '  variable "fc/kernel": f32[3]',
        '  variable "step": i64[] written',
        '  constant "00ff"',
        '  require n - 4 "slice: too far" @"net.py":12 "block/dense"',
        "  prepared from 0",
        '  site index "gather" [n,3] @"net.py":12 "block/dense"',
        '  site check "x > 0" []',
        "  prepare parts 1 {",
        "    k_0(variable[0], prepared[0] ; 3) flops 0 bytes 24",
    ]


MISTAKES = {
    "memory arena": ("memory arna", "line 2, column 10"),
    "variable[0]": ("shelf[0]", "a kind of memory"),
    "k_0(argument": ("k_9(argument", "no kernel is named k_9"),
    "  constant": ("  konstant", "expected '}'"),
    "f32[n]\n": ("f32[m]\n", "no dimension or loop variable m"),
    "B[i] = A[i]": ("B[i] = A[j]", "no dimension or loop variable j"),
}


@pytest.mark.parametrize("old", MISTAKES)
def test_errors_say_where(old: str) -> None:
    new, message = MISTAKES[old]
    with pytest.raises(TextError) as e:
        parse(show(PROGRAM).replace(old, new, 1))
    assert message in str(e.value)


def test_errors_in_kernels_count_lines_from_the_top() -> None:
    whole = show(PROGRAM).replace("B[i] = A[i]", "B[i] = ?")
    line = whole.split("B[i] = ?")[0].count("\n") + 1
    with pytest.raises(TextError, match=f"line {line}, "):
        parse(whole)
