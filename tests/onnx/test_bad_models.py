"""Models that must be refused: with a ModelError that says where, in bounded time and memory."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import flowmill as fm
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.onnx.models import info, model, node, raw

IN, OUT = [info("x", "f", [3, 4])], ["y"]


def refused(source: bytes | Path, *words: str) -> str:
    """The text of the ModelError, which must hold all words."""
    with pytest.raises(fm.ModelError) as caught:
        fm.onnx.load(source)
    text = str(caught.value)
    for word in words:
        assert word in text, text
    return text


def changed(change: Any, *args: Any, **more: Any) -> bytes:
    made = model(*args, **more)
    change(made)
    return bytes(made.SerializeToString())


def test_every_refusal_is_listed() -> None:
    nodes = [node("Hardly", "x", "a", "one"), node("Relu", "x", "b", "two", slope=1),
             node("Transpose", "x", "c", "three", perm=[0, 0]), node("Add", "a b", "d", "four"),
             node("Concat", "c x", "y", "five", axis=0)]  # fmt: skip
    text = refused(raw(nodes, IN, ["y", "d"]), 'Hardly "one"', 'Transpose "three"', "(0, 0)")
    assert "four" not in text and "five" not in text  # they suffer from others


@pytest.mark.parametrize("cut", [0, 1, 10, 60, -1])
def test_truncated(cut: int) -> None:
    whole = raw([node("MatMul", "x w", "y")], IN, OUT, {"w": np.ones((4, 5), np.float32)})
    refused(whole[:cut])


def test_no_model() -> None:
    refused(b"\x08\x07", "has no graph")
    refused(Path("/nowhere/m.onnx"), "cannot read")
    with pytest.raises(fm.ModelError, match="no graph"):
        fm.onnx.load(onnx.ModelProto().SerializeToString())


@pytest.mark.parametrize(
    ("dims", "words"),
    [([-3, 4], "shape [-3, 4]"), ([1 << 40, 1 << 22], "no memory holds"), ([3, 5], "60 bytes"),
     ([1] * 65, "no memory holds")],
)  # fmt: skip
def test_dimensions_of_weights(dims: list[int], words: str) -> None:
    def change(m: onnx.ModelProto) -> None:
        m.graph.initializer[0].dims[:] = dims

    source = changed(change, [node("Add", "x w", "y")], IN, OUT, {"w": np.ones((3, 4), np.float32)})
    refused(source, words.replace("60", "48"))


def test_names_and_order() -> None:
    refused(raw([node("Neg", "a", "y"), node("Abs", "y", "a")], IN, OUT), '"a", which nothing')
    refused(raw([node("Neg", "nobody", "y")], IN, OUT), '"nobody"')
    refused(raw([node("Neg", "x", "z")], IN, OUT), 'nothing produces the output "y"')
    refused(raw([node("Neg", "x", "y"), node("Abs", "x", "y")], IN, OUT), "there already")
    refused(raw([node("Neg", "x", "x"), node("Abs", "x", "y")], IN, OUT), "there already")
    refused(raw([node("Neg", "x", "y")], [*IN, *IN], OUT), "equal or empty names")


def test_opsets_and_domains() -> None:
    refused(raw([node("Neg", "x", "y")], IN, OUT, opset=2000), "opset 2000")
    refused(raw([node("Neg", "x", "y")], IN, OUT, opset=0), "opset 0")
    refused(raw([node("Neg", "x", "y", domain="else")], IN, OUT), 'domain "else"')


def test_types() -> None:
    def string(m: onnx.ModelProto) -> None:
        m.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING

    def sequence(m: onnx.ModelProto) -> None:
        of = helper.make_tensor_type_proto(1, [2])
        m.graph.input[0].type.CopyFrom(helper.make_sequence_type_proto(of))

    refused(changed(string, [node("Neg", "x", "y")], IN, OUT), '"x"', "STRING")
    refused(changed(sequence, [node("Neg", "x", "y")], IN, OUT), '"x" is a sequence')
    refused(raw([node("Not", "x", "y", "no")], IN, OUT), 'Not "no"', "not defined for float32")
    refused(raw([node("Transpose", "x", "y", perm=1.5)], IN, OUT), "must be INTS")


def test_operands_that_do_not_fit() -> None:
    """The reason is the model's, not what went wrong inside."""
    refused(raw([node("Neg", "", "y")], IN, OUT), "it has 0 operands, the operator takes 1")
    refused(raw([node("Cast", "x x", "y", to=1)], IN, OUT), "has 2 operands, the operator takes 1")
    refused(raw([helper.make_node("Concat", [], ["y"], axis=0)], IN, OUT), "takes at least 1")
    refused(raw([helper.make_node("Clip", ["x"] * 4, ["y"])], IN, OUT), "takes 1 to 3")
    refused(raw([helper.make_node("Clip", ["", "x"], ["y"])], IN, OUT), "operand 0 is missing")
    one, two = np.int64(1), np.ones(2, np.int64)
    number = {"a": np.float32(0), "b": np.float32("nan"), "c": np.float32(1)}
    ranged = [node("Range", "a b c", "y")]
    refused(raw(ranged, [], OUT, number), "from 0.0 to nan in steps of 1.0 there is no number")
    refused(raw(ranged, [], OUT, {"a": two, "b": one, "c": one}), '"a" must have one element')
    sides = {"a": np.ones((), np.int64), "b": two}
    refused(raw([node("Concat", "a b", "y", axis=0)], [], OUT, sides), "axis 0 does not exist")
    scales = {"s": np.ones((2, 2), np.float32)}
    refused(raw([helper.make_node("Resize", ["x", "", "s"], ["y"])], IN, OUT, scales),
            '"s" must be a vector')  # fmt: skip
    parts = [f"y{k}" for k in range(1500)]
    refused(raw([helper.make_node("Split", ["x", "n"], parts, axis=0)], [info("x", "f", [1500])],
                parts, {"n": np.ones(1500, np.int64)}), '"n" has 1,500 elements', "at most 1,024")  # fmt: skip


def test_depth_and_length() -> None:
    """Functions that call themselves, and such as grow with every call, end."""

    def twice(k: int) -> onnx.FunctionProto:
        inner = f"f{k - 1}" if k else "f0"
        body = [helper.make_node(inner, ["a"], ["b"], domain="own"),
                helper.make_node(inner, ["b"], ["c"], domain="own")]  # fmt: skip
        return helper.make_function("own", f"f{k}", ["a"], ["c"], body,
                                    [helper.make_opsetid("own", 1)], [])  # fmt: skip

    call = helper.make_node("f0", ["x"], ["y"], domain="own")
    refused(raw([call], IN, OUT, functions=[twice(0)]), "nested more than")
    leaf = helper.make_function("own", "f0", ["a"], ["c"], [node("Neg", "a", "c")],
                                [helper.make_opsetid("", 21)], [])  # fmt: skip
    call = helper.make_node("f40", ["x"], ["y"], domain="own")
    refused(raw([call], IN, OUT, functions=[leaf, *(twice(k) for k in range(1, 41))]), "more than")


def test_numbers_that_would_fill_memory() -> None:
    """Constants that say how large something is do not make it while loading."""
    sizes = {"n": np.array([1 << 30, 1 << 9])}
    graph = fm.onnx.load(raw([node("ConstantOfShape", "n", "z"), node("ReduceSum", "z", "y")], [],
                             OUT, sizes))  # fmt: skip
    assert graph.outputs["y"].type.size == 1
    zero, one = {"a": np.int64(0)}, {"c": np.int64(1)}
    source = raw([node("Range", "a b c", "y")], [], OUT, {**zero, "b": np.int64(1 << 40), **one})
    assert str(fm.onnx.load(source).outputs["y"].type) == f"i64[{1 << 40}]"


@pytest.mark.parametrize(
    "location", ["../secret.bin", "/etc/passwd", "link.bin", "", "a\0b", "gone"]
)
def test_external_data_stays_in_its_folder(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret.bin").write_bytes(b"\0" * 48)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    made = model([node("Add", "x w", "y")], IN, OUT, {"w": np.ones((3, 4), np.float32)})
    w = made.graph.initializer[0]
    w.ClearField("raw_data")
    w.data_location = TensorProto.EXTERNAL
    w.external_data.add(key="location", value=location)
    path = folder / "m.onnx"
    path.write_bytes(made.SerializeToString())
    refused(path, '"w"')


@pytest.mark.parametrize(("offset", "length"), [("8", "48"), ("-8", "48"), ("0", "9"), ("x", "48")])
def test_external_data_that_do_not_fit(tmp_path: Path, offset: str, length: str) -> None:
    (tmp_path / "w.bin").write_bytes(b"\0" * 48)
    made = model([node("Add", "x w", "y")], IN, OUT, {"w": np.ones((3, 4), np.float32)})
    w = made.graph.initializer[0]
    w.ClearField("raw_data")
    w.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "w.bin"), ("offset", offset), ("length", length)):
        w.external_data.add(key=key, value=value)
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    refused(tmp_path / "m.onnx", '"w"')


def i64(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def big(op: str, inputs: str, words: str, weights: Any, x: Any = (1, 1, 3, 4), opset: int = 21,
        **attributes: Any) -> Any:  # fmt: skip
    """A model of one node that asks for what nothing holds, and words of what is said of it."""
    nodes = [node(op, inputs, "y", "greedy", **attributes)]
    return pytest.param(raw(nodes, [info("x", "f", list(x))], ["y"], weights, opset), words, id=op)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        big("ConstantOfShape", "n", "2**62 bytes", {"n": i64(1 << 62, 1 << 62)}),
        big("Expand", "x n", "2**62 bytes", {"n": i64(1 << 40, 1 << 20, 1, 1, 3, 4)}),
        big("Tile", "x n", "2**62 bytes", {"n": i64(1, 1, 1 << 40, 1 << 20)}),
        big("Pad", "x n", "2**62 bytes", {"n": i64(0, 0, 1 << 40, 1 << 40, 0, 0, 0, 0)}),
        big("Range", "a b c", "too large", {"a": np.float32(0), "b": np.float32(1e30),
                                            "c": np.float32(1e-30)}),
        big("Conv", "x w", "2**62 bytes", {"w": np.ones((1, 1, 2, 2), np.float32)},
            pads=[1 << 30] * 4),
        big("Resize", "x - s", "2**62 bytes", {"s": np.array([1, 1, 1e9, 1e10], np.float32)}),
        big("Upsample", "x s", "2**62 bytes", {"s": np.array([1, 1, 1e9, 1e10], np.float32)},
            opset=9),
        big("DFT", "x n a", "a transform of", {"n": np.int64(1 << 31), "a": np.int64(1)}, (1, 8, 1),
            20),
        big("AffineGrid", "t s", "2**62 bytes", {"t": np.ones((1, 2, 3), np.float32),
                                                 "s": i64(1, 1, 1 << 30, 1 << 30)}),
        big("RandomNormal", "", "2**32 elements", {}, shape=[1 << 30, 1 << 12]),
        big("Unsqueeze", "x a", "axes, more than", {"a": np.arange(4, 1000)}),
        big("TopK", "x k", "there are no", {"k": i64(1 << 40)}),
        big("TfIdfVectorizer", "t", "max_skip", {"t": np.arange(1000)}, mode="TF",
            ngram_counts=[0, 0], ngram_indexes=[0], pool_int64s=[1, 2], min_gram_length=2,
            max_gram_length=2, max_skip_count=999),
    ],
)  # fmt: skip
def test_greed(source: bytes, words: str) -> None:
    refused(source, '"greedy"', words)


def test_numbers_that_grow() -> None:
    """Sizes that are squared again and again are given up, numbers wrap as they do at run time."""

    def squares(of: str, count: int) -> list[Any]:
        names = [of, *(f"v{k}" for k in range(count))]
        return [node("Mul", f"{a} {a}", b) for a, b in pairwise(names)]

    sizes = [node("Shape", "x", "s"), *squares("s", 40)]
    refused(raw(sizes, [info("x", "f", ["n", "m"])], ["v39"]), "64 factors")
    graph = fm.onnx.load(raw(squares("c", 40), [], ["v39"], {"c": np.int64(3)}))
    assert fm.Session(graph).run("v39").view(np.uint64) == pow(3, 1 << 40, 1 << 64)


@pytest.mark.parametrize("op", ["Sum", "Concat"])
def test_many_operands(op: str) -> None:
    more = {"axis": 0} if op == "Concat" else {}
    source = raw([node(op, " ".join(["x"] * 1500), "y", **more)], [info("x", "f", [2])], ["y"])
    y = fm.Session(fm.onnx.load(source)).run("y", {"x": np.ones(2, np.float32)})
    assert y.sum() == 3000


def test_long_rows_of_nodes() -> None:
    """One after the other, read by nobody else: more than one kernel can be written of."""
    names = ["x", *(f"v{k}" for k in range(300))]
    kinds = ("Sin", "Neg", "Gelu", "Flatten", "Softsign")
    nodes = [node(kinds[k % 5], a, b) for k, (a, b) in enumerate(pairwise(names))]
    graph = fm.onnx.load(raw(nodes, IN, ["v299"]))
    assert np.isfinite(fm.Session(graph).run("v299", {"x": np.ones((3, 4), np.float32)})).all()


def test_deep_branches() -> None:
    """Branches inside each other, called through functions inside each other."""

    def branch(body: Any, name: str) -> onnx.NodeProto:
        out = [helper.make_empty_tensor_value_info(body.output[0])]
        graph = helper.make_graph([body], "branch", [], out)
        return helper.make_node("If", ["c"], [name], then_branch=graph, else_branch=graph)

    body = node("Neg", "x", "y0")
    for k in range(8):
        body = branch(body, f"y{k + 1}")
    body.output[0] = "y"
    functions = [
        helper.make_function("own", f"f{k}", ["x", "c"], ["y"],
                             [helper.make_node(f"f{k - 1}", ["x", "c"], ["y"], domain="own")] if k
                             else [body], [helper.make_opsetid(d, 21) for d in ("", "own")], [])
        for k in range(50)]  # fmt: skip
    call = helper.make_node("f49", ["x", "c"], ["y"], domain="own")
    graph = fm.onnx.load(raw([call], [*IN, info("c", "?", [])], OUT, functions=functions))
    x = np.ones((3, 4), np.float32)
    assert (fm.Session(graph).run("y", {"x": x, "c": np.array(True)}) == -1).all()


def test_names_that_are_no_text() -> None:
    source = raw([node("Neg", "x", "y", "abcdefgh")], IN, OUT)
    refused(source.replace(b"abcdefgh", b"abc\xffefgh"), "no text")
    refused(source.replace(b"tested", b"t\xffsted"), "no text")


def test_results_no_memory_holds() -> None:
    source = raw([node("Expand", "x n", "y")], IN, OUT, {"n": i64(1 << 50, 3, 4)})
    session = fm.Session(fm.onnx.load(source))
    for _ in range(2):
        with pytest.raises(fm.RunError, match="no memory"):
            session.run(None, {"x": np.ones((3, 4), np.float32)})


def test_sizes_promised_to_rows() -> None:
    """[n] beside [3, 4] within a softmax, whether or not n is 4."""
    nodes = [node("Mul", "x w", "m"), node("Softmax", "m", "y")]
    graph = fm.onnx.load(raw(nodes, [*IN, info("w", "f", ["n"])], OUT))
    session, x = fm.Session(graph), np.ones((3, 4), np.float32)
    assert np.allclose(session.run("y", {"x": x, "w": np.ones(4, np.float32)}), 0.25)
    for n in (0, 3, 5):
        with pytest.raises(fm.RunError, match="sizes are not as they must be: n = 4"):
            session.run("y", {"x": x, "w": np.ones(n, np.float32)})


def test_no_elements_in_many_rows() -> None:
    source = raw([node("Reshape", "x n", "y", allowzero=1)], [info("x", "f", [0, 3])], OUT,
                 {"n": i64(1 << 40, 0, 1)})  # fmt: skip
    for level in (0, 2):
        session = fm.Session(fm.onnx.load(source), level=level)
        y = session.run("y", {"x": np.ones((0, 3), np.float32)})
        assert y.shape == (1 << 40, 0, 1)


def test_external_data_that_is_no_file(tmp_path: Path) -> None:
    """A folder, a pipe nobody writes to, a link to a device."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    made = model([node("Add", "x w", "y")], IN, OUT, {"w": np.ones((3, 4), np.float32)})
    w = made.graph.initializer[0]
    w.ClearField("raw_data")
    w.data_location = TensorProto.EXTERNAL
    for name in ("pipe", "zero", "folder"):
        del w.external_data[:]
        w.external_data.add(key="location", value=name)
        (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
        refused(tmp_path / "m.onnx", '"w"')


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    refused(tmp_path, "cannot read")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "is no file")
    refused(Path("/dev/zero"), "is no file")
