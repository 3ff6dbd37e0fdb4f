"""The passes a function goes through, in order, and why in that order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from ..graph.ir import Function
from ..graph.ops.fused import Fused
from ..graph.ops.source import Constant, Input, Variable
from .base import Context, Pass, Pipeline
from .expand import Expand, no_composites
from .fold import Fold
from .fuse import fuse
from .select import select
from .simplify import Simplify
from .stabilise import Stabilise

__all__ = ["Context", "pipeline"]


def all_grouped(function: Function) -> Iterator[str]:
    """Everything computed is computed inside a group."""
    for n in function.nodes():
        if not isinstance(n.op, Fused | Input | Variable | Constant):
            yield f"{n!r} is not in a group"


@dataclass(frozen=True)
class Select(Pass):
    """`select.select`: algorithms and layouts."""

    name = "select"
    requires = (no_composites,)

    def run(self, function: Function, context: Context) -> Function:
        return select(function, context.target, lambda text: context.note(None, text))


@dataclass(frozen=True)
class Fuse(Pass):
    """`fuse.fuse`: what is computed together; each op by itself where not `enabled`."""

    enabled: bool = True
    name = "fuse"
    requires = (no_composites,)
    ensures = (all_grouped,)

    def run(self, function: Function, context: Context) -> Function:
        grouped, decisions = fuse(function, self.enabled)
        for d in decisions:
            context.note(d.node, d.text)
        return grouped


@cache
def pipeline(level: int) -> Pipeline:
    """What runs at optimisation level 0 (the oracle), 1 (quick to compile) or 2 (quick to run)."""
    first: tuple[Pass, ...] = (
        # before anything takes softmax and its kin apart; at every level, because gradients were
        # made of rewritten computations and must meet the same nodes
        Stabilise(),
        # everything below knows ops that have an algorithm only
        Expand(),
    )
    if level <= 0:
        return Pipeline(*first, Fuse(enabled=False))
    small: tuple[Pass, ...] = (
        # what is known now decides conditions and becomes the numbers that rules look for
        Fold(),
        Simplify(),
    )
    if level > 1:
        # rules bring constants together that can be folded, and that lets rules apply again
        small = (*small, Fold(), Simplify())
    return Pipeline(
        *first,
        *small,
        # layouts are chosen for what is left, and make it harder to rewrite
        Select(),
        # last: a group hides its nodes from every pass above
        Fuse(),
    )
