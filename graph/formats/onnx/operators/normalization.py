"""Normalisation over batches, channels, groups, layers and neighbours."""

from __future__ import annotations

from .....dims import Dim, product
from ....ir import Value
from ....ops import elementary, pointwise, reduce
from ....ops.base import make, normal_axis
from ....ops.pooling import SumPool
from ....ops.shape import reshape
from ..call import Call
from ..registry import converter


def _channel(v: Value, rank: int) -> Value:
    """A vector with one entry for each channel, so that it broadcasts to [batch, channels, ...]."""
    return reshape(v, (*v.shape, *(1,) * (rank - 2)))


@converter("BatchNormalization")
def _batch(call: Call) -> tuple[Value | None, ...]:
    x, scale, bias, mean, var = (call.value(k) for k in range(5))
    epsilon = call.number("epsilon", 1e-5)
    if not call.flag("training_mode") or call.version < 14:
        return (_scaled(x, scale, bias, mean, var, epsilon),)
    axes = (0, *range(2, x.ndim))
    batch_mean, batch_var = reduce.mean(x, axes), reduce.var(x, axes)
    momentum = call.number("momentum", 0.9)
    out = _scaled(x, scale, bias, batch_mean, batch_var, epsilon)
    return (out, mean * momentum + batch_mean * (1 - momentum),
            var * momentum + batch_var * (1 - momentum))  # fmt: skip


def _scaled(x: Value, scale: Value, bias: Value, mean: Value, var: Value, epsilon: float) -> Value:
    to = x.dtype
    scale, bias, mean, var = (pointwise.cast(v, to) for v in (scale, bias, mean, var))
    factor = scale / elementary.sqrt(var + epsilon)
    shift = bias - mean * factor
    return x * _channel(factor, x.ndim) + _channel(shift, x.ndim)


def _standard(x: Value, axes: tuple[int, ...], epsilon: float) -> tuple[Value, Value, Value]:
    """x with mean 0 and variance 1 along axes; the mean, and 1 / the standard deviation."""
    mean = reduce.mean(x, axes, True)
    centred = x - mean
    inverse = 1.0 / elementary.sqrt(reduce.mean(centred * centred, axes, True) + epsilon)
    return centred * inverse, mean, inverse


@converter("InstanceNormalization")
def _instance(call: Call) -> Value:
    x, scale, bias = (call.value(k) for k in range(3))
    y, _, _ = _standard(x, tuple(range(2, x.ndim)), call.number("epsilon", 1e-5))
    return y * _channel(scale, x.ndim) + _channel(bias, x.ndim)


@converter("GroupNormalization")
def _group(call: Call) -> Value:
    """Scale and bias have an entry for each group before opset 21, for each channel since."""
    x, scale, bias = (call.value(k) for k in range(3))
    groups = call.integer("num_groups")
    batch, channels = x.shape[:2]
    inside = (channels // groups, *x.shape[2:])
    apart = reshape(x, (batch, groups, *inside))
    y, _, _ = _standard(apart, tuple(range(2, apart.ndim)), call.number("epsilon", 1e-5))
    if call.version < 21:
        y = y * _channel(scale, y.ndim) + _channel(bias, y.ndim)
        return reshape(y, x.shape)
    return reshape(y, x.shape) * _channel(scale, x.ndim) + _channel(bias, x.ndim)


@converter("LayerNormalization")
def _layer(call: Call) -> tuple[Value | None, ...]:
    x = call.value(0)
    at = normal_axis(call.integer("axis", -1), x.ndim)
    y, mean, inverse = _standard(x, tuple(range(at, x.ndim)), call.number("epsilon", 1e-5))
    out = y * call.value(1)
    if call.has(2):
        out = out + call.value(2)
    return out, mean, inverse


@converter("RMSNormalization")
def _rms(call: Call) -> Value:
    x = call.value(0)
    axes = tuple(range(normal_axis(call.integer("axis", -1), x.ndim), x.ndim))
    square = reduce.mean(x * x, axes, True) + call.number("epsilon", 1e-5)
    return x / elementary.sqrt(square) * call.value(1)


@converter("MeanVarianceNormalization")
def _mean_variance(call: Call) -> Value:
    x = call.value(0)
    axes = call.integers("axes") or (0, 2, 3)
    centred = x - reduce.mean(x, axes, True)
    return centred / (elementary.sqrt(reduce.mean(centred * centred, axes, True)) + 1e-9)


@converter("LRN")
def _local_response(call: Call) -> Value:
    """x / (bias + alpha / size * sum of squares of neighbouring channels) ** beta."""
    x, size = call.value(0), call.integer("size")
    rows: tuple[Dim, ...] = (x.shape[0], 1, x.shape[1], product(x.shape[2:]))
    before, after = (size - 1) // 2, size // 2
    pool = SumPool((1, 1), (before, 0), (after, 0), (1, 1), (size, 1))
    around = reshape(make(pool, reshape(x * x, rows)), x.shape)
    scale = around * (call.number("alpha", 1e-4) / size) + call.number("bias", 1.0)
    return x / pointwise.power(scale, call.number("beta", 0.75))
