"""What every function must satisfy, before and after each pass: in a function, out violations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

from ..dims import free_symbols, show
from ..errors import UserError
from .ir import Function, Node, TensorType, Value
from .ops.source import Input, Variable
from .printer import held_functions, symbols_in


def verify(function: Function, held: bool = False) -> Iterator[str]:
    """Violations of the graph language's invariants, one sentence each; none if all is well.

    Operands come before their users and belong to the same interner; types are what the ops infer;
    updates fit variables, each written once; names are unique; symbols of one name are one symbol;
    sizes that a run computes are computed before they are used; held functions (`held`) satisfy the
    same.
    """
    prefix = f"graph {function.name}: "
    cycle = _cycle(function)
    if cycle is not None:
        yield f"{prefix}{cycle} depends on itself"
        return  # nothing below can walk it
    nodes = function.nodes()
    for node in nodes:
        for problem in _node_problems(node, nodes[0]):
            yield f"{prefix}{problem}"
        for inner in held_functions(node.op):
            for problem in verify(inner, True):
                yield f"{prefix}in {node!r}: {problem}"
    for problem in chain(_interface(function, nodes), _updates(function), _names(function, nodes),
                         _sizes(function, nodes, held)):  # fmt: skip
        yield f"{prefix}{problem}"


def _cycle(function: Function) -> Node | None:
    """A node that is among its own operands' operands, if any."""
    open_: set[Node] = set()
    done: set[Node] = set()
    roots = [*function.roots(), *(v for v, _ in function.updates), *function.inputs]
    for root in roots:
        stack = [(root.node, 0)]
        while stack:
            node, i = stack.pop()
            if node in done:
                continue
            if i == 0 and node in open_:
                return node
            open_.add(node)
            if i < len(node.inputs):
                stack += [(node, i + 1), (node.inputs[i].node, 0)]
            else:
                open_.discard(node)
                done.add(node)
    return None


def _node_problems(node: Node, first: Node) -> Iterator[str]:
    if node.owner is not first.owner:
        yield f"{node!r} belongs to another interner than {first!r}"
    for x in node.inputs:
        if x.node.serial >= node.serial and x.node.owner is node.owner:
            yield f"{node!r} is older than its operand {x!r}"
        if not 0 <= x.index < len(x.node.types):
            yield f"{node!r} uses result {x.index} of {x.node!r}, which has {len(x.node.types)}"
            return
    if node.op.arity is not None and node.op.arity != len(node.inputs):
        yield f"{node!r} has {len(node.inputs)} operands, {node.op.name} takes {node.op.arity}"
        return
    try:
        types = node.op.infer(*(x.type for x in node.inputs))
    except UserError as e:
        yield f"{node!r} is not well typed: {e.message}"
        return
    if isinstance(types, TensorType):
        types = (replace(types, layout=node.types[0].layout),)  # which passes may choose
    if tuple(types) != node.types:
        says, gives = (", ".join(str(t) for t in ts) for ts in (node.types, types))
        yield f"{node!r} has type {says}, its op infers {gives}"
    for t in node.types:
        if t.layout is not None and not _is_layout(t):
            yield f"{node!r} has type {t}, whose layout does not place each axis once"


def _sizes(function: Function, nodes: tuple[Node, ...], held: bool) -> Iterator[str]:
    """A held function may be given what has a size that is computed outside."""
    told: dict[Node, set[str]] = {}
    bound = {b.name: n for n in nodes for b in n.op.bindings()}
    given = {s.name for s in function.symbols()}
    for n in nodes if bound else ():
        found = told[n] = {b.name for b in n.op.bindings()}.union(*(told[v.node] for v in n.inputs))
        used = {s.name for t in n.types for d in t.shape for s in free_symbols(d)}
        if isinstance(n.op, Input):
            found |= used
        for name in sorted((used & bound.keys()) - found):
            yield f"{n!r} has dimension {name}, and nothing it depends on computes that"
        for b in n.op.bindings():
            if not held and b.name in given:
                yield f"{n!r} computes dimension {b.name}, which an input has"
            if any(s.name in bound for s in free_symbols(b.most)):
                yield f"{n!r} limits {b.name} by {show(b.most)}, which is computed too"


def _is_layout(t: TensorType) -> bool:
    """Whether each axis is laid out whole, or as outer and inner part of one block size."""
    parts: dict[int, list[tuple[str, int]]] = {}
    for piece in t.layout or ():
        parts.setdefault(piece.axis, []).append((piece.part, piece.block))
    if sorted(parts) != list(range(t.ndim)):
        return False
    for pieces in parts.values():
        kinds = sorted(kind for kind, _ in pieces)
        if kinds != ["all"] and (kinds != ["inner", "outer"] or pieces[0][1] != pieces[1][1]):
            return False
    return True


def _interface(function: Function, nodes: tuple[Node, ...]) -> Iterator[str]:
    given = set(function.inputs)
    if len(given) != len(function.inputs):
        yield "an input is listed twice"
    for v in function.inputs:
        if not isinstance(v.node.op, Input):
            yield f"{v!r} is listed among the inputs and is no input"
    for node in nodes:
        if isinstance(node.op, Input) and node.outputs[0] not in given:
            yield f"input {node.op.input_name!r} is used and not listed"
    seen: set[str] = set()
    for name, _ in function.outputs:
        if not name or name in seen:
            yield f"the output name {name!r} is " + ("used twice" if name else "empty")
        seen.add(name)


def _updates(function: Function) -> Iterator[str]:
    written: set[Value] = set()
    for target, new in function.updates:
        if not isinstance(target.node.op, Variable):
            yield f"an update writes {target!r}, which is no variable"
        elif target in written:
            yield f"variable {target.node.op.variable_name!r} is updated twice"
        elif target.type != new.type:
            yield (f"variable {target.node.op.variable_name!r} of type {target.type} is updated "
                   f"with {new.type}")  # fmt: skip
        written.add(target)


def _names(function: Function, nodes: tuple[Node, ...]) -> Iterator[str]:
    owners: dict[tuple[str, str], Value] = {}
    for node in (*(v.node for v in function.inputs), *nodes):
        op = node.op
        for v in node.outputs:
            claims = [("value", v.name)] if v.name else []
            if isinstance(op, Variable):
                claims.append(("variable", op.variable_name))
            elif isinstance(op, Input):
                claims.append(("input", op.input_name))
            for claim in claims:
                if owners.setdefault(claim, v) is not v:
                    yield f"two values have the {claim[0]} name {claim[1]!r}"
    by_name: dict[str, str] = {}
    for s in sorted(symbols_in(function), key=lambda s: s.key):
        if by_name.setdefault(s.name, s.key) != s.key:
            yield f"dimension {s.name!r} has two sets of bounds"
