"""Row groups: reductions over the same columns of the same rows, and the pointwise work between.

In: who reads what, an order of the nodes, and which of them are steady. Out: groups of nodes that
one kernel computes row by row (softmax, layer norm, cross-entropy with its gradient), and an order
in which each stands in one piece. A group starts from a reduction and takes in what depends on it,
and what it needs, as long as every value it makes has an element per column or one per row,
members are read at the element at hand, and nothing outside stands between two members.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..algorithm import Expr
from ..dims import coefficient
from ..graph.ir import Node, Value
from ..graph.ops.base import Pointwise
from ..graph.ops.creation import Iota
from ..graph.ops.effects import Effect
from ..graph.ops.reduce import Reduction
from ..graph.ops.shape import Reshape
from .loops import flat
from .reading import Access, Reading
from .row_domain import RowDomain, row_domain
from .special import KERNELS
from .stages import physical

MOST_MEMBERS = 96  # a kernel somebody could still read
MOST_SEARCHED = 5 * MOST_MEMBERS  # what depends on a member through more nodes is left alone


@dataclass(frozen=True)
class Decision:
    """Why something was fused or was not."""

    node: Node
    text: str


class RowGroups:
    """The search; `groups` and `order` are what it found."""

    def __init__(self, reading: Reading, order: list[Node], steady: frozenset[Node]) -> None:
        self.reading = reading
        self.steady = steady
        self.order = order
        self.groups: list[tuple[Node, ...]] = []
        self.decisions: list[Decision] = []
        self.place = {n: k for k, n in enumerate(order)}
        self.group_of: dict[Node, tuple[Node, ...]] = {}
        self.claimed: dict[Node, Node] = {}  # by the product or pool they are done with

    def run(self) -> None:
        self._claim()
        for n in list(self.order):
            if n in self.group_of:
                continue
            d = row_domain(n)
            if d is not None:
                found = _Growth(self, n, d)
                found.run()
                if found.pays():
                    self._settle(found)

    def _claim(self) -> None:
        """Notes pointwise work on the result of a matrix product, convolution or pool that needs
        nothing computed later: it is done there, while the result is in registers."""
        root = self.claimed
        for n in self.order:
            if not isinstance(n.op, Pointwise):
                continue
            for v in n.inputs:
                m = root.get(v.node) or (v.node if self._contracts(v.node) else None)
                if m is not None and v.type.shape == n.types[0].shape and all(
                        o.node is m or root.get(o.node) is m or self.place[o.node] < self.place[m]
                        for o in self.reading.through(n)):  # fmt: skip
                    root[n] = m

    def _contracts(self, n: Node) -> bool:
        if isinstance(n.op, Reduction) or n.op.name in KERNELS or not n.op.has("compute"):
            return False
        return not self.reading.is_source(n) and self.reading.compute(n).combine is not None

    def between(self, members: set[Node]) -> list[Node] | None:
        """Nodes outside that depend on a member and are needed by one, in order; None where that is
        too far to search. Groups that were found count as one node each; in the order they stand in
        one piece."""
        after = {u for m in members for v in m.outputs for u in self.reading.final_users(v)}
        after -= members
        if not after:
            return []
        first = min(self.place[self.group_of.get(n, (n,))[0]] for n in after)
        needed: set[Node] = set()
        todo = [v.node for m in members for v in self.reading.through(m)]
        while todo:
            n = todo.pop()
            if n in needed or n in members or self.place[n] < first:
                continue
            whole = self.group_of.get(n, (n,))
            needed.update(whole)
            if len(needed) > MOST_SEARCHED:
                return None
            todo += [v.node for m in whole for v in self.reading.through(m)]
        late = set(members)
        for n in sorted(needed, key=self.place.__getitem__):
            whole = self.group_of.get(n, (n,))
            if any(v.node in late for m in whole for v in self.reading.through(m)):
                late.update(whole)
        return sorted(late - members, key=self.place.__getitem__)

    def _settle(self, found: _Growth) -> None:
        """Puts a group on record and moves its nodes to one place: what it needs before it, what
        needs it after it."""
        members = found.members
        group = tuple(sorted(members, key=self.place.__getitem__))
        lo, hi = self.place[group[0]], self.place[group[-1]]
        before: list[Node] = []
        after: list[Node] = []
        late: set[Node] = set(members)
        for n in self.order[lo : hi + 1]:
            if n in members:
                continue
            whole = self.group_of.get(n, (n,))
            if n not in late and any(
                v.node in late for m in whole for v in self.reading.through(m)
            ):
                late.update(whole)
            (after if n in late else before).append(n)
        self.order[lo : hi + 1] = [*before, *group, *after]
        for k in range(lo, hi + 1):
            self.place[self.order[k]] = k
        self.groups.append(group)
        for n in group:
            self.group_of[n] = group
            if n is not found.seed:
                self.decisions.append(Decision(n, f"computed row by row with {found.seed!r}"))
        for n, why in found.declined.items():
            self.decisions.append(Decision(n, f"not computed by the rows of {found.seed!r}: {why}"))


class _Growth:
    """One group while it grows from a reduction."""

    def __init__(self, groups: RowGroups, seed: Node, domain: RowDomain) -> None:
        self.groups, self.reading = groups, groups.reading
        self.seed, self.domain = seed, domain
        self.members: set[Node] = {seed}
        self.declined: dict[Node, str] = {}

    def run(self) -> None:
        while True:
            size = len(self.members)
            for n in self._neighbours():
                if n not in self.members and len(self.members) < MOST_MEMBERS:
                    self._try(n)
            if len(self.members) == size:
                return

    def pays(self) -> bool:
        """Whether one kernel saves reading or writing rows: several reductions do, and so does one
        along memory beside results as wide as what it reads."""
        reductions = [n for n in self.members if self.reduces(n)]
        wide = [n for n in self.members if self._wide(n) and self._read_outside(n)]
        if len(reductions) > 1:
            return True
        return any(self.domain.along or n in self._downstream() for n in wide)

    def reduces(self, n: Node) -> bool:
        return self.reading.compute(n).combine is not None

    def _wide(self, n: Node) -> bool:
        return not self.reduces(n) and n.types[0].shape == self.domain.shape

    def _read_outside(self, n: Node) -> bool:
        v = n.outputs[0]
        users = self.reading.final_users(v)
        return v in self.reading.kept or any(u not in self.members for u in users)

    def _downstream(self) -> set[Node]:
        """Members that depend on a reduction of the group, reductions included."""
        out: set[Node] = set()
        for n in sorted(self.members, key=self.groups.place.__getitem__):
            if self.reduces(n) or any(v.node in out for v in self.reading.through(n)):
                out.add(n)
        return out

    def _neighbours(self) -> list[Node]:
        """What members read, and who reads those that depend on a reduction. Others are left alone:
        what reads the same tensors is no reason to be computed here."""
        found = {v.node for m in self.members for v in self.reading.through(m)}
        for m in self._downstream():
            found.update(self.reading.final_users(m.outputs[0]))
        found -= self.members
        return sorted((n for n in found if not self.reading.is_source(n)),
                      key=self.groups.place.__getitem__)  # fmt: skip

    def _try(self, n: Node) -> None:
        """Takes in `n` and what stands between, or notes why not."""
        wanted = [n]
        while True:
            why = self._fault(wanted)
            more = [] if why else self.groups.between(self.members.union(wanted))
            if why or more == []:
                break
            if more is None or len(self.members) + len(wanted) + len(more) > MOST_MEMBERS:
                why = "too much stands in between"
                break
            wanted += more
        if why:
            self.declined[n] = why
        else:
            self.members.update(wanted)
            for m in wanted:
                self.declined.pop(m, None)

    def _fault(self, wanted: list[Node]) -> str:
        """Why nodes cannot become members together, "" if they can."""
        first = wanted[0]
        members = self.members.union(wanted)
        for n in wanted:
            if why := self._own_fault(n, members):
                return why if n is first else f"{n!r} stands between: {why}"
        for n in sorted(members, key=self.groups.place.__getitem__):
            reads = n in wanted or any(v.node in wanted for v in self.reading.through(n))
            if reads and (why := self._access_fault(n, members)):
                return why if n is first else f"{n!r}: {why}"
        return ""

    def _own_fault(self, n: Node, members: set[Node]) -> str:
        """What about a node itself keeps it from being a member."""
        if n in self.groups.group_of:
            return "it belongs to other rows"
        if n.op.name in KERNELS or len(n.outputs) != 1 or self.reading.stays(n):
            return "it has a kernel of its own"
        if (n in self.groups.steady) != (self.seed in self.groups.steady):
            return "not both need be computed at every run"
        if n in self.groups.claimed and not any(v.node in members for v in self.reading.through(n)):
            return "it is done with the product or pool it reads"
        return self._shape_fault(n)

    def _shape_fault(self, n: Node) -> str:
        d, out = self.domain, n.types[0]
        if self.reduces(n):
            other = row_domain(n)
            same = other is not None and (other.shape, other.layout, other.axes) == (
                d.shape, d.layout, d.axes)  # fmt: skip
            return "" if same else "it does not reduce the same columns of the same rows"
        if not isinstance(n.op, Pointwise | Effect | Reshape | Iota):
            return "it is not pointwise"
        if d.place(out.shape) is None:
            return "it has neither an element per row nor one per column"
        if out.layout != (d.layout if out.shape == d.shape else None):
            return "its elements lie in another order"
        return ""

    def _access_fault(self, n: Node, members: set[Node]) -> str:
        """What is wrong with what `n` reads for one row and column."""
        d = self.domain
        c = self.reading.compute(n)
        at = d.place(n.types[0].shape)
        assert at is not None
        values = {a.sym: i for a, i in zip(c.axes, at)}
        values |= {a.sym: d.logical[k] for a, k in zip(c.reduce_axes, d.axes)}
        vectors = self._wide(n) or self.reduces(n) or not d.along
        for a in self.reading.accesses(n, values):
            if a.value.node in members:
                if not self._in_place(a):
                    return f"it reads {a.value.node!r} at other elements than its own"
            elif a.indices is None:
                return "it reads where data says"
            elif vectors and not self._along(a.value, a.indices):
                return f"it reads {a.value!r} across memory"
        return ""

    def _in_place(self, a: Access) -> bool:
        where = self.domain.place(a.value.shape)
        if a.indices is None or a.masked or where is None:
            return False
        return all(i == j or d == 1 for i, j, d in zip(a.indices, where, a.value.shape))

    def _along(self, v: Value, indices: tuple[object, ...]) -> bool:
        """Whether neighbours are read from neighbours, or from one place."""
        at = physical(v.type, indices)  # type: ignore[arg-type]
        if any(isinstance(i, Expr) for i in at):
            return False
        offset = flat(at, v.type.physical_shape)
        return coefficient(offset, self.domain.neighbours.sym) in (0, 1)
