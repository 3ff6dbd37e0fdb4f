"""A trained ResNet-50 rebuilt with flowmill's layers: `python open_nsfw.py open-nsfw.onnx image...`

The network is described here; only the numbers come from the ONNX file (whose convolutions carry
batch normalisation folded in, in the order they are written below). Needs the extra `onnx`, and
Pillow to read images.
"""

from __future__ import annotations

import sys
from typing import Any

import flowmill as fm
import numpy as np
from flowmill import layers

STAGES = ((32, 3, 1), (64, 4, 2), (128, 6, 2), (256, 3, 2))  # width, blocks, stride


def block(x: Any, width: int, stride: int, project: bool) -> Any:
    """A bottleneck with its shortcut."""
    shortcut = layers.Conv2D(4 * width, 1, strides=stride, name="shortcut")(x) if project else x
    y = layers.Conv2D(width, 1, strides=stride, activation="relu", name="reduce")(x)
    y = layers.Conv2D(width, 3, padding=1, activation="relu", name="window")(y)
    y = layers.Conv2D(4 * width, 1, name="expand")(y)
    return fm.relu(y + shortcut)


def define(batch: int | str = "batch") -> fm.Graph:
    """The graph: "image" [batch, 224, 224, 3] to "logits" and "probabilities" [batch, 2]."""
    with fm.Graph("open_nsfw") as graph:
        image = fm.input("image", (batch, 224, 224, 3))
        x = fm.transpose(image, (0, 3, 1, 2))
        x = layers.Conv2D(64, 7, strides=2, padding=3, activation="relu", name="stem")(x)
        x = fm.max_pool(x, 3, strides=2, padding=((0, 1), (0, 1)))
        for s, (width, blocks, stride) in enumerate(STAGES):
            for b in range(blocks):
                with graph.scope(f"stage{s}_block{b}"):
                    x = block(x, width, stride if b == 0 else 1, project=b == 0)
        logits = layers.Dense(2, name="fc")(fm.global_average_pool(x))
        fm.output("logits", logits)
        fm.output("probabilities", fm.softmax(logits))
    return graph


def weights(path: str, graph: fm.Graph) -> dict[str, np.ndarray]:
    """The file's numbers by variable name: convolutions in order, then the last layer."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(path)
    arrays = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    found = [arrays[name] for n in model.graph.node if n.op_type == "Conv" for name in n.input[1:3]]
    found += [arrays[n.input[1]] for n in model.graph.node[-4:] if n.op_type in ("MatMul", "Add")]
    return dict(zip(graph.variables, found, strict=True))


def photograph(path: str) -> np.ndarray:
    """An image as the network was trained on: BGR, mean removed."""
    from PIL import Image

    pixels = Image.open(path).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
    return np.asarray(pixels, np.float32)[:, :, ::-1] - np.array([104, 117, 123], np.float32)


def main() -> None:
    model, *images = sys.argv[1:]
    graph = define()
    session = fm.Session(graph)
    for name, value in weights(model, graph).items():
        session.set(name, value)
    batch = np.stack([photograph(path) for path in images])
    for path, (safe, unsafe) in zip(images, session.run("probabilities", {"image": batch})):
        print(f"{path}: safe {safe:.4f}, not safe for work {unsafe:.4f}")


if __name__ == "__main__":
    main()
