"""Loop nests of stages: fresh indices, dropped and merged axes, tiles with remainders.

What every schedule starts from. In: a `Stage` and the shapes of its buffers. Out: a `Nest`, the
same computation over as few axes as possible, its accesses analysed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from ..algorithm import Expr, Index, LaneReduce, Load, Var, rebuild, walk
from ..codegen.kernel.ir import For, Kind, Stmt
from ..dims import (
    Dim,
    DimExpr,
    Op,
    Sym,
    as_sym,
    bounds,
    coefficient,
    free_symbols,
    substitute,
    sym,
)
from .stages import Lowered, Output, Stage, StageCheck


class Names:
    """Fresh symbol names within one kernel, so that equal kernels get equal texts. Those `taken`
    are its dimensions'."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = frozenset(taken)
        self._used: dict[str, int] = {}

    def fresh(self, stem: str, lo: int, hi: int | None) -> DimExpr:
        """A new symbol `stem`, `stem1`, ... with bounds."""
        while True:
            count = self._used.get(stem, 0)
            self._used[stem] = count + 1
            name = stem if count == 0 else f"{stem}{count}"
            if name not in self._taken:
                return sym(name, lo, hi)


@dataclass(frozen=True)
class LoopAxis:
    """An axis of a nest: its index symbol and extent."""

    index: DimExpr
    extent: Dim

    @property
    def sym(self) -> Sym:
        return as_sym(self.index)


@dataclass(frozen=True)
class Nest:
    """A stage over merged axes with canonical names; `fold_axes` are those of its fold. `offsets`
    are the flat offsets of loads; `opaque` symbols appear outside of plain accesses (masks, index
    values)."""

    axes: tuple[LoopAxis, ...]
    reduce_axes: tuple[LoopAxis, ...]
    stage: Stage
    shapes: dict[str, tuple[Dim, ...]]
    names: Names
    fold_axes: tuple[LoopAxis, ...] = ()

    def offsets(self) -> list[tuple[Load, Dim]]:
        """Every load of the term and the outputs with its flat offset."""
        found: dict[Load, Dim] = {}
        for e in _expressions(self.stage):
            for x in walk(e):
                if isinstance(x, Load):
                    found[x] = flat(x.indices, self.shapes[x.buffer])
        return list(found.items())

    def store_offsets(self) -> list[Dim]:
        """Flat offsets of the outputs."""
        return [flat(o.indices, self.shapes[o.buffer]) for o in self.stage.outputs]

    def opaque(self) -> set[Sym]:
        """Symbols used as values: in masks, `Index` expressions and data-dependent indices."""
        out: set[Sym] = set()
        for e in _expressions(self.stage):
            for x in walk(e):
                if isinstance(x, Index):
                    out |= free_symbols(x.dim)
        for c in self.stage.checks:
            out |= free_symbols(c.index)
        return out


def flat(indices: Sequence[object], shape: Sequence[Dim]) -> Dim:
    """The row-major offset, data-dependent indices taken as 0."""
    out: Dim = 0
    for i, d in zip(indices, shape):
        out = out * d + (0 if isinstance(i, Expr) else i)  # type: ignore[operator]
    return out


def lane_stride(offset: Dim, a: LoopAxis) -> Dim | None:
    """Elements between neighbours along `a`; along packed panels, neighbours within one panel."""
    block = packed_block(offset, a)
    if block is None:
        return coefficient(offset, a.sym)
    panel, inside = sym("panel", 0), sym("inside", 0, block - 1)
    return coefficient(substitute(offset, {a.sym: panel * block + inside}), as_sym(inside))


def packed_block(offset: Dim, a: LoopAxis) -> int | None:
    """The panel width if `offset` takes the index of `a` modulo it."""
    if isinstance(offset, DimExpr):
        for m, _ in offset.terms:
            for atom in m:
                if isinstance(atom, Op) and atom.kind == "mod" and isinstance(atom.b, int):
                    if a.sym in free_symbols(atom.a):
                        return atom.b
    return None


def _expressions(stage: Stage) -> list[Expr]:
    out = [o.value for o in stage.outputs]
    out += [p.value for p in stage.row.parts] if stage.row is not None else []
    out += [i for o in stage.outputs for i in o.indices if isinstance(i, Expr)]
    out += [c.cond for c in stage.checks]
    out += [] if stage.fold is None else [stage.fold.value]
    return out if stage.term is None else [stage.term, *out]


def names_for(lowered: Lowered) -> Names:
    """Names for the kernel of a group: none is that of a dimension which its stages speak of."""
    dims = [d for b in lowered.buffers for d in b.type.physical_shape]
    own: set[Sym] = set()
    for s in lowered.stages:
        axes = (*s.axes, *s.reduce_axes, *(s.fold.axes if s.fold else ()))
        own |= {a.sym for a in axes}
        dims += [a.extent for a in axes]
        dims += [d for e in _expressions(s) for d in index_dims(e)]
    return Names({x.name for d in dims for x in free_symbols(d) if x not in own})


def nest_of(lowered: Lowered, stage: Stage, names: Names) -> Nest:
    """`stage` with canonical indices, axes of one element dropped, others merged where every
    access runs through both as through one."""
    shapes = {b.name: b.type.physical_shape for b in lowered.buffers}
    values: dict[Sym, Dim] = {}
    lists: list[list[LoopAxis]] = []
    folded = () if stage.fold is None else stage.fold.axes
    for stem, axes in (("i", stage.axes), ("k", stage.reduce_axes), ("f", folded)):
        kept: list[LoopAxis] = []
        for a in axes:
            if a.extent == 1:
                values[a.sym] = 0
                continue
            s = a.sym
            new = names.fresh(stem, s.lo, s.hi)
            values[s] = new
            kept.append(LoopAxis(new, substitute(a.extent, values)))
        lists.append(kept)
    nest = Nest(tuple(lists[0]), tuple(lists[1]), substituted(stage, values), shapes, names,
                tuple(lists[2]))  # fmt: skip
    return merged(nest)


def index_dims(e: Expr) -> list[Dim]:
    """The dimension expressions in `e`: index values, and places of loads that no data names."""
    out: list[Dim] = []
    for x in walk(e):
        if isinstance(x, Index):
            out.append(x.dim)
        elif isinstance(x, Load | LaneReduce):
            out += [i for i in x.indices if not isinstance(i, Expr)]
    return out


def substituted(stage: Stage, values: dict[Sym, Dim]) -> Stage:
    """`stage` with index symbols replaced in every expression."""

    def dim(d: Dim) -> Dim:
        return substitute(d, values)

    def go(e: Expr) -> Expr:
        return rebuild(e, lambda x: None, dim)

    return replace(
        stage,
        term=None if stage.term is None else go(stage.term),
        outputs=tuple(
            Output(o.buffer, tuple(go(i) if isinstance(i, Expr) else dim(i) for i in o.indices),
                   go(o.value)) for o in stage.outputs),
        checks=tuple(StageCheck(c.code, go(c.cond), dim(c.index), c.node)
                     for c in stage.checks),
        row=None if stage.row is None else replace(stage.row, parts=tuple(
            replace(p, value=go(p.value)) for p in stage.row.parts)),
        fold=None if stage.fold is None else replace(stage.fold, value=go(stage.fold.value)),
    )  # fmt: skip


def merged(nest: Nest) -> Nest:
    """Adjacent axes joined where that changes no access pattern."""
    for which in ("axes", "reduce_axes"):
        k = 0
        while k + 1 < len(axes := getattr(nest, which)):
            p, q = axes[k], axes[k + 1]
            if not _mergeable(nest, p, q):
                k += 1
                continue
            extent = p.extent * q.extent
            _, hi = bounds(extent)
            index = nest.names.fresh(p.sym.name[0], 0, None if hi is None else hi - 1)
            values: dict[Sym, Dim] = {p.sym: index // q.extent, q.sym: index % q.extent}
            joined = (*axes[:k], LoopAxis(index, extent), *axes[k + 2 :])
            nest = replace(nest, stage=substituted(nest.stage, values))
            if which == "axes":
                shorter = tuple(LoopAxis(a.index, substitute(a.extent, values))
                                for a in nest.reduce_axes)  # fmt: skip
                nest = replace(nest, axes=joined, reduce_axes=shorter)
            else:
                nest = replace(nest, reduce_axes=joined)
    return nest


def _mergeable(nest: Nest, p: LoopAxis, q: LoopAxis) -> bool:
    if not isinstance(q.extent, int) or q.extent == 0:  # p's index times it must divide back
        return False
    opaque = nest.opaque()
    if p.sym in opaque or q.sym in opaque:
        return False
    for offset in [*(o for _, o in nest.offsets()), *nest.store_offsets()]:
        a, b = coefficient(offset, p.sym), coefficient(offset, q.sym)
        if a is None or b is None or a != b * q.extent:
            return False
    return True


def loop(kind: Kind, index: DimExpr, lo: Dim, hi: Dim, body: Sequence[Stmt], step: int = 1,
         active: Dim | None = None) -> For:  # fmt: skip
    """A `For`."""
    return For(index, lo, hi, step, kind, tuple(body), active)


SHORT = 16  # an axis of fewer turns may not suffice for all threads


def shared_loops(names: Names, axes: Sequence[LoopAxis]
                 ) -> tuple[list[tuple[Kind, DimExpr, Dim]], dict[Sym, Dim]]:  # fmt: skip
    """Loops over `axes`, outermost first, the first one shared by threads, and what their indices
    stand for. A first axis that is or may be short takes the second one in."""
    if not axes:
        return [], {}
    first, *rest = axes
    values: dict[Sym, Dim] = {}
    index, extent = first.index, first.extent
    joins = bool(rest) and isinstance(rest[0].extent, int) and rest[0].extent > 0
    if joins and (not isinstance(extent, int) or extent < SHORT):
        second = rest.pop(0)
        extent = extent * second.extent
        _, hi = bounds(extent)
        index = names.fresh("t", 0, None if hi is None else max(hi - 1, 0))
        values = {first.sym: index // second.extent, second.sym: index % second.extent}
    loops: list[tuple[Kind, DimExpr, Dim]] = [("parallel", index, extent)]
    return loops + [("serial", a.index, a.extent) for a in rest], values


Body = Callable[[Dim, int], list[Stmt]]


def tiled(names: Names, stem: str, extent: Dim, tile: int, kind: Kind, body: Body,
          remainders: Sequence[int] | None = None) -> list[Stmt]:  # fmt: skip
    """Loops over `0..extent` in tiles: `body(start, size)` for full tiles, then for what is left.

    A known remainder gets one exact tile; an unknown one is covered by tiles of halved sizes
    (or `remainders`), so that no element is computed twice."""
    out: list[Stmt] = []
    whole = extent - extent % tile
    if isinstance(whole, int) and isinstance(extent, int):
        if whole == tile and kind != "parallel":
            out += body(0, tile)
        elif whole:
            i = names.fresh(stem, 0, whole - tile)
            out.append(loop(kind, i, 0, whole, body(i, tile), tile))
        if extent > whole:
            rest = body(whole, extent - whole)
            if kind == "parallel":
                i = names.fresh(stem, whole, whole)
                rest = [loop(kind, i, whole, extent, body(i, extent - whole), extent - whole)]
            out += rest
        return out
    _, hi = bounds(extent)
    sizes = [tile, *(remainders if remainders is not None else _halves(tile))]
    start: Dim = 0
    for size in sizes:
        stop = extent - extent % size
        i = names.fresh(stem, 0, None if hi is None else hi)
        out.append(loop(kind, i, start, stop, body(i, size), size))
        start = stop
    return out


def _halves(tile: int) -> list[int]:
    """Sizes below `tile`, each dividing the one before, down to 1."""
    out: list[int] = []
    size = tile
    while size > 1:
        step = next(d for d in range(2, size + 1) if size % d == 0)
        size //= step
        out.append(size)
    return out


def bind(e: Expr, result: Expr, values: dict[Sym, Dim]) -> Expr:
    """`e` with the stage's result and some indices put in."""
    return rebuild(e, lambda x: result if isinstance(x, Var) and x.name == "result" else None,
                   lambda d: substitute(d, values))  # fmt: skip
