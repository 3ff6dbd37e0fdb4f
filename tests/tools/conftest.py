"""A small model file, and a cache folder of its own for every test."""

from __future__ import annotations

from pathlib import Path

import pytest

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "tools"


@pytest.fixture(autouse=True)
def cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No test sees what another compiled, nor the user's settings."""
    folder = tmp_path_factory.mktemp("cache")
    for name in ("FLOWMILL_DEBUG", "FLOWMILL_DUMP", "FLOWMILL_LEVEL", "FLOWMILL_TARGET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FLOWMILL_CACHE", str(folder))
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The file `tiny.py` with a graph `net`, a function `build` and a number."""
    path = tmp_path / "tiny.py"
    path.write_text((GOLDEN / "dump.txt").read_text().partition("\n----\n")[0])
    return path
