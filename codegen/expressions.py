"""Expressions of the kernel language to LLVM instructions.

In: an `Expr` (or `Dim`), inside the emitter's current loops. Out: an SSA name, scalar or one
element per lane of the enclosing vector loop. Each distinct value is computed once per scope.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..algorithm import (
    Apply,
    Bitcast,
    Cast,
    Const,
    Expr,
    Index,
    IndexLike,
    LaneReduce,
    Load,
    Select,
    Var,
    children,
)
from ..dims import Atom, Dim, DimExpr, Op, Sym, bounds, coefficient, free_symbols, substitute
from ..dtypes import DType, bool_, float32, int64
from ..errors import InternalError
from .arithmetic import Arithmetic
from .kernel.ir import Buffer
from .llvm_text import (
    FunctionText,
    constant,
    memory_type,
    splat_constant,
    value_type,
)
from .vector_math import FUNCTIONS as MATH

ZEROS = "@flowmill_zeros"  # constant memory that masked-off scalar accesses read
ZERO_BYTES = 1024


@dataclass
class Lanes:
    """The enclosing vector loop: its index symbol, lane count, and mask of active lanes."""

    sym: Sym
    count: int
    active: str | None


@dataclass(frozen=True)
class Operand:
    """An SSA value: `text` is its name or literal; lanes is 1 for a scalar."""

    text: str
    lanes: int


class Expressions(Arithmetic):
    """Evaluates expressions within a function under construction."""

    def __init__(self, out: FunctionText, buffers: dict[str, Buffer]) -> None:
        super().__init__(out)
        self.buffers = buffers
        self.pointers: dict[str, str] = {}
        self.level: dict[Sym, int] = {}  # scope in which a symbol's value exists
        self.values: dict[Sym, str] = {}
        self.constants: dict[Sym, int] = {}  # symbols of unrolled loops
        self.lets: dict[str, tuple[Operand, int]] = {}
        self.registers: dict[str, dict[tuple[int, ...], Operand]] = {}
        self.versions: dict[str, int] = {}  # of written buffers, for reuse of loads
        self.lanes: Lanes | None = None
        self._sources: dict[Expr, frozenset[str]] = {}
        self._varying: dict[Expr, bool] = {}
        self._symbols: dict[Expr, frozenset[Sym]] = {}

    # --- dims -------------------------------------------------------------------------------

    def fixed(self, d: Dim) -> Dim:
        """`d` with the symbols of unrolled loops replaced by their values."""
        return substitute(d, self.constants)

    def dim_level(self, d: Dim) -> int:
        """The outermost scope in which `d` can be computed."""
        return max((self.level[s] for s in free_symbols(d)), default=0)

    def dim(self, d: Dim) -> str:
        """`d` as an i64, computed in the outermost possible scope. Lane-free."""
        d = self.fixed(d)
        if isinstance(d, int):
            return str(d)
        return self._dim(d, self.dim_level(d))

    def _dim(self, d: DimExpr, at: int) -> str:
        key = ("dim", d)
        known = self.out.scopes[at].known.get(key)
        if known is None:
            total: str | None = None
            for m, c in d.terms:
                term: str | None = None
                for atom in m:
                    text = self._atom(atom, at)
                    term = text if term is None else self._int("mul nsw", term, text, at)
                if term is None:
                    term = str(c)
                elif c != 1:
                    term = self._int("mul nsw", term, str(c), at)
                total = term if total is None else self._int("add nsw", total, term, at)
            known = total or "0"
            self.out.scopes[at].known[key] = known
        return known

    def _int(self, op: str, a: str, b: str, at: int) -> str:
        return self.out.emit(f"{op} i64 {a}, {b}", at)

    def _atom(self, atom: object, at: int) -> str:
        if isinstance(atom, Sym):
            return self.values[atom]
        if not isinstance(atom, Op):
            raise InternalError(f"unknown atom {atom!r}")
        a = self.dim(atom.a)
        b = self.dim(atom.b)
        if atom.kind in ("min", "max"):
            test = self._int(f"icmp {'slt' if atom.kind == 'min' else 'sgt'}", a, b, at)
            return self.out.emit(f"select i1 {test}, i64 {a}, i64 {b}", at)
        low, _ = bounds(atom.a)
        if low is not None and low >= 0:
            return self._int("udiv" if atom.kind == "floordiv" else "urem", a, b, at)
        rest = self._int("srem", a, b, at)
        negative = self._int("icmp slt", rest, "0", at)
        if atom.kind == "mod":
            lifted = self._int("add", rest, b, at)
            return self.out.emit(f"select i1 {negative}, i64 {lifted}, i64 {rest}", at)
        quotient = self._int("sdiv", a, b, at)
        less = self._int("sub", quotient, "1", at)
        return self.out.emit(f"select i1 {negative}, i64 {less}, i64 {quotient}", at)

    def dim_lanes(self, d: Dim) -> Operand:
        """`d` for every lane, or a scalar where lanes agree."""
        d = self.fixed(d)
        lanes = self.lanes
        if lanes is None or lanes.sym not in free_symbols(d):
            return Operand(self.dim(d), 1)
        k = coefficient(d, lanes.sym)
        n = lanes.count
        if isinstance(k, int) and isinstance(d, DimExpr):
            ramp = ", ".join(f"i64 {i * k}" for i in range(n))
            base = self.splat(Operand(self.dim(d - k * _dim_of(lanes.sym)), 1), int64)
            return Operand(self.out.emit(f"add <{n} x i64> {base}, <{ramp}>"), n)
        total: Operand | None = None
        assert isinstance(d, DimExpr)
        for m, c in d.terms:
            term = Operand(splat_constant(str(c), "i64", n), n)
            for atom in m:
                factor = self._atom_lanes(atom)
                term = Operand(self.out.emit(f"mul <{n} x i64> {term.text}, {factor}"), n)
            total = term if total is None else Operand(
                self.out.emit(f"add <{n} x i64> {total.text}, {term.text}"), n)  # fmt: skip
        assert total is not None
        return total

    def _atom_lanes(self, atom: object) -> str:
        assert self.lanes is not None
        n = self.lanes.count
        one = DimExpr((((atom,), 1),))  # type: ignore[arg-type]
        if self.lanes.sym not in free_symbols(one) or isinstance(atom, Sym):
            return self.splat(self.dim_lanes(one), int64)
        assert isinstance(atom, Op)
        a, b = (self.splat(self.dim_lanes(x), int64) for x in (atom.a, atom.b))
        emit = self.out.emit
        if atom.kind in ("min", "max"):
            test = emit(f"icmp {'slt' if atom.kind == 'min' else 'sgt'} <{n} x i64> {a}, {b}")
            return emit(f"select <{n} x i1> {test}, <{n} x i64> {a}, <{n} x i64> {b}")
        low, high = bounds(self.fixed(atom.a))
        if low is not None and low >= 0:
            op = "udiv" if atom.kind == "floordiv" else "urem"
            if high is not None and high < 1 << 31:  # 32-bit division by a constant is a multiply
                narrow = [emit(f"trunc <{n} x i64> {x} to <{n} x i32>") for x in (a, b)]
                small = emit(f"{op} <{n} x i32> {narrow[0]}, {narrow[1]}")
                return emit(f"zext <{n} x i32> {small} to <{n} x i64>")
            return emit(f"{op} <{n} x i64> {a}, {b}")
        rest = emit(f"srem <{n} x i64> {a}, {b}")
        negative = emit(f"icmp slt <{n} x i64> {rest}, zeroinitializer")
        if atom.kind == "mod":
            lifted = emit(f"add <{n} x i64> {rest}, {b}")
            return emit(f"select <{n} x i1> {negative}, <{n} x i64> {lifted}, <{n} x i64> {rest}")
        quotient = emit(f"sdiv <{n} x i64> {a}, {b}")
        step = emit(f"sext <{n} x i1> {negative} to <{n} x i64>")
        return emit(f"add <{n} x i64> {quotient}, {step}")

    # --- helpers ----------------------------------------------------------------------------

    def splat(self, x: Operand, dtype: DType) -> str:
        """x with one element per lane of the enclosing vector loop."""
        if self.lanes is None or x.lanes == self.lanes.count:
            return x.text
        n = self.lanes.count
        element = value_type(dtype)
        if not x.text.startswith("%"):
            return splat_constant(x.text, element, n)
        key = ("splat", x.text, n)
        for scope in reversed(self.out.scopes):
            if key in scope.known:
                return scope.known[key]
        one = self.out.emit(f"insertelement <{n} x {element}> poison, {element} {x.text}, i64 0")
        made = self.out.emit(f"shufflevector <{n} x {element}> {one}, <{n} x {element}> poison, "
                             f"<{n} x i32> zeroinitializer")  # fmt: skip
        self.out.scope.known[key] = made
        return made

    def sources(self, e: Expr) -> frozenset[str]:
        """Buffers `e` loads from."""
        found = self._sources.get(e)
        if found is None:
            mine = {e.buffer} if isinstance(e, Load | LaneReduce) else set()
            found = frozenset(mine.union(*(self.sources(c) for c in children(e))))
            self._sources[e] = found
        return found

    def symbols(self, e: Expr) -> frozenset[Sym]:
        """Symbols in the indices of `e`."""
        found = self._symbols.get(e)
        if found is None:
            mine: frozenset[Sym] = frozenset()
            if isinstance(e, Index):
                mine = free_symbols(e.dim)
            elif isinstance(e, Load | LaneReduce):
                for i in e.indices:
                    if not isinstance(i, Expr):
                        mine |= free_symbols(i)
            found = frozenset(mine.union(*(self.symbols(c) for c in children(e))))
            self._symbols[e] = found
        return found

    def varies(self, e: Expr) -> bool:
        """Whether lanes differ in `e`."""
        if self.lanes is None:
            return False
        found = self._varying.get(e)
        if found is None:
            s = self.lanes.sym
            if isinstance(e, Index):
                found = s in free_symbols(e.dim)
            elif isinstance(e, Var):
                found = self.lets[e.name][0].lanes > 1
            elif isinstance(e, LaneReduce):
                found = False
            else:
                found = any(self.varies(c) for c in children(e)) or (
                    isinstance(e, Load)
                    and any(s in free_symbols(i) for i in e.indices if not isinstance(i, Expr))
                )
            self._varying[e] = found
        return found

    def enter_lanes(self, lanes: Lanes | None) -> None:
        """Begins (or ends, with None) a vector loop."""
        self.lanes = lanes
        self._varying.clear()

    # --- expressions ------------------------------------------------------------------------

    def value(self, e: Expr) -> Operand:
        """`e` as an SSA value; scalar where lanes agree."""
        if isinstance(e, Const):
            if e.dtype.name == "bfloat16":
                return self._cast(Const(e.value, float32), e.dtype)
            return Operand(constant(e.value, e.dtype), 1)
        if isinstance(e, Var):
            return self.lets[e.name][0]
        if isinstance(e, Load) and self.buffers[e.buffer].space == "register":
            return self._register(e)
        versions = tuple((b, self.versions[b]) for b in sorted(self.sources(e))
                         if b in self.versions)  # fmt: skip
        used = self.symbols(e)
        unrolled = tuple((s, v) for s, v in self.constants.items() if s in used)
        varies = self.lanes is not None and self.varies(e)
        key = (e, versions, unrolled, self.lanes.count if self.lanes and varies else 1)
        for scope in reversed(self.out.scopes):
            found = scope.known.get(key)
            if found is not None:
                return Operand(found, key[3])
        made = self._compute(e)
        if made.lanes != key[3]:
            made = Operand(self.splat(made, e.dtype), key[3])
        self.out.scope.known[key] = made.text
        return made

    def _compute(self, e: Expr) -> Operand:
        if isinstance(e, Index):
            return self.dim_lanes(e.dim)
        if isinstance(e, Load):
            return self.load(e)
        if isinstance(e, Apply):
            return self._apply(e)
        if isinstance(e, Cast):
            return self._cast(e.x, e.dtype)
        if isinstance(e, LaneReduce):
            return self._lane_reduce(e)
        n = self._lane_count(e)
        if isinstance(e, Select):
            cond, yes, no = (self._as(x, n) for x in (e.cond, e.yes, e.no))
            t = value_type(e.dtype, n)
            return Operand(self.out.emit(
                f"select {value_type(e.cond.dtype, n)} {cond}, {t} {yes}, {t} {no}"), n)  # fmt: skip
        if isinstance(e, Bitcast):
            x = self._as(e.x, n)
            source, to = value_type(e.x.dtype, n), value_type(e.dtype, n)
            return Operand(x if source == to else
                           self.out.emit(f"bitcast {source} {x} to {to}"), n)  # fmt: skip
        raise InternalError(f"cannot emit {type(e).__name__}")

    def _lane_count(self, e: Expr) -> int:
        return self.lanes.count if self.lanes is not None and self.varies(e) else 1

    def _as(self, e: Expr, lanes: int) -> str:
        x = self.value(e)
        return x.text if lanes == 1 else self.splat(x, e.dtype)

    def _apply(self, e: Apply) -> Operand:
        n = self._lane_count(e)
        dtype = e.args[0].dtype
        t = value_type(dtype, n)
        args = [self._as(a, n) for a in e.args]
        if e.fn == "fma" or (e.fn in MATH and dtype.is_float and e.fn not in ("sqrt",)):
            return Operand(self.math(e.fn, args, dtype, n), n)
        if dtype.is_float:
            return Operand(self.float_op(e, args, dtype, t, n), n)
        return Operand(self.integer_op(e, args, dtype, t, n), n)

    def _cast(self, source: Expr, to: DType) -> Operand:
        n = self._lane_count(source)
        x = self._as(source, n)
        return Operand(self.convert(x, source.dtype, to, n), n)

    def _lane_reduce(self, e: LaneReduce) -> Operand:
        at = tuple(_number(self.fixed(i)) for i in e.indices)
        x = self.registers[e.buffer][at]
        text, n = x.text, x.lanes
        element = value_type(e.dtype)
        while n > 1:
            half = n // 2
            t = f"<{n} x {element}>"
            picks = [", ".join(f"i32 {i + k}" for i in range(half)) for k in (0, half)]
            low, high = (self.out.emit(f"shufflevector {t} {text}, {t} poison, "
                                       f"<{half} x i32> <{p}>") for p in picks)  # fmt: skip
            text = self.combine(e.fn, low, high, e.dtype, half)
            if half == 1:
                text = self.out.emit(f"extractelement <1 x {element}> {text}, i64 0")
            n = half
        return Operand(text, 1)

    # --- memory -----------------------------------------------------------------------------

    def _register(self, e: Load) -> Operand:
        name, at = e.buffer, self.register_key(e.indices)
        found = self.registers[name].get(at)
        if found is None:
            raise InternalError(f"register {name}{list(at)} is read before it is written")
        return found

    def register_key(self, indices: tuple[IndexLike, ...]) -> tuple[int, ...]:
        """The constant part of a register access: the lane index, if present, is dropped."""
        fixed = [self.fixed(i) for i in indices if not isinstance(i, Expr)]
        if self.lanes is not None and fixed and fixed[-1] == _dim_of(self.lanes.sym):
            fixed = fixed[:-1]
        return tuple(_number(i) for i in fixed)

    def load(self, e: Load) -> Operand:
        """A memory load; masked lanes read nothing and give zero."""
        buffer = self.buffers[e.buffer]
        varying = self.varies(e)
        m = memory_type(buffer.dtype)
        mask = self.guarded(buffer, e.indices, None if e.mask is None else self.value(e.mask))
        if not varying:
            pointer = self.pointer(buffer, e.indices)
            if mask is not None:
                pointer = self.out.emit(f"select i1 {mask.text}, ptr {pointer}, ptr {ZEROS}")
            raw = self.out.emit(f"load {m}, ptr {pointer}, align {buffer.dtype.itemsize}")
            return Operand(self.from_memory(raw, buffer.dtype, 1), 1)
        assert self.lanes is not None
        n = self.lanes.count
        t = f"<{n} x {m}>"
        size = buffer.dtype.itemsize
        stride = self.lane_stride(buffer, e.indices)
        lane_mask = self.lanes.active
        if stride == 1:
            pointer = self.pointer(buffer, self.at_lane_zero(e.indices))
            if mask is not None and mask.lanes == 1:
                pointer = self.out.emit(f"select i1 {mask.text}, ptr {pointer}, ptr {ZEROS}")
                if n * size > ZERO_BYTES:
                    raise InternalError("a vector is wider than the zero page")
            elif mask is not None:
                lane_mask = self._both(lane_mask, mask.text, n)
            if lane_mask is None:
                raw = self.out.emit(f"load {t}, ptr {pointer}, align {size}")
            else:
                name = f"llvm.masked.load.v{n}{_suffix(m)}.p0"
                self.out.declarations.add(f"declare {t} @{name}(ptr, <{n} x i1>, {t})")
                raw = self.out.emit(f"call {t} @{name}(ptr align {size} {pointer}, "
                                    f"<{n} x i1> {lane_mask}, {t} zeroinitializer)")  # fmt: skip
            return Operand(self.from_memory(raw, buffer.dtype, n), n)
        if mask is not None:
            lane_mask = self._both(lane_mask, self.splat(mask, bool_), n)
        pointers = self.pointers_of(buffer, e.indices)
        name = f"llvm.masked.gather.v{n}{_suffix(m)}.v{n}p0"
        self.out.declarations.add(f"declare {t} @{name}(<{n} x ptr>, <{n} x i1>, {t})")
        every = lane_mask or splat_constant("true", "i1", n)
        raw = self.out.emit(f"call {t} @{name}(<{n} x ptr> align {size} {pointers}, "
                            f"<{n} x i1> {every}, {t} zeroinitializer)")  # fmt: skip
        return Operand(self.from_memory(raw, buffer.dtype, n), n)

    def guarded(
        self, buffer: Buffer, indices: tuple[IndexLike, ...], mask: Operand | None
    ) -> Operand | None:
        """The mask of an access; `bounds.CheckedExpressions` looks at the indices as well."""
        return mask

    def _both(self, a: str | None, b: str, n: int) -> str:
        return b if a is None else self.out.emit(f"and <{n} x i1> {a}, {b}")

    def from_memory(self, raw: str, dtype: DType, n: int) -> str:
        """Bytes of bools become bits."""
        if dtype.kind != "b":
            return raw
        t = "i8" if n == 1 else f"<{n} x i8>"
        return self.out.emit(f"icmp ne {t} {raw}, {splat_constant('0', 'i8', n)}")

    def at_lane_zero(self, indices: tuple[IndexLike, ...]) -> tuple[IndexLike, ...]:
        """Indices with the lane index replaced by 0."""
        assert self.lanes is not None
        zero: dict[Sym, Dim] = {self.lanes.sym: 0}
        return tuple(i if isinstance(i, Expr) else substitute(self.fixed(i), zero)
                     for i in indices)  # fmt: skip

    def lane_stride(self, buffer: Buffer, indices: tuple[IndexLike, ...]) -> Dim | None:
        """Elements between lanes; None where it is not one number."""
        assert self.lanes is not None
        if any(isinstance(i, Expr) and self.varies(i) for i in indices):
            return None
        flat = self.linear(buffer, [0 if isinstance(i, Expr) else i for i in indices])
        return coefficient(flat, self.lanes.sym)

    def linear(self, buffer: Buffer, indices: list[Dim]) -> Dim:
        """The row-major element offset."""
        flat: Dim = 0
        for i, size in zip(indices, buffer.shape):
            flat = flat * size + self.fixed(i)
        return flat

    def pointer(self, buffer: Buffer, indices: tuple[IndexLike, ...]) -> str:
        """The address of one element. Terms are added from the outermost scope inwards, so that
        inner loops add only what changes in them, and constants come last as displacements."""
        m = memory_type(buffer.dtype)
        flat = self.linear(buffer, [0 if isinstance(i, Expr) else i for i in indices])
        by_level: dict[int, dict[tuple[Atom, ...], int]] = {}
        displacement = 0
        if isinstance(flat, int):
            displacement = flat
        else:
            for mono, c in flat.terms:
                if not mono:
                    displacement = c
                    continue
                level = self.dim_level(DimExpr(((mono, 1),)))
                by_level.setdefault(level, {})[mono] = c
        pointer = self.pointers[buffer.name]
        for level in sorted(by_level):
            part = DimExpr(tuple(sorted(by_level[level].items(),
                                        key=lambda t: (-len(t[0]), [a.key for a in t[0]]))))  # fmt: skip
            key = ("gep", pointer, part)
            known = self.out.scopes[level].known.get(key)
            if known is None:
                offset = self._dim(part, level)
                known = self.out.emit(f"getelementptr {m}, ptr {pointer}, i64 {offset}", level)
                self.out.scopes[level].known[key] = known
            pointer = known
        for k, i in enumerate(indices):
            if isinstance(i, Expr):
                at = self.convert(self.value(i).text, i.dtype, int64, 1)
                stride: Dim = 1
                for size in buffer.shape[k + 1 :]:
                    stride = stride * size
                step = self.out.emit(f"mul nsw i64 {at}, {self.dim(stride)}")
                pointer = self.out.emit(f"getelementptr {m}, ptr {pointer}, i64 {step}")
        if displacement:
            last = ("gep", pointer, displacement)
            for scope in reversed(self.out.scopes):
                if last in scope.known:
                    return scope.known[last]
            made = self.out.emit(f"getelementptr {m}, ptr {pointer}, i64 {displacement}")
            self.out.scope.known[last] = made
            pointer = made
        return pointer

    def pointers_of(self, buffer: Buffer, indices: tuple[IndexLike, ...]) -> str:
        """One address per lane."""
        assert self.lanes is not None
        n = self.lanes.count
        m = memory_type(buffer.dtype)
        total: str | None = None
        for k, i in enumerate(indices):
            if isinstance(i, Expr):
                x = self.value(i)
                wide = self.convert(x.text, i.dtype, int64, x.lanes)
                at = self.splat(Operand(wide, x.lanes), int64)
            else:
                if i == 0:
                    continue
                at = self.splat(self.dim_lanes(i), int64)
            stride: Dim = 1
            for size in buffer.shape[k + 1 :]:
                stride = stride * size
            if stride != 1:
                step = self.splat(Operand(self.dim(stride), 1), int64)
                at = self.out.emit(f"mul <{n} x i64> {at}, {step}")
            total = at if total is None else self.out.emit(f"add <{n} x i64> {total}, {at}")
        base = self.pointers[buffer.name]
        return self.out.emit(f"getelementptr {m}, ptr {base}, <{n} x i64> "
                             f"{total or 'zeroinitializer'}")  # fmt: skip


def _suffix(memory: str) -> str:
    return {"half": "f16", "float": "f32", "double": "f64"}.get(memory, memory)


def _dim_of(s: Sym) -> DimExpr:
    return DimExpr((((s,), 1),))


def _number(d: Dim) -> int:
    if not isinstance(d, int):
        raise InternalError(f"register index {d!r} is not constant")
    return d
