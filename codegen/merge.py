"""Several programs over one state: one numbering of variables and constants, kernels shared.

In: programs compiled one by one. Out: the same programs with common slot numbers and kernel names
that do not collide, and the tables those numbers refer to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..errors import InternalError
from .kernel.ir import Kernel
from .kernel.program import Array, Phase, Program, Slot


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
        return Slot(s.kind, table[s.at])

    return replace(
        p,
        variables=every,
        constants=digests,
        written=tuple(sorted(variables[k] for k in p.written)),
        prepared_from=tuple(sorted(variables[k] for k in p.prepared_from)),
        kernels=tuple(k.renamed(names[k.name]) for k in p.kernels),
        prepare=_phases(p.prepare, slot, names),
        phases=_phases(p.phases, slot, names),
        copies=tuple((slot(a), slot(b), n) for a, b, n in p.copies),
    )


def _phases(phases: tuple[Phase, ...], slot: Callable[[Slot], Slot],
            names: dict[str, str]) -> tuple[Phase, ...]:  # fmt: skip
    return tuple(
        replace(f, launches=tuple(
            replace(x, kernel=names[x.kernel], slots=tuple(slot(s) for s in x.slots))
            for x in f.launches))
        for f in phases
    )  # fmt: skip
