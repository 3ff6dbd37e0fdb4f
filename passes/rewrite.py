"""Rebuilding a function with some nodes replaced: what every graph pass is made of."""

from __future__ import annotations

from collections.abc import Callable

from ..graph.ir import Function, Node, Value

Replace = Callable[[Node], object]


def rewritten(function: Function, replace: Replace) -> Function:
    """`function` with each node that `replace` gives a Value (or a tuple of them) for replaced.

    `replace` sees nodes whose inputs are rewritten already; what it returns is rewritten in turn,
    until it returns None. New nodes stand where the old one stood in the user's source. The same
    object comes back if nothing changed.
    """
    new: dict[Value, Value] = {}
    changed = False

    def settle(root: Node) -> None:
        """Rewrites everything `root` needs; iterative, since graphs are deep."""
        nonlocal changed
        stack = [root]
        while stack:
            n = stack[-1]
            if all(v in new for v in n.outputs):
                stack.pop()
                continue
            waiting = [v.node for v in n.inputs if v not in new]
            if waiting:
                stack.extend(waiting)
                continue
            current = n
            if any(new[v] is not v for v in n.inputs):
                current = n.owner.node(n.op, tuple(new[v] for v in n.inputs), n.loc,
                                       n.types[0].layout)  # fmt: skip
                if current.locs != n.locs:
                    current.locs = tuple(dict.fromkeys((*current.locs, *n.locs)))
                changed = True
                if current is not n and all(v in new for v in current.outputs):
                    for a, b in zip(n.outputs, current.outputs):
                        new[a] = new[b]
                    stack.pop()
                    continue
            owner = n.owner
            before, owner.fixed_loc = owner.fixed_loc, n.loc
            made = replace(current)
            owner.fixed_loc = before
            stack.pop()
            if made is None:
                results = current.outputs
            else:
                changed = True
                results = made if isinstance(made, tuple) else (made,)
                for r in results:
                    if r not in new:
                        settle(r.node)
                results = tuple(new[r] for r in results)
            for a, b in zip(n.outputs, results):
                new[a] = b
                name = owner.names_of.get(a)
                if name is not None and a is not b:
                    owner.names_of.setdefault(b, name)
            if current is not n:
                for a, b in zip(current.outputs, results):
                    new[a] = b

    for n in function.nodes():
        settle(n)
    if not changed:
        return function
    return Function(
        function.name, function.inputs,
        tuple((name, new[v]) for name, v in function.outputs),
        tuple((var, new[v]) for var, v in function.updates),
        tuple(new[v] for v in function.effects),
    )  # fmt: skip
