"""The official ONNX tests, operator by operator, against the table in docs/onnx-operators.md: what
passed there passes, and what failed there fails, so that the table tells the truth."""

from __future__ import annotations

import pytest

from tests.onnx import suite, table

RECORDED = table.recorded()
GROUPS = table.groups()


@pytest.mark.parametrize("name", list(GROUPS))
def test_operator(name: str) -> None:
    row = RECORDED.get(name)
    assert row is not None, f"{name} is not in {table.FILE.name}: python tests/onnx/table.py"
    wrong = []
    for case in GROUPS[name]:
        reason = suite.failure(case)
        if reason is not None and case.name not in row.failing:
            wrong.append(f"{case.name}: {reason}")
        if reason is None and case.name in row.failing:
            wrong.append(f"{case.name} passes now: python tests/onnx/table.py")
    assert not wrong, "\n".join(wrong)


def test_fewer_than_ten_cases_are_excepted() -> None:
    """Those that are fail for the reasons given, and no others do but of operators not there yet."""
    failing = {name for row in RECORDED.values() for name in row.failing}
    missing = {n for k in ("NonMaxSuppression", "NonZero", "Unique") for n in RECORDED[k].failing}
    assert len(suite.EXCEPTED) < 10
    assert failing - missing == set(suite.EXCEPTED)


def test_the_scope_is_what_was_agreed_on() -> None:
    """1,432 node tests of onnx 1.21 have types that are plain tensors, and two of ReverseSequence."""
    inside = [c for cases in GROUPS.values() for c in cases]
    assert sum(c.kind == "node" for c in inside) == 1434
    assert {c.kind for c in inside} == set(suite.KINDS)
    for kind, count in {"simple": 7, "pytorch-converted": 82, "pytorch-operator": 35,
                        "light": 9}.items():  # fmt: skip
        assert sum(c.kind == kind for c in inside) == count, kind
