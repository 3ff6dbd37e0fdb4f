"""A line chart as SVG text: numbers in, a picture out."""

from __future__ import annotations

from collections.abc import Sequence

WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 36, 44


def curve(values: Sequence[float], title: str, step: str) -> str:
    """`values` over their index, with a running mean; axes from 0 to the largest value."""
    top = max([v for v in values if v == v], default=1.0) or 1.0
    count = max(len(values) - 1, 1)

    def x(k: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * k / count

    def y(v: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - v / top)

    def line(points: Sequence[float], style: str) -> str:
        path = " ".join(f"{x(k):.1f},{y(v):.1f}" for k, v in enumerate(points))
        return f'<polyline fill="none" {style} points="{path}"/>'

    smooth: list[float] = []
    for v in values:
        smooth.append(v if not smooth else 0.95 * smooth[-1] + 0.05 * v)
    marks = [
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(v):.1f}" y2="{y(v):.1f}" '
        f'stroke="#e4e4e4"/><text x="{LEFT - 8}" y="{y(v) + 4:.1f}" text-anchor="end">{v:.2g}</text>'
        for v in (top * k / 4 for k in range(5))
    ]
    marks += [
        f'<text x="{x(k):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{k}</text>'
        for k in sorted({round(count * k / 4) for k in range(5)})
    ]
    body = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12" fill="#333">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="15">{title}</text>',
        *marks,
        line(values, 'stroke="#b7cbe6" stroke-width="1"'),
        line(smooth, 'stroke="#1f5fae" stroke-width="2"'),
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 8}" text-anchor="end">{step}</text>',
        "</svg>",
    ]
    return "\n".join(body) + "\n"
