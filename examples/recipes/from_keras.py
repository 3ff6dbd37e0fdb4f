"""Keras and TensorFlow to flowmill: Keras' own export, and tf2onnx for any tf.function.

Needs tensorflow (or tensorflow-cpu), tf2onnx and onnx. Prints and checks the largest differences
from what Keras computes. Images stay channels-last, as the model has them.
"""

from __future__ import annotations

import flowmill as fm
import keras
import numpy as np
import tensorflow as tf
import tf2onnx

keras.utils.set_random_seed(0)
network = keras.Sequential(
    [
        keras.Input((32, 32, 3)),
        keras.layers.Conv2D(8, 3, activation="relu", padding="same"),
        keras.layers.BatchNormalization(),
        keras.layers.MaxPooling2D(),
        keras.layers.DepthwiseConv2D(3, strides=2, padding="same"),
        keras.layers.Flatten(),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
images = np.random.default_rng(0).standard_normal((4, 32, 32, 3)).astype("float32")
expected = network.predict(images, verbose=0)


def check(what: str, path: str) -> None:
    graph = fm.onnx.load(path)
    (name,) = graph.inputs
    (y,) = fm.Session(graph).run(None, {name: images}).values()
    print(f"{what}: largest difference {np.abs(y - expected).max():.1e}")
    np.testing.assert_allclose(y, expected, atol=1e-5)


network.export("keras.onnx", format="onnx", verbose=False)
check("Keras' export", "keras.onnx")

signature = (tf.TensorSpec((None, 32, 32, 3), tf.float32, name="x"),)
function = tf.function(lambda x: network(x, training=False), input_signature=signature)
tf2onnx.convert.from_function(
    function, input_signature=signature, opset=18, output_path="tf2onnx.onnx"
)
check("tf2onnx", "tf2onnx.onnx")
