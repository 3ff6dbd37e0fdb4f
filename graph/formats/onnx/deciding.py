"""What decides the elements of a tensor that must be known before there is a graph.

In: an operand. Out: the inputs whose values, and the dimensions whose sizes, would tell its
elements, or why nothing that is fed would. A template asks for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ....dims import DimExpr, Sym, free_symbols, show
from ...ir import topological
from .call import FEW, Operand

Place = tuple[str, int]
"""An input and one of its axes."""


@dataclass(frozen=True)
class Deciding:
    """Inputs by name; dimensions with a place each where their size can be seen; and why they do
    not suffice, "" if they do."""

    inputs: frozenset[str]
    sizes: dict[str, Place]
    fault: str = ""


def deciding(operand: Operand) -> Deciding:
    """What decides the elements of `operand`."""
    inputs = operand.graph.inputs
    known = operand.sources <= set(inputs)
    sizes: dict[str, Place] = {}
    for s in _symbols(operand):
        found = next(((name, axis) for name, v in inputs.items()
                      for axis, d in enumerate(v.shape) if show(d) == s.name), None)  # fmt: skip
        known = known and found is not None
        if found is not None:
            sizes[s.name] = found
    if not known or not (operand.sources or sizes):
        return Deciding(frozenset(), {}, "depend on what is computed")
    for name in sorted(operand.sources):
        count = inputs[name].type.size
        if isinstance(count, int) and count > FEW:
            return Deciding(frozenset(), {}, f'depend on the {count} of input "{name}"')
    return Deciding(operand.sources, sizes)


def _symbols(operand: Operand) -> list[Sym]:
    """The dimensions that the elements depend on, by name."""
    found: set[Sym] = set()
    for node in topological([operand.value.node]):
        for attribute in node.op.attributes().values():
            for d in _dims(attribute):
                found |= free_symbols(d)
    return sorted(found, key=lambda s: s.name)


def _dims(attribute: Any) -> Iterator[DimExpr]:
    if isinstance(attribute, tuple):
        for part in attribute:
            yield from _dims(part)
    elif isinstance(attribute, DimExpr):
        yield attribute
