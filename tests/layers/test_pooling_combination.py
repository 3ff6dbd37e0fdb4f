"""Pooling and combination layers against NumPy."""

from __future__ import annotations

from typing import Any

import flowmill as fm
import numpy as np
import pytest
from flowmill.dtypes import Array

from ..harness import Runner

RNG = np.random.default_rng(2)


def array(*shape: int) -> Array:
    return RNG.normal(size=shape)


def run(fn: Any, *arrays: Array) -> Array:
    with fm.Graph() as g:
        y = fn(*(fm.constant(a) for a in arrays))
    return Runner(g).run(y)  # type: ignore[no-any-return]


def windows(x: Array, size: int, stride: int) -> Array:
    """[batch, channels, *positions, window elements] of x with equal axes."""
    rank = x.ndim - 2
    view = np.lib.stride_tricks.sliding_window_view(x, (size,) * rank, tuple(range(2, x.ndim)))
    picked = view[(slice(None), slice(None), *[slice(None, None, stride)] * rank)]
    return picked.reshape(*picked.shape[: x.ndim], -1)


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize(("size", "stride"), [(2, None), (3, 1), (3, 2)])
def test_pools(rank: int, size: int, stride: int | None) -> None:
    x = array(2, 3, *[7] * rank)
    largest = fm.layers.MaxPool1D if rank == 1 else fm.layers.MaxPool2D
    average = fm.layers.AveragePool1D if rank == 1 else fm.layers.AveragePool2D
    seen = windows(x, size, stride or size)
    np.testing.assert_array_equal(run(largest(size, stride), x), seen.max(-1))
    np.testing.assert_allclose(run(average(size, stride), x), seen.mean(-1))


def test_padded_average_counts_real_elements() -> None:
    got = run(fm.layers.AveragePool1D(3, 1, padding="same"), np.ones((1, 1, 4)))
    np.testing.assert_allclose(got, np.ones((1, 1, 4)))


def test_global_pools() -> None:
    x, s = array(2, 3, 4, 5), array(2, 3, 4)
    np.testing.assert_array_equal(run(fm.layers.GlobalMaxPool2D(), x), x.max((2, 3)))
    np.testing.assert_allclose(run(fm.layers.GlobalAveragePool2D(), x), x.mean((2, 3)))
    np.testing.assert_array_equal(run(fm.layers.GlobalMaxPool1D(), s), s.max(2))
    np.testing.assert_allclose(
        run(fm.layers.GlobalAveragePool1D(keepdims=True), s), s.mean(2, keepdims=True)
    )
    with pytest.raises(fm.ShapeError, match=r"\[batch, channels, length\]"):
        run(fm.layers.GlobalMaxPool1D(), x)
    with pytest.raises(fm.ShapeError, match=r"\[batch, channels, height, width\]"):
        run(fm.layers.MaxPool2D(), s)


def test_sums_and_the_like() -> None:
    a, b, c = array(4, 3), array(4, 3), array(3)
    for fn, expected in [
        (fm.layers.add, a + b + c), (fm.layers.multiply, a * b * c),
        (fm.layers.subtract, a - b - c), (fm.layers.maximum, np.maximum(np.maximum(a, b), c)),
        (fm.layers.minimum, np.minimum(np.minimum(a, b), c)), (fm.layers.average, (a + b + c) / 3),
    ]:  # fmt: skip
        np.testing.assert_allclose(run(fn, a, b, c), expected)
        np.testing.assert_allclose(run(lambda *v, fn=fn: fn(list(v)), a, b, c), expected)
    with pytest.raises(fm.ShapeError, match="at least one"):
        fm.layers.add([])


def test_concatenate_flatten_reshape() -> None:
    a, b = array(2, 3, 4), array(2, 5, 4)
    np.testing.assert_array_equal(
        run(lambda x, y: fm.layers.concatenate([x, y], axis=1), a, b), np.concatenate([a, b], 1)
    )
    np.testing.assert_array_equal(run(fm.layers.Flatten(), a), a.reshape(2, 12))
    np.testing.assert_array_equal(run(fm.layers.Reshape((2, -1)), a), a.reshape(2, 2, 6))
    with fm.Graph():
        x = fm.input("x", ("batch", 3, 4))
        assert fm.layers.Flatten()(x).shape == (x.shape[0], 12)


def test_dot() -> None:
    a, b = array(5, 4), array(5, 4)
    np.testing.assert_allclose(run(fm.layers.dot, a, b), (a * b).sum(1, keepdims=True))
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (a, b)]
    np.testing.assert_allclose(
        run(lambda x, y: fm.layers.dot(x, y, normalize=True), a, b),
        (unit[0] * unit[1]).sum(1, keepdims=True),
    )
    a, b = array(5, 3, 4), array(5, 4, 6)
    np.testing.assert_allclose(run(lambda x, y: fm.layers.dot(x, y, (2, 1)), a, b), a @ b)
    a, b = array(5, 4, 3), array(5, 6, 4)
    np.testing.assert_allclose(
        run(lambda x, y: fm.layers.dot(x, y, (1, -1)), a, b), np.einsum("bki,bjk->bij", a, b)
    )
    with pytest.raises(fm.ShapeError, match="batch axis"):
        run(lambda x, y: fm.layers.dot(x, y, 0), a, b)
    with pytest.raises(fm.ShapeError, match="differ"):
        run(lambda x, y: fm.layers.dot(x, y, 1), a, b)


def attend(q: Array, k: Array, v: Array, allowed: Array | None = None) -> Array:
    scores = q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1])
    if allowed is not None:
        scores = np.where(allowed, scores, -1e30)
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return np.asarray((e / e.sum(-1, keepdims=True)) @ v)


def test_attention() -> None:
    q, k, v = array(2, 3, 4, 8), array(2, 3, 5, 8), array(2, 3, 5, 6)
    np.testing.assert_allclose(run(fm.layers.attention, q, k, v), attend(q, k, v))
    mask = RNG.random((2, 1, 4, 5)) < 0.6
    np.testing.assert_allclose(
        run(lambda a, b, c, d: fm.layers.attention(a, b, c, mask=d), q, k, v, mask),
        attend(q, k, v, mask),
    )
    causal = np.tri(4, 5, k=1, dtype=bool)
    np.testing.assert_allclose(
        run(lambda a, b, c: fm.layers.attention(a, b, c, causal=True), q, k, v),
        attend(q, k, v, causal),
    )
    none = np.zeros((4, 5), bool)
    nothing = run(lambda a, b, c: fm.layers.attention(a, b, c, mask=none), q, k, v)
    np.testing.assert_allclose(nothing, np.broadcast_to(v.mean(-2, keepdims=True), nothing.shape))


def test_causal_attention_of_symbolic_length() -> None:
    with fm.Graph() as g:
        x = fm.input("x", ("batch", "length", 8), "float64")
        y = fm.layers.attention(x, x, x, causal=True)
    data = array(2, 6, 8)
    np.testing.assert_allclose(
        Runner(g).run(y, {"x": data}), attend(data, data, data, np.tri(6, dtype=bool))
    )


def test_multi_head_attention() -> None:
    layer = fm.layers.MultiHeadAttention(2, 3, value_dim=4, output_size=5, name="mha")
    with fm.Graph() as g:
        q = fm.input("q", ("batch", "m", 6), "float64")
        v = fm.input("v", ("batch", "n", 7), "float64")
        y = layer(q, v)
        hidden = layer(q, v, causal=True)
    assert len(g.variables) == 8 and y.shape[2] == 5
    runner = Runner(g)
    feeds = {"q": array(2, 4, 6), "v": array(2, 4, 7)}

    def project(name: str, x: Array) -> Array:
        kernel, bias = (runner.variables[f"mha/{name}/{w}"] for w in ("kernel", "bias"))
        out: Array = (x @ kernel + bias).reshape(*x.shape[:2], 2, -1)
        return out.transpose(0, 2, 1, 3)

    parts = (project("query", feeds["q"]), project("key", feeds["v"]), project("value", feeds["v"]))
    kernel = runner.variables["mha/output/kernel"]
    for value, allowed in ((y, None), (hidden, np.tri(4, dtype=bool))):
        mixed = attend(*parts, allowed).transpose(0, 2, 1, 3).reshape(2, 4, 8)
        np.testing.assert_allclose(runner.run(value, feeds), mixed @ kernel, rtol=1e-6)


def test_three_dimensions_and_adaptive_windows() -> None:
    x = array(2, 3, 4, 6, 8)
    blocks = x.reshape(2, 3, 2, 2, 3, 2, 4, 2)
    np.testing.assert_allclose(run(fm.layers.MaxPool3D(), x), blocks.max((3, 5, 7)))
    np.testing.assert_allclose(run(fm.layers.AveragePool3D(2), x), blocks.mean((3, 5, 7)))
    np.testing.assert_allclose(run(fm.layers.GlobalMaxPool3D(), x), x.max((2, 3, 4)))
    np.testing.assert_allclose(run(fm.layers.GlobalAveragePool3D(True), x),
                               x.mean((2, 3, 4), keepdims=True))  # fmt: skip
    made = run(fm.layers.AdaptiveAveragePool((2, 3, None)), x)
    np.testing.assert_allclose(made, x.reshape(2, 3, 2, 2, 3, 2, 8).mean((3, 5)))
    made = run(fm.layers.AdaptiveMaxPool(3), x[:, :, 0, 0])
    parts = [x[:, :, 0, 0, a:b].max(-1) for a, b in ((0, 3), (2, 6), (5, 8))]
    np.testing.assert_allclose(made, np.stack(parts, -1))
    ceiled = run(fm.layers.MaxPool1D(3, ceil_mode=True), x[:, :, 0, 0])
    np.testing.assert_allclose(ceiled[..., -1], x[:, :, 0, 0, 6:].max(-1))
