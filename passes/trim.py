"""Loops and branches without what nobody needs.

Before:  a, b, ys, zs = scan(x0, x1, xs, zs, w, v)    of which only `a` is read
After:   a = scan(x0, xs, w)

Equal loops become one that has the results of both: a gradient runs the loop it belongs to again,
and keeps more of it. Results that nobody reads go, with the carries and operands that only they
needed. What is the same at every turn is neither carry nor sequence: a carry that never changes, an
element that is repeated. A branch whose condition is known is the side that is taken.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from ..graph.ir import CALLS, Function, Node, Value, topological
from ..graph.ops.branch import If
from ..graph.ops.control import Control
from ..graph.ops.loop import While
from ..graph.ops.recurrent import Scan
from ..graph.ops.shape import BroadcastTo
from ..graph.ops.source import scalar_value
from ..graph.rewire import rewire
from ..graph.rewrite import rebuilt, with_functions
from .base import Context, Pass


@dataclass(frozen=True)
class Trim(Pass):
    """See the module docstring."""

    name = "trim"

    def run(self, function: Function, context: Context) -> Function:
        return trimmed(function)


def trimmed(function: Function) -> Function:
    """The function, and all that it holds, trimmed."""
    if not any(isinstance(n.op, Control) for n in function.nodes()):
        return function

    def inside(n: Node, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
        op = with_functions(n.op, trimmed) if isinstance(n.op, Control) else n.op
        return None if op is n.op else n.owner.node(op, inputs).outputs

    made = rebuilt(function, inside)
    while True:
        before, made = made, _reduced(rebuilt(_joined(made), _steady))
        if made is before:
            return made


# --- equal loops ----------------------------------------------------------------------------------


def _joined(function: Function) -> Function:
    """One loop for all that take the same steps."""
    first: dict[object, list[tuple[Node, Function]]] = {}
    whole: dict[Node, Node] = {}
    for n in function.nodes():
        if isinstance(n.op, Scan):
            known = first.setdefault((n.inputs, replace(n.op, body=None)), [])  # type: ignore[arg-type]
            for k, (m, body) in enumerate(known):
                union = _union(body, n.op.body, n.op.carries)
                if union is not None:
                    known[k], whole[n] = (m, union), m
                    break
            else:
                known.append((n, n.op.body))
    if not whole:
        return function
    bodies = {m: body for known in first.values() for m, body in known}

    def change(n: Node, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
        op = n.op
        if not isinstance(op, Scan):
            return None
        body = bodies[whole.get(n, n)]
        made = n.owner.node(replace(op, body=body), inputs).outputs
        place = {v: k for k, (_, v) in reversed([*enumerate(body.outputs)][op.carries :])}
        own = rewire([v for _, v in op.body.outputs], dict(zip(op.body.inputs, body.inputs)),
                     body.inputs[0].node.owner)  # fmt: skip
        ys = (made[place[own[v]]] for _, v in op.body.outputs[op.carries :])
        return (*made[: op.carries], *ys)

    return rebuilt(function, change)


def _union(a: Function, b: Function, carries: int) -> Function | None:
    """The step that gives what both do, if both make the same carries of the same inputs."""
    made = rewire(b.roots(), dict(zip(b.inputs, a.inputs)), a.inputs[0].node.owner)
    if any(made[v] is not w for (_, v), (_, w) in zip(b.outputs[:carries], a.outputs)):
        return None
    ys = dict.fromkeys([*(v for _, v in a.outputs[carries:]),
                        *(made[v] for _, v in b.outputs[carries:])])  # fmt: skip
    effects = dict.fromkeys([*a.effects, *(made[v] for v in b.effects)])
    named = tuple((f"y{k}", v) for k, v in enumerate(ys))
    return replace(a, outputs=(*a.outputs[:carries], *named), effects=tuple(effects))


# --- what is the same at every turn ---------------------------------------------------------------


def _steady(n: Node, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
    """A loop in which carries that do not change and repeated elements are given once, and stacks
    of what is given, or twice the same, are left out; the side of a branch that is taken."""
    op = n.op
    if isinstance(op, If):
        return _decided(op, inputs)
    if isinstance(op, While):
        return _fixed(n, op, inputs)
    if not isinstance(op, Scan):
        return None
    body, c = op.body, op.carries
    given, outputs = body.inputs, [v for _, v in body.outputs]
    held = [k for k in range(c) if outputs[k] is given[k]]
    repeated = {k: element for k in range(c, op.varying)
                if (element := _repeated(inputs[k])) is not None}  # fmt: skip
    same = {given[k]: inputs[k] for k in (*held, *range(op.varying, len(given)))}
    same |= {given[k]: v for k, v in repeated.items()}
    ys = [k for k in range(c, len(outputs)) if outputs[k] not in same]
    kept = list({outputs[k]: k for k in reversed(ys)}.values())[::-1]
    if not held and not repeated and len(kept) == len(outputs) - c:
        return None
    flows = [k for k in range(c) if k not in held]
    sequences = [k for k in range(c, op.varying) if k not in repeated]
    moved = [*flows, *sequences, *held, *repeated, *range(op.varying, len(given))]
    step = replace(body, inputs=tuple(given[k] for k in moved),
                   outputs=tuple(body.outputs[k] for k in (*flows, *kept)))  # fmt: skip
    operands = tuple(repeated.get(k, inputs[k]) for k in moved)
    made_op = Scan(step, len(flows), len(sequences), op.length, op.reverse)
    made = n.owner.node(made_op, operands).outputs if step.outputs else ()
    stacks = {outputs[k]: v for k, v in zip(kept, made[len(flows) :])}
    results: list[Value] = []
    for k, v in enumerate(outputs):
        if k in held:
            results.append(inputs[k])
        elif k < c:
            results.append(made[flows.index(k)])
        elif v in stacks:
            results.append(stacks[v])
        else:
            whole = CALLS["reshape"](same[v], (1, *v.shape))
            results.append(CALLS["broadcast_to"](whole, (op.length, *v.shape)))
    return results


def _decided(op: If, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
    """The results of the side that is taken, where that is known, and shows nothing."""
    holds = scalar_value(inputs[0])
    f = op.then if holds else op.orelse
    if holds is None or f.effects:
        return None
    made = rewire(f.roots(), dict(zip(f.inputs, inputs[1:])), inputs[0].node.owner)
    return [made[v] for _, v in f.outputs]


def _fixed(n: Node, op: While, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
    """A loop whose carries all change."""
    given, outputs = op.body.inputs, op.body.outputs
    held = [k for k in range(op.carries) if outputs[1 + k][1] is given[k]]
    if not held:
        return None
    flows = [k for k in range(op.carries) if k not in held]
    moved = [*flows, *held, *range(op.carries, len(given))]
    body = replace(op.body, inputs=tuple(given[k] for k in moved),
                   outputs=(outputs[0], *(outputs[1 + k] for k in flows),
                            *outputs[1 + op.carries :]))  # fmt: skip
    made_op = While(body, len(flows), op.limit)
    made = n.owner.node(made_op, (inputs[0], *(inputs[1 + k] for k in moved))).outputs
    last = [inputs[1 + k] if k in held else made[flows.index(k)] for k in range(op.carries)]
    return [*last, *made[len(flows) :]]


def _repeated(v: Value) -> Value | None:
    """What every element of a sequence is, where that is one value."""
    op = v.node.op
    if not isinstance(op, BroadcastTo):
        return None
    (x,) = v.node.inputs
    if x.ndim == v.ndim:
        if x.shape[0] != 1 or v.shape[0] == 1:
            return None
        x = CALLS["reshape"](x, x.shape[1:])
    made: Value = CALLS["broadcast_to"](x, v.shape[1:])
    return made


# --- what nobody reads ----------------------------------------------------------------------------


def _reduced(function: Function) -> Function:
    """Loops and branches with the results that are read only, and what these take."""
    needed = set(function.roots())
    plans: dict[Node, tuple[list[int], list[int]]] = {}
    for n in reversed(function.nodes()):
        if not any(v in needed for v in n.outputs):
            continue
        if isinstance(n.op, Control):
            wanted = [k for k, v in enumerate(n.outputs) if v in needed]
            plans[n] = _takes(n.op, wanted)
            first = n.op.leading
            needed.update((*n.inputs[:first], *(n.inputs[first + k] for k in plans[n][1])))
        else:
            needed.update(n.inputs)

    def change(n: Node, inputs: tuple[Value, ...]) -> Sequence[Value | None] | None:
        if n not in plans or not isinstance(n.op, Control):
            return None
        results, taken = plans[n]
        if len(results) == len(n.outputs) and len(taken) + n.op.leading == len(inputs):
            return None
        op = n.op.reduced(results, taken)
        operands = (*inputs[: op.leading], *(inputs[op.leading + k] for k in taken))
        made = n.owner.node(op, operands).outputs
        return [made[results.index(k)] if k in results else None for k in range(len(n.outputs))]

    return rebuilt(function, change)


def _takes(op: Control, wanted: Collection[int]) -> tuple[list[int], list[int]]:
    """The results of an op that are needed for some, and the inputs of its functions for these."""
    results = set(wanted)
    while True:
        used = {k for f in op.functions for k in _reached(f, op, results)}
        used |= {k for k in results if k < op.state}
        more = results | {k for k in used if k < op.state}
        if more == results:
            return sorted(results), sorted(used)
        results = more


def _reached(f: Function, op: Control, results: Collection[int]) -> Iterator[int]:
    """The inputs of a function that some of its results depend on."""
    given = op.judging
    roots = [v for _, v in f.outputs[:given]] + [f.outputs[given + k][1] for k in results]
    found = set(topological(v.node for v in (*roots, *f.effects)))
    return (k for k, v in enumerate(f.inputs) if v.node in found)
