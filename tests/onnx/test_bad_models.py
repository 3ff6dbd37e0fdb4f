"""Models that must be refused: with a ModelError that says where, in bounded time and memory."""

from __future__ import annotations

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
    refused(raw([node("Neg", "", "y")], IN, OUT), "operand 0 is missing")


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
