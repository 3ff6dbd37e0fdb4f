"""What passes and plans make of loops: how much is left in a step, and what it copies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flowmill as fm
import numpy as np
from flowmill.codegen.kernel.program import Copy, Program, Repeat, walk
from flowmill.compiler import Compiled, compile_function
from flowmill.dims import evaluate
from flowmill.graph.ir import Function, Value
from flowmill.graph.ops.recurrent import Scan
from flowmill.graph.verify import verify
from flowmill.passes.base import Context
from flowmill.passes.batch import Batch
from flowmill.passes.trim import Trim
from flowmill.runtime.session import function_for
from flowmill.target import named

TARGET = named("x86-64-v3")


def loops(f: Function) -> list[Scan]:
    return [n.op for n in f.nodes() if isinstance(n.op, Scan)]


def ops(f: Function) -> list[str]:
    return [n.op.name for n in f.nodes()]


def compiled(g: fm.Graph, *fetched: Value) -> Compiled:
    return compile_function(function_for(g, list(fetched), list(g.inputs.values())), TARGET)


def repeats(p: Program) -> list[Repeat]:
    return [s for s in walk(p.body) if isinstance(s, Repeat)]


def copies(p: Program) -> list[Copy]:
    """What is copied at every turn of some loop."""
    return [s for r in repeats(p) for s in walk(r.body) if isinstance(s, Copy)]


def recurrent(time: Any = "time") -> tuple[fm.Graph, Value]:
    """A layer and its training step."""
    with fm.Graph() as g:
        x = fm.input("x", ("batch", time, 64))
        y = fm.layers.SimpleRNN(64)(x)
        train = fm.optimizers.SGD(0.1).minimize(fm.mean(y * y))
    return g, train


def test_a_gradient_runs_the_loop_it_belongs_to_once() -> None:
    g, train = recurrent()
    f = function_for(g, [train], list(g.inputs.values()))
    assert len(loops(f)) == 3
    made = Trim().run(f, Context(TARGET))
    assert list(verify(made)) == []
    assert len(loops(made)) == 2
    assert Trim().run(made, Context(TARGET)) is made


def test_what_nobody_reads_goes() -> None:
    with fm.Graph() as g:
        x, w = fm.input("x", ("time", 3)), fm.input("w", (3,))

        def step(c: Any, x: Value) -> Any:
            a, b, still, idle = c
            return (a + x * still, b * 2, still, idle + b), (a, b, x * w)

        (last, *_), _ = fm.scan(step, (w, w, w, w), x)
    (made,) = loops(Trim().run(g.function("f", {"last": last}), Context(TARGET)))
    assert (made.carries, made.sequences, len(made.body.outputs)) == (1, 1, 1)
    assert len(made.body.inputs) == 3  # the third carry never changes


def test_a_repeated_element_is_no_sequence() -> None:
    with fm.Graph() as g:
        x = fm.input("x", (3,))
        xs = fm.broadcast_to(fm.reshape(x, (1, 3)), (7, 3))
        last, ys = fm.scan(lambda c, x: (c + x, x * 2), x, xs)
    made = Trim().run(g.function("f", {"last": last, "ys": ys}), Context(TARGET))
    assert [op.sequences for op in loops(made)] == [0]


def test_steps_have_the_products_that_need_the_step_before() -> None:
    g, train = recurrent()
    forward, backward = loops(compiled(g, train).stages[-2][1])
    assert ops(forward.body).count("matmul") == 1
    assert ops(backward.body).count("matmul") == 1
    assert backward.carries == 1  # the sums over the steps are products after the loop


def test_a_map_needs_no_loop() -> None:
    with fm.Graph() as g:
        x, w = fm.input("x", ("time", "n", 3)), fm.input("w", (3, 4))
        _, ys = fm.scan(lambda _, x: (None, fm.relu(x @ w + 1)), None, x)
    made = Batch().run(g.function("f", {"ys": ys}), Context(TARGET))
    assert list(verify(made)) == [] and not loops(made)


def test_packing_leaves_the_loop_and_is_prepared() -> None:
    with fm.Graph() as g:
        x, h = fm.input("x", ("time", 1, 64)), fm.input("h", (1, 64))
        w = fm.variable("w", np.eye(64, dtype="f"))
        last, _ = fm.scan(lambda h, x: (fm.tanh(h @ (w * 2) + x), None), h, x)
    p = compiled(g, last).program
    assert [launch.label for phase in p.prepare for launch in phase.launches] == ["mul", "relayout"]
    assert len(p.launches) == 1


def test_no_turn_copies() -> None:
    g, train = recurrent()
    assert not copies(compiled(g, train).program)


def step_of(body: Callable[[Any, Value], Any], carries: int = 1) -> Program:
    with fm.Graph() as g:
        x, h = fm.input("x", ("time", 16)), fm.input("h", (16,))
        last, ys = fm.scan(body, tuple(h * k for k in range(carries)), x)
    return compiled(g, *last, *(ys or ())).program


def test_carries_are_written_over_where_nobody_reads_them_any_more() -> None:
    alone = step_of(lambda c, x: ((c[0] * 2 + x,), None))
    read_elsewhere = step_of(lambda c, x: ((fm.flip(c[0], 0) + x,), None))
    for p, modulo in ((alone, False), (read_elsewhere, True)):
        (launch,) = (x for s in repeats(p) for phase in s.body for x in phase.launches)
        assert any("%2" in str(slot) for slot in launch.slots) == modulo
        assert not copies(p)
    exchanged = step_of(lambda c, x: ((c[1], c[0] + x), None), 2)
    assert len(copies(exchanged)) == 1


def test_stacked_results_are_computed_where_they_belong() -> None:
    p = step_of(lambda c, x: ((c[0] + x,), (c[0] * x,)))
    (repeat,) = repeats(p)
    places = {str(slot) for phase in repeat.body for x in phase.launches for slot in x.slots}
    assert "argument[0, 64*turn.0]" in places and "argument[3, 64*turn.0]" in places
    assert not copies(p)


def test_the_arena_is_as_small_as_can_be() -> None:
    g, train = recurrent(28)
    p = compiled(g, train).program
    arena, peak = (evaluate(d, {"batch": 32}) for d in (p.arena_bytes, p.peak_bytes))
    assert peak <= arena <= 1.05 * peak
    assert arena < 6 * 28 * 32 * 64 * 4  # a handful of stacks, each for all steps
