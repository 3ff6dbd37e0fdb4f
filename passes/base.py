"""What a pass is, and the pipeline that runs passes and watches them.

A `Pass` turns a function into an equal one. It says which properties it needs (`requires`), which
hold afterwards (`ensures`) and which it may destroy (`breaks`); a property is a function from a
graph to its violations, so that what passes promise can be tested. A `Pipeline` refuses an order in
which a requirement is not met, and is the only place where passes are verified, timed, printed and
written to files.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypeAlias

from .. import config
from ..errors import InternalError, LimitError, UserError
from ..graph.ir import Function, Node
from ..graph.text import show
from ..graph.verify import verify
from ..target import Target

Property: TypeAlias = "Callable[[Function], Iterator[str]]"
Watch: TypeAlias = "Callable[[str, Function], None]"


@dataclass(frozen=True)
class Record:
    """A decision: which pass decided what about which node, and why."""

    step: str
    node: Node | None
    text: str

    def __str__(self) -> str:
        where = "" if self.node is None else f"{self.node!r} ({self.node.loc}): "
        return f"{self.step}: {where}{self.text}"


@dataclass
class Context:
    """What passes may know, and where they leave their reasons.

    `watch` is told the name of each pass that changed the function, and what it made of it.
    """

    target: Target
    level: int = 2
    watch: Watch | None = None
    records: list[Record] = field(default_factory=list)
    step: str = ""  # the pass that is running

    def note(self, node: Node | None, text: str) -> None:
        """Records a decision of the running pass."""
        self.records.append(Record(self.step, node, text))


@dataclass(frozen=True)
class Pass:
    """A step from a function to an equal one. Fields of subclasses are options."""

    name: ClassVar[str]
    requires: ClassVar[tuple[Property, ...]] = ()
    ensures: ClassVar[tuple[Property, ...]] = ()
    breaks: ClassVar[tuple[Property, ...]] = ()
    refines: ClassVar[bool] = False  # results may change beyond rounding, towards the exact ones

    def run(self, function: Function, context: Context) -> Function:
        """The new function; the same object if there is nothing to do."""
        raise NotImplementedError


class Pipeline:
    """Passes in order. InternalError if one requires what is not ensured before it."""

    def __init__(self, *passes: Pass) -> None:
        self.passes = passes
        held: set[Property] = set()
        self._held: list[frozenset[Property]] = []
        for k, p in enumerate(passes):
            missing = [r for r in p.requires if r not in held]
            if missing:
                before = ", ".join(q.name for q in passes[:k]) or "nothing"
                raise InternalError(f"pass {p.name} requires {_names(missing)}, which does not hold "
                                    f"after {before}")  # fmt: skip
            held = (held - set(p.breaks)) | set(p.ensures)
            self._held.append(frozenset(held))

    def run(self, function: Function, context: Context) -> Function:
        """The function after all passes.

        FLOWMILL_DEBUG=1 prints the time of each pass, 3 each function that changed; FLOWMILL_DUMP
        is a folder these are written to; FLOWMILL_VERIFY=1 verifies after each pass.
        """
        log = _Log(function)
        for p, held in zip(self.passes, self._held):
            context.step = p.name
            start = time.perf_counter()
            try:
                after = p.run(function, context)
            except LimitError:
                raise  # what was asked for takes more than anything has
            except UserError as e:
                raise InternalError(f"pass {p.name} made what is not well formed: {e}") from e
            log.ran(p, after, time.perf_counter() - start, after is not function)
            if config.integer("verify"):
                check_properties(p, after, held)
            if after is not function and context.watch:
                context.watch(p.name, after)
            function = after
        context.step = ""
        return function


def check_properties(
    p: Pass, function: Function, held: Sequence[Property] | frozenset[Property]
) -> None:
    """InternalError naming the pass if the function is not well formed or lacks a property."""
    for check in (verify, *held):
        problems = [problem for _, problem in zip(range(5), check(function))]
        if problems:
            raise InternalError(f"after pass {p.name}, {_names([check])} fails:\n  "
                                + "\n  ".join(problems))  # fmt: skip


def _names(properties: Sequence[Property]) -> str:
    return ", ".join(p.__name__ for p in properties)


class _Log:
    """Prints and writes what passes do, as far as settings ask for it."""

    def __init__(self, function: Function) -> None:
        self.debug = config.integer("debug")
        folder, _, wanted = config.setting("dump").partition(":")
        self.folder = Path(folder) if folder else None
        self.wanted = set(wanted.split(",")) if wanted else None
        self.count = 0
        self.write("defined", function)

    def ran(self, p: Pass, function: Function, seconds: float, changed: bool) -> None:
        self.count += 1
        if self.debug >= 1:
            size = f"{len(function.nodes())} nodes" if changed else "unchanged"
            print(f"{function.name}: {self.count:02d} {p.name:<12} {seconds * 1e3:8.2f} ms  {size}",
                  file=sys.stderr)  # fmt: skip
        if changed:
            if self.debug >= 3:
                print(show(function), file=sys.stderr)
            self.write(p.name, function)

    def write(self, name: str, function: Function) -> None:
        if self.folder is not None and (self.wanted is None or name in self.wanted):
            self.folder.mkdir(parents=True, exist_ok=True)
            file = self.folder / f"{self.count:02d}-{name}.fm"
            file.write_text(show(function), encoding="utf-8")
