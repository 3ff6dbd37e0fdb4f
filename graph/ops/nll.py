"""Negative log likelihood: how unlikely the right classes were, weighted by class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import algorithm as alg
from ...dims import Dim
from ...dtypes import Array, int64
from ...errors import DTypeError, ShapeError
from ..ir import CALLS, TensorType, Value
from .base import Op, graph_function, make, operands, sample

REDUCTIONS = ("mean", "sum", "none")


@dataclass(frozen=True)
class Nll(Op):
    """Log probabilities [n, classes, ...], class numbers [n, ...] and perhaps weights [classes] ->
    minus the log probability of each class times its weight: its sum, its mean (divided by the sum
    of the weights), or "none", all of them [n, ...]. Elements of class `ignore` count nothing. A
    class that does not exist fails the run."""

    reduction: str = "mean"
    ignore: int | None = None
    arity = None
    onnx = "NegativeLogLikelihoodLoss"
    samples = (
        sample((4, 3), (4,), dtypes=("float32", "int64"), low=0, high=3),
        sample((2, 3, 5), (2, 5), (3,), dtypes=("float64", "int32", "float64"), low=0, high=3),
        sample((4, 3), (4,), dtypes=("float32", "int64"), low=0, high=3, ignore=1),
        sample((2, 3, 2, 2), (2, 2, 2), (3,), dtypes=("float64", "int64", "float64"), low=0, high=3,
               reduction="none", ignore=2),
        sample((2, 3, 4), (2, 4), (3,), dtypes=("float32", "int64", "float32"), low=0, high=3,
               reduction="sum", ignore=0),
    )  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        if len(types) not in (2, 3):
            raise ShapeError(f"there are {len(types)} operands: log probabilities, classes and "
                             "perhaps weights are wanted")  # fmt: skip
        x, labels = types[:2]
        if not x.dtype.is_float or not x.dtype.computes or not labels.dtype.is_integer:
            raise DTypeError(f"not defined for {x.dtype} and classes {labels.dtype}")
        if x.ndim < 2 or labels.shape != (x.shape[0], *x.shape[2:]):
            raise ShapeError(f"classes {labels} do not fit log probabilities {x}, whose axis 1 "
                             "holds the classes")  # fmt: skip
        if len(types) == 3 and types[2] != TensorType(x.dtype, (x.shape[1],)):
            raise ShapeError(f"{types[2]} does not hold a weight for each class of {x}")
        if self.reduction not in REDUCTIONS:
            raise ShapeError(f"reduction {self.reduction!r} is none of {', '.join(REDUCTIONS)}")
        return TensorType(x.dtype, labels.shape if self.reduction == "none" else ())

    def expand(self, *xs: Value) -> Value:
        x, labels = xs[0], CALLS["cast"](xs[1], int64)
        kept = None if self.ignore is None else CALLS["ne"](labels, self.ignore)
        at = labels if kept is None else alg.where(kept, labels, 0)
        taken = CALLS["take_along_axis"](x, CALLS["expand_dims"](at, 1), 1)
        loss = -CALLS["squeeze"](taken, 1)
        weights = CALLS["gather"](xs[2], at) if len(xs) == 3 else None
        loss = loss if weights is None else loss * weights
        loss = loss if kept is None else alg.where(kept, loss, 0.0)
        if self.reduction == "none":
            return loss  # type: ignore[no-any-return]
        total = CALLS["sum"](loss)
        if self.reduction == "sum":
            return total  # type: ignore[no-any-return]
        if weights is None and kept is None:
            return CALLS["mean"](loss)  # type: ignore[no-any-return]
        if weights is None:
            weights = CALLS["cast"](kept, x.dtype)
        elif kept is not None:
            weights = alg.where(kept, weights, 0.0)
        return total / CALLS["sum"](weights)  # type: ignore[no-any-return]

    def ref(self, *xs: Array) -> Array:
        x, labels = xs[0].astype(np.float64), xs[1].astype(np.int64)
        loss, weights = np.zeros(labels.shape), np.zeros(labels.shape)
        for n, *at in np.ndindex(labels.shape):
            c = labels[(n, *at)]
            if c != self.ignore:
                weights[(n, *at)] = xs[2][c] if len(xs) == 3 else 1
                loss[(n, *at)] = -x[(n, c, *at)] * weights[(n, *at)]
        if self.reduction == "none":
            return loss.astype(xs[0].dtype)
        total = loss.sum() / (weights.sum() if self.reduction == "mean" else 1)
        return np.asarray(total, xs[0].dtype)

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return types[1].size * 2


@graph_function("nll")
def nll(x: Any, labels: Any, weights: Any = None, ignore: int | None = None,
        reduction: str = "mean") -> Value:  # fmt: skip
    """Minus the log probabilities x [n, classes, ...] at the classes `labels` [n, ...], weighted by
    `weights` [classes] and reduced: see the op `Nll`."""
    v, y = operands(x, labels)
    more = () if weights is None else (CALLS["cast"](operands(v, weights)[1], v.dtype),)
    return make(Nll(reduction, None if ignore is None else int(ignore)), v, y, *more)
