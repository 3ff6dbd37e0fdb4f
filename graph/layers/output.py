"""Output layers, losses: labels and predictions in, what is to be made small out.

Order and names are Keras's: labels first. Every loss gives one number per example and then reduces
them: `reduction` is "mean", "sum" or "none". What one example is, is said with each loss; for the
regression losses axis 0 counts the examples and the mean over all other axes is taken. Labels that
are no number, or no class, fail the run with a RunError; nothing is updated then.
"""

from __future__ import annotations

from typing import Any

from ... import algorithm as alg
from ...dtypes import int32
from ...errors import ConfigError, DTypeError, ShapeError
from ..ir import Value
from ..ops.base import normal_axis, operands
from ..ops.creation import iota
from ..ops.effects import check
from ..ops.nll import REDUCTIONS, nll
from ..ops.pointwise import cast, where
from ..ops.reduce import mean, sum_
from ..ops.shape import expand_dims, squeeze, transpose
from ..ops.softmax import log_softmax
from .base import known
from .combination import unit_length

__all__ = [
    "cosine_similarity",
    "hinge",
    "huber",
    "kl_divergence",
    "mae",
    "mean_absolute_error",
    "mean_squared_error",
    "mse",
    "negative_log_likelihood",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "sparse_softmax_cross_entropy",
]
_EPSILON = 1e-7  # Keras's: probabilities are kept this far from 0 and 1


def reduce_loss(per_example: Value, reduction: str) -> Value:
    """Losses of examples combined as `reduction` says."""
    if reduction == "mean":
        return mean(per_example)
    if reduction == "sum":
        return sum_(per_example)
    if reduction == "none":
        return per_example
    raise ConfigError(f'reduction must be "mean", "sum" or "none", not {reduction!r}')


def _smoothing(amount: float) -> float:
    if not 0 <= amount < 1:
        raise ConfigError(f"label_smoothing must be in [0, 1), it is {amount}")
    return amount


def _pair(labels: Any, predictions: Any, what: str) -> tuple[Value, Value]:
    """Labels cast to the predictions' float dtype and checked; shapes must agree."""
    y, p = operands(labels, predictions)
    if not p.dtype.is_float:
        raise DTypeError(f"{what}: predictions must be floats, they are {p.type}",
                         "labels come first, predictions second")  # fmt: skip
    if y.shape != p.shape:
        raise ShapeError(f"{what}: labels are {y.type} and predictions {p.type}",
                         "both must have the same shape")  # fmt: skip
    return finite(cast(y, p.dtype), what), p


def finite(labels: Value, what: str) -> Value:
    """Labels as they are; the run fails where one of them is NaN or infinite."""
    if not labels.dtype.is_float:
        return labels
    return check(labels, alg.isfinite(labels), f"{what}: a label is NaN or infinite")


def classes(labels: Any, size: int, what: str) -> Value:
    """Class numbers as they are; the run fails where one of them is not in 0..size-1."""
    (y,) = operands(labels)
    if not y.dtype.is_integer:
        raise DTypeError(f"{what}: class numbers must be integers, they are {y.type}",
                         "labels come first, predictions second")  # fmt: skip
    inside = (y >= 0) & (y < size) if y.dtype.kind == "i" else y < size
    return check(y, inside, f"{what}: a label is not in 0..{size - 1}")


def at_class(labels: Value, scores: Value, axis: int) -> Value:
    """Bool, shaped as `scores`: whether an element belongs to its example's class."""
    numbers = iota(scores.shape, axis, int32, scores.node.owner)
    return alg.equal(numbers, expand_dims(cast(labels, int32), axis))  # type: ignore[no-any-return]


def _rest(x: Value) -> tuple[int, ...]:
    return tuple(range(1, x.ndim))


def softmax_cross_entropy(
    labels: Any, logits: Any, label_smoothing: float = 0.0, axis: int = -1,
    reduction: str = "mean",
) -> Value:  # fmt: skip
    """`-sum(labels * log_softmax(logits))` over the class axis; both have the same shape.

    `labels` are probabilities, often one-hot; `label_smoothing` a gives `(1 - a) * labels + a / n`.
    Finite with finite gradients for logits of any size.
    """
    a = _smoothing(label_smoothing)
    y, x = _pair(labels, logits, "softmax_cross_entropy")
    if a:
        y = y * (1 - a) + a / known(x, axis, "softmax_cross_entropy")
    return reduce_loss(-sum_(y * log_softmax(x, axis), axis), reduction)


def sparse_softmax_cross_entropy(
    labels: Any, logits: Any, label_smoothing: float = 0.0, axis: int = -1,
    reduction: str = "mean", class_weights: Any = None, ignore: int | None = None,
) -> Value:  # fmt: skip
    """`-log_softmax(logits)` at each example's class.

    `labels` are integer class numbers, shaped as `logits` without the class axis.
    `label_smoothing` a moves a share a of the weight to all classes evenly. A class number out of
    range fails the run. Finite with finite gradients for logits of any size.

    `class_weights` [classes] count examples by their class, "mean" being divided by their sum;
    examples of class `ignore`, whatever number that is, count nothing. Neither goes with smoothing.
    """
    a = _smoothing(label_smoothing)
    y, x = operands(labels, logits)
    if not x.dtype.is_float:
        raise DTypeError(f"sparse_softmax_cross_entropy: logits must be floats, they are {x.type}",
                         "labels come first, logits second")  # fmt: skip
    at = normal_axis(axis, x.ndim)
    size = known(x, at, "sparse_softmax_cross_entropy")
    if y.shape != (*x.shape[:at], *x.shape[at + 1 :]):
        raise ShapeError(f"sparse_softmax_cross_entropy: labels are {y.type}, logits {x.type}",
                         "labels have the logits' shape without the class axis")  # fmt: skip
    if class_weights is not None or ignore is not None:
        if a:
            raise ConfigError("sparse_softmax_cross_entropy: label_smoothing goes with neither "
                              "class_weights nor ignore")  # fmt: skip
        return negative_log_likelihood(y, log_softmax(x, at), at, reduction, class_weights, ignore)
    here = at_class(classes(y, size, "sparse_softmax_cross_entropy"), x, at)
    logs = log_softmax(x, at)
    loss = -sum_(where(here, logs, 0.0), at)
    if a:
        loss = loss * (1 - a) - a * mean(logs, at)
    return reduce_loss(loss, reduction)


def negative_log_likelihood(
    labels: Any, log_probabilities: Any, axis: int = -1, reduction: str = "mean",
    class_weights: Any = None, ignore: int | None = None,
) -> Value:  # fmt: skip
    """Minus the log probability of each example's class; `labels` are integer class numbers, shaped
    as `log_probabilities` without the class axis.

    `class_weights` [classes] count examples by their class, "mean" being divided by their sum;
    examples of class `ignore`, whatever number that is, count nothing. Other class numbers out of
    range fail the run.
    """
    if reduction not in REDUCTIONS:
        raise ConfigError(f'reduction must be "mean", "sum" or "none", not {reduction!r}')
    y, x = operands(labels, log_probabilities)
    if not y.dtype.is_integer or not x.dtype.is_float:
        raise DTypeError(f"negative_log_likelihood: class numbers must be integers and log "
                         f"probabilities floats: got {y.type} and {x.type}",
                         "labels come first, log probabilities second")  # fmt: skip
    at = normal_axis(axis, x.ndim)
    size = known(x, at, "negative_log_likelihood")
    others = [k for k in range(x.ndim) if k != at]
    ordered = transpose(x, [*others[: min(at, 1)], at, *others[min(at, 1) :]])
    if at == 0:  # one example
        y, ordered = expand_dims(y, 0), expand_dims(ordered, 0)
    inside = (y >= 0) & (y < size) if y.dtype.kind == "i" else y < size
    inside = inside if ignore is None else inside | alg.equal(y, ignore)
    y = check(y, inside, f"negative_log_likelihood: a label is not in 0..{size - 1}")
    loss = nll(ordered, y, class_weights, ignore, reduction)
    return squeeze(loss, 0) if at == 0 and reduction == "none" else loss


def sigmoid_cross_entropy(
    labels: Any, logits: Any, label_smoothing: float = 0.0, reduction: str = "mean"
) -> Value:
    """Independent yes/no questions: `softplus(logits) - labels * logits`.

    Labels have the logits' shape: probabilities, or 0/1 integers or bools. `label_smoothing` a
    gives `(1 - a) * labels + a / 2`. One loss per element: "none" keeps the shape. Finite with
    finite gradients for logits of any size. A label outside 0..1 fails the run.
    """
    a = _smoothing(label_smoothing)
    y, x = _pair(labels, logits, "sigmoid_cross_entropy")
    y = check(y, (y >= 0) & (y <= 1), "sigmoid_cross_entropy: a label is not in 0..1")
    if a:
        y = y * (1 - a) + a / 2
    return reduce_loss(alg.softplus(x) - y * x, reduction)


def mean_squared_error(labels: Any, predictions: Any, reduction: str = "mean") -> Value:
    """Mean of `(labels - predictions)**2` over each example."""
    y, p = _pair(labels, predictions, "mean_squared_error")
    return reduce_loss(mean((y - p) * (y - p), _rest(p)), reduction)


def mean_absolute_error(labels: Any, predictions: Any, reduction: str = "mean") -> Value:
    """Mean of `|labels - predictions|` over each example."""
    y, p = _pair(labels, predictions, "mean_absolute_error")
    return reduce_loss(mean(alg.abs_(y - p), _rest(p)), reduction)


def huber(labels: Any, predictions: Any, delta: float = 1.0, reduction: str = "mean") -> Value:
    """Half the square of the error e where `|e| <= delta`, else `delta * (|e| - delta / 2)`."""
    if not delta > 0:
        raise ConfigError(f"delta must be positive, it is {delta}")
    y, p = _pair(labels, predictions, "huber")
    distance = alg.abs_(y - p)
    near = alg.minimum(distance, delta)
    return reduce_loss(mean(near * (distance - 0.5 * near), _rest(p)), reduction)


def hinge(labels: Any, predictions: Any, reduction: str = "mean") -> Value:
    """Mean of `max(1 - labels * predictions, 0)` over each example; labels are -1 or 1.

    Bool labels count as -1 and 1. Other labels fail the run.
    """
    (given,) = operands(labels)
    y, p = _pair(labels, predictions, "hinge")
    if given.dtype.kind == "b":
        y = y * 2.0 - 1.0
    else:
        y = check(y, alg.equal(alg.abs_(y), 1.0), "hinge: a label is neither -1 nor 1")
    return reduce_loss(mean(alg.maximum(1.0 - y * p, 0.0), _rest(p)), reduction)


def kl_divergence(labels: Any, predictions: Any, axis: int = -1, reduction: str = "mean") -> Value:
    """`sum(labels * log(labels / predictions))` over `axis`, both being probabilities.

    Both are kept within 1e-7..1, as Keras does.
    """
    y, p = _pair(labels, predictions, "kl_divergence")
    y, p = (alg.minimum(alg.maximum(v, _EPSILON), 1.0) for v in (y, p))
    return reduce_loss(sum_(y * (alg.log(y) - alg.log(p)), axis), reduction)


def cosine_similarity(
    labels: Any, predictions: Any, axis: int = -1, reduction: str = "mean"
) -> Value:
    """Minus the cosine of the angle between labels and predictions: -1 is the best."""
    y, p = _pair(labels, predictions, "cosine_similarity")
    return reduce_loss(-sum_(unit_length(y, axis) * unit_length(p, axis), axis), reduction)


mse, mae = mean_squared_error, mean_absolute_error
