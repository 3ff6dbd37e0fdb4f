"""Programs and texts that must fail, with their exact messages. `--bless` rewrites them."""

from __future__ import annotations

from pathlib import Path

import pytest
from flowmill.errors import UserError
from flowmill.graph.text import parse

from .programs import execute

HERE = Path(__file__).parent / "errors"


def message(action, given: str) -> str:
    with pytest.raises(UserError) as e:
        action(given)
    return f"{type(e.value).__name__}: {e.value}\n"


@pytest.mark.parametrize("file", sorted(HERE.glob("define/*.txt")), ids=lambda f: f.stem)
def test_definition(file, golden):
    golden(file, lambda given: message(execute, given))


@pytest.mark.parametrize("file", sorted(HERE.glob("text/*.txt")), ids=lambda f: f.stem)
def test_text(file, golden):
    golden(file, lambda given: message(parse, given))
