"""When everything happens: the steps of a program on one line of time.

In: a block whose jobs are in order. Out: a `Course`, the groups of launches between two barriers and
the loops and branches with courses of their own, each at a moment; and for every memory the first
and the last moment it is needed. Moments count the steps as they are written down: a turn of a loop
is on the line once, and what outlives a turn is needed for as long as the loop takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import TypeAlias

from ..target import Target
from .order import phased
from .place import Cell, Home, Places
from .work import Block, Held, Work


@dataclass(eq=False)
class Piece:
    """Launches between two barriers."""

    works: list[Work]
    at: int


@dataclass(eq=False)
class Nest:
    """A loop or a branch, from `first` to `last`."""

    held: Held
    courses: list[Course]
    first: int
    last: int


@dataclass(eq=False)
class Course:
    """A block in time; `around` are the loops and branches it is in, outermost first."""

    block: Block
    around: tuple[Nest, ...]
    first: int
    last: int
    steps: list[Step] = field(default_factory=list)

    def pieces(self) -> Iterator[tuple[Piece, Course]]:
        """All groups of launches in order, those of held functions too, and where they are."""
        for s in self.steps:
            if isinstance(s, Piece):
                yield s, self
            else:
                for c in s.courses:
                    yield from c.pieces()

    def courses(self) -> Iterator[Course]:
        """This and all that are inside of it."""
        yield self
        for s in self.steps:
            if isinstance(s, Nest):
                for c in s.courses:
                    yield from c.courses()


Step: TypeAlias = Piece | Nest


def course(block: Block, target: Target, commits: Callable[[Work], bool]) -> Course:
    """The course of a block."""
    moments = count()

    def run(b: Block, around: tuple[Nest, ...]) -> Course:
        made = Course(b, around, next(moments), 0)
        for group in phased(b.jobs, target, commits):
            if isinstance(group, Held):
                nest = Nest(group, [], next(moments), 0)
                nest.courses += [run(inner, (*around, nest)) for inner in group.blocks]
                nest.last = next(moments)
                made.steps.append(nest)
            else:
                made.steps.append(Piece(group, next(moments)))
        made.last = next(moments)
        return made

    return run(block, ())


@dataclass(eq=False)
class Life:
    """The first and the last moment at which memory is needed."""

    first: int
    last: int

    def touch(self, first: int, last: int) -> None:
        self.first, self.last = min(self.first, first), max(self.last, last)


class Lives:
    """How long memory is needed. `of` has the values that are computed, and the cells of loops."""

    def __init__(self, whole: Course, places: Places) -> None:
        self.places = places
        self.of: dict[Home, Life] = {}
        self.home: dict[Home, Course] = {}  # where memory is there for one value only
        for c in whole.courses():
            for job in c.block.jobs:
                for v in job.writes:
                    self.home[v] = c
                if isinstance(job, Held) and job in places.loops:
                    self.home.update(dict.fromkeys(places.loops[job].cells, c))
        for c in whole.courses():
            self.course(c)

    def course(self, c: Course) -> None:
        for s in c.steps:
            if isinstance(s, Piece):
                for w in s.works:
                    for v in (*w.writes, *w.reads):
                        self.touch(v, s.at, c)
            else:
                self.nest(s, c)
        ends = self.places.ends[c.block]
        for at, transfers in ((c.first, ends.first), (c.last, ends.last)):
            for t in transfers:
                self.touch(t.source, at, c)
                self.touch(t.to[0], at, c)

    def nest(self, n: Nest, c: Course) -> None:
        """A branch reads its condition at the beginning; a loop's own memory is its from the first
        to the last turn."""
        for v in n.held.reads[: n.held.op.leading]:
            self.touch(v, n.first, c)
        loop = self.places.loops.get(n.held)
        if loop is None:
            return
        for t in loop.before:
            self.touch(t.source, n.first, c)
        for cell in loop.cells:
            self.touch(cell, n.first, c)
            self.touch(cell, n.last, c)

    def touch(self, v: Home, at: int, where: Course) -> None:
        """Memory is read or written at a moment of a course; at every turn of the loops that are
        inside the course it belongs to."""
        home = v if isinstance(v, Cell) else self.places.of(v)[0]
        own = self.home.get(home)
        if own is None:
            return
        first = last = at
        for nest in where.around[len(own.around) :]:
            if nest.held.op.loops:
                first, last = nest.first, nest.last
                break
        known = self.of.setdefault(home, Life(first, last))
        known.touch(first, last)
