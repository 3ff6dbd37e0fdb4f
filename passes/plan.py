"""Planning: the order of kernels, where every value lies, and where threads must meet.

In: a block of jobs with the values they read and write. Out: a `Program`. The order keeps reads of
a variable before its update and everything that can fail before every update (`order`). Loops and
branches hold blocks of their own, whose values lie in memory of the whole (`place`). All that has
no place of its own shares one arena by lifetime (`course`, `arena`); a pointwise kernel may write
over an operand that nobody reads afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ..algorithm import Requirement
from ..codegen.kernel import program as p
from ..codegen.kernel.program import Array, Copy, Launch, Phase, Program, Report, Site, Slot
from ..dims import Dim, DimExpr, as_sym, free_symbols
from ..dims_limits import most_of
from ..errors import InternalError, Loc
from ..graph.ir import Function, Node, Value
from ..graph.ops.effects import Print
from ..graph.ops.fused import Fused, Relayout
from ..graph.ops.source import Constant, Input, Variable
from ..target import Target
from .arena import ALIGN, Area, aligned, packed
from .course import Course, Lives, Nest, Piece, course
from .order import ordered
from .place import Cell, Home, Places, Transfer
from .work import Block, Held, Job, Scratch, Told, Work, overwrites, parts


@dataclass
class Plan:
    """Everything `plan` needs: the function after fusion and its kernels."""

    block: Block
    prepared: frozenset[Node]  # nodes computed once per change of variables
    target: Target
    reuse: bool = True  # False: nothing shares memory (the oracle's plan)
    requires: tuple[Requirement, ...] = ()  # of the function's dimensions
    told: int = 0  # how many of its last outputs are sizes of the others


def plan(given: Plan) -> Program:
    """The program."""
    return _Planner(given).run()


class _Planner:
    def __init__(self, given: Plan) -> None:
        self.given = given
        self.function = given.block.function
        self.slots: dict[Home | Scratch, Slot] = {}
        self.variables: list[Value] = []
        self.constants: list[str] = []
        self.sites: list[Site] = []
        self.late: list[tuple[Value, Value]] = []  # updates that are copied at the end
        symbols = {s for v in self.function.inputs for d in v.shape for s in free_symbols(d)}
        self.dims = {s.name: DimExpr((((s,), 1),)) for s in sorted(symbols, key=lambda s: s.name)}
        self.limits = {as_sym(t.symbol).name: t.most for t in given.block.all_told()}
        self.measured: dict[str, DimExpr] = {}  # symbols that the run computes, so far
        self.later = [r for r in given.requires if not self.is_known(r.dim)]

    def run(self) -> Program:
        fn, target = self.function, self.given.target
        self.number_sources()
        prepare = [w for w in self.given.block.jobs
                   if isinstance(w, Work) and w.node in self.given.prepared]  # fmt: skip
        done = set(prepare)
        jobs = [job for job in self.given.block.jobs if job not in done]
        block = in_order(
            Block(fn, jobs, self.given.block.told), {new: var for var, new in fn.updates}
        )
        prepared_bytes = self.place_prepared(prepare)
        self.places = Places(block)
        self.bind_outputs(block.jobs)
        whole = course(block, target, self.commits)
        arena, peak = self.place_arena(whole)
        prepare_phases = tuple(self.phase([w]) for w in prepare)
        body = (*self.steps(whole), *self.commit())
        requires = tuple(
            r for r in self.given.requires if all(s.name in self.dims for s in free_symbols(r.dim))
        )
        kernels = {w.kernel.name: w.kernel for w in self.given.block.works()}
        used = sorted({self.variables.index(v) for w in prepare for v in w.reads
                       if isinstance(v.node.op, Variable)})  # fmt: skip
        return Program(
            name=fn.name, dims=tuple(self.dims.values()),
            inputs=tuple(Array(_name(v), v.dtype, v.shape) for v in fn.inputs),
            outputs=tuple(Array(name, v.dtype, v.shape) for name, v in fn.outputs),
            variables=tuple(Array(_name(v), v.dtype, v.shape) for v in self.variables),
            written=tuple(sorted(self.variables.index(v) for v, _ in fn.updates)),
            constants=tuple(self.constants), kernels=tuple(kernels.values()),
            prepare=prepare_phases, body=body, prepared_bytes=prepared_bytes,
            prepared_from=tuple(used), arena_bytes=arena, sites=tuple(self.sites),
            peak_bytes=peak, requires=requires, told=self.given.told,
            computed=(*self.places.counters(), *self.measured.values()),
        )  # fmt: skip

    # --- memory with a fixed place ----------------------------------------------------------

    def slot(self, home: Home, offset: Dim = 0) -> Slot:
        """Where a value, or a place in memory, lies."""
        home, offset = self.places.of(home, offset)
        return self.slots[home].moved(offset)

    def number_sources(self) -> None:
        fn = self.function
        for k, v in enumerate(fn.inputs):
            self.slots[v] = Slot("argument", k)
        for f in self.given.block.functions():
            given = set(f.inputs)
            for n in f.nodes():
                v = n.outputs[0]
                if isinstance(n.op, Variable) and f is fn:
                    self.slots[v] = Slot("variable", len(self.variables))
                    self.variables.append(v)
                elif isinstance(n.op, Constant):
                    digest = n.op.data.digest
                    if digest not in self.constants:
                        self.constants.append(digest)
                    self.slots[v] = Slot("constant", self.constants.index(digest))
                elif isinstance(n.op, Input | Variable) and v not in given:
                    raise InternalError(f"{v!r} is used but is not an input of {f.name}")

    def place_prepared(self, works: list[Work]) -> int:
        offset = 0
        for w in works:
            for v in w.writes:
                size = v.type.nbytes
                if not isinstance(size, int):
                    raise InternalError(f"prepared value {v!r} has no constant size")
                self.slots[v] = Slot("prepared", offset)
                offset += -(-size // ALIGN) * ALIGN
            for own in w.scratch:
                if not isinstance(own.size, int):
                    raise InternalError(f"scratch of prepared {w.label} has no constant size")
                self.slots[own] = Slot("prepared", offset)
                offset += -(-own.size // ALIGN) * ALIGN
        return offset

    def bind_outputs(self, jobs: list[Job]) -> None:
        """Results go straight to the caller's memory; new values of variables straight to the
        variable where no launch that follows, nor this one elsewhere, reads the old value."""
        fn = self.function
        for k, (_, v) in enumerate(fn.outputs):
            home, offset = self.places.of(v)
            if offset == 0 and home not in self.slots and self.fits(home, v):
                self.slots[home] = Slot("argument", len(fn.inputs) + k)
        makers = {v: k for k, w in enumerate(jobs) for v in w.writes}
        read_last = {v: k for k, w in enumerate(jobs) for v in w.reads}
        last_failing = max((k for k, w in enumerate(jobs) if w.fails), default=-1)
        given = {v for _, v in fn.outputs}
        for var, new in fn.updates:
            maker = makers.get(new, -1)
            free = (
                new not in self.slots
                and new not in self.places.views
                and last_failing < maker
                and read_last.get(var, -1) <= maker
                and var not in given  # the caller is to get the value from before the update
                and self.may_overwrite(jobs[maker], var, new)
            )
            if free:
                self.slots[new] = self.slots[var]
            else:
                self.late.append((var, new))

    def fits(self, home: Home, v: Value) -> bool:
        """Whether memory needs no more room than a value."""
        return isinstance(home, Value) or (home.count == 1 and home.size == v.type.nbytes)

    def may_overwrite(self, w: Job, var: Value, new: Value) -> bool:
        """Whether `w` may store `new` where `var` is."""
        return isinstance(w, Work) and new.type == var.type and (
            var not in w.reads or overwrites(w, w.reads.index(var), w.writes.index(new))
        )  # fmt: skip

    def commit(self) -> list[Copy]:
        """What is copied at the end: results that lie elsewhere, then new values of variables."""
        copies = []
        for k, (_, v) in enumerate(self.function.outputs):
            to = Slot("argument", len(self.function.inputs) + k)
            if self.slot(v) != to:
                copies.append(Copy(to, self.slot(v), v.type.nbytes))
        # a result may be the old value of a variable that an update is about to change
        return copies + [Copy(self.slots[var], self.slot(new), var.type.nbytes)
                         for var, new in self.late]  # fmt: skip

    # --- the arena --------------------------------------------------------------------------

    def place_arena(self, whole: Course) -> tuple[Dim, Dim]:
        """Offsets for everything else, and the least any plan could need."""
        lives = Lives(whole, self.places)
        for v in (*(v for _, v in self.function.outputs), *(new for _, new in self.late)):
            home, _ = self.places.of(v)
            if home in lives.of:
                lives.of[home].touch(whole.last, whole.last)
        for c in whole.courses():
            read = [v for v, _, _ in printed(c.block.function)] + [t.value for t in c.block.told]
            for v in read:
                home, _ = self.places.of(v)
                if home in lives.of:  # read when its step is over
                    life = lives.of[home]
                    life.touch(life.first, life.first + 1)
        areas = self.areas(whole, lives)
        arena, peak = packed(areas)
        for a in areas:
            for home in a.values:
                self.slots[home] = Slot("arena", a.place)
        return arena, peak

    def areas(self, whole: Course, lives: Lives) -> list[Area]:
        """One area per value, or per chain of values written over one another: a kernel that is
        the last to read the newest value of an area may put one of its results there."""
        area: dict[Home, Area] = {}
        for c in whole.courses():
            for v in (v for job in c.block.jobs if isinstance(job, Held) for v in job.writes):
                if v not in self.slots and v not in self.places.views:
                    area[v] = self.area(v, lives)
        works = [(w, piece.at) for piece, _ in whole.pieces() for w in piece.works]
        read_last = {x: k for k, (w, _) in enumerate(works) for x in w.reads}
        for number, (w, at) in enumerate(works):
            for k, v in enumerate(w.writes):
                if v in self.slots or v in self.places.views:
                    continue
                for j, x in enumerate(w.reads if self.given.reuse else ()):
                    a = area.get(x)
                    # within a step works follow one another: who reads x last is what counts
                    if a is None or lives.of[x].last != at or read_last[x] != number:
                        continue
                    if x.type.nbytes == v.type.nbytes and a.values[-1] is x:
                        if w.reads.count(x) == 1 and overwrites(w, j, k):
                            a.values.append(v)
                            a.last = max(at, lives.of[v].last)
                            area[v] = a
                            break
                if v not in area:
                    area[v] = self.area(v, lives)
        for home in lives.of:
            if isinstance(home, Cell) and home not in self.slots:
                area[home] = self.area(home, lives)
        found = list({id(a): a for a in area.values()}.values())
        found += [
            Area([own], aligned(self.largest(own.size)), at, at)
            for w, at in works
            for own in w.scratch
        ]
        if not self.given.reuse:
            for a in found:
                a.first, a.last = 0, whole.last
        return found

    def area(self, home: Home, lives: Lives) -> Area:
        size = home.type.nbytes if isinstance(home, Value) else home.size * home.count
        return Area([home], aligned(self.largest(size)), lives.of[home].first, lives.of[home].last)

    # --- steps ------------------------------------------------------------------------------

    def commits(self, w: Work) -> bool:
        """Whether a launch stores into a variable."""
        places = (self.slots.get(v) for v in w.writes)
        return any(s is not None and s.kind == "variable" for s in places)

    def steps(self, c: Course) -> list[p.Step]:
        """What a block does."""
        told = c.block.told
        shown = [(v, Report(self.slot(v), Array(op.message, v.dtype, v.shape), loc))
                 for v, op, loc in printed(c.block.function)]  # fmt: skip
        made = {v for job in c.block.jobs for v in job.writes}
        ends = self.places.ends[c.block]
        out: list[p.Step] = [*self.copies(ends.first), *(r for v, r in shown if v not in made),
                             *self.measures(t for t in told if t.value not in made)]  # fmt: skip
        for s in c.steps:
            if isinstance(s, Piece):
                out.append(self.phase(s.works))
                made = {v for w in s.works for v in w.writes}
            else:
                out += self.nest(s)
                made = set(s.held.writes)
            out += [r for v, r in shown if v in made]
            out += self.measures(t for t in told if t.value in made)
        return [*out, *self.copies(ends.last)]

    def measures(self, told: Iterable[Told]) -> list[p.Step]:
        """Sizes that are known from here on, and what is required of them."""
        out: list[p.Step] = []
        for t in told:
            name = as_sym(t.symbol).name
            self.measured.setdefault(name, t.symbol)
            self.sites.append(t.site)
            site, required = len(self.sites) - 1, []
            for r in [r for r in self.later if self.is_known(r.dim)]:
                self.later.remove(r)
                self.sites.append(Site("require", r.loc, r.text, (r.dim,)))
                required.append((r.dim, len(self.sites) - 1))
            out.append(p.Measure(t.symbol, self.slot(t.value), t.most, site, tuple(required)))
        return out

    def is_known(self, d: Dim) -> bool:
        """Whether all symbols of a dimension are given or computed by now."""
        return all(s.name in self.dims or s.name in self.measured for s in free_symbols(d))

    def largest(self, size: Dim) -> Dim:
        """A size for any sizes that the run computes."""
        return most_of(size, self.limits)

    def copies(self, transfers: list[Transfer]) -> list[Copy]:
        return [Copy(self.slot(*t.to), self.slot(t.source), t.source.type.nbytes)
                for t in transfers]  # fmt: skip

    def nest(self, n: Nest) -> list[p.Step]:
        """A loop or a branch, after what is copied before it."""
        held = n.held
        loop = self.places.loops.get(held)
        if loop is None:
            then, orelse = (tuple(self.steps(c)) for c in n.courses)
            return [p.Branch(self.slot(held.reads[0]), then, orelse, held.op.name, held.node.loc)]
        body = tuple(self.steps(n.courses[0]))
        condition = None if loop.condition is None else self.slot(loop.condition)
        return [*self.copies(loop.before), p.Repeat(loop.counter, loop.count, condition, body,
                                                    held.op.name, held.node.loc)]  # fmt: skip

    def phase(self, works: list[Work]) -> Phase:
        launches = []
        for w in works:
            at = len(self.sites)
            self.sites.extend(w.sites)
            slots = [self.slot(v) for v in (*w.reads, *w.writes)]
            slots += [self.slots[own] for own in w.scratch]
            launches.append(Launch(w.kernel.name, tuple(slots), w.dims, at, w.label, w.locs,
                                   w.flops, w.bytes))  # fmt: skip
        return Phase(tuple(launches), parts(works, self.given.target))


def in_order(block: Block, updated: dict[Value, Value]) -> Block:
    """The block, and all that it holds, with jobs in the order in which they are to run."""
    jobs: list[Job] = []
    for job in ordered(block.jobs, updated):
        if isinstance(job, Held):
            job = replace(job, blocks=tuple(in_order(b, {}) for b in job.blocks))
        jobs.append(job)
    return Block(block.function, jobs, block.told)


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


def _name(v: Value) -> str:
    op = v.node.op
    return str(getattr(op, "input_name", None) or getattr(op, "variable_name", ""))
