"""`fm.onnx.save`: what is written is a valid model that means the same."""

from __future__ import annotations

import stat

import flowmill as fm
import numpy as np
import onnx
import pytest
from flowmill import layers
from flowmill.graph.formats.onnx import store
from onnx.reference import ReferenceEvaluator

from tests.graph.samples import cases
from tests.onnx import round_trip, suite

GROUPS = round_trip.groups()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


def checked(path) -> onnx.ModelProto:
    """A file as a model, if the checker finds nothing wrong with it."""
    onnx.checker.check_model(str(path), full_check=True)
    return onnx.load(path)


def again(path, feeds):
    """What flowmill computes with a file."""
    return fm.Session(fm.onnx.load(path)).run(None, feeds)


@pytest.mark.parametrize("name", sorted(GROUPS))
def test_every_op_keeps_its_meaning(name, path):
    """Written, checked, read, and run: against the references of the ops."""
    found = [case for half in GROUPS[name].values() for case in half]
    program = round_trip.Program.of(found)
    fm.onnx.save(program.graph, path, opset=round_trip.OPSETS.get(name, 21))
    checked(path)
    for key, made in again(path, program.feeds).items():
        told = round_trip.difference(made, program.expected[key])
        assert told is None, f"{found[int(key[1:].partition('_')[0])]}: {told}"


@pytest.mark.parametrize("opset", (18, 26))
def test_other_opsets(opset, path):
    """What an opset lacks is made of other operators."""
    left_out = {"bit_cast", "sum_pool", "lp_pool", "quantize_linear", "dequantize_linear"}
    found = [case for case in cases() if opset > 18 or case.op.name not in left_out]
    fm.onnx.save(round_trip.Program.of(found).graph, path, opset=opset)
    assert checked(path).opset_import[0].version == opset


@pytest.mark.long
@pytest.mark.parametrize("kind", suite.KINDS)
def test_official_models_round_trip(kind, path):
    """Every model of the official tests that loads gives the same when it was saved in between."""
    wrong = []
    for case in suite.cases():
        if case.kind == kind and suite.scope(case) is None:
            told = round_trip.official(case, path)
            if told:
                wrong.append(f"{case.id}: {told}")
    assert not wrong, "\n".join(wrong)


# --- names, sizes, variables ---------------------------------------------------------------------


def network() -> fm.Graph:
    with fm.Graph("digits") as graph:
        image = fm.input("image", ("batch", 1, 8, 8))
        label = fm.input("label", ("batch",), "int32")
        net = fm.Sequential([layers.Conv2D(4, 3, activation="relu"), layers.AveragePool2D(2),
                             layers.Flatten(), layers.Dense(10)])  # fmt: skip
        logits = fm.output("logits", net(image))
        loss = fm.losses.sparse_softmax_cross_entropy(label, logits)
        fm.named(fm.optimizers.SGD(0.1).minimize(loss), "train")
    return graph


def test_names(path):
    """Inputs, outputs, dimensions and variables keep their names; nodes bear those of layers; what
    only training needs is left out."""
    fm.onnx.save(network(), path)
    model = checked(path)
    assert [i.name for i in model.graph.input] == ["image"]
    assert [o.name for o in model.graph.output] == ["logits"]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    weights = {t.name for t in model.graph.initializer}
    assert {"conv2d/kernel", "conv2d/bias", "dense/kernel", "dense/bias"} <= weights
    kinds = {n.name: n.op_type for n in model.graph.node}
    assert kinds["conv2d/Conv"] == "Conv" and kinds["dense/MatMul"] == "MatMul"
    assert "AveragePool" in kinds.values()
    fm.onnx.save(fm.onnx.load(path), path)
    assert {n.name for n in checked(path).graph.node} >= {"conv2d/Conv", "dense/MatMul"}


def test_variables_have_the_values_of_the_session(path):
    graph = network()
    session = fm.Session(graph)
    image = np.random.default_rng(0).standard_normal((3, 1, 8, 8), "float32")
    session.run("train", {"image": image, "label": np.arange(3, dtype=np.int32)})
    wanted = session.run("logits", {"image": image})
    for given in (session, {k: session.variables[k] for k in graph.variables}):
        fm.onnx.save(graph, path, given)
        (made,) = ReferenceEvaluator(str(path)).run(None, {"image": image})
        np.testing.assert_allclose(made, wanted, rtol=1e-5, atol=1e-6)
    with pytest.raises(fm.ModelError, match='no variable "w"'):
        fm.onnx.save(graph, path, {"w": np.zeros(3)})
    with pytest.raises(fm.ModelError, match=r"dense/bias.*given"):
        fm.onnx.save(graph, path, {"dense/bias": np.zeros(3, np.float32)})


def test_sizes_that_a_run_tells(path):
    rng = np.random.default_rng(0)
    with fm.Graph("sizes") as graph:
        x, z = fm.input("x", ("n", "m")), fm.input("z", (fm.dim("n") * 2, 3))
        image = fm.input("image", ("b", 2, "h", "w"))
        kernel = fm.constant(rng.standard_normal((3, 2, 3, 3), "float32"))
        back = fm.constant(rng.standard_normal((2, 3, 3, 3), "float32"))
        made = {
            "flat": fm.reshape(x, (-1,)), "halves": fm.reshape(z, ("n", 6)),
            "wide": fm.pad(x, (1, 2), (0, 3)), "turned": x[1:, ::-1], "every": x[::2, -2:],
            "mean": fm.mean(x, 0), "places": fm.iota(("n", "m"), 1), "last": fm.argmax(x, 1, last=True),
            "sorted": fm.sort(x, 1), "same": fm.conv(image, kernel, 2, "same"),
            "means": fm.average_pool(image, 3, 2, "same"),
            "some": fm.average_pool(image, 3, 2, 1, ceil_mode=True),
            "largest": fm.max_pool(image, 3, 2, 1, ceil_mode=True),
            "back": fm.conv_transpose(image, back, 2, "same"),
            "parts": fm.adaptive_average_pool(image, (2, 3)), "itself": x, "twice": x,
            "number": fm.constant(3.0),
        }  # fmt: skip
        for name, y in made.items():
            fm.output(name, y)
    fm.onnx.save(graph, path)
    checked(path)
    read = fm.Session(fm.onnx.load(path))
    for n, m, h, w in ((5, 3, 7, 9), (2, 4, 8, 5)):
        feeds = {name: rng.standard_normal(shape, "float32") for name, shape in
                 (("x", (n, m)), ("z", (2 * n, 3)), ("image", (2, 2, h, w)))}  # fmt: skip
        wanted = fm.Session(graph).run(None, feeds)
        names = list(wanted)
        others = dict(zip(names, ReferenceEvaluator(str(path)).run(None, feeds)))
        for made in (read.run(None, feeds), others):
            for name, y in wanted.items():
                assert made[name].shape == y.shape, name
                np.testing.assert_allclose(made[name], y, rtol=1e-4, atol=1e-5, err_msg=name)


# --- control flow --------------------------------------------------------------------------------


def controlled() -> fm.Graph:
    with fm.Graph("controlled") as graph:
        x, w = fm.input("x", ("t", 3)), fm.variable("w", np.eye(3, dtype=np.float32))

        def step(carry, element):
            return fm.tanh(carry @ w + element), carry * 2

        for name, reverse in (("down", False), ("up", True)):
            last, every = fm.scan(step, fm.zeros((3,)), x, reverse=reverse)
            fm.output(f"{name}_last", last)
            fm.output(f"{name}_every", every)
        last, every = fm.scan(lambda c, _: (c * 0.5, c + 1), fm.sum(x, 0), length=4, reverse=True)
        fm.output("counted_last", last)
        fm.output("counted_every", every)
        fm.output("doubled", fm.while_loop(lambda c: fm.sum(c) < 100.0, lambda c: c * 2 + abs(x),
                                           abs(x), max_iterations=50))  # fmt: skip
        first, second = fm.if_(
            fm.sum(x) > 0, lambda: (fm.log(abs(x)), x), lambda: (x * 2, fm.exp(x))
        )
        fm.output("first", first)
        fm.output("second", second)
    return graph


def test_loops_and_branches(path):
    graph = controlled()
    fm.onnx.save(graph, path)
    kinds = [n.op_type for n in checked(path).graph.node]
    assert sorted(k for k in kinds if k in ("Scan", "Loop", "If")) == ["If", "Loop", "Loop", "Scan",
                                                                       "Scan"]  # fmt: skip
    x = np.random.default_rng(0).standard_normal((5, 3), "float32")
    for feeds in ({"x": x}, {"x": -abs(x)}):
        wanted = fm.Session(graph).run(None, feeds)
        for name, y in again(path, feeds).items():
            np.testing.assert_allclose(y, wanted[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_random_numbers_are_drawn_anew(path):
    with fm.Graph("noisy") as graph:
        x = fm.input("x", ("n",))
        fm.output("y", fm.dropout(x, 0.5))
    fm.onnx.save(graph, path)
    checked(path)
    session = fm.Session(fm.onnx.load(path))
    ones = {"x": np.ones(4000, np.float32)}
    first, second = (session.run("y", ones) for _ in range(2))
    assert set(np.unique(first)) == {0.0, 2.0} and not np.array_equal(first, second)
    assert 0.45 < np.mean(first == 0) < 0.55


# --- refusals ------------------------------------------------------------------------------------


def test_everything_refused_is_listed(path):
    with fm.Graph("refused") as graph:
        x = fm.input("x", (4, 3))
        count = fm.variable("count", np.float32(0), trainable=False)
        fm.output("bits", fm.bitcast(x, "int32"))
        with graph.scope("inner"):
            fm.output("counted", fm.assign(count, count + 1))
    with pytest.raises(fm.ModelError) as e:
        fm.onnx.save(graph, path)
    assert "2 of its ops" in e.value.message and not path.exists()
    listed = "\n".join(e.value.notes)
    assert "bit_cast (test_save.py:" in listed and "take opset 26" in listed
    assert "variable (test_save.py:" in listed and 'change variable "count"' in listed


def test_what_cannot_be_written(path, tmp_path):
    graph = network()
    with pytest.raises(fm.ModelError, match="opset 17 cannot be written"):
        fm.onnx.save(graph, path, opset=17)
    with pytest.raises(fm.ModelError, match="cannot write"):
        fm.onnx.save(graph, tmp_path / "no folder" / "model.onnx")
    with pytest.raises(fm.GraphError, match="is no graph"):
        fm.onnx.save("graph", path)
    with pytest.raises(fm.ModelError, match="computes nothing"):
        fm.onnx.save(fm.Graph("empty"), path)


# --- files ---------------------------------------------------------------------------------------


def test_a_failure_leaves_what_was_there(path, monkeypatch):
    path.write_bytes(b"before")

    def fails(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.os, "fsync", fails)
    with pytest.raises(fm.ModelError, match="No space left"):
        fm.onnx.save(network(), path, external=True)
    assert path.read_bytes() == b"before" and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("most", (None, 1000))
def test_weights_in_a_second_file(path, monkeypatch, most):
    """On request, or where there are too many for one file."""
    if most:
        monkeypatch.setattr(store, "MOST", most)
    graph = network()
    fm.onnx.save(graph, path, external=None if most else True)
    data = path.with_name("model.onnx.data")
    large = [t for t in onnx.load(path, load_external_data=False).graph.initializer
             if t.data_location == t.EXTERNAL]  # fmt: skip
    assert {t.name for t in large} == {"dense/kernel"}
    assert data.stat().st_size >= 4 * 36 * 10
    assert stat.S_IMODE(data.stat().st_mode) == stat.S_IMODE(path.stat().st_mode)
    checked(path)
    image = np.random.default_rng(0).standard_normal((2, 1, 8, 8), "float32")
    wanted = fm.Session(graph).run("logits", {"image": image})
    np.testing.assert_allclose(
        again(path, {"image": image})["logits"], wanted, rtol=1e-5, atol=1e-6
    )
