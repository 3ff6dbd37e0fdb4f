"""A page that holds all there is to see of a compilation, in one HTML file without scripts from
elsewhere: the picture (drag to move, wheel to zoom), the memory plan, the decisions, the text by
layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

from ...graph.ir import Function
from ...graph.printer import show

_STYLE = """
body { margin: 0; font: 14px/1.45 "Helvetica Neue", Helvetica, Arial, sans-serif; color: #20262d; }
header { padding: 10px 20px; background: #20262d; color: #fff; }
header h1 { font-size: 17px; margin: 0; }
nav a { color: #9ec5e8; margin-right: 16px; text-decoration: none; }
section { padding: 14px 20px; border-bottom: 1px solid #dde3e9; }
h2 { font-size: 15px; margin: 0 0 8px; }
.picture { height: 76vh; overflow: hidden; border: 1px solid #c3ccd6; border-radius: 8px;
  cursor: grab; background: #fff; touch-action: none; }
.picture svg { transform-origin: 0 0; }
pre { font: 12px/1.4 Menlo, Consolas, "DejaVu Sans Mono", monospace; margin: 4px 0 8px;
  overflow-x: auto; background: #f7f9fb; padding: 8px 12px; border-radius: 6px; }
summary { cursor: pointer; font-weight: 600; }
"""
_SCRIPT = """
for (const box of document.querySelectorAll('.picture')) {
  const svg = box.querySelector('svg');
  let x = 0, y = 0, k = Math.min(1, box.clientWidth / svg.width.baseVal.value), from = null;
  const draw = () => { svg.style.transform = `translate(${x}px,${y}px) scale(${k})`; };
  box.addEventListener('wheel', e => {
    e.preventDefault();
    const r = box.getBoundingClientRect(), f = Math.exp(-e.deltaY / 500);
    x = e.clientX - r.left - f * (e.clientX - r.left - x);
    y = e.clientY - r.top - f * (e.clientY - r.top - y);
    k *= f; draw();
  }, { passive: false });
  box.addEventListener('pointerdown', e => { from = [e.clientX - x, e.clientY - y];
    box.setPointerCapture(e.pointerId); });
  box.addEventListener('pointermove', e => { if (from) { x = e.clientX - from[0];
    y = e.clientY - from[1]; draw(); } });
  box.addEventListener('pointerup', () => { from = null; });
  draw();
}
"""


@dataclass(frozen=True)
class Section:
    """A part of a page: a picture (SVG text), or HTML."""

    title: str
    body: str
    picture: bool = False


def page(title: str, sections: Sequence[Section]) -> str:
    """The HTML text of a page."""
    links = "".join(f'<a href="#s{k}">{escape(s.title)}</a>' for k, s in enumerate(sections))
    out = ["<!DOCTYPE html>", '<html lang="en"><head><meta charset="utf-8">',
           f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
           f"<header><h1>{escape(title)}</h1><nav>{links}</nav></header>"]  # fmt: skip
    for k, s in enumerate(sections):
        body = s.body
        if s.picture:
            body = f'<div class="picture">{body[body.index("<svg") :]}</div>'
        out.append(f'<section id="s{k}"><h2>{escape(s.title)}</h2>{body}</section>')
    return "\n".join([*out, f"<script>{_SCRIPT}</script></body></html>"]) + "\n"


def preformatted(text: str) -> str:
    """Text as it is."""
    return f"<pre>{escape(text)}</pre>"


def by_layer(function: Function) -> str:
    """The text of a function, folded by layer: usable however many nodes it has."""
    lines = show(function).splitlines()
    out = []
    for layer, some in groupby(lines, _layer):
        part = list(some)
        text = preformatted("\n".join(part))
        if layer:
            count = f"{len(part)} line" + ("s" if len(part) > 1 else "")
            text = f"<details><summary>{escape(layer)} ({count})</summary>{text}</details>"
        out.append(text)
    return "".join(out)


def _layer(line: str) -> str:
    """The layer a line of text ends with."""
    _, found, place = line.rpartition(" @")
    return place.split('"')[1] if found and place.count('"') == 2 else ""
