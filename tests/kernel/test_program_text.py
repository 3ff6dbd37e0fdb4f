"""Programs as text: exact inverses, and errors with line and column."""

from __future__ import annotations

import pytest
from flowmill.algorithm import Requirement
from flowmill.codegen.kernel.frame import TOLD
from flowmill.codegen.kernel.program import (
    Array,
    Branch,
    Copy,
    Launch,
    Measure,
    Phase,
    Program,
    Repeat,
    Report,
    Site,
    Slot,
)
from flowmill.codegen.kernel.program_text import parse, show, show_body
from flowmill.codegen.kernel.text import parse as parse_kernel
from flowmill.dims import sym
from flowmill.dtypes import float32, int64
from flowmill.errors import UNKNOWN, Loc, TextError

N, TURN, FOUND = sym("n", 1, 64), sym("turn.0", 0), sym("found", 0, 64)
KERNEL = parse_kernel(
    "kernel k_0(n in 1.., A: f32[n], out B: f32[n]) { for i in 0..n { B[i] = A[i] } }"
)
HERE = Loc("net.py", 12, "block/dense")
LAUNCH = Launch("k_0", (Slot("argument", 0), Slot("arena", 4 * N + 64)), (N,), 1, "mul + 1", (HERE,),
                2 * N, 8 * N)  # fmt: skip
BARE = Launch(
    "k_0", (Slot("variable", 0), Slot("prepared", 0)), (3,), 0, 'a "b"', (UNKNOWN,), 0, 24
)
OUTPUTS = (
    Array("loss", float32, ()),
    Array("kept", float32, (FOUND,)),
    Array(TOLD + "found", int64, ()),
)
PROGRAM = Program(
    "train", (N,), (Array("x y", float32, (N,)),), OUTPUTS,
    (Array("fc/kernel", float32, (3,)), Array("step", int64, ())), (1,), ("00ff",), (KERNEL,),
    (Phase((BARE,), 1),),
    (
        Phase((LAUNCH, BARE), 1), Report(Slot("arena", 0), Array("x is", float32, (N,)), HERE),
        Repeat(TURN, N, Slot("arena", 64), (Phase((LAUNCH,), N // 4 + 1), Branch(
            Slot("argument", 0, 8 * TURN), (), (Copy(Slot("variable", 0, 16), BARE.slots[0], 8),),
            "if", UNKNOWN)), "while", HERE),
        Repeat(TURN, None, None, (), "while", UNKNOWN),
        Measure(FOUND, Slot("arena", 32), N, 0, ((FOUND - 2, 1), (N - FOUND, 0))),
        Measure(FOUND, Slot("argument", 0, 8), 3, 1),
        Copy(Slot("variable", 1), Slot("constant", 0), 8),
        Copy(Slot("argument", 1), Slot("arena", 0), 4 * N),
    ),
    128, (0,), 4 * N + 192,
    (Site("index", HERE, "gather", (N, 3)), Site("check", UNKNOWN, "x > 0")), 4 * N + 64,
    (Requirement(N - 4, "slice: too far", HERE),), (TURN, FOUND), 1,
)  # fmt: skip


def test_a_program_is_read_back_as_it_was() -> None:
    assert parse(show(PROGRAM)) == PROGRAM
    assert show(parse(show(PROGRAM))) == show(PROGRAM)


def test_the_text() -> None:
    assert show_body(PROGRAM).splitlines()[:16] == [
        "program train(n in 1..=64) {",
        "  memory arena 4*n + 192 peak 4*n + 64 prepared 128",
        "  computed turn.0 in 0.., found in 0..=64",
        '  input "x y": f32[n]',
        '  output "loss": f32[]',
        '  output "kept": f32[found]',
        '  told "size of\\tfound": i64[]',
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


def test_the_text_of_loops_and_branches() -> None:
    lines = show_body(PROGRAM).splitlines()
    start = next(k for k, line in enumerate(lines) if "repeat" in line)
    assert lines[start - 1] == '  report arena[0] "x is": f32[n] @"net.py":12 "block/dense"'
    body = [line for line in lines[start:] if "k_0" not in line and "mul + 1" not in line]
    assert body == [
        '  repeat turn.0 count n while arena[64] as "while" @"net.py":12 "block/dense" {',
        "    phase parts (n//4) + 1 {",
        "    }",
        '    branch argument[0, 8*turn.0] as "if" {',
        "    } else {",
        "      copy variable[0, 16] = variable[0] bytes 8",
        "    }",
        "  }",
        '  repeat turn.0 as "while" {',
        "  }",
        "  measure found in arena[32] most n site 0 require found - 2 site 1 require n - found site 0",
        "  measure found in argument[0, 8] most 3 site 1",
        "  copy variable[1] = constant[0] bytes 8",
        "  copy argument[1] = arena[0] bytes 4*n",
        "}",
    ]


MISTAKES = {
    "memory arena": ("memory arna", "line 2, column 10"),
    "variable[0]": ("shelf[0]", "a kind of memory"),
    "k_0(argument": ("k_9(argument", "no kernel is named k_9"),
    "  constant": ("  konstant", "a step"),
    "f32[n]\n": ("f32[m]\n", "no dimension or loop variable m"),
    "B[i] = A[i]": ("B[i] = A[j]", "no dimension or loop variable j"),
    "measure found": ("measure lost", "no symbol is named lost"),
    "most n site 0": ("most n place 0", "expected 'site', found 'place'"),
    "repeat turn.0": ("repeat turn.1", "no symbol is named turn.1"),
    "phase parts (n": ("stage parts (n", "a step"),
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
