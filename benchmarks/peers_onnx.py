"""onnxruntime, used as well as it can be: memory of inputs and outputs bound once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np


def model(nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any],
          weights: Mapping[str, Any] | None = None) -> bytes:  # fmt: skip
    """A serialised ONNX model of these parts."""
    from onnx import helper, numpy_helper

    constants = [numpy_helper.from_array(v, k) for k, v in (weights or {}).items()]
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(made.SerializeToString())


def session(source: bytes | str, threads: int) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def bound_session(source: bytes | str, inputs: Mapping[str, Any], outputs: Mapping[str, Any],
                  threads: int) -> Callable[[], None]:  # fmt: skip
    """A call that reads `inputs` and writes `outputs`, both bound for good."""
    s = session(source, threads)
    binding = s.io_binding()
    for name, x in inputs.items():
        binding.bind_input(name, "cpu", 0, np.float32, x.shape, x.ctypes.data)
    for name, x in outputs.items():
        binding.bind_output(name, "cpu", 0, np.float32, x.shape, x.ctypes.data)
    keep = (inputs, outputs)

    def call() -> None:
        assert keep
        s.run_with_iobinding(binding)

    return call
