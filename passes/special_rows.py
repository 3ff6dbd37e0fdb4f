"""The order of rows, as a kernel: a stable merge sort of places, rows compared element by element."""

from __future__ import annotations

from .. import algorithm as alg
from ..algorithm import Expr, Index, Var, as_expr, cast
from ..codegen.kernel.ir import Kernel, Let, Stmt, While
from ..dims import Dim, maximum
from ..dtypes import bool_, int64
from ..errors import InternalError
from ..graph.ops.base import Op
from ..graph.ops.sorting import RowOrder
from .special_parts import Cell, Memory, Types, kernel, loop, operand, result, scratch
from .special_sort import key


def row_order(op: Op, inputs: Types, outputs: Types) -> Kernel:
    """One thread merges runs of doubling width, from the result to scratch memory and back."""
    if not isinstance(op, RowOrder):
        raise InternalError(f"{op.name} is no row_order")
    rows, columns = inputs[0].shape
    x, out, other = operand(0, inputs[0]), result(0, outputs[0]), scratch(0, int64, rows)
    count, width = as_expr(rows, int64), Cell("width")
    there_and_back = (*_merged(x, out, other, count, columns, width.value),
                      width.set(width.value * 2),
                      *_merged(x, other, out, count, columns, width.value),
                      width.set(width.value * 2))  # fmt: skip
    body: list[Stmt] = [
        loop("i", rows, lambda i: [out.put((i,), i)]),
        *width.begin(1),
        While(width.value < count, there_and_back),
    ]
    return kernel(op.name, (x, out, other), [loop("once", 1, lambda _: body, "parallel")])


def _merged(x: Memory, source: Memory, to: Memory, count: Expr, columns: Dim, width: Expr
            ) -> list[Stmt]:  # fmt: skip
    """Merges neighbouring runs of `width`."""
    start, i, j, middle, end, c = (Cell(n) for n in ("start", "i", "j", "middle", "end", "column"))
    left, right, first = Var("left.v", int64), Var("right.v", int64), Var("first.v", bool_)
    last = as_expr(maximum(columns - 1, 0), int64)
    some = None if columns != 0 and isinstance(columns, int) else Index(columns) > 0

    def element(row: Expr) -> Expr:
        return key(x.at((row, c.value), some), False)

    def put(place: Expr) -> Stmt:
        return to.put((i.value + j.value - middle.value,), place)

    smaller = (
        Let("left.v", source[i.value]), Let("right.v", source[j.value]), *c.begin(0),
        While((c.value < last) & alg.equal(element(left), element(right)),
              (c.set(c.value + 1),)),
        Let("first.v", element(left) <= element(right)),
        put(alg.where(first, left, right)),
        i.set(i.value + cast(first, int64)), j.set(j.value + cast(~first, int64)),
    )  # fmt: skip

    def rest(cell: Cell, stop: Cell) -> Stmt:
        return While(cell.value < stop.value,
                     (put(source[cell.value]), cell.set(cell.value + 1)))  # fmt: skip

    run = (
        *middle.begin(alg.minimum(start.value + width, count)),
        *end.begin(alg.minimum(start.value + width * 2, count)),
        *i.begin(start.value), *j.begin(middle.value),
        While((i.value < middle.value) & (j.value < end.value), smaller),
        rest(i, middle), rest(j, end),
        start.set(start.value + width * 2),
    )  # fmt: skip
    return [*start.begin(0), While(start.value < count, run)]
