"""Floor division and remainder of floats, as Python and NumPy define them, to LLVM instructions.

In: SSA names of dividend and divisor, scalars or vectors. Out: the SSA name of the result. The
remainder is exact; `a // b` is what follows from it, and never one off as floor(a / b) can be.
"""

from __future__ import annotations

from ..dtypes import DType
from .llvm_text import FunctionText, constant, splat_constant, value_type, vector_suffix


class FloatDivision:
    """Emits into `out`, for one dtype and number of lanes."""

    def __init__(self, out: FunctionText, dtype: DType, lanes: int) -> None:
        self.out, self.dtype, self.lanes = out, dtype, lanes
        self.t, self.element = value_type(dtype, lanes), value_type(dtype)
        self.i = value_type(dtype, lanes).replace(self.element, f"i{dtype.bits}")
        self.mask = "i1" if lanes == 1 else f"<{lanes} x i1>"
        self.fraction, self.bias = (23, 127) if dtype.bits == 32 else (52, 1023)

    def apply(self, fn: str, a: str, b: str) -> str:
        """`fn` ("mod" or "floordiv") of `a` and `b`."""
        emit, t = self.out.emit, self.t
        zero = self.real(0.0)
        rest = self.remainder(a, b)
        some = emit(f"fcmp one {t} {rest}, {zero}")
        signs = [emit(f"fcmp olt {t} {x}, {zero}") for x in (rest, b)]
        opposite = emit(f"xor {self.mask} {signs[0]}, {signs[1]}")
        lift = emit(f"and {self.mask} {some}, {opposite}")
        if fn == "mod":
            lifted = self.select(lift, emit(f"fadd {t} {rest}, {b}"), rest)
            none = emit(f"fcmp oeq {t} {rest}, {zero}")
            return self.select(none, self.call("copysign", zero, b), lifted)
        ratio = emit(f"fdiv {t} {a}, {b}")
        whole = emit(f"fdiv {t} {emit(f'fsub {t} {a}, {rest}')}, {b}")
        less = emit(f"fsub {t} {whole}, {self.real(1.0)}")
        whole = self.select(lift, less, whole)
        floor = self.call("floor", whole)
        short = emit(f"fcmp ogt {t} {emit(f'fsub {t} {whole}, {floor}')}, {self.real(0.5)}")
        floor = self.select(short, emit(f"fadd {t} {floor}, {self.real(1.0)}"), floor)
        none = emit(f"fcmp oeq {t} {whole}, {zero}")
        floor = self.select(none, self.call("copysign", zero, ratio), floor)
        return self.select(emit(f"fcmp oeq {t} {b}, {zero}"), ratio, floor)

    def remainder(self, a: str, b: str) -> str:
        """C's fmod: the sign of `a`, exact. Each round subtracts a whole multiple of b * 2^k, with
        k such that the multiple has fewer digits than a float: fma leaves no error. One round for
        ordinary quotients, 42 for the largest there are."""
        out, emit, t, i = self.out, self.out.emit, self.t, self.i
        inf, one, zero = self.real(float("inf")), self.real(1.0), self.integer(0)
        top, divisor = self.call("fabs", a), self.call("fabs", b)
        usable = [emit(f"fcmp one {t} {x}, {y}") for x, y in
                  ((top, inf), (divisor, inf), (divisor, self.real(0.0)))]  # fmt: skip
        x0 = self.select(usable[0], top, one)
        y = self.select(emit(f"and {self.mask} {usable[1]}, {usable[2]}"), divisor, one)
        ey = emit(f"add {i} {self.exponent(y)}, {self.integer(self.fraction - 1)}")
        before, head, leave = out.scope.label, out.new_label("round"), out.new_label("rest")
        x, following = out.name(), out.name()
        out.line(f"br label %{head}")
        out.start_block(head)
        out.line(f"{x} = phi {t} [{x0}, %{before}], [{following}, %{head}]")
        gap = emit(f"sub {i} {self.exponent(x)}, {ey}")
        far = emit(f"icmp sgt {i} {gap}, {zero}")
        k = emit(f"select {self.mask} {far}, {i} {gap}, {i} {zero}")
        half = emit(f"ashr {i} {k}, {self.integer(1)}")
        other = emit(f"sub {i} {k}, {half}")
        step = emit(f"fmul {t} {emit(f'fmul {t} {y}, {self.power(half)}')}, {self.power(other)}")
        count = self.call("trunc", emit(f"fdiv {t} {x}, {step}"))
        left = self.call("fma", emit(f"fneg {t} {count}"), step, x)
        over = emit(f"fcmp olt {t} {left}, {self.real(0.0)}")  # the quotient was rounded up
        lifted = emit(f"fadd {t} {left}, {step}")
        out.line(f"{following} = select {self.mask} {over}, {t} {lifted}, {t} {left}")
        bits = far if self.lanes == 1 else emit(f"bitcast {self.mask} {far} to i{self.lanes}")
        word = "i1" if self.lanes == 1 else f"i{self.lanes}"
        again = emit(f"icmp ne {word} {bits}, 0")
        out.line(f"br i1 {again}, label %{head}, label %{leave}")
        out.start_block(leave)
        made = self.select(usable[1], following, top)  # a finite number modulo infinity
        nan = self.real(float("nan"))
        fine = emit(f"and {self.mask} {usable[0]}, {usable[2]}")
        known = emit(f"fcmp ord {t} {a}, {b}")
        made = self.select(emit(f"and {self.mask} {fine}, {known}"), made, nan)
        return self.call("copysign", made, a)

    def exponent(self, x: str) -> str:
        """The binary exponent of positive numbers, subnormal ones included."""
        emit, t, i = self.out.emit, self.t, self.i
        shift = self.fraction + 2
        small = emit(f"fcmp olt {t} {x}, {self.real(2.0 ** (1 - self.bias))}")
        grown = emit(f"fmul {t} {x}, {self.real(2.0**shift)}")
        bits = emit(f"bitcast {t} {self.select(small, grown, x)} to {i}")
        raw = emit(f"lshr {i} {bits}, {self.integer(self.fraction)}")
        less = emit(f"select {self.mask} {small}, {i} {self.integer(shift + self.bias)}, "
                    f"{i} {self.integer(self.bias)}")  # fmt: skip
        return emit(f"sub {i} {raw}, {less}")

    def power(self, k: str) -> str:
        """2^k for exponents of normal numbers."""
        emit, i = self.out.emit, self.i
        biased = emit(f"add {i} {k}, {self.integer(self.bias)}")
        bits = emit(f"shl {i} {biased}, {self.integer(self.fraction)}")
        return emit(f"bitcast {i} {bits} to {self.t}")

    def select(self, test: str, yes: str, no: str) -> str:
        return self.out.emit(f"select {self.mask} {test}, {self.t} {yes}, {self.t} {no}")

    def call(self, fn: str, *args: str) -> str:
        name = f"llvm.{fn}.{vector_suffix(self.dtype, self.lanes)}"
        return self.out.emit(self.out.intrinsic(self.t, name, *(f"{self.t} {a}" for a in args)))

    def real(self, x: float) -> str:
        return splat_constant(constant(x, self.dtype), self.element, self.lanes)

    def integer(self, k: int) -> str:
        return splat_constant(str(k), f"i{self.dtype.bits}", self.lanes)
