"""The strict type checker really looks: an error put into every file is found in every file."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from . import run
from .test_architecture import ROOT, sources

ERROR = '\n_injected: int = "a text"\n'
UNTYPED = "\ndef _injected_untyped(x):  # strict mode refuses it\n    return x\n"


@pytest.mark.slow
def test_an_error_in_any_file_is_found(tmp_path: Path) -> None:
    """The very command of `tests/run.py`, on a copy of the package whose every file is wrong."""
    expected = set()
    for path in sources():
        name = path.relative_to(ROOT)
        copy = tmp_path / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        stub = path.with_suffix(".pyi")
        stubbed = stub.exists()  # the checker reads the stub instead
        if stubbed:
            shutil.copy(stub, copy.with_suffix(".pyi"))
        copy.write_text(path.read_text(encoding="utf-8") + ("" if stubbed else ERROR + UNTYPED))
        if not stubbed:
            expected.add(str(name))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    run.make_view(tmp_path)
    env = {**os.environ, "MYPY_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(run.TYPES, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    rows = re.findall(
        r"flowmill/(\S+\.py):\d+: error: .*\[(assignment|no-untyped-def)\]", done.stdout
    )
    for code in ("assignment", "no-untyped-def"):
        assert not expected - {name for name, found in rows if found == code}
