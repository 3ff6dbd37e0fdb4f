"""Groups with several reductions to rows: each node becomes a named part of a row.

    for rows { p0 = max over columns of x[i, k]; p1 = exp(x[i, k] - p0) for every column; ... }

Nothing is decided here: what is computed twice and what is kept, `row_plan` says.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..algorithm import Var, cast
from ..errors import InternalError
from ..graph.ir import Function, Node
from ..graph.ops.source import Constant, Input
from .inline import Inliner
from .reading import READ_THROUGH
from .row_domain import RowDomain, row_domain
from .stages import Output, Part, Row, Stage, physical


def lower_row(function: Function, inliner: Inliner, reductions: Sequence[Node]) -> Stage:
    """The row that a function computes. `inliner` knows the function's inputs."""
    d = row_domain(reductions[0])
    if d is None:
        raise InternalError(f"{reductions[0]!r} does not reduce rows")
    made = {v for _, v in function.outputs}
    parts: list[Part] = []
    for n in function.nodes():
        moves = isinstance(n.op, READ_THROUGH)
        given = isinstance(n.op, Input | Constant)
        if not given and (not moves or n.outputs[0] in made):
            parts.append(_part(n, d, inliner, f"p{len(parts)}"))
    outputs = []
    for k, (_, v) in enumerate(function.outputs):
        at, value = inliner.results[v]
        outputs.append(Output(f"y{k}", physical(v.type, at), value))
    return Stage(d.rows, d.columns, None, None, None, tuple(outputs), tuple(inliner.checks),
                 Row(tuple(parts), d.along))  # fmt: skip


def _part(n: Node, d: RowDomain, inliner: Inliner, name: str) -> Part:
    v = n.outputs[0]
    at = d.place(v.shape)
    if at is None:
        raise InternalError(f"{v!r} is no value of the rows of {d.shape}")
    checks = len(inliner.checks)
    combine = inliner.compute(n).combine
    if combine is None:
        value = inliner.element(n, at, None)
    else:
        _, value = inliner.reduction(n, at, [d.logical[k] for k in d.axes])
    inliner.results[v] = (at, Var(name, v.dtype))
    return Part(name, cast(value, v.dtype), v.dtype, v.shape == d.shape and combine is None,
                combine, tuple(range(checks, len(inliner.checks))))  # fmt: skip
