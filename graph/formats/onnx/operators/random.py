"""Random tensors. They draw anew at each run; a `seed` in the model is not the seed of another
framework's generator, so it is left alone: the graph's seed decides."""

from __future__ import annotations

from .....dims import Dim
from .....dtypes import DType, float32, float64
from ....ir import Value
from ....ops import pointwise, random
from ..call import Call
from ..registry import converter


def _shape(call: Call) -> list[Dim]:
    return list(call.integers("shape") or ())


def _drawn(dtype: DType) -> DType:
    return float64 if dtype == float64 else float32


@converter("RandomUniform", "RandomUniformLike", halves=True)
def _uniform(call: Call) -> Value:
    like = call.node.op_type.endswith("Like")
    shape = list(call.value(0).shape) if like else _shape(call)
    dtype = call.dtype("dtype", call.operand(0).dtype if like else "float32")
    low, high = call.number("low", 0.0), call.number("high", 1.0)
    return pointwise.cast(random.uniform(shape, low, high, _drawn(dtype)), dtype)


@converter("RandomNormal", "RandomNormalLike", halves=True)
def _normal(call: Call) -> Value:
    like = call.node.op_type.endswith("Like")
    shape = list(call.value(0).shape) if like else _shape(call)
    dtype = call.dtype("dtype", call.operand(0).dtype if like else "float32")
    mean, scale = call.number("mean", 0.0), call.number("scale", 1.0)
    return pointwise.cast(random.normal(shape, mean, scale, _drawn(dtype)), dtype)


@converter("Bernoulli")
def _bernoulli(call: Call) -> Value:
    p = call.value(0)
    return pointwise.cast(random.bernoulli(p.shape, p), call.dtype("dtype", p.dtype))
