"""Matrix products."""

from __future__ import annotations

from ....ir import Value
from ....ops.linalg import matmul
from ....ops.shape import reshape
from ..call import Call
from ..registry import converter
from ..sizes import as_sized, conforming, simplest


@converter("MatMul")
def _matmul(call: Call) -> Value:
    return product_of(call.value(0), call.value(1))


def product_of(a: Value, b: Value) -> Value:
    """a @ b; sizes that must be equal are checked at run time where they are not known to be."""
    if a.ndim and b.ndim:
        inner = simplest((a.shape[-1], b.shape[-2] if b.ndim > 1 else b.shape[-1]))
        a = as_sized(a, (*a.shape[:-1], inner))
        b = as_sized(b, (*b.shape[:-2], inner, b.shape[-1]) if b.ndim > 1 else (inner,))
        rank = max(a.ndim, b.ndim)
        for k in range(3, rank + 1):
            if k <= a.ndim and k <= b.ndim and 1 not in (a.shape[-k], b.shape[-k]):
                same = simplest((a.shape[-k], b.shape[-k]))
                a = as_sized(a, (*a.shape[:-k], same, *a.shape[a.ndim - k + 1 :]))
                b = as_sized(b, (*b.shape[:-k], same, *b.shape[b.ndim - k + 1 :]))
    return matmul(a, b)


@converter("Gemm")
def _gemm(call: Call) -> Value:
    """alpha * a @ b + beta * c."""
    a, b = call.value(0), call.value(1)
    if a.ndim != 2 or b.ndim != 2:
        call.refuse(f"it multiplies matrices, not {a.type} and {b.type}")
    alpha, beta = call.number("alpha", 1.0), call.number("beta", 1.0)
    out = product_of(a.mT if call.flag("transA") else a, b.mT if call.flag("transB") else b)
    if alpha != 1:
        out = out * (alpha if out.dtype.is_float else int(alpha))
    if not call.has(2) or beta == 0:
        return out
    c = call.value(2)
    if call.version < 7 and c.ndim == 1:
        c = reshape(c, (1, *c.shape))
    c = c if beta == 1 else c * (beta if c.dtype.is_float else int(beta))
    x, y = conforming(out, c)
    return x + y
