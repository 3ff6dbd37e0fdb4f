"""float32 matrix products, both operands fed anew: nobody may pack ahead of time."""

from __future__ import annotations

from typing import Any

import numpy as np
from job import Case, Job

PEERS = ("flowmill", "numpy", "torch", "onnxruntime")
TARGET = 0.9
SQUARE = (512, 1000, 1024, 2048)
RAGGED = ((127, 511, 255), (333, 555, 1111), (197, 768, 768), (128, 784, 512), (2000, 300, 70))


def cases(quick: bool, models: str) -> list[Case]:
    sizes = [(n, n, n) for n in (SQUARE[:2] if quick else SQUARE)] + list(RAGGED)[
        : 2 if quick else 9
    ]
    return [Case(f"{m} x {k} x {n}", 2.0 * m * k * n, 2e-5, {"sizes": [m, k, n]})
            for m, k, n in sizes]  # fmt: skip


def operands(case: Case) -> tuple[Any, Any, Any]:
    """a, b, and memory for the product."""
    m, k, n = case.options["sizes"]
    rng = np.random.default_rng(0)
    return (rng.standard_normal((m, k), np.float32), rng.standard_normal((k, n), np.float32),
            np.empty((m, n), np.float32))  # fmt: skip


def flowmill(case: Case, threads: int) -> Job:
    import flowmill as fm

    a, b, out = operands(case)
    with fm.Graph() as graph:
        x, y = fm.input("a", a.shape), fm.input("b", b.shape)
        product = x @ y
    call = fm.Session(graph, threads=threads).make_callable(product, [x, y])
    return Job(lambda: call(a, b, out=out), lambda: [out])


def numpy(case: Case, threads: int) -> Job:
    a, b, out = operands(case)
    return Job(lambda: np.matmul(a, b, out=out), lambda: [out])


def torch(case: Case, threads: int) -> Job:
    import torch as t

    t.set_num_threads(threads)
    a, b, out = operands(case)
    ta, tb, tout = (t.from_numpy(x) for x in (a, b, out))
    return Job(lambda: t.mm(ta, tb, out=tout), lambda: [out])


def onnxruntime(case: Case, threads: int) -> Job:
    from onnx import TensorProto, helper
    from peers_onnx import bound_session, model

    a, b, out = operands(case)
    made = model(
        [helper.make_node("MatMul", ["a", "b"], ["y"])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, x.shape)
         for n, x in (("a", a), ("b", b))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out.shape)],
    )  # fmt: skip
    return Job(bound_session(made, {"a": a, "b": b}, {"y": out}, threads), lambda: [out])
