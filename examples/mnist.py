"""MNIST with a convolutional network: `python mnist.py FOLDER [epochs]`

FOLDER holds the four IDX files (train-images-idx3-ubyte, ...). Trains, prints the test accuracy
after each epoch and leaves `libmnist.so` and `libmnist.h`, the trained network with its training
step. `mnist.c` calls that library and goes on training; `report` below prints the same lines, for
the same bits.
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
        rate = fm.schedules.cosine(1e-3, 8 * 469)
        fm.named(fm.optimizers.Adam(rate).minimize(loss), "train")
    return graph


def load(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels (int32) of "train" or "t10k"."""
    images = read_idx(folder / f"{part}-images-idx3-ubyte")
    return images, read_idx(folder / f"{part}-labels-idx1-ubyte").astype(np.int32)


def report(session: fm.Session, images: np.ndarray, labels: np.ndarray) -> str:
    """Test accuracy, and a digest of the bits of every score (FNV-1a)."""
    right, digest = 0, 0xCBF29CE484222325
    for k in range(0, len(images), 1000):
        out = session.run(["predicted", "logits"], {"image": images[k : k + 1000]})
        right += int((out[0] == labels[k : k + 1000]).sum())
        for word in out[1].view(np.uint32).ravel().tolist():
            digest = (digest ^ word) * 0x100000001B3 % (1 << 64)
    return f"test accuracy {100 * right / len(images):.2f} %, bits {digest:016x}"


def epoch(session: fm.Session, images: np.ndarray, labels: np.ndarray, order: np.ndarray) -> float:
    """One pass over the examples in `order`; the last loss."""
    step = session.make_callable("train", ["image", "label"])
    loss = 0.0
    for k in range(0, len(order), BATCH):
        pick = order[k : k + BATCH]
        loss = float(step(images[pick], labels[pick]))
    return loss


def main() -> None:
    folder = Path(sys.argv[1])
    epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 6
    images, labels = load(folder, "train")
    test_images, test_labels = load(folder, "t10k")
    graph = define()
    session = fm.Session(graph)
    rng = np.random.default_rng(0)
    for k in range(epochs):
        begin = time.perf_counter()
        loss = epoch(session, images, labels, rng.permutation(len(images)))
        print(f"epoch {k + 1}: loss {loss:.4f}, {time.perf_counter() - begin:.1f} s, "
              f"{report(session, test_images, test_labels)}", flush=True)  # fmt: skip
    module = fm.Module(graph, infer={"logits": "logits", "predicted": "predicted"},
                       train_step={"loss": "train"})  # fmt: skip
    fm.export(module, "libmnist.so", variables=session)
    loss = epoch(session, images, labels, np.arange(len(images)))
    print(f"one more epoch in file order: loss {loss:.6f}, "
          f"{report(session, test_images, test_labels)}")  # fmt: skip


if __name__ == "__main__":
    main()
