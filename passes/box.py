"""Boxes: what a register tile reads of a padded operand, copied together with its padding.

Where a window leaves an image along the axis that is tiled in registers, every row of the tile
would need a mask of its own at every step. Instead the tile's part of the image is copied to memory
that stays in the first cache, zeros around it, once for each tile:

Before:  acc[r] += (x[c, h + k, 4*t + r + l - 1] if inside) * w[c, k, l]
After:   box[c, k, j] = x[c, h + k, 4*t + j - 1] if inside, for all j in 0..4 + 2
         acc[r] += box[c, k, r + l] * w[c, k, l]
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import prod

from ..algorithm import Apply, Const, Expr, Index, Load, rebuild, walk
from ..codegen.kernel.ir import Alloc, Buffer, Stmt, Store
from ..dims import Dim, DimExpr, Sym, coefficient, free_symbols, substitute
from ..dtypes import int64
from .clip import conditions
from .loops import LoopAxis, Nest, loop
from .tiles import MOST_ROWS, SCRATCH_BYTES


@dataclass(frozen=True)
class Box:
    """The operand `load` reads of, and its copy. `corner`: the index of the operand that the box
    begins at, in terms of the loops outside a tile and of its first `row`; `inside`: the index
    within the box; `masked`: axes that may begin or end outside."""

    row: Sym
    load: Load
    buffer: Buffer
    corner: tuple[Dim, ...]
    inside: tuple[Dim, ...]
    masked: tuple[bool, ...]

    def term(self, term: Expr) -> Expr:
        """`term` reading the box, its rows counted from the first one of the tile."""
        mine = Load(self.buffer.name, self.inside, self.load.dtype)
        return rebuild(term, lambda x: mine if x == self.load else None, lambda d: d)

    def rows(self, inner: dict[Sym, Dim], values: dict[Sym, Dim]) -> dict[Sym, Dim]:
        """What the indices are for the term, `values` being those of the tile's first element."""
        return {**inner, self.row: inner[self.row] - values[self.row]}

    def fill(self, nest: Nest, values: dict[Sym, Dim], lanes: int) -> list[Stmt]:
        """Statements that copy; `values` are those of the loops outside, and of the first row."""
        shape = nest.shapes[self.load.buffer]
        sizes = [_size(d) for d in self.buffer.shape]
        outer = [nest.names.fresh("b", 0, n - 1) if n > 1 else 0 for n in sizes[:-1]]
        last = nest.names.fresh("b", 0, sizes[-1] - 1)
        v = nest.names.fresh("v", 0, lanes - 1)

        def store(j: Dim) -> list[Stmt]:
            at = (*outer, j)
            place = tuple(substitute(c, values) + i for c, i in zip(self.corner, at))
            mask: Expr | None = None
            for i, size, may in zip(place, shape, self.masked):
                if may:
                    holds = (Index(i) >= Const(0, int64)) & (Index(i) <= Index(size - 1))
                    mask = holds if mask is None else mask & holds
            value = Load(self.load.buffer, place, self.load.dtype, mask)
            return [Store(self.buffer.name, at, value)]

        size = sizes[-1]
        whole = size // lanes * lanes
        body: list[Stmt] = []
        if whole:
            body.append(loop("serial", last, 0, whole,
                             [loop("vector", v, 0, lanes, store(last + v))], lanes))  # fmt: skip
        if size % lanes:
            w = nest.names.fresh("v", 0, lanes - 1)
            body.append(loop("vector", w, 0, lanes, store(whole + w), active=size % lanes))
        for b, n in zip(reversed(outer), reversed(sizes[:-1])):
            if isinstance(b, DimExpr):
                body = [loop("serial", b, 0, n, body)]
        return [Alloc(self.buffer), *body]


def box_of(nest: Nest, row: LoopAxis | None, rows: int, vector: LoopAxis | None) -> Box | None:
    """The box of a tile of `rows` rows, if a mask along the row is what the term would need."""
    term = nest.stage.term
    if row is None or vector is None or term is None:
        return None
    moving = {x for x in walk(term) if isinstance(x, Load) and row.sym in _symbols(x)}
    if len(moving) != 1:
        return None
    (load,) = moving
    masks = [] if load.mask is None else conditions(load.mask)
    if not any(row.sym in _symbols(c) for c in masks) or vector.sym in _symbols(load):
        return None
    if not all(_is_inside(c, load, nest.shapes[load.buffer]) for c in masks):
        return None
    rest = rebuild(term, lambda x: Const(0, load.dtype) if x == load else None, lambda d: d)
    if row.sym in _symbols(rest):  # what is not in the box would count rows from the first one, too
        return None
    sizes = {row.sym: rows} | {a.sym: _size(a.extent) for a in (*nest.fold_axes, *nest.reduce_axes)}
    if not all(sizes.values()):
        return None
    inside: list[Dim] = []
    corner: list[Dim] = []
    extents: list[int] = []
    for i in load.indices:
        steps = None if isinstance(i, Expr) else _steps(i, sizes)
        if steps is None or isinstance(i, Expr):
            return None
        own: Dim = 0
        for s, k in steps.items():
            own = own + k * DimExpr((((s,), 1),))
        inside.append(own)
        corner.append(i - own + steps[row.sym] * row.index)
        extents.append(1 + sum(k * (sizes[s] - 1) for s, k in steps.items()))
    if prod(extents) * load.dtype.itemsize > SCRATCH_BYTES:
        return None
    masked = tuple(any(i in _dims(c) for c in masks) for i in load.indices)
    return Box(row.sym, load, Buffer("box", load.dtype, tuple(extents), "stack"), tuple(corner),
               tuple(inside), masked)  # fmt: skip


def has_small_boxes(channels: int, spans: Sequence[int], strides: Sequence[int], size: int) -> bool:
    """Whether tiles of a convolution have boxes, of elements of `size` bytes, whatever pool folds its
    results: there is room for four times what windows that cover `spans` need without one."""
    across = (MOST_ROWS - 1) * strides[-1] + spans[-1]
    return 4 * prod((channels, *spans[:-1], across)) * size <= SCRATCH_BYTES


def _steps(i: Dim, symbols: Collection[Sym]) -> dict[Sym, int] | None:
    """How far an index goes with each of the symbols; None if not by a number of 0 or more."""
    out: dict[Sym, int] = {}
    for s in symbols:
        k = coefficient(i, s)
        if not isinstance(k, int) or k < 0:
            return None
        out[s] = k
    return out


def _size(d: Dim) -> int:
    """A known size, or 0."""
    return d if isinstance(d, int) else 0


def _dims(e: Expr) -> list[Dim]:
    return [x.dim for x in walk(e) if isinstance(x, Index)]


def _symbols(e: Expr) -> set[Sym]:
    places = [i for x in walk(e) if isinstance(x, Load) for i in x.indices]
    masks = [x.mask for x in walk(e) if isinstance(x, Load) and x.mask is not None]
    dims = [*_dims(e), *(i for i in places if not isinstance(i, Expr))]
    found = {s for d in dims for s in free_symbols(d)}
    return found.union(*(_symbols(m) for m in masks))


def _is_inside(cond: Expr, load: Load, shape: Sequence[Dim]) -> bool:
    """Whether a condition says no more than that an index of the load lies in its operand."""
    if not isinstance(cond, Apply):
        return False
    a, b = cond.args
    for i, size in zip(load.indices, shape):
        if cond.fn == "ge" and a == Index(i) and b == Const(0, int64):  # type: ignore[arg-type]
            return True
        if cond.fn == "le" and a == Index(i) and b == Index(size - 1):  # type: ignore[arg-type]
            return True
    return False
