"""The recipes of docs/recipes.md, run with a Python that has the other frameworks:

FLOWMILL_RECIPES=/path/of/python .env/bin/python -m pytest -m long tests/onnx/test_recipes.py
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NEEDS = {"from_torch": "torch, onnxscript", "from_keras": "tensorflow, tf2onnx",
         "from_sklearn": "sklearn, skl2onnx"}  # fmt: skip


def test_every_recipe_is_listed() -> None:
    found = {p.stem for p in (ROOT / "examples" / "recipes").glob("*.py")}
    text = (ROOT / "docs" / "recipes.md").read_text()
    assert found == NEEDS.keys() and all(f"recipes/{name}.py" in text for name in found)


@pytest.mark.long
@pytest.mark.parametrize("name", NEEDS)
def test_recipe(name: str, tmp_path: Path) -> None:
    python = os.environ.get("FLOWMILL_RECIPES")
    if not python:
        pytest.skip("FLOWMILL_RECIPES names no Python")
    path = os.pathsep.join(filter(None, (str(ROOT / ".view"), os.environ.get("PYTHONPATH"))))
    environ = {**os.environ, "PYTHONPATH": path}
    has = subprocess.run([python, "-c", f"import {NEEDS[name]}"], env=environ, check=False,
                         capture_output=True)  # fmt: skip
    if has.returncode:
        pytest.skip(f"that Python has not all of {NEEDS[name]}")
    script = ROOT / "examples" / "recipes" / f"{name}.py"
    done = subprocess.run([python, str(script)], cwd=tmp_path, env=environ, check=False,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("largest difference") >= 2
