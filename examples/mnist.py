"""MNIST with a convolutional network: `python mnist.py FOLDER [epochs]`

FOLDER holds the four IDX files (train-images-idx3-ubyte, ...). Trains, prints the test accuracy
after each epoch and leaves `mnist.safetensors`, the trained variables.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import flowmill as fm
import numpy as np
from flowmill import layers
from flowmill.data.idx import read_idx

BATCH = 128


def define() -> fm.Graph:
    """Inputs "image" [batch, 28, 28] uint8 and "label"; values "logits", "train", "predicted"."""
    with fm.Graph("mnist") as graph:
        image = fm.input("image", ("batch", 28, 28), "uint8")
        label = fm.input("label", ("batch",), "int32")
        pixels = fm.reshape(fm.cast(image, "float32") / 255, ("batch", 1, 28, 28))
        network = fm.Sequential([
            layers.Conv2D(32, 5, activation="relu"), layers.MaxPool2D(2),
            layers.Conv2D(64, 5, activation="relu"), layers.MaxPool2D(2),
            layers.Flatten(), layers.Dense(512, activation="relu"),
            layers.Dropout(0.4), layers.Dense(10),
        ])  # fmt: skip
        logits = fm.output("logits", network(pixels))
        fm.named(fm.argmax(logits, axis=1), "predicted")
        with fm.training():
            loss = fm.losses.sparse_softmax_cross_entropy(label, network(pixels))
        rate = fm.schedules.cosine(1e-3, 6 * 469)
        fm.named(fm.optimizers.Adam(rate).minimize(loss), "train")
    return graph


def accuracy(session: fm.Session, images: np.ndarray, labels: np.ndarray) -> float:
    """Share of images whose predicted label is right."""
    right = 0
    for k in range(0, len(images), 1000):
        found = session.run("predicted", {"image": images[k : k + 1000]})
        right += int((found == labels[k : k + 1000]).sum())
    return right / len(images)


def main() -> None:
    folder = Path(sys.argv[1])
    epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 6
    images, labels = (read_idx(folder / f"train-{n}") for n in ("images-idx3-ubyte",
                                                                "labels-idx1-ubyte"))  # fmt: skip
    test_images, test_labels = (read_idx(folder / f"t10k-{n}") for n in ("images-idx3-ubyte",
                                                                         "labels-idx1-ubyte"))  # fmt: skip
    graph = define()
    session = fm.Session(graph)
    step = session.make_callable("train", ["image", "label"])
    rng = np.random.default_rng(0)
    for epoch in range(epochs):
        begin = time.perf_counter()
        order = rng.permutation(len(images))
        for k in range(0, len(order), BATCH):
            pick = order[k : k + BATCH]
            loss = step(images[pick], labels[pick].astype(np.int32))
        share = accuracy(session, test_images, test_labels)
        print(f"epoch {epoch + 1}: loss {loss:.4f}, test accuracy {share:.2%}, "
              f"{time.perf_counter() - begin:.1f} s")  # fmt: skip
    session.save("mnist.safetensors")


if __name__ == "__main__":
    main()
