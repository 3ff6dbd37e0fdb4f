"""The passes a function goes through, in order, and why in that order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from ..graph.ir import Function, Node
from ..graph.ops.control import Control
from ..graph.ops.fused import Fused
from ..graph.ops.shape import Reshape
from ..graph.ops.source import Constant, Input, Variable
from .base import Context, Pass, Pipeline
from .batch import Batch
from .everywhere import everywhere
from .expand import Expand, no_composites
from .fold import Fold
from .fuse import fuse
from .hoist import Hoist
from .select import select
from .simplify import Simplify
from .stabilise import Stabilise
from .trim import Trim

__all__ = ["Context", "pipeline"]


def all_grouped(function: Function) -> Iterator[str]:
    """Everything computed is computed inside a group, in held functions too."""
    for n in function.nodes():
        if isinstance(n.op, Control):
            for held in n.op.functions:
                yield from all_grouped(held)
        elif not isinstance(n.op, Fused | Input | Variable | Constant | Reshape):
            yield f"{n!r} is not in a group"


@dataclass(frozen=True)
class Select(Pass):
    """`select.select`: algorithms and layouts."""

    name = "select"
    requires = (no_composites,)

    def run(self, function: Function, context: Context) -> Function:
        def change(f: Function, steady: frozenset[Node]) -> Function:
            return select(f, context.target, lambda text: context.note(None, text), steady)

        return everywhere(function, change)


@dataclass(frozen=True)
class Fuse(Pass):
    """`fuse.fuse`: what is computed together; each op by itself where not `enabled`."""

    enabled: bool = True
    name = "fuse"
    requires = (no_composites,)
    ensures = (all_grouped,)

    def run(self, function: Function, context: Context) -> Function:
        def change(f: Function, steady: frozenset[Node]) -> Function:
            grouped, decisions = fuse(f, self.enabled, steady)
            for d in decisions:
                context.note(d.node, d.text)
            return grouped

        return everywhere(function, change)


@cache
def pipeline(level: int) -> Pipeline:
    """What runs at optimisation level 0 (the oracle), 1 (quick to compile) or 2 (quick to run)."""
    first: tuple[Pass, ...] = (
        # before anything takes softmax and its kin apart; at every level, because gradients were
        # made of rewritten computations and must meet the same nodes
        Stabilise(),
        # everything below knows loops, branches, and ops that have an algorithm
        Expand(1 if level > 0 else None),
    )
    if level <= 0:
        return Pipeline(*first, Hoist(variables=True), Fuse(enabled=False))
    # what is known now decides conditions and becomes the numbers that rules look for
    small: tuple[Pass, ...] = (Fold(), Simplify())
    return Pipeline(
        *first,
        # gradients run loops again: what equal loops compute is looked at once below
        Trim(),
        *small,
        # what is known of a step now says which of its work needs no step before
        Batch(),
        # rules bring constants together that can be folded, and that lets rules apply again
        *(small if level > 1 else ()),
        # all of the above may have left results of loops without readers
        Trim(),
        # layouts are chosen for what is left, and make it harder to rewrite
        Select(),
        # packing what every turn of a loop reads is work that loops are to leave out
        Hoist(),
        # last: a group hides its nodes from every pass above
        Fuse(),
    )
