"""Output layers, metrics: how good predictions are. Labels first; no metric has a gradient.

Class labels are integers shaped as the scores without the last axis, or one-hot rows shaped as the
scores. Class numbers out of range fail the run with a RunError.
"""

from __future__ import annotations

from typing import Any

from ... import algorithm as alg
from ...dtypes import float32, float64, int64
from ...errors import ConfigError, DTypeError, ShapeError
from ..ir import Value
from ..ops.base import operands
from ..ops.indexing import one_hot
from ..ops.linalg import matmul
from ..ops.pointwise import cast, where
from ..ops.reduce import argmax, sum_
from ..ops.shape import reshape
from .base import known
from .output import at_class, classes, reduce_loss


def _true_classes(labels: Any, scores: Value, what: str) -> Value:
    """Integer class numbers, from class numbers or one-hot rows."""
    (y,) = operands(labels)
    if y.shape == scores.shape:
        return argmax(y, -1)
    if y.shape != scores.shape[:-1]:
        raise ShapeError(f"{what}: labels are {y.type}, scores {scores.type}",
                         "labels are class numbers, or one-hot rows")  # fmt: skip
    return cast(classes(y, known(scores, -1, what), what), int64)


def accuracy(labels: Any, scores: Any, reduction: str = "mean") -> Value:
    """The share of examples whose highest score is at the true class; the first one wins a tie."""
    y, x = operands(labels, scores)
    hit = alg.equal(argmax(x, -1), _true_classes(y, x, "accuracy"))
    return reduce_loss(cast(hit, float32), reduction)


def binary_accuracy(
    labels: Any, predictions: Any, threshold: float = 0.5, reduction: str = "mean"
) -> Value:
    """The share of elements where `predictions > threshold` says what the 0/1 label says."""
    y, p = operands(labels, predictions)
    if y.shape != p.shape:
        raise ShapeError(f"binary_accuracy: labels are {y.type} and predictions {p.type}")
    truth = y if y.dtype.kind == "b" else y > 0
    return reduce_loss(cast(alg.equal(p > threshold, truth), float32), reduction)


def top_k_accuracy(labels: Any, scores: Any, k: int = 5, reduction: str = "mean") -> Value:
    """The share of examples with fewer than k classes scored above the true one.

    Ties count for the true class; a true class whose score is no number counts as missed.
    """
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ConfigError(f"top_k_accuracy: k must be a number from 1 on, not {k!r}")
    y, x = operands(labels, scores)
    here = at_class(_true_classes(y, x, "top_k_accuracy"), x, x.ndim - 1)
    score = sum_(where(here, x, 0.0), -1, keepdims=True)
    above = sum_(cast(x > score, int64), -1)
    hit = (above < k) & alg.isfinite(reshape(score, above.shape))
    return reduce_loss(cast(hit, float32), reduction)


def confusion_matrix(labels: Any, predictions: Any, num_classes: int) -> Value:
    """int64 [num_classes, num_classes]: how many examples of class (row) were given class (column).

    `predictions` are class numbers like the labels, or scores with one more axis.
    """
    y, p = operands(labels, predictions)
    if p.dtype.is_float:
        if known(p, -1, "confusion_matrix") != num_classes:
            raise ShapeError(f"confusion_matrix: scores are {p.type}, not {num_classes} classes")
        p = argmax(p, -1)
    if y.shape != p.shape:
        raise ShapeError(f"confusion_matrix: labels are {y.type} and predictions {p.type}")
    if not y.dtype.is_integer:
        raise DTypeError(f"confusion_matrix: labels must be class numbers, they are {y.type}")
    rows, columns = (
        reshape(one_hot(classes(v, num_classes, "confusion_matrix"), num_classes, float64),
                (-1, num_classes))
        for v in (y, p)
    )  # fmt: skip
    return cast(matmul(rows.mT, columns), int64)
