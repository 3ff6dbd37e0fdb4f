"""Control flow: branches, loops and scans over sub-graphs."""

from __future__ import annotations

from ..call import Call, Operand
from ..registry import converter


@converter("If", halves=True)
def _if(call: Call) -> tuple[Operand, ...]:
    taken = bool(call.array(0).reshape(-1)[0])
    return tuple(call.inline(call.subgraph("then_branch" if taken else "else_branch")))
