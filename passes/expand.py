"""Expansion: composite ops become the simpler ops they are made of.

Before:  y = softmax(x, axis=-1)
After:   e = exp(x - reduce_max(x)); y = e / sum(e)
"""

from __future__ import annotations

from ..graph.ir import Function, Node
from ..graph.rewrite import rewritten


def expand(function: Function) -> Function:
    """The function without composites. Ops that have an algorithm of their own stay."""

    def replace(n: Node) -> object:
        if n.op.has("expand") and not n.op.has("compute"):
            return n.op.expand(*n.inputs)
        return None

    return rewritten(function, replace)
