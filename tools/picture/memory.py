"""The memory plan of a program: which value lies where in the arena, from which phase to which.

In: a `Program` and numbers for its dimensions. Out: a `MemoryPlan`, as a table or as SVG with the
phases from left to right and the arena from bottom to top.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from xml.sax.saxutils import escape

from ...codegen.kernel.ir import Buffer
from ...codegen.kernel.program import Launch, Program, Slot
from ...dims import Dim, as_sym, evaluate, product
from ...errors import Loc
from .svg import head, text

_WIDE = 64  # phases that a bar of the table shows one by one


@dataclass
class Area:
    """A value in the arena: bytes `[offset, offset + size)` from the phase that writes it first to
    the one that reads it last."""

    label: str
    loc: Loc
    offset: int
    size: int
    first: int
    last: int
    shares: bool = False  # written over a value that ends where this one begins


@dataclass(frozen=True)
class MemoryPlan:
    """See the module docstring. Bytes."""

    name: str
    dims: Mapping[str, int]
    areas: tuple[Area, ...]
    phases: int
    arena: int
    peak: int  # most bytes live at once, which no plan can go below
    prepared: int
    variables: int

    @property
    def separate(self) -> int:
        """What the arena would take if no two values shared memory."""
        return sum(a.size for a in self.areas)

    def live(self, phase: int) -> int:
        """Bytes in use during a phase."""
        return sum(a.size for a in self.areas if a.first <= phase <= a.last)


def memory_plan(p: Program, dims: Mapping[str, int]) -> MemoryPlan:
    """The memory plan of a program at given dimensions."""
    kernels = {k.name: k for k in p.kernels}
    live: dict[Slot, Area] = {}
    areas: list[Area] = []
    for number, phase in enumerate(p.phases):
        for launch in phase.launches:
            kernel = kernels[launch.kernel]
            sizes = _sizes(kernel.params, kernel.dims, launch, dims)
            over = {s: live[s] for s, b in zip(launch.slots, kernel.params)
                    if not b.written and s in live}  # fmt: skip
            for area in over.values():
                area.last = number
            for slot, buffer, size in zip(launch.slots, kernel.params, sizes):
                if buffer.written and slot.kind == "arena":
                    made = Area(launch.label, launch.locs[0], evaluate(slot.at, dims), size, number,
                                number, slot in over)  # fmt: skip
                    live[slot] = made
                    areas.append(made)
    for _, source, _ in p.copies:
        if source in live:
            live[source].last = len(p.phases) - 1
    variables = sum(evaluate(product(a.shape), {}) * a.dtype.itemsize for a in p.variables)
    return MemoryPlan(p.name, dict(dims), tuple(areas), len(p.phases),
                      evaluate(p.arena_bytes, dims), evaluate(p.peak_bytes, dims),
                      p.prepared_bytes, variables)  # fmt: skip


def _sizes(params: tuple[Buffer, ...], symbols: tuple[Dim, ...], launch: Launch,
           dims: Mapping[str, int]) -> list[int]:  # fmt: skip
    known = {as_sym(s).name: evaluate(d, dims) for s, d in zip(symbols, launch.dims)}
    return [evaluate(product(b.shape), known) * b.dtype.itemsize for b in params]


def table(m: MemoryPlan) -> str:
    """The plan as text: sums, then a line per value in order of appearance."""
    at = ", ".join(f"{k} = {v}" for k, v in m.dims.items())
    ratio = f" ({m.arena / m.peak:.2f} x)" if m.peak else ""
    lines = [f"memory plan of {m.name}" + (f" at {at}" if at else ""),
             f"  arena {m.arena:,} bytes, live peak {m.peak:,}{ratio}, "
             f"without reuse {m.separate:,}",
             f"  variables {m.variables:,} bytes, prepared {m.prepared:,}, "
             f"{len(m.areas)} values in {m.phases} phases"]  # fmt: skip
    if not m.areas:
        return "\n".join(lines) + "\n"
    bar = f"phases 0-{m.phases - 1}"
    width = max(len(bar), min(m.phases, _WIDE))
    lines += ["", f"{'offset':>12} {'bytes':>12}  {bar:{width}}  value"]
    for a in m.areas:
        mark = "=" if a.shares else "#"
        shown = ("." * a.first + mark + "#" * (a.last - a.first)).ljust(m.phases, ".")
        if m.phases > _WIDE:
            shown = f"{a.first}-{a.last}"
        place = f"{a.loc}" if a.loc.line else ""
        lines.append(f"{a.offset:12,} {a.size:12,}  {shown:{width}}  {a.label}  {place}".rstrip())
    if any(a.shares for a in m.areas):
        lines.append("  = written over a value that ends there")
    return "\n".join(lines) + "\n"


_STYLE = """
  text { font-family: "Helvetica Neue", Helvetica, Arial, "DejaVu Sans", sans-serif; }
  .title { font-size: 14px; font-weight: 600; fill: #20262d; }
  .note { font-size: 11px; fill: #48525d; }
  .name { font-size: 10px; fill: #20262d; }
""".strip()
_COLOURS = ("#9ec5e8", "#a8d5b5", "#f2c79b", "#cdb5e6", "#f0b3bf", "#a6dadb", "#dcd39a", "#c3ccd6")
_LEFT, _TOP, _RIGHT, _BOTTOM = 78.0, 64.0, 20.0, 40.0


def picture(m: MemoryPlan) -> str:
    """The plan as SVG: a rectangle per value, a line for the live peak."""
    column = max(14.0, min(60.0, 900 / max(m.phases, 1)))
    width, height = column * m.phases, 420.0
    tall = max(m.arena, m.peak, 1)

    def y(at: float) -> float:
        return _TOP + height * (1 - at / tall)

    at = ", ".join(f"{k} = {v}" for k, v in m.dims.items())
    out = head(max(_LEFT + width + _RIGHT, 560), _TOP + height + _BOTTOM, f"memory of {m.name}",
               _STYLE)  # fmt: skip
    out.append(text(20, 26, f"Memory of {m.name}" + (f" at {at}" if at else ""), "title"))
    ratio = f", {m.arena / m.peak:.2f} × the live peak" if m.peak else ""
    sums = (f"arena {bytes_text(m.arena)}{ratio}; without reuse {bytes_text(m.separate)}; "
            f"variables {bytes_text(m.variables)}")  # fmt: skip
    out.append(text(20, 45, sums, "note"))
    out.append(f'<rect x="{_LEFT:.1f}" y="{_TOP:.1f}" width="{width:.1f}" height="{height:.1f}" '
               'fill="#f7f9fb" stroke="#c3ccd6"/>')  # fmt: skip
    for k, a in enumerate(m.areas):
        x, w = _LEFT + column * a.first, column * (a.last - a.first + 1)
        top, h = y(a.offset + a.size), height * a.size / tall
        out.append(f'<g><title>{escape(a.label)}, {a.loc}: {a.size:,} bytes at {a.offset:,}, phases '
                   f'{a.first} to {a.last}</title><rect x="{x:.1f}" y="{top:.1f}" width="{w:.1f}" '
                   f'height="{max(h, 0.6):.2f}" fill="{_COLOURS[k % len(_COLOURS)]}" stroke="#ffffff" '
                   'stroke-width="0.8"/>')  # fmt: skip
        if h > 12 and w > 30:
            room = int((w - 6) / 5.8)
            name = a.label if len(a.label) <= room else a.label[: max(room - 1, 1)] + "…"
            out.append(text(x + 3, top + 10.5, name, "name"))
        out.append("</g>")
    for level, words in ((m.peak, "live peak"), (m.arena, "arena")):
        if words == "arena" or m.peak < 0.97 * m.arena:
            out.append(text(_LEFT - 6, y(level) + 4, bytes_text(level), "note", "end"))
    out.append(f'<path d="M{_LEFT:.1f} {y(m.peak):.1f} h{width:.1f}" stroke="#a23b58" fill="none" '
               'stroke-dasharray="5 3"/>')  # fmt: skip
    out.append(text(_LEFT - 6, y(0) + 4, "0", "note", "end"))
    step = max(1, -(-m.phases // 20))
    for k in range(0, m.phases, step):
        out.append(text(_LEFT + column * (k + 0.5), _TOP + height + 15, str(k), "note", "middle"))
    out.append(text(_LEFT + width / 2, _TOP + height + 31, "phase", "note", "middle"))
    return "\n".join([*out, "</svg>"]) + "\n"


def bytes_text(n: float) -> str:
    """`512 B`, `12.3 kB`, `4.56 MB`: powers of 1000."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= scale:
            return f"{n / scale:.3g} {unit}"
    return f"{n:.0f} B"
