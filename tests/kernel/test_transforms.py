"""Schedule transforms: golden texts, equal results to the last bit, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from flowmill.codegen.kernel import transforms
from flowmill.codegen.kernel.interpret import run
from flowmill.codegen.kernel.ir import Kernel
from flowmill.codegen.kernel.stage import stage
from flowmill.codegen.kernel.text import parse, show, show_stmts
from flowmill.codegen.kernel.verify import unproven_accesses, verify
from flowmill.dims import as_sym, evaluate, sym
from flowmill.dtypes import Array
from flowmill.errors import InternalError

FOLDER = Path(__file__).parent.parent / "golden" / "kernel"
FILES = sorted(FOLDER.glob("*.txt"))
STEPS = {
    name: getattr(transforms, name)
    for name in ("split", "reorder", "fission", "unroll", "vectorize", "parallelize")
} | {"stage": stage}


def scheduled(text: str) -> tuple[Kernel, Kernel]:
    """The kernel of `text` and what the steps in its comments, `# split(k, "i", 8)`, make of it."""
    before = after = parse(text)
    for line in text.splitlines():
        if line.startswith("# "):
            after = eval(line[2:], {}, {**STEPS, "k": after})
    return before, after


@pytest.mark.parametrize("file", FILES, ids=[f.stem for f in FILES])
def test_golden(file: Path, golden: Callable[[Path, Callable[[str], str]], None]) -> None:
    golden(file, lambda text: show(scheduled(text)[1]))


def feeds(kernel: Kernel, sizes: dict[str, int]) -> dict[str, Array]:
    rng = np.random.default_rng(3)
    shapes = {b.name: tuple(evaluate(d, sizes) for d in b.shape) for b in kernel.params}
    return {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}


@pytest.mark.parametrize("file", FILES, ids=[f.stem for f in FILES])
@pytest.mark.parametrize("size", [1, 15, 33])
def test_same_bits_before_and_after(file: Path, size: int) -> None:
    before, after = scheduled(file.read_text(encoding="utf-8").partition("\n----\n")[0])
    assert list(verify(after)) == list(unproven_accesses(after)) == []
    sizes = {str(d): size for d in before.dims}
    expected, found = feeds(before, sizes), feeds(before, sizes)
    run(before, expected, sizes)
    for part in range(2):
        run(after, found, sizes, part, 2)
    for name in expected:
        assert expected[name].tobytes() == found[name].tobytes(), name


HEAD = "kernel k(n in 1.., A: f32[n,n], out B: f32[n,n], out C: f32[n], out S: f32[]) { "
REFUSED = [
    ("split", ("j", 4), "for i in 0..n { }", "has no loop j"),
    ("split", ("i", 4), "unroll i in 0..4 { }", "only a serial loop is split"),
    ("reorder", ("i", "j"), "for i in 0..n { for j in 0..n { } S[] = 1.0f }", "just a loop j"),
    ("reorder", ("i", "j"), "for i in 0..n { for j in 0..i { B[i, j] = 1.0f } }", "depends on i"),
    ("reorder", ("i", "j"), "for i in 0..n { for j in 0..n { S[] = A[i, j] } }", "element of S"),
    ("reorder", ("i", "j"), "for i in 0..n { for j in 0..n { C[i + j] = 1.0f } }", "element of C"),
    ("reorder", ("i", "j"), "for i in 0..n { vector j in 0..4 { B[i, j] = 1.0f } }", "be serial"),
    ("fission", ("i", 1), "for i in 0..n { let a = 1.0f C[i] = a }", "a would be out of scope"),
    ("fission", ("i", 1), "for i in 0..n { S[] = A[i, 0] C[i] = S[] }", "same element of S"),
    ("fission", ("i", 1), "for i in 1..n { C[i] = 1.0f C[i - 1] = C[i] }", "same element of C"),
    ("unroll", ("i",), "for i in 0..n { }", "constant bounds"),
    ("vectorize", ("i", 8), "for i in 0..n { C[i] = 1.0f }", "more than 8 iterations"),
    ("vectorize", ("i", 8), "for i in 1..8 { C[i] = 1.0f }", "a serial 0..n is wanted"),
    ("vectorize", ("i", 8), "for i in 0..8 { S[] = A[i, 0] }", "same element of S"),
    ("vectorize", ("i", 8), "for i in 0..8 { C[i] = C[7 - i] }", "same element of C"),
    ("vectorize", ("i", 8), "for i in 0..8 { if i < 3 { C[i] = 1.0f } }", "a vector loop holds"),
    ("parallelize", ("i",), "for i in 0..n { S[] = S[] + A[i, 0] }", "same element of S"),
    ("parallelize", ("j",), "parallel i in 0..n { for j in 0..n { B[i, j] = 1.0f } }", "another"),
    ("parallelize", ("i",), "for i in 0..n { C[i] = 1.0f } S[] = 1.0f", "every part would do"),
    ("parallelize", ("i",), "for i in 0..n { C[@i64(A[i, 0])] = 1.0f }", "same element of C"),
    ("stage", ("i", "C", "c"), "for i in 0..n { S[] = 1.0f }", "it does not use C"),
    ("stage", ("i", "C", "c"), "for i in 0..n { C[i] = 1.0f C[0] = 2.0f }", "different indices"),
    ("stage", ("i", "C", "c"), "for i in 0..n { C[i ; if i < 3] = 1.0f }", "has a mask"),
    ("stage", ("i", "C", "c"), "for i in 0..n { for j in 0..n { C[j] = 1.0f } }", "unroll from 0"),
    ("stage", ("i", "C", "c"), "for i in 0..n { unroll r in 0..4 { C[r//2] = 1.0f } }",
     "different iterations use the same element"),
    ("stage", ("i", "C", "c"), "for i in 0..n { unroll r in 0..4 { C[i*r] = 1.0f } }", "multiply"),
    ("stage", ("i", "C", "c"), "for i in 0..n { prefetch C[i] C[i] = 1.0f }", "`prefetch` uses C"),
    ("stage", ("i", "C", "c"),
     "for i in 0..n { unroll r in 0..4 { C[r] = 1.0f } unroll r in 0..2 { C[r] = 1.0f } }",
     "differ"),
]  # fmt: skip


@pytest.mark.parametrize(
    "step, args, body, why", REFUSED, ids=[f"{s}: {w}" for s, _, _, w in REFUSED]
)
def test_refuses(step: str, args: tuple[object, ...], body: str, why: str) -> None:
    with pytest.raises(InternalError, match=why.replace("(", r"\(")):
        STEPS[step](parse(HEAD + body + "}"), *args)


def test_stage_loads_what_is_not_stored_first() -> None:
    """A branch, a loop that may not run, or a read before it: the elements are loaded."""
    for body in (
        "if n > 5 { C[i] = 1.0f }",
        "for k in 0..n - 1 { C[i] = 1.0f }",
        "S[] = C[i] C[i] = 1.0f",
    ):
        kernel = stage(parse(HEAD + "for i in 0..n { " + body + " } }"), "i", "C", "c")
        assert "c[] = C[i]\n" in show(kernel)
    only_loads = stage(parse(HEAD + "for i in 0..n { S[] = C[i] + S[] } }"), "i", "C", "c")
    assert "C[i] = " not in show(only_loads)


def test_substitute_reaches_every_dimension() -> None:
    text = """kernel k(n in 1.., i in 0.., A: f32[n], out C: f32[n]) {
      for j in i..i + 4 {
        C[i + j ; if i < j] = f32(i) + A[@ids[i]]
        fail 0 if i > 3 at i
        prefetch A[i]
      }
      vector v in 0..4 active i { C[v] = A[i] }
      if i == 2 { let x = i }
    }""".replace("@ids[i]", "@i + 1")
    kernel = parse(text)
    i, q = kernel.dims[1], sym("q", 0)
    changed = transforms.substitute(kernel.body, {as_sym(i): 8 * q})
    assert show_stmts(changed) == show_stmts(parse(text.replace("i in 0..", "q in 0..", 1)
        .replace("@i", "@[8*q]").replace("(i)", "([8*q])").replace("if i", "if [8*q]")
        .replace("x = i", "x = [8*q]").replace("active i", "active 8*q")
        .replace("[i]", "[8*q]").replace("at i", "at 8*q").replace("i..i + 4", "8*q..8*q + 4")
        .replace("[i + j", "[8*q + j").replace("j in", "j{0..} in")).body)  # fmt: skip
