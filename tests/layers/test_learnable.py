"""Learnable layers: values against NumPy, shared variables, names."""

from __future__ import annotations

from typing import Any

import flowmill as fm
import numpy as np
import pytest
from flowmill.dtypes import Array
from flowmill.graph.definition import Graph
from flowmill.graph.ir import Value

from ..harness import Runner

RNG = np.random.default_rng(0)


def array(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


def run(layer: Any, x: Array) -> tuple[Array, dict[str, Array]]:
    """The layer on a constant, and its variables by their last name."""
    with fm.Graph() as g:
        y = layer(fm.constant(x))
    runner = Runner(g)
    held = {n.rpartition("/")[2]: v for n, v in runner.variables.items()}
    return runner.run(y), held


def correlate(x: Array, w: Array, strides: tuple[int, ...], pads: Any, apart: Any,
              groups: int) -> Array:  # fmt: skip
    """A convolution over any number of axes, one output element after the other."""
    x = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *pads])
    span = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], apart)]
    sizes = [(n - s) // st + 1 for n, s, st in zip(x.shape[2:], span, strides)]
    out = np.zeros((x.shape[0], w.shape[0], *sizes))
    each_in, each_out = w.shape[1], w.shape[0] // groups
    for o in range(w.shape[0]):
        first = o // each_out * each_in
        for at in np.ndindex(*sizes):
            place = tuple(
                slice(i * st, i * st + s, d) for i, st, s, d in zip(at, strides, span, apart)
            )
            part = x[(slice(None), slice(first, first + each_in), *place)]
            out[(slice(None), o, *at)] = (part * w[o]).reshape(len(x), -1).sum(1)
    return out


def test_dense() -> None:
    x = array(2, 5, 3)
    y, held = run(fm.layers.Dense(4, activation="relu", bias_initializer="normal"), x)
    np.testing.assert_allclose(y, np.maximum(x @ held["kernel"] + held["bias"], 0), rtol=1e-5)
    y, held = run(fm.layers.Dense(4, use_bias=False, activation=fm.tanh), x)
    np.testing.assert_allclose(y, np.tanh(x @ held["kernel"]), rtol=1e-5)
    assert list(held) == ["kernel"]


@pytest.mark.parametrize(
    ("options", "strides", "pads", "apart", "groups"),
    [
        ({"kernel_size": 3}, (1, 1), [(0, 0), (0, 0)], (1, 1), 1),
        ({"kernel_size": (3, 2), "padding": "same"}, (1, 1), [(1, 1), (0, 1)], (1, 1), 1),
        ({"kernel_size": 3, "strides": 2, "padding": "same"}, (2, 2), [(1, 1), (0, 1)], (1, 1), 1),
        ({"kernel_size": 2, "dilation_rate": 2, "groups": 2}, (1, 1), [(0, 0)] * 2, (2, 2), 2),
        ({"kernel_size": 3, "padding": (1, (2, 0))}, (1, 1), [(1, 1), (2, 0)], (1, 1), 1),
    ],
)
def test_conv2d(options: dict[str, Any], strides: Any, pads: Any, apart: Any, groups: int) -> None:
    x = array(2, 4, 7, 6)
    y, held = run(fm.layers.Conv2D(6, bias_initializer="normal", **options), x)
    assert held["kernel"].shape[:2] == (6, 4 // groups)
    expected = correlate(x, held["kernel"], strides, pads, apart, groups)
    np.testing.assert_allclose(y, expected + held["bias"][:, None, None], rtol=1e-4, atol=1e-5)


def test_conv1d_and_depthwise() -> None:
    x = array(2, 4, 9)
    y, held = run(fm.layers.Conv1D(3, 2, strides=2, use_bias=False, activation="relu"), x)
    expected = correlate(x, held["kernel"], (2,), [(0, 0)], (1,), 1)
    np.testing.assert_allclose(y, np.maximum(expected, 0), rtol=1e-4, atol=1e-5)
    x = array(1, 3, 5, 5)
    y, held = run(fm.layers.DepthwiseConv2D(3, depth_multiplier=2, bias_initializer="normal"), x)
    assert held["kernel"].shape == (6, 1, 3, 3)
    expected = correlate(x, held["kernel"], (1, 1), [(0, 0)] * 2, (1, 1), 3)
    np.testing.assert_allclose(y, expected + held["bias"][:, None, None], rtol=1e-4, atol=1e-5)


def test_embedding() -> None:
    ids = np.array([[0, 4], [2, 2]])
    y, held = run(fm.layers.Embedding(5, 3), ids)
    np.testing.assert_array_equal(y, held["embeddings"][ids])
    assert (np.abs(held["embeddings"]) <= 0.05).all()
    for bad in (5, -1):
        with pytest.raises(fm.RunError):
            run(fm.layers.Embedding(5, 3), np.array([bad]))
    with pytest.raises(fm.DTypeError, match="integer ids"):
        run(fm.layers.Embedding(5, 3), array(2))


def test_called_twice_shares_variables() -> None:
    layer = fm.layers.Dense(4, name="fc")
    with fm.Graph() as g:
        a, b = fm.input("a", ("n", 3)), fm.input("b", ("m", 3))
        one, two = layer(a), layer(b)
        loss = fm.sum(one) + fm.sum(two)
        train = fm.optimizers.SGD(1.0).minimize(loss)
    assert list(g.variables) == ["fc/kernel", "fc/bias", "sgd/step"]
    assert g.find("fc") is one
    runner = Runner(g)
    before = runner.variables["fc/bias"]
    feeds = {"a": np.ones((2, 3), np.float32), "b": np.ones((5, 3), np.float32)}
    runner.run(train, feeds)
    np.testing.assert_array_equal(runner.variables["fc/bias"], before - 7)


def test_called_in_another_graph() -> None:
    layer = fm.layers.Dense(4, name="fc")
    with fm.Graph("first"):
        layer(fm.input("x", ("n", 3)))
    with fm.Graph("second"), pytest.raises(fm.GraphError, match='"fc" has its variables in graph'):
        layer(fm.input("x", ("n", 3)))


def test_names_and_paths() -> None:
    with fm.Graph() as g:
        x = fm.input("x", ("n", 3))
        a, b = fm.layers.Dense(3), fm.layers.Dense(3)
        with g.scope("block"):
            y = a(x)
        z = b(a(y))
    assert list(g.variables) == ["block/dense/kernel", "block/dense/bias",
                                 "dense/kernel", "dense/bias"]  # fmt: skip
    assert y.node.loc.layer == "block/dense" and z.node.loc.layer == "dense"
    assert z.node.inputs[0].node.inputs[0].node.loc.layer == "block/dense"
    assert y.node.loc.file == __file__
    with g, pytest.raises(fm.GraphError, match='"block/dense/kernel" is used twice'):
        fm.layers.Dense(3, name="block/dense")(x)


def test_failed_call_leaves_the_layer_as_new() -> None:
    layer = fm.layers.Conv2D(4, 3, name="c")
    with fm.Graph() as g:
        with pytest.raises(fm.ShapeError, match=r"\[batch, channels, height, width\]"):
            layer(fm.input("bad", ("n", 3)))
        layer(fm.input("x", ("n", 3, 8, 8)))
    assert list(g.variables) == ["c/kernel", "c/bias"]


def test_symbolic_width_is_an_error() -> None:
    with fm.Graph(), pytest.raises(fm.ShapeError, match="must be a number"):
        fm.layers.Dense(3)(fm.input("x", ("n", "width")))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_variables_take_the_operands_dtype(dtype: str) -> None:
    with fm.Graph() as g:
        y = fm.layers.Dense(3)(fm.input("x", ("n", 2), dtype))
    assert y.dtype.name == dtype and g.variables["dense/kernel"].value.dtype.name == dtype


def test_dropout_knows_training() -> None:
    layer = fm.layers.Dropout(0.25)
    with fm.Graph() as g:
        x = fm.input("x", (100, 100))
        assert layer(x) is x
        with fm.training():
            assert fm.is_training()
            dropped = layer(x)
            assert layer(x, training=False) is x
            with fm.training(False):
                assert layer(x) is x
        assert not fm.is_training()
        other = layer(x, training=True)
        grad = fm.gradients(fm.sum(dropped), [x])[0]
    runner = Runner(g)
    ones = np.ones((100, 100), np.float32)
    a, b, slope = runner.run([dropped, other, grad], {"x": ones})
    assert set(np.unique(a)) == {0.0, np.float32(1 / 0.75)} and abs((a == 0).mean() - 0.25) < 0.02
    assert (a != b).any()
    np.testing.assert_array_equal(slope, a)
    assert (runner.run(dropped, {"x": ones}) != a).any()
    for rate in (1.0, -0.1):
        with pytest.raises(fm.ConfigError, match="rate"):
            fm.layers.Dropout(rate)


def test_prelu_and_activation() -> None:
    x = array(2, 3, 4, 4)
    y, held = run(fm.layers.PReLU("normal", shared_axes=(2, 3)), x)
    assert held["alpha"].shape == (3, 1, 1)
    np.testing.assert_allclose(y, np.where(x > 0, x, held["alpha"] * x), rtol=1e-6)
    y, _ = run(fm.layers.Activation("softsign"), x)
    np.testing.assert_allclose(y, x / (1 + np.abs(x)), rtol=1e-6)
    with pytest.raises(fm.ConfigError, match="no activation is named 'rely'"):
        fm.layers.Dense(2, activation="rely")


def test_every_activation_by_name() -> None:
    from flowmill.graph.layers.activation import ACTIVATIONS

    with fm.Graph() as g:
        x = fm.input("x", (4, 5))
        values = [fm.layers.Activation(name)(x) for name in ACTIVATIONS]
    for y in Runner(g).run(values, {"x": array(4, 5)}):
        assert y.shape == (4, 5) and np.isfinite(y).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: fm.layers.Dense(0),
        lambda: fm.layers.Conv2D(4, (3, 3, 3)),
        lambda: fm.layers.Conv2D(4, 3, strides=0),
        lambda: fm.layers.Dense(4, kernel_initializer="glorot")(fm.input("x", (2, 2))),
        lambda: fm.layers.Conv2D(4, 3, groups=3)(fm.input("x", (1, 4, 5, 5))),
        lambda: fm.layers.Conv2D(4, 3, padding="sane")(fm.input("x", (1, 4, 5, 5))),
        lambda: fm.Sequential([fm.layers.Dense]),  # type: ignore[list-item]
    ],
)
def test_bad_arguments(make: Any) -> None:
    with fm.Graph(), pytest.raises(fm.ConfigError):
        make()


def test_sequential() -> None:
    body = fm.Sequential([fm.layers.Dense(4), fm.relu], name="body")
    net = fm.Sequential([body, fm.layers.Dropout(0.5), fm.layers.Dense(2, name="head")])
    with fm.Graph() as g:
        x = fm.input("x", ("n", 3))
        out = net(x)
        trained: Value = net(x, training=True)
    assert list(g.variables)[:4] == [
        "body/dense/kernel", "body/dense/bias", "head/kernel", "head/bias"
    ]  # fmt: skip
    assert g.find("head") is out and g.find("body").node.op.name == "relu"
    feeds = {"x": array(50, 3)}
    one, two = Runner(g).run([out, trained], feeds)
    assert one.shape == (50, 2) and (one != two).any()
    assert len(net) == 3 and net[0] is body and list(body)[1] is fm.relu


def test_graph_of_a_layer_on_an_array() -> None:
    graph = Graph("arrays")
    with graph:
        y = fm.layers.Dense(2)(array(3, 4))
    assert y.node.owner is graph


def test_conv3d() -> None:
    x = array(2, 4, 3, 5, 4)
    y, held = run(fm.layers.Conv3D(3, (2, 3, 2), strides=(1, 2, 1), bias_initializer="normal"), x)
    expected = correlate(x, held["kernel"], (1, 2, 1), [(0, 0)] * 3, (1, 1, 1), 1)
    np.testing.assert_allclose(y, expected + held["bias"][:, None, None, None], rtol=1e-4,
                               atol=1e-5)  # fmt: skip


@pytest.mark.parametrize("layer, shape, made", [
    (fm.layers.Conv1DTranspose(3, 4, 2, bias_initializer="normal"), (2, 4, 5), (12,)),
    (fm.layers.Conv2DTranspose(6, 3, 2, "same", groups=2, use_bias=False), (2, 4, 5, 3), (10, 6)),
    (fm.layers.Conv2DTranspose(2, 3, 2, 1, output_padding=1), (1, 4, 5, 3), (10, 6)),
    (fm.layers.Conv3DTranspose(2, 2, 2), (1, 3, 2, 3, 2), (4, 6, 4)),
])  # fmt: skip
def test_transposed_convolution_is_the_adjoint(
    layer: Any, shape: tuple[int, ...], made: tuple[int, ...]
) -> None:
    """<conv(z), x> = <z, conv_transpose(x)>, the two having one kernel."""
    x = array(*shape)
    y, held = run(layer, x)
    assert y.shape == (shape[0], layer.filters, *made)
    bias = held.get("bias")
    if bias is not None:
        y = y - bias.reshape(-1, *[1] * (len(shape) - 2))
    z = array(*y.shape)
    with fm.Graph() as g:
        back = fm.conv(fm.constant(z), fm.constant(held["kernel"]), layer.strides,
                       layer.padding, groups=layer.groups)  # fmt: skip
    forth = Runner(g).run(back)
    np.testing.assert_allclose(np.sum(forth * x), np.sum(z * y), rtol=1e-3)
