"""Fusion: which nodes are computed together.

In: a Function of plain ops. Out: the same with every computation inside a `Fused` node, one kernel
each; loops and branches stay, and reshapes that are only another view of what they read. A group is
a row with several reductions (see `rows`), a reduction (matrix product, convolution, sum...) with
the pointwise work on its result, the pool that follows and the padding of what comes out, or a chain
of pointwise work alone. Ops that only move elements cheaply (reshape, broadcast, slice) are never
computed by themselves: whoever reads them reads through them.

Every group's inputs are complete before its first node in one topological order, which keeps the
groups free of cycles without any search.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..algorithm import Apply, Compute, Expr, Load, walk
from ..dims import Dim, bounds, product
from ..errors import InternalError
from ..graph.ir import Function, Interner, Node, TensorType, Value
from ..graph.ops.convolution import Conv
from ..graph.ops.effects import Check
from ..graph.ops.fused import Fused, ReduceBlocks
from ..graph.ops.pooling import Pooling
from ..graph.ops.shape import Pad
from ..graph.ops.source import Input
from .cost import depth, heavy
from .reading import Reading
from .rows import Decision, RowGroups
from .special import KERNELS

MOST_STEPS = 64  # nodes in a row, one reading the other, that are written out in one kernel
_LEVELS = 3  # expressions inside one another that count as one node
_SMALL = 64  # results of at most so many elements are computed as early as possible


@dataclass(eq=False)
class Group:
    """Nodes that become one kernel. `first` and `last` are places in the order. What reads them
    joins the kernel, unless it is `special` or `rows`."""

    nodes: list[Node]
    first: int
    last: int
    anchor: Node
    reduces: bool
    special: bool = False
    rows: bool = False


class Fuse:
    """The state of one fusion run."""

    def __init__(self, function: Function, enabled: bool, steady: frozenset[Node]) -> None:
        self.function = function
        self.enabled = enabled
        self.decisions: list[Decision] = []
        self.groups: list[Group] = []
        self.group_of: dict[Node, Group] = {}
        self.reading = Reading(function)
        self.steady = steady
        self.asked = {v for _, v in (*function.outputs, *function.updates)}
        self.steps: dict[Node, int] = {}  # nodes in a row that a node ends, within its group
        self._levels: dict[Node, int] = {}

    def run(self) -> Function:
        rows = RowGroups(self.reading, early_order(self.function), self.steady)
        if self.enabled:
            rows.run()
        self.decisions += rows.decisions
        self.place = rows.place
        for n in rows.order:
            if n in self.group_of or self.reading.is_source(n) or self.reading.is_virtual(n):
                continue
            if n in rows.group_of:
                members = rows.group_of[n]
                last = self.place[members[-1]]
                self.add(Group(list(members), self.place[n], last, n, reduces=True, rows=True))
            else:
                self.assign(n)
        return self.rebuild(rows.order)

    def decline(self, n: Node, why: str) -> bool:
        self.decisions.append(Decision(n, why))
        return False

    # --- grouping ---------------------------------------------------------------------------

    def assign(self, n: Node) -> None:
        """Puts `n` into a producer's group, or into one of its own."""
        at = self.place[n]
        told = not self.reading.told.isdisjoint(n.outputs)  # read before who needs it is launched
        if n.op.name in KERNELS or self.reading.stays(n) or told:
            self.add(Group([n], at, at, n, reduces=False, special=True))
            return
        reduces = self.reading.compute(n).combine is not None
        if not self.enabled:
            self.add(Group([n], at, at, n, reduces))
            return
        if isinstance(n.op, Pad) and self.surrounds(n):
            return
        if not reduces:
            for v in self.producers(n):
                if self.joins(n, v):
                    self.enter(n, self.group_of[v.node], f"joined the kernel of {v.node!r}")
                    return
        if isinstance(n.op, Pooling) and self.folds(n, n.op):
            return
        g = Group([n], at, at, n, reduces)
        for v in self.producers(n):
            self.absorb(g, n, v)
        self.add(g)

    def folds(self, n: Node, op: Pooling) -> bool:
        """Adds a pool to the kernel of the convolution it reads, if it alone reads that, each
        element in one window: what a window holds is computed there and folded at once."""
        if not n.inputs:
            return False
        v, c = n.inputs[0], self.reading.compute(n)
        g = self.group_of.get(v.node)
        if g is None or not isinstance(g.anchor.op, Conv):
            return False
        if c.combine not in ("add", "max", "min") or len({x for x in walk(c.value)
                                                          if isinstance(x, Load)}) > 1:  # fmt: skip
            return self.decline(n, f"reads more than {v.node!r}, or does not add up")
        apart = all(s >= w for s, w in zip(op.strides, op.covered(op.window)))
        if not apart or any(d != 0 for d in (*op.pads_before, *op.pads_after)):
            return self.decline(n, f"elements of {v.node!r} are read several times, or padded")
        if self.results(g) != [v] or set(self.reading.final_users(v)) != {n} or v.shape != (
                g.anchor.types[0].shape):  # fmt: skip
            return self.decline(n, f"{v.node!r} has other readers")
        if any(self.reading.compute(m).checks for m in g.nodes) or g.anchor in self.steady:
            return self.decline(n, f"{v.node!r} is computed apart")
        self.enter(n, g, f"folds the results of {g.nodes[0]!r}")
        g.anchor = n
        return True

    def surrounds(self, n: Node) -> bool:
        """Adds padding to the kernel of the reduction it reads, which then writes its results into
        the middle of what is padded, and the border."""
        (v,) = n.inputs
        g = self.group_of.get(v.node)
        if g is None or not g.reduces or g.rows or g.special:
            return False
        anchor = g.anchor.types[0]
        if v.shape != anchor.shape or not v.type.layout == n.types[0].layout == anchor.layout:
            return False
        if anchor.layout is not None and any(p.part != "all" for p in anchor.layout):
            return False
        if g.anchor in self.steady and n not in self.steady:
            return False
        self.enter(n, g, f"is written by the kernel of {v.node!r}")
        return True

    def enter(self, n: Node, g: Group, why: str) -> None:
        """Makes `n` the last member of a group."""
        g.nodes.append(n)
        g.last = self.place[n]
        self.group_of[n] = g
        self.steps[n] = self.steps_to(n, (g,))
        self.decisions.append(Decision(n, why))

    def add(self, g: Group) -> None:
        self.groups.append(g)
        for n in g.nodes:
            self.group_of[n] = g
            self.steps[n] = self.steps_to(n, (g,))

    def steps_to(self, n: Node, groups: Sequence[Group]) -> int:
        """How many nodes in a row `n` ends, virtual ones too, where `groups` are one kernel. One
        whose expression is deep counts several times, as does a choice among many operands."""
        most = 0
        stack = [(v, self.levels(n)) for v in n.inputs]
        while stack:
            v, passed = stack.pop()
            if self.reading.is_virtual(v.node):
                stack += [(x, passed + 1) for x in v.node.inputs]
            elif self.group_of.get(v.node) in groups:
                passed += self.steps.get(v.node, 0)
            most = max(most, passed)
        return most

    def levels(self, n: Node) -> int:
        """What a node adds to a row of them, 1 for those of a few operations."""
        if n not in self._levels:
            special = n.op.name in KERNELS or self.reading.stays(n)
            self._levels[n] = (
                1 if special else max(1, depth(self.reading.compute(n).value) // _LEVELS)
            )
        return self._levels[n]

    def producers(self, n: Node) -> list[Value]:
        """Computed values `n` reads, reductions first: joining those saves most."""
        found = [v for v in dict.fromkeys(self.reading.through(n)) if v.node in self.group_of]
        return sorted(found, key=lambda v: not self.group_of[v.node].reduces)

    def outside_ready(self, n: Node, g: Group) -> bool:
        """Whether all that `n` reads from outside `g` is complete before `g` begins, or can be
        computed within `g`; what can is moved there."""
        late: list[Group] = []
        for v in self.reading.through(n):
            other = self.group_of.get(v.node)
            if other is not None and other is not g and other.last >= g.first:
                late.append(other)
        if not all(self.fits_into(other, g) for other in late):
            return False
        if self.steps_to(n, (g, *late)) > MOST_STEPS:
            return False
        for other in late:
            if other in self.groups:
                self.merge(other, g)
        return True

    def fits_into(self, other: Group, g: Group) -> bool:
        """Whether a pointwise group has the elements of `g`, which reads none of its at other
        elements, needs nothing `g` has to wait for, and nobody waits for what it makes before `g` is
        done."""
        a, b = other.anchor.outputs[0], g.anchor.outputs[0]
        if other.reduces or other.special or a.shape != b.shape or a.type.layout != b.type.layout:
            return False
        for m in other.nodes:
            for v in self.reading.through(m):
                source = self.group_of.get(v.node)
                if source is g:
                    return False
                if source is not None and source is not other and source.last >= g.first:
                    return False
            for v in m.outputs:
                readers = (self.group_of.get(u) for u in self.reading.final_users(v))
                if any(r is not None and r is not other and r is not g for r in readers):
                    return False
        return all(self.reads_in_place(m, other) for m in g.nodes)

    def merge(self, other: Group, g: Group) -> None:
        """Moves the nodes of `other` to `g`."""
        for m in other.nodes:
            self.group_of[m] = g
        g.nodes = sorted((*g.nodes, *other.nodes), key=self.place.__getitem__)
        g.last = max(g.last, other.last)
        self.groups.remove(other)

    def joins(self, n: Node, v: Value) -> bool:
        """Whether `n` can be computed where `v` is, on the element at hand."""
        g = self.group_of[v.node]
        if g.special:
            return self.decline(n, f"{v.node!r} has a kernel of its own")
        if g.rows:
            return False  # why it is no member is on record
        if g.reduces and g.anchor in self.steady and n not in self.steady:
            return self.decline(n, f"{v.node!r} need not be computed at every run")
        if self.steps_to(n, (g,)) > MOST_STEPS:
            return self.decline(n, f"{v.node!r} ends a long row of nodes")
        anchor = g.anchor.outputs[0]
        out = n.outputs[0]
        if out.shape != anchor.shape or out.type.layout != anchor.type.layout:
            return self.decline(n, f"shape or layout differs from {g.anchor!r}")
        if not self.reads_in_place(n, g):
            return self.decline(n, f"reads {v.node!r} at other elements than its own")
        if not all(self.reads_in_place(n, other) for x in self.reading.through(n)
                   if (other := self.group_of.get(x.node)) is not None
                   and other is not g and other.last >= g.first):  # fmt: skip
            return self.decline(n, "an operand computed later is read at other elements")
        if not self.outside_ready(n, g):
            return self.decline(n, "another operand is computed later")
        return True

    def reads_in_place(self, n: Node, g: Group) -> bool:
        """Whether `n` reads members of `g` only at the element it makes."""
        c = self.reading.compute(n)
        own = tuple(a.index for a in c.axes)
        for x in walk(c.value):
            if not isinstance(x, Load):
                continue
            v = n.inputs[int(x.buffer)]
            if v.node in self.group_of and self.group_of[v.node] is g:
                same = all(i == j or (d == 1 and not isinstance(i, Expr))
                           for i, j, d in zip(x.indices, own, v.shape))  # fmt: skip
                if x.mask is not None or len(x.indices) != len(own) or not same:
                    return False
                if v.shape != g.anchor.outputs[0].shape:
                    return False
            elif self.reading.is_virtual(v.node) and self.reaches(v, g):
                return False
        return True

    def reaches(self, v: Value, g: Group) -> bool:
        """Whether a virtual value reads a member of `g`."""
        stack = [v]
        while stack:
            x = stack.pop()
            if self.group_of.get(x.node) is g:
                return True
            if self.reading.is_virtual(x.node):
                stack.extend(x.node.inputs)
        return False

    def absorb(self, g: Group, n: Node, v: Value) -> None:
        """Moves the whole pointwise group of `v` into `g` if only `n` reads it, each element about
        once: its values are then computed where they are needed, at the place of `n`."""
        p = self.group_of[v.node]
        if p is g or p.reduces or p.special:
            return
        live = [x for m in p.nodes for x in m.outputs
                if x in self.reading.kept or any(self.group_of.get(u) is not p
                                         for u in self.reading.final_users(x))]  # fmt: skip
        if self.steps_to(n, (g, p)) > MOST_STEPS:
            self.decline(n, f"{v.node!r} ends a long row of nodes")
            return
        if live != [v] or v in self.reading.kept or set(self.reading.final_users(v)) != {n}:
            self.decline(n, f"{v.node!r} has other readers")
            return
        c = self.reading.compute(n)
        reads = product([a.extent for a in (*c.axes, *c.reduce_axes)])
        if not self.about_once(reads, v.type.size, p, c, n, v):
            self.decline(n, f"elements of {v.node!r} are read several times")
            return
        if any(isinstance(i, Expr) for x in walk(c.value) if isinstance(x, Load)
               for i in x.indices):  # fmt: skip
            return
        for m in p.nodes:
            self.group_of[m] = g
        g.nodes = [*p.nodes, *g.nodes]
        self.groups.remove(p)
        self.decisions.append(Decision(n, f"computes {v.node!r} where it is read"))

    def about_once(self, reads: Dim, size: Dim, p: Group, c: Compute, n: Node, v: Value) -> bool:
        if c.combine == "add" and isinstance(c.value, Apply) and c.value.fn == "mul" and len(
            [x for x in walk(c.value) if isinstance(x, Load)]) > 1:  # fmt: skip
            return False  # a contraction reads its operands many times
        if c.combine is None and n.op.name == "transpose":
            return False  # a transpose in registers beats strided reading
        if isinstance(n.op, ReduceBlocks):
            return True  # the last block may be shorter than the others
        budget = size if self.heavy(p) else size * 2
        low, _ = bounds(budget - reads)
        return (low is not None and low >= 0) or reads == size

    def heavy(self, p: Group) -> bool:
        return any(heavy(self.reading.compute(m).value) for m in p.nodes)

    # --- the new function -------------------------------------------------------------------

    def rebuild(self, order: list[Node]) -> Function:
        """The function with one Fused node per group."""
        interner = self.function.interner
        new: dict[Value, Value] = {}
        for n in order:
            if self.reading.is_source(n):
                for v in n.outputs:
                    new[v] = v
        for g in self.in_order():
            if self.reading.stays(g.anchor):
                self.keep(g.anchor, interner, new)
            else:
                self.emit(g, interner, new)
        fn = self.function
        return Function(
            fn.name, fn.inputs,
            tuple((name, new[v]) for name, v in fn.outputs),
            tuple((var, new[v]) for var, v in fn.updates),
            tuple(new[v] for v in fn.effects if v in new),
        )  # fmt: skip

    def in_order(self) -> list[Group]:
        """The groups by their first node, but each after those it reads from: a group that took
        in an earlier one begins before values its own nodes read."""
        out: dict[int, Group] = {}
        for root in sorted(self.groups, key=lambda g: g.first):
            stack = [root]
            while stack:
                g = stack[-1]
                sources = {id(s): s for n in g.nodes for v in self.reading.through(n)
                           if (s := self.group_of.get(v.node)) is not None and s is not g}  # fmt: skip
                waiting = [s for k, s in sources.items() if k not in out]
                if len(stack) > len(self.groups):
                    raise InternalError(f"fusion made a cycle through {g.anchor!r}")
                if waiting and id(g) not in out:
                    stack.extend(waiting[:1])
                else:
                    out.setdefault(id(g), stack.pop())
        return list(out.values())

    def results(self, g: Group) -> list[Value]:
        """What a group's kernel writes: what others read, the anchor's first result in front. A
        kernel of an op's own writes all of its results."""
        if g.special:
            return list(g.anchor.outputs)
        used = [v for n in g.nodes for v in n.outputs if self.is_result(v, g)]
        anchor = g.anchor.outputs[0]
        return sorted(used, key=lambda v: (v is not anchor, self.place[v.node]))

    def is_result(self, v: Value, g: Group) -> bool:
        """Whether a value of `g` is asked for, or read elsewhere. A check within a row happens for
        every element that is computed from what it passes on: nobody needs its value."""
        readers = [self.group_of.get(u) for u in self.reading.final_users(v)]
        if any(r is not g for r in readers):
            return True
        happens = g.rows and isinstance(v.node.op, Check) and bool(readers) and v not in self.asked
        return v in self.reading.kept and not happens

    def keep(self, n: Node, interner: Interner, new: dict[Value, Value]) -> None:
        """A node that stays, on what became of its operands."""
        inputs = tuple(new.get(v, v) for v in n.inputs)  # numbers stay the constants they are
        made = interner.node(n.op, inputs, n.loc)
        made.locs = n.locs
        new.update(zip(n.outputs, made.outputs))

    def emit(self, g: Group, interner: Interner, new: dict[Value, Value]) -> None:
        inner = Interner()
        inside: dict[Value, Value] = {}
        outer_inputs: list[Value] = []
        inner_inputs: list[Value] = []

        def inner_value(v: Value) -> Value:
            found = inside.get(v)
            if found is None:
                if self.group_of.get(v.node) is g or self.reading.is_virtual(v.node):
                    args = tuple(inner_value(i) for i in v.node.inputs)
                    made = inner.node(v.node.op, args, v.node.loc, v.node.types[0].layout)
                    made.locs = v.node.locs
                    for a, b in zip(v.node.outputs, made.outputs):
                        inside[a] = b
                    return inside[v]
                found = _input(inner, len(outer_inputs), v.type, v.node)
                outer_inputs.append(new[v])
                inner_inputs.append(found)
                inside[v] = found
            return found

        for n in sorted(g.nodes, key=lambda n: self.place[n]):
            for v in n.outputs:
                inner_value(v)
        results = self.results(g)
        if not results:
            return
        reducing = [m for m in g.nodes if g.reduces and self.reading.compute(m).combine is not None]
        name = "rows" if g.rows else (reducing or [g.anchor])[0].op.name
        body = Function(name, tuple(inner_inputs),
                        tuple((f"y{k}", inside[v]) for k, v in enumerate(results)))  # fmt: skip
        node = interner.node(Fused(body), tuple(outer_inputs), g.anchor.loc)
        locs = dict.fromkeys(loc for n in g.nodes for loc in n.locs)
        node.locs = tuple(locs)
        for v, made in zip(results, node.outputs):
            new[v] = made


def _input(inner: Interner, k: int, type: TensorType, source: Node) -> Value:
    """An input of a group's body, with the layout its value has outside."""
    op = Input(f"x{k}", type.dtype, type.shape, type.layout)
    return inner.node(op, (), source.loc).outputs[0]


def early_order(function: Function) -> list[Node]:
    """A topological order with small results first, then as written."""
    nodes = function.nodes()
    waiting = {n: len(set(v.node for v in n.inputs)) for n in nodes}
    users: dict[Node, list[Node]] = {}
    for n in nodes:
        for m in {v.node for v in n.inputs}:
            users.setdefault(m, []).append(n)
    heap: list[tuple[bool, int, Any]] = [
        (not _small(n), n.serial, n) for n in nodes if not waiting[n]
    ]
    heapq.heapify(heap)
    out: list[Node] = []
    while heap:
        n = heapq.heappop(heap)[2]
        out.append(n)
        for u in users.get(n, []):
            waiting[u] -= 1
            if not waiting[u]:
                heapq.heappush(heap, (not _small(u), u.serial, u))
    return out


def _small(n: Node) -> bool:
    sizes = [t.size for t in n.types]
    return all(isinstance(s, int) and s <= _SMALL for s in sizes)


def fuse(function: Function, enabled: bool, steady: frozenset[Node]
         ) -> tuple[Function, list[Decision]]:  # fmt: skip
    """The fused function and the reasons for what was and was not fused. `steady`: nodes that need
    not be computed at every run."""
    run = Fuse(function, enabled, steady)
    return run.run(), run.decisions
