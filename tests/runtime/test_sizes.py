"""Sizes that a run computes: what they are used for, in the interpreter, in sessions, as text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import flowmill as fm
import numpy as np
import pytest
from flowmill.graph.interpret import run
from flowmill.graph.ir import Value
from flowmill.graph.text import parse, show
from flowmill.graph.verify import verify
from flowmill.runtime.session import function_for

WEIGHT = np.linspace(-1, 1, 15, dtype=np.float32).reshape(5, 3)
Case = Callable[[Value, Value], "tuple[Value, ...]"]


def rows(x: Value, mask: Value) -> tuple[Value, ...]:
    """Products, sums along the size and across, of the rows that are chosen."""
    places = fm.nonzero(mask)
    kept = fm.gather(x, places[0])
    scores = fm.softmax(kept @ WEIGHT, axis=-1)
    return places, kept, scores, fm.sum(kept, axis=0), fm.sum(scores)


def nothing_else_tells(x: Value, mask: Value) -> tuple[Value, ...]:
    """Values that are made of the size alone."""
    size = fm.nonzero(mask).shape[1]
    twice = fm.ones((size, 2)) * 3.0
    return (
        twice,
        fm.iota((2, size), 1),
        fm.size_of(size * 2 + 1),
        x[:size],
        fm.sum(fm.zeros((size,))),
    )


def one_of_another(x: Value, mask: Value) -> tuple[Value, ...]:
    """A size below a size, and both in one expression."""
    kept = fm.gather(x, fm.nonzero(mask)[0])
    places = fm.nonzero(kept[:, 0] > 0)
    both = fm.concat([kept, fm.gather(kept, places[0]), x])
    return both, fm.reshape(both, (-1,)), fm.pad(kept, (1, 0), (2, 0)), fm.sort(both, axis=0)


def in_loops(x: Value, mask: Value) -> tuple[Value, ...]:
    """The size as that of what a loop goes through, holds and makes."""
    kept = fm.gather(x, fm.nonzero(mask)[0])
    last, sums = fm.scan(lambda c, row: (c + row, c * 2), fm.zeros((5,)), kept)
    held = fm.while_loop(lambda h: fm.sum(h) < 50.0, lambda h: h * 2 + 1, kept, 9)
    chosen = fm.if_(fm.sum(x) > 0, lambda: kept * 2, lambda: kept - 1)
    return last, sums, held, chosen


@pytest.mark.parametrize("case", [rows, nothing_else_tells, one_of_another, in_loops])
def test_sessions_and_interpreter_agree(case: Case) -> None:
    with fm.Graph() as graph:
        x, mask = fm.input("x", ("n", 5)), fm.input("mask", ("n",), "bool")
        results = case(x, mask)
    function = function_for(graph, results, [x, mask])
    assert show(parse(show(function))) == show(function)
    rng = np.random.default_rng(1)
    sessions = [fm.Session(graph, threads=2, level=level) for level in (0, 2)]
    for n, share in ((9, 0.5), (40, 0.7), (4, 0.0), (3, 1.0)):
        feeds = {"x": rng.standard_normal((n, 5)).astype(np.float32), "mask": rng.random(n) < share}
        expected = list(run(function, feeds)[0].values())
        for session in sessions:
            found = session.run(list(results), {x: feeds["x"], mask: feeds["mask"]})
            for a, b in zip(found, expected, strict=True):
                assert a.dtype == b.dtype
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5, strict=True)


def test_a_size_over_its_limit_fails_the_run_and_changes_nothing() -> None:
    with fm.Graph() as graph:
        x, n = fm.input("x", (6, 2)), fm.input("n", (), "int64")
        count = fm.variable("count", np.int64(0))
        kept = fm.prefix(x, n * 2, name="kept")
        step = fm.assign(count, count + 1)
        third = kept[2]
    for level in (0, 2):
        session = fm.Session(graph, level=level)
        data = np.arange(12, dtype=np.float32).reshape(6, 2)
        assert session.run([kept, step], {x: data, n: 3})[0].shape == (6, 2)
        for bad in (4, -1):
            with pytest.raises(
                fm.RunError, match=rf"computed {2 * bad} for dimension kept, .* 0\.\.6"
            ):
                session.run([kept, step], {x: data, n: bad})
        with pytest.raises(fm.RunError, match="an index is out of range"):
            session.run([third, step], {x: data, n: 1})
        np.testing.assert_array_equal(session.run(third, {x: data, n: 2}), data[2])
        assert session.get("count") == 1


def test_gradients_of_what_is_cut_off_are_zero() -> None:
    with fm.Graph() as graph:
        x, n = fm.input("x", ("rows", 2)), fm.input("n", (), "int64")
        (slope,) = fm.gradients(fm.sum(fm.prefix(x, n) ** 2), [x])
    data = np.arange(10, dtype=np.float32).reshape(5, 2)
    expected = np.where(np.arange(5)[:, None] < 3, 2 * data, 0)
    np.testing.assert_array_equal(fm.Session(graph).run(slope, {x: data, n: 3}), expected)


def test_what_cannot_be_is_refused() -> None:
    with fm.Graph():
        x, n = fm.input("x", (6, 2)), fm.input("n", (), "int64")
        kept = fm.prefix(x, n, name="kept")
        with pytest.raises(fm.ShapeError, match="a run computes dimension kept, no input can have"):
            fm.input("y", ("kept", 2))
        with pytest.raises(fm.DTypeError, match="a size is an int64 scalar, not f32"):
            fm.prefix(x, x[0, 0])
        with pytest.raises(fm.ShapeError, match="7 of 6 elements"):
            fm.prefix(x, 7)
        with pytest.raises(fm.ShapeError, match="kept against 6"):
            fm.add(kept, x)
        with pytest.raises(
            fm.ShapeError, match=r"then gives i64\[2,nonzero\], else_ i64\[2,nonzero_2\]"
        ):
            fm.if_(n > 0, lambda: fm.nonzero(x), lambda: fm.nonzero(x + 1))
        with pytest.raises(fm.ShapeError, match="has a size that is computed inside"):
            fm.scan(lambda c, row: (c, fm.nonzero(row)), fm.zeros(()), x)


def test_memory_for_a_result_of_unknown_size_is_not_the_users() -> None:
    with fm.Graph() as graph:
        x = fm.input("x", (4,))
        places = fm.nonzero(x)
    with pytest.raises(fm.FeedError, match="how large it is the run finds out"):
        fm.Session(graph).run(places, {x: np.ones(4, np.float32)}, out=np.zeros((1, 4), np.int64))


@pytest.mark.parametrize("level", [0, 2])
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize(("shape", "dtype", "axis"), [
    ((37,), "float32", None), ((4, 5), "int32", None), ((9, 2), "int64", 0),
    ((3, 2, 4), "float64", 1), ((1,), "int8", None),
])  # fmt: skip
def test_unique_is_numpy_s(shape: tuple[int, ...], dtype: str, axis: int | None, ordered: bool,
                           level: int) -> None:  # fmt: skip
    with fm.Graph() as graph:
        x = fm.input("x", ("n", *shape[1:]), dtype)
        results = fm.unique(-x, axis, ordered)  # what is looked up is computed on the way
    data = np.random.default_rng(2).integers(0, 3, shape).astype(dtype)
    if dtype == "float32":
        data[data == 1] = np.nan
    values, first, which, counts = np.unique(-data, True, True, True, axis)
    which = which.reshape(-1)
    if not ordered:
        places = np.argsort(first)
        values, first, counts = np.take(values, places, axis or 0), first[places], counts[places]
        which = np.argsort(places)[which]
    found = fm.Session(graph, level=level).run(list(results), {x: data})
    for a, b in zip(found, (values, first, which, counts), strict=True):
        np.testing.assert_array_equal(a, b, strict=True)


def test_compress_with_a_condition_of_the_run() -> None:
    with fm.Graph() as graph:
        x, holds = fm.input("x", (3, 4)), fm.input("holds", ("n",), "bool")
        with pytest.raises(fm.ShapeError, match="no condition for axis 0"):
            fm.compress(x, x)
        results = [fm.compress(x, holds), fm.compress(x, holds, 1)]
    data = np.arange(12, dtype=np.float32).reshape(3, 4)
    for chosen in ([True, False, True], [False, False], [True] * 4):
        found = fm.Session(graph).run(results, {x: data, holds: np.array(chosen)})
        for a, axis in zip(found, (None, 1)):
            np.testing.assert_array_equal(a, np.compress(chosen, data, axis), strict=True)


def test_boxes_that_are_kept() -> None:
    with fm.Graph() as graph:
        boxes, scores = (
            fm.input("boxes", ("images", "boxes", 4)),
            fm.input("scores", ("images", 2, "boxes")),
        )
        most = fm.input("most", (), "int64")
        kept = fm.non_max_suppression(boxes, scores, most, 0.5, 0.2)
        area = fm.gather(fm.reshape(boxes, (-1, 4)), kept[:, 2])
    corners = np.array([[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, 2, 1, 3], [0, 2, 1, 3]], np.float32)
    marks = np.array([[[0.9, 0.8, 0.1, 0.3], [0.5, 0.6, 0.7, 0.7]]] * 2, np.float32)
    marks[1, 0] = 0.0
    rows = [[0, 0, 0], [0, 0, 3], [0, 1, 2], [0, 1, 1], [1, 1, 2], [1, 1, 1]]
    for level in (0, 2):
        session = fm.Session(graph, level=level)
        for limit, expected in ((9, rows), (1, [rows[0], rows[2], rows[4]]), (0, [])):
            feeds = {boxes: np.stack([corners] * 2), scores: marks, most: limit}
            found, chosen = session.run([kept, area], feeds)
            wanted = np.array(expected, np.int64).reshape(-1, 3)
            np.testing.assert_array_equal(found, wanted, strict=True)
            np.testing.assert_array_equal(chosen, corners[wanted[:, 2]])


@pytest.mark.parametrize(("old", "new", "complaint"), [
    ("kept in 0..6", "kept in 3..6", "a size is a dimension in 0..6, not kept"),
    ("kept in 0..6", "kept in 0..4", "a size is a dimension in 0..6, not kept"),
    ("most=[6]", "most=[9]", "a size is a dimension in 0..9, not kept"),
    ("n: i64[]", "n: i64[], z: f32[kept]", "computes dimension kept, which an input has"),
    ("most=[6]", "most=[kept]", "limits kept by kept, which is computed too"),
])  # fmt: skip
def test_text_that_lies_about_a_size_is_refused(old: str, new: str, complaint: str) -> None:
    with fm.Graph() as graph:
        x, n = fm.input("x", (6, 2)), fm.input("n", (), "int64")
        kept = fm.prefix(x, n, name="kept")
    text = show(function_for(graph, [kept], [x, n]))
    assert old in text
    with pytest.raises(fm.UserError, match=complaint):
        made = parse(text.replace(old, new))
        raise fm.UserError("; ".join(verify(made)))


def test_results_called_as_sizes_are_that_come_with_others(tmp_path: Path) -> None:
    with fm.Graph("few") as graph:
        x = fm.input("x", ("n",))
        made = {"places": fm.nonzero(x), "size of nonzero": fm.sum(x), "size_of_nonzero": x + 1.0}
    fm.export(fm.Module(graph, find=made), tmp_path / "libfew.so")
    fields = [line.split(";")[0].split()[-1] for line in
              (tmp_path / "libfew.h").read_text().splitlines() if "size_of_nonzero" in line]  # fmt: skip
    assert fields == ["*size_of_nonzero", "*size_of_nonzero_2", "*size_of_nonzero_3"]
    data = np.array([1, 0, 4], np.float32)
    with fm.load(tmp_path / "libfew.so") as library:
        found = library.find(x=data)
    assert list(found) == list(made)
    np.testing.assert_array_equal(found["places"], [[0, 2]])
    assert found["size of nonzero"] == 5
    np.testing.assert_array_equal(found["size_of_nonzero"], data + 1)
