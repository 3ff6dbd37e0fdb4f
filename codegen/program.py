"""Programs to LLVM modules: kernels, one function per phase, and one entry per function.

In: a `Program`. Out: the text of a module with the entry points

    i32 @NAME(ptr frame)           a run: 0, or 1 with the error word set
    i32 @NAME_prepare(ptr frame)   the values that depend on variables and constants only

over the native frame documented in `codegen.kernel.frame`.
"""

from __future__ import annotations

from .. import config
from ..dims import Dim, Sym, as_sym
from ..target import Target
from .clock import counter
from .emit import emit_kernel
from .expressions import ZERO_BYTES, ZEROS, Expressions
from .kernel.frame import (
    ARENA,
    ARGUMENTS,
    CONSTANTS,
    HOST,
    NO_ERROR,
    PARALLEL_FOR,
    PREPARED,
    PROFILE,
    THREADS,
    USER,
    VARIABLES,
)
from .kernel.program import Launch, Phase, Program, Report, Slot
from .llvm_text import FunctionText

PARALLEL_TYPE = "void (ptr, ptr, ptr, i32)"


def emit_module(programs: list[Program], target: Target, linkage: str = "") -> str:
    """One LLVM module for programs that share kernels. `linkage`: of the entry points."""
    parts = [f'target triple = "{target.triple}"',
             f"{ZEROS} = internal constant [{ZERO_BYTES} x i8] zeroinitializer, align 64"]  # fmt: skip
    check_bounds = config.integer("check_bounds") > 0
    declarations: set[str] = set()
    seen: set[str] = set()
    for p in programs:
        for k in p.kernels:
            if k.name in seen:
                continue
            seen.add(k.name)
            made = emit_kernel(k, target.attributes + " noinline", check_bounds=check_bounds)
            declarations |= made.declarations
            parts.append(made.text)
    for p in programs:
        writer = _Entry(p, target, linkage)
        parts += writer.functions()
        declarations |= writer.declarations
    return "\n".join([*parts[:2], *sorted(declarations), *parts[2:]]) + "\n"


class _Entry:
    def __init__(self, program: Program, target: Target, linkage: str) -> None:
        self.program = program
        self.linkage = linkage
        self.target = target
        self.declarations: set[str] = set()
        self.arguments = len(program.inputs) + len(program.outputs)

    def functions(self) -> list[str]:
        p = self.program
        out: list[str] = []
        for stem, phases, copies in ((p.name, p.phases, p.copies), (f"{p.name}_prepare",
                                                                   p.prepare, ())):  # fmt: skip
            names = []
            tick = 0
            for k, phase in enumerate(phases):
                names.append(f"{stem}.phase{k}")
                out.append(self.phase(names[-1], phase, tick))
                tick += len(phase.timed)
            out.append(self.entry(stem, phases, names, copies, timed=stem == p.name))
        return out

    # --- pieces of the frame ----------------------------------------------------------------

    def begin(self) -> tuple[FunctionText, Expressions]:
        """A function with the frame's dims as symbols."""
        text = FunctionText()
        ex = Expressions(text, {})
        for k, d in enumerate(self.program.dims):
            s: Sym = as_sym(d)
            at = ARGUMENTS + 8 * (self.arguments + k)
            ex.values[s], ex.level[s] = self.field(text, at, "i64"), 0
        return text, ex

    def field(self, text: FunctionText, offset: int, type: str) -> str:
        at = text.emit(f"getelementptr i8, ptr %frame, i64 {offset}")
        return text.emit(f"load {type}, ptr {at}, align 8")

    def address(self, text: FunctionText, ex: Expressions, slot: Slot) -> str:
        """The address of a slot."""
        if slot.kind == "argument":
            return self.field(text, ARGUMENTS + 8 * self.number(slot.at), "ptr")
        if slot.kind in ("variable", "constant"):
            table = self.field(text, VARIABLES if slot.kind == "variable" else CONSTANTS, "ptr")
            at = text.emit(f"getelementptr ptr, ptr {table}, i64 {self.number(slot.at)}")
            return text.emit(f"load ptr, ptr {at}, align 8")
        base = self.field(text, PREPARED if slot.kind == "prepared" else ARENA, "ptr")
        return text.emit(f"getelementptr i8, ptr {base}, i64 {ex.dim(slot.at)}")

    @staticmethod
    def number(d: Dim) -> int:
        assert isinstance(d, int)
        return d

    # --- functions --------------------------------------------------------------------------

    def phase(self, name: str, phase: Phase, tick: int) -> str:
        """One part's share of a phase: its launches in order. Where they are timed one by one,
        the first ends with clock reading number `tick + 1`; the last is read by the entry."""
        text, ex = self.begin()
        part = text.emit("sext i32 %part32 to i64")
        parts = text.emit("sext i32 %parts32 to i64")
        clock = self.field(text, PROFILE, "ptr") if len(phase.timed) > 1 else ""
        for k, launch in enumerate(phase.launches):
            if clock and k:
                self.tick(text, clock, tick + k)
            self.launch(text, ex, launch, part, parts)
        self.declarations |= text.declarations
        head = (f"define internal void @{name}(ptr %frame, i32 %part32, i32 %parts32) "
                f"{self.target.attributes}")  # fmt: skip
        return text.text(head)

    def launch(self, text: FunctionText, ex: Expressions, launch: Launch, part: str,
               parts: str) -> None:  # fmt: skip
        pointers = [f"ptr {self.address(text, ex, s)}" for s in launch.slots]
        dims = [f"i64 {ex.dim(d)}" for d in launch.dims]
        args = ", ".join(["ptr %frame", f"i64 {launch.site}", f"i64 {part}", f"i64 {parts}",
                          *pointers, *dims])  # fmt: skip
        text.line(f"call void @{launch.kernel}({args})")

    def entry(self, name: str, phases: tuple[Phase, ...], names: list[str],
              copies: tuple[tuple[Slot, Slot, Dim], ...], timed: bool) -> str:  # fmt: skip
        """Runs the phases in order; leaves at the first error, before anything is committed."""
        text, ex = self.begin()
        text.line(f"store i64 {NO_ERROR - (1 << 64)}, ptr %frame, align 8")
        can_fail = bool(self.program.sites) or config.integer("check_bounds") > 0
        if phases:
            threads = self.field(text, THREADS, "i64")
            fork = self.field(text, PARALLEL_FOR, "ptr")
            user = self.field(text, USER, "ptr")
        clock = self.field(text, PROFILE, "ptr") if timed else ""
        tick = 0
        self.tick(text, clock, tick)
        reports = enumerate(self.program.reports if timed else ())
        after: dict[int, list[tuple[int, Report]]] = {}
        for k, report in reports:
            after.setdefault(report.after, []).append((k, report))
        self.report(text, ex, after.get(-1, []))
        for number, (phase, function) in enumerate(zip(phases, names)):
            self.run_phase(text, ex, phase, function, threads, fork, user)
            tick += len(phase.timed)
            self.tick(text, clock, tick)
            self.report(text, ex, after.get(number, []))  # first: it may explain the error
            if can_fail:
                self.leave_on_error(text)
        for to, source, size in copies:
            a, b = self.address(text, ex, to), self.address(text, ex, source)
            text.line(f"call void @llvm.memmove.p0.p0.i64(ptr {a}, ptr {b}, "
                      f"i64 {ex.dim(size)}, i1 false)")  # fmt: skip
            self.declarations.add("declare void @llvm.memmove.p0.p0.i64(ptr, ptr, i64, i1)")
        self.tick(text, clock, tick + 1)
        self.declarations |= text.declarations
        body = text.text(f"define {self.linkage} i32 @{name}(ptr %frame) "
                         f"{self.target.attributes}")  # fmt: skip
        return body.replace("  ret void\n}", "  ret i32 0\n}")

    def run_phase(self, text: FunctionText, ex: Expressions, phase: Phase, function: str,
                  threads: str, fork: str, user: str) -> None:  # fmt: skip
        if phase.parts == 1:
            text.line(f"call void @{function}(ptr %frame, i32 0, i32 1)")
            return
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

    def report(self, text: FunctionText, ex: Expressions,
               reports: list[tuple[int, Report]]) -> None:  # fmt: skip
        """Hands values to the host, if there is one that wants them."""
        if not reports:
            return
        host = self.field(text, HOST, "ptr")
        wanted = text.emit(f"icmp ne ptr {host}, null")
        addresses = [(k, self.address(text, ex, r.slot)) for k, r in reports]
        yes, after = text.new_label("report"), text.new_label("go")
        text.line(f"br i1 {wanted}, label %{yes}, label %{after}")
        text.start_block(yes)
        user = self.field(text, USER, "ptr")
        at = ARGUMENTS + 8 * self.arguments
        dims = text.emit(f"getelementptr i8, ptr %frame, i64 {at}")
        for k, data in addresses:
            text.line(f"call void {host}(ptr {user}, i64 {k}, ptr {data}, ptr {dims})")
        text.line(f"br label %{after}")
        text.start_block(after)

    def tick(self, text: FunctionText, clock: str, k: int) -> None:
        """Clock reading number `k`, where a profile is asked for (`clock` "": never)."""
        if not clock:
            return
        read = counter(self.target.triple)
        wanted = text.emit(f"icmp ne ptr {clock}, null")
        yes, after = text.new_label("tick"), text.new_label("go")
        text.line(f"br i1 {wanted}, label %{yes}, label %{after}")
        text.start_block(yes)
        self.declarations.add(f"declare i64 @{read}()")
        now = text.emit(f"call i64 @{read}()")
        at = text.emit(f"getelementptr i64, ptr {clock}, i64 {k}")
        text.line(f"store i64 {now}, ptr {at}, align 8")
        text.line(f"br label %{after}")
        text.start_block(after)

    def leave_on_error(self, text: FunctionText) -> None:
        word = text.emit("load atomic i64, ptr %frame monotonic, align 8")
        bad = text.emit(f"icmp ne i64 {word}, {NO_ERROR - (1 << 64)}")
        stop, go = text.new_label("stop"), text.new_label("go")
        text.line(f"br i1 {bad}, label %{stop}, label %{go}")
        text.start_block(stop)
        text.line("ret i32 1")
        text.start_block(go)
