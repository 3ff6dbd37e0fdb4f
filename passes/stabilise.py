"""Stabilisation: compositions that overflow or cancel become functions that do not.

Before:  y = log(softmax(x))
After:   y = log_softmax(x)

It runs before expansion, which takes softmax and its kin apart, and at every level: what a user
fetches must be the same nodes as what `gradients` differentiated. The rules stand in
`graph/stability.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..graph.ir import Function
from ..graph.rewrite import rewritten
from ..graph.stability import table
from .base import Context, Pass


@dataclass(frozen=True)
class Stabilise(Pass):
    """See the module docstring."""

    name = "stabilise"
    refines = True

    def run(self, function: Function, context: Context) -> Function:
        return rewritten(function, lambda n: table().apply(n, context.note))
