"""Weighted values added up at places that data names, as a kernel: a channel is one thread's, which
adds them in the order of the taps, then of the places."""

from __future__ import annotations

from ..algorithm import Index, Var, cast
from ..codegen.kernel.ir import Kernel, Let, Stmt
from ..dims import DimExpr
from ..dtypes import int64
from ..errors import InternalError
from ..graph.ops.base import Op
from ..graph.ops.sampling import SpreadAt
from .special_parts import Types, kernel, loop, operand, parted, result


def spread_at(op: Op, inputs: Types, outputs: Types) -> Kernel:
    """Zeros, then every place of every tap in order."""
    if not isinstance(op, SpreadAt):
        raise InternalError(f"{op.name} is no spread_at")
    batch, channels, places = inputs[0].shape
    taps, size = inputs[1].shape[1], op.size
    g, indices, weights = (operand(k, t) for k, t in enumerate(inputs))
    out = result(0, outputs[0])

    def channel(p: DimExpr) -> list[Stmt]:
        n, c = parted(p, channels)

        def tap(t: DimExpr) -> list[Stmt]:
            def place(j: DimExpr) -> list[Stmt]:
                at = Var("at.v", int64)
                inside = (at >= 0) & (at < Index(size))
                more = g[n, c, j] * weights[n, t, j]
                return [Let("at.v", cast(indices[n, t, j], int64)),
                        out.put((n, c, at), out.at((n, c, at), inside) + more, inside)]  # fmt: skip

            return [loop("j", places, place)]

        clear = loop("s", size, lambda s: [out.put((n, c, s), 0)])
        return [clear, loop("t", taps, tap)]

    body = (loop("p", batch * channels, channel, "parallel"),)
    return kernel(op.name, (g, indices, weights, out), body)
