"""Loops and branches: functions that ops hold become sub-graphs. What these take from outside they
find there by its name."""

from __future__ import annotations

from dataclasses import replace

from .....dtypes import bool_, int64
from ....ir import TensorType
from ..draft import Site, Tensor
from ..writing import writer

_NUMBER = ("iteration", TensorType(int64, ()))
_GOES_ON = ("go_on", TensorType(bool_, ()))


@writer("if_")
def _if(site: Site) -> tuple[Tensor, ...]:
    taken = site.xs[1:]
    graphs = [site.draft.graph(f"{site.label or 'if'}/{name}", f, dict(zip(f.inputs, taken)))
              for name, f in (("then", site.op.then), ("else", site.op.orelse))]  # fmt: skip
    return site.several("If", [t.dtype for t in site.node.types], site.x, then_branch=graphs[0],
                        else_branch=graphs[1])  # fmt: skip


@writer("while_loop")
def _while(site: Site) -> tuple[Tensor, ...]:
    op = site.op
    begins, carries, rest = site.x, site.xs[1 : 1 + op.carries], site.xs[1 + op.carries :]
    body = site.draft.graph(f"{site.label or 'loop'}/body", op.body,
                            dict(zip(op.body.inputs[op.carries :], rest)),
                            [_NUMBER, _GOES_ON])  # fmt: skip
    limit = None if op.limit is None else _scalar(site, op.limit)
    made = site.several("Loop", [t.dtype for t in site.node.types], limit, begins, *carries,
                        body=body)  # fmt: skip
    stacks = zip(made[op.carries :], site.node.types[op.carries :])
    return (*made[: op.carries], *(_lengthened(site, y, t) for y, t in stacks))


@writer("scan")
def _scan(site: Site) -> tuple[Tensor, ...]:
    """A Scan; where nothing is read element by element a Loop of so many turns, which stacks its
    results in the order of the turns."""
    op = site.op
    carries, sequences, rest = op.parts(site.xs)
    given = dict(zip(op.body.inputs[op.varying :], rest))
    dtypes = [t.dtype for t in site.node.types]
    label = f"{site.label or 'scan'}/body"
    if not sequences:
        if op.reverse and len(dtypes) > op.carries:
            op = replace(op, reverse=False)  # no turn knows its number: the order shows nowhere
        body = site.draft.graph(label, op.body, given, [_NUMBER, _GOES_ON], passed=True)
        made = site.several("Loop", dtypes, _scalar(site, op.length), None, *carries, body=body)
        return made if not site.op.reverse else (*made[: op.carries], *(
            _turned(site, y) for y in made[op.carries :]))  # fmt: skip
    body = site.draft.graph(label, op.body, given)
    down = [int(op.reverse)]
    return site.several("Scan", dtypes, *carries, *sequences, body=body,
                        num_scan_inputs=len(sequences),
                        scan_input_directions=down * len(sequences) if op.reverse else None,
                        scan_output_directions=down * (len(dtypes) - op.carries)
                        if op.reverse and len(dtypes) > op.carries else None)  # fmt: skip


def _lengthened(site: Site, x: Tensor, to: TensorType) -> Tensor:
    """x with as many rows as its type has, those behind it being 0."""
    missing = site.emit("Sub", site.dims(to.shape), site.emit("Shape", x, dtype=int64))
    pads = site.emit("Concat", site.ints([0] * to.ndim), missing, axis=0)
    return site.emit("Pad", x, pads, site.constant(0, to.dtype))


def _turned(site: Site, x: Tensor) -> Tensor:
    """x from its last element to its first."""
    return site.emit("Slice", x, site.ints([-1]), site.ints([-(1 << 63)]), site.ints([0]),
                     site.ints([-1]))  # fmt: skip


def _scalar(site: Site, d: object) -> Tensor:
    """A dimension as a number."""
    if isinstance(d, int):
        return site.constant(d, int64)
    return site.emit("Squeeze", site.dims([d]), site.ints([0]))  # type: ignore[list-item]
