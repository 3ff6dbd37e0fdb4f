"""Which function writes which op, by the op's name: the registry that mirrors `registry`.

A *writer* takes a `Site` (an op, its operands as tensors of the model) and returns the tensor of the
first result, or a tuple with one for each. `since` is the first opset that has what it emits.

An *expansion* takes a node and returns what stands for it, made of other ops, or None where the
writer will do. It is asked first: for what ONNX has no operator for, and for cases its operator
does not cover.

Besides these an op is written by its `onnx` name, if it has no attributes; by its own `expand`; and
if it is pointwise by its `scalar`, applied to values. What none of them covers is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from onnx import defs

from ...ir import Interner, Node, Value
from ...ops.base import Op, Pointwise
from ...ops.control import Control

if TYPE_CHECKING:
    from .draft import Site, Tensor

OLDEST = 18  # opset: from it on reductions take axes as an operand, scattering joins by max and min
FAMILIES = (
    "pointwise",
    "integers",
    "activation",
    "reduce",
    "shape",
    "linear",
    "pooling",
    "indexing",
    "sampling",
    "ordering",
    "counted",
    "quantized",
    "recurrent",
    "control",
    "passing",
)


class Composite(Protocol):
    """A node on its way to what it is made of."""

    op: Any
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    owner: Interner


Written: TypeAlias = "Tensor | tuple[Tensor, ...]"
Write: TypeAlias = "Callable[[Site], Written]"
Expand: TypeAlias = "Callable[[Composite], Value | tuple[Value, ...] | None]"


@dataclass(frozen=True)
class Entry:
    """A writer and the first opset that has the operators it emits."""

    write: Write
    since: int


WRITERS: dict[str, Entry] = {}
EXPANSIONS: dict[str, Expand] = {}


def writer(*names: str, since: int = OLDEST) -> Callable[[Write], Write]:
    """Registers the writer of the ops called `names`."""

    def register(write: Write) -> Write:
        WRITERS.update(dict.fromkeys(names, Entry(write, since)))
        return write

    return register


def expansion(*names: str) -> Callable[[Expand], Expand]:
    """Registers an expansion of the ops called `names`."""

    def register(expand: Expand) -> Expand:
        EXPANSIONS.update(dict.fromkeys(names, expand))
        return expand

    return register


def load_all() -> None:
    """Imports every family of writers."""
    for family in FAMILIES:
        import_module(f"{__package__}.writers.{family}")


def _plain(site: Site) -> Written:
    """An op without attributes, as the ONNX operator of the same meaning."""
    return site.emit(site.op.onnx, *site.xs, dtype=site.node.types[0].dtype)


def find(op: Op, opset: int) -> Write | None:
    """The writer of an op at an opset."""
    entry = WRITERS.get(op.name)
    if entry is not None:
        return entry.write if entry.since <= opset else None
    if op.onnx is None or fields(op):  # type: ignore[arg-type]
        return None
    return _plain if defs.has(op.onnx, opset) else None


def expanded(n: Node, opset: int) -> Any:
    """What stands for a node; None for one that is written, or refused, as it is."""
    expand = EXPANSIONS.get(n.op.name)
    made = None if expand is None else expand(n)
    if made is None and find(n.op, opset) is None:
        if n.op.has("expand") and not isinstance(n.op, Control):
            made = n.op.expand(*n.inputs)
        elif isinstance(n.op, Pointwise):
            made = n.op.scalar(*n.inputs)
    return None if isinstance(made, Value) and made.node is n else made
