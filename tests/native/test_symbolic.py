"""Programs for any batch: the reference's results, and each row's bits whatever stands beside it
and however many threads share the work."""

from __future__ import annotations

import flowmill as fm
import numpy as np
import pytest
from flowmill.graph.definition import Graph

SIZES = (1, 2, 3, 7, 16, 33)
_rng = np.random.default_rng(3)


def weights(*shape):
    return _rng.standard_normal(shape).astype(np.float32)


W, W2, K, K1, TABLE = (weights(37, 19), weights(19, 70), weights(8, 3, 3, 3), weights(4, 6, 5),
                       weights(11, 6))  # fmt: skip
# name -> shape of one row, what is computed, the same in NumPy (None: only compared with itself)
MODELS = {
    "pointwise": ((37,), lambda x: fm.exp(x) * 2 + fm.tanh(x), lambda x: np.exp(x) * 2 + np.tanh(x)),
    "matmul": ((37,), lambda x: x @ fm.constant(W), lambda x: x @ W),
    "two layers": (
        (37,), lambda x: fm.relu(x @ fm.constant(W)) @ fm.constant(W2),
        lambda x: np.maximum(x @ W, 0) @ W2,
    ),
    "batched matmul": ((5, 37), lambda x: x @ fm.constant(W), lambda x: x @ W),
    "conv": ((3, 9, 8), lambda x: fm.conv(x, fm.constant(K), padding=1), None),
    "strided conv": ((3, 9, 8), lambda x: fm.conv(x, fm.constant(K), strides=(2, 2)), None),
    "conv 1d": ((6, 40), lambda x: fm.conv(x, fm.constant(K1)), None),
    "max pool": ((3, 9, 8), lambda x: fm.max_pool(x, (2, 2)), None),
    "average pool": ((3, 9, 8), lambda x: fm.average_pool(x, (3, 3)), None),
    "softmax": ((41,), lambda x: fm.softmax(x, axis=1), None),
    "log softmax": ((41,), lambda x: fm.log_softmax(x, axis=1), None),
    "row sum": ((5, 41), lambda x: fm.sum(x, axis=2), lambda x: x.sum(2)),
    "long sum": ((5000,), lambda x: fm.sum(x, axis=1), lambda x: x.sum(1)),
    "middle sum": ((41, 5), lambda x: fm.sum(x, axis=1), lambda x: x.sum(1)),
    "mean": ((41,), lambda x: fm.mean(x, axis=1), lambda x: x.mean(1)),
    "argmax": ((41,), lambda x: fm.argmax(x, axis=1), lambda x: x.argmax(1)),
    "max": ((4, 41), lambda x: fm.max(x, axis=(1, 2)), lambda x: x.max((1, 2))),
    "transpose": ((5, 41), lambda x: fm.transpose(x, (0, 2, 1)), lambda x: x.transpose(0, 2, 1)),
    "reshape": ((6, 7), lambda x: fm.reshape(x, (x.shape[0], 42)) * 2, lambda x: x.reshape(-1, 42) * 2),
    "gather": (
        (6,), lambda x: fm.gather(fm.constant(TABLE), fm.cast(fm.abs(x) * 2, "int32"), axis=0),
        lambda x: TABLE[(np.abs(x) * 2).astype(np.int32)],
    ),
    "normalise": (
        (37,), lambda x: (x - fm.mean(x, axis=1, keepdims=True)) * fm.rsqrt(
            fm.var(x, axis=1, keepdims=True) + 1e-5),
        lambda x: (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5),
    ),
    "softmax of channels": ((6, 7, 5), lambda x: fm.softmax(x, axis=1), None),
    "softmax of a long row": ((5000,), lambda x: fm.softmax(x * 3.0), None),
    "attention weights": ((3, 9, 9), lambda x: fm.softmax(x * 0.3 + fm.tanh(x)), None),
    "cross-entropy": (
        (41,), lambda x: fm.losses.softmax_cross_entropy(fm.softmax(x), x * 2.0, reduction="none"),
        None,
    ),
    "concat": ((5,), lambda x: fm.concat([x, x * 2], axis=1), lambda x: np.concatenate([x, x * 2], 1)),
    "cumsum": ((23,), lambda x: fm.cumsum(x, axis=1), lambda x: x.cumsum(1)),
}  # fmt: skip


@pytest.mark.parametrize("level", [0, 2])
@pytest.mark.parametrize("name", MODELS)
def test_any_batch_and_each_row_alone(name, level):
    row, build, reference = MODELS[name]
    rng = np.random.default_rng(5)
    with Graph() as g:
        x = fm.input("x", ("batch", *row))
        y = build(x)
    sessions = [fm.Session(g, threads=t, level=level) for t in (1, 2, 3, 4)]
    for size in SIZES if level else SIZES[:4]:
        data = rng.uniform(-1.5, 1.5, (size, *row)).astype(np.float32)
        made = [s.run(y, {x: data}) for s in sessions]
        assert len({m.tobytes() for m in made}) == 1, "threads change bits"
        assert made[0].shape[0] == size
        if reference is not None:
            expected = reference(data)
            scale = np.abs(expected).max()
            np.testing.assert_allclose(made[0], expected, atol=4e-6 * scale, rtol=0)
        for k in {0, size // 2, size - 1}:
            alone = sessions[0].run(y, {x: data[k : k + 1]})
            assert alone[0].tobytes() == made[0][k].tobytes(), f"row {k} of {size}"


@pytest.mark.parametrize("name", MODELS)
def test_a_fixed_batch_gives_the_same_bits(name):
    row, build, _ = MODELS[name]
    data = np.random.default_rng(6).uniform(-1.5, 1.5, (9, *row)).astype(np.float32)
    found = []
    for size in ("batch", 9, 1):
        with Graph() as g:
            x = fm.input("x", (size, *row))
            session, y = fm.Session(g, threads=2), build(x)
        rows = [session.run(y, {x: data[k : k + 1]}) for k in range(9)] if size == 1 else [
            session.run(y, {x: data})]  # fmt: skip
        found.append(np.concatenate(rows).tobytes())
    assert found[0] == found[1], "symbolic and fixed batch"
    assert found[1] == found[2], "a batch of nine and nine batches of one"


def test_results_whose_sizes_are_no_plain_symbols():
    """They take the long way in, whichever way they are asked for."""
    with fm.Graph() as g:
        x = fm.input("x", ("n", "m"))
        y = fm.reshape(x, (-1,)) * 2
    session = fm.Session(g)
    call = session.make_callable(y, [x])
    for shape in ((2, 3), (4, 1), (2, 3)):
        at = np.ones(shape, np.float32)
        assert session.run(y, {x: at}).shape == call(at).shape == (shape[0] * shape[1],)
