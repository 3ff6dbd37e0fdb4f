"""Binary search, as a kernel."""

from __future__ import annotations

from .. import algorithm as alg
from ..algorithm import Expr
from ..codegen.kernel.ir import Kernel, Let, Stmt, While
from ..dims import DimExpr
from ..dtypes import bool_, int64
from ..errors import InternalError
from ..graph.ops.base import Op
from ..graph.ops.sequences import Searchsorted
from .special_parts import Cell, Types, kernel, loop, operand, result
from .special_sort import key, key_dtype


def searchsorted(op: Op, inputs: Types, outputs: Types) -> Kernel:
    """Each value by itself: what it belongs behind is below `low`, what it belongs before is from
    `high` on."""
    if not isinstance(op, Searchsorted):
        raise InternalError(f"{op.name} is no searchsorted")
    (length,), many = inputs[0].shape, inputs[1].size
    line, values = operand(0, inputs[0]), operand(1, inputs[1], (many,))
    out = result(0, outputs[0], (many,))
    low, high, wanted = Cell("low"), Cell("high"), Cell("wanted", key_dtype(values.dtype))
    middle, before = alg.Var("middle.v", int64), alg.Var("before.v", bool_)

    def search(p: DimExpr) -> list[Stmt]:
        found = key(line[middle], False)
        behind: Expr = found <= wanted.value if op.right else found < wanted.value
        step = (
            Let("middle.v", (low.value + high.value) >> 1), Let("before.v", behind),
            low.set(alg.where(before, middle + 1, low.value)),
            high.set(alg.where(before, high.value, middle)),
        )  # fmt: skip
        return [
            *low.begin(0), *high.begin(length), *wanted.begin(key(values[p], False)),
            While(low.value < high.value, step), out.put((p,), low.value),
        ]  # fmt: skip

    return kernel(op.name, (line, values, out), [loop("p", many, search, "parallel")])
