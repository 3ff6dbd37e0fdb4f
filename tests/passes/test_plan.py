"""The memory plan: what is still needed is not written over."""

from __future__ import annotations

import flowmill as fm
import numpy as np
import pytest
from flowmill.compiler import compile_function
from flowmill.graph.ir import Value
from flowmill.runtime.session import function_for
from flowmill.target import host


def both_from_one() -> tuple[fm.Graph, Value, Value]:
    """exp(s) and s, of an s that nobody else reads: two results of one kernel, both read later."""
    with fm.Graph() as graph:
        x = fm.input("x", (8, 20))
        s = fm.cumsum(x, axis=1) * 0.1
        row = fm.sum(fm.exp(s - fm.max(s, axis=1, keepdims=True)), axis=1, keepdims=True)
        y = fm.sum(s - fm.log(row), axis=0)
    return graph, x, y


def cross_entropy() -> tuple[fm.Graph, Value, Value]:
    with fm.Graph() as graph:
        x = fm.input("x", (128, 20))
        w = fm.variable("w", np.zeros(20, np.float32))
        rows = fm.log_softmax(x + w)
        (slope,) = fm.gradients(-fm.mean(rows * rows), [w])
    return graph, x, slope


@pytest.mark.parametrize("make", [both_from_one, cross_entropy])
def test_one_place_is_not_given_to_two_results(make: object) -> None:
    graph, x, y = make()  # type: ignore[operator]
    compiled = compile_function(function_for(graph, [y], [x]), host(), 2)
    for phase in compiled.program.phases:
        for launch in phase.launches:
            work = next(w for w in compiled.works if w.kernel.name == launch.kernel)
            written = launch.slots[len(work.reads) :]
            assert len(set(written)) == len(written), launch
    data = np.random.default_rng(0).standard_normal([int(d) for d in x.shape]).astype(np.float32)
    plain, fast = (fm.Session(graph, threads=1, level=k).run(y, {x: data}) for k in (0, 2))
    np.testing.assert_allclose(fast, plain, rtol=1e-4, atol=1e-5)
