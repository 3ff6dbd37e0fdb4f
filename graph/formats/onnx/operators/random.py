"""Random tensors, and dropout. They draw anew at each run, by the graph's seed; a `seed` in the model
would be that of another generator. Dropout alone honours it, as ONNX's reference implementation does:
the same elements are then left out at every run."""

from __future__ import annotations

from math import prod

import numpy as np

from .....dims import Dim
from .....dtypes import DType, bool_, float32, float64
from ....ir import Value
from ....ops import pointwise, random
from ....ops.creation import full
from ....ops.source import constant
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


_SEEDED = 1 << 24  # elements that a seed may choose among while loading


@converter("Dropout")
def _dropout(call: Call) -> tuple[Value | None, ...]:
    """Nothing happens but in training, which is asked for since opset 12."""
    x = call.value(0)
    all_kept = full(x.shape, True, bool_, x.node.owner) if call.wants(1) else None
    if call.version < 12 or not call.has(2) or not bool(call.single(2)):
        return x, all_kept
    rate = float(call.single(1)) if call.has(1) else 0.5
    if rate == 0:
        return x, all_kept
    shape = [d for d in x.shape if isinstance(d, int)]
    if call.given("seed") and len(shape) == x.ndim and prod(shape) <= _SEEDED:
        generator = np.random.RandomState(call.integer("seed") & 0xFFFFFFFF)
        kept = constant(generator.uniform(0, 1, shape) >= rate, owner=call.graph)
    else:
        kept = random.bernoulli(x.shape, 1 - rate)
    return pointwise.where(kept, x * (1 / (1 - rate)), 0), kept
