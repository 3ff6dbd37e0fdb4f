"""Programs as text: `show` prints one with its kernels, `parse` reads it back.

    program train(batch in 1..) {
      memory arena 2048*batch peak 1536*batch prepared 0
      computed turn.0 in 0..=8
      input "x": f32[batch,784]
      output "y0": f32[2,nonzero]
      told "size of\\tnonzero": i64[]
      variable "fc/kernel": f32[784,10] written
      constant 1f0c99a2
      require batch - 4 "slice: an index is out of range" @"net.py":11
      prepared from 0
      site index "gather" [batch,16] @"net.py":12 "embed"
      phase parts min(batch//4, 256) {
        matmul_0(argument[0], variable[0], arena[0] ; batch) flops 15680*batch bytes 3136*batch
          as "matmul+relu" @"net.py":9 "fc"
      }
      repeat turn.0 count 8 while arena[64] as "scan" @"net.py":11 {
        phase parts 1 { ... }
      }
      branch arena[0] as "if" @"net.py":13 {
        phase parts 1 { ... }
      } else {
      }
      measure nonzero in arena[0] most 33 site 1 require nonzero - 2 site 2
      copy variable[0] = arena[64] bytes 31360
      report arena[128] "loss": f32[] @"net.py":14
    }
    kernel matmul_0(...) { ... }

A launch names its kernel, where its buffers lie, and behind `;` its dimensions; `site n` numbers
its first error. `argument[0, 64]` is 64 bytes into argument 0. Places are written without the
folder of the file: what `parse(show(p))` gives differs from `p` in these alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TypeVar, get_args

from ...algorithm import Requirement
from ...dims import Dim, DimExpr, as_sym, sym
from ...dims import show as show_dim
from ...errors import UNKNOWN, Loc
from .ir import Kernel
from .program import (
    Array,
    Branch,
    Copy,
    Launch,
    Measure,
    Phase,
    Program,
    Repeat,
    Report,
    Site,
    Slot,
    SlotKind,
    Step,
)
from .read import DTYPES, Reader
from .text import parse as parse_kernel
from .text import show as show_kernel
from .text import show_bounds

_SLOTS: dict[str, SlotKind] = {kind: kind for kind in get_args(SlotKind)}
_KERNEL = re.compile(r"^kernel ", re.MULTILINE)


def show(program: Program) -> str:
    """The text of a program: how it runs, then its kernels."""
    return "\n".join([show_body(program), *(show_kernel(k) for k in program.kernels)])


def show_body(p: Program) -> str:
    """The text of a program without its kernels."""
    out = [f"program {p.name}({_symbols(p.dims)}) {{",
           f"  memory arena {show_dim(p.arena_bytes)} peak {show_dim(p.peak_bytes)} "
           f"prepared {p.prepared_bytes}"]  # fmt: skip
    if p.computed:
        out.append(f"  computed {_symbols(p.computed)}")
    out += [f"  input {_array(a)}" for a in p.inputs]
    out += [f"  output {_array(a)}" for a in p.results]
    out += [f"  told {_array(a)}" for a in p.outputs[len(p.results) :]]
    out += [f"  variable {_array(a)}" + (" written" if k in p.written else "")
            for k, a in enumerate(p.variables)]  # fmt: skip
    out += [f'  constant "{digest}"' for digest in p.constants]
    out += [f"  require {show_dim(r.dim)} {json.dumps(r.text)}{_loc(r.loc)}" for r in p.requires]
    if p.prepared_from:
        out.append(f"  prepared from {', '.join(map(str, p.prepared_from))}")
    out += [f"  site {s.code} {json.dumps(s.text)} [{','.join(map(show_dim, s.shape))}]"
            f"{_loc(s.loc)}" for s in p.sites]  # fmt: skip
    out += [f"  {line}" for phase in p.prepare for line in _phase("prepare", phase)]
    return "\n".join([*out, *_steps(p.body), "}"]) + "\n"


def _symbols(symbols: tuple[DimExpr, ...]) -> str:
    return ", ".join(f"{as_sym(d).name} in {show_bounds(as_sym(d))}" for d in symbols)


def _steps(steps: tuple[Step, ...]) -> list[str]:
    return [f"  {line}" for s in steps for line in _step(s)]


def _step(s: Step) -> list[str]:
    if isinstance(s, Phase):
        return _phase("phase", s)
    if isinstance(s, Copy):
        return [f"copy {s.to} = {s.source} bytes {show_dim(s.bytes)}"]
    if isinstance(s, Measure):
        required = "".join(f" require {show_dim(d)} site {site}" for d, site in s.requires)
        return [f"measure {as_sym(s.symbol).name} in {s.source} most {show_dim(s.most)} site {s.site}"
                f"{required}"]  # fmt: skip
    if isinstance(s, Report):
        return [f"report {s.slot} {_array(s.value)}{_loc(s.loc)}"]
    named = f"as {json.dumps(s.label)}{_loc(s.loc)} {{"
    if isinstance(s, Branch):
        then, orelse = _steps(s.then), _steps(s.orelse)
        return [f"branch {s.condition} {named}", *then, "} else {", *orelse, "}"]
    count = "" if s.count is None else f" count {show_dim(s.count)}"
    condition = "" if s.condition is None else f" while {s.condition}"
    return [f"repeat {as_sym(s.counter).name}{count}{condition} {named}", *_steps(s.body), "}"]


def _phase(word: str, phase: Phase) -> list[str]:
    lines = [f"  {line}" for launch in phase.launches for line in _launch(launch)]
    return [f"{word} parts {show_dim(phase.parts)} {{", *lines, "}"]


def _array(a: Array) -> str:
    return f"{json.dumps(a.name)}: {a.dtype.short}[{','.join(map(show_dim, a.shape))}]"


def _loc(loc: Loc) -> str:
    if loc.file == UNKNOWN.file and not loc.layer:
        return ""
    place = f" @{json.dumps(Path(loc.file).name)}:{loc.line}"
    return place + (f" {json.dumps(loc.layer)}" if loc.layer else "")


def _launch(x: Launch) -> list[str]:
    slots = ", ".join(map(str, x.slots))
    dims = (" ; " if x.slots else "; ") + ", ".join(map(show_dim, x.dims)) if x.dims else ""
    site = f" site {x.site}" if x.site else ""
    return [f"{x.kernel}({slots}{dims}) flops {show_dim(x.flops)} bytes {show_dim(x.bytes)}{site}",
            f"  as {json.dumps(x.label)}" + "".join(map(_loc, x.locs))]  # fmt: skip


def parse(text: str) -> Program:
    """The program that `show` wrote as `text`.

    Raises TextError, naming line and column, for anything else.
    """
    starts = [m.start() for m in _KERNEL.finditer(text)] + [len(text)]
    kernels = []
    for at, end in pairwise(starts):
        above = "\n" * text.count("\n", 0, at)  # errors count lines in the whole text
        kernels.append(parse_kernel(above + text[at:end]))
    return _Reader(text[: starts[0]]).program(tuple(kernels))


_T = TypeVar("_T")


class _Reader(Reader):
    what = "program text"

    def program(self, kernels: tuple[Kernel, ...]) -> Program:
        """The whole text."""
        self.expect("program")
        name = self.name("the program's name")
        self.expect("(")
        dims = self.sequence(")", self.symbol)
        self.expect("{")
        self.expect("memory")
        self.expect("arena")
        arena = self.dim()
        self.expect("peak")
        peak = self.dim()
        self.expect("prepared")
        prepared = self.integer()
        computed = self.listed(self.symbol) if self.skip("computed") else ()
        inputs = self.each("input", self.array)
        outputs = self.each("output", self.array)
        told = self.each("told", self.array)
        written: list[int] = []
        variables: list[Array] = []
        while self.skip("variable"):
            variables.append(self.array())
            if self.skip("written"):
                written.append(len(variables) - 1)
        constants = self.each("constant", lambda: self.string("a digest"))
        requires = self.each("require", self.requirement)
        prepared_from: tuple[int, ...] = ()
        if self.skip("prepared"):
            self.expect("from")
            prepared_from = self.listed(self.integer)
        sites = self.each("site", self.site)
        prepare = self.each("prepare", self.phase)
        body = self.steps()
        if self.kinds[self.at] != "end":
            self.error(f"expected the end or a kernel, found {self.tokens[self.at]!r}")
        made = Program(name, dims, inputs, (*outputs, *told), tuple(variables), tuple(written), constants,
                       kernels, prepare, body, prepared, prepared_from, arena, sites, peak,
                       requires, computed, len(told))  # fmt: skip
        known = {k.name for k in kernels}
        for phase in (*prepare, *made.phases):
            for launch in phase.launches:
                if launch.kernel not in known:
                    self.error(f"no kernel is named {launch.kernel}", self.text.find(launch.kernel))
        return made

    def steps(self) -> tuple[Step, ...]:
        """Steps up to a closing brace, which is taken."""
        kinds: dict[str, Callable[[], Step]] = {
            "phase": self.phase, "copy": self.copy, "measure": self.measure, "report": self.report,
            "repeat": self.repeat, "branch": self.branch,
        }  # fmt: skip
        out: list[Step] = []
        while not self.skip("}"):
            out.append(self.choice(kinds, "a step")())
        return tuple(out)

    def each(self, word: str, item: Callable[[], _T]) -> tuple[_T, ...]:
        """What stands behind each of a run of equal words."""
        out: list[_T] = []
        while self.skip(word):
            out.append(item())
        return tuple(out)

    def listed(self, item: Callable[[], _T]) -> tuple[_T, ...]:
        """One item or more between commas."""
        out = [item()]
        while self.skip(","):
            out.append(item())
        return tuple(out)

    def string(self, what: str) -> str:
        return str(json.loads(self.take("string", what)))

    def symbol(self) -> DimExpr:
        name = self.name("a dimension")
        self.expect("in")
        made = sym(name, *self.bounds())
        self.names[name] = made
        return made

    def array(self) -> Array:
        name = self.string("a name in quotes")
        self.expect(":")
        dtype = self.choice(DTYPES, "a data type")
        self.expect("[")
        return Array(name, dtype, self.sequence("]", self.dim))

    def loc(self) -> Loc:
        """A place, its `@` taken."""
        file = self.string("a file's name in quotes")
        self.expect(":")
        line = self.integer()
        return Loc(file, line, self.string("a layer") if self.kinds[self.at] == "string" else "")

    def site(self) -> Site:
        code = self.name("an error's code")
        text = self.string("what failed")
        self.expect("[")
        shape = self.sequence("]", self.dim)
        return Site(code, self.loc() if self.skip("@") else UNKNOWN, text, shape)

    def requirement(self) -> Requirement:
        dim = self.dim()
        text = self.string("a complaint in quotes")
        return Requirement(dim, text, self.loc() if self.skip("@") else UNKNOWN)

    def slot(self) -> Slot:
        kind = self.choice(_SLOTS, "a kind of memory")
        self.expect("[")
        at = self.dim()
        offset = self.dim() if self.skip(",") else 0
        self.expect("]")
        return Slot(kind, at, offset)

    def phase(self) -> Phase:
        self.expect("parts")
        parts = self.dim()
        self.expect("{")
        launches: list[Launch] = []
        while not self.skip("}"):
            launches.append(self.launch())
        return Phase(tuple(launches), parts)

    def launch(self) -> Launch:
        kernel = self.name("a kernel's name")
        self.expect("(")
        slots = self.sequence(")", self.slot, stop=";")
        dims: tuple[Dim, ...] = self.sequence(")", self.dim) if self.skip(";") else ()
        self.expect("flops")
        flops = self.dim()
        self.expect("bytes")
        moved = self.dim()
        site = self.integer() if self.skip("site") else 0
        self.expect("as")
        label = self.string("a label in quotes")
        locs = self.each("@", self.loc) or (UNKNOWN,)
        return Launch(kernel, slots, dims, site, label, locs, flops, moved)

    def report(self) -> Report:
        slot = self.slot()
        value = self.array()
        return Report(slot, value, self.loc() if self.skip("@") else UNKNOWN)

    def copy(self) -> Copy:
        to = self.slot()
        self.expect("=")
        source = self.slot()
        self.expect("bytes")
        return Copy(to, source, self.dim())

    def measure(self) -> Measure:
        symbol = self.known_symbol("a size")
        self.expect("in")
        source = self.slot()
        self.expect("most")
        most = self.dim()
        self.expect("site")
        site = self.integer()
        requires: list[tuple[Dim, int]] = []
        while self.skip("require"):
            required = self.dim()
            self.expect("site")
            requires.append((required, self.integer()))
        return Measure(symbol, source, most, site, tuple(requires))

    def known_symbol(self, what: str) -> DimExpr:
        """A symbol that the program computes."""
        name = self.name(what)
        found = self.names.get(name)
        if not isinstance(found, DimExpr):
            self.error(f"no symbol is named {name}", self.starts[self.at - 1])
        return found

    def named(self) -> tuple[str, Loc]:
        """What a loop or a branch is called, where it was written, and an opening brace."""
        self.expect("as")
        label = self.string("a label in quotes")
        loc = self.loc() if self.skip("@") else UNKNOWN
        self.expect("{")
        return label, loc

    def repeat(self) -> Repeat:
        counter = self.known_symbol("a counter")
        count = self.dim() if self.skip("count") else None
        condition = self.slot() if self.skip("while") else None
        label, loc = self.named()
        return Repeat(counter, count, condition, self.steps(), label, loc)

    def branch(self) -> Branch:
        condition = self.slot()
        label, loc = self.named()
        then = self.steps()
        self.expect("else")
        self.expect("{")
        return Branch(condition, then, self.steps(), label, loc)
