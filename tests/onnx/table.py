"""The table of ONNX operators in `docs/onnx-operators.md`, made from a run of the official tests.

`.env/bin/python -m pytest` compares with it; `.env/bin/python tests/onnx/table.py` writes it anew
(two minutes). Each row has an operator, the opsets at which ONNX changed it, who converts it, how
many of its tests in scope pass, and which do not, by name and reason.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from flowmill.graph.formats.onnx import registry  # noqa: E402
from onnx import defs  # noqa: E402

from tests.onnx import suite  # noqa: E402

FILE = ROOT / "docs" / "onnx-operators.md"
HEAD = """# ONNX operators

What `fm.onnx.load` reads: the operators of ai.onnx in onnx {version}, and how many of the official
tests whose types are plain tensors pass, by the suite's own tolerances. Written by
`python tests/onnx/table.py`; a test compares the present state with it.

"own" is an operator that flowmill converts, from the given opset on where it is not the first;
"function" one that ONNX defines by others, which are converted in its place.

{passed} of {total} tests in scope pass. {others} cases of the node and simple sets are out of scope:
they need sequences, optionals, strings, 4-bit or 8-bit floats, other domains or decoded images. Of
results that are drawn at random the suite can only judge type, shape and which values occur. These
are excepted, onnxruntime fails them too:

{excepted}

| Operator | Opsets | Converted | Passed | Not passed |
|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Row:
    """What the table says of an operator's tests: how many pass, and which do not."""

    passed: int
    failing: tuple[str, ...]


def groups() -> dict[str, list[suite.Case]]:
    """The cases in scope by the operator they test, or by their set."""
    found: dict[str, list[suite.Case]] = {}
    for case in suite.cases():
        if suite.scope(case) is None:
            found.setdefault(suite.tested(case), []).append(case)
    return found


def recorded() -> dict[str, Row]:
    """The rows of the file that have tests."""
    rows: dict[str, Row] = {}
    for line in FILE.read_text(encoding="utf-8").splitlines():
        cells = [c.strip() for c in line.strip("|").split("|")]
        if len(cells) == 5 and cells[3].partition("/")[0].strip().isdigit():
            names = tuple(part.partition(":")[0] for part in cells[4].split("<br>") if part)
            rows[cells[0].strip("`")] = Row(int(cells[3].partition("/")[0]), names)
    return rows


def _failures(cases: list[suite.Case]) -> list[tuple[str, str]]:
    found = [(c.name, suite.failure(c)) for c in cases]
    return [(name, reason) for name, reason in found if reason is not None]


def _converted(name: str) -> str:
    """Who converts an operator."""
    entries = registry.CONVERTERS.get(("", name), [])
    since = {s.since_version for s in _history(name)}
    if entries:
        first = min(e.since for e in entries)
        return "own" if first <= min(since) else f"own, from {first}"
    newest = max(_history(name), key=lambda s: s.since_version)
    if newest.has_function or newest.has_context_dependent_function:
        return "function"
    return ""


def _history(name: str) -> list[defs.OpSchema]:
    return [s for s in defs.get_all_schemas_with_history() if s.domain == "" and s.name == name]


def lines(results: dict[str, list[tuple[str, str]]]) -> Iterable[str]:
    """The rows, for the failures of each group of tests."""
    registry.load_all()
    cases = groups()
    names = {s.name for s in defs.get_all_schemas_with_history() if s.domain == ""}
    for name in (*sorted(set(cases) - names), *sorted(names)):
        failing = results.get(name, [])
        total = len(cases.get(name, []))
        opsets = converted = ""
        if name in names:
            opsets = ", ".join(str(v) for v in sorted({s.since_version for s in _history(name)}))
            converted = _converted(name)
        passed = f"{total - len(failing)}/{total}" if total else ""
        why = "<br>".join(f"{n}: {_short(reason)}" for n, reason in failing)
        label = f"`{name}`" if name in names else name
        yield f"| {label} | {opsets} | {converted} | {passed} | {why} |\n"


def _short(reason: str) -> str:
    told = " ".join(reason.replace("|", "/").split())
    return told if len(told) <= 160 else told[:157] + "..."


def main() -> None:
    cases = groups()
    with ProcessPoolExecutor(2) as pool:
        results = dict(zip(cases, pool.map(_failures, cases.values())))
    total = sum(map(len, cases.values()))
    passed = total - sum(map(len, results.values()))
    from onnx import __version__

    listed = "\n".join(f"- {name}: {why}" for name, why in suite.EXCEPTED.items())
    others = len(suite.cases()) - total
    head = HEAD.format(version=__version__, passed=passed, total=total, others=others,
                       excepted=listed)  # fmt: skip
    FILE.write_text(head + "".join(lines(results)), encoding="utf-8")
    print(f"{passed} of {total} pass")


if __name__ == "__main__":
    main()
