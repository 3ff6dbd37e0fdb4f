"""Running sums and products, as kernels."""

from __future__ import annotations

from ..algorithm import cast
from ..codegen.kernel.ir import Alloc, Kernel, Stmt
from ..dims import Dim, DimExpr
from ..errors import InternalError
from ..graph.ops.base import Op
from ..graph.ops.cumulative import Cumprod, Cumsum
from .special_parts import (
    LANES,
    Memory,
    Types,
    across,
    columns,
    joined,
    kernel,
    loop,
    operand,
    plus,
    result,
    times,
)


def cumulative(op: Op, inputs: Types, outputs: Types) -> Kernel:
    """One running sum or product per column; a row at a time joins a block of columns."""
    if not isinstance(op, Cumsum | Cumprod):
        raise InternalError(f"{op.name} is no running sum or product")
    join, start = (plus, 0) if isinstance(op, Cumsum) else (times, 1)
    outer, length, inner = shape = joined(inputs[0].shape, op.axis)
    x, out = operand(0, inputs[0], shape), result(0, outputs[0], shape)
    lanes = 1 if inner == 1 else LANES
    sums = Memory("sums.v", out.dtype, (lanes,), space="register")

    def block(row: Dim, b: Dim) -> list[Stmt]:
        def step(i: DimExpr) -> list[Stmt]:
            k: Dim = length - 1 - i if op.reverse else i

            def add(column: Dim, lane: Dim) -> Stmt:
                return sums.put((lane,), join(sums[lane], cast(x[row, k, column], out.dtype)))

            def write(column: Dim, lane: Dim) -> Stmt:
                return out.put((row, k, column), sums[lane])

            order = (write, add) if op.exclusive else (add, write)
            return [across(inner, b, f) for f in order]

        clear = across(inner, b, lambda _, lane: sums.put((lane,), start))
        return [Alloc(sums.buffer), clear, loop("i", length, step)]

    return kernel(op.name, (x, out), columns(outer, inner, block))
