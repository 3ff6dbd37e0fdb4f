"""Rows with several reductions are one kernel; long reductions are blocks that threads share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flowmill as fm
import numpy as np
import pytest
from flowmill.codegen.kernel.interpret import run as interpret
from flowmill.codegen.kernel.text import show
from flowmill.codegen.kernel.verify import unproven_accesses, verify
from flowmill.compiler import Compiled, compile_function
from flowmill.dims import evaluate
from flowmill.graph.interpret import run
from flowmill.graph.ops.fused import Fused
from flowmill.graph.ops.source import Constant
from flowmill.passes.blocks import CHAIN_BLOCK, LANE_BLOCK, cuts
from flowmill.passes.lower import lower
from flowmill.passes.schedule import naive
from flowmill.runtime.session import function_for
from flowmill.target import named
from hypothesis import given, settings
from hypothesis import strategies as st

from ..graph.programs import execute
from .agreement import agree

FOLDER = Path(__file__).parent / "kernels"


def fed(like: fm.Value, name: str = "other") -> fm.Value:
    return fm.input(name, like.shape)


def sparse(x: fm.Value) -> list[fm.Value]:
    loss = fm.losses.sparse_softmax_cross_entropy(fm.input("label", x.shape[:1], "int32"), x,
                                                  reduction="none")  # fmt: skip
    return [loss, *fm.gradients(fm.sum(loss), [x])]


def dense(x: fm.Value) -> list[fm.Value]:
    loss = fm.losses.softmax_cross_entropy(fed(x), x, reduction="none")
    return [loss, *fm.gradients(fm.sum(loss), [x])]


def layer_norm(x: fm.Value) -> fm.Value:
    centred = x - fm.mean(x, -1, keepdims=True)
    variance = fm.mean(centred * centred, -1, keepdims=True)
    gain = fm.variable("gain", np.full(x.shape[-1], 1.5, np.float32))
    return centred * fm.rsqrt(variance + 1e-5) * gain


def cosine(x: fm.Value) -> fm.Value:
    y = fed(x)
    norms = (fm.sqrt(fm.sum(v * v, -1)) for v in (x, y))
    return fm.sum(x * y, -1) / (next(norms) * next(norms))


# what is computed of a row; the results are one kernel, whatever the rows
ROWS: dict[str, Any] = {
    "softmax": fm.softmax,
    "log softmax": fm.log_softmax,
    "logsumexp": lambda x: fm.logsumexp(x, -1),
    "softmax and its gradient": lambda x: fm.gradients(fm.sum(fm.softmax(x) * fed(x)), [x]),
    "layer norm": layer_norm,
    "layer norm's gradient": lambda x: fm.gradients(fm.sum(layer_norm(x) * fed(x)), [x]),
    "rms norm": lambda x: x * fm.rsqrt(fm.mean(x * x, -1, keepdims=True) + 1e-6),
    "l2 norm": lambda x: x / fm.sqrt(fm.sum(x * x, -1, keepdims=True) + 1e-12),
    "cosine": cosine,
    "sparse cross-entropy": sparse,
    "dense cross-entropy": dense,
    "residual": lambda x: (lambda y: [y, layer_norm(y)])(x + fed(x)),
    "masked": lambda x: fm.softmax(x * 0.125 + fed(x)),
    "softmax twice": lambda x: fm.softmax(fm.softmax(x)),
    "softmax across": lambda x: fm.softmax(fm.reshape(x, (x.shape[0], 5, -1)), 1),
}  # fmt: skip
SHAPES = [(7, 80), ("rows", 80), (6, 1000), (3, 5), ("rows", 10_000)]
OF_ANY_LENGTH = ("softmax", "log softmax", "logsumexp", "rms norm", "cosine", "masked")
CASES = [(name, shape) for name in ROWS for shape in SHAPES] + [
    (name, shape) for name in OF_ANY_LENGTH for shape in ((4, "columns"), ("rows", "columns"))
]  # fmt: skip


def compiled(build: Any, shape: tuple[Any, ...], target: str = "x86-64-v4") -> Compiled:
    with fm.Graph("g") as g:
        made = build(fm.input("x", shape))
    results = list(made) if isinstance(made, list | tuple) else [made]
    function = function_for(g, results, list(g.inputs.values()))
    return compile_function(function, named(target), 2)


@pytest.mark.parametrize("name, shape", CASES, ids=str)
def test_one_kernel_that_keeps_the_rules(name: str, shape: tuple[Any, ...]) -> None:
    for target in ("x86-64-v2", "x86-64-v4"):
        made = compiled(ROWS[name], shape, target)
        kernels = [w.kernel for w in made.works if not w.label.startswith("size_of")]
        assert len(kernels) == 1, [w.label for w in made.works]
        assert list(verify(kernels[0])) == [] and list(unproven_accesses(kernels[0])) == []


def feeds(function: Any, sizes: dict[str, int]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    found = {}
    for v in function.inputs:
        shape = [d if isinstance(d, int) else sizes[str(d)] for d in v.shape]
        whole = v.dtype.is_integer
        found[v.node.op.input_name] = rng.integers(0, 5, shape).astype(np.int32) if whole else (
            rng.standard_normal(shape).astype(np.float32))  # fmt: skip
    return found


@pytest.mark.parametrize("name", ROWS)
def test_in_vectors_as_column_by_column(name: str) -> None:
    """The scheduled kernel in the kernel language's interpreter, beside the plain one."""
    made = compiled(ROWS[name], (3, 75), "x86-64-v3")
    (node,) = [n for n in made.fused.nodes() if isinstance(n.op, Fused)]
    lowered = lower(node.op.function)
    rng = np.random.default_rng(1)
    arrays = {b.name: rng.standard_normal([int(d) for d in b.type.physical_shape])
              .astype(b.type.dtype.numpy) for b in lowered.buffers}  # fmt: skip
    for name_, a in arrays.items():
        if a.dtype.kind == "i":
            arrays[name_] = np.arange(a.size, dtype=a.dtype).reshape(a.shape)
    found = []
    for kernel in (made.works[0].kernel, naive(lowered, "plain")[0]):
        copy = {k: a.copy() for k, a in arrays.items()}
        assert interpret(kernel, copy) == []
        found.append(copy)
    for b in lowered.buffers:
        scale = np.abs(found[1][b.name]).max()
        np.testing.assert_allclose(found[0][b.name], found[1][b.name], atol=4e-6 * scale, rtol=0)


@pytest.mark.parametrize("name", ROWS)
def test_results(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Native code at any number of threads, beside every op by itself; accesses checked."""
    monkeypatch.setenv("FLOWMILL_CHECK_BOUNDS", "1")
    with fm.Graph("g") as g:
        made = ROWS[name](fm.input("x", ("rows", 75)))
    results = list(made) if isinstance(made, list | tuple) else [made]
    data = feeds(g.function("f", {f"y{k}": v for k, v in enumerate(results)}), {"rows": 9})
    agree(g, results, data)


@pytest.mark.parametrize("name", ["softmax", "layer_norm", "cross_entropy", "softmax_across",
                                  "kept_in_scratch", "long_sum", "sum_of_rows"])  # fmt: skip
def test_kernels(name: str, golden: Any) -> None:
    def make(source: str) -> str:
        names = execute(source)
        f = names["f"]
        made = compile_function(type(f)("f", tuple(names["g"].inputs.values()), f.outputs),
                                named("x86-64-v4"), 2)  # fmt: skip
        return "\n".join(show(w.kernel) for w in made.works)

    golden(FOLDER / f"{name}.txt", make)


# --- any mixture ---


KINDS = ("row", "column", "add", "mul", "max", "where", "exp", "spread", "product")


@st.composite
def mixtures(draw: Any) -> Any:
    """A function of values of rows and of columns, reduced along either, and products between."""
    with fm.Graph("g") as g:
        rows = draw(st.sampled_from(["n", 3]))
        x, y = (fm.input(name, (rows, 6)) for name in "xy")
        values = [x, y, fm.input("w", (6,)), fm.input("v", (rows, 1)), fm.input("u", (rows,))]
        for _ in range(draw(st.integers(3, 14))):
            a, b = draw(st.sampled_from(values)), draw(st.sampled_from(values))
            kind = draw(
                st.sampled_from(
                    ["row", "column", "add", "mul", "max", "where", "exp", "spread", "product"]
                )
            )
            if kind == "row" and a.ndim == 2:
                made = draw(st.sampled_from([fm.sum, fm.max, fm.min]))(a, 1, draw(st.booleans()))
            elif kind == "column" and a.shape == x.shape:
                made = fm.sum(a, 0)
            elif kind == "spread" and a.shape == (x.shape[0],):
                made = fm.reshape(a, (x.shape[0], 1)) * 0.5
            elif kind == "exp":
                made = fm.exp(fm.tanh(a))
            elif kind == "product" and a.shape == x.shape:
                made = a @ fm.constant(np.eye(6, dtype=np.float32)) + b if fits(a, b) else a
            elif kind in ("add", "mul", "max", "where") and fits(a, b):
                made = {"add": lambda a, b: a + b, "mul": lambda a, b: a * b * 0.25,
                        "max": fm.maximum, "where": lambda a, b: fm.where(a > b, a, b - 1.0),
                        }[kind](a, b)  # fmt: skip
            else:
                continue
            values.append(made)
        chosen = draw(st.lists(st.sampled_from(values[5:] or values), min_size=1, max_size=4))
        f = g.function("f", {f"y{k}": v for k, v in enumerate(dict.fromkeys(chosen))})
    return type(f)("f", tuple(g.inputs.values()), f.outputs)


def fits(a: fm.Value, b: fm.Value) -> bool:
    """Whether a result of both is again one of the shapes at hand."""
    return a.shape == b.shape or (a.ndim == 2 and b.shape in ((a.shape[0], 1), a.shape[1:]))


@settings(max_examples=80, deadline=None, derandomize=True)
@given(mixtures())
def test_any_mixture(f: Any) -> None:
    """Programs of random reductions and pointwise work, in the interpreter of kernels."""
    made = compile_function(f, named("x86-64-v3"), 2)
    data = feeds(f, {"n": 3})
    expected, _ = run(f, data)
    values: dict[Any, np.ndarray] = {v: data[v.node.op.input_name] for v in made.fused.inputs}
    for n in made.fused.nodes():
        if isinstance(n.op, Constant):
            values[n.outputs[0]] = n.op.data.array
    for work in made.works:
        assert list(verify(work.kernel)) == []
        held = {b.name: np.zeros([evaluate(d, {"n": 3}) for d in b.shape], b.dtype.numpy)
                for b in work.kernel.params}  # fmt: skip
        names = [b.name for b in work.kernel.params]
        for name, v in zip(names, work.reads):
            held[name][...] = values[v].reshape(held[name].shape)
        assert interpret(work.kernel, held, {"n": 3}) == []
        for name, v in zip(names[len(work.reads) :], work.writes):
            values[v] = held[name]
    for name, v in made.fused.outputs:
        scale = max(1.0, np.abs(expected[name]).max())
        np.testing.assert_allclose(values[v], expected[name], atol=1e-5 * scale, rtol=0)


# --- what is not one kernel -----------------------------------------------------------------------


def reasons(made: Compiled) -> list[str]:
    return [r.text for r in made.records if r.step == "fuse"]


def test_why_a_row_was_not_joined() -> None:
    def other_axis(x: fm.Value) -> fm.Value:
        return fm.sum(fm.softmax(x), 0)

    assert any("does not reduce the same columns" in t
               for t in reasons(compiled(other_axis, (64, 80))))  # fmt: skip

    def past_a_product(x: fm.Value) -> fm.Value:
        y = fm.softmax(x)
        return fm.softmax(y + y @ fm.constant(np.eye(80, dtype=np.float32)))

    made = compiled(past_a_product, (64, 80))
    assert len(made.works) == 3
    assert any("stands between" in t or "done with the product" in t for t in reasons(made))

    def turned(x: fm.Value) -> fm.Value:
        e = fm.exp(x)
        return fm.sum(e, -1) + fm.sum(e * fm.transpose(fed(e, "y")), -1)

    assert any("is not pointwise" in t for t in reasons(compiled(turned, (80, 80))))


def test_what_need_not_be_computed_at_every_run_is_not_computed_with_what_must() -> None:
    def prior(x: fm.Value) -> fm.Value:
        weights = fm.variable("prior", np.ones((64, 80), np.float32))
        return fm.softmax(x + fm.softmax(weights))

    made = compiled(prior, (64, 80))
    assert [w.label for w in made.works] == ["reduce_max+sub+exp+sum+div+mul",
                                             "add+reduce_max+sub+exp+sum+div+mul"]  # fmt: skip
    assert len(made.program.prepare) == 1
    assert any("at every run" in t for t in reasons(made))


def test_pointwise_work_on_a_product_stays_with_it() -> None:
    def scores(x: fm.Value) -> fm.Value:
        w, b = np.ones((80, 33), np.float32), np.ones(33, np.float32)
        return fm.softmax(fm.maximum(x @ fm.constant(w) + fm.constant(b), 0.0))

    labels = [w.label for w in compiled(scores, (64, 80)).works if "relayout" not in w.label]
    assert labels == ["matmul+add+relu", "reduce_max+sub+exp+sum+div+mul"]


def test_a_row_may_be_written_over_what_it_reads() -> None:
    """Where nobody reads an operand any more: no memory but the operand's."""

    def chain(x: fm.Value) -> fm.Value:
        return fm.cumsum(fm.softmax(fm.cumsum(x, 1)), 1)

    made = compiled(chain, (64, 800))
    assert made.program.arena_bytes == 64 * 800 * 4


def test_rows_longer_than_a_block_are_shared_by_threads() -> None:
    assert len(compiled(fm.softmax, ("rows", LANE_BLOCK)).works) == 1
    made = compiled(fm.softmax, ("rows", LANE_BLOCK + 1))
    labels = [w.label for w in made.works]
    assert labels == ["reduce_blocks", "reduce_max", "sub+exp", "reduce_blocks", "sum+div", "mul"]


# --- blocks ---------------------------------------------------------------------------------------


def test_where_reductions_are_cut() -> None:
    with fm.Graph():
        n, m = fm.input("x", ("n", "m")).shape

    def steps(shape: tuple[Any, ...], *axes: int) -> list[tuple[int, int, tuple[int, ...]]]:
        return [(c.axis, c.block, c.inner) for c in cuts(shape, None, axes)]

    assert steps((LANE_BLOCK,), 0) == []
    assert steps((LANE_BLOCK + 1,), 0) == [(0, LANE_BLOCK, ())]
    assert steps((100, 5, 40_000), 0, 2) == [(0, 3, (2,))]
    assert steps((4, LANE_BLOCK * 2), 1) == [(1, LANE_BLOCK, ())]
    assert steps((LANE_BLOCK, LANE_BLOCK), 0, 1) == [(0, 1, (1,))]  # 131072 results of a row
    assert steps((LANE_BLOCK, LANE_BLOCK, 3), 0, 1)[0] == (1, CHAIN_BLOCK, ())
    assert steps((CHAIN_BLOCK, 8), 0) == []
    assert steps((CHAIN_BLOCK + 1, 8), 0) == [(0, CHAIN_BLOCK, ())]
    assert steps((n, 8), 0) == [(0, CHAIN_BLOCK, ())]  # a batch may be anything
    assert steps((n, m), 1) == []  # a row of a batch is taken for short
    assert steps((n, m), 0, 1) == [(1, LANE_BLOCK, ()), (0, LANE_BLOCK, (1,))]


LONG = {
    "all": ((3_000_001,), None),
    "columns": ((50_001, 33), 0),
    "wide columns": ((5_003, 512), 0),
    "channels": ((300, 5, 20, 19), (0, 2, 3)),
    "rows": ((3, 300_007), 1),
}


@pytest.mark.parametrize("name", LONG)
def test_long_sums_are_exact_and_the_same_everywhere(name: str) -> None:
    """Within a few units in the last place of float64's result, whatever shares the work and
    whether the length was known."""
    shape, axis = LONG[name]
    data = np.random.default_rng(2).uniform(0.5, 1.5, shape).astype(np.float32)
    found = set()
    for symbolic in (False, True):
        for threads in (1, 2, 3):
            with fm.Graph("g") as g:
                x = fm.input("x", ("n", *shape[1:]) if symbolic else shape)
                y = fm.sum(x * x, axis)
            found.add(fm.Session(g, threads=threads).run(y, {"x": data}).tobytes())
    assert len(found) == 1
    exact = np.sum(data.astype(np.float64) ** 2, axis=axis)
    made = np.frombuffer(found.pop(), np.float32).reshape(exact.shape)
    assert np.max(np.abs(made / exact - 1)) < 1.5e-6  # one chain of additions: 1e-5 and more
