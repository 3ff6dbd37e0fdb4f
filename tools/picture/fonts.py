"""How much room text and boxes take: estimates, since no font is at hand when a picture is made."""

from __future__ import annotations

from .model import Box

PAD = 12.0
TITLE, LINE, SMALL = 13.0, 11.0, 10.0  # font sizes
TITLE_H, LINE_H, CAPTION_H = 24.0, 15.0, 15.0
_WIDTHS = {**dict.fromkeys("iljt.,:;'|!()[]{}/ ", 0.36), **dict.fromkeys("mwMW@", 0.92),
           **dict.fromkeys("ABCDEFGHKNOPQRSTUVXYZ+×→·", 0.72)}  # fmt: skip


def text_width(text: str, size: float) -> float:
    """Width of proportional text, on the safe side."""
    return sum(_WIDTHS.get(c, 0.62) for c in text) * size


def mono_width(text: str, size: float) -> float:
    """Width of fixed-pitch text."""
    return 0.61 * size * len(text)


def box_size(box: Box, caption: bool) -> tuple[float, float]:
    """Width and height of a box."""
    w = text_width(box.title, TITLE)
    h = TITLE_H
    if caption:
        w = max(w, text_width(box.caption, SMALL))
        h += CAPTION_H - 4
    for line in box.lines:
        w = max(w, mono_width(line.text, LINE))
    if box.lines:
        h += LINE_H * len(box.lines) + 8
    return max(w + 2 * PAD, 64.0), h
