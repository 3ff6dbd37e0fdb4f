"""Writes at places that data names, as kernels. Of updates that meet one place the later ones come
later; a Fail (site 0, with the index's number) means that an index is out of range."""

from __future__ import annotations

from ..codegen.kernel.ir import Kernel, Stmt
from ..dims import Dim, DimExpr
from ..errors import InternalError
from ..graph.ops.base import Op
from ..graph.ops.indexing import AddAlongAxis, Scatter, ScatterAdd
from .special_parts import (
    Types,
    across,
    checked_place,
    columns,
    joined,
    kernel,
    loop,
    operand,
    parted,
    plus,
    result,
)


def scatter_add(op: Op, inputs: Types, outputs: Types) -> Kernel:
    """Zeros, then every update in order; each thread has some columns of all rows."""
    if not isinstance(op, ScatterAdd):
        raise InternalError(f"{op.name} is no scatter_add")
    indices, updates = inputs
    outer, many, inner = shape = joined(updates.shape, op.axis, indices.ndim)
    at, source = operand(0, indices, (many,)), operand(1, updates, shape)
    out = result(0, outputs[0], (outer, op.size, inner))

    def block(row: Dim, b: Dim) -> list[Stmt]:
        def clear(n: DimExpr) -> list[Stmt]:
            return [across(inner, b, lambda c, _: out.put((row, n, c), 0))]

        def step(m: DimExpr) -> list[Stmt]:
            first, place, mask = checked_place(at, (m,), op.size, m)

            def add(c: Dim, _: Dim) -> Stmt:
                old = out.at((row, place, c), mask)
                return out.put((row, place, c), plus(old, source[row, m, c]), mask)

            return [*first, across(inner, b, add)]

        return [loop("n", op.size, clear), loop("m", many, step)]

    return kernel(op, (at, source, out), columns(outer, inner, block))


def scatter(op: Op, inputs: Types, outputs: Types) -> Kernel:
    """A copy, then every update in order; each thread has some columns of all rows."""
    if not isinstance(op, Scatter):
        raise InternalError(f"{op.name} is no scatter")
    base, indices, updates = inputs
    outer, many, inner = joined(updates.shape, op.axis, indices.ndim)
    size = base.shape[op.axis]
    x, at = operand(0, base, (outer, size, inner)), operand(1, indices, (many,))
    source = operand(2, updates, (outer, many, inner))
    out = result(0, base, (outer, size, inner))

    def block(row: Dim, b: Dim) -> list[Stmt]:
        def copy(n: DimExpr) -> list[Stmt]:
            return [across(inner, b, lambda c, _: out.put((row, n, c), x[row, n, c]))]

        def step(m: DimExpr) -> list[Stmt]:
            first, place, mask = checked_place(at, (m,), size, m)

            def put(c: Dim, _: Dim) -> Stmt:
                return out.put((row, place, c), source[row, m, c], mask)

            return [*first, across(inner, b, put)]

        return [loop("n", size, copy), loop("m", many, step)]

    return kernel(op, (x, at, source, out), columns(outer, inner, block))


def add_along_axis(op: Op, inputs: Types, outputs: Types) -> Kernel:
    """Zeros, then every update of a line in order; each thread has some lines."""
    if not isinstance(op, AddAlongAxis):
        raise InternalError(f"{op.name} is no add_along_axis")
    indices, updates = inputs
    outer, many, inner = shape = joined(updates.shape, op.axis)
    at, source = operand(0, indices, shape), operand(1, updates, shape)
    out = result(0, outputs[0], (outer, op.size, inner))

    def line(p: DimExpr) -> list[Stmt]:
        row, c = parted(p, inner)

        def step(m: DimExpr) -> list[Stmt]:
            number = (row * many + m) * inner + c
            first, place, mask = checked_place(at, (row, m, c), op.size, number)
            old = out.at((row, place, c), mask)
            return [*first, out.put((row, place, c), plus(old, source[row, m, c]), mask)]

        clear = loop("n", op.size, lambda n: [out.put((row, n, c), 0)])
        return [clear, loop("m", many, step)]

    return kernel(op, (at, source, out), [loop("p", outer * inner, line, "parallel")])
