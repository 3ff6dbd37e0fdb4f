"""Every kernel that lowering and schedules make obeys the kernel language: it verifies, its text
reads back, and every access is proven to stay in bounds unless it depends on data."""

from __future__ import annotations

import pytest
from flowmill.codegen.kernel.text import parse, show
from flowmill.codegen.kernel.verify import unproven_accesses, verify
from flowmill.compiler import compile_function
from flowmill.target import named

from ..graph.samples import cases

CASES = [c for c in cases() if "float64" not in c.dtypes]
OPS = sorted({c.op.name for c in CASES})


@pytest.mark.parametrize("level, target", [(0, "x86-64-v2"), (2, "x86-64-v3"), (2, "x86-64-v4")])
@pytest.mark.parametrize("name", OPS)
def test_kernels_keep_the_rules(name: str, level: int, target: str) -> None:
    for case in (c for c in CASES if c.op.name == name):
        for work in compile_function(case.function(), named(target), level).works:
            text = show(work.kernel)
            assert list(verify(work.kernel)) == [], text
            assert parse(text) == work.kernel, text
            unproven = [u for u in unproven_accesses(work.kernel) if "depends on data" not in u]
            assert unproven == [], text
