"""Out of loops with what is the same at every turn.

Before:  scan(h, xs, w): { h = tanh(matmul(h, relayout(w)) + x) }
After:   v = relayout(w); scan(h, xs, v): { h = tanh(matmul(h, v) + x) }

What a body computes of nothing but the operands that every turn gets is computed once before the
loop; there it may even be a value that is prepared once for many runs. Variables that a function
reads become operands of what holds it. A branch is not taken for granted: of its work only what can
be prepared leaves it. What can fail stays where it is, since the body may never run, and so does
what costs memory and next to no time: a number repeated, a count.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from ..graph.ir import Function, Node, Value
from ..graph.ops.control import Control, free_name
from ..graph.ops.effects import Effect
from ..graph.ops.source import Constant, Input, Variable
from ..graph.rewire import rewire
from ..graph.rewrite import rebuilt
from .base import Context, Pass
from .fold import can_fail
from .prepare import steady_nodes
from .reading import READ_THROUGH


@dataclass(frozen=True)
class Hoist(Pass):
    """See the module docstring. `variables`: only these."""

    variables: bool = False
    name = "hoist"

    def run(self, function: Function, context: Context) -> Function:
        return self.hoisted(function, steady_nodes(function))

    def hoisted(self, function: Function, steady: Collection[Node]) -> Function:
        """The function with less in its loops. `steady`: nodes that need not be computed at every
        run."""
        if not any(isinstance(n.op, Control) for n in function.nodes()):
            return function

        def change(n: Node, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
            op = n.op
            if not isinstance(op, Control):
                return None
            given = inputs[op.leading :]
            functions = [self.hoisted(f, ()) for f in op.functions]
            fixed = {v for v in n.inputs if v.node in steady}
            outside = [op.leading + k for k in range(op.varying, len(given))
                       if op.loops or n.inputs[op.leading + k] in fixed]  # fmt: skip
            found = [self.invariant(f, {f.inputs[k - op.leading] for k in outside})
                     for f in functions]  # fmt: skip
            if not any(found) and all(a is b for a, b in zip(functions, op.functions)):
                return None
            more: list[Value] = []
            for k, (f, values) in enumerate(zip(functions, found)):
                made = rewire(values, dict(zip(f.inputs, given)), n.owner)
                functions = [_with_inputs(g, values, k == j) for j, g in enumerate(functions)]
                more += [made[v] for v in values]
            return n.owner.node(op.holding(functions), (*inputs, *more)).outputs

        return rebuilt(function, change)

    def invariant(self, f: Function, given: Collection[Value]) -> list[Value]:
        """What can be computed of `given` alone, where others read it: of what is read through,
        what is behind it."""
        inside = set(given)
        same: set[Node] = set()
        for n in f.nodes():
            if isinstance(n.op, Variable) or (not self.variables and self.leaves(n, inside)):
                same.add(n)
                inside.update(n.outputs)
        read = [v for n in f.nodes() if n not in same for v in n.inputs]
        found: dict[Value, None] = {}
        stack = [v for v in (*read, *f.roots()) if v.node in same][::-1]
        while stack:
            v = stack.pop()
            if not _is_cheap(v.node):
                found[v] = None
            else:
                stack.extend(x for x in reversed(v.node.inputs) if x.node in same)
        return list(found)

    def leaves(self, n: Node, inside: Collection[Value]) -> bool:
        if isinstance(n.op, Input | Constant | Control | Effect) or can_fail(n):
            return False
        # numbers go along with what reads them
        return all(v in inside or isinstance(v.node.op, Constant) for v in n.inputs)


def _is_cheap(n: Node) -> bool:
    """Whether a value is read through, or made of nothing where it is read."""
    return isinstance(n.op, READ_THROUGH) or (not n.inputs and not isinstance(n.op, Variable))


def _with_inputs(f: Function, values: Sequence[Value], own: bool) -> Function:
    """`f` with inputs in the place of its values, or with inputs more that it does not read."""
    owner = f.inputs[0].node.owner if f.inputs else f.roots()[0].node.owner
    taken = {v.node.op.input_name for v in f.inputs if isinstance(v.node.op, Input)}
    more: dict[Value, Value] = {}
    for v in values:
        op = Input(free_name("w", taken), v.dtype, v.shape, v.type.layout)
        more[v] = owner.node(op, (), v.node.loc).outputs[0]
    inputs = (*f.inputs, *more.values())
    if not own:
        return replace(f, inputs=inputs)
    new = rewire(f.roots(), more, owner)
    return Function(f.name, inputs, tuple((name, new[v]) for name, v in f.outputs),
                    f.updates, tuple(new[v] for v in f.effects))  # fmt: skip
