"""The public face: names, laziness, and that stub, tables and documentation agree."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import flowmill as fm
import pytest
from flowmill.tools.reference import reference

ROOT = Path(fm.__file__).parent


@pytest.mark.parametrize("name", dir(fm))
def test_every_name_is_there_and_documented(name: str) -> None:
    found = getattr(fm, name)
    assert found is not None
    if callable(found) and not isinstance(found, fm.DType):
        assert found.__doc__, f"fm.{name} has no docstring"


def test_stub_and_tables_agree() -> None:
    tree = ast.parse((ROOT / "__init__.pyi").read_text())
    alias: dict[str, tuple[str | None, str]] = {}
    where: dict[str, tuple[str | None, str]] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            for item in node.names:
                local = item.asname or item.name
                (where if local == item.name else alias)[local] = (node.module, item.name)
        elif isinstance(node, ast.Assign):
            (target,) = node.targets
            assert isinstance(target, ast.Name) and isinstance(node.value, ast.Name)
            where[target.id] = alias.pop(node.value.id)
    assert not alias
    modules = {
        name: (module.rpartition(".")[0], module.rpartition(".")[2])
        for name, module in fm._MODULES.items()
    }
    assert where == {**fm._WHERE, **modules}


def test_documentation_lists_every_name() -> None:
    text = (ROOT / "docs" / "reference.md").read_text()
    assert sorted(re.findall(r"(?:^- |^)`fm\.(\w+)`: ", text, re.MULTILINE)) == dir(fm)
    assert entries(text) == entries(reference()), (
        "refresh it: python -m flowmill.tools.reference > docs/reference.md"
    )


def entries(text: str) -> list[str]:
    """The names, without what is said about them."""
    return re.findall(r"^- `([\w.]+)`", text, re.MULTILINE)


def test_importing_loads_numpy_only() -> None:
    code = (
        "import sys, flowmill; import numpy; "
        "print([m for m in sys.modules if m.startswith('flowmill.')"
        " or m.split('.')[0] in ('llvmlite', 'networkx', 'ml_dtypes', 'safetensors', 'rich')])"
    )
    env = {"PYTHONPATH": str(Path(sys.modules["flowmill"].__path__[0]).parent)}
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env
    )
    assert out.stdout.strip() == "[]"


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="'flowmill' has no attribute 'nothing'"):
        _ = fm.nothing  # type: ignore[attr-defined]


def test_layer_names() -> None:
    for name in fm.layers.__all__:
        assert getattr(fm.layers, name).__doc__, f"fm.layers.{name} has no docstring"
