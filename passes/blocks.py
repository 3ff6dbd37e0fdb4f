"""How many elements one chain of additions takes in: the length of a block of a reduction.

A longer reduction is done in blocks, which threads share, and then of the blocks' results. Lengths
depend on the shape that is reduced alone, never on the number of threads or of other results: bits
stay the same. Short chains are exact chains: each addition rounds, and errors grow with the length.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..dims import Dim, ceildiv, product
from ..graph.ir import Layout, Shape

# Along memory 64 chains run side by side. Half a megabyte: to one thread that is 10 microseconds of
# reading, to wake a second one costs a few.
LANE_BLOCK = 1 << 17
# Of neighbouring results each has one chain.
CHAIN_BLOCK = 1 << 11


def memory_order(shape: Shape, layout: Layout | None) -> tuple[int, ...]:
    """The logical axis of each physical dimension."""
    return tuple(range(len(shape))) if layout is None else tuple(p.axis for p in layout)


def block_length(shape: Shape, layout: Layout | None, axes: tuple[int, ...]) -> int:
    """Elements per block of a reduction over `axes`."""
    inner = [k for k in memory_order(shape, layout) if shape[k] != 1][-1:]
    return LANE_BLOCK if inner and inner[0] in axes else CHAIN_BLOCK


def in_one_block(shape: Shape, layout: Layout | None, axes: tuple[int, ...]) -> bool:
    """Whether the reduction of `shape` over `axes` is done at once.

    Of a length known only at run time one block is supposed, unless the outermost axis is reduced:
    that of a batch, which may be anything.
    """
    length = product(shape[a] for a in axes)
    if isinstance(length, int):
        return length <= block_length(shape, layout, axes)
    return memory_order(shape, layout)[0] not in axes


@dataclass(frozen=True)
class Cut:
    """One step of a long reduction: blocks of `block` along `axis`, and all of `inner`."""

    axis: int
    block: int
    inner: tuple[int, ...]


def cuts(shape: Shape, layout: Layout | None, axes: tuple[int, ...]) -> list[Cut]:
    """The steps before the last of a reduction that is not done at once; none for others. A block
    takes in axes from the innermost outwards, and a part of the first that is too long or of a
    length known only at run time. Blocks of that one are supposed to be few."""
    if in_one_block(shape, layout, axes):
        return []
    most = block_length(shape, layout, axes)
    sizes: dict[int, Dim] = {k: shape[k] for k in memory_order(shape, layout) if k in axes}
    few: set[int] = set()
    out: list[Cut] = []
    while True:
        taken = 1
        inner: list[int] = []
        for k in reversed(sizes):
            size = 1 if k in few and not isinstance(sizes[k], int) else sizes[k]
            if not isinstance(size, int) or size * taken > most:
                break
            taken *= size
            inner.append(k)
        if len(inner) == len(sizes):
            return out
        cut = list(reversed(sizes))[len(inner)]
        block = max(most // taken, 1)
        out.append(Cut(cut, block, tuple(inner)))
        sizes[cut] = ceildiv(sizes[cut], block)
        for k in inner:
            del sizes[k]
        few.add(cut)
