"""Several programs over one state: one numbering of variables and constants, kernels shared.

In: programs compiled one by one. Out: the same programs with common slot numbers and kernel names
that do not collide, and the tables those numbers refer to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..errors import InternalError
from .kernel.ir import Kernel
from .kernel.program import Array, Copy, Measure, Phase, Program, Repeat, Report, Slot, Step


@dataclass(frozen=True)
class Merged:
    """`constants` are digests, in slot order."""

    programs: tuple[Program, ...]
    variables: tuple[Array, ...]
    constants: tuple[str, ...]


def merge(programs: Sequence[Program], prefix: str) -> Merged:
    """Programs with one table of variables and one of constants. `prefix` begins kernel names."""
    variables: dict[str, Array] = {}
    constants: dict[str, None] = {}
    for p in programs:
        for a in p.variables:
            if variables.setdefault(a.name, a) != a:
                raise InternalError(f"variable {a.name} has two types")
        constants.update(dict.fromkeys(p.constants))
    number = {name: k for k, name in enumerate(variables)}
    place = {digest: k for k, digest in enumerate(constants)}
    kernels: dict[Kernel, str] = {}
    out = []
    for p in programs:
        known = [number[a.name] for a in p.variables]
        held = [place[d] for d in p.constants]
        names = {k.name: kernels.setdefault(k.renamed(""), f"{prefix}.{k.name}.{len(kernels)}")
                 for k in p.kernels}  # fmt: skip
        out.append(_renumbered(p, known, held, names, tuple(variables.values()),
                               tuple(constants)))  # fmt: skip
    return Merged(tuple(out), tuple(variables.values()), tuple(constants))


def _renumbered(p: Program, variables: list[int], constants: list[int], names: dict[str, str],
                every: tuple[Array, ...], digests: tuple[str, ...]) -> Program:  # fmt: skip
    def slot(s: Slot) -> Slot:
        table = {"variable": variables, "constant": constants}.get(s.kind)
        if table is None or not isinstance(s.at, int):
            return s
        return replace(s, at=table[s.at])

    return replace(
        p,
        variables=every,
        constants=digests,
        written=tuple(sorted(variables[k] for k in p.written)),
        prepared_from=tuple(sorted(variables[k] for k in p.prepared_from)),
        kernels=tuple(k.renamed(names[k.name]) for k in p.kernels),
        prepare=tuple(_phase(f, slot, names) for f in p.prepare),
        body=_steps(p.body, slot, names),
    )


def _steps(steps: tuple[Step, ...], slot: Callable[[Slot], Slot],
           names: dict[str, str]) -> tuple[Step, ...]:  # fmt: skip
    out: list[Step] = []
    for s in steps:
        if isinstance(s, Phase):
            out.append(_phase(s, slot, names))
        elif isinstance(s, Copy):
            out.append(replace(s, to=slot(s.to), source=slot(s.source)))
        elif isinstance(s, Measure):
            out.append(replace(s, source=slot(s.source)))
        elif isinstance(s, Report):
            out.append(replace(s, slot=slot(s.slot)))
        elif isinstance(s, Repeat):
            condition = None if s.condition is None else slot(s.condition)
            out.append(replace(s, condition=condition, body=_steps(s.body, slot, names)))
        else:
            out.append(replace(s, condition=slot(s.condition), then=_steps(s.then, slot, names),
                               orelse=_steps(s.orelse, slot, names)))  # fmt: skip
    return tuple(out)


def _phase(phase: Phase, slot: Callable[[Slot], Slot], names: dict[str, str]) -> Phase:
    return replace(phase, launches=tuple(
        replace(x, kernel=names[x.kernel], slots=tuple(slot(s) for s in x.slots))
        for x in phase.launches))  # fmt: skip
