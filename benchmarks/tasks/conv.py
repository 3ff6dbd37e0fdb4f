"""ResNet-50's convolutions, each with bias and ReLU, at batch 1 on 224 x 224 images.

Where shapes allow, a chain of nine is timed and a chain of one taken off; weights differ along the
chain. Strided ones cannot follow themselves: five side by side on one input, each averaged over
its positions, less one of them. What enters and leaves in another layout cancels in both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from job import Case, Job

PEERS = ("flowmill", "onnxruntime", "torch")
TARGET = 0.9
CHAIN, FAN = 9, 5
# name: window, stride, padding, channels in, channels out, size of the input
_SHAPES = (
    ("7x7 /2 3-64", 7, 2, 3, 3, 64, 224),
    ("1x1 64-64", 1, 1, 0, 64, 64, 56),
    *((f"3x3 {w}-{w}", 3, 1, 1, w, w, s) for w, s in ((64, 56), (128, 28), (256, 14), (512, 7))),
    *((f"1x1 {w}-{4 * w}-{w}", 1, 1, 0, w, 4 * w, s)
      for w, s in ((64, 56), (128, 28), (256, 14), (512, 7))),
    *((f"1x1 /2 {2 * w}-{w}", 1, 2, 0, 2 * w, w, s) for w, s in ((128, 56), (256, 28), (512, 14))),
    *((f"1x1 /2 {2 * w}-{4 * w}", 1, 2, 0, 2 * w, 4 * w, s)
      for w, s in ((128, 56), (256, 28), (512, 14))),
    *((f"3x3 /2 {w}-{w}", 3, 2, 1, w, w, s) for w, s in ((128, 56), (256, 28), (512, 14))),
)  # fmt: skip


def cases(quick: bool, models: str) -> list[Case]:
    found = []
    for name, k, stride, pad, ins, outs, size in _SHAPES[1:8:2] if quick else _SHAPES:
        out = (size + 2 * pad - k) // stride + 1
        found.append(Case(f"{name} @{size}", 2.0 * out * out * k * k * ins * outs, 1e-4,
                          {"k": k, "stride": stride, "pad": pad, "ins": ins, "outs": outs,
                           "size": size}))  # fmt: skip
    return found


def chained(case: Case) -> bool:
    o = case.options
    return o["stride"] == 1


def parts(case: Case, count: int) -> tuple[Any, list[tuple[Any, Any]]]:
    """The input, and weights and bias of each convolution: there and back where channels differ."""
    o = case.options
    rng = np.random.default_rng(1)
    found = []
    for i in range(count):
        a, b = (o["ins"], o["outs"])
        if chained(case) and i % 2:
            a, b = b, a
        scale = np.float32(np.sqrt(2 / (a * o["k"] ** 2)))
        found.append((rng.standard_normal((b, a, o["k"], o["k"]), np.float32) * scale,
                      rng.standard_normal(b, np.float32) * np.float32(0.1)))  # fmt: skip
    x = np.random.default_rng(0).standard_normal((1, o["ins"], o["size"], o["size"]), np.float32)
    return x, found


def output(case: Case, count: int) -> Any:
    """Memory for the result."""
    o = case.options
    if not chained(case):
        return np.empty((1, o["outs"] * count, 1, 1), np.float32)
    channels = o["outs"] if count % 2 else o["ins"]
    return np.empty((1, channels, o["size"], o["size"]), np.float32)


def both(case: Case, build: Any) -> Job:
    """The job of the long and the short version that `build(count, out)` makes."""
    count = CHAIN if chained(case) else FAN
    out = output(case, count)
    return Job(build(count, out), lambda: [out], build(1, output(case, 1)), count - 1)


def flowmill(case: Case, threads: int) -> Job:
    import flowmill as fm

    o = case.options

    def build(count: int, out: Any) -> Any:
        data, weights = parts(case, count)
        with fm.Graph() as graph:
            x = first = fm.input("x", data.shape)
            ends = []
            for i, (w, b) in enumerate(weights):
                bias = fm.reshape(fm.variable(f"b{i}", b), (1, -1, 1, 1))
                x = fm.relu(fm.conv(x, fm.variable(f"w{i}", w), strides=o["stride"],
                                    padding=o["pad"]) + bias)  # fmt: skip
                if not chained(case):
                    ends.append(fm.mean(x, axis=(2, 3), keepdims=True))
                    x = first
            y = fm.concat(ends, 1) if len(ends) > 1 else ends[0] if ends else x
        call = fm.Session(graph, threads=threads).make_callable(y, [first])
        return lambda: call(data, out=out)

    return both(case, build)


def onnxruntime(case: Case, threads: int) -> Job:
    from onnx import TensorProto, helper
    from peers_onnx import bound_session, model

    o = case.options

    def build(count: int, out: Any) -> Any:
        data, weights = parts(case, count)
        nodes, held, last, ends = [], {}, "x", []
        for i, (w, b) in enumerate(weights):
            held |= {f"w{i}": w, f"b{i}": b}
            nodes.append(helper.make_node("Conv", [last, f"w{i}", f"b{i}"], [f"c{i}"],
                                          strides=[o["stride"]] * 2, pads=[o["pad"]] * 4))  # fmt: skip
            nodes.append(helper.make_node("Relu", [f"c{i}"], [f"y{i}"]))
            if chained(case):
                last = f"y{i}"
            else:
                nodes.append(helper.make_node("GlobalAveragePool", [f"y{i}"], [f"m{i}"]))
                ends.append(f"m{i}")
        if ends:
            last = "end"
            nodes.append(helper.make_node("Concat", ends, [last], axis=1))
        made = model(nodes, [helper.make_tensor_value_info("x", TensorProto.FLOAT, data.shape)],
                     [helper.make_tensor_value_info(last, TensorProto.FLOAT, out.shape)], held)  # fmt: skip
        return bound_session(made, {"x": data}, {last: out}, threads)

    return both(case, build)


def torch(case: Case, threads: int) -> Job:
    """Channels last, the faster layout of the two without conversion of the weights by hand."""
    import torch as t

    t.set_num_threads(threads)
    o = case.options

    def build(count: int, out: Any) -> Any:
        data, weights = parts(case, count)
        x = t.from_numpy(data).contiguous(memory_format=t.channels_last)
        held = [(t.from_numpy(w).contiguous(memory_format=t.channels_last), t.from_numpy(b))
                for w, b in weights]  # fmt: skip
        result = t.from_numpy(out)

        def call() -> None:
            with t.inference_mode():
                y, ends = x, []
                for w, b in held:
                    z = t.relu_(t.conv2d(y, w, b, o["stride"], o["pad"]))
                    if chained(case):
                        y = z
                    else:
                        ends.append(z.mean((2, 3), keepdim=True))
                result.copy_(t.cat(ends, 1) if ends else y)

        return call

    return both(case, build)
