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


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def lstm_loop(x: Any, states: Any, kernel: Any, recurrent: Any, bias: Any) -> Any:
    """All states of an LSTM with Keras's weights, and the last cell."""
    h, c = states
    out = []
    for t in range(x.shape[1]):
        i, f, g, o = np.split(x[:, t] @ kernel + bias + h @ recurrent, 4, 1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        out.append(h)
    return np.stack(out, 1), c


def gru_loop(x: Any, h: Any, kernel: Any, recurrent: Any, bias: Any) -> Any:
    """All states of a GRU with Keras's weights; two biases mean that the reset gate comes last."""
    after = bias.ndim == 2
    below = bias[1] if after else 0 * bias
    rz, rr, rn = np.split(recurrent, 3, 1)
    out = []
    for t in range(x.shape[1]):
        xz, xr, xn = np.split(x[:, t] @ kernel + (bias[0] if after else bias), 3, 1)
        bz, br, bn = np.split(below, 3)
        z, r = sigmoid(xz + h @ rz + bz), sigmoid(xr + h @ rr + br)
        n = np.tanh(xn + (r * (h @ rn + bn) if after else (r * h) @ rn))
        h = (1 - z) * n + z * h
        out.append(h)
    return np.stack(out, 1)


def last_of(session: Any, layer: Any) -> list[Any]:
    return [session.variables[v.name] for v in layer.weights.values()]


@pytest.mark.parametrize("backwards", [False, True])
def test_lstm(backwards: bool) -> None:
    with fm.Graph() as g:
        x, h = fm.input("x", ("batch", 5, 3)), fm.input("h", ("batch", 4))
        layer = fm.layers.LSTM(4, return_sequences=True, return_state=True, go_backwards=backwards)
        ys = layer(x, initial_state=(h, h * 2))
        short = fm.layers.LSTM(2)(x)
    session = fm.Session(g)
    feeds = {"x": RNG.standard_normal((2, 5, 3)).astype(np.float32),
             "h": RNG.standard_normal((2, 4)).astype(np.float32)}  # fmt: skip
    weights = last_of(session, layer)
    np.testing.assert_array_equal(weights[2], np.repeat([0, 1, 0, 0], 4))
    taken = feeds["x"][:, ::-1] if backwards else feeds["x"]
    every, cell = lstm_loop(taken, (feeds["h"], feeds["h"] * 2), *weights)
    found = session.run([*ys, short], feeds)
    for made, expected in zip(found, (every, every[:, -1], cell)):
        np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-6)
    assert found[3].shape == (2, 2)


@pytest.mark.parametrize("after", [False, True])
def test_gru(after: bool) -> None:
    with fm.Graph() as g:
        x, lengths = fm.input("x", (3, 5, 2)), fm.input("lengths", (3,), "int32")
        layer = fm.layers.GRU(4, bias_initializer="normal", return_sequences=True,
                              return_state=True, reset_after=after)  # fmt: skip
        ys, last = layer(x, lengths=lengths)
    session = fm.Session(g)
    data = RNG.standard_normal((3, 5, 2)).astype(np.float32)
    ends = np.array([5, 2, 0], np.int32)
    every = gru_loop(data, np.zeros((3, 4), np.float32), *last_of(session, layer))
    every[1, 2:] = every[2] = 0  # beyond their ends sequences give nothing
    found = session.run([ys, last], {x: data, lengths: ends})
    np.testing.assert_allclose(found[0], every, rtol=1e-5, atol=1e-6)
    expected = np.stack([every[0, 4], every[1, 1], np.zeros(4)])
    np.testing.assert_allclose(found[1], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["concat", "sum", "mul", "ave", None])
def test_bidirectional(mode: str | None) -> None:
    with fm.Graph() as g:
        x = fm.input("x", (2, 4, 3))
        both = fm.layers.Bidirectional(fm.layers.LSTM(2, return_sequences=True), mode)
        y = both(x)
    session = fm.Session(g)
    data = RNG.standard_normal((2, 4, 3)).astype(np.float32)
    zero = np.zeros((2, 2), np.float32)
    a, _ = lstm_loop(data, (zero, zero), *last_of(session, both.forward_layer))
    b, _ = lstm_loop(data[:, ::-1], (zero, zero), *last_of(session, both.backward_layer))
    b = b[:, ::-1]
    expected: Any = {"concat": np.concatenate([a, b], -1), "sum": a + b, "mul": a * b,
                     "ave": (a + b) / 2, None: [a, b]}[mode]  # fmt: skip
    found = session.run(list(y) if mode is None else y, {x: data})
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert "bidirectional/backward/kernel" in g.variables


def test_an_lstm_learns_to_remember() -> None:
    """The first element of a sequence, at its end."""
    with fm.Graph() as g:
        x = fm.input("x", ("batch", 6, 1))
        y = fm.layers.Dense(1)(fm.layers.LSTM(8)(x))
        loss = fm.losses.mean_squared_error(x[:, 0], y)
        train = fm.optimizers.Adam(0.02).minimize(loss)
    session = fm.Session(g)
    rng = np.random.default_rng(0)
    losses = [session.run([loss, train], {x: rng.uniform(-1, 1, (64, 6, 1)).astype(np.float32)})[0]
              for _ in range(150)]  # fmt: skip
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize("make, text", [
    (lambda: fm.layers.Bidirectional(fm.layers.Dense(3)), "no new recurrent layer"),
    (lambda: fm.layers.Bidirectional(fm.layers.LSTM(3), "max"), "merge_mode must be"),
    (lambda: fm.layers.LSTM(3)(fm.input("x", (2, 3))), r"wants 3 axes"),
    (lambda: fm.layers.LSTM(3)(fm.input("x", (2, 3, 4)), initial_state=np.zeros((2, 3))),
     "LSTM has 2 states"),
])  # fmt: skip
def test_errors(make: Any, text: str) -> None:
    with fm.Graph(), pytest.raises(fm.UserError, match=text):
        make()
