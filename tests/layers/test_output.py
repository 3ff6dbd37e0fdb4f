"""Losses and metrics against NumPy: values, gradients at extreme logits, bad labels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import flowmill as fm
import numpy as np
import pytest
from flowmill.dtypes import Array

from ..harness import Runner

RNG = np.random.default_rng(4)
LOGITS = RNG.normal(size=(6, 5)) * 3
CLASSES = np.array([0, 4, 2, 2, 1, 3])
ONE_HOT = np.eye(5)[CLASSES]
SOFT = RNG.dirichlet(np.ones(5), size=6)
LOGS = LOGITS - np.log(np.exp(LOGITS).sum(1, keepdims=True))
REAL = RNG.normal(size=(6, 5))
SIGNS = np.where(REAL > 0, 1.0, -1.0)
P = np.exp(LOGS)


def value(fn: Callable[..., fm.Value], labels: Any, predictions: Any, **options: Any) -> Array:
    with fm.Graph() as g:
        y = fn(fm.constant(labels), fm.constant(predictions), **options)
    return Runner(g).run(y)  # type: ignore[no-any-return]


def unit(x: Array) -> Array:
    return np.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True))


def huber(e: Array, delta: float) -> Array:
    return np.where(np.abs(e) <= delta, e**2 / 2, delta * (np.abs(e) - delta / 2))


ERROR = REAL - LOGITS
CASES: list[tuple[Callable[..., fm.Value], Array, Array, dict[str, Any], Array]] = [
    (fm.losses.softmax_cross_entropy, SOFT, LOGITS, {}, -(SOFT * LOGS).sum(1)),
    (fm.losses.softmax_cross_entropy, SOFT, LOGITS, {"label_smoothing": 0.2},
     -((SOFT * 0.8 + 0.04) * LOGS).sum(1)),
    (fm.losses.softmax_cross_entropy, SOFT.T, LOGITS.T, {"axis": 0}, -(SOFT * LOGS).sum(1)),
    (fm.losses.sparse_softmax_cross_entropy, CLASSES, LOGITS, {}, -(ONE_HOT * LOGS).sum(1)),
    (fm.losses.sparse_softmax_cross_entropy, CLASSES.astype(np.uint8), LOGITS,
     {"label_smoothing": 0.2}, -((ONE_HOT * 0.8 + 0.04) * LOGS).sum(1)),
    (fm.losses.sparse_softmax_cross_entropy, CLASSES, LOGITS.T, {"axis": 0},
     -(ONE_HOT * LOGS).sum(1)),
    (fm.losses.sigmoid_cross_entropy, SOFT, LOGITS, {},
     -(SOFT * np.log(1 / (1 + np.exp(-LOGITS))) + (1 - SOFT) * np.log(1 / (1 + np.exp(LOGITS))))),
    (fm.losses.sigmoid_cross_entropy, ONE_HOT.astype(bool), LOGITS, {"label_smoothing": 0.2},
     np.logaddexp(0, LOGITS) - (ONE_HOT * 0.8 + 0.1) * LOGITS),
    (fm.losses.mse, REAL, LOGITS, {}, (ERROR**2).mean(1)),
    (fm.losses.mae, REAL, LOGITS, {}, np.abs(ERROR).mean(1)),
    (fm.losses.mse, REAL[:, 0], LOGITS[:, 0], {}, ERROR[:, 0] ** 2),
    (fm.losses.huber, REAL, LOGITS, {"delta": 0.7}, huber(ERROR, 0.7).mean(1)),
    (fm.losses.hinge, SIGNS, LOGITS, {}, np.maximum(1 - SIGNS * LOGITS, 0).mean(1)),
    (fm.losses.hinge, SIGNS > 0, LOGITS, {}, np.maximum(1 - SIGNS * LOGITS, 0).mean(1)),
    (fm.losses.kl_divergence, SOFT, P, {}, (SOFT * np.log(SOFT / P)).sum(1)),
    (fm.losses.cosine_similarity, REAL, LOGITS, {}, -(unit(REAL) * unit(LOGITS)).sum(1)),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(CASES)))
def test_loss(case: int) -> None:
    fn, labels, predictions, options, expected = CASES[case]
    each = value(fn, labels, predictions, reduction="none", **options)
    np.testing.assert_allclose(each, expected, rtol=1e-6)
    np.testing.assert_allclose(value(fn, labels, predictions, **options), expected.mean(), 1e-6)
    total = value(fn, labels, predictions, reduction="sum", **options)
    np.testing.assert_allclose(total, expected.sum(), rtol=1e-6)


FAR = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, -1e4], [1e4, 1e4, 1e4]], np.float32)


def loss_and_slope(loss: Callable[[fm.Value], fm.Value]) -> tuple[Array, Array]:
    with fm.Graph() as g:
        x = fm.input("x", (3, 3))
        y = loss(x)
        slope = fm.gradients(y, [x])[0]
    got, grad = Runner(g).run([y, slope], {"x": FAR})
    return got, grad


def test_cross_entropies_at_far_logits() -> None:
    classes = np.array([1, 1, 1])
    soft = np.array([[0, 1, 0]] * 3, np.float32)
    p = np.array([[1, 0, 0], [0, 1, 0], [1 / 3] * 3])
    for fn, labels in ((fm.losses.sparse_softmax_cross_entropy, classes),
                       (fm.losses.softmax_cross_entropy, soft)):  # fmt: skip
        got, grad = loss_and_slope(partial(fn, labels, reduction="sum"))
        np.testing.assert_allclose(got, 2e4 + np.log(3), rtol=1e-6)
        np.testing.assert_allclose(grad, p - soft, atol=1e-6)
    got, grad = loss_and_slope(lambda x: fm.losses.sigmoid_cross_entropy(soft, x, reduction="sum"))
    np.testing.assert_allclose(got, 1e4 + np.log(2) + 1e4 + 2e4, rtol=1e-6)
    sigmoid = np.array([[1, 0, 0.5], [0, 1, 0], [1, 1, 1]])
    np.testing.assert_allclose(grad, sigmoid - soft, atol=1e-6)


NAN = np.where(np.arange(30).reshape(6, 5) == 7, np.nan, SOFT)


@pytest.mark.parametrize(
    ("fn", "labels", "says"),
    [
        (fm.losses.sparse_softmax_cross_entropy, CLASSES + 1, r"a label is not in 0..4"),
        (fm.losses.sparse_softmax_cross_entropy, CLASSES - 1, r"a label is not in 0..4"),
        (fm.losses.softmax_cross_entropy, NAN, "softmax_cross_entropy: a label is NaN"),
        (fm.losses.sigmoid_cross_entropy, SOFT + 1, "not in 0..1"),
        (fm.losses.mse, NAN, "NaN or infinite"),
        (fm.losses.huber, NAN * np.inf, "NaN or infinite"),
        (fm.losses.hinge, SOFT, "neither -1 nor 1"),
        (fm.metrics.accuracy, CLASSES + 1, r"a label is not in 0..4"),
        (fm.metrics.top_k_accuracy, CLASSES - 1, r"a label is not in 0..4"),
    ],
)
def test_bad_labels_fail_the_run_and_update_nothing(fn: Any, labels: Array, says: str) -> None:
    with fm.Graph() as g:
        count = fm.variable("count", np.int64(0))
        y = fn(fm.constant(labels), fm.constant(LOGITS))
        tick = fm.assign(count, count + 1)
    runner = Runner(g)
    with pytest.raises(fm.RunError, match=says):
        runner.run([y, tick])
    assert runner.variables["count"] == 0


@pytest.mark.parametrize(
    ("fn", "labels", "predictions", "error"),
    [
        (fm.losses.sparse_softmax_cross_entropy, LOGITS[:, 0], LOGITS, fm.DTypeError),
        (fm.losses.sparse_softmax_cross_entropy, LOGITS, CLASSES, fm.DTypeError),
        (fm.losses.sparse_softmax_cross_entropy, CLASSES[:3], LOGITS, fm.ShapeError),
        (fm.losses.softmax_cross_entropy, CLASSES, LOGITS, fm.ShapeError),
        (fm.losses.mse, REAL, CLASSES, fm.DTypeError),
        (fm.metrics.accuracy, CLASSES[:3], LOGITS, fm.ShapeError),
        (fm.metrics.binary_accuracy, CLASSES, LOGITS, fm.ShapeError),
    ],
)
def test_operands_that_do_not_fit(
    fn: Any, labels: Array, predictions: Array, error: type[Exception]
) -> None:
    with fm.Graph(), pytest.raises(error):
        fn(fm.constant(labels), fm.constant(predictions))


def test_bad_options() -> None:
    with fm.Graph():
        y, x = fm.constant(SOFT), fm.constant(LOGITS)
        with pytest.raises(fm.ConfigError, match="reduction"):
            fm.losses.mse(y, x, reduction="average")
        with pytest.raises(fm.ConfigError, match="label_smoothing"):
            fm.losses.softmax_cross_entropy(y, x, label_smoothing=1.0)
        with pytest.raises(fm.ConfigError, match="delta"):
            fm.losses.huber(y, x, delta=0)


def test_accuracies() -> None:
    hit = LOGITS.argmax(1) == CLASSES
    np.testing.assert_allclose(value(fm.metrics.accuracy, CLASSES, LOGITS), hit.mean())
    np.testing.assert_allclose(value(fm.metrics.accuracy, ONE_HOT, LOGITS), hit.mean())
    truth = ONE_HOT.astype(np.int32)
    got = value(fm.metrics.binary_accuracy, truth, P, threshold=0.3)
    np.testing.assert_allclose(got, ((P > 0.3) == truth).mean())


@pytest.mark.parametrize("k", [1, 2, 4, 5])
def test_top_k(k: int) -> None:
    order = np.argsort(-LOGITS, axis=1)[:, :k]
    expected = (order == CLASSES[:, None]).any(1)
    got = value(fm.metrics.top_k_accuracy, CLASSES, LOGITS, k=k, reduction="none")
    np.testing.assert_array_equal(got, expected)


def test_top_k_of_ties_and_nan() -> None:
    scores = np.array([[1.0, 1.0, 1.0], [np.nan, 0.0, 0.0], [5.0, np.nan, 1.0]])
    got = value(fm.metrics.top_k_accuracy, np.array([2, 0, 0]), scores, k=1, reduction="none")
    np.testing.assert_array_equal(got, [1, 0, 1])


def test_confusion_matrix() -> None:
    given = LOGITS.argmax(1)
    expected = np.zeros((5, 5), np.int64)
    np.add.at(expected, (CLASSES, given), 1)
    for predictions in (LOGITS, given):
        got = value(fm.metrics.confusion_matrix, CLASSES, predictions, num_classes=5)
        assert got.dtype == np.int64
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("axis", [-1, 1, 0])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_class_weights_and_ignored_classes(axis, reduction):
    """Each example by itself, as PyTorch and ONNX define it."""
    rng = np.random.default_rng(0)
    shape = (3, 4) if axis == 0 else (5, 3, 4) if axis == 1 else (5, 4, 3)
    logits = rng.standard_normal(shape)
    labels = rng.integers(0, 3, [d for k, d in enumerate(shape) if k != axis % len(shape)])
    labels.reshape(-1)[:2] = -1
    weights = np.array([0.5, 2.0, 1.0])
    moved = np.moveaxis(logits, axis, -1)
    logs = moved - np.log(np.exp(moved).sum(-1, keepdims=True))
    each = np.where(labels < 0, 0, weights[labels])
    loss = -each * np.take_along_axis(logs, np.maximum(labels, 0)[..., None], -1)[..., 0]
    expected = {"none": loss, "sum": loss.sum(), "mean": loss.sum() / each.sum()}[reduction]
    with fm.Graph() as g:
        y, x = fm.input("y", labels.shape, "int64"), fm.input("x", shape, "float64")
        made = fm.losses.sparse_softmax_cross_entropy(y, x, 0.0, axis, reduction, weights, -1)
        strict = fm.losses.negative_log_likelihood(y, x, axis)
    session = fm.Session(g)
    np.testing.assert_allclose(session.run(made, {y: labels, x: logits}), expected)
    with pytest.raises(fm.RunError, match=r"not in 0\.\.2"):
        session.run(strict, {y: labels, x: logits})
    with g, pytest.raises(fm.ConfigError, match="goes with neither"):
        fm.losses.sparse_softmax_cross_entropy(y, x, 0.1, axis, ignore=-1)
