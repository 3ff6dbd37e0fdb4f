"""Damaged models end in an error of flowmill's, in bounded time and memory: see `fuzz.py`."""

from __future__ import annotations

from random import Random

import pytest

from tests.onnx import fuzz, suite
from tests.onnx.mutations import mutated


def sound(report: fuzz.Report, cases: int) -> None:
    assert not report.findings, "\n\n".join(map(str, report.findings))
    assert sum(report.counts.values()) == cases
    # mutations are no use if nearly everything is refused at once
    assert report.counts["run done"] > cases // 5, report.counts


def test_some_models() -> None:
    sound(fuzz.fuzzed(300, seed=7), 300)


@pytest.mark.long
def test_many_models() -> None:
    sound(fuzz.fuzzed(10_000, seed=11), 10_000)


def test_findings_are_found() -> None:
    """A crash, an endless loop, an error that is none of flowmill's and a lack of memory each are a
    finding of their own, and the cases after them go on."""
    report = fuzz.fuzzed(12, seed=7, broken=True)
    texts = [f.text for f in report.findings]
    assert len(texts) == 4
    for word in ("SIGSEGV", "SIGXCPU", "ZeroDivisionError", "without limit"):
        assert any(word in text for text in texts), texts
    assert sum(report.counts.values()) == 12


def test_a_seed_makes_the_same_models() -> None:
    raw = suite.cases()[0].path.read_bytes()
    made = [[mutated(raw, Random(k)) for k in range(20)] for _ in range(2)]
    assert made[0] == made[1] and len(set(made[0])) > 10
