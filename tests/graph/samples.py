"""Every op with every sample and dtypes, as graphs and arrays: what the registry's tests run on."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from flowmill.dtypes import Array, as_dtype
from flowmill.graph.definition import Graph, input
from flowmill.graph.ir import Function, Value
from flowmill.graph.ops.base import Op, Sample
from flowmill.graph.ops.registry import load_all

OPS = load_all()


@dataclass(frozen=True)
class Case:
    """One op, one sample, the operands' dtypes."""

    op: type[Op]
    sample: Sample
    dtypes: tuple[str, ...]

    def __str__(self) -> str:
        operands = zip(self.dtypes, self.sample.shapes)
        types = " ".join(f"{as_dtype(d).short}{list(s)}" for d, s in operands)
        more = ",".join(f"{k}={v}" for k, v in self.sample.attributes)
        return f"{self.op.name}-{types}-{more}".replace(" ", "")

    def draw(self) -> list[Array]:
        """The operands, the same at each call."""
        rng = np.random.default_rng(zlib.crc32(str(self).encode()))
        s = self.sample
        out: list[Array] = []
        for shape, name in zip(s.shapes, self.dtypes):
            dtype = as_dtype(name)
            if dtype.is_float:
                x: Any = rng.uniform(s.low, s.high, shape)
            else:
                x = rng.integers(int(s.low), max(int(s.high), int(s.low) + 1), shape)
            out.append(np.asarray(x).astype(dtype.numpy))
        if s.special:
            out[0].reshape(-1)[: len(s.special)] = s.special
        return out

    def build(self) -> tuple[tuple[Value, ...], tuple[Value, ...]]:
        """Inputs `x0`, `x1`, ... and the op's results, in a graph of their own."""
        with Graph("sample") as graph:
            xs = tuple(
                input(f"x{k}", shape, dtype)
                for k, (shape, dtype) in enumerate(zip(self.sample.shapes, self.dtypes))
            )
            return xs, graph.node(self.op(**self.sample.kwargs), xs).outputs

    def function(self) -> Function:
        xs, ys = self.build()
        return Function("sample", xs, tuple((f"y{k}", y) for k, y in enumerate(ys)))

    def feeds(self) -> dict[str, Array]:
        return {f"x{k}": x for k, x in enumerate(self.draw())}


def cases() -> Iterator[Case]:
    """All of them."""
    for op in OPS.values():
        for s in op.samples:
            if s.dtypes:
                yield Case(op, s, s.dtypes)
            else:
                for name in ("float32", "float64"):
                    yield Case(op, s, (name,) * len(s.shapes))


def gradient_cases() -> Iterator[Case]:
    """Those whose gradient can be compared with finite differences, in float64."""
    seen: set[str] = set()
    for case in cases():
        wide = tuple("float64" if as_dtype(d).is_float else d for d in case.dtypes)
        made = Case(case.op, case.sample, wide)
        if case.op.differentiable and case.sample.gradient and str(made) not in seen:
            seen.add(str(made))
            if "float64" in wide and any(y.dtype.is_float for y in made.build()[1]):
                yield made
