"""`while_loop`: a step as a sub-graph, run for as long as a condition holds.

In: two Python functions of graph values, each called once to see what it computes. Out: the last
carry, and where results of the turns are collected these, as many as there were turns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...dims import Dim, bounds
from ...dtypes import Array
from ...errors import GraphError, ShapeError
from ..ir import CALLS, Function, TensorType, Value
from ..rewire import rewire
from .base import Caller, as_value, graph_function
from .branch import condition
from .control import (
    Control,
    captured,
    enclosed,
    form,
    owner_of,
    packed,
    placeholder,
    values_in,
)


@dataclass(frozen=True)
class While(Control):
    """`body` for as long as a condition holds, `limit` times at most (None: any number).

    Operands: whether to begin at all, the first carries, then what stays the same. The body takes
    the carries and the rest; it gives whether to go on, the next carries and, if there is a limit,
    any number of results. Results: the last carries, and the stacked results [limit, ...]: rows that
    no turn made hold anything, and whoever reads them cuts them off.
    """

    body: Function
    carries: int
    limit: Dim | None = None
    name = "while_loop"
    leading = 1
    judging = 1
    differentiable = False

    @property
    def state(self) -> int:
        return self.carries

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        condition(types[0])
        given = tuple(v.type for v in self.body.inputs)
        if given != types[1:]:
            raise ShapeError(f"operands {', '.join(map(str, types[1:]))}, the body takes "
                             f"{', '.join(map(str, given))}")  # fmt: skip
        first, *made = (v.type for _, v in self.body.outputs)
        results, rows = made[: self.carries], made[self.carries :]
        condition(first)
        if tuple(results) != given[: self.carries]:
            raise ShapeError(f"the step makes {', '.join(map(str, results))} of carries "
                             f"{', '.join(map(str, given[: self.carries]))}")  # fmt: skip
        if self.limit is None:
            if rows:
                raise ShapeError("nothing limits the number of results that the turns make")
            return tuple(results)
        return (*results, *(replace(t, shape=(self.limit, *t.shape)) for t in rows))

    def reduced(self, results: Sequence[int], inputs: Sequence[int]) -> While:
        carries = sum(k < self.carries for k in results)
        return replace(super().reduced(results, inputs), carries=carries)

    def interpret(self, call: Caller, *xs: Array) -> Any:
        again, carry, rest = xs[0], list(xs[1 : 1 + self.carries]), xs[1 + self.carries :]
        rows = [v.type for _, v in self.body.outputs[1 + self.carries :]]
        shapes: list[Any] = [(self.limit, *call.shape(t)) for t in rows]
        stacks = [np.zeros(shape, t.dtype.numpy) for shape, t in zip(shapes, rows)]
        turns = 0
        while again and (self.limit is None or turns < self.limit):  # type: ignore[operator]
            again, *made = call(self.body, *carry, *rest)
            carry = made[: self.carries]
            for stack, row in zip(stacks, made[self.carries :]):
                stack[turns] = row
            turns += 1
        return (*carry, *stacks)


@graph_function("while_loop")
def while_loop(
    cond: Callable[[Any], Any], body: Callable[[Any], Any], initial: Any,
    max_iterations: Any = None,
) -> Any:  # fmt: skip
    """`carry = body(carry)` for as long as `cond(carry)` is true, beginning with `initial`; the last
    carry.

    A carry is a value or a tuple of values, and keeps its structure, shapes and dtypes. `cond` gives
    a single bool; with `max_iterations`, a number or a dimension, the loop ends after so many steps
    in any case. The conventions are those of `jax.lax.while_loop`.

        n, steps = fm.while_loop(lambda c: c[0] > 1, lambda c: (c[0] // 2, c[1] + 1), (n, 0))

    Both functions are called once, to see what they compute. Other values of the graph may be used
    in them; what does not depend on the carry, a drawn random number too, is computed once. How
    often the loop ran is nowhere kept, so it has no gradient: use `fm.scan` for what is to be
    trained.

    DTypeError or ShapeError where `cond` gives no single bool, ShapeError where a carry changes its
    type, GraphError where it changes its form or a variable is assigned to.
    """
    limit = None if max_iterations is None else CALLS["__dim__"](max_iterations)
    return _traced(cond, body, initial, limit)[0]


@graph_function("__collecting_loop__")
def collecting_loop(
    cond: Callable[[Any], Any], body: Callable[[Any], tuple[Any, Any]], initial: tuple[Value, ...],
    limit: Dim,
) -> tuple[tuple[Value, ...], tuple[Value, ...]]:  # fmt: skip
    """A while loop of `limit` turns at most, whose body gives (carry, results): the last carry, and
    the results of all turns, stacked. How many turns there were is a dimension, called `turns`."""
    zero = as_value(np.int64(0), owner=owner_of(initial))

    def step(carry: Sequence[Value]) -> tuple[tuple[Value, ...], Any]:
        after, results = body(carry[1:])
        return (carry[0] + 1, *after), results

    (turns, *last), stacks = _traced(lambda c: cond(c[1:]), step, (zero, *initial), limit, True)
    return tuple(last), tuple(CALLS["prefix"](v, turns, 0, "turns") for v in stacks)


def _traced(
    cond: Callable[[Any], Any], body: Callable[[Any], Any], initial: Any, limit: Dim | None,
    collects: bool = False,
) -> tuple[Any, tuple[Value, ...]]:  # fmt: skip
    """The last carry of a loop, and the whole stacks of what its body gives beside carries."""
    many, values = values_in(initial)
    owner = owner_of(values)
    first = [as_value(v, owner=owner) for v in values]
    if not first:
        raise GraphError("while_loop: it has no carry", "the condition could never change")
    if limit is not None and (bounds(limit)[1] or 0) < 0:
        raise ShapeError(f"while_loop: {limit} steps cannot be taken")
    at = owner.mark()
    inputs = [placeholder(owner, v.type) for v in first]
    try:
        holds = as_value(cond(packed(many, inputs)), owner=owner)
        condition(holds.type)
        returned = body(packed(many, inputs))
        returned, rows = returned if collects else (returned, ())
        form_found, carry = values_in(returned)
        if form_found != many or len(carry) != len(first):
            raise GraphError(f"while_loop: body must return a carry like initial, {form(initial)}; "
                             f"it returned {form(returned)}")  # fmt: skip
        outputs = [as_value(v, b, owner) for v, b in zip(carry, first)]
        for k, (a, b) in enumerate(zip(first, outputs)):
            if a.type != b.type:
                raise ShapeError(f"while_loop: body makes carry {k} {b.type}, it begins as {a.type}",
                                 "a carry keeps its shape and dtype: cast or broadcast it")  # fmt: skip
        begins, again = (rewire([holds], dict(zip(inputs, vs)), owner)[holds]
                         for vs in (first, outputs))  # fmt: skip
        taken = captured(inputs, [again, *outputs, *rows])
        named = [*((f"carry{k}", v) for k, v in enumerate(outputs)),
                 *((f"y{k}", v) for k, v in enumerate(rows))]  # fmt: skip
        given = [*((f"carry{k}", v) for k, v in enumerate(inputs)),
                 *((f"w{k}", v) for k, v in enumerate(taken))]  # fmt: skip
        step = enclosed("step", given, [("again", again), *named])
    finally:
        owner.forget(at, inputs)
    op = While(step, len(first), limit)
    made = owner.node(op, (begins, *first, *taken)).outputs
    return packed(many, made[: len(first)]), made[len(first) :]
