"""Dimensions that only a run tells, as tensors of a model: int64 vectors with one element each.

A symbol is read off an input that has it as a size of an axis, or where a size is a sum with no
other unknown, by taking that apart. Each expression is computed once, in the model's own graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ....dims import Dim, DimExpr, Op, Sym, as_sym, bounds, coefficient, free_symbols, substitute
from ....dtypes import int64
from ....errors import ModelError
from ...ir import Value
from .draft import Draft, Tensor

_LABEL = "sizes"


class Dimensions:
    """The sizes of one model. `inputs` are tensors by the value they stand for."""

    def __init__(self, draft: Draft, inputs: Mapping[Value, Tensor]) -> None:
        self.draft, self.inputs = draft, inputs
        self._known: dict[Any, Tensor] = {}

    def tell(self, d: Dim, size: Tensor) -> None:
        """Notes what a dimension is that the model computes. ModelError inside a sub-graph, whose
        values the sizes, which are computed outside of it, cannot read."""
        if self.draft.inside:
            raise ModelError("a size that is computed in a loop or a branch")
        self._known.setdefault(as_sym(d), size)

    def vector(self, shape: Sequence[Dim]) -> Tensor:
        """A vector of dimensions."""
        found = self._known.get(tuple(shape))
        if found is None:
            parts: list[Tensor] = []
            numbers: list[int] = []
            for d in shape:
                if isinstance(d, int):
                    numbers.append(d)
                    continue
                if numbers:
                    parts.append(self._constant(numbers))
                    numbers = []
                parts.append(self.size(d))
            if numbers or not parts:
                parts.append(self._constant(numbers))
            found = parts[0] if len(parts) == 1 else self._emit("Concat", *parts, axis=0)
            self._known[tuple(shape)] = found
        return found

    def size(self, d: Dim) -> Tensor:
        """A vector with one dimension."""
        if isinstance(d, int):
            return self._constant([d])
        if d not in self._known:
            total: Tensor | None = None
            for m, c in d.terms:
                term: Tensor | None = None if c == 1 and m else self._constant([c])
                for atom in m:
                    factor = self._atom(atom)
                    term = factor if term is None else self._emit("Mul", term, factor)
                assert term is not None
                total = term if total is None else self._emit("Add", total, term)
            assert total is not None
            self._known[d] = total
        return self._known[d]

    def _atom(self, atom: object) -> Tensor:
        if isinstance(atom, Sym):
            return self._symbol(atom)
        assert isinstance(atom, Op)
        a, b = self.size(atom.a), self.size(atom.b)
        if atom.kind in ("min", "max"):
            return self._emit(atom.kind.capitalize(), a, b)
        least, _ = bounds(atom.b)
        if least is None or least < 1:  # nothing is done with what division by 0 gives
            b = self._emit("Max", b, self._constant([1]))
        rest = self._emit("Mod", a, b)
        if atom.kind == "mod":
            return rest
        low, _ = bounds(atom.a)
        if low is None or low < 0:  # Div rounds towards zero
            a = self._emit("Sub", a, rest)
        return self._emit("Div", a, b)

    def _symbol(self, s: Sym) -> Tensor:
        if s not in self._known:
            for v, tensor in self.inputs.items():
                for axis, d in enumerate(v.shape):
                    k = coefficient(d, s)
                    if isinstance(d, DimExpr) and isinstance(k, int) and k != 0 and (
                        free_symbols(d) == {s}
                    ):  # fmt: skip
                        self._known[s] = self._taken_apart(tensor, axis, d, s, k)
                        return self._known[s]
            raise ModelError(f"no input has an axis that tells the dimension {s.name}")
        return self._known[s]

    def _taken_apart(self, x: Tensor, axis: int, d: Dim, s: Sym, k: int) -> Tensor:
        """s, d being the size of an axis of x, and k its factor in d."""
        size = self._emit("Shape", x, start=axis, end=axis + 1)
        offset = substitute(d, {s: 0})
        if offset != 0:
            size = self._emit("Sub", size, self._constant([offset]))
        return size if k == 1 else self._emit("Div", size, self._constant([k]))

    def _constant(self, numbers: Sequence[Any]) -> Tensor:
        return self.draft.constant(np.array(numbers, np.int64), int64, f"{_LABEL}/constant")

    def _emit(self, operator: str, *inputs: Tensor, **attributes: Any) -> Tensor:
        return self.draft.emit(_LABEL, operator, inputs, [int64], True, **attributes)[0]
