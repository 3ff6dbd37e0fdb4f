"""Every rule has a golden case: a program, and below it which rules applied and what they made."""

from __future__ import annotations

from pathlib import Path

import pytest
from flowmill.graph import stability
from flowmill.graph.text import show
from flowmill.graph.verify import verify
from flowmill.passes import simplify
from flowmill.passes.base import Context, Pass
from flowmill.passes.simplify import Simplify
from flowmill.passes.stabilise import Stabilise
from flowmill.target import named

from ..graph.programs import execute

STABLE = [r.name for r in stability.table().rules]
RULES = [*STABLE, *(r.name for r in simplify.table().rules)]
FOLDER = Path(__file__).parent / "rules"


@pytest.mark.parametrize("name", RULES)
def test_rule(name, golden):
    def make(source: str) -> str:
        before = execute(source)["f"]
        step: Pass = Stabilise() if name in STABLE else Simplify()
        context = Context(named("x86-64-v3"))
        after = step.run(before, context)
        texts = [r.text for r in context.records]
        assert any(t == name or t.startswith(f"{name}: declined") for t in texts), texts
        assert list(verify(after)) == []
        assert step.run(after, context) is after
        return "\n".join([*dict.fromkeys(texts), "", show(after)])

    golden(FOLDER / f"{name}.txt", make)


def test_no_case_without_a_rule():
    assert {f.stem for f in FOLDER.glob("*.txt")} == set(RULES)
