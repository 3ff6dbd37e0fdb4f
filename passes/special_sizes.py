"""Ops that find out how many results there are, as kernels.

One thread goes through all elements in order: where the next result goes depends on all before.
"""

from __future__ import annotations

from ..algorithm import Const, apply
from ..codegen.kernel.ir import If, Kernel, Stmt, While
from ..dims import Dim, DimExpr
from ..errors import InternalError
from ..graph.ops.base import Op
from ..graph.ops.sizes import Nonzero
from .special_parts import Cell, Types, kernel, loop, operand, result


def nonzero(op: Op, inputs: Types, outputs: Types) -> Kernel:
    """The indices of each element that counts, at the next free place."""
    if not isinstance(op, Nonzero):
        raise InternalError(f"{op.name} is no nonzero")
    x, places, count = operand(0, inputs[0]), result(0, outputs[0]), result(1, outputs[1])
    found = Cell("found")

    def nest(at: tuple[DimExpr, ...]) -> list[Stmt]:
        if len(at) < inputs[0].ndim:
            return [loop(f"i{len(at)}", inputs[0].shape[len(at)], lambda i: nest((*at, i)))]
        put = [places.put((k, found.value), i) for k, i in enumerate(at)]
        return [If(apply("ne", x.at(at), Const(0, x.dtype)), (*put, found.set(found.value + 1)))]

    def once(_: Dim) -> list[Stmt]:
        rest = [places.put((k, found.value), 0) for k in range(inputs[0].ndim)]
        clear = While(found.value < inputs[0].size, (*rest, found.set(found.value + 1)))
        return [*found.begin(0), *nest(()), count.put((), found.value), clear]

    return kernel(op.name, (x, places, count), [loop("once", 1, once, "parallel")])
