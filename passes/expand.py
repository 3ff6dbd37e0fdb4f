"""Expansion: composite ops become the simpler ops they are made of.

Before:  y = softmax(x, axis=-1)
After:   e = exp(x - reduce_max(x)); y = e / sum(e)

A loop stays a loop, whatever its length: repeating its body pays only where that is done once. The
oracle repeats the body of every loop whose length is a number, so that it knows of no loops there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..graph.ir import Function, Node, Value
from ..graph.ops.control import Control
from ..graph.ops.recurrent import Scan
from ..graph.printer import held_functions
from ..graph.rewrite import rewritten
from .base import Context, Pass


def is_composite(n: Node) -> bool:
    """Whether a node has no algorithm of its own, nor is compiled as a loop or a branch."""
    return n.op.has("expand") and not n.op.has("compute") and not isinstance(n.op, Control)


def repeats(n: Node, most: int | None) -> bool:
    """Whether the body of a loop is to be repeated: it has `most` turns (None: any number) at most,
    and prints nothing, which a repeated body could not."""
    if not isinstance(n.op, Scan) or n.op.body.effects or not isinstance(n.op.length, int):
        return False
    return most is None or n.op.length <= most


def no_composites(function: Function) -> Iterator[str]:
    """Every node has an algorithm."""
    for n in function.nodes():
        if is_composite(n):
            yield f"{n!r} is a composite"
        for inner in held_functions(n.op):
            yield from no_composites(inner)


@dataclass(frozen=True)
class Expand(Pass):
    """See the module docstring. Ops that have an algorithm stay. Loops of up to `turns` turns (None:
    any known number) are repeated."""

    turns: int | None = 1
    name = "expand"
    ensures = (no_composites,)

    def run(self, function: Function, context: Context) -> Function:
        def replace(n: Node) -> Value | tuple[Value, ...] | None:
            if is_composite(n) or repeats(n, self.turns):
                return n.op.expand(*n.inputs)
            return None

        return rewritten(function, replace)
