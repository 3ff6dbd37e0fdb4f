"""The op that stands for "and then do this": a value of its own that updates hang on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...dtypes import Array, DType
from ..ir import Value
from .base import Pointwise, sample


@dataclass(frozen=True)
class Token(Pointwise):
    """x itself, under a label that keeps it a node of its own.

    Fetching it performs the updates its graph holds for it; fetching x does not.
    """

    label: str
    trains: bool = False  # whether it is a training step, made of gradients
    arity = 1
    samples = (sample((3, 17), label="t"), sample((), label="t"))

    def accepts(self, dtype: DType) -> bool:
        return True

    def scalar(self, *xs: Any) -> Any:
        return xs[0]

    def grad(self, g: Value, y: Value, *xs: Value) -> tuple[Value | None, ...]:
        return (g,)

    def ref(self, *xs: Array) -> Array:
        return xs[0]
