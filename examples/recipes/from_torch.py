"""PyTorch to flowmill: a model through both exporters of torch.onnx, its weights by name.

Needs torch, onnx and, for the newer exporter, onnxscript. Prints and checks the largest
differences from what PyTorch computes.
"""

from __future__ import annotations

import flowmill as fm
import numpy as np
import torch
from flowmill import layers
from torch import nn

torch.manual_seed(0)
network = nn.Sequential(
    nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
    nn.Linear(8 * 16 * 16, 10),
).eval()  # fmt: skip
images = torch.randn(5, 3, 32, 32)
with torch.no_grad():
    expected = network(images).numpy()


def check(what: str, y: np.ndarray) -> None:
    print(f"{what}: largest difference {np.abs(y - expected).max():.1e}")
    np.testing.assert_allclose(y, expected, atol=1e-5)


# the older exporter traces the model; axes that vary are named
torch.onnx.export(
    network, (images[:2],), "older.onnx", dynamo=False, input_names=["x"], output_names=["y"],
    dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}},
)  # fmt: skip
session = fm.Session(fm.onnx.load("older.onnx"))
check("torch.onnx.export, dynamo=False", session.run("y", {"x": images.numpy()}))

# the newer one (torch.export) takes dynamic_shapes, and writes large weights beside the model
torch.onnx.export(
    network, (images[:2],), "newer.onnx", dynamo=True, input_names=["x"], output_names=["y"],
    dynamic_shapes=({0: torch.export.Dim("batch")},),
)  # fmt: skip
session = fm.Session(fm.onnx.load("newer.onnx"))
check("torch.onnx.export, dynamo=True", session.run("y", {"x": images.numpy()}))

# or the same layers, and the weights of the state_dict by name: PyTorch's Linear has [out, in]
with fm.Graph("network") as graph:
    x = fm.input("x", ("batch", 3, 32, 32))
    layer = fm.Sequential(
        [
            layers.Conv2D(8, 3, padding="same", name="conv"),
            layers.BatchNorm(name="norm", epsilon=1e-5),
            layers.Activation("relu"),
            layers.MaxPool2D(2),
            layers.Flatten(),
            layers.Dense(10, name="dense"),
        ],
        name="net",
    )
    fm.output("y", layer(x))
session = fm.Session(graph)
session.load_weights(
    {name: tensor.numpy() for name, tensor in network.state_dict().items()},
    rename={
        "num_batches_tracked": None,
        r"^0\.": "net/conv/",
        r"^1\.weight": "net/norm/gamma",
        r"^1\.bias": "net/norm/beta",
        r"^1\.running_mean": "net/norm/moving_mean",
        r"^1\.running_var": "net/norm/moving_variance",
        r"^5\.": "net/dense/",
        "weight$": "kernel",
    },
    transpose={"dense/kernel": (1, 0)},
)
check("weights by name", session.run("y", {"x": images.numpy()}))
