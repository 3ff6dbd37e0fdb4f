"""A drawing in Graphviz's language: the boxes, frames and edges that `svg` draws itself."""

from __future__ import annotations

from graphviz import Digraph, ExecutableNotFound
from graphviz.backend import CalledProcessError
from graphviz.quoting import escape

from ...errors import ConfigError, InternalError
from .model import Box, Drawing
from .svg import COLOURS


def dot(d: Drawing) -> str:
    """The DOT text of a drawing; layers are clusters."""
    return str(digraph(d).source)


def rendered(d: Drawing) -> str:
    """The drawing as SVG by Graphviz's `dot`. ConfigError where that is not installed."""
    try:
        return str(digraph(d).pipe(format="svg", encoding="utf-8"))
    except ExecutableNotFound:
        raise ConfigError("the program `dot` is not installed",
                          "leave --engine out: flowmill lays pictures out itself",
                          "or install it: apt install graphviz") from None  # fmt: skip
    except CalledProcessError as e:
        raise InternalError(f"dot refuses the picture: {e}") from None


def digraph(d: Drawing) -> Digraph:
    """The drawing as an object of the `graphviz` package."""
    out = Digraph(d.title, comment=d.title)
    out.attr("graph", rankdir="TB", fontname="Helvetica", fontsize="11")
    out.attr("node", shape="box", style="rounded,filled", fontname="Helvetica", fontsize="11")
    out.attr("edge", fontname="Courier", fontsize="9", color="#8a949f")
    _fill(out, list(d.boxes), 0, "")
    for e in d.edges:
        out.edge(e.source, e.target, label=escape(e.label))
    return out


def _fill(graph: Digraph, boxes: list[Box], depth: int, prefix: str) -> None:
    """Boxes in order; runs of one layer inside a cluster."""
    start, clusters = 0, 0
    while start < len(boxes):
        name = boxes[start].path[depth] if len(boxes[start].path) > depth else ""
        end = start + 1
        while name and end < len(boxes) and boxes[end].path[depth : depth + 1] == (name,):
            end += 1
        if name:
            inner = f"{prefix}_{clusters}"
            clusters += 1
            with graph.subgraph(name=f"cluster{inner}") as c:
                c.attr(label=escape(name), style="rounded", color="#c3ccd6")
                _fill(c, boxes[start:end], depth + 1, inner)
        else:
            _node(graph, boxes[start])
        start = end


def _node(graph: Digraph, box: Box) -> None:
    deep, pale, _ = COLOURS[box.kind]
    dark = box.kind in ("input", "output")
    label = "\n".join([box.title, *(line.text for line in box.lines)])
    graph.node(box.key, escape(label).replace("\n", "\\n"), color=deep, tooltip=escape(box.hint),
               fillcolor=deep if dark else pale, fontcolor="white" if dark else "black")  # fmt: skip
