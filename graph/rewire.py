"""Copying computations with some values replaced.

In: values, and a mapping from values to what stands for them. Out: the same computations reading
the replacements. Ordered updates and `clone` are made of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .ir import Interner, Value


def rewire(
    roots: Iterable[Value], mapping: Mapping[Value, Value], into: Interner
) -> dict[Value, Value]:
    """Every value needed for `roots`, to what stands for it among the nodes of `into`.

    Mapped values are leaves: what they were computed from is not looked at. A node of `into` whose
    operands stay the same stands for itself. Errors of type rules name the copied node's line.
    """
    out: dict[Value, Value] = dict(mapping)
    for root in roots:
        stack = [root]
        while stack:
            node = stack[-1].node
            missing = [v for v in node.inputs if v not in out]
            if stack[-1] in out:
                stack.pop()
            elif missing:
                stack.extend(missing)
            else:
                stack.pop()
                inputs = tuple(out[v] for v in node.inputs)
                if node.owner is into and inputs == node.inputs:
                    made = node
                else:
                    made = into.node(node.op, inputs, node.loc, node.types[0].layout)
                    made.locs = tuple(dict.fromkeys((*made.locs, *node.locs)))[:8]
                for old, new in zip(node.outputs, made.outputs):
                    out.setdefault(old, new)
    return out
