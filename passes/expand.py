"""Expansion: composite ops become the simpler ops they are made of.

Before:  y = softmax(x, axis=-1)
After:   e = exp(x - reduce_max(x)); y = e / sum(e)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..graph.ir import Function, Node, Value
from ..graph.printer import held_functions
from ..graph.rewrite import rewritten
from .base import Context, Pass


def is_composite(n: Node) -> bool:
    """Whether a node has no algorithm of its own."""
    return n.op.has("expand") and not n.op.has("compute")


def no_composites(function: Function) -> Iterator[str]:
    """Every node has an algorithm."""
    for n in function.nodes():
        if is_composite(n):
            yield f"{n!r} is a composite"
        for inner in held_functions(n.op):
            yield from no_composites(inner)


@dataclass(frozen=True)
class Expand(Pass):
    """See the module docstring. Ops that have an algorithm stay."""

    name = "expand"
    ensures = (no_composites,)

    def run(self, function: Function, context: Context) -> Function:
        def replace(n: Node) -> Value | tuple[Value, ...] | None:
            return n.op.expand(*n.inputs) if is_composite(n) else None

        return rewritten(function, replace)
