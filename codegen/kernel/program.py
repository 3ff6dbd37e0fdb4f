"""The program: what runs, in which order, on which memory. A record, not a language.

A `Program` is phases of kernel launches. Within a phase every part runs all launches in order
without waiting; between phases all parts wait for each other. Memory is named by `Slot`s: the
caller's arguments, variables, constants, values prepared once per change of the variables they
come from, and offsets into one arena.

At run time all this comes in one native frame, see `frame`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from ...dims import Dim, DimExpr, show
from ...dtypes import DType
from ...errors import Loc
from .ir import Kernel

SlotKind: TypeAlias = Literal["argument", "variable", "constant", "prepared", "arena"]


@dataclass(frozen=True)
class Slot:
    """Where a buffer lies: the number of an argument, variable or constant, or a byte offset."""

    kind: SlotKind
    at: Dim

    def __str__(self) -> str:
        return f"{self.kind}[{show(self.at)}]"


@dataclass(frozen=True)
class Array:
    """A typed, named memory area of the program's interface."""

    name: str
    dtype: DType
    shape: tuple[Dim, ...]


@dataclass(frozen=True)
class Site:
    """What an error word stands for: a code, the place in the user's source, and a text."""

    code: str
    loc: Loc
    text: str
    shape: tuple[Dim, ...] = ()


@dataclass(frozen=True)
class Report:
    """A value for the host's eyes, complete after phase number `after` (-1: from the start). The
    name of `value` is the text to show with it."""

    after: int
    slot: Slot
    value: Array
    loc: Loc


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
class Program:
    """A compiled function: kernels, phases and the memory they need."""

    name: str
    dims: tuple[DimExpr, ...]
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    variables: tuple[Array, ...]
    written: tuple[int, ...]  # numbers of the variables a run changes
    constants: tuple[str, ...]  # digests, in slot order
    kernels: tuple[Kernel, ...]
    prepare: tuple[Phase, ...]
    phases: tuple[Phase, ...]
    prepared_bytes: int
    prepared_from: tuple[int, ...]  # numbers of the variables `prepare` reads
    arena_bytes: Dim
    sites: tuple[Site, ...]
    copies: tuple[tuple[Slot, Slot, Dim], ...] = ()  # commits at the end: to, from, bytes
    peak_bytes: Dim = 0  # most bytes live at once: what no plan can go below
    reports: tuple[Report, ...] = ()

    @property
    def launches(self) -> tuple[Launch, ...]:
        """All launches of a run in order."""
        return tuple(launch for phase in self.phases for launch in phase.launches)
