"""What the kernels of `special` are written with: loops, scalars, elements, joined axes.

Operands are buffers "x0", "x1", ... and results "y0", "y1", ..., named as `lower` does, each with
the axes its kernel likes best: memory is row-major and knows no shapes. Buffers after those are the
kernel's own scratch memory. Destinations are divided among threads, never sources, so that each
place is written by one thread in the order of the indices. Names have a dot, which those of a
user's dimensions never have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from ..algorithm import Expr, Index, IndexLike, Load, Var, as_expr, cast, maximum, minimum
from ..codegen.kernel.ir import Alloc, Buffer, Fail, For, Kernel, Kind, Let, Stmt, Store
from ..dims import Dim, DimExpr, bounds, ceildiv, free_symbols, product, sym
from ..dims import minimum as least
from ..dtypes import DType, int64
from ..graph.ir import Shape, TensorType
from ..graph.ops.base import Op
from ..graph.ops.indexing import bounded

LANES = 16
Types: TypeAlias = Sequence[TensorType]
Statements: TypeAlias = Sequence[Stmt]
Maker: TypeAlias = Callable[[Op, Types, Types], Kernel]


class Memory:
    """A buffer while a kernel is written: `m[i, j]` is an element."""

    def __init__(self, name: str, dtype: DType, shape: Sequence[Dim], **kind: Any) -> None:
        self.buffer = Buffer(name, dtype, tuple(shape), **kind)
        self.dtype = dtype

    def __getitem__(self, indices: IndexLike | tuple[IndexLike, ...]) -> Expr:
        return self.at(indices if isinstance(indices, tuple) else (indices,))

    def at(self, indices: Sequence[IndexLike], mask: Expr | None = None) -> Expr:
        """An element; zero, and nothing read, where `mask` is false."""
        return Load(self.buffer.name, _plain(indices), self.dtype, mask)

    def put(self, indices: Sequence[IndexLike], value: Any, mask: Expr | None = None) -> Store:
        """`m[indices] = value`, converted to the buffer's dtype."""
        found = cast(as_expr(value, self.dtype), self.dtype)
        return Store(self.buffer.name, _plain(indices), found, mask)


def _plain(indices: Sequence[IndexLike]) -> tuple[IndexLike, ...]:
    return tuple(i.dim if isinstance(i, Index) else i for i in indices)


def operand(k: int, type: TensorType, shape: Sequence[Dim] | None = None) -> Memory:
    """Operand `k`, with the axes `shape` instead of its own."""
    return Memory(f"x{k}", type.dtype, type.shape if shape is None else shape)


def result(k: int, type: TensorType, shape: Sequence[Dim] | None = None) -> Memory:
    """Result `k`, with the axes `shape` instead of its own."""
    return Memory(f"y{k}", type.dtype, type.shape if shape is None else shape, written=True)


def scratch(k: int, dtype: DType, *shape: Dim) -> Memory:
    """Memory of the kernel's own, undefined when it begins."""
    return Memory(f"s{k}", dtype, shape, written=True)


class Cell:
    """A scalar that statements change: a register with one element."""

    def __init__(self, name: str, dtype: DType = int64) -> None:
        self.memory = Memory(f"{name}.c", dtype, (1,), space="register")

    @property
    def value(self) -> Expr:
        return self.memory[0]

    def set(self, value: Any) -> Stmt:
        return self.memory.put((0,), value)

    def begin(self, value: Any) -> list[Stmt]:
        """Makes it, with its first value."""
        return [Alloc(self.memory.buffer), self.set(value)]


def loop(name: str, extent: Dim, body: Callable[[DimExpr], Statements], kind: Kind = "serial",
         active: Dim | None = None) -> For:  # fmt: skip
    """`for name in 0..extent`, its body made from the index."""
    _, high = bounds(extent)
    index = sym(f"{name}.i", 0, None if high is None else max(high - 1, 0))
    return For(index, 0, extent, 1, kind, tuple(body(index)), active)


def vector(body: Callable[[DimExpr], Statements], active: Dim | None = None) -> For:
    """`LANES` iterations at once, those below `active`."""
    return loop("v", LANES, body, "vector", active)


def across(inner: Dim, block: Dim, store: Callable[[Dim, Dim], Stmt]) -> Stmt:
    """`store(column, lane)` for the columns of a block of `LANES`, or for the only column."""
    if inner == 1:
        return store(0, 0)
    first = block * LANES
    return vector(lambda v: [store(first + v, v)], least(inner - first, LANES))


def columns(outer: Dim, inner: Dim, body: Callable[[Dim, Dim], Statements]) -> tuple[Stmt, ...]:
    """A parallel loop over independent blocks of columns: `body(row of outer, block of inner)`."""
    blocks = 1 if inner == 1 else ceildiv(inner, LANES)
    return (loop("p", outer * blocks, lambda p: body(*parted(p, blocks)), "parallel"),)


def parted(p: Dim, by: Dim) -> tuple[Dim, Dim]:
    """Quotient and remainder; a loop that divides by 0 has no iterations."""
    return (p // by, p % by) if by != 0 else (0, 0)


def kernel(name: str, memories: Sequence[Memory], body: Statements) -> Kernel:
    """The kernel, run-time sizes in the order of their names."""
    buffers = tuple(m.buffer for m in memories)
    symbols = {s for b in buffers for d in b.shape for s in free_symbols(d)}
    dims = tuple(DimExpr((((s,), 1),)) for s in sorted(symbols, key=lambda s: s.name))
    return Kernel(name, dims, buffers, tuple(body))


def joined(shape: Shape, axis: int, taken: int = 1) -> tuple[Dim, Dim, Dim]:
    """A shape with axes joined: before `axis`, the `taken` axes from it on, after them."""
    return (
        product(shape[:axis]),
        product(shape[axis : axis + taken]),
        product(shape[axis + taken :]),
    )


def checked_place(indices: Memory, at: Sequence[IndexLike], size: Dim, number: Dim,
                  suffix: str = "v") -> tuple[list[Stmt], Expr, Expr | None]:  # fmt: skip
    """Reads an index: statements that name it (with a `suffix`) and check it (site 0, at `number`),
    the safe place, its mask."""
    index, safe = f"index.{suffix}", f"place.{suffix}"
    place, outside, mask = bounded(Var(index, indices.dtype), size)
    first = [Let(index, indices.at(at)), Fail(0, outside, number), Let(safe, place)]
    return first, Var(safe, int64), mask


def plus(a: Expr, b: Expr) -> Expr:
    """The sum; for bools, whether one is true."""
    return a | b if a.dtype.kind == "b" else a + b


def times(a: Expr, b: Expr) -> Expr:
    """The product; for bools, whether both are true."""
    return a & b if a.dtype.kind == "b" else a * b


def joined_by(reduction: str, old: Expr, new: Expr) -> Expr:
    """What an update makes of what is there; "none": it replaces it."""
    if reduction == "none":
        return new
    if old.dtype.kind == "b":
        return old | new if reduction in ("add", "max") else old & new
    join = {"add": plus, "mul": times, "max": maximum, "min": minimum}[reduction]
    found: Expr = join(old, new)
    return found
