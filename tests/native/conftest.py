"""Fixtures of the native tests: a cache of their own, and kernels split among threads however small
they are, so that small samples exercise the split too."""

from __future__ import annotations

from dataclasses import replace

import pytest
from flowmill import target
from flowmill.runtime.session import Session

EAGER = replace(target.host(), min_parallel_flops=1, min_parallel_bytes=1)


@pytest.fixture(autouse=True, scope="module")
def cache_folder(tmp_path_factory: pytest.TempPathFactory):
    """One folder for all modules."""
    patch = pytest.MonkeyPatch()
    patch.setenv("FLOWMILL_CACHE", str(tmp_path_factory.getbasetemp().parent / "programs"))
    yield
    patch.undo()


@pytest.fixture(autouse=True, scope="module")
def eager_threads():
    """See above."""
    patch = pytest.MonkeyPatch()
    patch.setattr(Session, "_target", staticmethod(lambda: EAGER))
    yield
    patch.undo()
