"""flowmill's own elementary functions, one definition for every lane count and instruction set.

In: a function's name, a `MathOps` (see math_ops.py) and argument values. Out: the result value.
Each function is a straight line of exactly specified operations, at most 2 ulp from the true
value over the whole domain, subnormals included, with C99's results for zeros, infinities and
NaN (docs/vector-math.md lists measured errors and speeds).
"""

from __future__ import annotations

from collections.abc import Callable

from .math_erf import erf, erfc
from .math_exp import cosh, exp, exp2, expm1, sigmoid, sinh, softplus, tanh
from .math_inverse import acos, asin, atan, atan2
from .math_log import log, log1p, log2
from .math_ops import MathOps, V
from .math_pow import pow
from .math_trig import cos, sin, tan

__all__ = ["FUNCTIONS", "MathOps", "V"]


def rsqrt(ops: MathOps, x: V) -> V:
    """1 / sqrt(x), by a square root and a division."""
    return ops.div(ops.const(1.0), ops.sqrt(x))


FUNCTIONS: dict[str, Callable[..., V]] = {
    f.__name__: f
    for f in (exp, expm1, exp2, log, log1p, log2, sin, cos, tan, asin, acos, atan, atan2, sinh,
              cosh, tanh, sigmoid, softplus, erf, erfc, pow, rsqrt)
}  # fmt: skip
