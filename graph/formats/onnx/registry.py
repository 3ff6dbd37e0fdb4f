"""Which function converts which ONNX operator, by domain, name and opset.

A *converter* takes a `Call` (attributes, operands) and returns the value of the first result, or a
tuple with one value for each result, None for those it leaves out; an `Operand` in place of a value
keeps what is known of its elements. One converter serves every
opset from `since` on, until another of the same operator begins: forms that differ in where an
argument stands (an attribute once, an operand today) are one converter's business, forms that mean
something else are two converters. What it raises as a UserError is the reason of a refusal.

A *solver* computes small integer tensors whose elements are known as dimensions: it takes the
`Call` and an object array of `Dim`s for each operand, and returns one, or a list of one for each
result. It is asked before the converter, where all operands are known; None leaves the node to the
converter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

from ...ir import Value

if TYPE_CHECKING:
    from .call import Call, Operand

FAMILIES = (
    "elementwise",
    "activation",
    "reduce",
    "shape",
    "linear",
    "windows",
    "normalization",
    "indexing",
    "scattering",
    "selection",
    "quantized",
    "signal",
    "text",
    "random",
    "control",
    "loops",
    "resize",
    "sampling",
    "recurrent",
    "transposed",
    "contraction",
    "patterns",
    "attention",
    "losses",
)

Result: TypeAlias = "Value | Operand | None"
Converter: TypeAlias = "Callable[[Call], Result | tuple[Result, ...]]"
Solver: TypeAlias = "Callable[..., Any]"


@dataclass(frozen=True)
class Entry:
    """A converter, the first opset it is for, and whether it takes 16-bit floats as they are.

    Otherwise operands of such types are converted to float32 before, and results that have the
    type of such an operand are converted back: flowmill stores and casts these types.
    """

    convert: Converter
    since: int
    halves: bool


CONVERTERS: dict[tuple[str, str], list[Entry]] = {}
SOLVERS: dict[str, Solver] = {}
SHAPE_SOLVERS: dict[str, Solver] = {}


def converter(
    *names: str, since: int = 1, domain: str = "", halves: bool = False
) -> Callable[[Converter], Converter]:
    """Registers a converter for operators `names` of `domain`, from opset `since` on."""

    def register(convert: Converter) -> Converter:
        for name in names:
            entries = CONVERTERS.setdefault((domain, name), [])
            entries.append(Entry(convert, since, halves))
            entries.sort(key=lambda e: -e.since)
        return convert

    return register


def solver(*names: str, elements: bool = True) -> Callable[[Solver], Solver]:
    """Registers a solver for operators `names` of ai.onnx, whatever the opset. Without `elements`
    it gets the `Call` only, whether or not the operands' elements are known."""

    def register(solve: Solver) -> Solver:
        (SOLVERS if elements else SHAPE_SOLVERS).update(dict.fromkeys(names, solve))
        return solve

    return register


def load_all() -> None:
    """Imports every family of converters, and the solvers."""
    for family in FAMILIES:
        import_module(f"{__package__}.operators.{family}")
    import_module(f"{__package__}.arithmetic")


def find(domain: str, name: str, version: int) -> Entry | None:
    """The converter for an operator at an opset version."""
    entries = CONVERTERS.get((domain, name), ())
    return next((e for e in entries if e.since <= version), None)
