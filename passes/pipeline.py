"""The passes a function goes through, in order, and why in that order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from ..graph.ir import Function
from ..graph.ops.base import Op
from ..graph.ops.control import Control
from ..graph.ops.fused import Fused
from ..graph.ops.source import Constant, Input, Variable
from ..graph.rewrite import with_ops
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
        if isinstance(n.op, Control):
            for held in n.op.functions:
                yield from all_grouped(held)
        elif not isinstance(n.op, Fused | Input | Variable | Constant):
            yield f"{n!r} is not in a group"


def everywhere(function: Function, change: Callable[[Function], Function]) -> Function:
    """`change` applied to the functions that loops and branches hold, then to the whole."""

    def held(op: Op) -> Op:
        if not isinstance(op, Control):
            return op
        made = [everywhere(f, change) for f in op.functions]
        same = all(a is b for a, b in zip(made, op.functions))
        return op if same else op.holding(made)

    return change(with_ops(function, held))


@dataclass(frozen=True)
class Select(Pass):
    """`select.select`: algorithms and layouts."""

    name = "select"
    requires = (no_composites,)

    def run(self, function: Function, context: Context) -> Function:
        def change(f: Function) -> Function:
            return select(f, context.target, lambda text: context.note(None, text))

        return everywhere(function, change)


@dataclass(frozen=True)
class Fuse(Pass):
    """`fuse.fuse`: what is computed together; each op by itself where not `enabled`."""

    enabled: bool = True
    name = "fuse"
    requires = (no_composites,)
    ensures = (all_grouped,)

    def run(self, function: Function, context: Context) -> Function:
        def change(f: Function) -> Function:
            grouped, decisions = fuse(f, self.enabled)
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
