"""Kernels to LLVM functions: one construct of the kernel language at a time, deciding nothing.

In: a verified `Kernel`. Out: the text of an internal LLVM function

    void @name(ptr error, i64 site, i64 part, i64 parts, ptr buffer..., i64 dim...)

`error` points at the run's error word (see `Fail`), `site` is added to the ordinals of the
kernel's `Fail` statements. The result holds no loop or vector that the kernel does not show.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..algorithm import Expr
from ..dims import Dim, Sym, as_sym, bounds, ceildiv, substitute
from ..dtypes import bool_, int64
from ..errors import InternalError
from .bounds import CheckedExpressions
from .expressions import Expressions, Lanes, Operand
from .kernel.frame import INDEX_BITS
from .kernel.ir import (
    Alloc,
    Buffer,
    Call,
    Fail,
    For,
    If,
    Kernel,
    Let,
    Stmt,
    Store,
    statements,
)
from .llvm_text import FunctionText, Scope, memory_type, splat_constant, value_type


@dataclass(frozen=True)
class EmittedFunction:
    """LLVM text of one kernel and the intrinsics it declares."""

    name: str
    text: str
    declarations: frozenset[str]


def emit_kernel(
    kernel: Kernel, attributes: str, linkage: str = "internal", check_bounds: bool = False
) -> EmittedFunction:
    """The LLVM function for `kernel`. `attributes`: CPU and tuning, as function attributes.
    `check_bounds`: see `bounds`."""
    return _Emitter(kernel, check_bounds).run(attributes, linkage)


class _Emitter:
    def __init__(self, kernel: Kernel, check_bounds: bool) -> None:
        self.kernel = kernel
        self.out = FunctionText()
        self.buffers: dict[str, Buffer] = {}
        kind = CheckedExpressions if check_bounds else Expressions
        self.ex = kind(self.out, self.buffers)

    def run(self, attributes: str, linkage: str) -> EmittedFunction:
        params = ["ptr %error", "i64 %site", "i64 %part", "i64 %parts"]
        for b in self.kernel.params:
            self.buffers[b.name] = b
            self.ex.pointers[b.name] = f"%b.{b.name}"
            if b.written:
                self.ex.versions[b.name] = 0
            access = ("" if self.may_coincide(b) else " noalias") + (
                "" if b.written else " readonly")  # fmt: skip
            params.append(f"ptr{access} %b.{b.name}")
        for d in self.kernel.dims:
            s = as_sym(d)
            self.ex.values[s], self.ex.level[s] = f"%d.{s.name}", 0
            params.append(f"i64 %d.{s.name}")
        self.block(self.kernel.body)
        head = f"define {linkage} void @{self.kernel.name}({', '.join(params)}) {attributes}"
        return EmittedFunction(self.kernel.name, self.out.text(head),
                               frozenset(self.out.declarations))  # fmt: skip

    def may_coincide(self, b: Buffer) -> bool:
        """Whether the planner may put an output over an operand of these sizes: then LLVM must
        keep the order of loads and stores."""
        return any(
            o is not b and o.shape == b.shape and o.dtype.bits == b.dtype.bits
            and (o.written != b.written)
            for o in self.kernel.params
        )  # fmt: skip

    # --- statements -------------------------------------------------------------------------

    def block(self, body: tuple[Stmt, ...]) -> None:
        for s in body:
            self.statement(s)

    def statement(self, s: Stmt) -> None:
        if isinstance(s, Store):
            self.store(s)
        elif isinstance(s, For):
            {"serial": self.serial, "parallel": self.parallel, "unroll": self.unroll,
             "vector": self.vector}[s.kind](s)  # fmt: skip
        elif isinstance(s, Let):
            self.ex.lets[s.name] = (self.ex.value(s.value), self.out.depth)
        elif isinstance(s, Alloc):
            self.alloc(s.buffer)
        elif isinstance(s, If):
            self.branch(s)
        elif isinstance(s, Fail):
            self.fail(s)
        elif isinstance(s, Call):
            self.call(s)
        else:
            raise InternalError(f"cannot emit {type(s).__name__}")

    def alloc(self, b: Buffer) -> None:
        self.buffers[b.name] = b
        if b.space == "register":
            self.ex.registers[b.name] = {}
            return
        count = 1
        for d in b.shape:
            if not isinstance(d, int):
                raise InternalError(f"stack buffer {b.name} has no constant shape")
            count *= d
        self.ex.versions[b.name] = 0
        self.ex.pointers[b.name] = self.out.alloca(f"[{count} x {memory_type(b.dtype)}]")

    def store(self, s: Store) -> None:
        b = self.buffers[s.buffer]
        if b.space == "register":
            key = self.ex.register_key(s.indices)
            x = self.ex.value(s.value)
            lanes = self.ex.lanes
            if lanes is not None and len(key) < len(s.indices):
                old = self.ex.registers[b.name].get(key)
                text = self.ex.splat(x, b.dtype)
                if lanes.active is not None and old is not None:
                    t = value_type(b.dtype, lanes.count)
                    text = self.out.emit(f"select <{lanes.count} x i1> {lanes.active}, "
                                         f"{t} {text}, {t} {old.text}")  # fmt: skip
                x = Operand(text, lanes.count)
            if s.mask is not None:
                raise InternalError("a register store has no mask")
            self.ex.registers[b.name][key] = x
            return
        self.memory_store(s, b)
        self.ex.versions[b.name] = self.ex.versions.get(b.name, 0) + 1

    def memory_store(self, s: Store, b: Buffer) -> None:
        ex, emit = self.ex, self.out.emit
        size, m = b.dtype.itemsize, memory_type(b.dtype)
        lanes = ex.lanes
        data = any(isinstance(i, Expr) for i in s.indices)
        varying = lanes is not None and (ex.varies(s.value) or ex.lane_stride(b, s.indices) != 0)
        mask = ex.guarded(b, s.indices, None if s.mask is None else ex.value(s.mask))
        if lanes is None or not varying:
            x = self.to_memory(ex.value(s.value).text, b, 1)
            pointer = ex.pointer(b, s.indices)
            if mask is None:
                self.out.line(f"store {m} {x}, ptr {pointer}, align {size}")
                return
            yes, after = self.out.new_label("store"), self.out.new_label("after")
            self.out.line(f"br i1 {mask.text}, label %{yes}, label %{after}")
            self.out.start_block(yes)
            self.out.line(f"store {m} {x}, ptr {pointer}, align {size}")
            self.out.line(f"br label %{after}")
            self.out.start_block(after)
            return
        n = lanes.count
        x = self.to_memory(ex.splat(ex.value(s.value), b.dtype), b, n)
        every = lanes.active
        if mask is not None:
            text = ex.splat(mask, bool_)
            every = text if every is None else emit(f"and <{n} x i1> {every}, {text}")
        suffix = {"half": "f16", "float": "f32", "double": "f64"}.get(m, m)
        if ex.lane_stride(b, s.indices) == 1 and not (data and self._data_varies(s)):
            pointer = ex.pointer(b, ex.at_lane_zero(s.indices))
            if every is None:
                self.out.line(f"store <{n} x {m}> {x}, ptr {pointer}, align {size}")
            else:
                name = f"llvm.masked.store.v{n}{suffix}.p0"
                self.out.declarations.add(
                    f"declare void @{name}(<{n} x {m}>, ptr, <{n} x i1>)")  # fmt: skip
                self.out.line(f"call void @{name}(<{n} x {m}> {x}, ptr align {size} {pointer}, "
                              f"<{n} x i1> {every})")  # fmt: skip
            return
        pointers = ex.pointers_of(b, s.indices)
        name = f"llvm.masked.scatter.v{n}{suffix}.v{n}p0"
        self.out.declarations.add(f"declare void @{name}(<{n} x {m}>, <{n} x ptr>, <{n} x i1>)")
        every = every or splat_constant("true", "i1", n)
        self.out.line(f"call void @{name}(<{n} x {m}> {x}, <{n} x ptr> align {size} {pointers}, "
                      f"<{n} x i1> {every})")  # fmt: skip

    def _data_varies(self, s: Store) -> bool:
        return any(isinstance(i, Expr) and self.ex.varies(i) for i in s.indices)

    def to_memory(self, x: str, b: Buffer, n: int) -> str:
        if b.dtype.kind != "b":
            return x
        a, t = ("i1", "i8") if n == 1 else (f"<{n} x i1>", f"<{n} x i8>")
        return self.out.emit(f"zext {a} {x} to {t}")

    # --- loops ------------------------------------------------------------------------------

    def unroll(self, s: For) -> None:
        lo, hi = self.ex.fixed(s.lo), self.ex.fixed(s.hi)
        if not isinstance(lo, int) or not isinstance(hi, int):
            raise InternalError(f"unroll loop over {s.var} has no constant bounds")
        for v in range(lo, hi, s.step):
            self.ex.constants[s.sym] = v
            self.block(s.body)
        self.ex.constants.pop(s.sym, None)

    def vector(self, s: For) -> None:
        hi = self.ex.fixed(s.hi)
        if self.ex.lanes is not None or not isinstance(hi, int) or s.lo != 0 or s.step != 1:
            raise InternalError(f"vector loop over {s.var} is not 0..lanes, or is nested")
        active: str | None = None
        limit = None if s.active is None else self.ex.fixed(s.active)
        low = None if limit is None else bounds(limit)[0]
        if limit is not None and (low is None or low < hi):
            count = self.ex.dim(limit)
            key = ("active", count, hi)
            at = self.ex.dim_level(limit)
            active = self.out.scopes[at].known.get(key)
            if active is None:
                one = self.out.emit(f"insertelement <{hi} x i64> poison, i64 {count}, i64 0", at)
                many = self.out.emit(f"shufflevector <{hi} x i64> {one}, <{hi} x i64> poison, "
                                     f"<{hi} x i32> zeroinitializer", at)  # fmt: skip
                iota = ", ".join(f"i64 {k}" for k in range(hi))
                active = self.out.emit(f"icmp slt <{hi} x i64> <{iota}>, {many}", at)
                self.out.scopes[at].known[key] = active
        self.ex.level[s.sym] = self.out.depth
        self.ex.enter_lanes(Lanes(s.sym, hi, active))
        self.block(s.body)
        self.ex.enter_lanes(None)

    def parallel(self, s: For) -> None:
        """This part's contiguous share of the iterations."""
        count = self.ex.dim(ceildiv(s.hi - s.lo, s.step))
        emit = self.out.emit
        # n*p//P without overflow for n below 2^31; sizes beyond that have that many iterations
        first = emit(f"udiv i64 {emit(f'mul i64 {count}, %part')}, %parts")
        after = emit("add i64 %part, 1")
        last = emit(f"udiv i64 {emit(f'mul i64 {count}, {after}')}, %parts")
        begin = emit(f"add i64 {emit(f'mul i64 {first}, {s.step}')}, {self.ex.dim(s.lo)}")
        stop = emit(f"add i64 {emit(f'mul i64 {last}, {s.step}')}, {self.ex.dim(s.lo)}")
        self.loop(s, begin, stop, certain=False)

    def serial(self, s: For) -> None:
        low, _ = bounds(self.ex.fixed(s.hi - s.lo))
        self.loop(s, self.ex.dim(s.lo), self.ex.dim(s.hi), certain=low is not None and low > 0)

    def loop(self, s: For, begin: str, stop: str, certain: bool) -> None:
        """`for (i = begin; i < stop; i += step)`, tested at the end; `certain`: runs once at least.

        Registers and the loop index are phis. The body is written to a scope of its own first:
        invariant arithmetic lands in the enclosing scope, before the jump into the loop."""
        out, ex = self.out, self.ex
        touched = self._registers_stored(s.body)
        for name in self._memory_stored(s.body):
            ex.versions[name] = ex.versions.get(name, 0) + 1
        before = {b: dict(ex.registers[b]) for b in touched}
        head, leave = out.new_label("loop"), out.new_label("end")
        index = out.name()
        out.scopes.append(Scope(head))
        ex.level[s.sym], ex.values[s.sym] = out.depth, index
        phis: dict[tuple[str, tuple[int, ...]], tuple[str, Operand]] = {}
        for b in touched:
            for key, old in before[b].items():
                name = out.name()
                phis[b, key] = (name, old)
                ex.registers[b][key] = Operand(name, old.lanes)
        lets = dict(ex.lets)
        self.block(s.body)
        ex.lets = lets
        following = out.emit(f"add nsw i64 {index}, {s.step}")
        again = out.emit(f"icmp slt i64 {following}, {stop}")
        inner = out.scopes.pop()
        latch = inner.label
        outer = out.scope
        if certain:
            out.line(f"br label %{head}")
        else:
            test = out.emit(f"icmp slt i64 {begin}, {stop}")
            out.line(f"br i1 {test}, label %{head}, label %{leave}")
        entry = outer.label
        out.start_block(head)
        out.line(f"{index} = phi i64 [{begin}, %{entry}], [{following}, %{latch}]")
        ends: list[tuple[str, tuple[int, ...], Operand, str]] = []
        for (b, key), (name, old) in phis.items():
            t = value_type(self.buffers[b].dtype, old.lanes)
            new = ex.registers[b][key].text
            out.line(f"{name} = phi {t} [{old.text}, %{entry}], [{new}, %{latch}]")
            ends.append((b, key, old, new))
        outer.lines.extend(inner.lines)
        out.line(f"br i1 {again}, label %{head}, label %{leave}")
        out.start_block(leave)
        for b, key, old, new in ends:
            t = value_type(self.buffers[b].dtype, old.lanes)
            if certain:
                ex.registers[b][key] = Operand(new, old.lanes)
            else:
                merged = out.emit(f"phi {t} [{old.text}, %{entry}], [{new}, %{latch}]")
                ex.registers[b][key] = Operand(merged, old.lanes)
        for name in self._memory_stored(s.body):
            ex.versions[name] = ex.versions.get(name, 0) + 1

    def branch(self, s: If) -> None:
        out, ex = self.out, self.ex
        cond = ex.value(s.cond).text
        touched = self._registers_stored((*s.then, *s.orelse))
        before = {b: dict(ex.registers[b]) for b in touched}
        yes, no, after = (out.new_label(x) for x in ("then", "else", "join"))
        ends = []
        scopes = []
        for label, body in ((yes, s.then), (no, s.orelse)):
            for b in touched:
                ex.registers[b] = dict(before[b])
            out.scopes.append(Scope(label))
            lets = dict(ex.lets)
            self.block(body)
            ex.lets = lets
            scope = out.scopes.pop()
            scopes.append((label, scope))
            ends.append((scope.label, {b: ex.registers[b] for b in touched}))
        out.line(f"br i1 {cond}, label %{yes}, label %{no}")
        for label, scope in scopes:
            out.start_block(label)
            out.scope.lines.extend(scope.lines)
            out.line(f"br label %{after}")
        out.start_block(after)
        for b in touched:
            joined: dict[tuple[int, ...], Operand] = {}
            (from_yes, then), (from_no, other) = ends[0], ends[1]
            for key, x in then[b].items():
                y = other[b].get(key)
                if y is None:
                    continue
                if x == y:
                    joined[key] = x
                    continue
                t = value_type(self.buffers[b].dtype, x.lanes)
                merged = out.emit(f"phi {t} [{x.text}, %{from_yes}], [{y.text}, %{from_no}]")
                joined[key] = Operand(merged, x.lanes)
            ex.registers[b] = joined
        for name in self._memory_stored((*s.then, *s.orelse)):
            ex.versions[name] = ex.versions.get(name, 0) + 1

    def _registers_stored(self, body: tuple[Stmt, ...]) -> list[str]:
        """Registers of the enclosing blocks that `body` changes."""
        names = {s.buffer for s in statements(body) if isinstance(s, Store | Call)}
        names -= {s.buffer.name for s in statements(body) if isinstance(s, Alloc)}
        return sorted(n for n in names if n in self.ex.registers)

    def _memory_stored(self, body: tuple[Stmt, ...]) -> list[str]:
        """Memory that `body` changes: what was loaded from it before is stale."""
        names = {s.buffer for s in statements(body) if isinstance(s, Store)}
        return sorted(n for n in names if n in self.ex.pointers)

    # --- failures and instructions ----------------------------------------------------------

    def fail(self, s: Fail) -> None:
        """Atomic minimum on the error word: whichever thread comes first, one error is kept."""
        out, ex = self.out, self.ex
        cond = ex.value(s.cond)
        bad, fine = out.new_label("fail"), out.new_label("fine")
        lanes = ex.lanes
        if lanes is not None and (cond.lanes > 1 or lanes.active is not None):
            n = lanes.count
            mask = ex.splat(cond, bool_)
            if lanes.active is not None:
                mask = out.emit(f"and <{n} x i1> {mask}, {lanes.active}")
            bits = out.emit(f"bitcast <{n} x i1> {mask} to i{n}")
            test = out.emit(f"icmp ne i{n} {bits}, 0")
        else:
            n, mask, test = 0, "", cond.text
        out.scopes.append(Scope(bad))
        if n:
            index = self.least(s.index, mask, n)
        else:
            first: dict[Sym, Dim] = {} if lanes is None else {lanes.sym: 0}
            index = ex.dim(substitute(ex.fixed(s.index), first))
        site = out.emit(f"shl i64 {out.emit(f'add i64 %site, {s.site}')}, {INDEX_BITS}")
        limited = out.emit(f"and i64 {index}, {(1 << INDEX_BITS) - 1}")
        word = out.emit(f"or i64 {site}, {limited}")
        out.emit(f"atomicrmw umin ptr %error, i64 {word} monotonic")
        inner = out.scopes.pop()
        out.line(f"br i1 {test}, label %{bad}, label %{fine}")
        out.start_block(bad)
        out.scope.lines.extend(inner.lines)
        out.line(f"br label %{fine}")
        out.start_block(fine)

    def least(self, index: Dim, mask: str, n: int) -> str:
        """The smallest `index` of the lanes in `mask`; it need not rise with the lane."""
        out, t = self.out, f"<{n} x i64>"
        each = self.ex.splat(self.ex.dim_lanes(index), int64)
        most = splat_constant("-1", "i64", n)
        chosen = out.emit(f"select <{n} x i1> {mask}, {t} {each}, {t} {most}")
        return out.emit(out.intrinsic("i64", f"llvm.vector.reduce.umin.v{n}i64", f"{t} {chosen}"))

    def call(self, s: Call) -> None:
        b = self.buffers[s.buffer]
        if s.instruction == "prefetch":
            pointer = self.ex.pointer(b, s.indices)
            self.out.declarations.add("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
            self.out.line(f"call void @llvm.prefetch.p0(ptr {pointer}, i32 0, i32 3, i32 1)")
        elif s.instruction == "transpose":
            self.transpose(b)
        else:
            raise InternalError(f"unknown instruction {s.instruction}")

    def transpose(self, b: Buffer) -> None:
        """n vectors of n lanes, n a power of two: log2(n) rounds of pairwise block exchanges."""
        n = len(self.ex.registers[b.name])
        rows = [self.ex.registers[b.name][k,].text for k in range(n)]
        t = value_type(b.dtype, n)
        half = n // 2
        while half:
            after = list(rows)
            for i in range(n):
                if i & half:
                    continue
                j = i + half
                low = [k if not k & half else n + (k ^ half) for k in range(n)]
                high = [(k ^ half) if not k & half else n + k for k in range(n)]
                for row, pick in ((i, low), (j, high)):
                    mask = ", ".join(f"i32 {p}" for p in pick)
                    after[row] = self.out.emit(f"shufflevector {t} {rows[i]}, {t} {rows[j]}, "
                                               f"<{n} x i32> <{mask}>")  # fmt: skip
            rows = after
            half //= 2
        self.ex.registers[b.name] = {(k,): Operand(r, n) for k, r in enumerate(rows)}
