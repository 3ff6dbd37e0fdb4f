"""Running sums, as kernels."""

from __future__ import annotations

from ..algorithm import cast
from ..codegen.kernel.ir import Alloc, Kernel, Stmt
from ..dims import Dim, DimExpr
from ..errors import InternalError
from ..graph.ops.base import Op
from ..graph.ops.indexing import Cumsum
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
)


def cumsum(op: Op, inputs: Types, outputs: Types) -> Kernel:
    """One running sum per column; a row at a time is added to a block of columns."""
    if not isinstance(op, Cumsum):
        raise InternalError(f"{op.name} is no cumsum")
    outer, length, inner = shape = joined(inputs[0].shape, op.axis)
    x, out = operand(0, inputs[0], shape), result(0, outputs[0], shape)
    lanes = 1 if inner == 1 else LANES
    sums = Memory("sums.v", out.dtype, (lanes,), space="register")

    def block(row: Dim, b: Dim) -> list[Stmt]:
        def step(i: DimExpr) -> list[Stmt]:
            k: Dim = length - 1 - i if op.reverse else i

            def add(column: Dim, lane: Dim) -> Stmt:
                return sums.put((lane,), plus(sums[lane], cast(x[row, k, column], out.dtype)))

            def write(column: Dim, lane: Dim) -> Stmt:
                return out.put((row, k, column), sums[lane])

            order = (write, add) if op.exclusive else (add, write)
            return [across(inner, b, f) for f in order]

        clear = across(inner, b, lambda _, lane: sums.put((lane,), 0))
        return [Alloc(sums.buffer), clear, loop("i", length, step)]

    return kernel(op, (x, out), columns(outer, inner, block))
