"""`MathOps` spelled in LLVM IR.

In: calls of the protocol in math_ops.py. Out: instructions handed to `emit`, and the intrinsics
they call in `declarations`. No fast-math flags, so LLVM may neither contract nor reassociate.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

_FLOAT = {32: "float", 64: "double"}


class LlvmMath:
    """Values are SSA names or literals of `<lanes x float>` (or double); scalars for one lane.

    `emit(rhs)` appends `%n = rhs` to the function under construction and returns `%n`.
    `declarations` collects the `declare` lines the module needs.
    """

    def __init__(
        self,
        emit: Callable[[str], str],
        lanes: int,
        width: int,
        declarations: set[str] | None = None,
    ) -> None:
        self.emit = emit
        self.lanes = lanes
        self.width = width
        self.declarations: set[str] = set() if declarations is None else declarations
        self._float, self._int = _FLOAT[width], f"i{width}"
        self._v, self._i, self._m = (self._type(t) for t in (self._float, self._int, "i1"))
        self._suffix = f"f{width}" if lanes == 1 else f"v{lanes}f{width}"

    def _type(self, element: str) -> str:
        return element if self.lanes == 1 else f"<{self.lanes} x {element}>"

    def _splat(self, element: str, text: str) -> str:
        return text if self.lanes == 1 else f"splat ({element} {text})"

    def const(self, x: float) -> str:
        if self.width == 32:  # LLVM spells a float as the double of the same value
            x = struct.unpack("<f", struct.pack("<f", x))[0]
        text = f"0x{struct.unpack('<Q', struct.pack('<d', x))[0]:016X}"
        return self._splat(self._float, text)

    def iconst(self, i: int) -> str:
        i &= (1 << self.width) - 1
        return self._splat(self._int, str(i - (1 << self.width) if i >> (self.width - 1) else i))

    def _binary(self, op: str, a: str, b: str) -> str:
        return self.emit(f"{op} {self._v} {a}, {b}")

    def _integer(self, op: str, a: str, b: str) -> str:
        return self.emit(f"{op} {self._i} {a}, {b}")

    def _call(self, name: str, *args: str) -> str:
        full, v = f"@llvm.{name}.{self._suffix}", self._v
        self.declarations.add(f"declare {v} {full}({', '.join([v] * len(args))})")
        return self.emit(f"call {v} {full}({', '.join(f'{v} {a}' for a in args)})")

    def add(self, a: str, b: str) -> str:
        return self._binary("fadd", a, b)

    def sub(self, a: str, b: str) -> str:
        return self._binary("fsub", a, b)

    def mul(self, a: str, b: str) -> str:
        return self._binary("fmul", a, b)

    def div(self, a: str, b: str) -> str:
        return self._binary("fdiv", a, b)

    def fma(self, a: str, b: str, c: str) -> str:
        return self._call("fma", a, b, c)

    def neg(self, a: str) -> str:
        return self.emit(f"fneg {self._v} {a}")

    def abs(self, a: str) -> str:
        return self._call("fabs", a)

    def sqrt(self, a: str) -> str:
        return self._call("sqrt", a)

    def rint(self, a: str) -> str:
        return self._call("roundeven", a)

    def floor(self, a: str) -> str:
        return self._call("floor", a)

    def trunc(self, a: str) -> str:
        return self._call("trunc", a)

    def lt(self, a: str, b: str) -> str:
        return self._binary("fcmp olt", a, b)

    def le(self, a: str, b: str) -> str:
        return self._binary("fcmp ole", a, b)

    def gt(self, a: str, b: str) -> str:
        return self._binary("fcmp ogt", a, b)

    def ge(self, a: str, b: str) -> str:
        return self._binary("fcmp oge", a, b)

    def eq(self, a: str, b: str) -> str:
        return self._binary("fcmp oeq", a, b)

    def ne(self, a: str, b: str) -> str:
        return self._binary("fcmp une", a, b)

    def isnan(self, a: str) -> str:
        return self._binary("fcmp uno", a, a)

    def select(self, m: str, a: str, b: str) -> str:
        return self.emit(f"select {self._m} {m}, {self._v} {a}, {self._v} {b}")

    def and_(self, a: str, b: str) -> str:
        return self.emit(f"and {self._m} {a}, {b}")

    def or_(self, a: str, b: str) -> str:
        return self.emit(f"or {self._m} {a}, {b}")

    def not_(self, a: str) -> str:
        return self.emit(f"xor {self._m} {a}, {self._splat('i1', 'true')}")

    def bits(self, a: str) -> str:
        return self.emit(f"bitcast {self._v} {a} to {self._i}")

    def from_bits(self, i: str) -> str:
        return self.emit(f"bitcast {self._i} {i} to {self._v}")

    def iadd(self, a: str, b: str) -> str:
        return self._integer("add", a, b)

    def isub(self, a: str, b: str) -> str:
        return self._integer("sub", a, b)

    def imul(self, a: str, b: str) -> str:
        return self._integer("mul", a, b)

    def iand(self, a: str, b: str) -> str:
        return self._integer("and", a, b)

    def ior(self, a: str, b: str) -> str:
        return self._integer("or", a, b)

    def ixor(self, a: str, b: str) -> str:
        return self._integer("xor", a, b)

    def shl(self, a: str, count: int) -> str:
        return self._integer("shl", a, self.iconst(count))

    def lshr(self, a: str, count: int) -> str:
        return self._integer("lshr", a, self.iconst(count))

    def ashr(self, a: str, count: int) -> str:
        return self._integer("ashr", a, self.iconst(count))

    def ieq(self, a: str, b: str) -> str:
        return self._integer("icmp eq", a, b)

    def ilt(self, a: str, b: str) -> str:
        return self._integer("icmp slt", a, b)

    def iselect(self, m: str, a: str, b: str) -> str:
        return self.emit(f"select {self._m} {m}, {self._i} {a}, {self._i} {b}")

    def to_int(self, a: str) -> str:
        return self.emit(f"fptosi {self._v} {a} to {self._i}")

    def from_int(self, i: str) -> str:
        return self.emit(f"sitofp {self._i} {i} to {self._v}")

    def f64(self) -> LlvmMath:
        return LlvmMath(self.emit, self.lanes, 64, self.declarations)

    def ext(self, a: str) -> str:
        return self.emit(f"fpext {self._v} {a} to {self._type('double')}")

    def trunc_f32(self, a: str) -> str:
        return self.emit(f"fptrunc {self._type('double')} {a} to {self._v}")


if TYPE_CHECKING:
    from .math_ops import MathOps

    _complete: type[MathOps] = LlvmMath
