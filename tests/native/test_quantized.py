"""Quantised arithmetic is exact in integers, on every instruction set and with every zero point."""

from __future__ import annotations

import flowmill as fm
import numpy as np
import pytest
from flowmill.errors import DTypeError, ShapeError
from flowmill.target import host, named

RNG = np.random.default_rng(11)


def drawn(dtype: str, *shape: int) -> np.ndarray:
    """Numbers of the whole range, its ends in front."""
    limits = np.iinfo(dtype)
    out = RNG.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    out.reshape(-1)[:4] = [limits.min, limits.min, limits.max, limits.max][: out.size]
    return out


def ran(build, feeds, **options):
    with fm.Graph() as graph:
        inputs = {n: fm.input(n, a.shape, a.dtype) for n, a in feeds.items()}
        y = build(**inputs)
    return fm.Session(graph, **options).run(y, feeds)


def targets() -> list[str]:
    """The portable levels that this machine runs."""
    mine = host()
    names = ("aarch64",) if mine.triple.startswith("aarch64") else (
        "x86-64-v2", "x86-64-v3", "x86-64-v4")  # fmt: skip
    return [n for n in names if named(n).vector_bytes <= mine.vector_bytes]


@pytest.mark.parametrize("target", targets())
@pytest.mark.parametrize("a, b", [("uint8", "int8"), ("int8", "uint8"), ("int16", "int16")])
def test_products_wrap_in_32_bits_and_nowhere_before(a, b, target, monkeypatch):
    monkeypatch.setenv("FLOWMILL_TARGET", target)
    x, w = drawn(a, 9, 300), drawn(b, 300, 70)
    made = ran(lambda x, w: fm.matmul_integer(x, w), {"x": x, "w": w})
    np.testing.assert_array_equal(made, x.astype(np.int32) @ w.astype(np.int32))
    image, taps = drawn(a, 2, 5, 9, 8), drawn(b, 20, 5, 3, 3)
    made = ran(lambda x: fm.conv_integer(x, taps, padding="same"), {"x": image})
    exact = ran(lambda x: fm.conv(x, taps.astype(np.float64), padding="same"),
                {"x": image.astype(np.float64)})  # fmt: skip
    np.testing.assert_array_equal(made, exact.astype(np.int64).astype(np.int32))


@pytest.mark.parametrize("level", [0, 2])
@pytest.mark.parametrize("rows, columns", [((), ()), ((7,), ()), ((), (33,)), ((7,), (33,))])
def test_zero_points_of_matrices(rows, columns, level):
    a, b, za, zb = drawn("uint8", 2, 7, 40), drawn("int8", 40, 33), drawn("uint8", *rows), drawn(
        "int8", *columns)  # fmt: skip
    made = ran(lambda a, za, zb: fm.matmul_integer(a, b, za, zb), {"a": a, "za": za, "zb": zb},
               level=level)  # fmt: skip
    left = a.astype(np.int32) - np.reshape(za, (*rows, 1) if rows else ())
    np.testing.assert_array_equal(made, left @ (b.astype(np.int32) - zb))


def test_vectors_and_a_zero_point_of_zero():
    a, b = drawn("int8", 40), drawn("int8", 40)
    made = ran(lambda a, b: fm.matmul_integer(a, b, np.int8(0), np.int8(3)), {"a": a, "b": b})
    assert made == int(a.astype(np.int32) @ (b.astype(np.int32) - 3))


@pytest.mark.parametrize("groups", [1, 2])
def test_what_is_padded_counts_as_the_zero_point(groups):
    x, w, zx, zw = drawn("uint8", 2, 4, 6, 7), drawn("uint8", 6, 4 // groups, 3, 2), drawn(
        "uint8"), drawn("uint8", 6)  # fmt: skip
    made = ran(lambda x, w, zx, zw: fm.conv_integer(x, w, zx, zw, (2, 1), [(1, 0), (2, 1)], 1,
                                                    groups),
               {"x": x, "w": w, "zx": zx, "zw": zw})  # fmt: skip
    centred = x.astype(np.float64) - zx, w.astype(np.float64) - zw.reshape(-1, 1, 1, 1)
    exact = ran(lambda x, w: fm.conv(x, w, (2, 1), [(1, 0), (2, 1)], 1, groups),
                dict(zip("xw", centred)))  # fmt: skip
    np.testing.assert_array_equal(made, exact)


def test_rounding_is_half_to_even_and_what_does_not_fit_is_cut():
    x = np.array([0.5, 1.5, 2.5, -0.5, 1e30, -1e30, np.inf, 127, 130], np.float32)
    made = ran(lambda x: fm.quantize_linear(x, np.float32(1), np.int8(-2)), {"x": x})
    assert made.dtype == np.int8
    np.testing.assert_array_equal(made, [-2, 0, 0, -2, 127, -128, 127, 125, 127])
    np.testing.assert_array_equal(
        ran(lambda q: fm.dequantize_linear(q, 0.5, np.int8(-2)), {"q": made}),
        (made.astype(np.float32) + 2) / 2)  # fmt: skip


def test_quantised_products():
    x, w = RNG.uniform(-1, 2, (5, 4, 6, 6)), RNG.uniform(-1, 1, (3, 4, 3, 3))
    xs, ws, ys = np.float32(3 / 255), np.float32([0.007, 0.008, 0.009]), np.float32(0.05)
    q = np.clip(np.rint(x / xs) + 85, 0, 255).astype(np.uint8)
    qw = np.clip(np.rint(w / ws.reshape(-1, 1, 1, 1)), -128, 127).astype(np.int8)
    bias = np.array([100, -200, 30000], np.int32)
    zeros = np.zeros(3, np.int8)
    made = ran(lambda q: fm.qlinear_conv(q, xs, np.uint8(85), qw, ws, zeros, ys, np.uint8(128),
                                         bias, padding="same"), {"q": q})  # fmt: skip
    exact = ran(lambda x, w: fm.conv(x, w, padding="same"),
                {"x": q.astype(np.float64) - 85, "w": qw.astype(np.float64)})  # fmt: skip
    scaled = (exact + bias.reshape(-1, 1, 1)) * (xs * ws / ys).reshape(-1, 1, 1)
    np.testing.assert_allclose(made, np.clip(np.rint(scaled) + 128, 0, 255), atol=1)
    assert np.mean(made == np.clip(np.rint(scaled) + 128, 0, 255)) > 0.99
    a, b = q[0, 0], qw[:, 0].reshape(3, 9)[:, :6].T
    made = ran(lambda a: fm.qlinear_matmul(a, xs, np.uint8(85), b, ws, zeros, ys, np.int8(-3)),
               {"a": a})  # fmt: skip
    scaled = (a.astype(np.float64) - 85) @ b * (xs * ws / ys)
    np.testing.assert_array_equal(made, np.clip(np.rint(scaled) - 3, -128, 127))


def test_errors():
    with fm.Graph():
        q, x = fm.input("q", (3, 4), "int8"), fm.input("x", (3, 4))
        with pytest.raises(DTypeError, match="integers of 8 or 16 bits, not float32"):
            fm.matmul_integer(x, q.T)
        with pytest.raises(DTypeError, match="must be int8, as what it is for"):
            fm.matmul_integer(q, q.T, np.uint8(3))
        with pytest.raises(ShapeError, match=r"does not fit .* it must have shape \[4\]"):
            fm.quantize_linear(x, np.ones(3, np.float32), axis=1)
        with pytest.raises(ShapeError, match=r"it must have shape \[3, 2\]"):
            fm.dequantize_linear(q, np.ones((3, 3), np.float32), axis=1, block=2)
        with pytest.raises(DTypeError, match="quantised to int8, uint8, int16, uint16"):
            fm.quantize_linear(x, np.float32(1), np.int64(0))
