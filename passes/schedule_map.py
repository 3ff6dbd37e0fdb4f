"""Maps: kernels without a reduction. One vector loop along memory, the rest around it.

Before:  for i in 0..n { for j in 0..m { y[i, j] = f(x[i, j], b[j]) } }
After:   parallel i { for j step lanes { vector v { y[i, j+v] = f(...) } } ... masked remainder }

A map that reads along another axis than it writes (a transpose) works on square tiles instead,
turned round in registers.
"""

from __future__ import annotations

from ..algorithm import Const, Expr, IndexLike, Load, Var, rebuild
from ..codegen.kernel.ir import Alloc, Buffer, Call, Fail, Let, Stmt, Store
from ..dims import Dim, DimExpr, Sym, bounds, coefficient, free_symbols, substitute
from ..target import Target
from .loops import LoopAxis, Nest, bind, flat, index_dims, loop, shared_loops, tiled
from .stages import StageCheck


def schedule_map(nest: Nest, target: Target) -> list[Stmt]:
    """Statements computing the nest's outputs."""
    if not nest.axes:
        return element(nest, {})
    *outer, inner = nest.axes
    lanes = lanes_for(nest, target)
    crossing = _crossing(nest, inner, lanes)
    if crossing is not None:
        return _transposing(nest, crossing, lanes)
    return _rows(nest, outer, inner, lanes)


def lanes_for(nest: Nest, target: Target) -> int:
    """Lanes such that the widest output fills a vector register."""
    widest = max(o.value.dtype.itemsize for o in nest.stage.outputs)
    return max(2, target.vector_bytes // widest)


def element(nest: Nest, values: dict[Sym, Dim]) -> list[Stmt]:
    """Checks and stores of one element (or one vector of them)."""

    def at(e: Expr) -> Expr:
        return rebuild(e, lambda x: None, lambda d: substitute(d, values))

    out: list[Stmt] = [
        Fail(k, at(c.cond), substitute(c.index, values)) for k, c in enumerate(nest.stage.checks)
    ]
    stores = [
        (o.buffer,
         tuple(at(i) if isinstance(i, Expr) else substitute(i, values) for i in o.indices),
         at(o.value))
        for o in nest.stage.outputs
    ]  # fmt: skip
    return out + stored(stores)


def finish(nest: Nest, result: Expr, values: dict[Sym, Dim]) -> list[Stmt]:
    """Checks and outputs for one finished result."""
    out: list[Stmt] = []
    for k, c in enumerate(nest.stage.checks):
        if not _within(nest, c):
            out.append(Fail(k, bind(c.cond, result, values), substitute(c.index, values)))
    stores = [
        (o.buffer,
         tuple(bind(i, result, values) if isinstance(i, Expr) else substitute(i, values)
               for i in o.indices),
         bind(o.value, result, values))
        for o in nest.stage.outputs
    ]  # fmt: skip
    return out + stored(stores)


def checked(nest: Nest, values: dict[Sym, Dim]) -> list[Stmt]:
    """The checks that come with every term."""

    def dim(d: Dim) -> Dim:
        return substitute(d, values)

    return [Fail(k, rebuild(c.cond, lambda x: None, dim), dim(c.index))
            for k, c in enumerate(nest.stage.checks) if _within(nest, c)]  # fmt: skip


def _within(nest: Nest, check: StageCheck) -> bool:
    """Whether a check is about single terms: it depends on the reduction's indices."""
    steps = {a.sym for a in nest.reduce_axes}
    dims = [check.index, *index_dims(check.cond)]
    return any(steps & free_symbols(d) for d in dims)


def stored(stores: list[tuple[str, tuple[IndexLike, ...], Expr]]) -> list[Stmt]:
    """All values first, then the stores: an output may lie over an operand of another one."""
    if len(stores) == 1:
        return [Store(*stores[0])]
    names = [f"t{k}" for k in range(len(stores))]
    lets: list[Stmt] = [Let(name, value) for name, (_, _, value) in zip(names, stores)]
    return lets + [
        Store(buffer, at, Var(name, value.dtype))
        for name, (buffer, at, value) in zip(names, stores)
    ]


def _rows(nest: Nest, outer: list[LoopAxis], inner: LoopAxis, lanes: int) -> list[Stmt]:
    """Vectors along `inner`, its remainder masked; the outermost loop is shared by threads."""

    def vector(start: Dim, count: Dim, values: dict[Sym, Dim]) -> list[Stmt]:
        v = nest.names.fresh("v", 0, lanes - 1)
        inside = element(nest, {**values, inner.sym: start + v})
        low, _ = bounds(count)
        full = low is not None and low >= lanes
        return [loop("vector", v, 0, lanes, inside, active=None if full else count)]

    def along(values: dict[Sym, Dim], kind: str) -> list[Stmt]:
        whole = inner.extent - inner.extent % lanes
        out: list[Stmt] = []
        if whole != 0:
            j = nest.names.fresh("j", 0, None if bounds(whole)[1] is None else bounds(whole)[1])
            body = vector(j, lanes, values)
            out.append(loop(kind, j, 0, whole, body, lanes))  # type: ignore[arg-type]
        rest = inner.extent % lanes
        if rest != 0:
            if kind == "parallel":  # one more share, so that one thread alone does it
                j = nest.names.fresh("j", 0, bounds(inner.extent)[1])
                body = vector(j, inner.extent - j, values)
                out.append(loop("parallel", j, whole, inner.extent, body, lanes))
            else:
                out += vector(whole, rest, values)
        return out

    if not outer:
        return along({}, "parallel")

    loops, values = shared_loops(nest.names, outer)
    body = along(values, "serial")
    for kind, index, extent in reversed(loops):
        body = [loop(kind, index, 0, extent, body)]
    return body


def _crossing(nest: Nest, inner: LoopAxis, lanes: int) -> tuple[Load, LoopAxis] | None:
    """The single load that runs along another axis than the store, with that axis."""
    stage = nest.stage
    if len(stage.outputs) != 1 or stage.checks or inner.sym in nest.opaque():
        return None
    value = stage.outputs[0].value
    if not isinstance(value, Load) or value.mask is not None or value.dtype.kind == "b":
        return None
    if any(isinstance(i, Expr) for i in value.indices) or lanes & (lanes - 1):
        return None
    offset = flat(value.indices, nest.shapes[value.buffer])
    if coefficient(offset, inner.sym) in (0, 1, None):
        return None
    for a in nest.axes[:-1]:
        big = isinstance(a.extent, int) and a.extent >= 4
        if big and coefficient(offset, a.sym) == 1 and a.sym not in nest.opaque():
            store = nest.store_offsets()[0]
            if coefficient(store, inner.sym) == 1 and isinstance(inner.extent, int):
                return value, a
    return None


def _transposing(nest: Nest, crossing: tuple[Load, LoopAxis], lanes: int) -> list[Stmt]:
    """Tiles of lanes x lanes: vectors are loaded along `other`, transposed, stored along inner."""
    load, other = crossing
    inner = nest.axes[-1]
    output = nest.stage.outputs[0]
    tile = Buffer("tile", load.dtype, (lanes, lanes), "register")

    def body(p: Dim, rows: Dim, q: Dim, columns: Dim) -> list[Stmt]:
        v = nest.names.fresh("v", 0, lanes - 1)
        w = nest.names.fresh("v", 0, lanes - 1)
        return [
            Alloc(tile),
            *_tile_rows(nest, tile, load, lanes, v, columns, rows,
                        {inner.sym: q, other.sym: p}, inner, other),
            Call("transpose", tile.name),
            *_store_rows(nest, tile, output.buffer, output.indices, lanes, w, rows, columns,
                         {inner.sym: q, other.sym: p}, inner, other),
        ]  # fmt: skip

    def inside(p: Dim, rows: int) -> list[Stmt]:
        return tiled(nest.names, "q", inner.extent, lanes, "serial",
                     lambda q, columns: body(p, rows, q, columns))  # fmt: skip

    rest = [a for a in nest.axes[:-1] if a is not other]
    out = tiled(nest.names, "p", other.extent, lanes, "serial" if rest else "parallel", inside)
    for k, a in enumerate(reversed(rest)):
        kind = "parallel" if k == len(rest) - 1 else "serial"
        out = [loop(kind, a.index, 0, a.extent, out)]  # type: ignore[arg-type]
    return out


def _tile_rows(nest: Nest, tile: Buffer, load: Load, lanes: int, v: DimExpr, columns: Dim,
               rows: Dim, start: dict[Sym, Dim], inner: LoopAxis, other: LoopAxis) -> list[Stmt]:  # fmt: skip
    """tile[c, v] = x at inner index q + c and other index p + v, for the columns there are."""
    out: list[Stmt] = []
    if columns != lanes:  # rows of the tile that do not exist still take part in the transpose
        c = nest.names.fresh("c", 0, lanes - 1)
        zero = Store(tile.name, (c, v), Const(0, tile.dtype))
        out.append(loop("vector", v, 0, lanes, [loop("unroll", c, columns, lanes, [zero])]))
    c = nest.names.fresh("c", 0, lanes - 1)
    values = {inner.sym: start[inner.sym] + c, other.sym: start[other.sym] + v}
    at = tuple(substitute(i, values) for i in load.indices if not isinstance(i, Expr))
    first = Store(tile.name, (c, v), Load(load.buffer, at, load.dtype))
    body = [loop("unroll", c, 0, columns, [first])]
    out.append(loop("vector", v, 0, lanes, body, active=None if rows == lanes else rows))
    return out


def _store_rows(nest: Nest, tile: Buffer, buffer: str, indices: tuple[object, ...], lanes: int,
                v: DimExpr, rows: Dim, columns: Dim, start: dict[Sym, Dim], inner: LoopAxis,
                other: LoopAxis) -> list[Stmt]:  # fmt: skip
    """y at other index p + r and inner index q + v = tile[r, v], for the rows there are."""
    r = nest.names.fresh("r", 0, lanes - 1)
    values = {inner.sym: start[inner.sym] + v, other.sym: start[other.sym] + r}
    at = tuple(substitute(i, values) for i in indices)  # type: ignore[arg-type]
    store = Store(buffer, at, Load(tile.name, (r, v), tile.dtype))
    body = [loop("unroll", r, 0, rows, [store])]
    return [loop("vector", v, 0, lanes, body, active=None if columns == lanes else columns)]
