"""Assignments: what a run reads, what it leaves behind, and in which order."""

from __future__ import annotations

import numpy as np
import pytest
from flowmill.errors import GraphError, ShapeError
from flowmill.graph.definition import Graph, variable
from flowmill.graph.state import assign

from .harness import Runner


def test_fetching_commits_and_reads_see_the_start() -> None:
    with Graph() as g:
        a, b = variable("a", 1.0), variable("b", 10.0)
        to_b, to_a = assign(b, a + 1), assign(a, b + 1)  # exchanged, each plus one
        read = a * 1.0
    runner = Runner(g)
    assert runner.run([to_a, read, to_b]) == [11.0, 1.0, 2.0]
    assert runner.variables["a"] == 11.0 and runner.variables["b"] == 2.0
    runner.run(read)
    assert runner.variables["a"] == 11.0


def test_after_reads_what_was_stored() -> None:
    with Graph() as g:
        n = variable("n", np.int64(3))
        first = assign(n, n + 1)
        second = assign(n, n * 2, after=first)
        third = assign(n, n - 1, after=second)
    for fetches in ([third], [first, second, third], [third, second, first]):
        runner = Runner(g)
        runner.run(fetches)
        assert runner.variables["n"] == 7
    runner = Runner(g)
    assert runner.run([second, first]) == [8, 4]
    assert runner.variables["n"] == 8


def test_after_several() -> None:
    with Graph() as g:
        a, b, c = (variable(x, 1.0) for x in "abc")
        third = assign(c, a + b, after=[assign(a, 5.0), assign(b, 7.0)])
    runner = Runner(g)
    assert runner.run(third) == 12.0
    assert [runner.variables[x] for x in "abc"] == [5.0, 7.0, 12.0]


def test_two_unordered_assignments_are_an_error() -> None:
    with Graph() as g:
        a = variable("a", 1.0)
        one, two = assign(a, 2.0), assign(a, 3.0)
    with pytest.raises(GraphError, match='"a" is assigned twice in one run') as e:
        Runner(g).run([one, two])
    assert sum("test_state.py:" in note for note in e.value.notes) == 2
    runner = Runner(g)
    runner.run(one)
    runner.run(two)
    assert runner.variables["a"] == 3.0


def test_value_is_cast_and_broadcast() -> None:
    with Graph() as g:
        a = variable("a", np.zeros((2, 3), np.float32))
        new = assign(a, 4)
        with pytest.raises(ShapeError):
            assign(a, np.zeros((3, 2), np.float32))
    runner = Runner(g)
    runner.run(new)
    assert runner.variables["a"].dtype == np.float32 and (runner.variables["a"] == 4).all()


def test_after_wants_an_assignment() -> None:
    with Graph():
        a = variable("a", 1.0)
        with pytest.raises(GraphError, match="performs no update"):
            assign(a, 2.0, after=a)


def test_updates_behind_updates_are_found() -> None:
    with Graph() as g:
        a, b = variable("a", 1.0), variable("b", 1.0)
        outer = assign(b, assign(a, a + 1) * 10)
    runner = Runner(g)
    runner.run(outer)
    assert runner.variables["a"] == 2.0 and runner.variables["b"] == 20.0
