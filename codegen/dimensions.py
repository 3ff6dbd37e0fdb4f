"""Dimensions and indices of the kernel language to LLVM instructions.

In: a `Dim`, inside the emitter's current loops. Out: the name of its value, scalar or one per lane
of the enclosing vector loop. Scalars are computed in the outermost scope where they can be.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..dims import Dim, DimExpr, Op, Sym, bounds, coefficient, free_symbols, substitute
from ..dtypes import DType, int64
from ..errors import InternalError
from .arithmetic import Arithmetic
from .llvm_text import FunctionText, splat_constant, value_type


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


class Dimensions(Arithmetic):
    """Evaluates dimensions within a function under construction."""

    def __init__(self, out: FunctionText) -> None:
        super().__init__(out)
        self.level: dict[Sym, int] = {}  # scope in which a symbol's value exists
        self.values: dict[Sym, str] = {}
        self.constants: dict[Sym, int] = {}  # symbols of unrolled loops
        self.lanes: Lanes | None = None

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
        least, _ = bounds(atom.b)
        if least is None or least < 1:  # a size may be 0: nothing is then done with the quotient
            some = self._int("icmp sgt", b, "0", at)
            b = self.out.emit(f"select i1 {some}, i64 {b}, i64 1", at)
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

    def dim_lanes(self, d: Dim, dtype: DType = int64) -> Operand:
        """`d` for every lane, or a scalar where lanes agree. In int32 the last 32 bits of it, which
        are those of its terms added up."""
        d = self.fixed(d)
        lanes = self.lanes
        if lanes is None or lanes.sym not in free_symbols(d):
            return Operand(self._narrow(self.dim(d), dtype), 1)
        k = coefficient(d, lanes.sym)
        n = lanes.count
        if isinstance(k, int) and isinstance(d, DimExpr):
            t = value_type(dtype)
            ramp = ", ".join(f"{t} {i * k}" for i in range(n))
            first = self._narrow(self.dim(d - k * dim_of(lanes.sym)), dtype)
            base = self.splat(Operand(first, 1), dtype)
            return Operand(self.out.emit(f"add <{n} x {t}> {base}, <{ramp}>"), n)
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
        return Operand(self.convert(total.text, int64, dtype, n), n)

    def _narrow(self, x: str, dtype: DType) -> str:
        """The last bits of an i64."""
        return x if dtype == int64 or not x.startswith("%") else self.convert(x, int64, dtype, 1)

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
        least, _ = bounds(self.fixed(atom.b))
        if least is None or least < 1:
            ones = splat_constant("1", "i64", n)
            some = emit(f"icmp sgt <{n} x i64> {b}, zeroinitializer")
            b = emit(f"select <{n} x i1> {some}, <{n} x i64> {b}, <{n} x i64> {ones}")
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


def dim_of(s: Sym) -> DimExpr:
    return DimExpr((((s,), 1),))
