"""Runs the small programs of the golden files, as if a user had written them."""

from __future__ import annotations

from typing import Any

import numpy as np
from flowmill.graph import definition, gradients
from flowmill.graph.ir import CALLS
from flowmill.graph.ops import pointwise, reduce, shape
from flowmill.graph.ops.registry import load_all


class Language:
    """What programs see as `fm`: the functions of the graph language."""

    def __getattr__(self, name: str) -> Any:
        for place in (definition, gradients, pointwise, reduce, shape):
            if hasattr(place, name):
                return getattr(place, name)
        return CALLS[name]


def execute(source: str) -> dict[str, Any]:
    """The names a program defines; its lines are those of `program.py`."""
    load_all()
    names: dict[str, Any] = {"fm": Language(), "np": np}
    with definition.Graph("program") as graph:
        names["g"] = graph
        exec(compile(source, "program.py", "exec"), names)
    return names
