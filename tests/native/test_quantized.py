"""Quantised arithmetic is exact in integers, on every instruction set and with every zero point."""

from __future__ import annotations

import flowmill as fm
import numpy as np
import pytest
from flowmill.errors import DTypeError, ShapeError
from flowmill.target import host, named
from onnx import helper

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


def integer_model(op: str, inputs: list[str], types: dict[str, np.ndarray], dtype: int, **more):
    """An ONNX model of one node, all of whose operands are inputs."""
    node = helper.make_node(op, inputs, ["y"], **more)
    infos = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
             for n, a in types.items()]  # fmt: skip
    out = helper.make_tensor_value_info("y", dtype, None)
    graph = helper.make_graph([node], "integers", infos, [out])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return fm.onnx.load(made.SerializeToString())


@pytest.mark.parametrize("target", targets())
@pytest.mark.parametrize("left, right", [(255, 127), (255, -128), (0, -128), (128, 127)])
def test_onnx_at_the_ends_of_the_range(left, right, target, monkeypatch):
    """All elements at an end, where sums of 16 bits would saturate; lengths beside those of vectors.
    Products of scales are powers of two, so that quantised results are exact as well."""
    monkeypatch.setenv("FLOWMILL_TARGET", target)
    k = 131
    a, b = np.full((5, k), left, np.uint8), np.full((k, 35), right, np.int8)
    a[1::2, ::3], b[::5, 1::2] = 255 - left, ~np.int8(right)
    image, taps = np.full((2, 19, 7, 6), left, np.uint8), np.full((21, 19, 3, 3), right, np.int8)
    image[:, ::2, ::2], taps[1::3, :, 1] = 255 - left, ~np.int8(right)
    za, zb, zy = np.uint8(128), np.int8(-3), np.uint8(7)
    scales = {"sa": np.float32(0.5), "sb": np.float32(2.0**-7), "sy": np.float32(2.0**3)}

    def exact_conv(x, w):
        spread = np.lib.stride_tricks.sliding_window_view(x.astype(np.int64), (3, 3), (2, 3))
        return np.einsum("nchwij,ocij->nohw", spread, w.astype(np.int64))

    def quantised(exact):
        return np.clip(np.rint(exact * 2.0**-11) + 7, 0, 255).astype(np.uint8)

    products = (a.astype(np.int64) - za) @ (b.astype(np.int64) - zb)
    sums = exact_conv(image.astype(np.int64) - za, taps.astype(np.int64) - zb)
    feeds = {"a": a, "b": b, "za": np.array(za), "zb": np.array(zb)}
    graph = integer_model("MatMulInteger", list(feeds), feeds, 6)
    np.testing.assert_array_equal(fm.Session(graph).run("y", feeds), products)
    feeds = {"x": image, "w": taps, "za": np.array(za), "zb": np.array(zb)}
    graph = integer_model("ConvInteger", list(feeds), feeds, 6)
    np.testing.assert_array_equal(fm.Session(graph).run("y", feeds), sums)
    given = {n: np.array(v) for n, v in {**scales, "za": za, "zb": zb, "zy": zy}.items()}
    feeds = {"a": a, "b": b, **given}
    order = ["a", "sa", "za", "b", "sb", "zb", "sy", "zy"]
    graph = integer_model("QLinearMatMul", order, feeds, 2)
    np.testing.assert_array_equal(fm.Session(graph).run("y", feeds), quantised(products))
    bias = np.array([(-1) ** k * (k << 12) for k in range(21)], np.int32)
    feeds = {"x": image, "w": taps, "bias": bias, **given}
    graph = integer_model("QLinearConv", ["x", *order[1:3], "w", *order[4:], "bias"], feeds, 2)
    np.testing.assert_array_equal(fm.Session(graph).run("y", feeds),
                                  quantised(sums + bias[:, None, None]))  # fmt: skip


@pytest.mark.parametrize("target", targets())
@pytest.mark.parametrize("ends", [(0.0, 255.0), (-255.0, 0.0), (-128.0, 127.0), (3.0, 51.0)])
def test_dynamic_quantisation_on_every_instruction_set(ends, target, monkeypatch):
    monkeypatch.setenv("FLOWMILL_TARGET", target)
    low, high = min(ends[0], 0), max(ends[1], 0)
    x = np.concatenate([np.linspace(*ends, 77), ends, [*ends] * 9]).astype(np.float32)
    scale = np.float32((high - low) / 255)
    zero = np.clip(np.rint(-np.float32(low) / scale), 0, 255)
    y, s, z = ran(lambda x: fm.dynamic_quantize_linear(x), {"x": x})
    assert (s, z, z.dtype) == (scale, zero, np.uint8)
    np.testing.assert_array_equal(y, np.clip(np.rint(x / scale) + zero, 0, 255))


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


def quantized(x):
    """A tensor as steps from its zero point, and the size of a step, as DynamicQuantizeLinear says."""
    x = x.astype(np.float32)
    low, high = min(x.min(), np.float32(0)), max(x.max(), np.float32(0))
    step = (high - low) / np.float32(255)
    zero = np.rint(-low / step)
    return np.clip(np.rint(x / step) + zero, 0, 255).astype(np.float64) - zero, np.float64(step)


def one_direction(x, w, r, bias, peepholes, h, c):
    """All states h of an LSTM, and the last cell; w and r are steps from their zero points, and
    the sizes of these."""
    sigmoid = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731
    q, step = quantized(x)
    every, of_x = [], q @ w[0] * (step * w[1])
    for t in range(len(x)):
        q, step = quantized(h)
        gates = of_x[t] + q @ r[0] * (step * r[1]) + bias
        i, o, f, g = np.split(gates, 4, -1)
        pi, po, pf = np.split(peepholes, 3)
        c = sigmoid(f + pf * c) * c + sigmoid(i + pi * c) * np.tanh(g)
        h = sigmoid(o + po * c) * np.tanh(c)
        every.append(h)
    return np.stack(every), c


@pytest.mark.parametrize("columns", (False, True))
def test_quantised_lstm(columns):
    """com.microsoft's DynamicQuantizeLSTM, in both directions: with a scale for all columns and
    unsigned weights, or scales for each and signed ones. What lies beyond the ends of all sequences
    does not widen the range that is quantised."""
    units, features, batch, time, end = 5, 3, 2, 6, 4
    dtype = "int8" if columns else "uint8"
    w, r = drawn(dtype, 2, features, 4 * units), drawn(dtype, 2, units, 4 * units)
    shape = (2, 4 * units) if columns else (2,)
    scales = [RNG.uniform(0.003, 0.006, shape).astype(np.float32) for _ in "wr"]
    zeros = [np.full(shape, 0 if columns else z, dtype) for z in (100, 140)]
    x = RNG.uniform(-1, 2, (time, batch, features)).astype(np.float32)
    x[end:] *= 100
    h, c = RNG.uniform(-1, 1, (2, 2, batch, units)).astype(np.float32)
    b, p = (RNG.uniform(-1, 1, (2, n * units)).astype(np.float32) for n in (8, 3))
    given = {"x": x, "w": w, "r": r, "b": b, "n": np.full(batch, end, "i4"), "h": h, "c": c, "p": p,
             "ws": scales[0], "wz": zeros[0], "rs": scales[1], "rz": zeros[1]}  # fmt: skip
    node = helper.make_node("DynamicQuantizeLSTM", list(given), ["y", "last", "cell"],
                            domain="com.microsoft", direction="bidirectional",
                            hidden_size=units)  # fmt: skip
    infos = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
             for n, a in given.items()]  # fmt: skip
    outs = [helper.make_tensor_value_info(n, 1, None) for n in node.output]
    domains = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(helper.make_graph([node], "lstm", infos, outs), opset_imports=domains,
                              ir_version=10)  # fmt: skip
    made = fm.Session(fm.onnx.load(model.SerializeToString())).run(None, given)
    assert not made["y"][end:].any()
    for k, way in enumerate((1, -1)):
        weights = [(m[k].astype(np.float64) - zeros[j][k], scales[j][k].astype(np.float64))
                   for j, m in enumerate((w, r))]  # fmt: skip
        bias = b[k, : 4 * units] + b[k, 4 * units :]
        every, cell = one_direction(x[:end][::way], *weights, bias, p[k], h[k], c[k])
        np.testing.assert_allclose(made["y"][:end, k], every[::way], atol=2e-6)
        np.testing.assert_allclose(made["last"][k], every[-1], atol=2e-6)
        np.testing.assert_allclose(made["cell"][k], cell, atol=2e-6)


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
        sequence = fm.input("s", (4, 2, 3))
        w, r = np.zeros((1, 3, 8), "i1"), np.zeros((1, 2, 8), "i1")
        step, zero = np.ones(1, np.float32), np.zeros(1, np.int8)
        with pytest.raises(ShapeError, match="are not weights of four gates"):
            fm.dynamic_quantize_lstm(sequence, w[..., 1:], r, step, zero, step, zero)
        with pytest.raises(ShapeError, match="is not a number for each of 1 directions"):
            fm.dynamic_quantize_lstm(sequence, w, r, step, zero, np.ones((1, 3), "f4"), zero)
