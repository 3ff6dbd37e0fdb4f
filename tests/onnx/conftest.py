"""Fixtures of the ONNX tests: compiled programs are kept in one folder per test run."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="session")
def cache_folder(tmp_path_factory: pytest.TempPathFactory):
    """The cache folder of the whole test run."""
    patch = pytest.MonkeyPatch()
    patch.setenv("FLOWMILL_CACHE", str(tmp_path_factory.getbasetemp().parent / "programs"))
    yield
    patch.undo()
