"""Matrix products."""

from __future__ import annotations

from ....ir import Value
from ....ops.linalg import matmul
from ....ops.shape import reshape
from ..call import Call
from ..registry import converter


@converter("MatMul")
def _matmul(call: Call) -> Value:
    return matmul(call.value(0), call.value(1))


@converter("Gemm")
def _gemm(call: Call) -> Value:
    """alpha * a @ b + beta * c."""
    a, b = call.value(0), call.value(1)
    if a.ndim != 2 or b.ndim != 2:
        call.refuse(f"it multiplies matrices, not {a.type} and {b.type}")
    alpha, beta = call.number("alpha", 1.0), call.number("beta", 1.0)
    out = matmul(a.mT if call.flag("transA") else a, b.mT if call.flag("transB") else b)
    if alpha != 1:
        out = out * (alpha if out.dtype.is_float else int(alpha))
    if not call.has(2) or beta == 0:
        return out
    c = call.value(2)
    if call.version < 7 and c.ndim == 1:
        c = reshape(c, (1, *c.shape))
    return out + (c if beta == 1 else c * (beta if c.dtype.is_float else int(beta)))
