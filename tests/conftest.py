"""Options and fixtures for every test: `--bless` rewrites the golden files."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("FLOWMILL_VERIFY", "1")  # every pass of every test leaves sound graphs
CUT = "\n----\n"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--bless", action="store_true", help="write what golden tests get into their files"
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[Path, Callable[[str], str]], None]:
    """`golden(file, make)`: the file holds an input, a line `----`, and what `make(input)` gives.

    A difference fails with a unified diff; with `--bless` the file is rewritten instead.
    """

    def compare(file: Path, make: Callable[[str], str]) -> None:
        given, _, expected = file.read_text(encoding="utf-8").partition(CUT)
        found = make(given)
        if request.config.getoption("--bless"):
            file.write_text(given + CUT + found, encoding="utf-8")
        elif found != expected:
            lines = difflib.unified_diff(
                expected.splitlines(), found.splitlines(), "expected", "found", lineterm=""
            )
            pytest.fail(f"{file.name} (refresh with --bless)\n" + "\n".join(lines), pytrace=False)

    return compare
