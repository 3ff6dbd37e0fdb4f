"""`if_`: one of two sub-graphs, as a condition says.

In: a condition and two Python functions, each called once to see what it computes. Out: the results
of the one that is taken at a run; the other is not computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...dtypes import Array, bool_
from ...errors import DTypeError, GraphError, ShapeError
from ..ir import CALLS, Function, Interner, Node, TensorType, Value, topological
from .base import Caller, as_value, graph_function
from .control import Control, enclosed, form, packed, placeholder, values_in
from .source import Constant, Input, Variable
from .state import Token


@dataclass(frozen=True)
class If(Control):
    """`then` where the first operand, a bool, is true, else `orelse`; both of the other operands.
    They have results of the same types."""

    then: Function
    orelse: Function
    name = "if_"
    leading = 1
    loops = False

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        condition(types[0])
        results = []
        for f in self.functions:
            given = tuple(v.type for v in f.inputs)
            if given != types[1:]:
                raise ShapeError(f"operands {_list(types[1:])}, a side takes {_list(given)}")
            results.append(tuple(v.type for _, v in f.outputs))
        if results[0] != results[1]:
            raise ShapeError(f"one side gives {_list(results[0])}, the other {_list(results[1])}")
        return results[0]

    def grad(self, g: Any, y: Any, *xs: Value) -> tuple[Value | None, ...]:
        return (None, *_gradients(self, (g,) if isinstance(g, Value) else g, xs))

    def interpret(self, call: Caller, *xs: Array) -> Any:
        return call(self.then if xs[0] else self.orelse, *xs[1:])


def condition(type: TensorType) -> None:
    """DTypeError or ShapeError if a value of `type` cannot decide anything."""
    if type.dtype != bool_:
        raise DTypeError(f"a condition is bool, it is {type}", "compare it with something")
    if type.shape != ():
        raise ShapeError(f"a condition is a single bool, it is {type}", "fm.all makes one of many")


def _list(types: Sequence[TensorType]) -> str:
    return ", ".join(map(str, types)) or "none"


@graph_function("if_")
def if_(cond: Any, then: Callable[[], Any], else_: Callable[[], Any]) -> Any:
    """What `then()` returns if `cond` is true at a run, else what `else_()` returns.

    `cond` is a single bool. Both functions return a value or a tuple of values, of the same number,
    shapes and dtypes; they are called once, to see what they compute, and may use other values of
    the graph. Only the one that is chosen is computed at a run, and what fails in the other does not
    fail. Numbers drawn at random are drawn in any case. Gradients flow to what both used.

        y = fm.if_(fm.sum(x) > 0, lambda: fm.log(x), lambda: x)

    DTypeError or ShapeError where `cond` is no single bool, ShapeError where the results differ in
    type, GraphError where they differ in form or a variable is assigned to. To choose element by
    element use `fm.where`.
    """
    decides = as_value(cond)
    condition(decides.type)
    owner = decides.node.owner
    (many, first, inside), (again, second, inside_other) = (_side(owner, f) for f in (then, else_))
    if many is None or again is None:
        raise GraphError("if_: a side returns nothing", "there would be nothing to choose")
    if many != again or len(first) != len(second):
        raise GraphError(f"if_: then returns {form(packed(many, first))}, else_ "
                         f"{form(packed(again, second))}")  # fmt: skip
    pairs = [_alike(a, b, owner) for a, b in zip(first, second)]
    for k, (a, b) in enumerate(pairs):
        if a.type != b.type:
            raise ShapeError(f"if_: then gives {a.type}, else_ {b.type}"
                             + (f" for result {k}" if many else ""), "cast or broadcast one")  # fmt: skip
    sides = [[pair[k] for pair in pairs] for k in range(2)]
    needs = [_needs(vs, made) for vs, made in zip(sides, (inside, inside_other))]
    taken = list(dict.fromkeys(v for found in needs for v in found))
    given = [(f"w{k}", v) for k, v in enumerate(taken)]
    functions = [enclosed(name, given, [(f"y{k}", v) for k, v in enumerate(vs)])
                 for name, vs in zip(("then", "orelse"), sides)]  # fmt: skip
    return packed(many, owner.node(If(*functions), (decides, *taken)).outputs)


def _side(owner: Interner, side: Callable[[], Any]) -> tuple[bool | None, list[Any], set[Node]]:
    """What a function returns, and the nodes that are its own, which the graph forgets."""
    at = owner.mark()
    inside: set[Node] = set()
    try:
        many, values = values_in(side())
        inside = _made(owner, at)
    finally:
        owner.forget(at, [v for n in inside or _made(owner, at) for v in n.outputs])
    return many, values, inside


def _alike(a: Any, b: Any, owner: Interner) -> tuple[Value, Value]:
    """Both as values, a number typed after the other."""
    first = as_value(a, b if isinstance(b, Value) else None, owner)
    return first, as_value(b, first, owner)


def _made(owner: Interner, mark: int) -> set[Node]:
    """The nodes made since `mark` that belong to a side: not what the graph keeps, variables and
    the drawing of random numbers with the state that it changes."""
    found = owner.made_since(mark)
    updates: dict[Value, Any] = getattr(owner, "updates", {})
    kept = [n for n in found if isinstance(n.op, Input | Variable)]
    for n in found:
        for v in n.outputs:
            if v in updates and not isinstance(n.op, Token):
                kept += [n, *(new.node for _, new in updates[v])]
    return set(found) - set(topological(kept))


def _needs(outputs: Sequence[Value], inside: set[Node]) -> list[Value]:
    """What `outputs` take from outside, constants apart."""
    nodes = [n for n in topological(v.node for v in outputs) if n in inside]
    read = [*(v for n in nodes for v in n.inputs), *outputs]
    return [v for v in dict.fromkeys(read)
            if v.node not in inside and not isinstance(v.node.op, Constant)]  # fmt: skip


def _gradients(op: If, gs: Sequence[Value | None], xs: Sequence[Value]
               ) -> list[Value | None]:  # fmt: skip
    """The gradients of what both sides take: another branch, which computes the side again."""
    cond, *captured = xs
    taken = [k for k, g in enumerate(gs) if g is not None]
    parts: list[dict[int, Value]] = []
    slopes: list[list[Value]] = []
    marks = []
    for f in op.functions:
        own = f.outputs[0][1].node.owner
        marks.append((own, own.mark()))
        slopes.append([placeholder(own, f.outputs[k][1].type) for k in taken])
        wrt = {k: v for k, v in enumerate(f.inputs) if v.dtype.is_float}
        seeds = [(f.outputs[k][1], s) for k, s in zip(taken, slopes[-1])]
        found = CALLS["__vjp__"](seeds, list(wrt.values()), cut=True)
        parts.append({k: g for k, g in zip(wrt, found) if g is not None})
    wanted = sorted({k for found in parts for k in found})
    functions = []
    for f, given, mine, (own, mark) in zip(op.functions, slopes, parts, marks):
        inputs = [*((f"w{k}", v) for k, v in enumerate(f.inputs)),
                  *((f"g{k}", v) for k, v in zip(taken, given))]  # fmt: skip
        outputs = [(f"y{k}", mine[k] if k in mine else CALLS["zeros_like"](f.inputs[k]))
                   for k in wanted]  # fmt: skip
        functions.append(enclosed(f.name, inputs, outputs, effects=False))
        own.forget(mark, given)
    out: list[Value | None] = [None] * len(captured)
    if wanted:
        operands = (cond, *captured, *(g for g in gs if g is not None))
        made = cond.node.owner.node(If(*functions), operands).outputs
        for k, v in zip(wanted, made):
            out[k] = v
    return out
