"""Small ONNX models for tests, in a few words."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

KINDS = {"f": TensorProto.FLOAT, "h": TensorProto.FLOAT16, "b": TensorProto.BFLOAT16,
         "d": TensorProto.DOUBLE, "i": TensorProto.INT64, "?": TensorProto.BOOL}  # fmt: skip


def info(name: str, kind: str = "f", shape: Any = None) -> onnx.ValueInfoProto:
    """An input or output; `shape` None: not stated."""
    return helper.make_tensor_value_info(name, KINDS[kind], shape)


def node(op: str, inputs: str, outputs: str, name: str = "", **attributes: Any) -> onnx.NodeProto:
    """A node; operands and results are words, "-" for one that is left out."""
    ins, outs = ([w.replace("-", "") for w in text.split()] for text in (inputs, outputs))
    return helper.make_node(op, ins, outs, name or f"{op}_{outs[0]}", **attributes)


def model(nodes: Any, inputs: Any, outputs: Any, weights: Any = None, opset: int = 21,
          functions: Any = (), ir: int = 9) -> onnx.ModelProto:  # fmt: skip
    """A model of nodes; `outputs` are infos or words; `weights` arrays by name."""
    outs = [helper.make_empty_tensor_value_info(o) if isinstance(o, str) else o for o in outputs]
    initial = [numpy_helper.from_array(np.asarray(a), n) for n, a in (weights or {}).items()]
    graph = helper.make_graph(list(nodes), "tested", list(inputs), outs, initial)
    imports = [helper.make_opsetid("", opset)]
    imports += [helper.make_opsetid(f.domain, 1) for f in functions]
    return helper.make_model(graph, opset_imports=imports, functions=list(functions),
                             ir_version=ir)  # fmt: skip


def raw(*args: Any, **more: Any) -> bytes:
    """The bytes of `model`."""
    return bytes(model(*args, **more).SerializeToString())
