"""Control flow: branches, loops and scans over sub-graphs."""

from __future__ import annotations

from ....ir import Value
from ..call import Call
from ..registry import converter


@converter("If", halves=True)
def _if(call: Call) -> tuple[Value, ...]:
    taken = bool(call.array(0).reshape(-1)[0])
    made = call.inline(call.subgraph("then_branch" if taken else "else_branch"))
    return tuple(x.value for x in made)
