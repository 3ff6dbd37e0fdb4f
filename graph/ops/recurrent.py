"""`scan`: a step of a loop as a sub-graph, run once for each element of a sequence.

In: a Python function of graph values, traced once into the body that a `Scan` node holds. Out: the
last carry and the stacked results. The compiler makes a loop of it; `Scan.expand` repeats the body
in the graph instead. `Scan.grad` is a scan that runs the other way round, so that a gradient is as
compact as what it is the gradient of, and has a gradient in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...dims import Dim, bounds, show
from ...dtypes import Array, float32
from ...errors import GraphError, InternalError, ShapeError
from ..ir import CALLS, Function, TensorType, Value, topological
from ..rewire import rewire
from .base import Caller, as_value, graph_function, make
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
from .shape import Concat, Movement, Reshape, Slice, reshape


@dataclass(frozen=True)
class Scan(Control):
    """`body` applied `length` times, from the front of the sequences or, in reverse, from the back.

    Operands: `carries` first carries, `sequences` sequences [length, ...], then what stays the same
    in every step. The body takes a carry, one element of each sequence, and the rest; it gives the
    next carry and any number of results. Results: the last carry, and the stacked results.
    """

    body: Function
    carries: int
    sequences: int
    length: Dim
    reverse: bool = False

    @property
    def state(self) -> int:
        return self.carries

    @property
    def varying(self) -> int:
        return self.carries + self.sequences

    def reduced(self, results: Sequence[int], inputs: Sequence[int]) -> Scan:
        carries = sum(k < self.carries for k in results)
        sequences = sum(self.carries <= k < self.varying for k in inputs)
        made = super().reduced(results, inputs)
        return replace(made, carries=carries, sequences=sequences)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        if isinstance(self.length, int) and self.length < 0:
            raise ShapeError(f"{self.length} steps cannot be taken")
        if len(types) != len(self.body.inputs) or len(self.body.outputs) < self.carries:
            raise ShapeError(f"{len(types)} operands, the body has {len(self.body.inputs)} inputs "
                             f"and {len(self.body.outputs)} results")  # fmt: skip
        stacked = range(self.carries, self.carries + self.sequences)
        for k, (t, v) in enumerate(zip(types, self.body.inputs)):
            shape = (self.length, *v.shape) if k in stacked else v.shape
            if (t.dtype, t.shape, t.layout) != (v.dtype, shape, v.type.layout):
                raise ShapeError(f"operand {k} is {t}, the body takes {v.type}")
        results = [v.type for _, v in self.body.outputs]
        for k, t in enumerate(results[: self.carries]):
            if t != types[k]:
                raise ShapeError(f"the step makes carry {k} {t}, it begins as {types[k]}")
        return (*results[: self.carries],
                *(replace(t, shape=(self.length, *t.shape)) for t in results[self.carries :]))  # fmt: skip

    def parts(self, xs: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """Operands, or inputs of the body, as carries, sequences and the rest."""
        c, split = self.carries, self.varying
        return list(xs[:c]), list(xs[c:split]), list(xs[split:])

    def steps(self) -> range:
        """The positions in the sequences, in the order of the steps, of a length that is known."""
        if not isinstance(self.length, int):
            raise InternalError(f"a scan of {show(self.length)} steps cannot be repeated")
        forward = range(self.length)
        return forward[::-1] if self.reverse else forward

    def position(self, turn: Dim) -> Dim:
        """The place in the sequences that belongs to a turn of the loop."""
        return self.length - 1 - turn if self.reverse else turn

    def expand(self, *xs: Value) -> Any:
        owner = xs[0].node.owner
        carry, sequences, rest = self.parts(xs)
        outputs = [v for _, v in self.body.outputs]
        stacks: list[list[Value]] = [[] for _ in outputs[self.carries :]]
        for t in self.steps():
            elements = [element(s, t) for s in sequences]
            given = dict(zip(self.body.inputs, (*carry, *elements, *rest)))
            made = rewire(outputs, given, owner)
            carry = [made[v] for v in outputs[: self.carries]]
            for stack, v in zip(stacks, outputs[self.carries :]):
                stack.append(made[v])
        if not self.length:
            ends = [v.type for v in outputs[self.carries :]]
            return (*carry, *(CALLS["full"]((0, *t.shape), 0, t.dtype, owner) for t in ends))
        ordered = (stack[::-1] if self.reverse else stack for stack in stacks)
        return (*carry, *(CALLS["stack"](stack, 0) for stack in ordered))

    def grad(self, g: Any, y: Any, *xs: Value) -> tuple[Value | None, ...]:
        return _backward(self, (g,) if isinstance(g, Value) else g, xs)

    def interpret(self, call: Caller, *xs: Array) -> Any:
        carry, sequences, rest = self.parts(xs)
        stacks: list[list[Array]] = [[] for _ in self.body.outputs[self.carries :]]
        for t in self.steps():
            results = call(self.body, *carry, *(np.asarray(s[t]) for s in sequences), *rest)
            carry = list(results[: self.carries])
            for stack, result in zip(stacks, results[self.carries :]):
                stack.append(result)
        if not self.length:
            ends = [v.type for _, v in self.body.outputs[self.carries :]]
            return (*carry, *(np.zeros((0, *call.shape(t)), t.dtype.numpy) for t in ends))
        return (*carry, *(np.stack(s[::-1] if self.reverse else s) for s in stacks))

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return super().flops(out, *types) * self.length


def element(x: Value, t: int) -> Value:
    """x[t]; what was stacked is taken as it was before, so that no stack is made for it."""
    node = x.node
    if (
        isinstance(node.op, Concat)
        and node.op.axis == 0
        and all(v.shape[0] == 1 for v in node.inputs)
    ):
        x, t = node.inputs[t], 0
    if x.shape[0] == 1:
        if isinstance(x.node.op, Reshape) and x.node.inputs[0].shape == x.shape[1:]:
            return x.node.inputs[0]
        return reshape(x, x.shape[1:])
    starts = (t, *[0] * (x.ndim - 1))
    return reshape(make(Slice(starts, (1, *x.shape[1:]), (1,) * x.ndim), x), x.shape[1:])


def scan(
    step: Callable[[Any, Any], tuple[Any, Any]], initial: Any, xs: Any = None,
    length: Any = None, reverse: bool = False,
) -> tuple[Any, Any]:  # fmt: skip
    """A loop with a state: `carry, y = step(carry, x)` for each element x of xs; (last carry, ys).

    `initial` and `xs` are a value or a tuple of values; the elements are taken along the first axis
    of each of xs. `step` gets and returns a carry of the structure, shapes and dtypes of `initial`;
    its y is a value, a tuple of values or None, and comes back stacked along a new first axis.
    Without xs, `length` says how often, and x is None. In `reverse` the last element comes first,
    and y still stands where its x stood. The conventions are those of `jax.lax.scan`.

        last, sums = fm.scan(lambda total, x: (total + x, total + x), 0.0, x)

    `step` is called once, to see what it computes. Other values of the graph may be used in it,
    weights say. What depends on neither carry nor x, a drawn random number too, is computed once
    for all steps. Gradients flow to `initial`, `xs` and the values used in `step`.

    The length may be known at run time only, and may be 0. ShapeError where lengths differ, or
    where the carry changes its type; GraphError where `step` returns no pair or assigns to a
    variable.
    """
    carry_many, carries = values_in(initial)
    xs_many, sequences = values_in(xs)
    owner = owner_of((*carries, *sequences))
    first = [as_value(v, owner=owner) for v in carries]
    given = [as_value(v, owner=owner) for v in sequences]
    if not first and not given:
        raise GraphError("scan: it has no carry and no xs", "give one of them a value")
    steps = _length(given, length)
    at = owner.mark()
    inputs = [placeholder(owner, v.type) for v in first]
    inputs += [placeholder(owner, replace(v.type, shape=v.shape[1:])) for v in given]
    try:
        returned = step(packed(carry_many, inputs[: len(first)]),
                        packed(xs_many, inputs[len(first) :]))  # fmt: skip
        if not isinstance(returned, tuple | list) or len(returned) != 2:
            raise GraphError(f"scan: step must return a pair (carry, y), not {returned!r}")
        many, carry = values_in(returned[0])
        y_many, ys = values_in(returned[1])
        if many != carry_many or len(carry) != len(first):
            raise GraphError(f"scan: step must return a carry like initial, {form(initial)}; it "
                             f"returned {form(returned[0])}")  # fmt: skip
        outputs = [as_value(v, b, owner) for v, b in zip(carry, first)]
        outputs += [as_value(v, owner=owner) for v in ys]
        for k, (a, b) in enumerate(zip(first, outputs)):
            if a.type != b.type:
                raise ShapeError(f"scan: step makes carry {k} {b.type}, it begins as {a.type}",
                                 "a carry keeps its shape and dtype: cast or broadcast it")  # fmt: skip
        taken = captured(inputs, outputs)
        body = enclosed("step", _inputs(inputs, taken, len(first)), _results(outputs, len(first)))
    finally:
        owner.forget(at, inputs)
    op = Scan(body, len(first), len(given), steps, reverse)
    results = owner.node(op, (*first, *given, *taken)).outputs
    return packed(carry_many, results[: len(first)]), packed(y_many, results[len(first) :])


def _length(xs: Sequence[Value], length: Any) -> Dim:
    """The number of steps."""
    sizes: list[Dim] = [] if length is None else [CALLS["__dim__"](length)]
    for v in xs:
        if v.ndim == 0:
            raise ShapeError(f"scan: {v!r} has no axis to take elements from")
        sizes.append(v.shape[0])
    if not sizes:
        raise ShapeError("scan: without xs it needs length=")
    if any(size != sizes[0] for size in sizes) or (bounds(sizes[0])[1] or 0) < 0:
        raise ShapeError(f"scan: lengths {', '.join(show(d) for d in sizes)} are not one length")
    return sizes[0]


def _inputs(inputs: Sequence[Value], taken: Sequence[Value], carries: int
           ) -> list[tuple[str, Value]]:  # fmt: skip
    """The inputs of a body by name: carries, elements, and what stays the same."""
    return [*((f"carry{k}", v) for k, v in enumerate(inputs[:carries])),
            *((f"x{k}", v) for k, v in enumerate(inputs[carries:])),
            *((f"w{k}", v) for k, v in enumerate(taken))]  # fmt: skip


def _results(outputs: Sequence[Value], carries: int) -> list[tuple[str, Value]]:
    return [*((f"carry{k}", v) for k, v in enumerate(outputs[:carries])),
            *((f"y{k}", v) for k, v in enumerate(outputs[carries:]))]  # fmt: skip


def _backward(
    op: Scan, gs: Sequence[Value | None], xs: Sequence[Value]
) -> tuple[Value | None, ...]:
    """The gradients of a scan's operands, given those of its results.

    The scan runs again and keeps what each step's gradient is made of (equal loops are compiled as
    one, so nothing is computed twice); then a scan in the other direction carries the gradient of
    the carry, and sums of those of what stays the same.
    """
    owner = xs[0].node.owner
    body = op.body
    c, split = op.carries, op.varying
    own = body.inputs[0].node.owner
    at = own.mark()
    flows = [k for k in range(c) if body.inputs[k].dtype.is_float]
    summed = [k for k in range(split, len(xs)) if xs[k].dtype.is_float]
    taken = [k for k in range(c, len(gs)) if gs[k] is not None]
    out = [v for _, v in body.outputs]
    slopes = [placeholder(own, out[k].type) for k in flows]
    sums = [placeholder(own, _wide(body.inputs[k].type)) for k in summed]
    slices = [placeholder(own, out[k].type) for k in taken]
    wrt = [v for v in body.inputs if v.dtype.is_float]
    seeds = list(zip((out[k] for k in (*flows, *taken)), (*slopes, *slices)))
    parts = dict(zip(wrt, CALLS["__vjp__"](seeds, wrt)))
    zeros, cast = CALLS["zeros_like"], CALLS["cast"]

    def part(k: int) -> Value | None:
        return parts.get(body.inputs[k])

    results: list[Any] = [zeros(body.inputs[k]) if part(k) is None else part(k) for k in flows]
    for k, before in zip(summed, sums):
        more = part(k)
        results.append(before if more is None else before + cast(more, before.dtype))
    passed = [k for k in range(c, split) if part(k) is not None]
    results += [part(k) for k in passed]
    kept = _kept(body, results, c, split)
    inputs = [*slopes, *sums, *kept, *body.inputs[c:split], *slices]
    same = captured(inputs, results, kept)  # what no step changes
    carried = len(slopes) + len(sums)
    given = enclosed("step", _inputs(inputs, same, carried), _results(results, carried), False)
    own.forget(at, (*slopes, *sums, *slices))
    if not results:
        return (None,) * len(xs)

    named = tuple((f"y{k}", v) for k, v in enumerate(kept))
    keeping = replace(op, body=replace(body, outputs=(*body.outputs[:c], *named), effects=()))
    stacks = owner.node(keeping, tuple(xs)).outputs[c:] if kept else ()
    outside = rewire(same, dict(zip(body.inputs, xs)), owner)
    first = [zeros(xs[k]) if gs[k] is None else gs[k] for k in flows]
    first += [CALLS["full"](s.shape, 0, s.dtype, owner) for s in sums]
    operands = (*first, *stacks, *xs[c:split], *(gs[k] for k in taken),
                *(outside[v] for v in same))  # fmt: skip
    sequences = len(inputs) - carried
    back = Scan(given, carried, sequences, op.length, not op.reverse)
    made: list[Value] = list(owner.node(back, operands).outputs)  # type: ignore[arg-type]
    gradients: list[Value | None] = [None] * len(xs)
    for k, v in zip((*flows, *summed, *passed), made):
        gradients[k] = v if v.dtype == xs[k].dtype else cast(v, xs[k].dtype)
    return tuple(gradients)


def _kept(body: Function, results: Sequence[Value], carries: int, varying: int) -> list[Value]:
    """What a step must keep for `results`, which are made of its values: the carries that are used,
    and what is computed of carries and elements, but for mere movements of elements."""
    forward = set(topological(v.node for _, v in body.outputs))
    inside = set(body.inputs[:varying])
    for n in topological(v.node for _, v in body.outputs):
        if any(v in inside for v in n.inputs):
            inside.update(n.outputs)
    kept: dict[Value, None] = dict.fromkeys(body.inputs[:carries])
    used: set[Value] = set()
    stack = list(results)
    while stack:
        v = stack.pop()
        if v in used:
            continue
        used.add(v)
        if v.node in forward and v in inside and v.node.inputs:
            if not isinstance(v.node.op, Movement):
                kept[v] = None
                continue
        stack.extend(v.node.inputs)
    return sorted((v for v in kept if v in used), key=lambda v: (v.node.serial, v.index))


def _wide(t: TensorType) -> TensorType:
    """The type to sum values of type `t` in: 16-bit floats are stored, not computed with."""
    return t if t.dtype.computes else replace(t, dtype=float32)


graph_function("scan")(scan)
