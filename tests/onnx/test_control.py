"""If, Loop and Scan: against the reference evaluator of onnx, natively and at several sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flowmill as fm
import numpy as np
import onnx
import pytest
from flowmill.graph.ops.loop import While
from flowmill.graph.ops.recurrent import Scan
from flowmill.graph.template import Template
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from tests.onnx.models import KINDS, info, model, node, raw


def body(nodes: Any, inputs: str, outputs: str, weights: Any = None) -> onnx.GraphProto:
    """A sub-graph; `inputs` and `outputs` are words "name:kind"."""
    infos = [[helper.make_tensor_value_info(n, KINDS[k or "f"], None)
              for n, _, k in (w.partition(":") for w in text.split())]
             for text in (inputs, outputs)]  # fmt: skip
    initial = [onnx.numpy_helper.from_array(np.asarray(a), n) for n, a in (weights or {}).items()]
    return helper.make_graph(list(nodes), "body", *infos, initial)


def agree(made: onnx.ModelProto, *feeds: dict[str, Any]) -> fm.Graph:
    """Results are those of the reference; the graph."""
    graph = fm.onnx.load(made.SerializeToString())
    session, judge = fm.Session(graph, threads=2), ReferenceEvaluator(made)
    for each in feeds:
        same(session.run(None, each).values(), judge.run(None, each))
    return graph


def same(got: Any, wanted: Any) -> None:
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        assert a.dtype == b.dtype


def ops_of(graph: fm.Graph) -> set[type]:
    return {type(n.op) for n in graph.function("f", dict(graph.outputs)).nodes()}


def test_a_branch_is_taken_at_run_time() -> None:
    then = body([node("Log", "x", "a")], "", "a")
    other = body([node("Mul", "x w", "b")], "", "b", {"w": np.float32([2, 3, 4])})
    made = model([node("ReduceMin", "x", "low", keepdims=0), node("Greater", "low zero", "c"),
                  node("If", "c", "y", then_branch=then, else_branch=other)],
                 [info("x", "f", ["n", 3])], ["y"], {"zero": np.float32(0)}, opset=18)  # fmt: skip
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    graph = agree(made, {"x": x + 1}, {"x": x}, {"x": x[:1] - 5})
    assert not isinstance(graph, Template)


def test_sides_of_other_ranks_are_chosen_by_size() -> None:
    """As torch exports squeeze: a size decides how many axes there are."""
    then = body([node("Squeeze", "x axis", "a")], "", "a")
    other = body([node("Identity", "x", "b")], "", "b")
    made = model([node("Shape", "x", "s", start=1), node("Equal", "s one", "c"),
                  node("If", "c", "y", then_branch=then, else_branch=other)],
                 [info("x", "f", ["n", "m"])], ["y"],
                 {"one": np.int64([1]), "axis": np.int64([1])})  # fmt: skip
    x = np.arange(12, dtype=np.float32)
    feeds = [{"x": x.reshape(shape)} for shape in ((12, 1), (4, 3), (3, 4))]
    template = agree(made, *feeds)
    assert isinstance(template, Template) and template.deciding == {"m": ("x", 1)}
    fixed = fm.onnx.load(made.SerializeToString(), sizes={"m": 1})
    assert fixed.outputs["y"].type.ndim == 1


def test_a_loop_ends_when_its_condition_says_so() -> None:
    """Halving until nothing is left: no trip count, a captured value."""
    step = body([node("Div", "v two", "w"), node("Add", "n one", "m"), node("Greater", "w low", "go"),
                 ], "i:i c:? v n:i", "go:? w m:i")  # fmt: skip
    made = model([node("Greater", "x low", "first"),
                  node("Loop", "- first x zero", "last turns", body=step)],
                 [info("x", "f", []), info("low", "f", [])], ["last", "turns"],
                 {"two": np.float32(2), "one": np.int64(1), "zero": np.int64(0)})  # fmt: skip
    feeds = [{"x": np.float32(x), "low": np.float32(1)} for x in (100, 1, 3)]
    assert While in ops_of(agree(made, *feeds))


def test_a_trip_count_that_is_fed_needs_no_compiling() -> None:
    step = body([node("Add", "v x", "w"), node("Identity", "c", "go")], "i:i c:? v", "go:? w")
    made = model([node("Loop", "n - x", "y", body=step)],
                 [info("x", "f", [2]), info("n", "i", [])], ["y"])  # fmt: skip
    graph = fm.onnx.load(made.SerializeToString())
    assert not isinstance(graph, Template) and While in ops_of(graph)
    x = np.float32([1, 2])
    for n in (0, 1, 7):
        same(fm.Session(graph).run(None, {"x": x, "n": np.int64(n)}).values(), [x * (n + 1)])


@pytest.mark.parametrize("counted", [False, True])
def test_a_loop_over_a_sequence_is_a_scan(counted: bool) -> None:
    """The trip count is a size, or the condition compares a counter with one."""
    nodes = [node("Gather", "x k", "row"), node("MatMul", "row w", "h"), node("Add", "h s", "t"),
             node("Tanh", "t", "u"), node("Add", "k one", "k2"), node("Identity", "u", "out")]  # fmt: skip
    nodes.append(node("Less", "k2 n", "go") if counted else node("Identity", "c", "go"))
    step = body(nodes, "i:i c:? k:i s", "go:? k2:i u out")
    before = [node("Shape", "x", "shape"), node("Gather", "shape zero", "n")]
    before += [node("Less", "zero n", "first")] if counted else []
    loop = node(
        "Loop", "- first zero s0" if counted else "n first zero s0", "k_last last all", body=step
    )
    weights = {
        "w": np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32),
        "one": np.int64(1),
        "zero": np.int64(0),
        "s0": np.zeros((4,), np.float32),
    }
    weights |= {} if counted else {"first": np.True_}  # fmt: skip
    made = model([*before, loop], [info("x", "f", ["n", 4])], ["k_last", "last", "all"], weights)
    rng = np.random.default_rng(1)
    feeds = [{"x": rng.standard_normal((n, 4)).astype(np.float32)} for n in (5, 1, 12)]
    graph = agree(made, *feeds)
    assert Scan in ops_of(graph) and While not in ops_of(graph)
    empty = fm.Session(graph).run("all", {"x": np.zeros((0, 4), np.float32)})
    assert empty.shape == (0, 4)


def test_loops_inside_loops() -> None:
    inner = body([node("Add", "v f", "w"), node("Identity", "c", "go")], "j:i c:? v", "go:? w")
    outer = body([node("Cast", "i", "f", to=TensorProto.FLOAT),
                  node("Loop", "i - u", "w", body=inner), node("Identity", "c", "go"),
                  node("Mul", "w x", "out")], "i:i c:? u", "go:? w out")  # fmt: skip
    made = model([node("Loop", "four - x", "y all", body=outer)], [info("x", "f", [3])],
                 ["y", "all"], {"four": np.int64(4)})  # fmt: skip
    x = np.float32([1, 2, 3])
    sums = [x + sum(i * i for i in range(k + 1)) for k in range(4)]
    got = fm.Session(fm.onnx.load(made.SerializeToString())).run(None, {"x": x})
    same(got.values(), [sums[-1], np.stack(sums) * x])


def test_a_carry_that_grows_is_converted_turn_by_turn() -> None:
    step = body([node("Concat", "v x", "w", axis=0), node("Identity", "c", "go")],
                "i:i c:? v", "go:? w")  # fmt: skip
    made = model([node("Loop", "three yes x", "y", body=step)], [info("x", "f", ["n", 2])],
                 ["y"], {"three": np.int64(3), "yes": np.True_})  # fmt: skip
    agree(made, {"x": np.float32([[1, 2]])}, {"x": np.zeros((3, 2), np.float32)})


@pytest.mark.parametrize("directions", [(0, 0, 0), (1, 1, 1), (1, 0, 1), (0, 1, 0)])
def test_scan_along_axes_in_directions(directions: tuple[int, int, int]) -> None:
    step = body([node("Mul", "a b", "p"), node("Add", "s p", "t"), node("Sub", "t k", "out")],
                "s a b", "t out")  # fmt: skip
    scan = node("Scan", "s0 x z", "last all", body=step, num_scan_inputs=2,
                scan_input_axes=[1, -1], scan_input_directions=directions[:2],
                scan_output_axes=[-1], scan_output_directions=directions[2:])  # fmt: skip
    made = model([scan], [info("x", "f", [3, "t", 2]), info("z", "f", [3, 2, "t"]),
                          info("k", "f", [3, 2])], ["last", "all"],
                 {"s0": np.ones((3, 2), np.float32)})  # fmt: skip
    rng = np.random.default_rng(2)
    session = fm.Session(fm.onnx.load(made.SerializeToString()))
    for n in (4, 1):
        x, z, k = (rng.standard_normal(s).astype(np.float32)
                   for s in ((3, n, 2), (3, 2, n), (3, 2)))  # fmt: skip
        rows = [x[:, t] for t in range(n)][:: -1 if directions[0] else 1]
        columns = [z[..., t] for t in range(n)][:: -1 if directions[1] else 1]
        state, outs = np.ones((3, 2), np.float32), []
        for a, b in zip(rows, columns):
            state = state + a * b
            outs.append(state - k)
        stacked = np.stack(outs[:: -1 if directions[2] else 1], -1)
        got = session.run(None, {"x": x, "z": z, "k": k})
        np.testing.assert_allclose(got["last"], state, rtol=1e-5)
        np.testing.assert_allclose(got["all"], stacked, rtol=1e-5)


@pytest.mark.parametrize("back", [0, 1])
def test_scan_of_batches_with_lengths(back: int) -> None:
    """Opset 8: each sequence of a batch by itself."""
    step = body([node("Add", "s a", "t"), node("Identity", "t", "out")], "s a", "t out")
    scan = node("Scan", "n s0 x", "last all", body=step, num_scan_inputs=1, directions=[back])
    given = raw([scan], [info("n", "i", [3]), info("s0", "f", [3, 2]), info("x", "f", [3, "t", 2])],
                ["last", "all"], opset=8, ir=3)  # fmt: skip
    x = np.arange(24, dtype=np.float32).reshape(3, 4, 2)
    lengths, start = np.int64([4, 1, 3]), np.float32([[1, 1], [2, 2], [3, 3]])
    got = fm.Session(fm.onnx.load(given)).run(None, {"n": lengths, "s0": start, "x": x})
    for k, n in enumerate(lengths):
        sums = start[k] + np.cumsum(x[k, :n][:: -1 if back else 1], 0)
        np.testing.assert_array_equal(got["all"][k], np.pad(sums, ((0, 4 - n), (0, 0))))
        np.testing.assert_array_equal(got["last"][k], sums[-1])


def collecting(trip: str, bound: Any = None, before: Any = ()) -> onnx.ModelProto:
    """A loop that doubles until a sum is large, and collects what it passes and its numbers."""
    step = body([node("Mul", "v two", "w"), node("ReduceSum", "w", "s", keepdims=0),
                 node("Less", "s top", "go"), node("Sub", "w x", "out"), node("Reshape", "i one", "at"),
                 ], "i:i c:? v", "go:? w out at:i")  # fmt: skip
    weights = {"top": np.float32(99), "two": np.float32(2), "yes": np.True_, "one": np.int64([1])}
    weights |= {"trip": np.int64(bound)} if isinstance(bound, int) else {}
    loop = node("Loop", f"{trip} yes x", "last all numbers", body=step)
    return model([*before, loop], [info("x", "f", [3])], ["last", "all", "numbers"], weights)


LIMITED: dict[str, Any] = {
    "a number": ("trip", 20, []),
    "a number that is reached": ("trip", 3, []),
    "a size that a run computes": ("n", None, [
        node("NonZero", "x", "places"), node("Shape", "places", "n1", start=1, end=2),
        node("Squeeze", "n1", "n")]),
    "a number that a run computes": ("n", None, [
        node("Greater", "x two", "big"), node("Cast", "big", "ones", to=TensorProto.INT64),
        node("ReduceSum", "ones", "n", keepdims=0)]),
}  # fmt: skip


@pytest.mark.parametrize("case", LIMITED)
def test_a_loop_that_ends_by_itself_collects(case: str, tmp_path: Path) -> None:
    """Scan outputs have as many rows as there were turns, of as many as there can be."""
    made = collecting(*LIMITED[case])
    feeds = [{"x": np.float32(x)} for x in ([1, 2, 3], [0.01, 0, 5], [0, 40, 3], [7, 8, 9])]
    graph = agree(made, *feeds)
    assert While in ops_of(graph) and not isinstance(graph, Template)
    nothing = fm.Session(graph).run(None, {"x": np.zeros(3, np.float32)})
    if made.graph.node[0].op_type != "Loop":  # no turn
        assert nothing["all"].shape == (0, 3) and nothing["numbers"].shape == (0, 1)
    path = tmp_path / "again.onnx"
    fm.onnx.save(graph, path)
    again = fm.Session(fm.onnx.load(path))
    for each in feeds:
        same(again.run(None, each).values(), fm.Session(graph).run(None, each).values())


def test_what_a_loop_cannot_be_is_said() -> None:
    with pytest.raises(fm.ModelError, match="length that only a run tells, without a bound"):
        fm.onnx.load(collecting("-").SerializeToString())
