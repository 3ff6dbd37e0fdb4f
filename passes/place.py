"""Where the values of loops and branches lie.

In: blocks whose jobs are in order. Out: which values are views of others' memory, which memory a
loop has of its own, and what must be copied because it cannot be computed in its place.

What a held function is given is never copied: an element of a sequence is the sequence at an offset
that the loop's counter tells. What it makes is computed where it belongs: an element of a stacked
result in its place there, the result of a branch in that of the whole, the next carry where the
next turn reads it. A carry needs two places, by turns, unless nobody reads the old one any more when
the new one is stored. Where carries are stacked, what the turns leave behind is the stack.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TypeAlias

from ..dims import Dim, DimExpr, bounds, mod, sym
from ..graph.ir import Value
from ..graph.ops.loop import While
from ..graph.ops.recurrent import Scan
from .arena import aligned
from .work import Block, Held, Job, overwrites


@dataclass(eq=False)
class Cell:
    """A loop's memory for one value of each turn: `count` places of `size` bytes, taken by turns; or
    a `trail`, one more than there are turns, from the first to the last or in `reverse`."""

    size: Dim
    count: Dim
    trail: bool = False
    reverse: bool = False

    def place(self, turn: Dim) -> Dim:
        """The offset of what turn number `turn` finds."""
        if self.trail:
            return (self.count - 1 - turn if self.reverse else turn) * self.size
        return mod(turn, self.count) * self.size


Home: TypeAlias = Value | Cell
Place: TypeAlias = tuple[Home, Dim]  # whose memory, and how many bytes from its start


@dataclass(frozen=True)
class Transfer:
    """A value that is copied."""

    to: Place
    source: Value


@dataclass(eq=False)
class Ends:
    """What is copied at the beginning and at the end of a block."""

    first: list[Transfer] = field(default_factory=list)
    last: list[Transfer] = field(default_factory=list)


@dataclass(eq=False)
class Loop:
    """What a loop has of its own: a counter up to `count` (None: any number), cells, and what is
    copied into them before it."""

    counter: DimExpr
    count: Dim | None
    cells: list[Cell] = field(default_factory=list)
    before: list[Transfer] = field(default_factory=list)
    condition: Cell | None = None  # whether there is another turn


class Places:
    """See the module docstring."""

    def __init__(self, block: Block) -> None:
        self.views: dict[Value, Place] = {}
        self.loops: dict[Held, Loop] = {}
        self.ends: dict[Block, Ends] = {}
        self.block(block)

    def of(self, home: Home, offset: Dim = 0) -> Place:
        """Whose memory a value, or a place in it, lies in, and where there."""
        while isinstance(home, Value) and home in self.views:
            home, more = self.views[home]
            offset = offset + more
        return home, offset

    def counters(self) -> tuple[DimExpr, ...]:
        """Those of all loops."""
        return tuple(loop.counter for loop in self.loops.values())

    # --- blocks -----------------------------------------------------------------------------

    def block(self, b: Block) -> None:
        """Gives places to what loops and branches of `b` read and make."""
        self.ends[b] = Ends()
        uses = Counter(v for job in b.jobs for v in job.reads) + Counter(b.function.roots())
        makers = {v for job in b.jobs for v in job.writes}
        for job in b.jobs:
            if not isinstance(job, Held):
                continue
            for inner in job.blocks:
                self.block(inner)
            free = {v for v in job.reads if uses[v] == 1 and v in makers and v not in self.views}
            if job.op.loops:
                self.loop(job, free, b.function.roots())
            else:
                self.branch(job)

    def branch(self, h: Held) -> None:
        """Both sides compute the results where they are."""
        for b in h.blocks:
            self.given(h, b)
            for result, (_, v) in zip(h.writes, b.function.outputs):
                self.bring(b, v, (result, 0))

    def given(self, h: Held, b: Block) -> None:
        """Views of what a function gets unchanged."""
        first = h.op.leading
        for k in range(h.op.varying, len(b.function.inputs)):
            self.views[b.function.inputs[k]] = (h.reads[first + k], 0)

    def bring(self, b: Block, v: Value, to: Place) -> None:
        """A result of a block to its place."""
        if v not in self.views and v not in b.function.inputs and _made(b, v):
            self.views[v] = to
        elif v in b.function.inputs:  # it may be gone at the end
            self.ends[b].first.append(Transfer(to, v))
        else:
            self.ends[b].last.append(Transfer(to, v))

    # --- loops ------------------------------------------------------------------------------

    def loop(self, h: Held, free: Collection[Value], roots: Collection[Value]) -> None:
        """`free`: operands that can be computed in the loop's cells; `roots`: results that belong
        elsewhere."""
        op, (b,) = h.op, h.blocks
        count = op.length if isinstance(op, Scan) else op.limit if isinstance(op, While) else None
        high = None if count is None else bounds(count)[1]
        own = Loop(sym(f"turn.{len(self.loops)}", 0, high), count)
        self.loops[h] = own
        self.given(h, b)
        outputs = [v for _, v in b.function.outputs]
        after = outputs[op.judging :]
        stacked = self.stacks(h, op, own, roots) if isinstance(op, Scan) else {}
        turns = own.counter if op.judging or count is None else count
        later = set(after[: op.state])
        for k in range(op.state):
            carry = b.function.inputs[k]
            mine = [j for j, v in stacked.items() if v in (carry, after[k])
                    and h.writes[j] not in self.views]  # fmt: skip
            cell = self.cell(b, carry, after[k], later)
            if mine and isinstance(op, Scan):
                cell = Cell(carry.type.nbytes, op.length + 1, True, op.reverse)
            own.cells.append(cell)
            self.carry(b, cell, own.counter, carry, after[k])
            self.start(own, cell, h.reads[op.leading + k], free)
            self.views[h.writes[k]] = (cell, cell.place(turns))
            for j in mine:  # those that turns find, or those that they leave
                found = after[j] is carry
                self.views[h.writes[j]] = (cell, cell.size if found == cell.reverse else 0)
        at = op.position(own.counter) if isinstance(op, Scan) else own.counter
        for k in range(op.state, len(after)):
            if h.writes[k] not in self.views:
                self.bring(b, after[k], (h.writes[k], at * after[k].type.nbytes))
        if op.judging:
            own.condition = Cell(1, 1)
            own.cells.append(own.condition)
            self.start(own, own.condition, h.reads[0], free)
            self.bring(b, outputs[0], (own.condition, 0))

    def stacks(self, h: Held, op: Scan, own: Loop, roots: Collection[Value]) -> dict[int, Value]:
        """The results of a step that are stacked in memory that is nobody's yet; elements of
        sequences become views."""
        (b,) = h.blocks
        at = op.position(own.counter)
        for k in range(op.carries, op.varying):
            x = b.function.inputs[k]
            self.views[x] = (h.reads[k], at * x.type.nbytes)
        ys = enumerate(b.function.outputs)
        return {k: v for k, (_, v) in ys if k >= op.carries and h.writes[k] not in roots}

    def start(self, loop: Loop, cell: Cell, initial: Value, free: Collection[Value]) -> None:
        """The first value of a cell."""
        to = cell, cell.place(0)
        if initial in free:
            self.views[initial] = to
        else:
            loop.before.append(Transfer(to, initial))

    def cell(self, b: Block, carry: Value, following: Value, later: Collection[Value]) -> Cell:
        """Memory for a carry, which is `following` in the next turn. `later`: all that carries
        become."""
        if following not in self.views and _made(b, following):
            one = carry not in later and _done_with(b.jobs, carry, following)
        else:
            one = carry is following or carry not in later
        size = carry.type.nbytes
        return Cell(size, 1) if one else Cell(aligned(size), 2)

    def carry(self, b: Block, cell: Cell, turn: DimExpr, carry: Value, following: Value) -> None:
        """Puts what a turn finds and what it leaves into a cell."""
        self.views[carry] = (cell, cell.place(turn))
        to = cell, cell.place(turn + 1)
        if following not in self.views and _made(b, following):
            self.views[following] = to
        elif following is not carry or cell.count != 1:
            self.ends[b].last.append(Transfer(to, following))


def _made(b: Block, v: Value) -> bool:
    """Whether a block computes `v`."""
    return any(v in job.writes for job in b.jobs)


def _done_with(jobs: list[Job], old: Value, new: Value) -> bool:
    """Whether nobody reads `old` any more when `new` is stored, or at the same element only."""
    maker = next(k for k, job in enumerate(jobs) if new in job.writes)
    for k, job in enumerate(jobs):
        if old not in job.reads or k < maker:
            continue
        alone = k == maker and job.reads.count(old) == 1
        if not (alone and overwrites(job, job.reads.index(old), job.writes.index(new))):
            return False
    return True
