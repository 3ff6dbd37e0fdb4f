"""A trained ResNet-50 (open_nsfw), rebuilt by `examples/open_nsfw.py`, against onnxruntime.

Logarithms of the probabilities are compared: the probabilities themselves may be next to 0 and 1.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from job import Case, Job

PEERS = ("flowmill", "onnxruntime")
TARGET = 0.7


def cases(quick: bool, models: str) -> list[Case]:
    path = Path(models) / "open_nsfw" / "open-nsfw.onnx"
    if not path.is_file():
        print(f"resnet: skipped, there is no {path}: see --models")
        return []
    return [Case(f"open_nsfw, batch {b}", 0, 1e-4, {"batch": b, "path": str(path)})
            for b in (1, 5)]  # fmt: skip


def images(case: Case) -> tuple[Any, Any]:
    """Pictures of coloured noise in the range of pixels with the mean taken off; the result."""
    batch = case.options["batch"]
    rng = np.random.default_rng(0)
    coarse = rng.uniform(-110, 140, (batch, 14, 14, 3)).repeat(16, 1).repeat(16, 2)
    x = np.clip(coarse + rng.normal(0, 20, (batch, 224, 224, 3)), -123, 151).astype(np.float32)
    return x, np.empty((batch, 2), np.float32)


def flowmill(case: Case, threads: int) -> Job:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))
    import flowmill as fm
    import open_nsfw

    x, out = images(case)
    graph = open_nsfw.define()
    session = fm.Session(graph, threads=threads)
    for name, value in open_nsfw.weights(case.options["path"], graph).items():
        session.set(name, value)
    call = session.make_callable("probabilities", ["image"])
    return Job(lambda: call(x, out=out), lambda: [np.log(out)])


def onnxruntime(case: Case, threads: int) -> Job:
    from peers_onnx import bound_session, session

    x, out = images(case)
    found = session(case.options["path"], threads)
    (given,), (got,) = found.get_inputs(), found.get_outputs()
    return Job(bound_session(case.options["path"], {given.name: x}, {got.name: out}, threads),
               lambda: [np.log(out)])  # fmt: skip
