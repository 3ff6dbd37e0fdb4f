"""scikit-learn to flowmill: models that skl2onnx writes without ai.onnx.ml.

Needs scikit-learn, skl2onnx and onnx. `black_op` makes the converter spell out scalers and linear
models in plain operators. A classifier's label, which needs ArrayFeatureExtractor, is taken out of
the outputs: it is the class of the largest probability. Prints and checks the largest differences.
"""

from __future__ import annotations

import warnings
from typing import Any

import flowmill as fm
import numpy as np
from skl2onnx import to_onnx
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

warnings.simplefilter("ignore")  # few iterations are enough here
PLAIN = {"Scaler", "LinearClassifier", "LinearRegressor", "Normalizer"}
x, label = load_digits(return_X_y=True)
x = x.astype("float32")


def converted(model: Any) -> fm.Graph:
    """The graph of a fitted model; of a classifier that of its probabilities."""
    classifies = hasattr(model, "predict_proba")
    options = {id(model): {"zipmap": False}} if classifies else None
    written = to_onnx(model, x[:1], options=options, target_opset={"": 21, "ai.onnx.ml": 1},
                      black_op=PLAIN)  # fmt: skip
    if classifies:
        del written.graph.output[0]
    return fm.onnx.load(written.SerializeToString())


for model, method in (
    (make_pipeline(StandardScaler(), MLPClassifier((32,), max_iter=60)), "predict_proba"),
    (LogisticRegression(max_iter=100), "predict_proba"),
    (LinearRegression(), "predict"),
    (make_pipeline(StandardScaler(), PCA(8)), "transform"),
    (KMeans(10, n_init=1), "transform"),
):
    model.fit(x, label)
    graph = converted(model)
    (name,) = graph.inputs
    y = list(fm.Session(graph).run(None, {name: x}).values())[-1]
    expected = getattr(model, method)(x)
    difference = np.abs(y.reshape(expected.shape) - expected).max()
    print(f"{type(model).__name__} {method}: largest difference {difference:.1e}")
    np.testing.assert_allclose(y.reshape(expected.shape), expected, atol=2e-4, rtol=1e-4)
