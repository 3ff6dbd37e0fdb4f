"""Runs that fail: what the error says, and that nothing else happened."""

from __future__ import annotations

import flowmill as fm
import numpy as np
import pytest
from flowmill.graph.definition import Graph

BOTH = pytest.mark.parametrize("level", [0, 2])


def line_here(text: str) -> str:
    with open(__file__) as f:
        (found,) = [k for k, t in enumerate(f, 1) if t.rstrip().endswith(f"# {text}")]
    return f"test_failures.py:{found}"


def failing(session, fetches, feeds, *parts):
    """The run fails with all `parts` in its message, twice, and variables keep their bits."""
    before = {n: a.tobytes() for n, a in session.variables.items()}
    versions = dict(session.state.versions)
    call = session.make_callable(fetches, list(feeds))
    for attempt in (lambda: session.run(fetches, feeds), lambda: call(*feeds.values())) * 2:
        with pytest.raises(fm.RunError) as caught:
            attempt()
        for part in (*parts, "variables are as they were before the run"):
            assert part in str(caught.value)
        assert {n: a.tobytes() for n, a in session.variables.items()} == before
        assert session.state.versions == versions


@BOTH
@pytest.mark.parametrize("threads", [1, 2])
def test_gather_out_of_range(level, threads):
    with Graph() as g, g.scope("words"):
        table = fm.variable("table", np.ones((50, 8), np.float32))
        at = fm.input("at", ("n",), "int32")
        rows = fm.gather(table, at, axis=0)  # gather
        loss = fm.mean(rows**2)
        train = fm.optimizers.SGD(0.1).minimize(loss)
        seen = fm.assign(fm.variable("seen", np.int64(0)), 7)
    session = fm.Session(g, threads=threads, level=level)
    at_bad = np.arange(4000, dtype=np.int32) % 50
    at_bad[[1234, 3999]] = 50, -1000
    failing(session, [train, seen], {"at": at_bad}, "gather: index out of range at element [1234, 0]",
            f"{line_here('gather')} in words")  # fmt: skip
    session.run([train, seen], {"at": at_bad % 50})
    assert session.get("words/seen") == 7


@BOTH
@pytest.mark.parametrize("reduce", [
    fm.sum, lambda x: fm.sum(x, 0), lambda x: fm.sum(x, 1), lambda x: fm.max(x, 0),
    lambda x: fm.argmax(x, 1), lambda x: fm.argmin(x, 0),
])  # fmt: skip
def test_out_of_range_within_a_reduction(level, reduce):
    """What a reduction reads is looked up where it is summed."""
    with Graph() as g:
        x, at = fm.input("x", (20, 7)), fm.input("at", (300,), "int64")
        y = reduce(fm.gather(x, at))
    session = fm.Session(g, level=level)
    table = np.arange(140, dtype=np.float32).reshape(20, 7) % 11
    places = np.arange(300) % 20
    taken = table[places]
    with Graph() as plain:
        expected = fm.Session(plain).run(reduce(fm.constant(taken)))
    np.testing.assert_array_equal(session.run(y, {"x": table, "at": places}), expected)
    places[177] = 33
    failing(
        session, y, {"x": table, "at": places}, "gather: index out of range at element [177, 0]"
    )


@BOTH
@pytest.mark.parametrize("dtype", ["int8", "int32", "uint64"])
def test_integer_division_by_zero(level, dtype):
    with Graph() as g:
        x, y = fm.input("x", ("n", 7), dtype), fm.input("y", (7,), dtype)
        count = fm.variable("count", np.zeros((), dtype))
        step = fm.assign(count, count + 1)
        q = x // y  # quotient
        r = x % y
    session = fm.Session(g, threads=2, level=level)
    a, b = np.ones((300, 7), dtype), np.ones(7, dtype)
    b[5] = 0
    failing(session, [q, step], {"x": a, "y": b}, "integer division by zero at element [0, 5]",
            line_here("quotient"))  # fmt: skip
    failing(session, [step, r], {"x": a, "y": b}, "mod: integer division by zero")
    b[5] = 1
    assert session.run([step, r], {"x": a, "y": b})[0] == 1


@BOTH
def test_checks(level):
    with Graph() as g:
        x = fm.input("x", ("n", 33))
        with g.scope("encoder"):
            positive = fm.check(x, x > 0, "inputs must be positive")  # positive
        w = fm.variable("w", np.ones(33, np.float32))
        train = fm.optimizers.Adam(0.1).minimize(fm.sum(positive * w))
    session = fm.Session(g, threads=2, level=level)
    data = np.ones((100, 33), np.float32)
    data[70:, 31] = -1
    data[71, 2] = np.nan
    failing(session, train, {"x": data}, "inputs must be positive: check failed at element [70, 31]",
            f"{line_here('positive')} in encoder")  # fmt: skip
    session.run(train, {"x": np.ones_like(data)})
    assert (session.get("w") != 1).all()


@BOTH
def test_the_first_of_several_errors_counts(level):
    """Programs report the smallest element of the earliest computation, on any number of threads."""
    with Graph() as g:
        x = fm.input("x", (64, 64))
        turned = fm.transpose(x, (1, 0))
        y = fm.check(turned, turned < 0, "first")
    data = -np.ones((64, 64), np.float32)
    data[3, 50] = data[9, 2] = data[60, 11] = 1
    for threads in (1, 2, 4):
        failing(fm.Session(g, threads=threads, level=level), y, {"x": data},
                "first: check failed at element [2, 9]")  # fmt: skip


@BOTH
def test_errors_in_values_that_only_variables_decide(level):
    with Graph() as g:
        table = fm.constant(np.arange(5, dtype=np.float32))
        at = fm.variable("at", np.array([1, 7], np.int32))
        y = fm.gather(table, at, axis=0) + fm.input("x", (2,))
    session = fm.Session(g, threads=1, level=level)
    failing(session, y, {"x": np.zeros(2, np.float32)}, "gather: index out of range at element [1]")
    session.set("at", [1, 2])
    assert session.run(y, {"x": [0, 0]}).tolist() == [1, 2]
