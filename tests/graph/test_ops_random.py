"""Random values: known answers, statistics, and the hidden state."""

from __future__ import annotations

import re

import numpy as np
import pytest
from flowmill.dtypes import float32, float64
from flowmill.errors import ConfigError, DTypeError, ShapeError
from flowmill.graph.definition import Graph, initial_values, input
from flowmill.graph.ops import random as rn

from . import oracle

# Random123's kat_vectors: counter, key, result of Threefry-2x32-20
KNOWN = [
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
]


@pytest.mark.parametrize("counter, key, expected", KNOWN)
def test_threefry_known_answers(counter, key, expected):
    words = [np.array([w], np.uint32) for w in (*key, *counter)]
    assert tuple(int(w[0]) for w in rn.threefry(*words)) == expected


def test_bits_are_threefry_of_seed_op_element_and_run():
    state = np.array([5, 9], np.uint32)
    made = rn.RandomBits(3, (2, 4), 1).ref(state).reshape(-1)
    for element in range(8):
        words = (np.array([w], np.uint32) for w in (5, 3, element, 9))
        assert made[element] == rn.threefry(*words)[1][0]
    known = rn.RandomBits(0, (1,)).ref(np.zeros(2, np.uint32))
    assert known[0] == KNOWN[0][2][0]


def draw(build, seed=0, run=0):
    with Graph(seed=seed) as graph:
        value = build()
        held = graph.variables[rn.STATE]
        state = np.array(initial_values(graph)[rn.STATE])
        state[1] = run
        return oracle.interpret([value], {held.value: state})[0]


@pytest.mark.parametrize("dtype", [float32, float64])
def test_uniform(dtype):
    x = draw(lambda: rn.uniform((200, 500), dtype=dtype))
    assert x.dtype == dtype.numpy and x.min() >= 0 and x.max() < 1
    assert abs(x.mean() - 0.5) < 0.005 and abs(x.var() - 1 / 12) < 0.002
    counts, _ = np.histogram(x, 64, (0, 1))
    expected = x.size / 64
    assert np.sum((counts - expected) ** 2 / expected) < 120  # chi-squared, 63 degrees of freedom
    shifted = draw(lambda: rn.uniform((1000,), -3, 5, dtype))
    assert shifted.min() >= -3 and shifted.max() <= 5 and shifted.max() > 4


@pytest.mark.parametrize("dtype", [float32, float64])
def test_normal(dtype):
    x = draw(lambda: rn.normal((200, 500), dtype=dtype)).astype(np.float64)
    assert np.isfinite(x).all() and np.abs(x).max() < 6.8
    assert abs(x.mean()) < 0.015 and abs(x.std() - 1) < 0.01
    assert abs((x**3).mean()) < 0.05 and abs((x**4).mean() - 3) < 0.15
    y = draw(lambda: rn.normal((100_000,), 2, 0.5))
    assert abs(y.mean() - 2) < 0.01 and abs(y.std() - 0.5) < 0.01


def test_bernoulli():
    assert draw(lambda: rn.bernoulli((100,), 1.0)).all()
    assert not draw(lambda: rn.bernoulli((100,), 0.0)).any()
    x = draw(lambda: rn.bernoulli((100_000,), 0.3))
    assert x.dtype == bool and abs(x.mean() - 0.3) < 0.01


def test_draws_differ_by_seed_run_and_op():
    def two():
        return rn.uniform((50,)) - rn.uniform((50,))

    first = draw(lambda: rn.uniform((50,)))
    assert np.array_equal(first, draw(lambda: rn.uniform((50,))))
    assert not np.array_equal(first, draw(lambda: rn.uniform((50,)), seed=1))
    assert not np.array_equal(first, draw(lambda: rn.uniform((50,)), run=1))
    assert np.count_nonzero(draw(two)) > 40


def test_two_words_of_a_block_are_independent():
    with Graph():
        a, b = rn.random_bits((20_000,), words=2)
        state = np.array([1, 2], np.uint32)
        x, y = (v.node.op.ref(state) / 2**32 - 0.5 for v in (a, b))
    assert abs(np.mean(x * y)) * 12 < 0.03


def test_fetching_advances_the_state_once():
    with Graph() as graph:
        x = input("x", ("n", 8))
        y = rn.dropout(rn.dropout(x, 0.5), 0.25) + rn.normal(("n", 8))
        f = graph.function("f", {"y": y})
        plain = graph.function("g", {"y": x + 1})
    ((target, new),) = f.updates
    assert target.name == rn.STATE and not graph.variables[rn.STATE].trainable
    (made,) = oracle.interpret([new], {target: np.array([7, 0xFFFFFFFF], np.uint32)})
    assert made.tolist() == [7, 0]
    assert plain.updates == ()


def test_dropout():
    x = np.ones((100, 100), np.float32)
    with Graph() as graph:
        v = input("x", x.shape)
        switch = input("t", (), "bool")
        y, z = rn.dropout(v, 0.25), rn.dropout(v, 0.25, switch)
        assert rn.dropout(v, 0.25, training=False) is v and rn.dropout(v, 0.0) is v
        feeds = {v: x, graph.variables[rn.STATE].value: np.array([0, 0], np.uint32)}
        on, off = {**feeds, switch: np.array(True)}, {**feeds, switch: np.array(False)}
        (made,) = oracle.interpret([y], feeds)
        assert np.array_equal(oracle.interpret([z], off)[0], x)
        assert (oracle.interpret([z], on)[0] == 0).any()
    assert set(np.unique(made)) == {0, np.float32(1 / 0.75)}
    assert abs((made == 0).mean() - 0.25) < 0.02


def test_the_seed_of_graph_or_session():
    """Large seeds count in full, and a session's seed counts before its graph's."""
    first = []
    for seed in (5, 2**40 + 5):
        with Graph(seed=seed) as graph:
            rn.uniform((1,))
        first += [initial_values(graph, given)[rn.STATE].tolist() for given in (None, seed, 5, 6)]
    own, same, five, six = first[:4]
    assert own == same == five == first[6] != six == first[7]
    assert first[4] == first[5] and len({x[0] for x in first}) == 3
    assert all(run == 0 for _, run in first)


@pytest.mark.parametrize("make, error, text", [
    (lambda: rn.dropout(input("x", (3,)), 1.0), ConfigError, "below 1, not 1.0"),
    (lambda: rn.dropout(input("x", (3,), "int32"), 0.5), DTypeError, "not defined for int32"),
    (lambda: rn.bernoulli((3,), 1.5), ConfigError, "between 0 and 1, not 1.5"),
    (lambda: rn.uniform((3,), dtype="int32"), DTypeError, "float32 or float64, not int32"),
    (lambda: rn.uniform((1 << 20, 1 << 20)), ShapeError, "more than 2**32 elements"),
])  # fmt: skip
def test_errors(make, error, text):
    with Graph(), pytest.raises(error, match=re.escape(text)):
        make()
