"""Every command and snippet in README.md and docs/ runs.

In a Markdown file, ```python blocks run one after another in one namespace, and of ```sh and
```console blocks every line that begins with `$ `; both in one temporary folder per file. Blocks of
other languages (```text) are not run. A comment just before a block changes that:

    <!-- not run: REASON -->     it is not run
    <!-- file: NAME -->          it is written to NAME in the folder instead

`python3 bootstrap.py …` makes an environment and runs these very tests, so of it only the
sub-command is checked. Commands that call `cc` are left out where there is no C compiler.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import pytest

from .test_architecture import ROOT
from .test_bootstrap import load_bootstrap

FILES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
SECONDS = 300


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the line its text begins at, its text, and its comment."""

    language: str
    line: int
    text: str
    comment: str


def blocks(markdown: str) -> list[Block]:
    found, comment, fence, language, start = [], "", "", "", 0
    lines = markdown.splitlines()
    for number, line in enumerate(lines, 1):
        mark = re.match(r"\s*(```+)\s*(\S*)", line)
        if fence:
            if line.strip() == fence:
                text = "\n".join(lines[start : number - 1])
                found.append(Block(language, start + 1, text, comment))
                fence, comment = "", ""
        elif mark:
            fence, language, start = mark[1], mark[2], number
        elif line.strip():
            given = re.fullmatch(r"<!--\s*(.*?)\s*-->", line.strip())
            comment = given[1] if given else ""
    assert not fence, f"line {start}: the block is never closed"
    return found


def make_commands(folder: Path) -> Path:
    """A folder in which `flowmill` and `python` are this Python's."""
    folder.mkdir()
    for name, options in (("flowmill", " -P -m flowmill"), ("python", "")):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)}{options} "$@"\n')
        script.chmod(0o755)
    return folder


def run_commands(block: Block, cwd: Path, env: dict[str, str], where: str) -> None:
    for number, line in enumerate(block.text.splitlines(), block.line):
        if not line.startswith("$ "):
            continue
        words = [w for w in line[2:].split() if not re.fullmatch(r"[A-Z_]+=\S*", w)]
        if words[:2] == ["python3", "bootstrap.py"]:
            known = (*load_bootstrap().COMMANDS, "-h")
            assert words[2] in known, f"{where}:{number}: no such sub-command: {line}"
        elif words[0] == "cc" and not shutil.which("cc"):
            return
        elif words[0] in ("flowmill", "python", "cc") or words[0].startswith("./"):
            command = ["bash", "-euo", "pipefail", "-c", line[2:]]
            done = subprocess.run(
                command, cwd=cwd, env=env, capture_output=True, text=True, timeout=SECONDS
            )
            assert done.returncode == 0, f"{where}:{number}: {line}\n{done.stdout}{done.stderr}"
        else:
            pytest.fail(f"{where}:{number}: not a command that is run here, say why: {line}")


def run_file(file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a Markdown file's blocks; the number of those that ran."""
    cwd = folder / "work"
    cwd.mkdir()
    monkeypatch.chdir(cwd)
    monkeypatch.setenv("FLOWMILL_CACHE", str(folder / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / ".view"))
    monkeypatch.setenv("PATH", str(make_commands(folder / "bin")), prepend=os.pathsep)
    module = types.ModuleType("__docs__")
    monkeypatch.setitem(sys.modules, "__docs__", module)
    ran = 0
    for block in blocks(file.read_text(encoding="utf-8")):
        where = f"{file.name}:{block.line}"
        kind, _, value = block.comment.partition(":")
        if kind in ("not run", "file"):
            assert value.strip(), (
                f"{where}: {kind!r} lacks its {'name' if kind == 'file' else 'reason'}"
            )
        if kind == "not run":
            continue
        if kind == "file":
            (cwd / value.strip()).write_text(block.text + "\n", encoding="utf-8")
        elif block.language == "python":
            padded = "\n" * (block.line - 1) + block.text  # so that errors name the file's lines
            exec(compile(padded, str(file), "exec"), module.__dict__)
            ran += 1
        elif block.language in ("sh", "console"):
            run_commands(block, cwd, dict(os.environ), file.name)
            ran += 1
    return ran


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_what_the_documentation_shows_runs(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = run_file(file, tmp_path, monkeypatch)
    assert ran or file.name != "README.md"


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_links_lead_somewhere(file: Path) -> None:
    text = re.sub(r"^\s*```.*?^\s*```", "", file.read_text(encoding="utf-8"), flags=re.S | re.M)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            path, _, anchor = target.partition("#")
            assert (file.parent / path).exists(), f"{file.name}: {target} does not exist"
            if anchor and path.endswith((".md", "")):
                whole = ((file.parent / path) if path else file).read_text(encoding="utf-8")
                titles = re.findall(r"^#+ (.*)$", whole, flags=re.M)
                slugs = {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles}
                assert anchor in slugs, f"{file.name}: no heading for {target}"


@pytest.mark.parametrize(
    ("markdown", "error"),
    [
        ("```python\nx = 1\n```\n```python\nassert x == 1\n```", ""),
        ("```python\nx = 1\nassert x == 2\n```", "line 3"),
        ("```python\nimport no_such_module_here\n```", "no_such_module_here"),
        ("```text\n$ flowmill nonsense\n```", ""),
        ("```sh\n$ python -c 'print(1)'\nfirst line of output\n```", ""),
        ("```sh\n$ python -c 'raise SystemExit(3)' | cat\n```", "README.md:2"),
        ("```sh\n$ curl something\n```", "say why"),
        ("<!-- not run: fetches -->\n```sh\n$ curl something\n```", ""),
        ("<!-- not run: fetches -->\ntext between\n```sh\n$ curl something\n```", "say why"),
        ("<!-- not run -->\n```sh\n$ curl something\n```", "lacks its reason"),
        ("<!-- file: a.py -->\n```python\nprint(2)\n```\n```sh\n$ python a.py | grep 2\n```", ""),
        ("```sh\n$ X=3 python -c 'import os; os.environ[\"X\"]'\n```", ""),
        ("```sh\n$ python3 bootstrap.py test --quick\n```", ""),
        ("```sh\n$ python3 bootstrap.py tset\n```", "no such sub-command"),
        ("```sh\n$ python -c ''", "never closed"),
    ],
)
def test_the_runner(
    markdown: str, error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "README.md"
    file.write_text(markdown)
    if not error:
        run_file(file, tmp_path, monkeypatch)
        return
    with pytest.raises((Exception, pytest.fail.Exception)) as caught:
        run_file(file, tmp_path, monkeypatch)
    lines = [f"line {entry.lineno + 1}" for entry in caught.traceback if entry.path == file]
    assert error in f"{caught.value} {lines}"
