"""Ops whose meaning is sequential, as kernels: running sums, and writes at places that data names.

`KERNELS[op.name](op, inputs, outputs)` is the kernel of an op on row-major operands "x0", "x1", ...
and result "y0", named as `lower` does. Buffers have three axes: those before the op's axis joined,
that one, those after it joined. Destinations are divided among threads, never sources, so that each
place is written by one thread in the order of the indices. Every Fail has site 0 and means that an
index is out of range (code "index").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..algorithm import Const, Expr, IndexLike, Load, Var, cast
from ..codegen.kernel.ir import Alloc, Buffer, Fail, For, Kernel, Kind, Let, Stmt, Store
from ..dims import Dim, DimExpr, bounds, ceildiv, free_symbols, minimum, product, sym
from ..dtypes import int64
from ..errors import InternalError
from ..graph.ir import Shape, TensorType
from ..graph.ops.base import Op
from ..graph.ops.cumulative import Cumprod
from ..graph.ops.indexing import AddAlongAxis, Cumsum, Scatter, ScatterAdd, bounded

LANES = 16
# names with a dot are never those of a user's dimensions
_SUMS, _INDEX, _PLACE = "sums.v", "index.v", "place.v"


def _loop(name: str, extent: Dim, body: Callable[[DimExpr], Sequence[Stmt]], kind: Kind = "serial",
          active: Dim | None = None) -> For:  # fmt: skip
    """`for name in 0..extent`, its body made from the index."""
    _, high = bounds(extent)
    index = sym(f"{name}.i", 0, None if high is None else max(high - 1, 0))
    return For(index, 0, extent, 1, kind, tuple(body(index)), active)


def _across(inner: Dim, block: Dim, store: Callable[[Dim, Dim], Stmt]) -> Stmt:
    """`store(column, lane)` for the columns of a block of `LANES`, or for the only column."""
    if inner == 1:
        return store(0, 0)
    first = block * LANES
    left = minimum(inner - first, LANES)
    return _loop("v", LANES, lambda v: [store(first + v, v)], "vector", left)


def _columns(
    outer: Dim, inner: Dim, body: Callable[[Dim, Dim], Sequence[Stmt]]
) -> tuple[Stmt, ...]:
    """A parallel loop over independent blocks of columns: `body(row of outer, block of inner)`."""
    blocks = 1 if inner == 1 else ceildiv(inner, LANES)
    return (_loop("p", outer * blocks, lambda p: body(*_parts(p, blocks)), "parallel"),)


def _parts(p: DimExpr, by: Dim) -> tuple[Dim, Dim]:
    """Quotient and remainder; a loop that divides by 0 has no iterations."""
    return (p // by, p % by) if by != 0 else (0, 0)


def _kernel(op: Op, buffers: Sequence[Buffer], body: tuple[Stmt, ...]) -> Kernel:
    """The kernel, run-time sizes in the order of their names."""
    symbols = {s for b in buffers for d in b.shape for s in free_symbols(d)}
    dims = tuple(DimExpr((((s,), 1),)) for s in sorted(symbols, key=lambda s: s.name))
    return Kernel(op.name, dims, tuple(buffers), body)


def _joined(shape: Shape, axis: int, taken: int = 1) -> tuple[Dim, Dim, Dim]:
    """A shape with axes joined: before `axis`, the `taken` axes from it on, after them."""
    return (
        product(shape[:axis]),
        product(shape[axis : axis + taken]),
        product(shape[axis + taken :]),
    )


def _place(buffer: Buffer, at: Sequence[IndexLike], size: Dim, number: Dim) -> tuple[
    list[Stmt], Expr, Expr | None
]:  # fmt: skip
    """Reads an index: statements that name it and check it, the safe place, its mask."""
    raw = Var(_INDEX, buffer.dtype)
    place, outside, mask = bounded(raw, size)
    safe = Var(_PLACE, int64)
    first = [Let(_INDEX, Load(buffer.name, tuple(at), buffer.dtype)), Fail(0, outside, number),
             Let(_PLACE, place)]  # fmt: skip
    return first, safe, mask


def cumulative(op: Op, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Kernel:
    """One running sum or product per column; a row at a time joins a block of columns."""
    if not isinstance(op, Cumsum | Cumprod):
        raise InternalError(f"{op.name} is no running sum or product")
    join, start = (_plus, 0) if isinstance(op, Cumsum) else (_times, 1)
    shape = _joined(inputs[0].shape, op.axis)
    outer, length, inner = shape
    x, out = (
        Buffer("x0", inputs[0].dtype, shape),
        Buffer("y0", outputs[0].dtype, shape, written=True),
    )
    sums = Buffer(_SUMS, out.dtype, (1 if inner == 1 else LANES,), "register")

    def block(row: Dim, b: Dim) -> list[Stmt]:
        def read(lane: Dim) -> Expr:
            return Load(_SUMS, (lane,), sums.dtype)

        def step(i: DimExpr) -> list[Stmt]:
            k: Dim = length - 1 - i if op.reverse else i

            def add(column: Dim, lane: Dim) -> Stmt:
                value = cast(Load("x0", (row, k, column), x.dtype), sums.dtype)
                return Store(_SUMS, (lane,), join(read(lane), value))

            def write(column: Dim, lane: Dim) -> Stmt:
                return Store("y0", (row, k, column), read(lane))

            order = (write, add) if op.exclusive else (add, write)
            return [_across(inner, b, f) for f in order]

        def clear(column: Dim, lane: Dim) -> Stmt:
            return Store(_SUMS, (lane,), Const(start, sums.dtype))

        return [Alloc(sums), _across(inner, b, clear), _loop("i", length, step)]

    return _kernel(op, (x, out), _columns(outer, inner, block))


def _plus(a: Expr, b: Expr) -> Expr:
    return a | b if a.dtype.kind == "b" else a + b


def _times(a: Expr, b: Expr) -> Expr:
    return a & b if a.dtype.kind == "b" else a * b


def scatter_add(op: Op, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Kernel:
    """Zeros, then every update in order; each thread has some columns of all rows."""
    if not isinstance(op, ScatterAdd):
        raise InternalError(f"{op.name} is no scatter_add")
    indices, updates = inputs
    outer, many, inner = _joined(updates.shape, op.axis, indices.ndim)
    at = Buffer("x0", indices.dtype, (many,))
    source = Buffer("x1", updates.dtype, (outer, many, inner))
    out = Buffer("y0", updates.dtype, (outer, op.size, inner), written=True)

    def block(row: Dim, b: Dim) -> list[Stmt]:
        def clear(n: DimExpr) -> list[Stmt]:
            return [_across(inner, b, lambda c, _: Store("y0", (row, n, c), Const(0, out.dtype)))]

        def step(m: DimExpr) -> list[Stmt]:
            first, place, mask = _place(at, (m,), op.size, m)

            def add(c: Dim, _: Dim) -> Stmt:
                old = Load("y0", (row, place, c), out.dtype, mask)
                value = Load("x1", (row, m, c), out.dtype)
                return Store("y0", (row, place, c), _plus(old, value), mask)

            return [*first, _across(inner, b, add)]

        return [_loop("n", op.size, clear), _loop("m", many, step)]

    return _kernel(op, (at, source, out), _columns(outer, inner, block))


def scatter(op: Op, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Kernel:
    """A copy, then every update in order; each thread has some columns of all rows."""
    if not isinstance(op, Scatter):
        raise InternalError(f"{op.name} is no scatter")
    base, indices, updates = inputs
    outer, many, inner = _joined(updates.shape, op.axis, indices.ndim)
    size = base.shape[op.axis]
    x = Buffer("x0", base.dtype, (outer, size, inner))
    at = Buffer("x1", indices.dtype, (many,))
    source = Buffer("x2", updates.dtype, (outer, many, inner))
    out = Buffer("y0", base.dtype, (outer, size, inner), written=True)

    def block(row: Dim, b: Dim) -> list[Stmt]:
        def copy(n: DimExpr) -> list[Stmt]:
            def one(c: Dim, _: Dim) -> Stmt:
                return Store("y0", (row, n, c), Load("x0", (row, n, c), x.dtype))

            return [_across(inner, b, one)]

        def step(m: DimExpr) -> list[Stmt]:
            first, place, mask = _place(at, (m,), size, m)

            def put(c: Dim, _: Dim) -> Stmt:
                return Store("y0", (row, place, c), Load("x2", (row, m, c), out.dtype), mask)

            return [*first, _across(inner, b, put)]

        return [_loop("n", size, copy), _loop("m", many, step)]

    return _kernel(op, (x, at, source, out), _columns(outer, inner, block))


def add_along_axis(op: Op, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Kernel:
    """Zeros, then every update of a line in order; each thread has some lines."""
    if not isinstance(op, AddAlongAxis):
        raise InternalError(f"{op.name} is no add_along_axis")
    indices, updates = inputs
    outer, many, inner = shape = _joined(updates.shape, op.axis)
    at, source = Buffer("x0", indices.dtype, shape), Buffer("x1", updates.dtype, shape)
    out = Buffer("y0", updates.dtype, (outer, op.size, inner), written=True)

    def line(p: DimExpr) -> list[Stmt]:
        row, c = _parts(p, inner)

        def clear(n: DimExpr) -> list[Stmt]:
            return [Store("y0", (row, n, c), Const(0, out.dtype))]

        def step(m: DimExpr) -> list[Stmt]:
            number = (row * many + m) * inner + c
            first, place, mask = _place(at, (row, m, c), op.size, number)
            old = Load("y0", (row, place, c), out.dtype, mask)
            value = Load("x1", (row, m, c), out.dtype)
            return [*first, Store("y0", (row, place, c), _plus(old, value), mask)]

        return [_loop("n", op.size, clear), _loop("m", many, step)]

    body = (_loop("p", outer * inner, line, "parallel"),)
    return _kernel(op, (at, source, out), body)


KERNELS: dict[str, Callable[[Op, Sequence[TensorType], Sequence[TensorType]], Kernel]] = {
    "cumsum": cumulative,
    "cumprod": cumulative,
    "scatter_add": scatter_add,
    "scatter": scatter,
    "add_along_axis": add_along_axis,
}
# which operand the indices are, of those that have some
INDICES = {"scatter_add": 0, "scatter": 1, "add_along_axis": 0}
