"""What the dimensions of a run must satisfy, beyond their own bounds, so that everything exists.

In: a function. Out: its requirements. `x[5]` needs six rows, a window of three needs three
positions: for dimensions known only at run time that is found out there, before anything runs.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..algorithm import Requirement
from ..dims import Dim, DimExpr, bounds
from .ir import Function, Node
from .printer import held_functions


def requirements(function: Function) -> tuple[Requirement, ...]:
    """All that are not certain, each once."""
    found: dict[Dim, Requirement] = {}
    for node in _all_nodes(function):
        types = tuple(v.type for v in node.inputs)
        if not any(isinstance(d, DimExpr) for t in (*node.types, *types) for d in t.shape):
            continue
        for out in node.types:
            for dim, text in node.op.requires(out, *types):
                low, _ = bounds(dim)
                if low is None or low < 0:
                    found.setdefault(dim, Requirement(dim, f"{node.op.name}: {text}", node.loc))
    return tuple(found.values())


def _all_nodes(function: Function) -> Iterator[Node]:
    for node in function.nodes():
        yield node
        for inner in held_functions(node.op):
            yield from _all_nodes(inner)
