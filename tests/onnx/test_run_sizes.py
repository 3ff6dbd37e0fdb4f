"""Models in which sizes follow from data: what is made of them, against ONNX's own evaluator."""

from __future__ import annotations

from typing import Any

import flowmill as fm
import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from tests.onnx.models import info, model, node

_ONE = {"axis": np.array([1]), "zero": np.array([0]), "three": np.array([3]), "two": np.array(2),
        "start": np.array(0), "step": np.array(1)}  # fmt: skip
MASKED = [
    node("NonZero", "x", "places"), node("Transpose", "places", "rows"),
    node("GatherND", "x rows", "found"), node("Shape", "found", "shape"),
    node("ConstantOfShape", "shape", "zeros"), node("Sub", "zeros found", "negative"),
    node("ReduceMax", "found -", "peak", keepdims=0), node("Expand", "peak shape", "peaks"),
    node("Concat", "negative peaks found", "joined", axis=0),
    node("Unsqueeze", "joined axis", "column"), node("Tile", "column tiles", "tiled"),
    node("Squeeze", "shape zero", "count"), node("Range", "start count step", "numbers"),
    node("Mul", "numbers two", "even"), node("Gather", "shape zero", "again"),
    node("Reshape", "tiled flat", "line"),
]  # fmt: skip
CHOSEN = [
    node("Greater", "x limit", "holds"), node("Compress", "x holds", "kept", axis=0),
    node("Unique", "kept", "values - which -"), node("Shape", "values", "many"),
    node("Min", "many three", "k"), node("TopK", "values k", "most at"),
    node("Softmax", "most", "shares"), node("Pad", "most pads", "wide"),
    node("CumSum", "most start", "sums"), node("Split", "wide", "first second", axis=0, num_outputs=2),
]  # fmt: skip
BOUNDS = [
    node("Greater", "x limit", "holds"), node("Cast", "holds", "ones", to=7),
    node("ReduceSum", "ones", "stop", keepdims=1), node("Neg", "stop", "start_"),
    node("Slice", "x zero stop", "head"), node("Slice", "x start_ end zero", "tail"),
    node("Slice", "x start_ least zero back", "turned"), node("TopK", "x stop", "top where"),
    node("Exp", "head", "result"),
]  # fmt: skip


def same(nodes: Any, outputs: str, weights: dict[str, Any], arrays: Any) -> None:
    """Compares all outputs for inputs of several sizes, one graph for all of them."""
    built = model(nodes, [info("x", "f", list("nm")[: arrays[0].ndim])], outputs.split(), weights)
    graph = fm.onnx.load(built.SerializeToString())
    session = fm.Session(graph)
    for x in arrays:
        expected = ReferenceEvaluator(built).run(None, {"x": x})
        found = session.run(None, {"x": x})
        for name, a in zip(outputs.split(), expected, strict=True):
            assert found[name].shape == np.shape(a), name
            np.testing.assert_allclose(found[name], a, rtol=1e-5, atol=1e-6, err_msg=name)
    assert type(graph) is fm.Graph


def test_places_found_and_what_is_made_of_their_number() -> None:
    weights = {**_ONE, "tiles": np.array([1, 2]), "flat": np.array([-1])}
    arrays = [np.maximum(np.random.default_rng(n).standard_normal((n, 5)), 0).astype("f") + m
              for n, m in ((3, 0), (8, 0), (2, 1))]  # fmt: skip
    same(MASKED, "places found negative peaks joined line even again", weights, arrays)


def test_chosen_slices_and_unique_elements() -> None:
    weights = {**_ONE, "limit": np.float32(-0.5), "pads": np.array([1, 2])}
    arrays = [
        np.round(np.random.default_rng(n).standard_normal(n), 1).astype("f") for n in (40, 12)
    ]
    same(CHOSEN, "kept values which most at shares wide sums", weights, arrays)


def test_bounds_that_data_decides() -> None:
    weights = {**_ONE, "limit": np.float32(0.3), "end": np.array([2**62]), "back": np.array([-2]),
               "least": np.array([-(2**62)])}  # fmt: skip
    arrays = [np.random.default_rng(n).standard_normal(n).astype("f") for n in (9, 33)]
    same(BOUNDS, "head tail turned top where result", weights, arrays)


COUNTED = [
    node("Greater", "x limit", "holds"), node("Cast", "holds", "ones", to=7),
    node("ReduceSum", "ones", "n", keepdims=0), node("Unsqueeze", "n zero", "n1"),
    node("Add", "n two", "more"), node("Range", "two more step", "up"),
    node("Neg", "n", "below"), node("Range", "start below back", "down"),
    node("Cast", "n", "real", to=1), node("Range", "low real fraction", "parts"),
    node("Concat", "n1 three", "shape", axis=0), node("ConstantOfShape", "shape", "zeros"),
    node("Unsqueeze", "parts zero", "line"), node("Expand", "row shape", "rows"),
    node("Concat", "one n1", "times", axis=0), node("Tile", "line times", "tiled"),
    node("ReduceMax", "x", "peak", keepdims=0), node("Cast", "peak", "whole", to=7),
    node("Min", "whole five", "few"), node("Max", "few start", "some"),
    node("Range", "start some step", "clipped"), node("Add", "rows zeros", "both"),
]  # fmt: skip


def test_numbers_that_data_decide_become_sizes_where_they_are_bounded() -> None:
    weights = {**_ONE, "limit": np.float32(0.3), "back": np.array(-2), "low": np.float32(-1),
               "fraction": np.float32(0.5), "row": np.arange(3, dtype=np.float32),
               "one": np.array([1]), "five": np.array(5)}  # fmt: skip
    arrays = [np.random.default_rng(n).standard_normal(n).astype("f") * 4 for n in (9, 33)]
    arrays.append(np.full(4, -3, np.float32))
    outputs = "up down parts zeros rows tiled clipped both"
    same(COUNTED, outputs, weights, arrays)


@pytest.mark.parametrize("last", ["Range", "ConstantOfShape", "Expand", "Tile", "Reshape"])
def test_a_size_without_a_bound_is_refused(last: str) -> None:
    operands = {"Range": "start n step", "ConstantOfShape": "n1"}.get(last, "row n1")
    nodes = [node("ReduceSum", "x", "sum", keepdims=0), node("Cast", "sum", "n", to=7),
             node("Unsqueeze", "n zero", "n1"), node(last, operands, "y")]  # fmt: skip
    weights = {**_ONE, "row": np.zeros(1, np.float32)}
    built = model(nodes, [info("x", "f", [40, 40])], ["y"], weights)
    with pytest.raises(fm.ModelError, match=rf"{last}.*nothing bounds it.*Min\(it, the largest"):
        fm.onnx.load(built.SerializeToString())
