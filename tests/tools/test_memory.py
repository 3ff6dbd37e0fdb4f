"""Memory plans: areas that live at the same time lie apart, sums are the program's."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from itertools import combinations

import flowmill as fm
import numpy as np
from flowmill.compiler import compile_function
from flowmill.target import named
from flowmill.tools.picture.memory import Area, MemoryPlan, memory_plan, picture, table


def plan(level: int = 2) -> MemoryPlan:
    with fm.Graph("net") as g:
        h = fm.input("x", ("batch", 16))
        for k in range(4):
            w = fm.variable(f"w{k}", np.ones((16, 16), "f"))
            h = fm.maximum(h @ w, 0)
        fm.output("y", h @ fm.variable("last", np.ones((16, 4), "f")))
    compiled = compile_function(g.function("net", dict(g.outputs)), named("x86-64-v3"), level)
    return memory_plan(compiled.program, {"batch": 32})


def disjoint(a: Area, b: Area) -> bool:
    return a.offset + a.size <= b.offset or b.offset + b.size <= a.offset


def test_what_lives_together_lies_apart() -> None:
    m = plan()
    assert len(m.areas) == 4
    for a, b in combinations(m.areas, 2):
        together = a.first <= b.last and b.first <= a.last
        assert not together or disjoint(a, b) or (b.shares and b.first == a.last)
    assert all(a.offset + a.size <= m.arena for a in m.areas)


def test_reuse_shows() -> None:
    m = plan()
    assert m.separate == 4 * 32 * 16 * 4
    assert m.arena < m.separate
    assert max(m.live(k) for k in range(m.phases)) <= m.peak <= m.arena
    assert plan(level=0).arena >= m.separate


def test_the_table_has_a_line_per_value() -> None:
    text = table(plan())
    assert "memory plan of net at batch = 32" in text
    assert text.count("matmul") == 4
    assert "without reuse 8,192" in text


def test_the_picture_has_a_rectangle_per_value() -> None:
    root = ElementTree.fromstring(picture(plan()))
    space = "{http://www.w3.org/2000/svg}"
    titles = [e.text or "" for e in root.iter(f"{space}title")]
    assert sum("2,048 bytes" in t for t in titles) == 4
