"""Simplification: identities that make a computation smaller and change no result.

Before:  y = transpose(transpose(x, [1, 0]), [1, 0]) * 1
After:   y = x

The rules stand in the modules `rules_*`, a table each. Results keep their bits, but for sums whose
terms may be added in another order and powers that become products. Equal computations become one
by the way, since nodes are interned, and what nothing needs any more is gone, since a function
holds what its results reach: there are no passes for either.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial

from ..graph.ir import Function
from ..graph.patterns import Rules, Setting
from ..graph.rewrite import Rewriter, shared_values
from . import rules_arithmetic, rules_choice, rules_integer, rules_movement, rules_reduce
from .base import Context, Pass


@cache
def table() -> Rules:
    """All rules, in the order in which they are tried."""
    return Rules(rules_choice, rules_arithmetic, rules_integer, rules_movement, rules_reduce)


@dataclass(frozen=True)
class Simplify(Pass):
    """See the module docstring. `without` names rules that are not to apply, for finding faults."""

    without: tuple[str, ...] = ()
    name = "simplify"

    def run(self, function: Function, context: Context) -> Function:
        rules = table().without(self.without) if self.without else table()
        while True:
            shared = shared_values(function)
            setting = Setting(shared=shared)
            replace = partial(rules.apply, note=context.note, setting=setting)
            rewriter = Rewriter(replace, shared=shared)
            before, function = function, rewriter.function(function)
            if function is before or not setting.blocked:
                return function  # else what had several readers may have lost them
