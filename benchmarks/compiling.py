"""How long compiling takes: `compiling.py mnist`, `resnet`, `graph` or `onnx PATH`, JSON out.

`mnist` builds the network of `examples/mnist.py` and asks for its training step with a cache
folder that is empty, then again in a new process: run it twice. `resnet` does so with the
inference of `examples/open_nsfw.py`, a ResNet-50, and `onnx` with a model's file, read, compiled and
run once. `graph` defines and optimises a graph of 10,000 nodes. Every figure is from a new process.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path


def mnist() -> dict[str, float]:
    """Seconds until the training step can be called, and of the first call."""
    import flowmill as fm
    import mnist as example
    import numpy as np

    start = time.perf_counter()
    graph = example.define()
    defined = time.perf_counter()
    session = fm.Session(graph)
    step = session.make_callable("train", ["image", "label"])
    compiled = time.perf_counter()
    step(np.zeros((128, 28, 28), np.uint8), np.zeros(128, np.int32))
    return {"define": defined - start, "compile": compiled - defined,
            "first call": time.perf_counter() - compiled}  # fmt: skip


def resnet() -> dict[str, float]:
    """Seconds until the network can be called, its weights made included."""
    import flowmill as fm
    import open_nsfw as example

    start = time.perf_counter()
    graph = example.define()
    defined = time.perf_counter()
    fm.Session(graph).make_callable("probabilities", ["image"])
    return {"define": defined - start, "compile": time.perf_counter() - defined}


def onnx(path: str) -> dict[str, float]:
    """Seconds that reading a model takes, compiling it, and its first run, weights packed: at two
    of whatever is dynamic, sixteen along the last axis."""
    import flowmill as fm
    import numpy as np
    import onnx  # noqa: F401 - the time is flowmill's

    start = time.perf_counter()
    graph = fm.onnx.load(path)
    loaded = time.perf_counter()
    feeds = {}
    for name, value in graph.inputs.items():
        last = len(value.shape) - 1
        shape = [d if isinstance(d, int) else 16 if axis == last else 2
                 for axis, d in enumerate(value.shape)]  # fmt: skip
        feeds[name] = np.ones(shape, value.dtype.numpy)
    made = time.perf_counter()
    session = fm.Session(graph)
    session.bound(None, feeds)
    compiled = time.perf_counter()
    session.run(None, feeds)
    return {"load": loaded - start, "compile": compiled - made,
            "first run": time.perf_counter() - compiled}  # fmt: skip


def graph(nodes: int = 10_000) -> dict[str, float]:
    """A deep chain of dense layers and activations with side branches, some of it written twice."""
    import flowmill as fm
    import numpy as np
    from flowmill.graph.rewrite import copied
    from flowmill.passes.pipeline import Context, pipeline
    from flowmill.target import host

    start = time.perf_counter()
    with fm.Graph() as g:
        x = first = fm.input("x", ("batch", 64))
        w = fm.variable("w", np.eye(64, dtype=np.float32))
        count = 0
        while count < nodes:
            side = fm.tanh(x * 2.0)
            x = fm.relu(x @ w + side) * 0.5 + fm.tanh(x * 2.0) + first
            count += 8
        fm.output("y", x)
    defined = time.perf_counter()
    function = g.function("run", dict(g.outputs))
    made = len(list(function.nodes()))
    begun = time.perf_counter()
    pipeline(2).run(copied(function), Context(host(), 2))
    return {"nodes": made, "define": defined - start, "optimise": time.perf_counter() - begun}


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
    tasks: dict[str, Callable[..., dict[str, float]]] = {
        "mnist": mnist, "resnet": resnet, "graph": graph, "onnx": onnx,
    }  # fmt: skip
    print(json.dumps(tasks[sys.argv[1]](*sys.argv[2:])))
