"""The memory plan of a program: which value lies where in the arena, from which phase to which.

In: a `Program` and numbers for its dimensions. Out: a `MemoryPlan`, as a table or as SVG with the
phases from left to right and the arena from bottom to top. The phases of a loop are there once; what
its turns store is one area.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from xml.sax.saxutils import escape

from ...codegen.kernel.ir import Buffer
from ...codegen.kernel.program import (
    Copy,
    Launch,
    Measure,
    Phase,
    Program,
    Repeat,
    Slot,
    Step,
    blocks,
    walk,
)
from ...dims import Dim, as_sym, evaluate, free_symbols, product
from ...dtypes import int64
from ...errors import UNKNOWN, Loc
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
    areas = _Walk(p, dims).areas()
    variables = sum(evaluate(product(a.shape), {}) * a.dtype.itemsize for a in p.variables)
    return MemoryPlan(p.name, dict(dims), tuple(areas), len(p.phases),
                      evaluate(p.arena_bytes, dims), evaluate(p.peak_bytes, dims),
                      p.prepared_bytes, variables)  # fmt: skip


@dataclass(frozen=True)
class _Loop:
    """A loop around the phase at hand: its counter, turns, first and last phase."""

    counter: str
    turns: int
    first: int
    last: int


class _Walk:
    """Finds the areas of a program: goes through its steps and remembers what lies where."""

    def __init__(self, p: Program, dims: Mapping[str, int]) -> None:
        self.program, self.dims = p, p.room(dims)
        self.kernels = {k.name: k for k in p.kernels}
        self.loops: list[_Loop] = []
        self.live: dict[tuple[int, int], Area] = {}
        self.found: list[Area] = []
        self.now = 0

    def areas(self) -> list[Area]:
        self.steps(self.program.body)
        return self.found

    def steps(self, steps: tuple[Step, ...]) -> None:
        for s in steps:
            if isinstance(s, Phase):
                for launch in s.launches:
                    self.launch(launch)
                self.now += 1
            elif isinstance(s, Copy):
                size = evaluate(s.bytes, self.dims)
                self.read(s.source, size)
                if self.place(s.to, size) in self.live or self.loops:
                    self.write(s.to, size, "copy", UNKNOWN)
            elif isinstance(s, Measure):
                self.read(s.source, int64.itemsize)
            elif isinstance(s, Repeat):
                last = self.now + sum(isinstance(x, Phase) for x in walk(s.body)) - 1
                turns = 2 if s.count is None else evaluate(s.count, self.dims)
                self.loops.append(_Loop(as_sym(s.counter).name, turns, self.now, last))
                self.steps(s.body)
                self.loops.pop()
            else:
                for block in blocks(s):
                    self.steps(block)

    def launch(self, launch: Launch) -> None:
        kernel = self.kernels[launch.kernel]
        sizes = _sizes(kernel.params, kernel.dims, launch, self.dims)
        slots = list(zip(launch.slots, kernel.params, sizes))
        over = {self.place(s, n) for s, b, n in slots if not b.written}
        for slot, buffer, size in slots:
            if not buffer.written:
                self.read(slot, size)
        for slot, buffer, size in slots:
            if buffer.written:
                self.write(slot, size, launch.label, launch.locs[0], over)

    def read(self, slot: Slot, size: int) -> None:
        known = self.live.get(self.place(slot, size))
        if known is not None:
            self.extend(known, self.span(slot))

    def write(self, slot: Slot, size: int, label: str, loc: Loc,
              over: Collection[tuple[int, int]] = ()) -> None:  # fmt: skip
        """What is stored is a new area, unless it is stored again at every turn of a loop."""
        if slot.kind != "arena":
            return
        place, span = self.place(slot, size), self.span(slot)
        known = self.live.get(place)
        again = known is not None and known.last >= span[0] and (
            span[0] < span[1] or any(known.first < x.first for x in self.loops))  # fmt: skip
        if known is None or not again:
            known = Area(label, loc, place[0], place[1] - place[0], *span, place in over)
            self.took_over(known)
            self.live[place] = known
            self.found.append(known)
        self.extend(known, span)

    def took_over(self, made: Area) -> None:
        """What a loop begins with lies in a part of what its turns store: it lasts until then."""
        for old in self.live.values():
            inside = made.offset <= old.offset < made.offset + made.size
            if inside and old.size < made.size and old.last < made.first:
                old.last = made.first - 1

    def extend(self, area: Area, span: tuple[int, int]) -> None:
        """An area is in use in a span of phases, and in all turns of loops that it is older than."""
        area.first, area.last = min(area.first, span[0]), max(area.last, span[1])
        for x in self.loops:
            if area.first < x.first:
                area.last = max(area.last, x.last)

    def span(self, slot: Slot) -> tuple[int, int]:
        """The phases for which memory is in use by an access now: where it is another place at
        every turn of a loop, all of the loop."""
        used = {s.name for s in free_symbols(slot.at)}
        loop = next((x for x in self.loops if x.counter in used), None)
        return (self.now, self.now) if loop is None else (loop.first, loop.last)

    def place(self, slot: Slot, size: int) -> tuple[int, int]:
        """The bytes of the arena that a slot means in some turn of the loops around."""
        if slot.kind != "arena":
            return (-1, -1)
        used = {s.name for s in free_symbols(slot.at)}
        inside = {x.counter: x.turns for x in self.loops}
        names = [s for s in used if s not in self.dims]
        ends = [sorted({0, 1, max(inside.get(s, 2) - 1, 0)}) for s in names]
        offsets = [evaluate(slot.at, {**self.dims, **dict(zip(names, turn))})
                   for turn in itertools.product(*ends)]  # fmt: skip
        return min(offsets), max(offsets) + size


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
