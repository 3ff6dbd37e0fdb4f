"""The program: what runs, in which order, on which memory. A record, not a language.

A `Program` is steps, one after the other. A phase is kernel launches: every part runs all of them
in order without waiting, and all parts wait for each other at its end. Loops and branches hold
steps; what they depend on is read from memory after the phase that computes it. Memory is named by
`Slot`s: the caller's arguments, variables, constants, values prepared once per change of the
variables they come from, and offsets into one arena.

Sizes, offsets and counts are `Dim`s over the program's dimensions, which the caller gives, and over
the symbols it computes itself (`Program.computed`): the counters of its loops, and sizes that depend
on data. Steps read them as they are at that moment.

At run time all this comes in one native frame, see `frame`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ...algorithm import Requirement
from ...dims import Dim, DimExpr, as_sym, evaluate, show
from ...dims_limits import most_of
from ...dtypes import DType
from ...errors import Loc
from .ir import Kernel

SlotKind: TypeAlias = Literal["argument", "variable", "constant", "prepared", "arena"]


@dataclass(frozen=True)
class Slot:
    """Where a buffer lies: the number of an argument, variable or constant and how many bytes from
    its start, or a byte offset into the prepared values or the arena."""

    kind: SlotKind
    at: Dim
    offset: Dim = 0

    def moved(self, by: Dim) -> Slot:
        """The place `by` bytes further on."""
        if self.kind in ("prepared", "arena"):
            return Slot(self.kind, self.at + by)
        return Slot(self.kind, self.at, self.offset + by)

    def __str__(self) -> str:
        return f"{self.kind}[{show(self.at)}{'' if self.offset == 0 else f', {show(self.offset)}'}]"


@dataclass(frozen=True)
class Array:
    """A typed, named memory area of the program's interface."""

    name: str
    dtype: DType
    shape: tuple[Dim, ...]


@dataclass(frozen=True)
class Site:
    """What an error word stands for: a code, the place in the user's source, and a text. `shape` is
    that of the elements that the index counts; for the code "size" it is the dimension and the
    most it may be, the index being what it is; for "require", what must not be negative."""

    code: str
    loc: Loc
    text: str
    shape: tuple[Dim, ...] = ()

    @property
    def elements(self) -> tuple[Dim, ...]:
        """The shape of the elements that the index counts."""
        return () if self.code in ("size", "require") else self.shape


@dataclass(frozen=True)
class Launch:
    """A kernel on memory. `site` is the number of its first entry in `Program.sites`."""

    kernel: str
    slots: tuple[Slot, ...]
    dims: tuple[Dim, ...]
    site: int
    label: str
    locs: tuple[Loc, ...]
    flops: Dim
    bytes: Dim


@dataclass(frozen=True)
class Phase:
    """Launches between two barriers. `parts` bounds how many threads have something to do."""

    launches: tuple[Launch, ...]
    parts: Dim

    @property
    def timed(self) -> tuple[tuple[Launch, ...], ...]:
        """What a profile times: each launch where one thread runs them all, else the phase."""
        if self.parts == 1:
            return tuple((launch,) for launch in self.launches)
        return (self.launches,)


@dataclass(frozen=True)
class Copy:
    """`bytes` bytes from one place to another."""

    to: Slot
    source: Slot
    bytes: Dim


@dataclass(frozen=True)
class Measure:
    """A size that the run has computed, an int64 at `source`, is from here on that of `symbol`.

    The run fails with `site` where it is not from 0 to `most`, and where a dimension expression of
    `requires` is negative with it, with the site that goes with that."""

    symbol: DimExpr
    source: Slot
    most: Dim
    site: int
    requires: tuple[tuple[Dim, int], ...] = ()


@dataclass(frozen=True)
class Report:
    """A value for the host's eyes. The name of `value` is the text to show with it."""

    slot: Slot
    value: Array
    loc: Loc


@dataclass(frozen=True)
class Repeat:
    """`body` again and again, `counter` counting from 0: `count` times (None: without limit), and
    where there is a `condition`, a bool in memory, for as long as that is true. Afterwards `counter`
    is how often `body` ran."""

    counter: DimExpr
    count: Dim | None
    condition: Slot | None
    body: tuple[Step, ...]
    label: str
    loc: Loc


@dataclass(frozen=True)
class Branch:
    """`then` where the bool at `condition` is true, else `orelse`."""

    condition: Slot
    then: tuple[Step, ...]
    orelse: tuple[Step, ...]
    label: str
    loc: Loc


Step: TypeAlias = Phase | Copy | Measure | Report | Repeat | Branch


def walk(steps: tuple[Step, ...]) -> Iterator[Step]:
    """All steps, those that others hold behind them."""
    for s in steps:
        yield s
        for block in blocks(s):
            yield from walk(block)


def blocks(step: Step) -> tuple[tuple[Step, ...], ...]:
    """The steps that a step holds."""
    if isinstance(step, Repeat):
        return (step.body,)
    return (step.then, step.orelse) if isinstance(step, Branch) else ()


def counted(steps: tuple[Step, ...]) -> Iterator[tuple[Launch, Dim]]:
    """All launches, and how often each takes place at most; in a loop without a known end, once."""
    for s in steps:
        if isinstance(s, Phase):
            yield from ((launch, 1) for launch in s.launches)
        times = s.count if isinstance(s, Repeat) and s.count is not None else 1
        for block in blocks(s):
            yield from ((launch, n * times) for launch, n in counted(block))


@dataclass(frozen=True)
class Program:
    """A compiled function: kernels, steps and the memory they need."""

    name: str
    dims: tuple[DimExpr, ...]
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    variables: tuple[Array, ...]
    written: tuple[int, ...]  # numbers of the variables a run changes
    constants: tuple[str, ...]  # digests, in slot order
    kernels: tuple[Kernel, ...]
    prepare: tuple[Phase, ...]
    body: tuple[Step, ...]
    prepared_bytes: int
    prepared_from: tuple[int, ...]  # numbers of the variables `prepare` reads
    arena_bytes: Dim
    sites: tuple[Site, ...]
    peak_bytes: Dim = 0  # most bytes live at once: what no plan can go below
    requires: tuple[Requirement, ...] = ()  # of the dimensions, checked before anything runs
    computed: tuple[DimExpr, ...] = ()  # symbols that the run itself sets
    told: int = 0  # how many of the last outputs are sizes of the others

    @property
    def limits(self) -> dict[str, Dim]:
        """The largest value of each size that the run computes, by the symbol's name."""
        return {as_sym(s.symbol).name: s.most for s in walk(self.body) if isinstance(s, Measure)}

    def largest(self, a: Array) -> tuple[Dim, ...]:
        """The shape of an output in the memory that the caller gives: its largest."""
        return tuple(most_of(d, self.limits) for d in a.shape)

    def room(self, dims: Mapping[str, int]) -> dict[str, int]:
        """The dimensions of a run, and the largest values of those that it computes."""
        return {**dims, **{name: evaluate(most, dims) for name, most in self.limits.items()}}

    @property
    def results(self) -> tuple[Array, ...]:
        """The outputs that a user asked for."""
        return self.outputs[: len(self.outputs) - self.told]

    @property
    def phases(self) -> tuple[Phase, ...]:
        """All phases of a run, those in loops and branches once."""
        return tuple(s for s in walk(self.body) if isinstance(s, Phase))

    @property
    def timed(self) -> tuple[tuple[tuple[Launch, ...], int], ...]:
        """What a profile times, in the order of its readings, and the numbers of the phases."""
        return tuple((group, k) for k, x in enumerate(self.phases) for group in x.timed)

    @property
    def launches(self) -> tuple[Launch, ...]:
        """All launches of a run in order, those in loops and branches once."""
        return tuple(launch for phase in self.phases for launch in phase.launches)

    @property
    def reports(self) -> tuple[Report, ...]:
        """What the host gets, by number."""
        return tuple(s for s in walk(self.body) if isinstance(s, Report))
