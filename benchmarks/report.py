"""Results as Markdown tables, and tables into documents between their markers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from rounds import Measured


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, first column left, the others right; columns padded for terminals."""
    widths = [max(len(r[k]) for r in (head, *rows)) for k in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        first, *rest = (c.ljust(w) if k == 0 else c.rjust(w)
                        for k, (c, w) in enumerate(zip(cells, widths)))  # fmt: skip
        return "| " + " | ".join([first, *rest]) + " |"

    rule = ["-" * w if k == 0 else "-" * (w - 1) + ":" for k, w in enumerate(widths)]
    return "\n".join([line(head), line(rule), *(line(r) for r in rows)])


def seconds(t: float) -> str:
    """Microseconds or milliseconds, three figures."""
    return f"{t * 1e6:.3g} us" if t < 1e-3 else f"{t * 1e3:.3g} ms"


def amount(m: Measured, t: float) -> str:
    """A rate where the work is known, else a time."""
    return f"{m.case.work / t / 1e9:.0f}" if m.case.work and t > 0 else seconds(t)


def measured(found: Sequence[Measured], peers: Sequence[str], target: float, unit: str) -> str:
    """One row per case: median (best) of everybody, and flowmill over the best peer. `unit` is that
    of rates."""
    if not all(m.case.work for m in found):
        unit = "time"
    head = ["threads", "case", *(f"{p}" for p in peers), "ratio", "ratio of bests", "best peer",
            "error"]  # fmt: skip
    rows = []
    for m in found:
        cells = []
        for p in peers:
            if p in m.median:
                cells.append(f"{amount(m, m.median[p])} ({amount(m, m.best[p])})")
            else:
                cells.append("failed" if p in m.failed else "-")
        r, b = m.ratio(), m.ratio("best")
        low = "" if r is None or r >= target else " <"
        error = max(m.error.values(), default=0.0)
        rows.append([str(m.threads), m.case.name, *cells, "-" if r is None else f"{r:.2f}{low}",
                     "-" if b is None else f"{b:.2f}", m.best_peer(), f"{error:.0e}"])  # fmt: skip
    notes = [f"- {m.case.name}, {m.threads} threads, {p}: {why}" for m in found
             for p, why in m.failed.items()]  # fmt: skip
    text = (f"{unit}, median (best); ratio: flowmill's speed over the best peer's"
            f" (`<` marks less than the target, {target:g}).\n\n{table(head, rows)}")  # fmt: skip
    return text + ("\n\n" + "\n".join(notes) if notes else "")


def replace(path: Path, name: str, text: str) -> bool:
    """Puts `text` between `<!-- NAME -->` and `<!-- end NAME -->` of a document."""
    document = path.read_text(encoding="utf-8")
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)", re.S)
    changed, count = pattern.subn(lambda m: f"{m[1]}\n{text}\n\n{m[2]}", document)
    if count:
        part = path.with_suffix(".part")
        part.write_text(changed, encoding="utf-8")
        part.replace(path)
    return bool(count)
