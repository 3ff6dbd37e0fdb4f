"""Writes at places that data names, as kernels. Of updates that meet one place the later ones come
later; a Fail (site 0, with the index's number) means that an index is out of range."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from .. import algorithm as alg
from ..algorithm import Const, Expr, Index, IndexLike
from ..codegen.kernel.ir import If, Kernel, Stmt
from ..dims import Dim, DimExpr, ceildiv, minimum, product
from ..dtypes import int64
from ..errors import InternalError
from ..graph.ir import Shape
from ..graph.ops.base import Op
from ..graph.ops.indexing import AddAlongAxis, Scatter, ScatterAdd
from ..graph.ops.scattering import ScatterElements, ScatterNd, vector_length
from .special_parts import (
    LANES,
    Statements,
    Types,
    across,
    checked_place,
    columns,
    joined,
    joined_by,
    kernel,
    loop,
    operand,
    parted,
    plus,
    result,
    vector,
)

Pair: TypeAlias = tuple[Dim, Dim]


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

    return kernel(op.name, (at, source, out), columns(outer, inner, block))


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

    return kernel(op.name, (x, at, source, out), columns(outer, inner, block))


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

    return kernel(op.name, (at, source, out), [loop("p", outer * inner, line, "parallel")])


def scatter_nd(op: Op, inputs: Types, outputs: Types) -> Kernel:
    """A copy, then every update in order; each thread has some columns of all slices."""
    if not isinstance(op, ScatterNd):
        raise InternalError(f"{op.name} is no scatter_nd")
    base, indices, updates = inputs
    b, named = op.batch_dims, vector_length(base, indices, op.batch_dims)
    sizes = base.shape[b : b + named]
    outer, middle, inner = shape = joined(base.shape, b, named)
    many = product(indices.shape[b:-1])
    x, out = operand(0, base, shape), result(0, base, shape)
    at = operand(1, indices, (outer, many, named))
    source = operand(2, updates, (outer, many, inner))

    def block(row: Dim, part: Dim) -> list[Stmt]:
        def copy(n: DimExpr) -> list[Stmt]:
            return [across(inner, part, lambda c, _: out.put((row, n, c), x[row, n, c]))]

        def step(m: DimExpr) -> list[Stmt]:
            first: list[Stmt] = []
            place: Expr = Const(0, int64)
            inside: Expr | None = None
            for k, size in enumerate(sizes):
                number = (row * many + m) * named + k
                read, one, mask = checked_place(at, (row, m, k), size, number, str(k))
                first += read
                place = place * size + one
                inside = mask if mask is None or inside is None else inside & mask

            def put(c: Dim, _: Dim) -> Stmt:
                old = out.at((row, place, c), inside)
                new = joined_by(op.reduction, old, source[row, m, c])
                return out.put((row, place, c), new, inside)

            return [*first, across(inner, part, put)]

        return [loop("n", middle, copy), loop("m", many, step)]

    return kernel(op.name, (x, at, source, out), columns(outer, inner, block))


def scatter_elements(op: Op, inputs: Types, outputs: Types) -> Kernel:
    """A copy, then every update of a line in order, `LANES` lines at once along the last axis if
    that is another; each thread has some lines."""
    if not isinstance(op, ScatterElements):
        raise InternalError(f"{op.name} is no scatter_elements")
    base, indices, updates = inputs
    before, after = _sides(base.shape, indices.shape, op.axis)
    size, many = base.shape[op.axis], indices.shape[op.axis]
    whole = (*(d for d, _ in before), size, *(d for d, _ in after))
    part = (*(d for _, d in before), many, *(d for _, d in after))
    x, out = operand(0, base, whole), result(0, base, whole)
    at, source = operand(1, indices, part), operand(2, updates, part)
    last, last_part = after[-1] if after else (1, 1)
    blocks = ceildiv(last, LANES) if after else 1
    rows = [*before, *after[:-1]]

    def lines(p: DimExpr) -> list[Stmt]:
        rest, b = parted(p, blocks)
        places: list[Dim] = []
        for extent, _ in reversed(rows):
            rest, i = parted(rest, extent)
            places.insert(0, i)
        first, behind = places[: len(before)], places[len(before) :]

        def place(i: IndexLike, c: Dim) -> list[IndexLike]:
            return [*first, i, *spread(c)]

        def spread(c: Dim) -> list[Dim]:
            return [*behind, c] if after else []

        def each(extent: Dim, body: Callable[[Dim], Statements]) -> list[Stmt]:
            if not after:
                return list(body(0))
            left = minimum(extent - b * LANES, LANES)
            return [vector(lambda v: body(b * LANES + v), left)]

        def copy(n: DimExpr) -> list[Stmt]:
            return each(last, lambda c: [out.put(place(n, c), x.at(place(n, c)))])

        def step(m: DimExpr) -> list[Stmt]:
            def update(c: Dim) -> list[Stmt]:
                number: Dim = 0
                for extent, i in zip(part, [*first, m, *spread(c)]):
                    number = number * extent + i
                read, one, mask = checked_place(at, place(m, c), size, number)
                old = out.at(place(one, c), mask)
                new = joined_by(op.reduction, old, source.at(place(m, c)))
                return [*read, out.put(place(one, c), new, mask)]

            return each(last_part, update)

        updated: Stmt = loop("m", many, step)
        for i, (extent, fewer) in zip(places, rows):
            if fewer != extent:
                updated = If(alg.apply("lt", Index(i), alg.as_expr(fewer, int64)), (updated,))
        return [loop("n", size, copy), updated]

    count = product(extent for extent, _ in rows) * blocks
    return kernel(op.name, (x, at, source, out), [loop("p", count, lines, "parallel")])


def _sides(whole: Shape, part: Shape, axis: int) -> tuple[list[Pair], list[Pair]]:
    """The axes before and after `axis` with their extents in `whole` and in `part`; each side is
    one axis where they do not differ."""
    out = []
    for side in (slice(None, axis), slice(axis + 1, None)):
        pairs = list(zip(whole[side], part[side]))
        if pairs and all(a == b for a, b in pairs):
            pairs = [(product(whole[side]), product(part[side]))]
        out.append(pairs)
    return out[0], out[1]
