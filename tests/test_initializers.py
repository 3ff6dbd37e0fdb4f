"""Initializers: fans, spread, orthogonality, and that they depend on seed and name only."""

from __future__ import annotations

import math

import flowmill as fm
import numpy as np
import pytest
from flowmill.dtypes import Array
from flowmill.graph import initializers
from flowmill.graph.initializers import VarianceScaling, fans

GENERATOR = np.random.default_rng(0)


def test_fans() -> None:
    assert fans((30, 40)) == (30, 40)
    assert fans((8, 4, 3, 5)) == (60, 120)  # [out, in / groups, height, width]
    assert fans((8, 4, 3)) == (12, 24)
    assert fans((7,)) == (7, 7) and fans(()) == (1, 1)


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("glorot_uniform", 2 / 1000), ("glorot_normal", 2 / 1000),
        ("he_uniform", 2 / 400), ("he_normal", 2 / 400),
        ("lecun_uniform", 1 / 400), ("lecun_normal", 1 / 400),
        ("normal", 0.05**2), ("uniform", 0.1**2 / 12),
    ],
)  # fmt: skip
def test_variance(name: str, variance: float) -> None:
    draw = initializers.NAMED[name](GENERATOR, (400, 600))
    assert draw.shape == (400, 600)
    assert abs(draw.mean()) < 5 * math.sqrt(variance / draw.size)
    assert draw.var() == pytest.approx(variance, rel=0.02)


def test_limits() -> None:
    draw = initializers.glorot_uniform(GENERATOR, (200, 100))
    assert np.abs(draw).max() <= math.sqrt(6 / 300)
    draw = initializers.TruncatedNormal(1.0, 0.5)(GENERATOR, (200, 100))
    assert np.abs(draw - 1).max() <= 1.0 and abs(draw.mean() - 1) < 0.02
    assert (initializers.ones(GENERATOR, (2, 3)) == 1).all()


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5), (8, 2, 3, 3)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    q = initializers.Orthogonal(2.0)(GENERATOR, shape).reshape(shape[0], -1)
    small = q @ q.T if q.shape[0] <= q.shape[1] else q.T @ q
    np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-12)


def test_values_depend_on_seed_and_name_only() -> None:
    def start(seed: int, extra: bool) -> dict[str, Array]:
        with fm.Graph(seed=seed) as g:
            if extra:
                fm.layers.Dense(3)(fm.input("y", (1, 2)))
            fm.layers.Dense(4, name="fc")(fm.input("x", ("n", 3)))
        return fm.initial_values(g)

    one, two = start(1, False), start(1, True)
    np.testing.assert_array_equal(one["fc/kernel"], two["fc/kernel"])
    assert (start(2, False)["fc/kernel"] != one["fc/kernel"]).any()


def test_the_seed_of_a_session_counts_before_its_graphs() -> None:
    with fm.Graph(seed=1) as g:
        drawn = fm.layers.Dense(4, name="fc")(fm.input("x", (2, 3))) + fm.uniform((2, 4))

    def results(seed: int | None) -> tuple[bytes, ...]:
        session = fm.Session(g, seed=seed)
        x = np.ones((2, 3), np.float32)
        kernel, bits = session.get("fc/kernel"), session.get("random/state")
        return kernel.tobytes(), bits.tobytes(), session.run(drawn, {"x": x}).tobytes()

    assert results(None) == results(1)
    assert all(a != b for a, b in zip(results(1), results(2), strict=True))
    for seed in (-1, "one", 0.5):
        with pytest.raises(fm.ConfigError, match="a seed is an integer from 0, not"):
            fm.Graph(seed=seed)  # type: ignore[arg-type]
        with pytest.raises(fm.ConfigError, match="a seed is an integer from 0, not"):
            fm.Session(g, seed=seed)  # type: ignore[arg-type]


def test_what_may_be_given() -> None:
    with fm.Graph() as g:
        x = fm.input("x", ("n", 3))
        fm.layers.Dense(2, kernel_initializer=np.eye(3, 2), bias_initializer=0.5, name="a")(x)
        fm.layers.Dense(2, kernel_initializer=lambda r, shape: np.ones(shape), name="b")(x)
        with pytest.raises(fm.ConfigError, match="no initializer is named 'he'"):
            fm.layers.Dense(2, kernel_initializer="he")(x)
        with pytest.raises(fm.ConfigError, match="not an initializer"):
            fm.layers.Dense(2, kernel_initializer=object())(x)
        with pytest.raises(fm.ShapeError, match=r'"c/kernel": initial value has shape \(2, 2\)'):
            fm.layers.Dense(2, kernel_initializer=np.eye(2), name="c")(x)
        fm.layers.Dense(2, kernel_initializer=lambda r, shape: np.eye(2), name="d")(x)
    with pytest.raises(fm.ConfigError, match=r'"d/kernel" made \(2, 2\)'):
        fm.initial_values(g)
    with pytest.raises(fm.ConfigError, match="mode"):
        VarianceScaling(mode="fan")
    with pytest.raises(fm.ConfigError, match="distribution"):
        VarianceScaling(distribution="normal")
    with pytest.raises(fm.ConfigError, match="two axes"):
        initializers.orthogonal(GENERATOR, (3,))
