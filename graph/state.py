"""Updates of variables: `assign`, and tokens, whose fetching performs updates.

A run reads every variable's value as it was when the run started, however many updates the run
performs; updates become visible together when the run has ended well. Whoever wants a new value
inside the same run uses what `assign` returns, or orders one assignment after another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import GraphError
from .definition import graph_of, group
from .ir import Value
from .ops.base import as_value, make
from .ops.pointwise import cast
from .ops.state import Token
from .rewire import rewire


def token(
    value: Value, label: str, updates: Sequence[tuple[Value, Value]], trains: bool = False
) -> Value:
    """`value` as a node of its own; fetching it performs `updates` (variable, new value)."""
    graph = graph_of(value, "token")
    made = make(Token(graph.unique(label), trains), value)
    return group(graph, made, updates)


def assign(variable: Value, value: Any, after: Value | Sequence[Value] = ()) -> Value:
    """`value`, and the order to store it in `variable`: fetching the result commits it.

    All reads, in `value` too, see what the run started with. `after` names earlier results of
    `assign`: reads of their variables in `value` then see what those stored, and fetching this one
    performs those too. Two assignments to one variable in one run need such an order.

        first = fm.assign(count, count + 1)
        second = fm.assign(count, count * 2, after=first)  # (count + 1) * 2

    `value` is broadcast to the variable's shape and cast to its dtype. ShapeError if it does not
    fit; GraphError for an `after` that is no assignment.
    """
    graph = graph_of(variable, "assign")
    new = cast(as_value(value, variable), variable.dtype)
    if new.shape != variable.shape:
        from .ops.shape import broadcast_to

        new = broadcast_to(new, variable.shape)
    earlier: list[tuple[Value, Value]] = []
    for previous in (after,) if isinstance(after, Value) else after:
        if previous not in graph.updates:
            raise GraphError(f"{previous!r} performs no update",
                             "after= takes what fm.assign or minimize returned")  # fmt: skip
        earlier.extend(u for u in graph.updates[previous] if u not in earlier)
    if earlier:
        seen = dict(earlier)  # of several updates of one variable, the last counts
        leaves = {stored: stored for stored in seen.values()}
        new = rewire([new], {**leaves, **seen}, graph)[new]
    name = variable.name or "variable"
    made = make(Token(graph.unique(f"{name}/assign")), new)
    return group(graph, made, [*earlier, (variable, new)])
