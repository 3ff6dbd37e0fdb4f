"""Activations with attributes, softmax and its kin, and what normalises along axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..... import algorithm as alg
from .....dtypes import float32, float64
from ....ir import CALLS, Value
from ....ops.base import Pointwise
from ....ops.windows import concrete
from ..draft import Site, Tensor
from ..writing import Composite, expansion, writer

# op -> operator, and attribute -> field
_ATTRIBUTES = {
    "leaky_relu": ("LeakyRelu", {"alpha": "slope"}),
    "elu": ("Elu", {"alpha": "alpha"}),
    "celu": ("Celu", {"alpha": "alpha"}),
    "thresholded_relu": ("ThresholdedRelu", {"alpha": "alpha"}),
    "shrink": ("Shrink", {"lambd": "threshold", "bias": "bias"}),
    "hard_sigmoid": ("HardSigmoid", {"alpha": "slope", "beta": "shift"}),
    "softmax": ("Softmax", {"axis": "axis"}),
    "log_softmax": ("LogSoftmax", {"axis": "axis"}),
    "hardmax": ("Hardmax", {"axis": "axis"}),
}  # fmt: skip


@writer(*_ATTRIBUTES)
def _with_attributes(site: Site) -> Tensor:
    operator, names = _ATTRIBUTES[site.op.name]
    return site.emit(operator, site.x, **{a: getattr(site.op, f) for a, f in names.items()})


@writer("gelu", since=20)
def _gelu(site: Site) -> Tensor:
    return site.emit("Gelu", site.x, approximate="tanh" if site.op.tanh else "none")


@expansion("relu")
def _relu(n: Composite) -> Value | None:
    """Integers: Relu is for floats."""
    return None if n.inputs[0].dtype.is_float else CALLS["max"](n.inputs[0], 0)


@expansion("leaky_relu", "elu", "celu", "thresholded_relu", "hard_sigmoid", "selu", "hard_swish",
           "softsign")  # fmt: skip
def _precise(n: Composite) -> Value | None:
    """Numbers among the attributes of operators are float32, too little for float64; and to few
    runtimes these operators are known for more than that."""
    wide = n.inputs[0].dtype == float64
    return n.op.scalar(*n.inputs) if wide and isinstance(n.op, Pointwise) else None


@expansion("shrink")
def _shrink(n: Composite) -> Value | None:
    (x,), op = n.inputs, n.op
    if x.dtype != float64:
        return None
    up = alg.where(x < -op.threshold, x + op.bias, 0.0)
    return alg.where(x > op.threshold, x - op.bias, up)


@expansion("hardmax", "mish", "det")
def _spelled_out(n: Composite) -> Any:
    """Runtimes know these operators for float32."""
    return n.op.expand(*n.inputs) if n.inputs[0].dtype == float64 else None


@expansion("prelu")
def _prelu(n: Composite) -> Value | None:
    """The slope broadcasts to x, never the other way round."""
    fits = n.inputs[0].shape == n.outputs[0].shape and n.inputs[0].dtype != float64
    return n.op.scalar(*n.inputs) if not fits and isinstance(n.op, Pointwise) else None


@writer("logsumexp")
def _logsumexp(site: Site) -> Tensor:
    return site.emit("ReduceLogSumExp", site.x, site.ints([site.op.axis]),
                     keepdims=int(site.op.keepdims))  # fmt: skip


@expansion("standardize")
def _standardize(n: Composite) -> Value | None:
    """Along the last axes, of known sizes, LayerNormalization does it, in float32."""
    (x,) = n.inputs
    axes = n.op.axes
    known = all(isinstance(d, int) for d in x.shape[axes[0] :]) if axes else False
    if known and axes == tuple(range(axes[0], x.ndim)) and x.dtype == float32:
        return None
    return n.op.expand(x)


@writer("standardize")
def _layer_normalization(site: Site) -> Tensor:
    (x,) = site.types
    first = site.op.axes[0]
    ones = site.constant(np.ones(concrete(x.shape[first:])), x.dtype)
    return site.emit("LayerNormalization", site.x, ones, axis=first, epsilon=site.op.epsilon)


@writer("local_response_norm")
def _lrn(site: Site) -> Tensor:
    op = site.op
    return site.emit("LRN", site.x, size=op.size, alpha=op.alpha, beta=op.beta, bias=op.bias)


@expansion("local_response_norm")
def _wide_lrn(n: Composite) -> Value | None:
    """LRN is for an odd number of channels and an axis after them; its numbers are float32."""
    (x,) = n.inputs
    fits = x.ndim > 2 and n.op.size % 2 and x.dtype == float32
    return None if fits else n.op.expand(x)


@writer("norm")
def _norm(site: Site) -> Tensor:
    operator = "ReduceL1" if site.op.order == 1 else "ReduceL2"
    return site.emit(operator, site.x, site.ints(site.op.axes), keepdims=int(site.op.keepdims))


@expansion("norm")
def _other_norm(n: Composite) -> Value | None:
    return None if n.op.order in (1, 2) else n.op.expand(*n.inputs)


@writer("nll")
def _nll(site: Site) -> Tensor:
    return site.emit("NegativeLogLikelihoodLoss", *site.xs, reduction=site.op.reduction,
                     ignore_index=site.op.ignore)  # fmt: skip
