"""Batch, layer and data normalisation."""

from __future__ import annotations

import flowmill as fm
import numpy as np
import pytest
from flowmill.dtypes import Array

from ..harness import Runner

RNG = np.random.default_rng(1)
IMAGES = (RNG.normal(size=(6, 3, 4, 5)) * [[[[2.0]], [[0.5]], [[1]]]] + 3).astype(np.float32)
AXES = (0, 2, 3)


def channels(x: Array) -> Array:
    return x.reshape(-1, 1, 1)


def test_batch_norm_in_training_and_inference() -> None:
    layer = fm.layers.BatchNorm(momentum=0.9, epsilon=1e-2, name="bn", gamma_initializer="normal",
                                beta_initializer="normal")  # fmt: skip
    with fm.Graph() as g:
        x = fm.input("x", ("n", 3, 4, 5))
        train, infer = layer(x, training=True), layer(x)
    assert [n for n, i in g.variables.items() if i.trainable] == ["bn/gamma", "bn/beta"]
    runner = Runner(g)
    gamma, beta = runner.variables["bn/gamma"], runner.variables["bn/beta"]
    mean, variance = IMAGES.mean(AXES), IMAGES.var(AXES)
    expected = (IMAGES - channels(mean)) / np.sqrt(channels(variance) + 1e-2)
    got = runner.run(train, {"x": IMAGES})
    np.testing.assert_allclose(got, expected * channels(gamma) + channels(beta), rtol=1e-3,
                               atol=1e-4)  # fmt: skip
    moving_mean, moving_variance = 0.1 * mean, 0.9 + 0.1 * variance
    np.testing.assert_allclose(runner.variables["bn/moving_mean"], moving_mean, rtol=1e-5)
    np.testing.assert_allclose(runner.variables["bn/moving_variance"], moving_variance, rtol=1e-5)
    before = dict(runner.variables)
    expected = (IMAGES - channels(moving_mean)) / np.sqrt(channels(moving_variance) + 1e-2)
    got = runner.run(infer, {"x": IMAGES})
    np.testing.assert_allclose(got, expected * channels(gamma) + channels(beta), rtol=1e-3,
                               atol=1e-4)  # fmt: skip
    assert all((runner.variables[n] == v).all() for n, v in before.items())


def test_batch_norm_moves_when_a_training_step_runs() -> None:
    layer = fm.layers.BatchNorm(momentum=0.5)
    with fm.Graph() as g:
        x = fm.input("x", ("n", 3))
        with fm.training():
            loss = fm.mean(layer(x) ** 2)
        train = fm.optimizers.SGD(0.1).minimize(loss)
    data = RNG.normal(size=(8, 3)).astype(np.float32)
    runner = Runner(g)
    runner.run(train, {"x": data})
    np.testing.assert_allclose(
        runner.variables["batch_norm/moving_mean"], 0.5 * data.mean(0), rtol=1e-5, atol=1e-6
    )
    assert (runner.variables["batch_norm/gamma"] < 1).all()


def test_batch_norm_called_twice_in_a_run_moves_twice() -> None:
    layer = fm.layers.BatchNorm(momentum=0.5, name="bn")
    with fm.Graph() as g:
        a, b = fm.input("a", ("n", 3)), fm.input("b", ("n", 3))
        with fm.training():
            both = fm.sum(layer(a)) + fm.sum(layer(b))
            only = layer(b)
    one, two = np.full((2, 3), 4, np.float32), np.full((2, 3), 8, np.float32)
    runner = Runner(g)
    runner.run(both, {"a": one, "b": two})
    np.testing.assert_allclose(runner.variables["bn/moving_mean"], 0.5 * (0.5 * 4) + 0.5 * 8)
    np.testing.assert_allclose(runner.variables["bn/moving_variance"], 0.25)
    runner = Runner(g)
    runner.run(only, {"b": two})
    np.testing.assert_allclose(runner.variables["bn/moving_mean"], 4)


@pytest.mark.parametrize("axis", [-1, (1, 2), (1,)])
def test_layer_norm(axis: int | tuple[int, ...]) -> None:
    layer = fm.layers.LayerNorm(axis, epsilon=1e-2, gamma_initializer="normal",
                                beta_initializer="normal")  # fmt: skip
    x = RNG.normal(size=(4, 5, 6)) * 3 + 1
    with fm.Graph() as g:
        y = layer(fm.constant(x))
    runner = Runner(g)
    gamma, beta = (runner.variables[f"layer_norm/{n}"] for n in ("gamma", "beta"))
    centred = x - x.mean(axis, keepdims=True)
    expected = centred / np.sqrt(x.var(axis, keepdims=True) + 1e-2) * gamma + beta
    np.testing.assert_allclose(runner.run(y), expected, rtol=1e-6)


def test_normalization_of_data() -> None:
    data = RNG.uniform(0, 255, size=(50, 3, 4, 4))
    data[:, 2] = 7
    with fm.Graph() as g:
        x = fm.input("x", ("n", 3, 4, 4), "uint8")
        y = fm.layers.Normalization().adapt(data)(x)
        z = fm.layers.Normalization(mean=10.0, variance=4.0)(x)
        w = fm.layers.Normalization(axis=None).adapt(data)(x)
    batch = data.astype(np.uint8)[:9]
    a, b, c = Runner(g).run([y, z, w], {"x": batch})
    mean, std = data.mean((0, 2, 3)), data.std((0, 2, 3))
    expected = (batch[:, :2] - channels(mean[:2])) / channels(std[:2])
    assert a.dtype == np.float32 and (a[:, 2] == 0).all()
    np.testing.assert_allclose(a[:, :2], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(b, (batch - 10.0) / 2, rtol=1e-6)
    np.testing.assert_allclose(c, (batch - data.mean()) / data.std(), rtol=1e-4, atol=1e-5)


def test_normalization_mistakes() -> None:
    layer = fm.layers.Normalization(mean=[0.0, 1.0], variance=[1.0, 1.0])
    with fm.Graph():
        x = fm.input("x", ("n", 3))
        with pytest.raises(fm.ShapeError, match="2 means"):
            layer(x)
        with pytest.raises(fm.GraphError, match="adapt"):
            fm.layers.Normalization()(x)
        done = fm.layers.Normalization(0.0, 1.0)
        done(x)
        with pytest.raises(fm.GraphError, match="before its first call"):
            done.adapt(np.ones((2, 3)))
    with pytest.raises(fm.ConfigError, match="together"):
        fm.layers.Normalization(mean=0.0)
    with pytest.raises(fm.ConfigError, match="negative"):
        fm.layers.Normalization(mean=0.0, variance=-1.0)
    with pytest.raises(fm.ConfigError, match="not finite"):
        fm.layers.Normalization().adapt(np.array([[np.nan]]))


@pytest.mark.parametrize(
    "make",
    [
        lambda: fm.layers.BatchNorm(momentum=1.5),
        lambda: fm.layers.BatchNorm(epsilon=0),
        lambda: fm.layers.LayerNorm(epsilon=-1),
    ],
)
def test_bad_arguments(make: object) -> None:
    with pytest.raises(fm.ConfigError):
        make()  # type: ignore[operator]


def whitened(x, axes, epsilon):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)


@pytest.mark.parametrize("layer, expected", [
    (fm.layers.GroupNorm(2), lambda x: whitened(x.reshape(2, 2, 3, 20), (2, 3), 1e-3)),
    (fm.layers.GroupNorm(-1), lambda x: whitened(x, (2, 3), 1e-3)),
    (fm.layers.GroupNorm(1, 0.1), lambda x: whitened(x, (1, 2, 3), 0.1)),
    (fm.layers.InstanceNorm(), lambda x: whitened(x, (2, 3), 1e-3)),
    (fm.layers.RMSNorm(), lambda x: x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6)),
    (fm.layers.RMSNorm((1, 3), 0.1),
     lambda x: x / np.sqrt((x * x).mean((1, 3), keepdims=True) + 0.1)),
])  # fmt: skip
def test_groups_instances_and_squares(layer, expected):
    """Each with a gamma of 2 and, where there is one, a beta of 1."""
    layer.gamma_initializer, layer.beta_initializer = 2.0, 1.0
    x = np.random.default_rng(0).standard_normal((2, 6, 4, 5))
    with fm.Graph() as g:
        y = layer(fm.input("x", x.shape, "float64"))
    made = fm.Session(g).run(y, {"x": x})
    shift = 1 if "beta" in layer.weights else 0
    np.testing.assert_allclose(made, expected(x).reshape(x.shape) * 2 + shift, rtol=1e-6)
