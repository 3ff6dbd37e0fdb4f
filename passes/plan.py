"""Planning: the order of kernels, where every value lies, and where threads must meet.

In: launches with the values they read and write. Out: a `Program`. The order keeps reads of a
variable before its update and everything that can fail before every update. Values share one arena
by lifetime; a pointwise kernel may write over an operand that nobody reads afterwards.

Sizes that depend on symbols are planned exactly within classes: all sizes that are the same
polynomial up to a constant factor share one sub-arena, measured in that polynomial.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from math import gcd
from typing import Any

from ..algorithm import Expr, Load, walk
from ..codegen.kernel.ir import Kernel
from ..codegen.kernel.program import Array, Launch, Phase, Program, Report, Site, Slot
from ..dims import Dim, DimExpr, free_symbols, maximum, minimum, product, round_up
from ..errors import InternalError, Loc
from ..graph.ir import Function, Node, Value
from ..graph.ops.effects import Print
from ..graph.ops.fused import Fused, Relayout
from ..graph.ops.source import Constant, Input, Variable
from ..target import Target
from .row_plan import may_overwrite
from .stages import Lowered

ALIGN = 64
FOREVER = (0, 1 << 30)  # a lifetime that meets every other
MAX_PARTS = 256


@dataclass
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
    after: set[int] = field(default_factory=set)

    @property
    def fails(self) -> bool:
        return bool(self.sites)

    @property
    def scratch(self) -> tuple[Dim, ...]:
        """Bytes of what the kernel needs for itself: its buffers after those it reads and writes."""
        own = self.kernel.params[len(self.reads) + len(self.writes) :]
        return tuple(_rounded(product(b.shape) * b.dtype.itemsize) for b in own)


@dataclass
class Plan:
    """Everything `plan` needs: the function after fusion and its kernels."""

    function: Function
    works: list[Work]
    prepared: frozenset[Node]  # nodes computed once per change of variables
    target: Target
    reuse: bool = True  # False: nothing shares memory (the oracle's plan)


def plan(p: Plan) -> Program:
    """The program."""
    return _Planner(p).run()


class _Planner:
    def __init__(self, p: Plan) -> None:
        self.p = p
        self.slots: dict[Value, Slot] = {}
        self.scratch: dict[tuple[int, int], Slot] = {}  # by the work's id and the buffer's number
        self.variables: list[Value] = []
        self.constants: list[str] = []
        self.late: list[tuple[Value, Value]] = []  # updates that are copied at the end

    def run(self) -> Program:
        fn = self.p.function
        self.number_sources()
        prepare = [w for w in self.p.works if w.node in self.p.prepared]
        updated = {new: var for var, new in fn.updates}
        works = ordered([w for w in self.p.works if w.node not in self.p.prepared], updated)
        prepared_bytes = self.place_prepared(prepare)
        self.bind_outputs(works)
        groups = phased(works, self.p.target, self.commits)
        arena, peak = self.place_arena(works, groups)
        copies = [(self.slots[var], self.slots[made], var.type.nbytes) for var, made in self.late]
        for k, (_, v) in enumerate(fn.outputs):
            at = len(fn.inputs) + k
            if self.slots[v] != Slot("argument", at):
                copies.insert(0, (Slot("argument", at), self.slots[v], v.type.nbytes))
        sites: list[Site] = []
        prepare_phases = tuple(self.phase([w], sites) for w in prepare)
        phases = tuple(self.phase(group, sites) for group in groups)
        kernels = {w.kernel.name: w.kernel for w in self.p.works}
        symbols = {s for v in fn.inputs for d in v.shape for s in free_symbols(d)}
        dims = tuple(DimExpr((((s,), 1),)) for s in sorted(symbols, key=lambda s: s.name))
        used = sorted({self.variables.index(v) for w in prepare for v in w.reads
                       if isinstance(v.node.op, Variable)})  # fmt: skip
        return Program(
            name=fn.name, dims=dims,
            inputs=tuple(Array(_name(v), v.dtype, v.shape) for v in fn.inputs),
            outputs=tuple(Array(name, v.dtype, v.shape) for name, v in fn.outputs),
            variables=tuple(Array(_name(v), v.dtype, v.shape) for v in self.variables),
            written=tuple(sorted(self.variables.index(v) for v, _ in fn.updates)),
            constants=tuple(self.constants), kernels=tuple(kernels.values()),
            prepare=prepare_phases, phases=phases, prepared_bytes=prepared_bytes,
            prepared_from=tuple(used), arena_bytes=arena, sites=tuple(sites),
            copies=tuple(copies), peak_bytes=peak, reports=self.reports(groups),
        )  # fmt: skip

    def reports(self, groups: list[list[Work]]) -> tuple[Report, ...]:
        """What the run prints, in the order in which it is computed."""
        made = {v: k for k, group in enumerate(groups) for w in group for v in w.writes}
        out = []
        for v, op, loc in printed(self.p.function):
            value = Array(op.message, v.dtype, v.shape)
            out.append(Report(made.get(v, -1), self.slots[v], value, loc))
        return tuple(sorted(out, key=lambda r: r.after))

    # --- memory with a fixed place ----------------------------------------------------------

    def number_sources(self) -> None:
        fn = self.p.function
        for k, v in enumerate(fn.inputs):
            self.slots[v] = Slot("argument", k)
        for n in fn.nodes():
            v = n.outputs[0]
            if isinstance(n.op, Variable):
                self.slots[v] = Slot("variable", len(self.variables))
                self.variables.append(v)
            elif isinstance(n.op, Constant):
                digest = n.op.data.digest
                if digest not in self.constants:
                    self.constants.append(digest)
                self.slots[v] = Slot("constant", self.constants.index(digest))
            elif isinstance(n.op, Input) and v not in self.slots:
                raise InternalError(f"{v!r} is used but is not an input of {fn.name}")

    def place_prepared(self, works: list[Work]) -> int:
        offset = 0
        for w in works:
            for v in w.writes:
                size = v.type.nbytes
                if not isinstance(size, int):
                    raise InternalError(f"prepared value {v!r} has no constant size")
                self.slots[v] = Slot("prepared", offset)
                offset += -(-size // ALIGN) * ALIGN
            for k, size in enumerate(w.scratch):
                assert isinstance(size, int), "sizes of prepared values are numbers"
                self.scratch[id(w), k] = Slot("prepared", offset)
                offset += size
        return offset

    def bind_outputs(self, works: list[Work]) -> None:
        """Results go straight to the caller's memory; new values of variables straight to the
        variable where no launch that follows, nor this one elsewhere, reads the old value."""
        fn = self.p.function
        for k, (_, v) in enumerate(fn.outputs):
            if v not in self.slots:
                self.slots[v] = Slot("argument", len(fn.inputs) + k)
        makers = {v: k for k, w in enumerate(works) for v in w.writes}
        read_last = {v: k for k, w in enumerate(works) for v in w.reads}
        last_failing = max((k for k, w in enumerate(works) if w.fails), default=-1)
        given = {v for _, v in fn.outputs}
        for var, new in fn.updates:
            maker = makers.get(new, -1)
            free = (
                new not in self.slots
                and last_failing < maker
                and read_last.get(var, -1) <= maker
                and var not in given  # the caller is to get the value from before the update
                and self.may_overwrite(works[maker], var, new)
            )
            if free:
                self.slots[new] = self.slots[var]
            else:
                self.late.append((var, new))

    def may_overwrite(self, w: Work, var: Value, new: Value) -> bool:
        """Whether `w` may store `new` where `var` is."""
        return new.type == var.type and (
            var not in w.reads or overwrites(w, w.reads.index(var), w.writes.index(new))
        )

    # --- the arena --------------------------------------------------------------------------

    def place_arena(self, works: list[Work], steps: list[list[Work]]) -> tuple[Dim, Dim]:
        """Offsets for everything else, and the least any plan could need."""
        step_of = {id(w): k for k, group in enumerate(steps) for w in group}
        born: dict[Value, int] = {}
        dies: dict[Value, int] = {}
        end = len(steps)
        keep = {made for _, made in self.late} | {v for _, v in self.p.function.outputs}
        for w in works:
            for v in w.writes:
                if v not in self.slots:
                    born[v] = dies[v] = step_of[id(w)]
            for v in w.reads:
                if v in born:
                    dies[v] = max(dies[v], step_of[id(w)])
        shown = {v for v, _, _ in printed(self.p.function)}
        for v in born:
            if v in keep:
                dies[v] = end
            elif v in shown:  # read when its step is over
                dies[v] = max(dies[v], born[v] + 1)
        areas = self.shared_areas(works, born, dies, step_of)
        for w in works:
            for k, size in enumerate(w.scratch):
                step = step_of[id(w)]
                life = (step, step) if self.p.reuse else FOREVER
                areas.append(_Area([], size, *life, scratch=(id(w), k)))
        classes: dict[Dim, list[_Area]] = {}
        for a in areas:
            unit, a.units = _unit(a.size)
            classes.setdefault(unit, []).append(a)
        base: Dim = 0
        peak: Dim = 0
        for unit in sorted(classes, key=repr):
            members = classes[unit]
            height = _pack(members)
            for a in members:
                slot = Slot("arena", base + unit * a.offset)
                self.slots.update(dict.fromkeys(a.values, slot))
                if a.scratch is not None:
                    self.scratch[a.scratch] = slot
            base = base + unit * height
            peak = peak + unit * _live_peak(members)
        return base, peak

    def shared_areas(self, works: list[Work], born: dict[Value, int], dies: dict[Value, int],
                     step_of: dict[int, int]) -> list[_Area]:  # fmt: skip
        """One area per value, or per chain of values written over one another: a kernel that is
        the last to read the newest value of an area may put one of its results there."""
        area: dict[Value, _Area] = {}
        read_last = {x: k for k, w in enumerate(works) for x in w.reads}
        for at, w in enumerate(works):
            for k, v in enumerate(w.writes):
                if v not in born:
                    continue
                step = step_of[id(w)]
                if self.p.reuse:
                    for j, x in enumerate(w.reads):
                        a = area.get(x)
                        # within a step works follow one another: who reads x last is what counts
                        free = a is not None and dies[x] == step and read_last[x] == at
                        if free and a is not None and x.type.nbytes == v.type.nbytes:
                            alone = a.values[-1] is x and w.reads.count(x) == 1
                            if alone and overwrites(w, j, k):
                                a.values.append(v)
                                a.last = max(step, dies[v])
                                area[v] = a
                                break
                if v not in area:
                    life = (born[v], dies[v]) if self.p.reuse else FOREVER
                    area[v] = _Area([v], _rounded(v.type.nbytes), *life)
        return list({id(a): a for a in area.values()}.values())

    # --- phases -----------------------------------------------------------------------------

    def commits(self, w: Work) -> bool:
        """Whether a launch stores into a variable."""
        places = (self.slots.get(v) for v in w.writes)
        return any(p is not None and p.kind == "variable" for p in places)

    def phase(self, works: list[Work], sites: list[Site]) -> Phase:
        launches = []
        for w in works:
            at = len(sites)
            sites.extend(w.sites)
            slots = [self.slots[v] for v in (*w.reads, *w.writes)]
            slots += [self.scratch[id(w), k] for k in range(len(w.scratch))]
            launches.append(Launch(w.kernel.name, tuple(slots), w.dims, at, w.label, w.locs,
                                   w.flops, w.bytes))  # fmt: skip
        return Phase(tuple(launches), parts(works, self.p.target))


@dataclass
class _Area:
    """Memory for values whose lifetimes follow one another, or for a kernel's scratch."""

    values: list[Value]
    size: Dim
    first: int
    last: int
    units: int = 0
    offset: int = 0
    scratch: tuple[int, int] | None = None


def _rounded(size: Dim) -> Dim:
    """A size in whole cache lines; `_unit` does that for others than numbers."""
    return round_up(size, ALIGN) if isinstance(size, int) else size


def _unit(size: Dim) -> tuple[Dim, int]:
    """`(polynomial, factor)` with size <= polynomial * factor, the factor a multiple of ALIGN."""
    if isinstance(size, int):
        return 1, -(-size // ALIGN) * ALIGN
    common = 0
    for _, c in size.terms:
        common = gcd(common, c)
    whole = size // common
    return whole, -(-common // ALIGN) * ALIGN


def _pack(areas: list[_Area]) -> int:
    """Offsets by decreasing size, each in the lowest gap among those alive at the same time."""
    placed: list[_Area] = []
    height = 0
    for a in sorted(areas, key=lambda a: (-a.units, a.first)):
        busy = sorted((b.offset, b.offset + b.units) for b in placed
                      if b.first <= a.last and a.first <= b.last)  # fmt: skip
        at = 0
        for lo, hi in busy:
            if lo - at >= a.units:
                break
            at = max(at, hi)
        a.offset = at
        placed.append(a)
        height = max(height, at + a.units)
    return height


def _live_peak(areas: list[_Area]) -> int:
    events: dict[int, int] = {}
    for a in areas:
        events[a.first] = events.get(a.first, 0) + a.units
        events[a.last + 1] = events.get(a.last + 1, 0) - a.units
    live = best = 0
    for step in sorted(events):
        live += events[step]
        best = max(best, live)
    return best


def overwrites(w: Work, read: int, written: int) -> bool:
    """Whether a kernel may write output `written` over input `read`: it reads each element only
    to make the element in the same place."""
    low = w.lowered
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
    if stage.term is not None and _reads(stage.term, source):
        return False
    for o in stage.outputs:
        for x in _reads(o.value, source):
            if x.indices != place or any(isinstance(i, Expr) for i in x.indices):
                return False
    return True


def printed(function: Function) -> list[tuple[Value, Print, Loc]]:
    """The effects that are prints: the value, what prints it, where that was written."""
    out = []
    for effect in function.effects:
        v = effect
        while isinstance(v.node.op, Fused):  # passes put values into groups and in other orders
            outer, body = v.node, v.node.op.function
            v = body.outputs[v.index][1]
            while isinstance(v.node.op, Relayout):
                v = v.node.inputs[0]
            if isinstance(v.node.op, Input):
                v = outer.inputs[body.inputs.index(v)]
        if isinstance(v.node.op, Print):
            out.append((effect, v.node.op, v.node.loc))
    return out


def _reads(e: Expr, buffer: str) -> list[Load]:
    return [x for x in walk(e) if isinstance(x, Load) and x.buffer == buffer]


def ordered(works: list[Work], updated: dict[Value, Value]) -> list[Work]:
    """A topological order: as written, but updates of variables as soon as nothing needs the old
    value any more and nothing that can fail is left."""
    made = {v: k for k, w in enumerate(works) for v in w.writes}
    before: list[set[int]] = [set() for _ in works]
    readers: dict[Value, list[int]] = {}
    for k, w in enumerate(works):
        for v in w.reads:
            if v in made:
                before[k].add(made[v])
            readers.setdefault(v, []).append(k)
    commits = {made[v]: var for v, var in updated.items() if v in made}
    needed: list[set[int]] = [set(b) for b in before]
    fails = [k for k, w in enumerate(works) if w.fails]
    ancestors = _ancestors(before)
    for k, var in commits.items():
        for other in [*readers.get(var, []), *fails]:
            if other != k and not (ancestors[other] >> k) & 1:
                needed[k].add(other)
    found = _sorted(works, needed, commits)
    return found if found is not None else _sorted(works, before, commits) or works


def _ancestors(before: list[set[int]]) -> list[int]:
    out = [0] * len(before)
    for k, earlier in enumerate(before):  # works come in a topological order
        bits = 0
        for j in earlier:
            bits |= out[j] | (1 << j)
        out[k] = bits
    return out


def _sorted(works: list[Work], before: list[set[int]], first: dict[int, Any]) -> list[Work] | None:
    waiting = [len(b) for b in before]
    after: list[list[int]] = [[] for _ in works]
    for k, b in enumerate(before):
        for j in b:
            after[j].append(k)
    heap = [(k not in first, works[k].order, k) for k in range(len(works)) if not waiting[k]]
    heapq.heapify(heap)
    out: list[Work] = []
    while heap:
        k = heapq.heappop(heap)[2]
        out.append(works[k])
        for j in after[k]:
            waiting[j] -= 1
            if not waiting[j]:
                heapq.heappush(heap, (j not in first, works[j].order, j))
    return out if len(out) == len(works) else None


def phased(works: list[Work], target: Target, commits: Callable[[Work], bool]) -> list[list[Work]]:
    """Launches between two barriers: kernels too small for two threads follow one another without
    any; every other kernel stands alone. Failures show at barriers, so a kernel that stores into a
    variable does not follow one that can fail without."""
    out: list[list[Work]] = []
    for w in works:
        single = parts([w], target) == 1
        safe = not (out and commits(w) and any(before.fails for before in out[-1]))
        if out and safe and single and parts(out[-1], target) == 1:
            out[-1].append(w)
        else:
            out.append([w])
    return out


def parts(works: list[Work], target: Target) -> Dim:
    """How many threads have enough to do: by arithmetic or by memory traffic."""
    best: Dim = 1
    for w in works:
        by_flops = w.flops // target.min_parallel_flops
        by_bytes = w.bytes // target.min_parallel_bytes
        best = maximum(best, minimum(maximum(by_flops, by_bytes), MAX_PARTS))
    return best


def _name(v: Value) -> str:
    op = v.node.op
    return str(getattr(op, "input_name", None) or getattr(op, "variable_name", ""))
