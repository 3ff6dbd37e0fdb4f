"""`fm.onnx`: ONNX models in and out.

In: a path or the bytes of a model. Out: a graph with its inputs and outputs by name, whose nodes
carry the model's node names as places. Nothing in a file is executed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ....errors import ModelError
from ...definition import Graph
from .build import Builder, Options
from .registry import load_all

if TYPE_CHECKING:
    from onnx import ModelProto

_LARGEST = 1 << 31  # bytes of a protobuf


def load(model: str | os.PathLike[str] | bytes, values: Mapping[str, Any] | None = None,
         trainable: bool = False) -> Graph:  # fmt: skip
    """The graph of an ONNX model, from its path or its bytes."""
    load_all()
    proto, file, folder = _parsed(model)
    options = Options(file, folder, {k: np.asarray(v) for k, v in (values or {}).items()},
                      trainable)  # fmt: skip
    graph = Graph(_identifier(proto.graph.name or Path(file).stem))
    builder = Builder(proto, graph, options)
    builder.build()
    if builder.needed:
        raise ModelError(f"values of inputs {', '.join(builder.needed)} are needed")
    return graph


def _parsed(model: str | os.PathLike[str] | bytes) -> tuple[ModelProto, str, Path | None]:
    """The model, what to call it in errors, and the folder where its external data lie."""
    try:
        from google.protobuf.message import DecodeError

        import onnx
    except ImportError:
        raise ModelError("reading ONNX models needs the package onnx",
                         "python -m pip install 'flowmill[onnx]'") from None  # fmt: skip
    file, folder = "model", None
    if isinstance(model, bytes | bytearray | memoryview):
        raw = bytes(model)
    else:
        path = Path(model)
        file, folder = path.name, path.parent
        try:
            if path.stat().st_size >= _LARGEST:
                raise ModelError(f"{path} is no ONNX model: it has more than 2 GiB",
                                 "larger weights lie in files of their own")  # fmt: skip
            raw = path.read_bytes()
        except OSError as e:
            raise ModelError(f"cannot read {path}: {e.strerror}") from None
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(raw)
    except DecodeError as e:
        raise ModelError(f"{file} is no ONNX model, or it is damaged: {e}") from None
    if not proto.HasField("graph") or not proto.opset_import:
        raise ModelError(f"{file} is no ONNX model: it has no graph, or names no opset")
    return proto, file, folder


def _identifier(name: str) -> str:
    """A graph's name as an identifier."""
    spelt = "".join(c if c.isalnum() and c.isascii() else "_" for c in name)
    return spelt if spelt.isidentifier() else f"g_{spelt}"
