"""Numbers as small integers."""

from __future__ import annotations

from .....dtypes import float32, uint8
from ....ir import Value
from ..draft import Site, Tensor
from ..writing import Composite, expansion, writer

_SINCE_16 = 21  # opset: 16-bit integers and blocks


@expansion("quantize_linear", "dequantize_linear")
def _spelled_out(n: Composite) -> Value | None:
    """float64 is no type of the operators; int32 has no zero point there."""
    x, scale, zero = n.inputs
    wide = {v.dtype.name for v in (x, scale, zero)} & {"float64", "int32"}
    return (
        n.op.expand(x, scale, zero)
        if wide or (scale.dtype != x.dtype and x.dtype.is_float)
        else None
    )


@writer("quantize_linear", "dequantize_linear")
def _linear(site: Site) -> Tensor:
    op = site.op
    narrow = site.xs[2].dtype
    if site.draft.opset < _SINCE_16 and (narrow.bits > 8 or op.block):
        site.refuse(f"{narrow} in blocks of {op.block} takes opset {_SINCE_16}")
    return site.emit(op.onnx, *site.xs, dtype=site.out.dtype, axis=op.axis,
                     block_size=op.block or None)  # fmt: skip


@writer("dynamic_quantize_linear")
def _dynamic(site: Site) -> tuple[Tensor, ...]:
    return site.several("DynamicQuantizeLinear", [uint8, float32, uint8], site.x)
