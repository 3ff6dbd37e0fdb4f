"""Fixtures of the graph language's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flowmill.graph.ops.registry import load_all


@pytest.fixture
def temporary_ops() -> Iterator[None]:
    """Ops that a test defines are forgotten after it."""
    ops = load_all()
    before = dict(ops)
    yield
    ops.clear()
    ops.update(before)
