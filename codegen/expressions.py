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
from ..dims import Atom, Dim, DimExpr, Sym, coefficient, free_symbols, substitute
from ..dtypes import DType, bool_, float32, int32, int64
from ..errors import InternalError
from .dimensions import Dimensions, Lanes, Operand, dim_of
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


@dataclass(frozen=True)
class Uses:
    """What the value of an expression depends on: buffers it loads from, symbols in its indices,
    values that were named (a name may stand for another one in the next block)."""

    buffers: frozenset[str]
    symbols: frozenset[Sym]
    names: frozenset[str]


class Expressions(Dimensions):
    """Evaluates expressions within a function under construction."""

    def __init__(self, out: FunctionText, buffers: dict[str, Buffer]) -> None:
        super().__init__(out)
        self.buffers = buffers
        self.pointers: dict[str, str] = {}
        self.lets: dict[str, tuple[Operand, int]] = {}
        self.registers: dict[str, dict[tuple[int, ...], Operand]] = {}
        self.versions: dict[str, int] = {}  # of what is stored to, for reuse of what was read
        self._uses: dict[Expr, Uses] = {}
        self._varying: dict[Expr, bool] = {}

    # --- helpers ----------------------------------------------------------------------------

    def changed(self, *names: str) -> None:
        """Notes that buffers may hold something else from here on."""
        for name in names:
            self.versions[name] = self.versions.get(name, -1) + 1

    def uses(self, e: Expr) -> Uses:
        """What `e` depends on."""
        found = self._uses.get(e)
        if found is None:
            below = [self.uses(c) for c in children(e)]
            symbols: frozenset[Sym] = frozenset()
            if isinstance(e, Index):
                symbols = free_symbols(e.dim)
            elif isinstance(e, Load | LaneReduce):
                for i in e.indices:
                    if not isinstance(i, Expr):
                        symbols |= free_symbols(i)
            buffers = {e.buffer} if isinstance(e, Load | LaneReduce) else set()
            names = {e.name} if isinstance(e, Var) else set()
            found = self._uses[e] = Uses(
                frozenset(buffers.union(*(u.buffers for u in below))),
                frozenset(symbols.union(*(u.symbols for u in below))),
                frozenset(names.union(*(u.names for u in below))),
            )
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
        uses = self.uses(e)
        versions = tuple((b, self.versions[b]) for b in sorted(uses.buffers) if b in self.versions)
        unrolled = tuple((s, v) for s, v in self.constants.items() if s in uses.symbols)
        named = tuple(self.lets[x][0].text for x in sorted(uses.names))
        varies = self.lanes is not None and self.varies(e)
        key = (e, versions, unrolled, named, self.lanes.count if self.lanes and varies else 1)
        for scope in reversed(self.out.scopes):
            found = scope.known.get(key)
            if found is not None:
                return Operand(found, key[4])
        made = self._compute(e)
        if made.lanes != key[4]:
            made = Operand(self.splat(made, e.dtype), key[4])
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
        if dtype.is_float and (e.fn == "fma" or (e.fn in MATH and e.fn != "sqrt")):
            return Operand(self.math(e.fn, args, dtype, n), n)
        if dtype.is_float:
            return Operand(self.float_op(e, args, dtype, t, n), n)
        return Operand(self.integer_op(e, args, dtype, t, n), n)

    def _cast(self, source: Expr, to: DType) -> Operand:
        if isinstance(source, Index) and to == int32:
            return self.dim_lanes(source.dim, to)
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
        if self.lanes is not None and fixed and fixed[-1] == dim_of(self.lanes.sym):
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


def _number(d: Dim) -> int:
    if not isinstance(d, int):
        raise InternalError(f"register index {d!r} is not constant")
    return d
