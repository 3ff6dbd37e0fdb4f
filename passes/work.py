"""What a plan is made of: kernels to launch, and nodes that hold functions.

`compiler` makes them, `plan` puts them in order and gives them memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from ..algorithm import Expr, Load, walk
from ..codegen.kernel.ir import Kernel
from ..codegen.kernel.program import Site
from ..dims import Dim, DimExpr, maximum, minimum
from ..errors import Loc
from ..graph.ir import Function, Node, Value
from ..graph.ops.control import Control
from ..target import Target
from .row_plan import may_overwrite
from .stages import Lowered

MAX_PARTS = 256


@dataclass(eq=False)
class Scratch:
    """Memory of a kernel's own, in bytes; undefined when the kernel begins."""

    size: Dim


@dataclass(frozen=True)
class Told:
    """A dimension that is `value`, an int64 scalar, once that is computed: `most` at most."""

    symbol: DimExpr
    value: Value
    most: Dim
    site: Site


@dataclass(eq=False)
class Work:
    """A kernel to launch: what it computes from what, and what it costs."""

    node: Node
    kernel: Kernel
    dims: tuple[Dim, ...]
    reads: tuple[Value, ...]
    writes: tuple[Value, ...]
    lowered: Lowered | None
    sites: tuple[Site, ...]
    flops: Dim
    bytes: Dim
    label: str
    locs: tuple[Loc, ...]
    order: int = 0
    scratch: tuple[Scratch, ...] = ()
    tells: bool = False  # whether it computes a size, which is checked after it

    @property
    def fails(self) -> bool:
        return bool(self.sites) or self.tells


@dataclass(eq=False)
class Held:
    """A node that holds functions, and a block for each. No value is part of two blocks."""

    node: Node
    op: Control
    blocks: tuple[Block, ...]
    reads: tuple[Value, ...]
    order: int = 0

    @property
    def writes(self) -> tuple[Value, ...]:
        return self.node.outputs

    @property
    def fails(self) -> bool:
        return any(job.fails for b in self.blocks for job in b.jobs) or any(
            b.told for b in self.blocks)  # fmt: skip


Job: TypeAlias = Work | Held


@dataclass(eq=False)
class Block:
    """A function to plan, and what there is to do in it, after what it depends on; the sizes that
    become known in it."""

    function: Function
    jobs: list[Job]
    told: tuple[Told, ...] = ()

    def works(self) -> Iterator[Work]:
        """All kernels to launch, those of held functions too."""
        for job in self.jobs:
            if isinstance(job, Work):
                yield job
            else:
                for b in job.blocks:
                    yield from b.works()

    def all_told(self) -> Iterator[Told]:
        """The sizes that become known in the function and in all that it holds."""
        yield from self.told
        for job in self.jobs:
            if isinstance(job, Held):
                for b in job.blocks:
                    yield from b.all_told()

    def functions(self) -> Iterator[Function]:
        """The function and all that it holds."""
        yield self.function
        for job in self.jobs:
            if isinstance(job, Held):
                for b in job.blocks:
                    yield from b.functions()


def parts(works: list[Work], target: Target) -> Dim:
    """How many threads have enough to do: by arithmetic or by memory traffic."""
    best: Dim = 1
    for w in works:
        by_flops = w.flops // target.min_parallel_flops
        by_bytes = w.bytes // target.min_parallel_bytes
        best = maximum(best, minimum(maximum(by_flops, by_bytes), MAX_PARTS))
    return best


def overwrites(w: Job, read: int, written: int) -> bool:
    """Whether a kernel may write output `written` over input `read`: it reads each element only
    to make the element in the same place."""
    low = w.lowered if isinstance(w, Work) else None
    if low is None or len(low.stages) != 1:
        return False
    stage = low.stages[0]
    source, target = f"x{read}", f"y{written}"
    shapes = {b.name: b.type.physical_shape for b in low.buffers}
    types = {b.name: b.type for b in low.buffers}
    if shapes[source] != shapes[target] or types[source].dtype.bits != types[target].dtype.bits:
        return False
    if stage.row is not None:
        return may_overwrite(stage, source, target)
    place = next(o.indices for o in stage.outputs if o.buffer == target)
    whole = [stage.term, None if stage.fold is None else stage.fold.value]
    if any(e is not None and _reads(e, source) for e in whole):
        return False
    for o in stage.outputs:
        for x in _reads(o.value, source):
            if x.indices != place or any(isinstance(i, Expr) for i in x.indices):
                return False
    return True


def _reads(e: Expr, buffer: str) -> list[Load]:
    return [x for x in walk(e) if isinstance(x, Load) and x.buffer == buffer]
