"""How many elements one chain of additions takes in: the length of a block of a reduction.

A longer reduction is done in blocks, which threads share, and then of the blocks' results. Lengths
depend on the shape that is reduced alone, never on the number of threads or of other results: bits
stay the same. Short chains are exact chains: each addition rounds, and errors grow with the length.
"""

from __future__ import annotations

from ..dims import product
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
