"""One level of a layered picture: items in ranks, ordered and placed so that edges run straight.

In: items with sizes, edges between them, and which items lie on the upper or lower border. Out: a
place for each item and the points every edge bends at. Ranks are longest paths (`networkx`), the
order within a rank comes from sweeps of barycenters (Sugiyama, Tagawa, Toda 1981), and x is, rank
by rank, the least-squares nearest place to the neighbours' mean that keeps items apart (pool
adjacent violators).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import networkx as nx

GAP_X, GAP_Y, LANE = 30.0, 42.0, 14.0
_SWEEPS = 8


@dataclass(eq=False)
class Item:
    """A box, a frame, or a port on the border (`w` 0). `x`, `y` are its upper left corner.

    `entries` and `exits` give, by value, where along its width an edge meets it; by default the
    middle.
    """

    key: str
    w: float
    h: float
    x: float = 0.0
    y: float = 0.0
    entries: dict[str, float] = field(default_factory=dict)
    exits: dict[str, float] = field(default_factory=dict)

    def enter(self, value: str) -> float:
        return self.entries.get(value, self.w / 2)

    def leave(self, value: str) -> float:
        return self.exits.get(value, self.w / 2)


@dataclass(eq=False)
class Wire:
    """An edge of a level: it carries `value` from item to item; `points` are where it bends."""

    source: Item
    target: Item
    value: str
    points: list[tuple[float, float]] = field(default_factory=list)
    lanes: list[Item] = field(default_factory=list)


def place(items: Sequence[Item], wires: Sequence[Wire], above: set[Item], below: set[Item],
          top: float, bottom: float) -> tuple[float, float]:  # fmt: skip
    """Sets every item's place and every wire's points; returns width and height of the level.

    `above` and `below` are ports on the upper and lower border; `top` and `bottom` the room left
    between the border and the items.
    """
    rank = _ranks(items, wires, above, below)
    count = max(rank.values(), default=-1) + 1
    rows: list[list[Item]] = [[] for _ in range(count)]
    for item in items:
        rows[rank[item]].append(item)
    links = _split(wires, rank, rows)
    _order(rows, links)
    _place_x(rows, links)
    _spread(items, wires)
    width = _place_x(rows, links)
    height = _place_y(rows, above, below, top, bottom)
    for w in wires:
        stops = [w.source, *w.lanes, w.target]
        w.points = [(stops[0].x + stops[0].leave(w.value), stops[0].y + stops[0].h)]
        w.points += [(lane.x, y) for lane in w.lanes for y in (lane.y, lane.y + lane.h)]
        w.points.append((stops[-1].x + stops[-1].enter(w.value), stops[-1].y))
    return width, height


def _ranks(items: Sequence[Item], wires: Sequence[Wire], above: set[Item],
           below: set[Item]) -> dict[Item, int]:  # fmt: skip
    """Longest paths from the top, and what nothing comes into as low as its readers allow."""
    graph = nx.DiGraph()
    graph.add_nodes_from(i for i in items if i not in above and i not in below)
    graph.add_edges_from((w.source, w.target) for w in wires
                         if w.source in graph and w.target in graph)  # fmt: skip
    generations = list(nx.topological_generations(graph))
    first = 1 if above else 0
    rank = {i: k + first for k, g in enumerate(generations) for i in g}
    for g in reversed(generations):
        for i in g:
            after = [rank[j] for j in graph.successors(i)]
            if after and graph.out_degree(i) > graph.in_degree(i):
                rank[i] = min(after) - 1
    last = max(rank.values(), default=first - 1) + 1
    return rank | dict.fromkeys(above, 0) | dict.fromkeys(below, last)


@dataclass(frozen=True, eq=False)
class _Link:
    """A piece of a wire between items of neighbouring ranks."""

    upper: Item
    lower: Item
    value: str
    weight: float

    @property
    def shift(self) -> float:
        """How far the lower item's corner is to be to the right of the upper one's."""
        return self.upper.leave(self.value) - self.lower.enter(self.value)


def _split(wires: Sequence[Wire], rank: dict[Item, int], rows: list[list[Item]]) -> list[_Link]:
    """Links between neighbouring ranks. Wires that pass ranks get lanes there, one for all wires
    of one value from one item, and straighter ones than others."""
    lanes: dict[tuple[Item, str, int], Item] = {}
    links: list[_Link] = []
    for w in wires:
        here = w.source
        for r in range(rank[w.source] + 1, rank[w.target]):
            key = (w.source, w.value, r)
            lane = lanes.get(key)
            if lane is None:
                lane = lanes[key] = Item("", 0.0, 0.0)
                rows[r].append(lane)
                links.append(_Link(here, lane, w.value, 2.0 if here.key else 8.0))
            w.lanes.append(lane)
            here = lane
        links.append(_Link(here, w.target, w.value, 1.0 if here.key else 2.0))
    return links


def _spread(items: Sequence[Item], wires: Sequence[Wire]) -> None:
    """Where several values enter or leave a box, each gets a place of its own, in the order they
    come from or go to."""
    comes: dict[Item, dict[str, float]] = {}
    goes: dict[Item, dict[str, float]] = {}
    for w in wires:
        far = w.lanes[-1].x if w.lanes else w.source.x + w.source.leave(w.value)
        comes.setdefault(w.target, {}).setdefault(w.value, far)
        far = w.lanes[0].x if w.lanes else w.target.x + w.target.enter(w.value)
        goes.setdefault(w.source, {}).setdefault(w.value, far)
    for item in items:
        for places, found in ((item.entries, comes.get(item)), (item.exits, goes.get(item))):
            if found and len(found) > 1 and item.w and not places:
                for k, value in enumerate(sorted(found, key=found.__getitem__)):
                    places[value] = item.w * (k + 1) / (len(found) + 1)


def _order(rows: list[list[Item]], links: list[_Link]) -> None:
    """Orders each rank by the mean place of its neighbours, sweeping down and up; keeps the order
    with fewest crossings."""
    up: dict[Item, list[Item]] = {}
    down: dict[Item, list[Item]] = {}
    for link in links:
        down.setdefault(link.upper, []).append(link.lower)
        up.setdefault(link.lower, []).append(link.upper)
    best, best_rows = _crossings(rows, down), [list(r) for r in rows]
    for sweep in range(_SWEEPS):
        if best == 0:
            break
        forward = sweep % 2 == 0
        near = up if forward else down
        for k in range(1, len(rows)) if forward else range(len(rows) - 2, -1, -1):
            other = rows[k - 1] if forward else rows[k + 1]
            spot = {item: j / max(len(other), 1) for j, item in enumerate(other)}
            own = {item: j / max(len(rows[k]), 1) for j, item in enumerate(rows[k])}
            mean = {i: sum(spot[n] for n in near[i]) / len(near[i]) if near.get(i) else own[i]
                    for i in rows[k]}  # fmt: skip
            rows[k].sort(key=mean.__getitem__)
        now = _crossings(rows, down)
        if now < best:
            best, best_rows = now, [list(r) for r in rows]
    rows[:] = best_rows


def _crossings(rows: list[list[Item]], down: dict[Item, list[Item]]) -> int:
    """How often links cross between neighbouring ranks, counted by a Fenwick tree."""
    total = 0
    for upper, lower in pairwise(rows):
        spot = {item: j for j, item in enumerate(lower)}
        tree = [0] * (len(lower) + 1)
        seen = 0
        for item in upper:
            targets = sorted(spot[b] for b in down.get(item, []))
            for t in targets:
                k, before = t + 1, 0
                while k:
                    before += tree[k]
                    k &= k - 1
                total += seen - before
            for t in targets:
                k = t + 1
                while k <= len(lower):
                    tree[k] += 1
                    k += k & -k
            seen += len(targets)
    return total


def _place_x(rows: list[list[Item]], links: list[_Link]) -> float:
    """Sets x from left to right; returns the width."""
    up: dict[Item, list[tuple[Item, float, float]]] = {}
    down: dict[Item, list[tuple[Item, float, float]]] = {}
    for k in links:
        down.setdefault(k.upper, []).append((k.lower, -k.shift, k.weight))
        up.setdefault(k.lower, []).append((k.upper, k.shift, k.weight))
    for row in rows:
        x = 0.0
        for item in row:
            item.x = x
            x += item.w + GAP_X
    for sweep in range(2 * _SWEEPS):
        forward = sweep % 2 == 0
        for row in rows if forward else reversed(rows):
            wanted, weights = [], []
            for item in row:
                near = up.get(item, []) + down.get(item, [])
                if sweep < _SWEEPS:
                    near = (up if forward else down).get(item, []) or near
                weight = sum(n[2] for n in near)
                mean = sum((n.x + shift) * k for n, shift, k in near) / weight if weight else item.x
                wanted.append(mean)
                weights.append(weight or 0.1)
            for item, x in zip(row, _apart(row, wanted, weights)):
                item.x = x
    left = min((i.x for row in rows for i in row), default=0.0)
    for row in rows:
        for item in row:
            item.x -= left
    return max((i.x + i.w for row in rows for i in row), default=0.0)


def _gap(a: Item, b: Item) -> float:
    return LANE if a.w == 0 and b.w == 0 else GAP_X if a.w and b.w else (GAP_X + LANE) / 2


def _apart(row: list[Item], wanted: list[float], weights: list[float]) -> list[float]:
    """Places in order, `w` and a gap apart, nearest to the wanted ones in weighted squares."""
    offsets = [0.0]
    for a, b in pairwise(row):
        offsets.append(offsets[-1] + a.w + _gap(a, b))
    blocks: list[tuple[float, float, int]] = []  # mean, weight, members
    for want, offset, weight in zip(wanted, offsets, weights):
        mean, total, size = want - offset, weight, 1
        while blocks and blocks[-1][0] > mean:
            m, w, n = blocks.pop()
            mean, total, size = (mean * total + m * w) / (total + w), total + w, size + n
        blocks.append((mean, total, size))
    shifts = [mean for mean, _, size in blocks for _ in range(size)]
    return [s + o for s, o in zip(shifts, offsets)]


def _place_y(rows: list[list[Item]], above: set[Item], below: set[Item], top: float,
             bottom: float) -> float:  # fmt: skip
    y = top
    for row in rows:
        if any(i in above for i in row):
            continue
        if any(i in below for i in row):
            break
        height = max((i.h for i in row), default=0.0)
        for i in row:
            if i.key:
                i.y = y + (height - i.h) / 2
            else:
                i.y, i.h = y, height
        y += height + GAP_Y
    y += bottom - (GAP_Y if y > top else 0)
    for i in below:
        i.y = y
    return y
