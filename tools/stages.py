"""The stages of a compilation: what `flowmill dump` shows, as a library.

In: a function, a target and a level. Out: `Stages`, with the function as defined and after each
pass, and what follows from it: kernels, program, LLVM, assembly, memory plan, decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from ..compiler import Compiled, Watch, compile_function
from ..graph.ir import Function
from ..passes.pipeline import pipeline
from ..runtime import build
from ..target import Target

if TYPE_CHECKING:
    from .picture.memory import MemoryPlan

GRAPH = "graph"  # the function as defined
MACHINE = ("kernels", "program", "llvm", "asm")
LATER = (*MACHINE, "plan", "notes")
# number in file names, extension of the text
_FILES = {"kernels": (90, "fm"), "program": (91, "fm"), "llvm": (92, "ll"), "asm": (93, "s"),
          "plan": (94, "txt"), "notes": (95, "txt")}  # fmt: skip


def pass_names() -> tuple[str, ...]:
    """Every stage that is a function, in order; a pass that runs again is `fold-2`."""
    out = [GRAPH]
    for p in pipeline(2).passes:
        again = sum(name.partition("-")[0] == p.name for name in out)
        out.append(f"{p.name}-{again + 1}" if again else p.name)
    return tuple(out)


def names() -> tuple[str, ...]:
    """Every stage, in order."""
    return (*pass_names(), *LATER)


def file_name(stage: str, suffix: str = "") -> str:
    """Where a stage is written: `02-fuse.fm`, `92-llvm.ll`."""
    number, ending = _FILES.get(stage, (0, "fm"))
    if stage not in _FILES:
        number = pass_names().index(stage)
    return f"{number:02d}-{stage}.{suffix or ending}"


class _Enough(Exception):  # noqa: N818 - no error
    """Ends a compilation that has shown all that was asked for."""


@dataclass
class Stages:
    """See the module docstring. `functions` holds the passes that changed something."""

    functions: dict[str, Function]
    target: Target
    result: Compiled | None = None
    dims: Mapping[str, int] = field(default_factory=dict)

    @property
    def compiled(self) -> Compiled:
        """The whole compilation."""
        if self.result is None:
            raise ValueError("only graph passes were run")
        return self.result

    def after(self, stage: str) -> Function:
        """The function after a pass, which is that before it where it changed nothing."""
        order = pass_names()
        found = self.functions[GRAPH]
        for name in order[: order.index(stage) + 1]:
            found = self.functions.get(name, found)
        return found

    @cached_property
    def llvm(self) -> str:
        """The module that is handed to LLVM."""
        from ..codegen.program import emit_module

        return emit_module([self.compiled.program], self.target)

    @cached_property
    def assembly(self) -> str:
        """What LLVM makes of it."""
        from ..codegen.objects import assembly

        return assembly(self.llvm, self.target)

    @cached_property
    def memory(self) -> MemoryPlan:
        """The memory plan at `dims`."""
        from .picture.memory import memory_plan

        return memory_plan(self.compiled.program, self.dims)

    def text(self, stage: str) -> str:
        """A stage as text."""
        if stage in pass_names():
            from ..graph.printer import show

            return show(self.after(stage))
        return _TEXTS[stage](self)


def _kernels(s: Stages) -> str:
    from ..codegen.kernel.text import show

    return "\n".join(show(k) for k in s.compiled.program.kernels)


def _program(s: Stages) -> str:
    from ..codegen.kernel.program_text import show

    return show(s.compiled.program)


def _plan(s: Stages) -> str:
    from .picture.memory import table

    return table(s.memory)


_TEXTS: dict[str, Callable[[Stages], str]] = {
    "kernels": _kernels, "program": _program, "llvm": lambda s: s.llvm,
    "asm": lambda s: s.assembly, "plan": _plan,
    "notes": lambda s: "".join(f"{record}\n" for record in s.compiled.records),
}  # fmt: skip


def collect(function: Function, target: Target, level: int = 2, wanted: tuple[str, ...] = LATER,
            dims: Mapping[str, int] | None = None, watch: Watch | None = None) -> Stages:  # fmt: skip
    """The stages of a function, compiled no further than the wanted ones need."""
    out = Stages({GRAPH: function}, target, None, dims or {})
    graphs_only = all(stage in pass_names() for stage in wanted)
    if set(wanted) == {GRAPH}:
        return out
    order = pass_names()
    last = max((order.index(s) for s in wanted if s in order), default=0)
    at = 0

    def see(stage: str, made: object) -> None:
        nonlocal at
        if watch:
            watch(stage, made)
        if isinstance(made, Function):
            # a pass that changes nothing is not heard of: the next of that name it is
            at = next(k for k in range(at + 1, len(order)) if order[k].partition("-")[0] == stage)
            out.functions[order[at]] = made
            if graphs_only and at >= last:
                raise _Enough

    if not graphs_only:
        out.result = build.compiled(function, target, level, see)
        return out
    with suppress(_Enough):
        compile_function(function, target, level, see)
    return out
