"""Programs to LLVM modules: kernels, a function per phase, one per block of a loop or branch, and
the entries.

In: a `Program`. Out: the text of a module, or of several that are linked, with the entry points

    i32 @NAME(ptr frame)           a run: 0, or 1 with the error word set
    i32 @NAME_prepare(ptr frame)   the values that depend on variables and constants only

over the native frame documented in `codegen.kernel.frame`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .. import config
from ..dims import Dim, as_sym
from ..target import Target
from .clock import counter
from .emit import EmittedFunction, emit_kernel
from .expressions import ZERO_BYTES, ZEROS, Expressions
from .kernel.frame import (
    ARENA,
    ARGUMENTS,
    CONSTANTS,
    HOST,
    INDEX_BITS,
    NO_ERROR,
    PARALLEL_FOR,
    PREPARED,
    PROFILE,
    THREADS,
    USER,
    VARIABLES,
)
from .kernel.program import (
    Branch,
    Copy,
    Launch,
    Measure,
    Phase,
    Program,
    Repeat,
    Report,
    Slot,
    Step,
)
from .llvm_text import FunctionText

PART = 400_000  # characters of kernels that make a module of their own: about 0.2 s for LLVM
MANY_STEPS = 100  # of a program: from then on they are translated quickly, kernels as ever


def emit_module(programs: list[Program], target: Target, linkage: str = "") -> str:
    """One LLVM module for programs that share kernels. `linkage`: of the entry points."""
    kernels = list(_kernels(programs, target, "internal"))
    return _module(target, [*kernels, *_entries(programs, target, linkage)])


def emit_modules(program: Program, target: Target) -> Iterator[str]:
    """The modules of a program, each as soon as it is written, for LLVM to work on meanwhile. The
    last has the entry points."""
    part: list[EmittedFunction] = []
    heads: list[str] = []  # of what is in modules before
    size = 0
    for made in _kernels([program], target, "hidden"):
        part.append(made)
        size += len(made.text)
        if size > PART:
            yield _module(target, part)
            heads += [_declaration(k) for k in part]
            part, size = [], 0
    yield _module(target, [*part, *_entries([program], target, "")], heads)


def _kernels(programs: list[Program], target: Target, linkage: str) -> Iterator[EmittedFunction]:
    """The kernels of programs, each once."""
    check_bounds = config.integer("check_bounds") > 0
    seen: set[str] = set()
    for p in programs:
        for k in p.kernels:
            if k.name not in seen:
                seen.add(k.name)
                yield emit_kernel(k, target.attributes + " noinline", linkage, check_bounds)


def _entries(programs: list[Program], target: Target, linkage: str) -> list[EmittedFunction]:
    """The functions of programs themselves."""
    writers = [_Entry(p, target, linkage) for p in programs]
    return [EmittedFunction(w.program.name, "\n".join(w.functions()), frozenset(w.declarations))
            for w in writers]  # fmt: skip


def _module(target: Target, functions: list[EmittedFunction], heads: Sequence[str] = ()) -> str:
    """The text of a module; `heads` declare what is in others."""
    declarations = frozenset(heads).union(*(f.declarations for f in functions))
    return "\n".join([
        f'target triple = "{target.triple}"',
        f"{ZEROS} = internal constant [{ZERO_BYTES} x i8] zeroinitializer, align 64",
        *sorted(declarations),
        *(f.text for f in functions),
    ]) + "\n"  # fmt: skip


def _declaration(kernel: EmittedFunction) -> str:
    """What another module says of a kernel."""
    return kernel.text.partition(" {\n")[0].replace("define", "declare", 1)


class _Entry:
    """The functions of one program. `made` collects them; `ticks`, `shown` and `names` number timed
    steps, reports and functions in the order in which they are written down."""

    def __init__(self, program: Program, target: Target, linkage: str) -> None:
        self.program = program
        self.linkage = linkage
        many = len(program.body) + len(program.prepare) > MANY_STEPS
        self.attributes = target.attributes + (" noinline optnone" if many else "")
        self.target = target
        self.declarations: set[str] = set()
        self.arguments = len(program.inputs) + len(program.outputs)
        self.frame_place = {as_sym(d): ARGUMENTS + 8 * (self.arguments + k)
                            for k, d in enumerate((*program.dims, *program.computed))}  # fmt: skip
        self.can_fail = bool(program.sites) or config.integer("check_bounds") > 0
        self.made: list[str] = []
        self.ticks = self.shown = self.names = 0

    def functions(self) -> list[str]:
        p = self.program
        self.entry(p.name, p.body, timed=True)
        self.names = 0
        self.entry(f"{p.name}_prepare", p.prepare, timed=False)
        return self.made

    # --- pieces of the frame ----------------------------------------------------------------

    def begin(self) -> tuple[FunctionText, Expressions]:
        """A function with the frame's dims as symbols."""
        text = FunctionText()
        ex = Expressions(text, {})
        for s, at in self.frame_place.items():
            ex.values[s], ex.level[s] = self.field(text, at, "i64"), 0
        return text, ex

    def field(self, text: FunctionText, offset: int, type: str) -> str:
        at = text.emit(f"getelementptr i8, ptr %frame, i64 {offset}")
        return text.emit(f"load {type}, ptr {at}, align 8")

    def address(self, text: FunctionText, ex: Expressions, slot: Slot) -> str:
        """The address of a slot."""
        if slot.kind in ("prepared", "arena"):
            base = self.field(text, PREPARED if slot.kind == "prepared" else ARENA, "ptr")
            return text.emit(f"getelementptr i8, ptr {base}, i64 {ex.dim(slot.at)}")
        if slot.kind == "argument":
            base = self.field(text, ARGUMENTS + 8 * self.number(slot.at), "ptr")
        else:
            table = self.field(text, VARIABLES if slot.kind == "variable" else CONSTANTS, "ptr")
            at = text.emit(f"getelementptr ptr, ptr {table}, i64 {self.number(slot.at)}")
            base = text.emit(f"load ptr, ptr {at}, align 8")
        if slot.offset == 0:
            return base
        return text.emit(f"getelementptr i8, ptr {base}, i64 {ex.dim(slot.offset)}")

    @staticmethod
    def number(d: Dim) -> int:
        assert isinstance(d, int)
        return d

    # --- functions --------------------------------------------------------------------------

    def entry(self, name: str, steps: tuple[Step, ...], timed: bool) -> None:
        """Runs the steps in order; leaves at the first error, before anything is committed."""
        text, ex = self.begin()
        text.line(f"store i64 {NO_ERROR - (1 << 64)}, ptr %frame, align 8")
        clock = self.field(text, PROFILE, "ptr") if timed else ""
        if clock:
            self.start(text, clock, len(self.program.timed))
        self.steps(name, text, ex, steps, clock)
        self.tick(text, clock, None)
        self.finish(name, text, self.linkage)

    def finish(self, name: str, text: FunctionText, linkage: str) -> None:
        """Takes a function of the frame whose result is 0 unless it returned before."""
        self.declarations |= text.declarations
        made = text.text(f"define {linkage} i32 @{name}(ptr %frame) {self.attributes}")
        self.made.append(made.replace("  ret void\n}", "  ret i32 0\n}"))

    def block(self, stem: str, steps: tuple[Step, ...], timed: bool) -> str:
        """A function `i32 (ptr frame)` that runs steps held by another: 0, or 1 after an error. It
        reads the frame's dims anew, which are others at every turn of a loop."""
        name = self.name(stem, "block")
        text, ex = self.begin()
        self.steps(stem, text, ex, steps, self.field(text, PROFILE, "ptr") if timed else "")
        self.finish(name, text, "internal")
        return name

    def name(self, stem: str, what: str) -> str:
        self.names += 1
        return f"{stem}.{what}{self.names - 1}"

    def steps(self, stem: str, text: FunctionText, ex: Expressions, steps: tuple[Step, ...],
              clock: str) -> None:  # fmt: skip
        may_have_failed = False
        for s in steps:
            if may_have_failed and not isinstance(s, Report):  # what is shown may explain the error
                self.leave_on_error(text)
                may_have_failed = False
            if isinstance(s, Phase):
                self.run_phase(stem, text, ex, s, clock)
                may_have_failed = self.can_fail
            elif isinstance(s, Copy):
                self.copy(text, ex, s)
            elif isinstance(s, Measure):
                self.measure(text, ex, s)
            elif isinstance(s, Report):
                self.report(text, ex, s)
            elif isinstance(s, Repeat):
                self.repeat(stem, text, ex, s, bool(clock))
            else:
                self.branch(stem, text, ex, s, bool(clock))
        if may_have_failed:
            self.leave_on_error(text)

    def phase(self, name: str, phase: Phase, tick: int) -> None:
        """One part's share of a phase: its launches in order. Where they are timed one by one,
        all but the last end with a clock reading, `tick` being the number of the first; the last
        one's is read by who runs the phase."""
        text, ex = self.begin()
        part = text.emit("sext i32 %part32 to i64")
        parts = text.emit("sext i32 %parts32 to i64")
        clock = self.field(text, PROFILE, "ptr") if len(phase.timed) > 1 else ""
        for k, launch in enumerate(phase.launches):
            if clock and k:
                self.tick(text, clock, tick + k - 1)
            self.launch(text, ex, launch, part, parts)
        self.declarations |= text.declarations
        self.made.append(text.text(
            f"define internal void @{name}(ptr %frame, i32 %part32, i32 %parts32) "
            f"{self.attributes}"))  # fmt: skip

    def launch(self, text: FunctionText, ex: Expressions, launch: Launch, part: str,
               parts: str) -> None:  # fmt: skip
        pointers = [f"ptr {self.address(text, ex, s)}" for s in launch.slots]
        dims = [f"i64 {ex.dim(d)}" for d in launch.dims]
        args = ", ".join(["ptr %frame", f"i64 {launch.site}", f"i64 {part}", f"i64 {parts}",
                          *pointers, *dims])  # fmt: skip
        text.line(f"call void @{launch.kernel}({args})")

    # --- steps ------------------------------------------------------------------------------

    def run_phase(self, stem: str, text: FunctionText, ex: Expressions, phase: Phase,
                  clock: str) -> None:  # fmt: skip
        function = self.name(stem, "phase")
        self.phase(function, phase, self.ticks)
        if phase.parts == 1:
            text.line(f"call void @{function}(ptr %frame, i32 0, i32 1)")
        else:
            self.fork(text, ex, phase, function)
        if clock:
            self.ticks += len(phase.timed)
            self.tick(text, clock, self.ticks - 1)

    def fork(self, text: FunctionText, ex: Expressions, phase: Phase, function: str) -> None:
        """A phase with as many parts as have something to do and there are threads."""
        threads = self.field(text, THREADS, "i64")
        fork = self.field(text, PARALLEL_FOR, "ptr")
        user = self.field(text, USER, "ptr")
        limit = ex.dim(phase.parts)
        fewer = text.emit(f"icmp slt i64 {limit}, {threads}")
        parts = text.emit(f"select i1 {fewer}, i64 {limit}, i64 {threads}")
        many = text.emit(f"icmp sgt i64 {parts}, 1")
        shared, alone, after = (text.new_label(x) for x in ("shared", "alone", "after"))
        text.line(f"br i1 {many}, label %{shared}, label %{alone}")
        text.start_block(shared)
        count = text.emit(f"trunc i64 {parts} to i32")
        text.line(f"call void {fork}(ptr {user}, ptr @{function}, ptr %frame, i32 {count})")
        text.line(f"br label %{after}")
        text.start_block(alone)
        text.line(f"call void @{function}(ptr %frame, i32 0, i32 1)")
        text.line(f"br label %{after}")
        text.start_block(after)

    def copy(self, text: FunctionText, ex: Expressions, s: Copy) -> None:
        a, b = self.address(text, ex, s.to), self.address(text, ex, s.source)
        text.line(f"call void @llvm.memmove.p0.p0.i64(ptr {a}, ptr {b}, i64 {ex.dim(s.bytes)}, "
                  "i1 false)")  # fmt: skip
        self.declarations.add("declare void @llvm.memmove.p0.p0.i64(ptr, ptr, i64, i1)")

    def measure(self, text: FunctionText, ex: Expressions, s: Measure) -> None:
        """Puts a size into the frame for all to read, or fails."""
        n = text.emit(f"load i64, ptr {self.address(text, ex, s.source)}, align 8")
        most = text.emit(f"icmp ugt i64 {n}, {ex.dim(s.most)}")  # so are those below 0
        self.fail_if(text, most, s.site, n)
        self.word(text, "%frame", self.frame_place[as_sym(s.symbol)] // 8, n)
        ex.values[as_sym(s.symbol)] = n
        for d, site in s.requires:
            self.fail_if(text, text.emit(f"icmp slt i64 {ex.dim(d)}, 0"), site, "0")

    def fail_if(self, text: FunctionText, bad: str, site: int, index: str) -> None:
        """Leaves with an error where `bad`."""
        fail, go = text.new_label("fail"), text.new_label("go")
        text.line(f"br i1 {bad}, label %{fail}, label %{go}")
        text.start_block(fail)
        low = text.emit(f"and i64 {index}, {(1 << INDEX_BITS) - 1}")
        word = text.emit(f"or i64 {low}, {site << INDEX_BITS}")
        text.line(f"store i64 {word}, ptr %frame, align 8")
        text.line("ret i32 1")
        text.start_block(go)

    def report(self, text: FunctionText, ex: Expressions, s: Report) -> None:
        """Hands a value to the host, if there is one that wants it."""
        host = self.field(text, HOST, "ptr")
        wanted = text.emit(f"icmp ne ptr {host}, null")
        data = self.address(text, ex, s.slot)
        yes, after = text.new_label("report"), text.new_label("go")
        text.line(f"br i1 {wanted}, label %{yes}, label %{after}")
        text.start_block(yes)
        user = self.field(text, USER, "ptr")
        dims = text.emit(f"getelementptr i8, ptr %frame, i64 {ARGUMENTS + 8 * self.arguments}")
        text.line(f"call void {host}(ptr {user}, i64 {self.shown}, ptr {data}, ptr {dims})")
        text.line(f"br label %{after}")
        text.start_block(after)
        self.shown += 1

    def repeat(self, stem: str, text: FunctionText, ex: Expressions, s: Repeat,
               timed: bool) -> None:  # fmt: skip
        """A loop around a function of its own; the counter is in the frame for all to read."""
        body = self.block(stem, s.body, timed)
        count = None if s.count is None else ex.dim(s.count)
        condition = None if s.condition is None else self.address(text, ex, s.condition)
        at = self.frame_place[as_sym(s.counter)]
        place = text.emit(f"getelementptr i8, ptr %frame, i64 {at}")
        head, test, turn, more, after = (
            text.new_label(x) for x in ("head", "test", "turn", "more", "after"))  # fmt: skip
        index, following = text.name(), text.name()
        entry = text.scope.label
        text.line(f"br label %{head}")
        text.start_block(head)
        text.line(f"{index} = phi i64 [0, %{entry}], [{following}, %{more}]")
        text.line(f"store i64 {index}, ptr {place}, align 8")
        if count is None:
            text.line(f"br label %{test}")
        else:
            some = text.emit(f"icmp slt i64 {index}, {count}")
            text.line(f"br i1 {some}, label %{test}, label %{after}")
        text.start_block(test)
        if condition is None:
            text.line(f"br label %{turn}")
        else:
            byte = text.emit(f"load i8, ptr {condition}, align 1")
            holds = text.emit(f"icmp ne i8 {byte}, 0")
            text.line(f"br i1 {holds}, label %{turn}, label %{after}")
        text.start_block(turn)
        self.call(text, body)
        text.line(f"br label %{more}")
        text.start_block(more)
        text.line(f"{following} = add i64 {index}, 1")
        text.line(f"br label %{head}")
        text.start_block(after)
        ex.values[as_sym(s.counter)] = index

    def branch(self, stem: str, text: FunctionText, ex: Expressions, s: Branch,
               timed: bool) -> None:  # fmt: skip
        sides = [self.block(stem, steps, timed) for steps in (s.then, s.orelse)]
        byte = text.emit(f"load i8, ptr {self.address(text, ex, s.condition)}, align 1")
        holds = text.emit(f"icmp ne i8 {byte}, 0")
        then, orelse, after = (text.new_label(x) for x in ("then", "else", "after"))
        text.line(f"br i1 {holds}, label %{then}, label %{orelse}")
        for label, function in zip((then, orelse), sides):
            text.start_block(label)
            self.call(text, function)
            text.line(f"br label %{after}")
        text.start_block(after)

    def call(self, text: FunctionText, function: str) -> None:
        """Runs a block, and leaves if it failed."""
        failed = text.emit(f"call i32 @{function}(ptr %frame)")
        if self.can_fail:
            self.leave_if(text, text.emit(f"icmp ne i32 {failed}, 0"))

    # --- the clock and errors ---------------------------------------------------------------

    def start(self, text: FunctionText, clock: str, steps: int) -> None:
        """Begins a profile, where one is asked for."""
        after = self.if_wanted(text, clock)
        self.declarations.add("declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
        text.line(f"call void @llvm.memset.p0.i64(ptr {clock}, i8 0, i64 {8 * (2 + 2 * steps)}, "
                  "i1 false)")  # fmt: skip
        now = self.now(text)
        for k in range(2):
            self.word(text, clock, k, now)
        text.line(f"br label %{after}")
        text.start_block(after)

    def tick(self, text: FunctionText, clock: str, step: int | None) -> None:
        """Adds the time since the last reading to timed step number `step` (None: to none), where a
        profile is asked for (`clock` "": never)."""
        if not clock:
            return
        after = self.if_wanted(text, clock)
        now = self.now(text)
        if step is not None:
            before = text.emit(f"load i64, ptr {clock}, align 8")
            took = text.emit(f"sub i64 {now}, {before}")
            self.add(text, clock, 2 + 2 * step, took)
            self.add(text, clock, 3 + 2 * step, "1")
        self.word(text, clock, 0, now)
        text.line(f"br label %{after}")
        text.start_block(after)

    def if_wanted(self, text: FunctionText, clock: str) -> str:
        """Begins what happens in profiled runs only; returns the label to go on at."""
        wanted = text.emit(f"icmp ne ptr {clock}, null")
        yes, after = text.new_label("tick"), text.new_label("go")
        text.line(f"br i1 {wanted}, label %{yes}, label %{after}")
        text.start_block(yes)
        return after

    def now(self, text: FunctionText) -> str:
        read = counter(self.target.triple)
        self.declarations.add(f"declare i64 @{read}()")
        return text.emit(f"call i64 @{read}()")

    def word(self, text: FunctionText, clock: str, k: int, value: str) -> None:
        at = text.emit(f"getelementptr i64, ptr {clock}, i64 {k}")
        text.line(f"store i64 {value}, ptr {at}, align 8")

    def add(self, text: FunctionText, clock: str, k: int, value: str) -> None:
        at = text.emit(f"getelementptr i64, ptr {clock}, i64 {k}")
        old = text.emit(f"load i64, ptr {at}, align 8")
        text.line(f"store i64 {text.emit(f'add i64 {old}, {value}')}, ptr {at}, align 8")

    def leave_on_error(self, text: FunctionText) -> None:
        word = text.emit("load atomic i64, ptr %frame monotonic, align 8")
        self.leave_if(text, text.emit(f"icmp ne i64 {word}, {NO_ERROR - (1 << 64)}"))

    def leave_if(self, text: FunctionText, bad: str) -> None:
        stop, go = text.new_label("stop"), text.new_label("go")
        text.line(f"br i1 {bad}, label %{stop}, label %{go}")
        text.start_block(stop)
        text.line("ret i32 1")
        text.start_block(go)
