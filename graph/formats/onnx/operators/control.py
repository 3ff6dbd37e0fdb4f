"""Branches: `If`."""

from __future__ import annotations

from typing import NoReturn

from ....ir import CALLS, Value
from ....ops.shape import reshape
from ..call import Call, Operand, Undetermined
from ..deciding import deciding
from ..registry import Result, converter


@converter("If", halves=True)
def _if(call: Call) -> tuple[Result, ...]:
    """The side that is taken, where that is known; else both, if they give results of equal types;
    else the side is one of the things that a template asks for."""
    cond = call.operand(0)
    known = cond.array()
    if known is not None:
        taken = "then_branch" if known.reshape(-1)[0] else "else_branch"
        return tuple(call.inline(call.subgraph(taken)))

    def asked() -> NoReturn:
        raise Undetermined(cond)

    return call.attempt(lambda: _both(call), None if deciding(cond).fault else asked)


def _both(call: Call) -> tuple[Operand, ...]:
    cond = call.operand(0)
    sides: list[list[Operand]] = []

    def side(name: str) -> tuple[Value, ...]:
        sides.append(call.inline(call.subgraph(name)))
        return tuple(x.value for x in sides[-1])

    made = CALLS["if_"](reshape(cond.value, ()), lambda: side("then_branch"),
                        lambda: side("else_branch"))  # fmt: skip
    sources = [cond.sources.union(*(x.sources for x in pair)) for pair in zip(*sides)]
    return tuple(Operand(name, call.graph, v, sources=found)
                 for name, v, found in zip(call.node.output, made, sources))  # fmt: skip
