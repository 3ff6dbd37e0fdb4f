"""Recurrent layers against a NumPy loop, by references and natively; training."""

from __future__ import annotations

from typing import Any

import flowmill as fm
import numpy as np
import pytest

RNG = np.random.default_rng(0)


def loop(x: Any, h: Any, kernel: Any, recurrent: Any, bias: Any) -> Any:
    """Every state of a simple RNN, [batch, time, units]."""
    out = []
    for t in range(x.shape[1]):
        h = np.tanh(x[:, t] @ kernel + bias + h @ recurrent)
        out.append(h)
    return np.stack(out, 1)


@pytest.mark.parametrize("level", [0, 2])
@pytest.mark.parametrize("backwards", [False, True])
def test_simple_rnn(level: int, backwards: bool) -> None:
    with fm.Graph() as g:
        x = fm.input("x", ("batch", 5, 3))
        h = fm.input("h", ("batch", 4))
        rnn = fm.layers.SimpleRNN(4, bias_initializer="normal", return_sequences=True,
                                  return_state=True, go_backwards=backwards)  # fmt: skip
        ys, last = rnn(x)
        more, _ = rnn(x, initial_state=h)
    assert ys.shape == (x.shape[0], 5, 4) and last.shape == (x.shape[0], 4)
    names = [f"simple_rnn/cell/{n}" for n in ("kernel", "recurrent_kernel", "bias")]
    assert list(g.variables) == names  # the second call made none
    feeds = {"x": RNG.standard_normal((2, 5, 3)).astype(np.float32),
             "h": RNG.standard_normal((2, 4)).astype(np.float32)}  # fmt: skip
    session = fm.Session(g, level=level)
    weights = [session.variables[n] for n in names]
    taken = feeds["x"][:, ::-1] if backwards else feeds["x"]
    found = session.run([ys, last, more], feeds)
    expected = loop(taken, np.zeros((2, 4), np.float32), *weights)
    np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[1], expected[:, -1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[2], loop(taken, feeds["h"], *weights), rtol=1e-5, atol=1e-6)


class Counting(fm.layers.Layer):
    """A cell with two states, one a count of steps."""

    state_size = (2, 1)

    def call(self, *xs: Any, **arguments: Any) -> Any:
        x, (total, count) = xs
        return total * count, (total + x, count + 1)


def test_a_cell_of_ones_own() -> None:
    with fm.Graph() as g:
        x = fm.input("x", (1, 3, 2))
        out, total, count = fm.layers.RNN(Counting(), return_state=True)(x)
    found = fm.Session(g).run([out, total, count], {"x": np.ones((1, 3, 2), np.float32)})
    assert [a.tolist() for a in found] == [[[4, 4]], [[3, 3]], [[3]]]


@pytest.mark.parametrize("level", [0, 2])
def test_learns_to_add(level: int) -> None:
    with fm.Graph(seed=1) as g:
        x, t = fm.input("x", ("batch", 4, 1)), fm.input("t", ("batch", 1))
        y = fm.layers.Dense(1)(fm.layers.SimpleRNN(8)(x))
        loss = fm.mean((y - t) * (y - t))
        train = fm.optimizers.Adam(0.02).minimize(loss)
    session = fm.Session(g, level=level)
    losses = []
    for k in range(60):
        bits = np.random.default_rng(k).uniform(0, 0.5, (32, 4, 1)).astype(np.float32)
        found = session.run([loss, train], {"x": bits, "t": bits.sum(1)})
        losses.append(float(found[0]))
    assert losses[-1] < 0.05 * losses[0]


def test_is_refused() -> None:
    with fm.Graph():
        with pytest.raises(fm.ShapeError, match="batch, time, features"):
            fm.layers.SimpleRNN(4)(fm.input("flat", ("batch", 3)))
        with pytest.raises(fm.ConfigError, match="no cell"):
            fm.layers.RNN(fm.layers.Dense(3))
        with pytest.raises(fm.ConfigError, match="1 states"):
            x = fm.input("x", ("batch", 5, 3))
            fm.layers.SimpleRNN(4)(x, initial_state=(x[:, 0], x[:, 1]))
