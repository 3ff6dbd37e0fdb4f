"""Everything a contributor runs, in one command: formatter, linter, types, tests.

Comes in: options. Goes out: each step's output as it happens, a summary, and an exit code that is
zero only if every step passed. `python3 bootstrap.py test` makes the environment and calls this.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TYPES = [sys.executable, "-m", "mypy", "-p", "flowmill"]
"""The strict type checker on the whole package; pyproject.toml says how."""


def steps(jobs: int, quick: bool, long: bool, rest: list[str]) -> dict[str, list[str]]:
    """Commands by name, in the order they run: the quickest to fail first."""
    python = [sys.executable, "-m"]
    tests = [*python, "pytest", "-n", str(jobs), "-q"]
    if quick:
        tests += ["-m", "not long and not slow"]
    elif long:
        tests += ["-m", ""]
    return {
        "format": [*python, "ruff", "format", "--check", "."],
        "lint": [*python, "ruff", "check", "."],
        "types": TYPES,
        "tests": [*tests, *rest],
    }


def make_view(root: Path) -> None:
    """The link through which `import flowmill` finds the checkout, whatever it is called."""
    view = root / ".view" / "flowmill"
    view.parent.mkdir(exist_ok=True)
    if not view.is_symlink():
        view.symlink_to("..")


def main() -> int:
    parser = argparse.ArgumentParser(description="Run formatter, linter, type checker and tests.")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--quick", action="store_true", help="leave out tests marked slow")
    length.add_argument("--long", action="store_true", help="run tests marked long too (minutes)")
    parser.add_argument("--jobs", type=int, default=2, help="test processes (default 2)")
    parser.add_argument("--only", help="one step only: format, lint, types or tests")
    parser.add_argument("pytest", nargs="*", help="passed on to pytest (after --)")
    args = parser.parse_args()
    todo = steps(args.jobs, args.quick, args.long, args.pytest)
    if args.only and args.only not in todo:
        parser.error(f"no step {args.only!r}; there are: {', '.join(todo)}")
    make_view(ROOT)
    env = {**os.environ, "PYTHONNOUSERSITE": "1"}
    results = []
    for name, command in todo.items():
        if args.only in (None, name):
            print(f"== {name}: {' '.join(['python', *command[1:]])}", flush=True)
            begin = time.monotonic()
            code = subprocess.run(command, cwd=ROOT, env=env, check=False).returncode
            results.append((name, code, time.monotonic() - begin))
    print("== summary")
    for name, code, seconds in results:
        print(f"  {name:8} {'passed' if code == 0 else f'FAILED ({code})':12} {seconds:6.1f} s")
    return int(any(code for _, code, _ in results))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
