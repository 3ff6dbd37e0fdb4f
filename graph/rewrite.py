"""Rebuilding computations with some nodes replaced: what every graph-to-graph pass is made of.

In: values or a function, and `replace`, which says what a node becomes. Out: the same computations
in the same interner, with replacements. Equal nodes become one, because nodes are interned; nodes
that nothing needs any more are gone, because a function holds what its roots reach.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from dataclasses import replace as with_fields
from functools import cache
from typing import Any, TypeVar

from ..errors import InternalError
from .ir import Function, Interner, Layout, Node, Value, topological
from .ops.base import Op
from .printer import held_functions

AnyOp = TypeVar("AnyOp", bound=Op)
Replace = Callable[[Node], "Value | tuple[Value, ...] | None"]
_DEPTH = 100  # replacements of replacements that are taken to be endless
_LOCS = 8  # places in the user's source a node remembers


def rewritten(function: Function, replace: Replace) -> Function:
    """`function` with each node that `replace` gives a Value (or a tuple of them) for replaced.

    `replace` sees nodes whose inputs are rewritten already; what it returns is rewritten in turn,
    until it returns None. New nodes stand where the old one stood in the user's source, and bear
    its name. Functions that ops hold are rewritten too. The same object comes back if nothing
    changed. Raises InternalError if replacing does not come to an end.
    """
    return Rewriter(replace).function(function)


def copied(function: Function) -> Function:
    """The function in an interner of its own: what passes build goes with it."""
    return changed_copy(function, lambda op: op)


def changed_copy(function: Function, change: Callable[[Op], Op]) -> Function:
    """A copy, in an interner of its own, in which every op is what `change` makes of it, in held
    functions too. Equal functions that ops hold are equal in the copy."""
    return _copy(function, change, {})


def _copy(function: Function, change: Callable[[Op], Op],
          known: dict[Function, Function]) -> Function:  # fmt: skip
    def held(f: Function) -> Function:
        if f not in known:
            known[f] = _copy(f, change, known)
        return known[f]

    interner = Interner()
    new: dict[Value, Value] = {}
    for n in topological([*(v.node for v in function.roots()),
                          *(v.node for v, _ in function.updates)]):  # fmt: skip
        made = interner.node(change(with_functions(n.op, held)), tuple(new[v] for v in n.inputs), n.loc,
                             chosen_layout(n))  # fmt: skip
        made.locs = n.locs
        for a, b in zip(n.outputs, made.outputs):
            new[a] = b
            name = n.owner.names_of.get(a)
            if name is not None:
                interner.names_of.setdefault(b, name)
    inputs = []
    for v in function.inputs:
        if v not in new:
            new[v] = interner.node(change(v.node.op), (), v.node.loc).outputs[0]
        inputs.append(new[v])
    return Function(function.name, tuple(inputs),
                    tuple((name, new[v]) for name, v in function.outputs),
                    tuple((new[a], new[b]) for a, b in function.updates),
                    tuple(new[v] for v in function.effects))  # fmt: skip


def with_functions(op: AnyOp, change: Callable[[Function], Function]) -> AnyOp:
    """`op` with each function it holds made another; itself if none changes."""
    changed: dict[str, Any] = {}
    for name in _function_fields(type(op)):  # type: ignore[arg-type]
        old = getattr(op, name)
        if isinstance(old, Function):
            new: Any = change(old)
            same = new is old
        elif isinstance(old, tuple):
            new = tuple(change(x) if isinstance(x, Function) else x for x in old)
            same = all(a is b for a, b in zip(new, old))
        else:
            continue
        if not same:
            changed[name] = new
    return with_fields(op, **changed) if changed else op  # type: ignore[type-var]


def rebuilt(
    function: Function, change: Callable[[Node, tuple[Value, ...]], Sequence[Value | None] | None]
) -> Function:
    """The function with every node rebuilt once, in the same interner: `change` gets a node and its
    new operands, and gives what becomes of its results, or None: the node on these operands. A
    result may be None if nothing that is left needs it. The same object if nothing changes."""
    new: dict[Value, Value | None] = {}
    for n in function.nodes():
        inputs = tuple(v for x in n.inputs if (v := new[x]) is not None)
        if len(inputs) < len(n.inputs):  # of no use any more
            new.update(dict.fromkeys(n.outputs))
            continue
        owner = n.owner
        before, owner.fixed_loc = owner.fixed_loc, n.loc
        made = change(n, inputs)
        if made is None:
            made = n.outputs
            if any(a is not b for a, b in zip(inputs, n.inputs)):
                made = owner.node(n.op, inputs, n.loc, chosen_layout(n)).outputs
        owner.fixed_loc = before
        for a, b in zip(n.outputs, made):
            new[a] = b
            if b is None or a is b:
                continue
            if b.node.serial > n.serial:
                merge_locs(b.node, n)
            if a in owner.names_of:
                owner.names_of.setdefault(b, owner.names_of[a])

    def kept(v: Value) -> Value:
        found = new[v]
        if found is None:
            raise InternalError(f"{v!r} is needed, and was left out")
        return found

    if all(new[v] is v for v in function.roots()):
        return function
    return Function(function.name, function.inputs,
                    tuple((name, kept(v)) for name, v in function.outputs),
                    tuple((var, kept(v)) for var, v in function.updates),
                    tuple(kept(v) for v in function.effects))  # fmt: skip


def shared_values(function: Function) -> set[Value]:
    """The values that several nodes read, or that are results, in held functions too."""
    readers: dict[Value, int] = dict.fromkeys(function.roots(), 2)
    out: set[Value] = set()
    for n in function.nodes():
        for v in set(n.inputs):
            readers[v] = readers.get(v, 0) + 1
        for f in held_functions(n.op):
            out |= shared_values(f)
    return out | {v for v, count in readers.items() if count > 1}


class Rewriter:
    """One rewriting. `new` maps every value seen to what it became; `shared`, values with several
    readers, is kept up to date."""

    def __init__(
        self, replace: Replace, keep_names: bool = True, shared: set[Value] | None = None
    ) -> None:
        self.replace = replace
        self.keep_names = keep_names
        self.shared: set[Value] = set() if shared is None else shared
        self.new: dict[Value, Value] = {}
        self._depth = 0

    def value(self, v: Value) -> Value:
        """What `v` becomes."""
        found = self.new.get(v)
        if found is None:
            self._settle(v.node)
            found = self.new[v]
        return found

    def function(self, f: Function) -> Function:
        """What `f` becomes: `f` itself if nothing in it changes."""
        for n in f.nodes():
            self._settle(n)
        new = self.new
        if all(new[v] is v for v in f.roots()):
            return f
        return Function(
            f.name, f.inputs,
            tuple((name, new[v]) for name, v in f.outputs),
            tuple((var, new[v]) for var, v in f.updates),
            tuple(new[v] for v in f.effects),
        )  # fmt: skip

    def _settle(self, root: Node) -> None:
        """Rewrites everything `root` needs; iterative, since graphs are deep."""
        new = self.new
        stack = [root]
        while stack:
            n = stack[-1]
            if n.outputs[0] in new:
                stack.pop()
                continue
            waiting = [v.node for v in n.inputs if v not in new]
            if waiting:
                stack.extend(waiting)
                continue
            stack.pop()
            current = self._with_new_inputs(n)
            if current is not n and current.outputs[0] in new:
                results = tuple(new[v] for v in current.outputs)
            else:
                results = self._replaced(current, n)
            for a, b in zip(n.outputs, results):
                new[a] = b
                if a is b:
                    continue
                if a in self.shared:
                    self.shared.add(b)
                if self.keep_names:
                    name = n.owner.names_of.get(a)
                    if name is not None:
                        n.owner.names_of.setdefault(b, name)
            if current is not n:
                new.update(zip(current.outputs, results))

    def _with_new_inputs(self, n: Node) -> Node:
        """`n` reading what its inputs became."""
        inputs = tuple(self.new[v] for v in n.inputs)
        op = with_functions(n.op, self.function)
        if op is n.op and all(a is b for a, b in zip(inputs, n.inputs)):
            return n
        made = n.owner.node(op, inputs, n.loc, chosen_layout(n))
        merge_locs(made, n)
        return made

    def _replaced(self, current: Node, n: Node) -> tuple[Value, ...]:
        """The final results of `current`, which stands for `n`."""
        owner = n.owner
        before, owner.fixed_loc = owner.fixed_loc, n.loc
        made = self.replace(current)
        owner.fixed_loc = before
        if made is None:
            return current.outputs
        results = made if isinstance(made, tuple) else (made,)
        self._depth += 1
        if self._depth > _DEPTH:
            raise InternalError(f"rewriting {n!r} ({n.loc}) does not come to an end: "
                                f"the last replacement is {results}")  # fmt: skip
        for r in results:
            if r.node.serial > current.serial:  # not one of its operands
                merge_locs(r.node, n)
        out = tuple(self.value(r) for r in results)
        self._depth -= 1
        return out


def chosen_layout(n: Node) -> Layout | None:
    """The layout that was chosen for the result of `n`, where its op does not say so itself."""
    return None if len(n.types) != 1 or hasattr(n.op, "layout") else n.types[0].layout


def merge_locs(node: Node, other: Node) -> None:
    """`node` also stands for what `other` was written for."""
    if other.locs != node.locs:
        node.locs = tuple(dict.fromkeys((*node.locs, *other.locs)))[:_LOCS]


@cache
def _function_fields(op_class: type[Any]) -> tuple[str, ...]:
    """The attributes of an op that may hold functions."""
    return tuple(f.name for f in fields(op_class) if "Function" in str(f.type))
