"""Loops over sub-graphs: `Loop` and `Scan`, as loops of the graph language.

A `Loop` that ends when its condition says so is a while loop, whose scan outputs are collected in as
many rows as there can be turns; one whose number of turns follows from sizes, as exporters write
loops over a sequence, is a scan. Where the body cannot be converted
once for all turns (a carry grows, an element must be known), and there are few, it is converted for
each turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from .....dims import Dim, free_symbols, maximum, minimum
from .....dtypes import int64
from .....errors import ShapeError
from ....ir import CALLS, TensorType, Value
from ....ops.base import normal_axis
from ....ops.control import placeholder
from ....ops.shape import reshape
from ....ops.source import constant
from ....rewire import rewire
from ..bounding import largest
from ..call import Call, Operand, Undetermined
from ..counting import turns
from ..deciding import deciding
from ..registry import Result, converter
from ..sizes import as_sized, simplest

if TYPE_CHECKING:
    from onnx import GraphProto

_FEW_TURNS = 256  # may be converted one by one
_ANY_TURNS = (1 << 31) - 1  # a trip count as large as this is no limit


@converter("Loop", halves=True)
def _loop(call: Call) -> tuple[Result, ...]:
    loop = _Loop(call)
    given = [call.operand(k) for k in (0, 1) if call.has(k)]
    asked = [x for x in given if x.array() is None and not deciding(x).fault]

    def ask() -> NoReturn:
        raise Undetermined(asked[0])

    few = isinstance(loop.trip, int) and loop.trip <= _FEW_TURNS
    return call.attempt(loop.run, ask if asked else loop.unrolled if few else None)


class _Loop:
    """One node. Carries that the body passes on as they are stand for themselves in every turn."""

    def __init__(self, call: Call) -> None:
        self.call, self.body, self.owner = call, call.subgraph("body"), call.graph
        self.first = [call.operand(k) for k in range(2, len(call.operands))]
        carried = len(self.first)
        if len(self.body.input) != carried + 2 or len(self.body.output) <= carried:
            call.refuse(f"{carried} carries, its body has {len(self.body.input)} inputs and "
                        f"{len(self.body.output)} outputs")  # fmt: skip
        passed = _passed_on(self.body)
        self.varying = [
            k
            for k in range(carried)
            if passed.get(self.body.output[1 + k].name) != self.body.input[2 + k].name
        ]
        self.trip = self._trip()

    def _trip(self) -> Dim | Value | None:
        """The largest number of turns: known as a dimension, by a run, or there is none."""
        if not self.call.has(0):
            return None
        known = self.call.operand(0).elements()
        if known is None:
            return reshape(self.call.value(0), ())
        count: Dim = known.reshape(-1)[0]
        return None if isinstance(count, int) and count >= _ANY_TURNS else maximum(count, 0)

    def _begins(self) -> bool | Value:
        known = self.call.operand(1).array() if self.call.has(1) else np.True_
        return reshape(self.call.value(1), ()) if known is None else bool(known.reshape(-1)[0])

    def turn(self, counter: Operand, carries: Sequence[Operand]) -> list[Operand]:
        """The results of the body: whether to go on, all carries, elements of scan outputs."""
        goes = Operand("", self.owner, constant(np.True_, owner=self.owner))
        return self.call.inline(self.body, [counter, goes, *carries])

    def results(self, carries: Sequence[Value], scans: Sequence[Value],
                sources: Sequence[frozenset[str]]) -> tuple[Result, ...]:  # fmt: skip
        """The node's results, from the last carries that vary."""
        last: list[Result] = list(self.first)
        found = iter(sources)
        for k, v in zip(self.varying, carries):
            last[k] = Operand("", self.owner, v, sources=next(found))
        return (*last, *(Operand("", self.owner, v, sources=s) for v, s in zip(scans, found)))

    # --- one body for all turns -------------------------------------------------------------

    def run(self) -> tuple[Result, ...]:
        at = self.owner.mark()
        first = [self.first[k] for k in self.varying]
        types = [TensorType(int64, ()), *(x.value.type for x in first)]
        inputs = [placeholder(self.owner, t) for t in types]
        try:
            carries = list(self.first)
            for k, v in zip(self.varying, inputs[1:]):
                carries[k] = Operand("", self.owner, v, sources=self.first[k].sources)
            again, *made = self.turn(Operand("", self.owner, inputs[0]), carries)
            after = [made[k] for k in self.varying]
            scans = made[len(carries) :]
            outputs = [_kept(x.value, v) for x, v in zip(after, inputs[1:])]
            steps = _Steps(self, inputs, again, outputs, [x.value for x in scans])
            last, stacks = steps.loop([x.value for x in first])
        finally:
            self.owner.forget(at, inputs)
        return self.results(last, stacks, [x.sources for x in (*after, *scans)])

    # --- a body for each turn ---------------------------------------------------------------

    def unrolled(self) -> tuple[Result, ...]:
        begins = self._begins()
        if not isinstance(begins, bool) or not isinstance(self.trip, int):
            self.call.refuse("whether it begins must be known while compiling")
        carries = list(self.first)
        count = len(self.body.output) - 1 - len(carries)
        stacks: list[list[Value]] = [[] for _ in range(count)]
        sources: list[frozenset[str]] = [frozenset()] * count
        for k in range(self.trip if begins else 0):
            number = np.array(k, object)
            counter = Operand("", self.owner, elements=number, dtype=int64)
            again, *made = self.turn(counter, carries)
            carries = made[: len(carries)]
            for j, x in enumerate(made[len(carries) :]):
                stacks[j].append(x.value)
                sources[j] |= x.sources
            goes = again.array()
            if goes is None:
                self.call.refuse("its body changes the shape of a carry, or needs an element that "
                                 "must be known while compiling, and a run decides how often")  # fmt: skip
            if not goes.reshape(-1)[0]:
                break
        if not all(stacks):
            self.call.refuse("it makes no turn: the shapes of its scan outputs are not known")
        made_stacks = [CALLS["stack"](stack, 0) for stack in stacks]
        return (*carries, *(Operand("", self.owner, v, sources=s)
                            for v, s in zip(made_stacks, sources)))  # fmt: skip


class _Steps:
    """The body of a loop as values: what it makes of `inputs`, the counter and the carries."""

    def __init__(self, of: _Loop, inputs: Sequence[Value], again: Operand,
                 carries: Sequence[Value], scans: Sequence[Value]) -> None:  # fmt: skip
        self.of, self.owner, self.inputs = of, of.owner, inputs
        known = again.array()
        self.goes = None if known is None else bool(known.reshape(-1)[0])
        self.again = reshape(again.value, ())
        self.carries, self.scans = list(carries), list(scans)
        self.zero = constant(np.int64(0), owner=self.owner)

    def loop(self, first: Sequence[Value]) -> tuple[list[Value], list[Value]]:
        """The last carries, and the stacked results of all turns."""
        begins, limit = self.of._begins(), self.of.trip
        start = (self.zero, *first)
        if self.goes is False:
            limit = 1 if limit is None else limit if isinstance(limit, Value) else minimum(limit, 1)
        elif self.goes is None:
            after = (self.inputs[0] + 1, *self.carries)
            counted = turns(self.again, begins, self.inputs, start, after)
            if counted is not None and not isinstance(limit, Value):
                limit = counted if limit is None else minimum(limit, counted)
                begins = True
                self.goes = True
        if begins is False:
            begins, limit = True, 0
        if begins is True and self.goes is not None and not isinstance(limit, Value | None):
            return self._scan(start, limit)
        if self.goes and limit is None:
            self.of.call.refuse("it has neither a trip count nor a condition that changes")
        most = largest(limit) if isinstance(limit, Value) else limit
        if self.scans and most is None:
            self.of.call.refuse("its scan outputs have a length that only a run tells, without a "
                                "bound", "a trip count bounds it that is a number, follows from "
                                "sizes, or is the Min of anything and one of these")  # fmt: skip
        return self._while(start, begins, limit, most)

    def _made(self, of: Sequence[Value], carry: Sequence[Value]) -> list[Value]:
        found = rewire(of, dict(zip(self.inputs, carry)), self.owner)
        return [found[v] for v in of]

    def _scan(self, start: Sequence[Value], length: Dim) -> tuple[list[Value], list[Value]]:
        def step(carry: Sequence[Value], _: None) -> tuple[tuple[Value, ...], tuple[Value, ...]]:
            made = self._made([*self.carries, *self.scans], carry)
            split = len(self.carries)
            return (carry[0] + 1, *made[:split]), tuple(made[split:])

        last, stacks = CALLS["scan"](step, tuple(start), None, length)
        return list(last[1:]), list(stacks)

    def _while(self, start: Sequence[Value], begins: bool | Value, limit: Dim | Value | None,
               most: Dim | None) -> tuple[list[Value], list[Value]]:  # fmt: skip
        """`limit`: of the turns; `most`: what it is at most."""

        def holds(carry: Sequence[Value]) -> Value:
            return carry[0] & (carry[1] < limit) if isinstance(limit, Value) else carry[0]

        def body(carry: Sequence[Value]) -> tuple[tuple[Value, ...], tuple[Value, ...]]:
            again, *made = self._made([self.again, *self.carries, *self.scans], carry[1:])
            split = len(self.carries)
            return (again, carry[1] + 1, *made[:split]), tuple(made[split:])

        goes = begins if isinstance(begins, Value) else constant(np.True_, owner=self.owner)
        if self.scans:
            last, stacks = CALLS["__collecting_loop__"](holds, body, (goes, *start), most)
            return list(last[2:]), list(stacks)
        turns = None if isinstance(limit, Value) else limit
        made = CALLS["while_loop"](holds, lambda carry: body(carry)[0], (goes, *start), turns)
        return list(made[2:]), []


def _kept(after: Value, before: Value) -> Value:
    """A carry as it leaves the body in the shape in which it came, checked at run time where other
    dimensions promise so. ShapeError where it changes its shape."""
    for new, old in zip(after.shape, before.shape):
        if new != old and free_symbols(new) == free_symbols(old):
            raise ShapeError(f"a carry is {before.type}, its body makes {after.type} of it")
    return as_sized(after, before.shape)


def _passed_on(body: GraphProto) -> dict[str, str]:
    """The inputs of a sub-graph that outputs are, by name."""
    found = {info.name: info.name for info in body.input}
    for node in body.node:
        if node.op_type == "Identity" and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


# --- Scan ---------------------------------------------------------------------------------------


@converter("Scan", since=9, halves=True)
def _scan(call: Call) -> tuple[Result, ...]:
    """Sequences along any axes, forwards or backwards; results likewise."""
    steps = _Scan(call, 0)
    axes = call.integers("scan_input_axes") or (0,) * steps.count
    axes_out = call.integers("scan_output_axes") or (0,) * steps.made
    back = _flags(call, "scan_input_directions", steps.count)
    back_out = _flags(call, "scan_output_directions", steps.made)
    reverse = all((*back, *back_out))
    moved = [_moved(v, a, 0) for v, a in zip(steps.xs, axes)]
    xs = [CALLS["flip"](v, 0) if b and not reverse else v for v, b in zip(moved, back)]
    last, stacks = steps.along(steps.first, _alike(xs, 0), reverse)
    ys = [CALLS["flip"](v, 0) if b and not reverse else v for v, b in zip(stacks, back_out)]
    return steps.results((*last, *(_moved(v, 0, a) for v, a in zip(ys, axes_out))))


@converter("Scan", since=8, halves=True)
def _scan_of_batches(call: Call) -> tuple[Result, ...]:
    """Sequences [batch, time, ...], each of a length of its own where lengths are given; results
    are 0 beyond the end of one."""
    steps = _Scan(call, 1)
    lengths = call.optional(0)
    xs = _alike(steps.xs, 1)
    for k, back in enumerate(_flags(call, "directions", steps.count)):
        if back and lengths is not None:
            xs[k] = CALLS["reverse_sequence"](xs[k], lengths, 0, 1)
        elif back:
            xs[k] = CALLS["flip"](xs[k], 1)
    split = len(steps.first)

    def row(_: None, parts: Sequence[Value]) -> tuple[None, tuple[Value, ...]]:
        sequences = parts[split : split + steps.count]
        length = None if lengths is None else parts[-1]
        last, stacks = steps.along(parts[:split], sequences, False, length)
        return None, (*last, *stacks)

    given = [*steps.first, *xs, *([] if lengths is None else [lengths])]
    _, results = CALLS["scan"](row, None, tuple(_alike(given, 0)))
    return steps.results(results)


class _Scan:
    """One node: its body, states and sequences, which begin with operand `skipped`."""

    def __init__(self, call: Call, skipped: int) -> None:
        self.call, self.body = call, call.subgraph("body")
        self.count = call.integer("num_scan_inputs")
        self.operands = [call.operand(k) for k in range(skipped, len(call.operands))]
        split = len(self.operands) - self.count
        self.made = len(self.body.output) - split
        if self.count < 1 or split < 0 or self.made < 0:
            call.refuse(f"{len(self.operands)} operands, {self.count} of them to scan; its body has "
                        f"{len(self.body.output)} outputs")  # fmt: skip
        values = [x.value for x in self.operands]
        self.first, self.xs = values[:split], values[split:]
        self.sources: list[frozenset[str]] = []

    def along(self, first: Sequence[Value], xs: Sequence[Value], reverse: bool,
              length: Value | None = None) -> tuple[list[Value], list[Value]]:  # fmt: skip
        """The last states and the stacked results of one pass, the first `length` elements of
        which count (None: all)."""

        def step(carry: Sequence[Value], elements: Sequence[Value]
                 ) -> tuple[tuple[Value, ...], tuple[Value, ...]]:  # fmt: skip
            turn, *states = carry
            given = [Operand("", self.call.graph, v, sources=x.sources)
                     for v, x in zip((*states, *elements), self.operands)]  # fmt: skip
            results = self.call.inline(self.body, given)
            self.sources = [x.sources for x in results]
            made = [x.value for x in results]
            after = [_kept(v, old) for v, old in zip(made, states)]
            ys = made[len(states) :]
            if length is not None:
                goes = turn < CALLS["cast"](length, int64)
                after = [CALLS["where"](goes, new, old) for new, old in zip(after, states)]
                ys = [CALLS["where"](goes, y, CALLS["zeros_like"](y)) for y in ys]
            return (turn + 1, *after), tuple(ys)

        zero = constant(np.int64(0), owner=self.call.graph)
        last, stacks = CALLS["scan"](step, (zero, *first), tuple(xs), None, reverse)
        return list(last[1:]), list(stacks)

    def results(self, values: Sequence[Value]) -> tuple[Result, ...]:
        return tuple(Operand("", self.call.graph, v, sources=found)
                     for v, found in zip(values, self.sources))  # fmt: skip


def _flags(call: Call, name: str, count: int) -> list[bool]:
    """An attribute with a direction for each of `count` sequences."""
    given = call.integers(name) or (0,) * count
    if len(given) != count or not set(given) <= {0, 1}:
        call.refuse(f"{name} is {list(given)}, {count} numbers of 0 and 1 are wanted")
    return [bool(d) for d in given]


def _moved(x: Value, source: int, target: int) -> Value:
    """x with an axis in another place."""
    order = [k for k in range(x.ndim) if k != normal_axis(source, x.ndim)]
    order.insert(normal_axis(target, x.ndim), normal_axis(source, x.ndim))
    moved: Value = CALLS["transpose"](x, order)
    return moved


def _alike(values: Sequence[Value], axis: int) -> list[Value]:
    """Values with an axis of one size."""
    size = simplest(v.shape[axis] for v in values)
    return [as_sized(v, [size if k == axis else d for k, d in enumerate(v.shape)]) for v in values]
