"""A drawing as SVG, without any other program: boxes coloured by kind, frames, curved edges.

In: a `Drawing`. Out: SVG 1.1 text that browsers, GitHub and librsvg show alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

from .fonts import CAPTION_H, LINE, LINE_H, PAD, SMALL, TITLE, TITLE_H
from .layout import Frame, Layout, Path, PlacedBox, label_span, layout
from .model import Drawing

# kind -> (header, body, header's text)
COLOURS = {
    "contraction": ("#2f6bb2", "#eef4fc", "#ffffff"),
    "window": ("#0f8b8d", "#eaf7f6", "#ffffff"),
    "reduction": ("#c26a1b", "#fdf3e7", "#ffffff"),
    "indexing": ("#8a6d1f", "#faf5e4", "#ffffff"),
    "random": ("#7b4bab", "#f4eefb", "#ffffff"),
    "pointwise": ("#3d8b4f", "#eef8f0", "#ffffff"),
    "state": ("#a23b58", "#fbeef2", "#ffffff"),
    "shape": ("#68727d", "#f3f5f7", "#ffffff"),
    "layer": ("#3b4652", "#f3f5f7", "#ffffff"),
    "input": ("#20262d", "#20262d", "#ffffff"),
    "output": ("#20262d", "#20262d", "#ffffff"),
}
_STYLE = f"""
  text {{ font-family: "Helvetica Neue", Helvetica, Arial, "DejaVu Sans", sans-serif; }}
  .title {{ font-size: {TITLE}px; font-weight: 600; }}
  .caption {{ font-size: {SMALL}px; }}
  .line {{ font-size: {LINE}px; font-family: Menlo, Consolas, "DejaVu Sans Mono", monospace; }}
  .operand {{ fill: #5c6672; }} .op {{ fill: #20262d; }} .stores {{ fill: #a23b58; }}
  .type {{ font-size: {SMALL}px; font-family: Menlo, Consolas, "DejaVu Sans Mono", monospace;
    fill: #48525d; stroke: #ffffff; stroke-width: 3px; paint-order: stroke; }}
  .layer {{ font-size: {LINE}px; font-weight: 600; fill: #48525d; }}
  .edge {{ fill: none; stroke: #8a949f; stroke-width: 1.4px; }}
""".strip()


def svg(d: Drawing) -> str:
    """The SVG text of a drawing."""
    return render(layout(d))


def render(p: Layout) -> str:
    """The SVG text of a layout."""
    out = [*head(p.width, p.height, p.title, _STYLE),
           '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
           'markerHeight="7" orient="auto"><path d="M0 0.8 L8 4 L0 7.2 z" fill="#8a949f"/>'
           "</marker></defs>"]  # fmt: skip
    out += [_frame(f) for f in p.frames]
    out += [_edge(e) for e in p.paths]
    out += [_box(b) for b in p.boxes]
    out += [_label(e) for e in p.paths if e.label]
    return "\n".join([*out, "</svg>"]) + "\n"


def head(width: float, height: float, title: str, style: str) -> list[str]:
    """The first elements of a picture: size, title, style, a white ground."""
    w, h = f"{width:.0f}", f"{height:.0f}"
    return ['<?xml version="1.0" encoding="UTF-8"?>',
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" '
            f'viewBox="0 0 {w} {h}" role="img">',
            f"<title>{escape(title)}</title>", f"<style>{style}</style>",
            f'<rect width="{w}" height="{h}" rx="8" fill="#ffffff"/>']  # fmt: skip


def text(x: float, y: float, words: str, kind: str, anchor: str = "", fill: str = "") -> str:
    """A line of text at its baseline."""
    more = (f' text-anchor="{anchor}"' if anchor else "") + (f' fill="{fill}"' if fill else "")
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}"{more}>{escape(words)}</text>'


def _frame(f: Frame) -> str:
    ground = "#f7f9fb" if f.depth % 2 else "#eff3f7"
    return (f'<g class="frame"><rect x="{f.x:.1f}" y="{f.y:.1f}" width="{f.w:.1f}" '
            f'height="{f.h:.1f}" rx="10" fill="{ground}" stroke="#c3ccd6" stroke-width="1.2"/>'
            + text(f.x + PAD, f.y + 17, f.name, "layer") + "</g>")  # fmt: skip


def _box(b: PlacedBox) -> str:
    box, x, y, w, h = b.box, b.x, b.y, b.w, b.h
    deep, pale, ink = COLOURS[box.kind]
    top = TITLE_H + (CAPTION_H - 4 if b.caption else 0)
    out = [f'<g class="box {box.kind}"><title>{escape(box.hint or box.title)}</title>']
    radius = h / 2 if box.kind in ("input", "output") and not box.lines else 7
    out.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" rx="{radius:.0f}" '
               f'fill="{pale if box.lines else deep}" stroke="{deep}" stroke-width="1.2"/>')  # fmt: skip
    if box.lines:
        out.append(f'<path d="M{x:.1f} {y + top:.1f} v{7 - top:.1f} a7 7 0 0 1 7 -7 h{w - 14:.1f} '
                   f'a7 7 0 0 1 7 7 v{top - 7:.1f} z" fill="{deep}"/>')  # fmt: skip
    middle, baseline = x + w / 2, y + 16.5
    if b.caption:
        out.append(text(middle, y + 13, box.caption, "caption", "middle", "#e3e9f0"))
        baseline += CAPTION_H - 5
    out.append(text(middle, baseline, box.title, "title", "middle", ink))
    for k, line in enumerate(box.lines):
        out.append(text(x + PAD, y + top + LINE_H * (k + 1), line.text, f"line {line.role}"))
    return "".join([*out, "</g>"])


def _edge(e: Path) -> str:
    end = ' marker-end="url(#arrow)"' if e.arrow else ""
    hint = f"<title>{escape(e.hint)}</title>" if e.hint else ""
    return f'<path d={quoteattr(_curve(e.points))} class="edge"{end}>{hint}</path>'


def _curve(points: Sequence[tuple[float, float]]) -> str:
    """A curve through the points that is vertical at each."""
    (x, y), *rest = points
    out = [f"M{x:.1f} {y:.1f}"]
    for nx, ny in rest:
        if abs(nx - x) < 0.5:
            out.append(f"L{nx:.1f} {ny:.1f}")
        else:
            half = (ny - y) / 2
            out.append(f"C{x:.1f} {y + half:.1f} {nx:.1f} {ny - half:.1f} {nx:.1f} {ny:.1f}")
        x, y = nx, ny
    return " ".join(out)


def _label(e: Path) -> str:
    start, _ = label_span(e.points, e.label)
    return text(start, e.points[0][1] + 15 + 12 * e.drop, e.label, "type")
