"""Reverse-mode differentiation: in goes a scalar loss, out come ordinary graph values.

Every op brings its own `grad`; composites without one are differentiated through their expansion.
An op with several results has `grad(g, y, *xs)` called with tuples, `g` holding None for a result
that nothing depends on. What is built carries the location and layer of the node it is the
gradient of. Walks are iterative and contributions are summed in a fixed order, so the same
definition gives the same graph.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, overload

from ..dtypes import float32
from ..errors import DTypeError, GraphError, InternalError, Loc, ShapeError, user_frame
from .ir import CALLS, Interner, Node, Value
from .ops.base import graph_function
from .stability import stabilised


@overload
def gradients(loss: Value, wrt: Value) -> Value: ...
@overload
def gradients(loss: Value, wrt: Sequence[Value]) -> list[Value]: ...
def gradients(loss: Value, wrt: Value | Sequence[Value]) -> Value | list[Value]:
    """The derivative of the scalar `loss` with respect to each of `wrt`, of its type: a list of
    values, or one for a single value.

    Zeros where the loss does not depend on a value. Integer and bool values on the way stop the
    gradient, as `stop_gradient` does. What is differentiated is the loss as the rules of
    `stability` rewrite it, so that gradients are finite where the loss can be computed at all.

    Raises ShapeError if the loss is not a scalar, DTypeError where loss or wrt is no float, and
    GraphError if a float path to `wrt` runs through an op that has no gradient.
    """
    if isinstance(wrt, Value):
        return gradients(loss, [wrt])[0]
    here = str(Loc(*user_frame()))
    wrt = list(wrt)
    owner = loss.node.owner if isinstance(loss, Value) else None
    for v in (loss, *wrt):
        if not isinstance(v, Value) or v.node.owner is not owner:
            raise GraphError(f"gradients: {v!r} is not a value of the graph of the loss", here)
        if not v.dtype.is_float:
            raise DTypeError(f"gradients: {v!r} is not a float", here,
                             f"it comes from {v.node.loc}")  # fmt: skip
    if loss.shape != ():
        raise ShapeError(f"gradients: the loss must be a scalar, it is {loss.type}", here,
                         f"the loss comes from {loss.node.loc}",
                         "reduce it first: fm.mean(loss) or fm.sum(loss)")  # fmt: skip
    stable, within = stabilised(loss, wrt)
    with _located(loss.node.owner, loss.node.loc):
        one = CALLS["constant"](1, dtype=loss.dtype, owner=owner)
    found = vjp([(stable, one)], within)
    return [zeros_like(v) if g is None else g for v, g in zip(wrt, found)]


@graph_function("__vjp__")
def vjp(
    seeds: Sequence[tuple[Value, Value]], wrt: Sequence[Value], cut: bool = False
) -> list[Value | None]:
    """For results and their gradients, the gradients of `wrt`; None where independent.

    With `cut` the values of `wrt` are held to be independent of each other: nothing flows through
    one of them into another.
    """
    order = _between([y for y, _ in seeds], wrt if cut else ())
    active = _active(order, wrt)
    grads: dict[Value, Value] = {}
    for y, g in seeds:
        _accumulate(grads, y, g)
    for node in reversed(order):
        gs = tuple(grads.get(y) for y in node.outputs)
        if all(g is None for g in gs) or not any(x in active for x in node.inputs):
            continue
        with _located(node.owner, node.loc):
            for x, part in zip(node.inputs, _node_gradients(node, gs)):
                if part is None or x not in active:
                    continue
                if (part.dtype, part.shape) != (x.dtype, x.shape):
                    raise InternalError(f"the gradient of {node.op.name} has type {part.type} for "
                                        f"an operand of type {x.type}")  # fmt: skip
                _accumulate(grads, x, part)
    return [grads.get(v) for v in wrt]


def zeros_like(v: Value) -> Value:
    """A constant zero of v's type."""
    owner = v.node.owner
    with _located(owner, v.node.loc):
        zero = CALLS["constant"](0, dtype=v.dtype, owner=owner)
        return CALLS["broadcast_to"](zero, v.shape)  # type: ignore[no-any-return]


@contextmanager
def _located(owner: Interner, loc: Loc) -> Iterator[None]:
    before = owner.fixed_loc
    owner.fixed_loc = loc
    try:
        yield
    finally:
        owner.fixed_loc = before


def _between(roots: Sequence[Value], stops: Collection[Value]) -> list[Node]:
    """The nodes `roots` need, inputs first, without those that only values of `stops` need."""
    stopped = set(stops)
    order: list[Node] = []
    done: set[Node] = set()
    for root in roots:
        stack = [] if root in stopped else [(root.node, 0)]
        while stack:
            node, i = stack.pop()
            if node in done:
                continue
            if i == len(node.inputs):
                done.add(node)
                order.append(node)
                continue
            stack.append((node, i + 1))
            x = node.inputs[i]
            if x not in stopped and x.node not in done:
                stack.append((x.node, 0))
    return order


def _active(order: Sequence[Node], wrt: Sequence[Value]) -> set[Value]:
    """The float values through which some value of `wrt` is reached."""
    active = set(wrt)
    for node in order:
        if any(x in active for x in node.inputs):
            active.update(y for y in node.outputs if y.dtype.is_float)
    return active


def _accumulate(grads: dict[Value, Value], v: Value, g: Value) -> None:
    known = grads.get(v)
    if known is None:
        grads[v] = g
    elif v.dtype.computes:
        grads[v] = CALLS["add"](known, g)
    else:  # 16-bit floats are stored, not computed with
        cast = CALLS["cast"]
        grads[v] = cast(CALLS["add"](cast(known, float32), cast(g, float32)), v.dtype)


def _node_gradients(node: Node, gs: tuple[Value | None, ...]) -> tuple[Value | None, ...]:
    """The gradients of a node's operands, from those of its results."""
    op = node.op
    if not op.differentiable:
        raise GraphError(f"gradients: {op.name} has no gradient, and the loss depends on it",
                         f"{op.name} is at {node.loc}",
                         "put fm.stop_gradient around it if none should flow")  # fmt: skip
    if op.has("grad"):
        g: Any = gs
        y: Any = node.outputs
        if len(gs) == 1:
            g, y = gs[0], y[0]
        return op.grad(g, y, *node.inputs)
    if op.has("expand"):
        results = op.expand(*node.inputs)
        ys = (results,) if isinstance(results, Value) else tuple(results)
        operands = list(dict.fromkeys(node.inputs))
        found = dict(zip(operands, vjp([(y, g) for y, g in zip(ys, gs) if g is not None],
                                       operands, cut=True)))  # fmt: skip
        # an operand used twice has its whole gradient in one place
        return tuple(found.pop(x, None) for x in node.inputs)
    raise InternalError(f"{op.name} is differentiable but has neither grad nor expand")
