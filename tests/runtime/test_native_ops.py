"""Every op natively, unoptimised and optimised, against its reference; and runs that must fail."""

from __future__ import annotations

import re

import flowmill as fm
import numpy as np
import pytest
from flowmill.errors import RunError
from flowmill.graph.interpret import run

from ..graph.samples import OPS, Case, cases

# a layout is the compiler's choice inside a program: none of these ops' results can be fetched
INTERNAL = {"relayout"}
BY_OP: dict[str, list[Case]] = {}
for _case in cases():
    BY_OP.setdefault(_case.op.name, []).append(_case)


@pytest.mark.parametrize("level", [0, 2])
@pytest.mark.parametrize("name", sorted((set(OPS) & set(BY_OP)) - INTERNAL))
def test_agrees_with_reference(name, level, tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWMILL_CACHE", str(tmp_path))
    feeds, made = {}, []
    with fm.Graph() as graph:
        for n, case in enumerate(BY_OP[name]):
            operands = zip(case.sample.shapes, case.dtypes)
            xs = tuple(fm.input(f"c{n}.{k}", *o) for k, o in enumerate(operands))
            feeds |= dict(zip(xs, case.draw()))
            made.append(graph.node(case.op(**case.sample.kwargs), xs).outputs)
    flat = [y for ys in made for y in ys]
    results = iter(fm.Session(graph, threads=1, level=level).run(flat, feeds))
    for case, ys in zip(BY_OP[name], made):
        expected = run(case.function(), case.feeds())[0].values()
        for y, wanted in zip(ys, expected):
            found = next(results)
            assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
            if y.dtype.is_float:
                wide = {16: 1e-2, 32: 1e-4, 64: 1e-10}[y.dtype.bits]
                found, wanted = found.astype(np.float64), wanted.astype(np.float64)
                np.testing.assert_allclose(found, wanted, rtol=wide, atol=wide, err_msg=str(case))
            else:
                np.testing.assert_array_equal(found, wanted, err_msg=str(case))


X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize("level", [0, 2])
@pytest.mark.parametrize("build, feeds, text", [
    (lambda x, i: fm.gather(x, i), {"i": [1, -3]}, "gather: index out of range at element [1, 0]"),
    (lambda x, i: fm.take_along_axis(x, i[:, None]), {"i": [3, 0]}, "index out of range"),
    (lambda x, i: fm.scatter(x, i, x), {"i": [0, 2]}, "scatter: index out of range at element [1]"),
    (lambda x, i: fm.scatter_add(x, i, x), {"i": [2, 0]},
     "scatter_add: index out of range at element [0]"),
    (lambda x, i: 7 // i, {"i": [1, 0]}, "integer division by zero at element [1]"),
    (lambda x, i: fm.check(x, x > 0, "x must be positive"), {"i": [0, 0]},
     "x must be positive: check failed at element [0, 0]"),
])  # fmt: skip
def test_a_run_that_fails(build, feeds, text, level, tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWMILL_CACHE", str(tmp_path))
    with fm.Graph() as graph:
        x, i = fm.input("x", X.shape), fm.input("i", (2,), "int64")
        count = fm.variable("count", 0)
        y = build(x, i)
        step = fm.assign(count, count + 1)
    session = fm.Session(graph, threads=2, level=level)
    given = {"x": X, "i": np.array(feeds["i"])}
    with pytest.raises(RunError, match=re.escape(text)):
        session.run([y, step], given)
    assert session.run(count) == 0
