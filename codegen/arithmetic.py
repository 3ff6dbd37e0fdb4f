"""Functions of `algorithm.FUNCTIONS` on SSA values: arithmetic, comparisons, conversions.

In: names or literals of operands that have the same number of lanes. Out: the name of the result.
Semantics are those `algorithm` documents; nothing traps, whatever the values.
"""

from __future__ import annotations

from ..algorithm import Apply, Const, Var
from ..dtypes import DType, float32, int32, uint32
from ..errors import InternalError
from .float_division import FloatDivision
from .llvm_math import LlvmMath
from .llvm_text import FunctionText, constant, splat_constant, value_type, vector_suffix
from .vector_math import FUNCTIONS as MATH

_INT_OPS = {"add": "add", "sub": "sub", "mul": "mul", "and": "and", "or": "or", "xor": "xor",
            "shl": "shl"}  # fmt: skip
_FLOAT_OPS = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
_FLOAT_COMPARE = {"eq": "oeq", "ne": "une", "lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge"}
_INT_COMPARE = {"eq": "eq", "ne": "ne", "lt": "lt", "le": "le", "gt": "gt", "ge": "ge"}
_ROUNDING = {"floor": "floor", "ceil": "ceil", "round": "rint", "trunc": "trunc", "sqrt": "sqrt"}


class Arithmetic:
    """Writes instructions to a function under construction."""

    def __init__(self, out: FunctionText) -> None:
        self.out = out

    def math(self, fn: str, args: list[str], dtype: DType, n: int) -> str:
        suffix = vector_suffix(dtype, n)
        t = value_type(dtype, n)
        if fn == "fma":
            call = self.out.intrinsic(t, f"llvm.fma.{suffix}", *(f"{t} {a}" for a in args))
            return self.out.emit(call)
        ops = LlvmMath(self.out.emit, n, dtype.bits)
        made: str = MATH[fn](ops, *args)
        self.out.declarations |= ops.declarations
        return made

    def float_op(self, e: Apply, args: list[str], dtype: DType, t: str, n: int) -> str:
        emit, fn = self.out.emit, e.fn
        a = args[0]
        mask = "i1" if n == 1 else f"<{n} x i1>"
        zero = splat_constant(constant(0.0, dtype), value_type(dtype), n)
        if fn in _FLOAT_OPS:
            return emit(f"{_FLOAT_OPS[fn]} {t} {a}, {args[1]}")
        if fn in _FLOAT_COMPARE:
            return emit(f"fcmp {_FLOAT_COMPARE[fn]} {t} {a}, {args[1]}")
        if fn == "neg":
            return emit(f"fneg {t} {a}")
        if fn in _ROUNDING or fn == "abs":
            name = f"llvm.{_ROUNDING.get(fn, 'fabs')}.{vector_suffix(dtype, n)}"
            return emit(self.out.intrinsic(t, name, f"{t} {a}"))
        if fn in ("min", "max"):
            order = "ogt" if fn == "max" else "olt"
            b = args[1]
            for k, x in enumerate(e.args):  # one compare when an operand cannot be NaN
                if isinstance(x, Const) and x.value == x.value:
                    keep, other = args[k], args[1 - k]
                    test = emit(f"fcmp {order} {t} {keep}, {other}")
                    return emit(f"select {mask} {test}, {t} {keep}, {t} {other}")
            test = emit(f"fcmp {order} {t} {a}, {b}")
            best = emit(f"select {mask} {test}, {t} {a}, {t} {b}")
            nan = emit(f"fcmp uno {t} {a}, {zero}")
            return emit(f"select {mask} {nan}, {t} {a}, {t} {best}")
        if fn == "sign":
            one, minus = (splat_constant(constant(v, dtype), value_type(dtype), n)
                          for v in (1.0, -1.0))  # fmt: skip
            up, down = emit(f"fcmp ogt {t} {a}, {zero}"), emit(f"fcmp olt {t} {a}, {zero}")
            low = emit(f"select {mask} {down}, {t} {minus}, {t} {a}")
            return emit(f"select {mask} {up}, {t} {one}, {t} {low}")
        if fn == "isnan":
            return emit(f"fcmp uno {t} {a}, {zero}")
        if fn in ("isinf", "isfinite"):
            inf = splat_constant(constant(float("inf"), dtype), value_type(dtype), n)
            name = f"llvm.fabs.{vector_suffix(dtype, n)}"
            size = emit(self.out.intrinsic(t, name, f"{t} {a}"))
            return emit(f"fcmp {'oeq' if fn == 'isinf' else 'one'} {t} {size}, {inf}")
        if fn in ("floordiv", "mod"):
            return FloatDivision(self.out, dtype, n).apply(fn, a, args[1])
        raise InternalError(f"cannot emit {fn} of {dtype}")

    def integer_op(self, e: Apply, args: list[str], dtype: DType, t: str, n: int) -> str:
        emit, fn = self.out.emit, e.fn
        a = args[0]
        signed = dtype.kind == "i"
        mask = "i1" if n == 1 else f"<{n} x i1>"
        element = value_type(dtype)
        zero, ones = (splat_constant(c, element, n) for c in
                      (("0", "-1") if dtype.kind != "b" else ("false", "true")))  # fmt: skip
        if fn in _INT_OPS:
            return emit(f"{_INT_OPS[fn]} {t} {a}, {args[1]}")
        if fn in _INT_COMPARE:
            sign = "" if fn in ("eq", "ne") else "s" if signed else "u"
            return emit(f"icmp {sign}{_INT_COMPARE[fn]} {t} {a}, {args[1]}")
        if fn == "fma":
            return emit(f"add {t} {emit(f'mul {t} {a}, {args[1]}')}, {args[2]}")
        if fn == "shr":
            return emit(f"{'ashr' if signed else 'lshr'} {t} {a}, {args[1]}")
        if fn == "not":
            return emit(f"xor {t} {a}, {ones}")
        if fn == "neg":
            return emit(f"sub {t} {zero}, {a}")
        if fn in ("min", "max"):
            order = ("s" if signed else "u") + ("gt" if fn == "max" else "lt")
            test = emit(f"icmp {order} {t} {a}, {args[1]}")
            return emit(f"select {mask} {test}, {t} {a}, {t} {args[1]}")
        if fn in ("abs", "sign"):
            down = emit(f"icmp slt {t} {a}, {zero}") if signed else splat_constant("false", "i1", n)
            if fn == "abs":
                minus = emit(f"sub {t} {zero}, {a}")
                return emit(f"select {mask} {down}, {t} {minus}, {t} {a}")
            test = emit(f"icmp ne {t} {a}, {zero}")
            one = emit(f"zext {mask} {test} to {t}")
            return emit(f"select {mask} {down}, {t} {ones}, {t} {one}")
        if fn in ("floordiv", "mod", "div"):
            return self._integer_division(fn, a, args[1], t, mask, zero, ones, signed)
        raise InternalError(f"cannot emit {fn} of {dtype}")

    def _integer_division(self, fn: str, a: str, b: str, t: str, mask: str, zero: str, ones: str,
                          signed: bool) -> str:  # fmt: skip
        """Floor division without traps: by one instead of zero, which masked lanes load, and the
        minimum over -1 wraps."""
        emit = self.out.emit
        one = emit(f"sub {t} {zero}, {ones}")
        if b == zero or b.startswith("%"):
            none = emit(f"icmp eq {t} {b}, {zero}")
            b = emit(f"select {mask} {none}, {t} {one}, {t} {b}")
        if not signed:
            return emit(f"{'urem' if fn == 'mod' else 'udiv'} {t} {a}, {b}")
        minus_one = emit(f"icmp eq {t} {b}, {ones}")
        safe = emit(f"select {mask} {minus_one}, {t} {one}, {t} {b}")
        quotient, rest = emit(f"sdiv {t} {a}, {safe}"), emit(f"srem {t} {a}, {safe}")
        flipped = emit(f"xor {t} {rest}, {safe}")
        inexact = emit(f"icmp ne {t} {rest}, {zero}")
        opposite = emit(f"icmp slt {t} {flipped}, {zero}")
        adjust = emit(f"and {mask} {inexact}, {opposite}")
        if fn == "mod":
            lifted = emit(f"add {t} {rest}, {safe}")
            return emit(f"select {mask} {adjust}, {t} {lifted}, {t} {rest}")
        less = emit(f"add {t} {quotient}, {ones}")
        floor = emit(f"select {mask} {adjust}, {t} {less}, {t} {quotient}")
        minus = emit(f"sub {t} {zero}, {a}")
        return emit(f"select {mask} {minus_one}, {t} {minus}, {t} {floor}")

    def convert(self, x: str, source: DType, to: DType, n: int) -> str:
        emit = self.out.emit
        a, b = value_type(source, n), value_type(to, n)
        if source == to:
            return x
        if source.name == "bfloat16":
            wide = emit(f"zext {a} {x} to {value_type(uint32, n)}")
            shift = splat_constant("16", "i32", n)
            high = emit(f"shl {value_type(uint32, n)} {wide}, {shift}")
            real = emit(f"bitcast {value_type(uint32, n)} {high} to {value_type(float32, n)}")
            return self.convert(real, float32, to, n)
        if to.name == "bfloat16":
            return self._to_bfloat16(self.convert(x, source, float32, n), n)
        if source.is_float and to.is_float:
            if source.bits == 64 and to.bits == 16:
                return self.convert(self._round_to_odd(x, n), float32, to, n)
            return emit(f"{'fpext' if to.bits > source.bits else 'fptrunc'} {a} {x} to {b}")
        if to.kind == "b":
            zero = splat_constant(constant(0, source), value_type(source), n)
            return emit(f"{'fcmp une' if source.is_float else 'icmp ne'} {a} {x}, {zero}")
        if source.is_float:
            if source.bits == 16:
                return self.convert(self.convert(x, source, float32, n), float32, to, n)
            kind = "fptosi" if to.kind == "i" else "fptoui"
            name = f"llvm.{kind}.sat.{vector_suffix(to, n)}.{vector_suffix(source, n)}"
            return emit(self.out.intrinsic(b, name, f"{a} {x}"))
        if to.is_float:
            if to.bits == 16:
                return self.convert(self.convert(x, source, float32, n), float32, to, n)
            return emit(f"{'sitofp' if source.kind == 'i' else 'uitofp'} {a} {x} to {b}")
        if source.kind == "b" or to.bits > source.bits:
            return emit(f"{'sext' if source.kind == 'i' else 'zext'} {a} {x} to {b}")
        return x if a == b else emit(f"trunc {a} {x} to {b}")

    def _to_bfloat16(self, x: str, n: int) -> str:
        """Round to nearest even on the bits; NaN stays NaN."""
        emit, t = self.out.emit, value_type(uint32, n)

        def lit(v: int) -> str:
            return splat_constant(constant(v, uint32), "i32", n)

        bits = emit(f"bitcast {value_type(float32, n)} {x} to {t}")
        odd = emit(f"and {t} {emit(f'lshr {t} {bits}, {lit(16)}')}, {lit(1)}")
        bias = emit(f"add {t} {odd}, {lit(0x7FFF)}")
        rounded = emit(f"lshr {t} {emit(f'add {t} {bits}, {bias}')}, {lit(16)}")
        quiet = emit(f"or {t} {emit(f'lshr {t} {bits}, {lit(16)}')}, {lit(0x40)}")
        nan = emit(f"fcmp uno {value_type(float32, n)} {x}, zeroinitializer" if n > 1 else
                   f"fcmp uno float {x}, 0x0000000000000000")  # fmt: skip
        mask = "i1" if n == 1 else f"<{n} x i1>"
        chosen = emit(f"select {mask} {nan}, {t} {quiet}, {t} {rounded}")
        return emit(f"trunc {t} {chosen} to {'i16' if n == 1 else f'<{n} x i16>'}")

    def _round_to_odd(self, x: str, n: int) -> str:
        """float64 to float32 such that rounding once more to 16 bits gives the right result."""
        emit, t, f = self.out.emit, value_type(int32, n), value_type(float32, n)
        d = "double" if n == 1 else f"<{n} x double>"
        mask = "i1" if n == 1 else f"<{n} x i1>"
        near = emit(f"fptrunc {d} {x} to {f}")
        back = emit(f"fpext {f} {near} to {d}")
        inexact = emit(f"fcmp one {d} {back}, {x}")
        sizes = [emit(self.out.intrinsic(d, f"llvm.fabs.{'f64' if n == 1 else f'v{n}f64'}",
                                         f"{d} {v}")) for v in (back, x)]  # fmt: skip
        above = emit(f"fcmp ogt {d} {sizes[0]}, {sizes[1]}")
        bits = emit(f"bitcast {f} {near} to {t}")
        down = emit(f"sext {mask} {above} to {t}")
        odd = emit(f"or {t} {emit(f'add {t} {bits}, {down}')}, {splat_constant('1', 'i32', n)}")
        chosen = emit(f"select {mask} {inexact}, {t} {odd}, {t} {bits}")
        return emit(f"bitcast {t} {chosen} to {f}")

    def combine(self, fn: str, a: str, b: str, dtype: DType, n: int) -> str:
        """One step of a reduction on raw SSA values (vectors even for one lane)."""
        t = f"<{n} x {value_type(dtype)}>"
        probe = Apply(fn, (Var("a", dtype), Var("b", dtype)), dtype)
        if n == 1:
            scalars = [self.out.emit(f"extractelement {t} {x}, i64 0") for x in (a, b)]
            made = (self.float_op if dtype.is_float else self.integer_op)(
                probe, scalars, dtype, value_type(dtype), 1)  # fmt: skip
            return self.out.emit(f"insertelement {t} poison, {value_type(dtype)} {made}, i64 0")
        return (self.float_op if dtype.is_float else self.integer_op)(probe, [a, b], dtype, t, n)
