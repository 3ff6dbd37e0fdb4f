"""The passes a function goes through, in order, and why in that order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ..graph.ir import Function
from ..target import Target
from .expand import expand


@dataclass
class Context:
    """What passes may know, and where they leave their reasons."""

    target: Target
    level: int = 2
    watch: Callable[[str, object], None] | None = None
    notes: list[str] = field(default_factory=list)


def optimise(function: Function, context: Context) -> Function:
    """The graph passes."""
    for name, step in PASSES:
        after = step(function)
        if context.watch and after is not function:
            context.watch(name, after)
        function = after
    return function


PASSES: tuple[tuple[str, Callable[[Function], Function]], ...] = (("expand", expand),)
