"""Layouts: nothing overlaps, edges go down, frames hold their boxes, big graphs collapse."""

from __future__ import annotations

import random
from itertools import combinations

import flowmill as fm
import pytest
from flowmill.graph.ir import Function
from flowmill.tools.picture.layout import Layout, layout
from flowmill.tools.picture.model import Box, Drawing, Edge, collapsed, drawing
from flowmill.tools.picture.svg import render


def random_drawing(seed: int, count: int = 40) -> Drawing:
    """A graph with nested layers whose boxes come in a topological order, layers together."""
    chance = random.Random(seed)
    boxes, edges = [], []
    for k in range(count):
        path = (f"block{k // 12}", f"layer{k // 4}")[: chance.randint(0, 2) if k % 5 else 2]
        boxes.append(Box(f"b{k}", "op" * chance.randint(1, 9), "pointwise", path))
        for j in {chance.randrange(k) for _ in range(chance.randint(1, 3))} if k else ():
            edges.append(Edge(f"b{j}", f"b{k}", "f32[8]", f"b{j}.0"))
    return Drawing("random", tuple(boxes), tuple(edges))


def rectangles(p: Layout) -> dict[str, tuple[float, float, float, float]]:
    return {b.box.key: (b.x, b.y, b.x + b.w, b.y + b.h) for b in p.boxes}


def inside(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return b[0] <= a[0] and b[1] <= a[1] and a[2] <= b[2] and a[3] <= b[3]


def apart(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[2] <= b[0] + 1e-6 or b[2] <= a[0] + 1e-6 or a[3] <= b[1] + 1e-6 or b[3] <= a[1] + 1e-6


@pytest.mark.parametrize("seed", range(8))
def test_boxes_and_frames_do_not_overlap(seed: int) -> None:
    d = random_drawing(seed)
    p = layout(d)
    boxes = rectangles(p)
    assert len(boxes) == len(d.boxes)
    frames = [(f.x, f.y, f.x + f.w, f.y + f.h) for f in p.frames]
    assert all(apart(a, b) for a, b in combinations(boxes.values(), 2))
    for frame in frames:
        assert inside(frame, (0, 0, p.width, p.height))
        assert all(inside(b, frame) or apart(b, frame) for b in boxes.values())
        assert sum(inside(b, frame) for b in boxes.values()) >= 2
    assert all(apart(a, b) or inside(a, b) or inside(b, a) for a, b in combinations(frames, 2))


@pytest.mark.parametrize("seed", range(8))
def test_edges_go_down_and_end_at_boxes(seed: int) -> None:
    d = random_drawing(seed)
    p = layout(d)
    boxes = rectangles(p)
    for e in d.edges:
        assert boxes[e.source][3] < boxes[e.target][1]
    ends = [path.points[-1] for path in p.paths if path.arrow]
    for path in p.paths:
        assert all(a[1] <= b[1] + 1e-6 for a, b in zip(path.points, path.points[1:]))
    for x, y in ends:
        assert any(b[0] <= x <= b[2] and abs(b[1] - y) < 1e-6 for b in boxes.values())


def chain(blocks: int, each: int) -> Function:
    with fm.Graph("deep") as g:
        h = fm.input("x", (4,))
        for k in range(blocks):
            with g.scope(f"block{k}"):
                for _ in range(each):
                    h = fm.sin(h) + 1
        fm.output("y", h)
    return g.function("deep", dict(g.outputs))


def test_layers_collapse_where_there_are_too_many_boxes() -> None:
    function = chain(20, 10)
    assert len(drawing(function, 10**6).boxes) == 402
    d = drawing(function, 50)
    names = [b.title for b in d.boxes]
    assert names == ["x", *(f"block{k}" for k in range(20)), "y"]
    assert d.boxes[1].lines[0].text == "20 boxes"
    assert "block7" in render(layout(d))


def test_stretches_collapse_where_layers_do_not_suffice() -> None:
    d = drawing(chain(20, 10), 7)
    assert len(d.boxes) <= 9
    position = {b.key: k for k, b in enumerate(d.boxes)}
    assert all(position[e.source] < position[e.target] for e in d.edges)


def test_a_drawing_within_the_limit_stays() -> None:
    d = random_drawing(1)
    assert collapsed(d, len(d.boxes)) == d


def test_layers_stay_together_although_the_graph_goes_on_elsewhere() -> None:
    with fm.Graph("g") as g:
        x = fm.input("x", (4,))
        with g.scope("a"):
            p = fm.sin(x)
        with g.scope("b"):
            q = fm.cos(x)
        with g.scope("a"):
            p = fm.exp(p)
        with g.scope("b"):
            q = fm.exp(q)
        fm.output("y", p + q)
    d = drawing(g.function("g", dict(g.outputs)))
    runs = [b.path for b in d.boxes if b.path]
    assert runs == [("a",), ("a",), ("b",), ("b",)]


def test_an_empty_layer_path_and_unused_inputs() -> None:
    with fm.Graph("g") as g:
        x = fm.input("x", (4,))
        fm.output("y", x)
    p = layout(drawing(g.function("g", dict(g.outputs))))
    assert {b.box.title for b in p.boxes} == {"x", "y"}
    assert not p.frames
