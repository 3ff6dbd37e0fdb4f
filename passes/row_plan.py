"""Rows in sections: which pass over the columns computes what, what is kept, what is done again.

In: a row stage. Out: sections that follow one another. A wide section runs over the columns once,
a narrow one once per row. A value that several passes need is computed anew in each where that is
cheap; else it is kept from the first pass on: in a result's row that is complete only later, or in
scratch memory of the thread.

    reduce_max, exp, sum, div:   wide { p0 = max of x }  wide { y = p1 = exp(x - p0); p2 = sum of p1 }
                                 wide { y = y / p2 }
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from ..algorithm import Apply, Axis, Cast, Expr, IndexLike, Load, Var, rebuild, walk
from ..codegen.kernel.ir import Buffer
from ..dims import free_symbols, product
from ..errors import InternalError
from .cost import heavy
from .loops import LoopAxis
from .stages import Part, Stage, StageCheck
from .tiles import SCRATCH_BYTES

Column: TypeAlias = Axis | LoopAxis

NEIGHBOURS = 32  # rows done side by side where neighbouring rows lie so in memory
CHEAP = 4  # operations that are done again rather than stored and loaded
_SLOW = frozenset({"div", "sqrt", "rsqrt", "mod", "floordiv"})


@dataclass(frozen=True)
class Write:
    """`buffer[indices] = value`."""

    buffer: str
    indices: tuple[IndexLike, ...]
    value: Expr


@dataclass(frozen=True)
class Section:
    """Statements for every column (`wide`) or once per row: first named values, then checks (by
    ordinal), then one more term for each reduction, then writes."""

    wide: bool
    lets: tuple[tuple[str, Expr], ...]
    checks: tuple[tuple[int, StageCheck], ...]
    reductions: tuple[Part, ...]
    writes: tuple[Write, ...]


@dataclass(frozen=True)
class RowPlan:
    """Sections in order, and the scratch rows they use: for each column one element, or as many as
    there are rows side by side."""

    sections: tuple[Section, ...]
    scratch: tuple[Buffer, ...]


def plan_row(stage: Stage, columns: Sequence[Column]) -> RowPlan:
    """The sections of a row over `columns`."""
    return _Planner(stage, columns).run()


@dataclass
class _Named:
    """A wide value with a name: the passes that need it, and where it is kept between them."""

    part: Part
    value: Expr
    needed: set[int] = field(default_factory=set)
    kept: Write | None = None

    @property
    def first(self) -> int:
        return min(self.needed)


class _Planner:
    def __init__(self, stage: Stage, columns: Sequence[Column]) -> None:
        self.stage = stage
        self.axes = columns
        row = stage.row
        if row is None:
            raise InternalError("only rows are planned in sections")
        self.order, self.along = row.parts, row.along
        self.parts = {p.name: p for p in row.parts}
        self.columns = {a.sym for a in columns}
        self.outputs = {o.value.name: o for o in stage.outputs if isinstance(o.value, Var)}
        self.level: dict[str, int] = {}  # passes that come before
        self.values: dict[str, Expr] = {}  # of wide parts that are written out where they are used
        self.named: dict[str, _Named] = {}
        self.lent: set[str] = set()
        self.scratch: list[Buffer] = []

    def run(self) -> RowPlan:
        uses = self._uses()
        for p in self.order:
            self._rank(p)
            if p.wide:
                value = self._written_out(p.value)
                if uses[p.name] == 1 or self._cheap(value):
                    self.values[p.name] = value
                else:
                    self.named[p.name] = _Named(p, value)
        for p in self.order:
            self._demand(p)
        for n in reversed([n for n in self.named.values() if n.needed]):
            self._keep(n)
            for x in _names(n.value) & self.named.keys():
                self.named[x].needed |= {n.first} if n.kept else n.needed
        return RowPlan(tuple(self._sections()), tuple(self.scratch))

    def _uses(self) -> dict[str, int]:
        """How many parts, checks and outputs read each part."""
        out = dict.fromkeys(self.parts, 0)
        for e in (*(p.value for p in self.order), *(c.cond for c in self.stage.checks),
                  *(o.value for o in self.stage.outputs)):  # fmt: skip
            for x in _names(e):
                out[x] += 1
        return out

    def _rank(self, p: Part) -> None:
        before = max((self.level[x] for x in _names(p.value)), default=0)
        self.level[p.name] = before + 1 if p.combine else before

    def _pass_of(self, e: Expr) -> int:
        return max((self.level[x] for x in _names(e)), default=0)

    def _written_out(self, e: Expr) -> Expr:
        return rebuild(e, lambda x: self.values.get(x.name) if isinstance(x, Var) else None,
                       lambda d: d)  # fmt: skip

    def _cheap(self, e: Expr) -> bool:
        inside = list(walk(e))
        loads = sum(self._varies(x) for x in inside if isinstance(x, Load))
        loads += sum(x.name in self.named for x in inside if isinstance(x, Var))
        work = [x for x in inside if isinstance(x, Apply | Cast)]
        slow = any(isinstance(x, Apply) and x.fn in _SLOW for x in work)
        return loads <= 1 and len(work) <= CHEAP and not slow and not heavy(e)

    def _varies(self, x: Load) -> bool:
        """Whether a load differs among the columns."""
        return any(isinstance(i, Expr) or free_symbols(i) & self.columns for i in x.indices)

    def _demand(self, p: Part) -> None:
        """Notes in which pass what `p` is made of is needed."""
        reads: list[tuple[Expr, int]] = []
        if p.combine:
            reads.append((p.value, self.level[p.name] - 1))
        elif p.wide and p.name in self.outputs:
            reads.append((Var(p.name, p.dtype), self.level[p.name]))
        if p.wide:
            conditions = (self.stage.checks[k].cond for k in p.checks)
            reads += [(c, max(self._pass_of(c), self.level[p.name])) for c in conditions]
        for e, at in reads:
            for x in _names(self._written_out(e)) & self.named.keys():
                self.named[x].needed.add(at)

    # --- what is kept -----------------------------------------------------------------------

    def _keep(self, n: _Named) -> None:
        """A place from the first pass that needs the value to the last."""
        own = self.outputs.get(n.part.name)
        if own is not None:
            self.lent.add(own.buffer)
            n.kept = Write(own.buffer, own.indices, Var(n.part.name, n.part.dtype))
        elif len(n.needed) > 1:
            n.kept = self._borrowed(n) or self._scratch(n)

    def _borrowed(self, n: _Named) -> Write | None:
        """A row of a result that is written for good no earlier than this value is last read."""
        for o in self.stage.outputs:
            made = self.parts[o.value.name] if isinstance(o.value, Var) else None
            if made is None or not made.wide or made.dtype != n.part.dtype:
                continue
            if o.buffer not in self.lent and self._written_at(made) >= max(n.needed):
                self.lent.add(o.buffer)
                return Write(o.buffer, o.indices, Var(n.part.name, n.part.dtype))
        return None

    def _written_at(self, p: Part) -> int:
        return self.named[p.name].first if p.name in self.named else self.level[p.name]

    def _scratch(self, n: _Named) -> Write | None:
        shape = tuple(a.extent for a in self.axes)
        size = product(shape) * (1 if self.along else NEIGHBOURS)
        taken = sum(b.dtype.itemsize for b in self.scratch) + n.part.dtype.itemsize
        if not isinstance(size, int) or size * taken > SCRATCH_BYTES:
            return None
        name = f"{n.part.name}_row"
        self.scratch.append(Buffer(name, n.part.dtype, shape, "stack"))
        return Write(name, tuple(a.index for a in self.axes),
                     Var(n.part.name, n.part.dtype))  # fmt: skip

    # --- sections ---------------------------------------------------------------------------

    def _sections(self) -> list[Section]:
        last = max(self.level.values(), default=0)
        made = []
        for at in range(last + 1):
            made += [self._narrow(at), self._wide(at)]
        return [s for s in made if s.checks or s.lets or s.reductions or s.writes]

    def _narrow(self, at: int) -> Section:
        parts = [p for p in self.order if not p.wide and self.level[p.name] == at]
        plain = [p for p in parts if not p.combine]
        checks = [(k, self.stage.checks[k]) for p in plain for k in p.checks]
        writes = [Write(o.buffer, o.indices, o.value) for p in parts
                  if (o := self.outputs.get(p.name)) is not None]  # fmt: skip
        return Section(False, tuple((p.name, p.value) for p in plain), tuple(checks), (),
                       tuple(writes))  # fmt: skip

    def _wide(self, at: int) -> Section:
        lets: list[tuple[str, Expr]] = []
        writes: list[Write] = []
        for n in self.named.values():
            if at not in n.needed:
                continue
            again = n.kept is not None and at > n.first
            if again and n.kept is not None:
                lets.append((n.part.name, Load(n.kept.buffer, n.kept.indices, n.part.dtype)))
            else:
                lets.append((n.part.name, n.value))
                if n.kept is not None:
                    writes.append(n.kept)
        for o in self.stage.outputs:
            name = o.value.name if isinstance(o.value, Var) else ""
            if name in self.values and self.level[name] == at:
                writes.append(Write(o.buffer, o.indices, self.values[name]))
        checks = []
        for p in self.order:
            for k in p.checks if p.wide else ():
                c = self.stage.checks[k]
                if max(self._pass_of(c.cond), self.level[p.name]) == at:
                    checks.append((k, replace(c, cond=self._written_out(c.cond))))
        terms = tuple(replace(p, value=self._written_out(p.value)) for p in self.order
                      if p.combine and self.level[p.name] == at + 1)  # fmt: skip
        return Section(True, tuple(lets), tuple(checks), terms, tuple(writes))


def _names(e: Expr) -> set[str]:
    return {x.name for x in walk(e) if isinstance(x, Var)}


def may_overwrite(stage: Stage, source: str, target: str) -> bool:
    """Whether the row kernel may write `target` over `source`: no element is read again once it
    may have been written."""
    written = False
    place = next(o.indices for o in stage.outputs if o.buffer == target)
    for s in plan_row(stage, stage.reduce_axes).sections:
        values = [*(c.cond for _, c in s.checks), *(e for _, e in s.lets),
                  *(p.value for p in s.reductions), *(w.value for w in s.writes)]  # fmt: skip
        for x in (x for e in values for x in walk(e)):
            if isinstance(x, Load) and x.buffer == source and (written or x.indices != place):
                return False
        written = written or any(w.buffer == target for w in s.writes)
    return True
