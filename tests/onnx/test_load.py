"""What `fm.onnx.load` makes of models: names, sizes, values that decide shapes, functions, files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import flowmill as fm
import numpy as np
import onnx
import pytest
from flowmill.graph.template import Template
from onnx import helper

from tests.onnx.models import info, model, node, raw

X = np.arange(12, dtype=np.float32).reshape(3, 4) - 5


def run(source: bytes, feeds: dict[str, Any], **options: Any) -> dict[str, Any]:
    return fm.Session(fm.onnx.load(source, **options)).run(None, feeds)


def test_names() -> None:
    """Inputs, outputs and what lies between have the model's names; dimensions too."""
    graph = fm.onnx.load(raw(
        [node("Relu", "x", "a b"[:1], "first"), node("Neg", "a", "the~out"), node("Abs", "a", "c")],
        [info("x", "f", ["batch", 4])], ["the~out", "c", "x"]))  # fmt: skip
    assert list(graph.inputs) == ["x"] and list(graph.outputs) == ["the~out", "c", "x"]
    assert str(graph.inputs["x"].type) == "f32[batch,4]"
    assert str(graph.find("a").node.loc) == "model:1 in first"
    session = fm.Session(graph)
    found = session.run(None, {"x": X})
    np.testing.assert_array_equal(found["the~out"], -np.maximum(X, 0))
    np.testing.assert_array_equal(found["x"], X)
    np.testing.assert_array_equal(session.run("a", {"x": X}), np.maximum(X, 0))


def test_errors_name_the_node() -> None:
    graph = fm.onnx.load(raw([node("Gather", "x i", "y", "lookup")],
                             [info("x", "f", [3]), info("i", "i", [1])], ["y"]))  # fmt: skip
    with pytest.raises(fm.RunError, match="model:1 in lookup"):
        fm.Session(graph).run(None, {"x": X[0, :3], "i": np.array([7])})


def test_shape_arithmetic_gives_dimensions() -> None:
    """Sizes computed in the model are expressions of the input's, with no reshape at run time."""
    nodes = [
        node("Shape", "x", "s"), node("Gather", "s zero", "batch"), node("Gather", "s one", "n"),
        node("Mul", "n two", "twice"), node("Div", "twice two", "half"),
        node("Unsqueeze", "batch axes", "b1"), node("Unsqueeze", "half axes", "n1"),
        node("Concat", "b1 n1 minus", "shape", axis=0), node("Reshape", "x shape", "y"),
        node("ConstantOfShape", "s", "z"), node("Size", "x", "count"),
    ]  # fmt: skip
    weights = {"zero": np.int64(0), "one": np.int64(1), "two": np.int64(2),
               "axes": np.array([0]), "minus": np.array([-1])}  # fmt: skip
    graph = fm.onnx.load(raw(nodes, [info("x", "f", ["b", "n", 6])], ["y", "z", "count"], weights))
    assert [str(graph.outputs[k].type) for k in ("y", "z")] == ["f32[b,n,6]", "f32[b,n,6]"]
    assert graph.outputs["y"] is graph.inputs["x"]
    assert fm.Session(graph).run("count", {"x": np.zeros((2, 5, 6), np.float32)}) == 60


def test_sizes_that_are_promised_to_be_equal() -> None:
    graph = fm.onnx.load(raw([node("Add", "x y", "z", "sum")],
                             [info("x", "f", ["n", 4]), info("y", "f", ["m", 4])], ["z"]))  # fmt: skip
    session = fm.Session(graph)
    np.testing.assert_array_equal(session.run("z", {"x": X, "y": X}), X + X)
    with pytest.raises(fm.RunError, match=r"m = n[^\n]*\n  model:1 in sum"):
        session.run("z", {"x": X, "y": X[:2]})


def test_reshape_that_needs_an_even_size() -> None:
    graph = fm.onnx.load(raw(
        [node("Shape", "x", "s"), node("Gather", "s zero", "n"), node("Div", "n two", "h"),
         node("Unsqueeze", "h axes", "h1"), node("Concat", "h1 rest", "shape", axis=0),
         node("Reshape", "x shape", "y")],
        [info("x", "f", ["n", 4])], ["y"],
        {"zero": np.int64(0), "two": np.int64(2), "axes": np.array([0]),
         "rest": np.array([2, 4])}))  # fmt: skip
    session = fm.Session(graph)
    even = np.arange(24, dtype=np.float32).reshape(6, 4)
    np.testing.assert_array_equal(session.run("y", {"x": even}), even.reshape(3, 2, 4))
    with pytest.raises(fm.RunError, match="sizes are not as they must be"):
        session.run("y", {"x": even[:5]})


def test_values_that_decide_shapes() -> None:
    """A graph for each set of values; those given while loading make a plain graph."""
    source = raw([node("ReduceSum", "x axes", "y", keepdims=0)],
                 [info("x", "f", ["n", 4]), info("axes", "i", ["k"])], ["y"])  # fmt: skip
    graph = fm.onnx.load(source)
    assert isinstance(graph, Template)
    session = fm.Session(graph)
    for axes in ([0], [1], [0, 1], [0]):
        feeds = {"x": X, "axes": np.array(axes)}
        np.testing.assert_allclose(session.run("y", feeds), X.sum(tuple(axes)))
    plain = fm.onnx.load(source, values={"axes": np.array([1])})
    assert not isinstance(plain, Template) and list(plain.inputs) == ["x"]
    np.testing.assert_allclose(fm.Session(plain).run("y", {"x": X}), X.sum(1))
    with pytest.raises(fm.GraphError, match='depends on the values of "axes"'):
        fm.export(fm.Module(graph, infer=[]), "never.so")
    with pytest.raises(fm.FeedError, match='"axes" is not fed'):
        session.run("y", {"x": X})
    with pytest.raises(fm.FeedError, match="takes i64"):
        fm.onnx.load(source, values={"axes": np.float32(1)})


def test_a_template_keeps_few_graphs() -> None:
    source = raw([node("Reshape", "x shape", "y")],
                 [info("x", "f", ["n"]), info("shape", "i", [2])], ["y"])  # fmt: skip
    graph = fm.onnx.load(source)
    assert isinstance(graph, Template)
    for k in range(1, 80):
        graph.specialised({"shape": np.array([k, -1])})
    assert len(graph._made) == 64
    with pytest.raises(fm.UserError):
        graph.specialised({"shape": np.array([-1, -1])})


def test_an_input_of_unknown_rank() -> None:
    graph = fm.onnx.load(raw([node("Softmax", "x", "y")], [info("x")], ["y"], opset=13))
    session = fm.Session(graph)
    for x in (X, X[0]):
        np.testing.assert_allclose(session.run("y", {"x": x}).sum(-1), np.ones(x.shape[:-1]), 1e-6)


def test_weights_as_variables() -> None:
    """They can be trained, also where a graph is built anew for other values, and are shared."""
    source = raw([node("MatMul", "x w", "h"), node("ReduceSum", "h axes", "y", keepdims=0)],
                 [info("x", "f", ["n", 4]), info("axes", "i", [1])], ["y"],
                 {"w": np.eye(4, dtype=np.float32)})  # fmt: skip
    session = fm.Session(fm.onnx.load(source, trainable=True))
    feeds = {"x": X, "axes": np.array([1])}
    np.testing.assert_allclose(session.run("y", feeds), X.sum(1))
    session.set("w", 2 * np.eye(4, dtype=np.float32))
    np.testing.assert_allclose(session.run("y", feeds), 2 * X.sum(1))
    np.testing.assert_allclose(session.run("y", {**feeds, "axes": np.array([0])}), 2 * X.sum(0))
    plain = fm.onnx.load(source, values={"axes": np.array([1])}, trainable=True)
    with plain:
        step = fm.optimizers.SGD(0.1).minimize(fm.mean(plain.outputs["y"] * plain.outputs["y"]))
    trained = fm.Session(plain)
    losses = [float(trained.run(step, {"x": X / 9})) for _ in range(5)]
    assert losses[-1] < losses[0]


def test_inputs_with_initial_values() -> None:
    """They may be fed, one without the other where both begin with the same."""
    one = np.ones(4, np.float32)
    source = raw([node("Add", "x a", "t"), node("Sub", "t b", "y")],
                 [info("x", "f", [3, 4]), info("a", "f", [4]), info("b", "f", [4])], ["y"],
                 {"a": one, "b": one})  # fmt: skip
    session = fm.Session(fm.onnx.load(source))
    np.testing.assert_array_equal(session.run("y", {"x": X}), X)
    np.testing.assert_array_equal(session.run("y", {"x": X, "a": 3 * one}), X + 2)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_16_bit_floats_are_rounded_after_each_operator(kind: str) -> None:
    dtype = (
        np.dtype(kind) if kind == "float16" else np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    )
    code = "h" if kind == "float16" else "b"
    source = raw([node("Mul", "x x", "s"), node("Add", "s x", "t"), node("Transpose", "t", "y")],
                 [info("x", code, [3, 4])], ["y"])  # fmt: skip
    x = (X / 7).astype(dtype)
    wide = x.astype(np.float32)
    square = (wide * wide).astype(dtype).astype(np.float32)
    expected = (square + wide).astype(dtype).T
    np.testing.assert_array_equal(run(source, {"x": x})["y"], expected)


def test_functions_of_the_model() -> None:
    """Attributes reach the body, defaults too, and operands that are left out stay out."""
    scale = helper.make_node("Constant", [], ["k"])
    scale.attribute.add(name="value_float", ref_attr_name="factor",
                        type=onnx.AttributeProto.FLOAT)  # fmt: skip
    body = [scale, node("Mul", "a k", "m"), node("Clip", "m low", "r")]
    function = helper.make_function("own", "Scaled", ["a", "low"], ["r"], body,
                                    [helper.make_opsetid("", 21)], ["factor"],
                                    [helper.make_attribute("unused", 1)])  # fmt: skip
    calls = [node("Scaled", "x", "y", domain="own", factor=2.0),
             node("Scaled", "x zero", "z", domain="own", factor=3.0)]  # fmt: skip
    source = raw(calls, [info("x", "f", [3, 4])], ["y", "z"], {"zero": np.float32(0)},
                 functions=[function])  # fmt: skip
    found = run(source, {"x": X})
    np.testing.assert_array_equal(found["y"], 2 * X)
    np.testing.assert_array_equal(found["z"], np.maximum(3 * X, 0))


def test_branches_that_are_known() -> None:
    def branch(op: str) -> onnx.GraphProto:
        return helper.make_graph([node(op, "x", "r")], op, [], [info("r", "f")])

    decided = [node("Shape", "x", "s"), node("Gather", "s zero", "n"), node("Equal", "n three", "c"),
               node("If", "c", "y", then_branch=branch("Neg"), else_branch=branch("Abs"))]  # fmt: skip
    weights = {"zero": np.int64(0), "three": np.int64(3)}
    source = raw(decided, [info("x", "f", [3, 4])], ["y"], weights)
    np.testing.assert_array_equal(run(source, {"x": X})["y"], -X)


def test_external_data(tmp_path: Path) -> None:
    """Weights in a file of their own are read where they lie."""
    w = np.arange(4096, dtype=np.float32).reshape(4, 1024)
    made = model([node("MatMul", "x w", "y")], [info("x", "f", ["n", 4])], ["y"], {"w": w})
    onnx.save(made, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0,
              location="weights.bin")  # fmt: skip
    graph = fm.onnx.load(tmp_path / "m.onnx")
    np.testing.assert_allclose(fm.Session(graph).run("y", {"x": X}), X @ w, 1e-5)
    (held,) = [n.op.data.array for n in graph._nodes.values() if n.op.name == "constant"]
    base = held
    while getattr(base, "base", None) is not None:
        base = base.base
    assert type(getattr(base, "obj", base)).__name__ == "mmap"


def test_nodes_that_no_output_needs_do_not_matter() -> None:
    source = raw(
        [node("Relu", "x", "y"), node("Hardly", "x", "z")], [info("x", "f", [3, 4])], ["y"]
    )
    np.testing.assert_array_equal(run(source, {"x": X})["y"], np.maximum(X, 0))


def test_onnx_is_loaded_when_a_model_is() -> None:
    code = ("import sys, flowmill as fm; fm.onnx.load; assert 'onnx' not in sys.modules\n"
            "sys.modules['onnx'] = None\n"
            "try: fm.onnx.load(b'')\n"
            "except fm.ModelError as e: print(e)")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "flowmill[onnx]" in done.stdout, done.stderr
