"""argmax and argmin: a running best and its index, per lane or alone.

In: a nest whose stage combines by "argmax" or "argmin", and the axis that carries the vector. Out:
statements. The first of equal elements counts, and the first NaN before all.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..algorithm import REDUCTION_START, Const, Index, Load, Select, apply, rebuild
from ..codegen.kernel.ir import Alloc, Buffer, Stmt, Store
from ..dims import Dim, Sym, bounds, substitute
from ..dtypes import DType, int64
from ..target import Target
from .loops import LoopAxis, Nest, loop
from .schedule_map import checked, finish

FEW_STEPS = 9  # a window's positions: spelled out, so that none is divided into row and column


@dataclass
class Extreme:
    """argmax and argmin: the first extreme, or the first NaN."""

    nest: Nest
    target: Target
    vector: LoopAxis | None

    def build(self) -> list[Stmt]:
        stage, names = self.nest.stage, self.nest.names
        assert stage.term is not None
        dtype = stage.term.dtype
        lanes = max(2, self.target.lanes(dtype)) if self.vector is not None else 0
        shape = (1, lanes) if lanes else (1,)
        allocs: list[Stmt] = [Alloc(Buffer("best", dtype, shape, "register")),
                              Alloc(Buffer("place", int64, shape, "register"))]  # fmt: skip

        def at(v: Dim) -> tuple[Dim, ...]:
            return (0, v) if lanes else (0,)

        def body(start: Dim, active: Dim | None) -> list[Stmt]:
            def vectorised(make: object) -> list[Stmt]:
                if not lanes or self.vector is None:
                    return make(0, {})  # type: ignore[operator, no-any-return]
                v = names.fresh("v", 0, lanes - 1)
                inner = make(v, {self.vector.sym: start + v})  # type: ignore[operator]
                return [loop("vector", v, 0, lanes, inner, active=active)]

            first = REDUCTION_START["max" if stage.combine == "argmax" else "min"](dtype)
            out = [*allocs, *vectorised(lambda v, _: [
                Store("best", at(v), first), Store("place", at(v), Const(0, int64))])]  # fmt: skip
            steps = vectorised(lambda v, inner: self.step(at(v), dtype, inner))
            for a in reversed(self.nest.reduce_axes):
                short = isinstance(a.extent, int) and a.extent <= FEW_STEPS
                kind = "unroll" if short else "serial"
                steps = [loop(kind, a.index, 0, a.extent, steps)]  # type: ignore[arg-type]
            out += steps
            out += vectorised(lambda v, inner: finish(
                self.nest, Load("place", at(v), int64), inner))  # fmt: skip
            return out

        axes = [a for a in self.nest.axes if a is not self.vector]
        inner: list[Stmt]
        if self.vector is None:
            inner = body(0, None)
        else:
            extent = self.vector.extent
            j = names.fresh("j", 0, bounds(extent)[1])
            kind = "serial" if axes else "parallel"
            active = None if isinstance(extent, int) and extent % lanes == 0 else extent - j
            inner = [loop(kind, j, 0, extent, body(j, active), lanes)]  # type: ignore[arg-type]
        for k, a in enumerate(reversed(axes)):
            share = "parallel" if k == len(axes) - 1 else "serial"
            inner = [loop(share, a.index, 0, a.extent, inner)]  # type: ignore[arg-type]
        if not self.nest.axes:
            inner = [loop("parallel", names.fresh("once", 0, 0), 0, 1, inner)]
        return inner

    def step(self, at: tuple[Dim, ...], dtype: DType, values: dict[Sym, Dim]) -> list[Stmt]:
        stage = self.nest.stage
        assert stage.term is not None
        x = rebuild(stage.term, lambda e: None, lambda d: substitute(d, values))
        best = Load("best", at, dtype)
        better = apply("gt" if stage.combine == "argmax" else "lt", x, best)
        if dtype.is_float:
            better = better | (apply("isnan", x) & apply("not", apply("isnan", best)))
        k = self.nest.reduce_axes[0].index if self.nest.reduce_axes else 0
        place = Load("place", at, int64)
        return [*checked(self.nest, values),
                Store("place", at, Select(better, Index(k), place)),
                Store("best", at, Select(better, x, best))]  # fmt: skip
