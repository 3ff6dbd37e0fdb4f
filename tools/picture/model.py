"""What a picture of a graph shows: boxes, edges and the layers they stand in.

In: a `Function` before or after any pass. Out: a `Drawing`, for `svg`, `dot` and `page`. Variables
and constants are lines in the boxes that read them, and an update is a line in the box that
computes it, so that what remains is the flow of values. A fused group is one box with a line per
op. Boxes come in a topological order that keeps layers together: every run of boxes of one layer
can be drawn as a frame, or collapsed to one box, without making a cycle.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any

from ...errors import UNKNOWN, Loc
from ...graph.ir import Function, Node, Value
from ...graph.ops.base import Op
from ...graph.ops.fused import Fused
from ...graph.ops.source import Constant, Input, Variable

LIMIT = 250  # boxes in a picture that is still readable

# module of an op's family -> the kind of box it makes; the first kind in a fused group counts
_KINDS = {
    "convolution": "contraction", "linalg": "contraction", "recurrent": "contraction",
    "pooling": "window", "reduce": "reduction", "softmax": "reduction", "indexing": "indexing",
    "random": "random", "state": "state", "effects": "state", "pointwise": "pointwise",
    "elementary": "pointwise", "activation": "pointwise",
}  # fmt: skip
KINDS = ("contraction", "window", "reduction", "indexing", "random", "pointwise", "state", "shape",
         "layer", "input", "output")  # fmt: skip

# attribute -> the values that say nothing
_USUAL: dict[str, set[int]] = {
    **{name: {0} for name in ("pads_before", "pads_after", "before", "after", "starts")},
    **{name: {1} for name in ("strides", "dilations", "steps", "groups")},
}


@dataclass(frozen=True)
class Line:
    """A line inside a box: an op of a group, an operand held in memory, or a variable set."""

    text: str
    role: str = "op"  # op, operand, stores


@dataclass(frozen=True)
class Box:
    """Something computed. `path` is the layer it belongs to, outermost first."""

    key: str
    title: str
    kind: str
    path: tuple[str, ...] = ()
    caption: str = ""  # the layer's name, where the box stands for all of it
    lines: tuple[Line, ...] = ()
    hint: str = ""


@dataclass(frozen=True)
class Edge:
    """A value on its way: from box to box, with its type. `value` is the same for all edges that
    carry one value."""

    source: str
    target: str
    label: str
    value: str


@dataclass(frozen=True)
class Drawing:
    """Boxes in a topological order that keeps layers together, and the edges between them."""

    title: str
    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]


def drawing(function: Function, limit: int = LIMIT, note: str = "") -> Drawing:
    """The drawing of a function, layers collapsed as far as `limit` boxes ask for."""
    made = _Maker(function).run()
    title = f"{function.name}{' · ' + note if note else ''}"
    return collapsed(replace(made, title=title), limit)


class _Maker:
    def __init__(self, function: Function) -> None:
        self.function = function
        self.boxes: dict[str, Box] = {}
        self.edges: dict[tuple[str, str, str], Edge] = {}
        self.key_of: dict[Node, str] = {}

    def run(self) -> Drawing:
        fn = self.function
        stores: dict[Value, list[str]] = {}
        for variable, new in fn.updates:
            stores.setdefault(new, []).append(_label(variable))
        nodes = fn.nodes()
        for k, n in enumerate(nodes):
            if not isinstance(n.op, Variable | Constant):
                self.key_of[n] = f"n{k}"
                self.boxes[f"n{k}"] = self.box(f"n{k}", n, stores)
        for v in fn.inputs:
            if v.node not in self.key_of:
                key = f"i{len(self.boxes)}"
                self.key_of[v.node] = key
                self.boxes[key] = self.box(key, v.node, stores)
        for n in nodes:
            for v in n.inputs:
                self.edge(v, self.key_of.get(n, ""))
        ends = [(f"o{k}", name, v, "output") for k, (name, v) in enumerate(fn.outputs)]
        held = [(v, new) for v, new in fn.updates if new.node not in self.key_of]
        ends += [(f"u{k}", f"store {_label(v)}", new, "state") for k, (v, new) in enumerate(held)]
        for key, name, v, kind in ends:
            lines = () if v.node in self.key_of else (Line(_operand(v), "operand"),)
            self.boxes[key] = Box(key, name, kind, (), "", lines, f"{name}: {v.type}")
            self.edge(v, key)
        keys = _layers_together(list(self.boxes.values()), list(self.edges.values()))
        return Drawing("", tuple(self.boxes[k] for k in keys), tuple(self.edges.values()))

    def edge(self, v: Value, target: str) -> None:
        source = self.key_of.get(v.node)
        if source and target:
            value = f"{source}.{v.index}"
            self.edges.setdefault((source, target, value), Edge(source, target, str(v.type), value))

    def box(self, key: str, n: Node, stores: dict[Value, list[str]]) -> Box:
        if isinstance(n.op, Input):
            return Box(key, n.op.input_name, "input", (), "", (), f"input {n.types[0]}, {n.loc}")
        path = tuple(part for part in n.loc.layer.split("/") if part)
        lines: list[Line] = []
        if isinstance(n.op, Fused):
            inner = [m for m in n.op.function.nodes() if not isinstance(m.op, Input | Constant)]
            kind = min((_kind(m.op) for m in inner), key=KINDS.index, default="shape")
            working = [m for m in inner if _kind(m.op) != "shape"] or inner
            names = dict.fromkeys(m.op.name for m in working)
            title = _shortened(" + ".join(names) or n.op.function.name, 34)
            if len(inner) > 1:
                lines = [Line(f"{m.op.name}{attributes(m.op)}") for m in inner]
            elif inner:
                lines = _attribute_lines(inner[0].op)
        else:
            title, kind, lines = n.op.name, _kind(n.op), _attribute_lines(n.op)
        for v in dict.fromkeys(n.inputs):
            if isinstance(v.node.op, Variable | Constant):
                lines.append(Line(_operand(v), "operand"))
        for v in n.outputs:
            lines += [Line(f"→ {name}", "stores") for name in stores.get(v, [])]
        places = [str(loc) for loc in n.locs if loc is not UNKNOWN]
        types = ", ".join(str(t) for t in n.types)
        return Box(key, title, kind, path, _layers(n.locs), tuple(lines),
                   "\n".join([f"{title}: {types}", *places]))  # fmt: skip


def _kind(op: Op) -> str:
    return _KINDS.get(type(op).__module__.rpartition(".")[2], "shape")


def _label(v: Value) -> str:
    op = v.node.op
    return op.variable_name if isinstance(op, Variable) else (v.name or repr(v.node))


def _operand(v: Value) -> str:
    op = v.node.op
    if isinstance(op, Constant):
        array = op.data.array
        return f"{array.reshape(-1)[0]:.6g}" if array.size == 1 else f"constant {v.type}"
    return f"{_label(v)} {v.type}"


def _layers(locs: Sequence[Loc]) -> str:
    """The layers a box stands for."""
    return ", ".join(dict.fromkeys(loc.layer for loc in locs if loc.layer))


def _attribute_lines(op: Op) -> list[Line]:
    text = attributes(op).strip()
    return [Line(text)] if text else []


def attributes(op: Op) -> str:
    """What is not as usual about an op, in a few words, with a space in front. Sizes of results,
    steps of 1 and paddings of 0 go without saying."""
    parts = []
    for f in fields(op):  # type: ignore[arg-type]
        value = getattr(op, f.name)
        text = _attribute(value)
        usual = set(value if isinstance(value, tuple) else (value,)) <= _USUAL.get(f.name, set())
        if text and not usual and (f.default is MISSING or value != f.default):
            parts.append(f"{f.name} {text}")
    pads = [part.partition(" ")[2] for part in parts if part.startswith("pads_")]
    if len(pads) == 2 and pads[0] == pads[1]:
        parts = [part for part in parts if not part.startswith("pads_")] + [f"pads {pads[0]}"]
    return " " + _shortened(", ".join(parts), 40) if parts else ""


def _attribute(value: Any) -> str:
    if isinstance(value, bool | int | str):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple) and all(isinstance(x, int | tuple) for x in value):
        return "×".join(
            _attribute(x) if isinstance(x, int) else f"({_attribute(x)})" for x in value
        )
    return ""


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip(" ,+") + "…"


def _layers_together(boxes: list[Box], edges: list[Edge]) -> list[str]:
    """A topological order that goes on within a layer, or near it, as long as it can."""
    path = {b.key: b.path for b in boxes}
    rank = {b.key: k for k, b in enumerate(boxes)}
    waiting = dict.fromkeys(path, 0)
    users: dict[str, list[str]] = {k: [] for k in path}
    for e in edges:
        waiting[e.target] += 1
        users[e.source].append(e.target)
    ready: dict[tuple[str, ...], list[tuple[int, str]]] = {}
    done: set[str] = set()

    def add(key: str) -> None:
        for depth in range(len(path[key]) + 1):
            heapq.heappush(ready.setdefault(path[key][:depth], []), (rank[key], key))

    def take(here: tuple[str, ...]) -> str:
        for depth in range(len(here), -1, -1):
            heap = ready.get(here[:depth], [])
            while heap:
                key = heapq.heappop(heap)[1]
                if key not in done:
                    return key
        return ""

    for b in boxes:
        if not waiting[b.key]:
            add(b.key)
    order: list[str] = []
    here: tuple[str, ...] = ()
    while key := take(here):
        done.add(key)
        order.append(key)
        if path[key]:
            here = path[key]
        for user in users[key]:
            waiting[user] -= 1
            if not waiting[user]:
                add(user)
    return order


def collapsed(d: Drawing, limit: int) -> Drawing:
    """`d` with its deepest layers, then more, as one box each, until `limit` boxes are left; where
    layers do not suffice, with stretches of boxes as one."""
    depth = max((len(b.path) for b in d.boxes), default=0)
    made = d
    while len(made.boxes) > limit and depth > 0:
        made = _merged(d, [b.path[:depth] if len(b.path) >= depth else (b.key,) for b in d.boxes])
        depth -= 1
    if len(made.boxes) > limit:
        size = -(-len(made.boxes) // limit)
        made = _merged(made, [(str(k // size),) for k in range(len(made.boxes))], stretch=True)
    return made


def _merged(d: Drawing, groups: list[tuple[str, ...]], stretch: bool = False) -> Drawing:
    """`d` with each run of boxes of one group as one box."""
    new: dict[str, str] = {}
    runs: list[tuple[tuple[str, ...], list[Box]]] = []
    for k, b in enumerate(d.boxes):
        if k and groups[k] == groups[k - 1] and b.kind not in ("input", "output"):
            runs[-1][1].append(b)
        else:
            runs.append((groups[k], [b]))
        new[b.key] = runs[-1][1][0].key
    boxes = []
    for group, run in runs:
        if len(run) == 1:
            boxes.append(run[0])
            continue
        counts = Counter(b.title for b in run)
        ops = ", ".join(f"{name} ×{n}" if n > 1 else name for name, n in counts.most_common(4))
        path = () if stretch else group
        name = path[-1] if path else run[0].title + " …"
        lines = (Line(f"{len(run)} boxes"), Line(_shortened(ops, 44)))
        boxes.append(Box(run[0].key, name, "layer", path[:-1], "", lines,
                         "\n".join(b.title for b in run[:40])))  # fmt: skip
    edges = {}
    for e in d.edges:
        ends = new[e.source], new[e.target]
        if ends[0] != ends[1]:
            edges[(*ends, e.value)] = Edge(*ends, e.label, e.value)
    return Drawing(d.title, tuple(boxes), tuple(edges.values()))
