"""Tile sizes from the target table: closed-form costs, no search, no timing.

The model counts clocks per step of the reduction for a register tile of `mr` rows by `nv` vectors:
multiply-adds are limited by the ports, by latency where there are too few accumulators, and by
loads. It follows Goto & van de Geijn (2008) and the BLIS analytical model (Low et al. 2016).
"""

from __future__ import annotations

from functools import lru_cache

from ..dims import Dim
from ..target import Target

SCRATCH_BYTES = 16 << 10  # of a thread's stack, for what stays in half of the smallest first cache
MOST_ROWS = 12  # of a register tile
RAGGED = 1.03  # a last panel that is not full costs packing and code, whatever the arithmetic


def fits(mr: int, nv: int, target: Target) -> bool:
    """Whether accumulators, one row of vectors and one broadcast fit the register file. Where
    there are few registers, masks are among them."""
    spare = 1 if target.registers <= 16 else 0
    return mr * nv + nv + 1 + spare <= target.registers


def step_clocks(mr: int, nv: int, target: Target) -> float:
    """Clocks per reduction step of an mr x nv tile."""
    return max((mr * nv + 1.2) / target.fma_ports, target.fma_latency * 1.15) * (
        1.06 if nv == 1 else 1
    )


def _split(n: int, tile: int) -> list[tuple[int, int]]:
    """(size, how many) of the tiles of `n`."""
    return [(size, count) for size, count in ((tile, n // tile), (n % tile, 1)) if size and count]


@lru_cache(maxsize=4096)
def register_tile(rows: Dim, vectors: Dim, depth: Dim, target: Target,
                  fixed_nv: int | None = None, max_rows: int = MOST_ROWS) -> tuple[int, int]:  # fmt: skip
    """(mr, nv) of least cost for `rows` rows of `vectors` vectors, reduced over `depth` steps.

    Sizes known only at run time count as large. `fixed_nv` is set where packing has decided it.
    """
    full = target.fma_latency * target.fma_ports
    m = rows if isinstance(rows, int) else 96
    n = vectors if isinstance(vectors, int) else 12
    k = depth if isinstance(depth, int) else 512
    best: tuple[float, int, int, int] | None = None
    for nv in [fixed_nv] if fixed_nv else range(1, min(n, 6) + 1):
        for mr in range(1, min(m, max_rows) + 1):
            if not fits(mr, nv, target) or (mr * nv > 3 * full and mr > 1):
                continue
            cost = sum(
                (k * step_clocks(r, v, target) + 20 + r * v) * many_r * many_v
                for r, many_r in _split(m, mr)
                for v, many_v in _split(n, nv)
            )
            if n % nv:
                cost *= RAGGED
            key = (round(cost, 3), abs(nv - 3), -mr, nv)  # equal costs, however they are added up
            if best is None or key < best:
                best = key
    if best is None:
        return 1, fixed_nv or 1
    return -best[2], best[3]


def panel_vectors(columns: Dim, target: Target, lanes: int, rows: Dim, depth: Dim) -> int:
    """Vectors per packed panel of a matrix operand with `columns` columns."""
    vectors = -(-columns // lanes) if isinstance(columns, int) else columns
    alias = isinstance(depth, int) and depth % 1024 == 0
    return register_tile(rows, vectors, depth, target, None, 8 if alias else MOST_ROWS)[1]
