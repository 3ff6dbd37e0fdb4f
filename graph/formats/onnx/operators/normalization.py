"""Normalisation over batches, channels, groups, layers and neighbours."""

from __future__ import annotations

from ....ir import Value
from ....ops import normalization, pointwise
from ....ops.base import normal_axis
from ....ops.elementary import rsqrt
from ....ops.reduce import mean as mean_of
from ....ops.reduce import var as variance_of
from ....ops.shape import reshape
from ..call import Call
from ..registry import converter


@converter("BatchNormalization")
def _batch(call: Call) -> Value | tuple[Value, ...]:
    x = call.value(0)
    scale, bias, mean, variance = (pointwise.cast(call.value(k), x.dtype) for k in range(1, 5))
    epsilon = call.number("epsilon", 1e-5)
    if call.version < 14 or not call.flag("training_mode"):
        return normalization.batch_norm(x, scale, bias, mean, variance, epsilon)
    return normalization.batch_norm_training(x, scale, bias, mean, variance, epsilon,
                                             call.number("momentum", 0.9))  # fmt: skip


@converter("InstanceNormalization")
def _instance(call: Call) -> Value:
    x, scale, bias = (call.value(k) for k in range(3))
    return normalization.instance_norm(x, scale, bias, call.number("epsilon", 1e-5))


@converter("GroupNormalization")
def _group(call: Call) -> Value:
    """Scale and bias have an entry for each group before opset 21, for each channel since."""
    x, scale, bias = (call.value(k) for k in range(3))
    groups, epsilon = call.integer("num_groups"), call.number("epsilon", 1e-5)
    if call.version >= 21:
        return normalization.group_norm(x, groups, scale, bias, epsilon)
    y = normalization.group_norm(x, groups, epsilon=epsilon)
    apart = reshape(y, (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]))
    ones = (1,) * (apart.ndim - 2)
    moved = apart * reshape(scale, (groups, *ones)) + reshape(bias, (groups, *ones))
    return reshape(moved, x.shape)


def _from_axis(call: Call, x: Value) -> tuple[int, ...]:
    return tuple(range(normal_axis(call.integer("axis", -1), x.ndim), x.ndim))


@converter("LayerNormalization")
def _layer(call: Call) -> tuple[Value | None, ...]:
    x, epsilon = call.value(0), call.number("epsilon", 1e-5)
    axes = _from_axis(call, x)
    y = normalization.layer_norm(x, call.value(1), call.optional(2), axes, epsilon)
    if call.results == 1:
        return (y,)
    return y, mean_of(x, axes, True), rsqrt(variance_of(x, axes, True) + epsilon)


@converter("RMSNormalization")
def _rms(call: Call) -> Value:
    x = call.value(0)
    return normalization.rms_norm(x, call.value(1), _from_axis(call, x),
                                  call.number("epsilon", 1e-5))  # fmt: skip


@converter("MeanVarianceNormalization")
def _mean_variance(call: Call) -> Value:
    return normalization.mean_variance_norm(call.value(0), call.integers("axes") or (0, 2, 3))


@converter("LRN")
def _local_response(call: Call) -> Value:
    return normalization.local_response_norm(
        call.value(0), call.integer("size"), call.number("alpha", 1e-4), call.number("beta", 0.75),
        call.number("bias", 1.0),
    )  # fmt: skip
