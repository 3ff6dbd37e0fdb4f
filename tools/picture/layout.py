"""Where everything in a picture stands: boxes, the frames of layers around them, and edges.

In: a `Drawing`. Out: a `Layout` in absolute coordinates. Every frame is laid out by itself, inner
ones first, with ports on its border for the values that come in and go out; it then stands in its
surroundings as one item. Frames are runs of the drawing's order, so no level has a cycle.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from .fonts import PAD, SMALL, TITLE, box_size, mono_width, text_width
from .levels import Item, Wire, place
from .model import Box, Drawing

MARGIN, HEAD, FOOT = 16.0, 30.0, 18.0


@dataclass(frozen=True)
class PlacedBox:
    """A box and its upper left corner and size. `caption`: whether its layer is to be named."""

    box: Box
    x: float
    y: float
    w: float
    h: float
    caption: bool


@dataclass(frozen=True)
class Frame:
    """A layer's frame. `depth` 1 is the outermost."""

    name: str
    x: float
    y: float
    w: float
    h: float
    depth: int


@dataclass(frozen=True)
class Path:
    """A piece of an edge; `arrow` where it ends at a box. `label` stands at its beginning, `drop`
    lines lower than it might."""

    points: tuple[tuple[float, float], ...]
    arrow: bool
    label: str
    hint: str
    drop: int = 0


@dataclass(frozen=True)
class Layout:
    """Everything in its place."""

    title: str
    width: float
    height: float
    boxes: tuple[PlacedBox, ...]
    frames: tuple[Frame, ...]
    paths: tuple[Path, ...]


@dataclass(eq=False)
class _Group:
    """A frame with what it holds, and the values that cross its border."""

    name: str
    depth: int
    parent: _Group | None
    item: Item
    members: list[_Group | Box] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    ports_in: dict[str, Item] = field(default_factory=dict)
    ports_out: dict[str, Item] = field(default_factory=dict)
    wires: dict[tuple[Item, Item, str], Wire] = field(default_factory=dict)

    def chain(self) -> Iterator[_Group]:
        """This group and those around it, outwards."""
        group: _Group | None = self
        while group is not None:
            yield group
            group = group.parent


def layout(d: Drawing) -> Layout:
    """Places a drawing."""
    return _Layouter(d).run()


def label_span(points: Sequence[tuple[float, float]], label: str) -> tuple[float, float]:
    """From where to where the label at the beginning of an edge goes: on the side that the edge
    does not turn to."""
    (x, _), (next_x, _), *_ = points
    width = mono_width(label, SMALL)
    return (x - 6 - width, x - 6) if next_x > x + 2 else (x + 6, x + 6 + width)


class _Layouter:
    def __init__(self, d: Drawing) -> None:
        self.d = d
        self.item: dict[str, Item] = {}
        self.home: dict[str, _Group] = {}
        self.groups: list[_Group] = []
        self.caption: dict[str, bool] = {}
        self.labels = {e.value: e.label for e in d.edges}

    def run(self) -> Layout:
        root = self.group("", None)
        self.fill(root, list(self.d.boxes))
        for e in self.d.edges:
            self.connect(e.source, e.target, e.value)
        for g in reversed(self.groups):
            self.place(g)
        root.item.x, root.item.y = MARGIN, MARGIN
        return self.result(root)

    def group(self, name: str, parent: _Group | None) -> _Group:
        depth = 0 if parent is None else parent.depth + 1
        made = _Group(name, depth, parent, Item(f"frame {len(self.groups)}", 0.0, 0.0))
        self.groups.append(made)
        if parent is not None:
            parent.members.append(made)
            parent.items.append(made.item)
        return made

    def fill(self, root: _Group, boxes: list[Box]) -> None:
        """Makes frames of runs of boxes of one layer; a run of one box needs none."""
        work = [(root, boxes, 0)]
        while work:
            group, some, depth = work.pop()
            start = 0
            while start < len(some):
                name = some[start].path[depth] if len(some[start].path) > depth else ""
                end = start + 1
                while name and end < len(some) and some[end].path[depth : depth + 1] == (name,):
                    end += 1
                run = some[start:end]
                if len(run) == len(some) and group.parent is not None and name:
                    group.name += f"/{name}"
                    work.append((group, run, depth + 1))
                elif name and len(run) > 1:
                    work.append((self.group(name, group), run, depth + 1))
                else:
                    self.add(group, run[0], depth)
                start = end

    def add(self, group: _Group, box: Box, depth: int) -> None:
        self.caption[box.key] = bool(box.caption) and box.caption != "/".join(box.path[:depth])
        w, h = box_size(box, self.caption[box.key])
        item = self.item[box.key] = Item(box.key, w, h)
        self.home[box.key] = group
        group.members.append(box)
        group.items.append(item)

    def connect(self, source: str, target: str, value: str) -> None:
        """Wires from box to box, through the border of every frame in between."""
        outer = list(self.home[source].chain())
        inner = list(self.home[target].chain())
        meet = next(g for g in outer if g in inner)
        here, going = self.item[source], []
        for g in outer[: outer.index(meet)]:
            port = g.ports_out.setdefault(value, Item(f"out {value}", 0.0, 0.0))
            self.wire(g, here, port, value)
            here = g.item
        for g in inner[: inner.index(meet)]:
            going.append((g, g.ports_in.setdefault(value, Item(f"in {value}", 0.0, 0.0))))
        group = meet
        for g, port in reversed(going):
            self.wire(group, here, g.item, value)
            group, here = g, port
        self.wire(group, here, self.item[target], value)

    @staticmethod
    def wire(g: _Group, a: Item, b: Item, value: str) -> None:
        g.wires.setdefault((a, b, value), Wire(a, b, value))

    def place(self, g: _Group) -> None:
        """Places the members of a group; its own size and ports follow."""
        above, below = set(g.ports_in.values()), set(g.ports_out.values())
        framed = g.parent is not None
        items = [*g.items, *g.ports_in.values(), *g.ports_out.values()]
        width, height = place(items, list(g.wires.values()), above, below,
                              HEAD if framed else 0.0, FOOT if framed else 0.0)  # fmt: skip
        left, right = 0.0, max(width, text_width(g.name, TITLE) if framed else 0.0)
        for w in g.wires.values():
            if w.source.key in self.item:  # its label stands beside its beginning
                low, high = label_span(w.points, self.labels[w.value])
                left, right = min(left, low), max(right, high)
        shift = (PAD + 4 if framed else 0.0) - left
        g.item.w, g.item.h = right + shift + (PAD + 4 if framed else 0.0), height
        for i in items:
            i.x += shift
        for w in g.wires.values():
            w.points = [(x + shift, y) for x, y in w.points]
        g.item.entries = {v: i.x for v, i in g.ports_in.items()}
        g.item.exits = {v: i.x for v, i in g.ports_out.items()}

    def result(self, root: _Group) -> Layout:
        boxes: list[PlacedBox] = []
        frames: list[Frame] = []
        paths: list[Path] = []
        labelled: set[str] = set()
        drop: dict[Item, int] = {}
        for g in self.groups:  # outer ones come first
            x, y = g.item.x, g.item.y
            if g.parent is not None:
                x, y = x + g.parent.item.x, y + g.parent.item.y
                g.item.x, g.item.y = x, y
                frames.append(Frame(g.name, x, y, g.item.w, g.item.h, g.depth))
            for w in g.wires.values():
                first = w.source.key in self.item and w.value not in labelled
                if first:
                    labelled.add(w.value)
                    drop[w.source] = drop.get(w.source, -1) + 1
                points = tuple((px + x, py + y) for px, py in w.points)
                label = self.labels[w.value]
                paths.append(Path(points, w.target.key in self.item, label if first else "", label,
                                  drop[w.source] % 3 if first else 0))  # fmt: skip
            for m in g.members:
                if isinstance(m, Box):
                    i = self.item[m.key]
                    boxes.append(PlacedBox(m, x + i.x, y + i.y, i.w, i.h, self.caption[m.key]))
        return Layout(self.d.title, root.item.w + 2 * MARGIN, root.item.h + 2 * MARGIN,
                      tuple(boxes), tuple(frames), tuple(paths))  # fmt: skip
