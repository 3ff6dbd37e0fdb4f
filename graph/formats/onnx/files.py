"""`fm.onnx`: ONNX models in and out.

In: a path or the bytes of a model. Out: a graph with its inputs and outputs by name, whose nodes
carry the model's node names as places. Nothing in a file is executed.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....errors import FeedError, ModelError, UserError
from ....mapping import MappedFile
from ...definition import Graph
from ...template import Known, Missing, Template
from .build import MALFORMED, Builder, Options
from .registry import load_all
from .save import save
from .tensors import DataFiles
from .wire import without_weights

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from onnx import ModelProto

__all__ = ["load", "save"]

_LARGEST = 1 << 31  # bytes of a protobuf


def load(model: str | os.PathLike[str] | bytes, values: Mapping[str, Any] | None = None,
         trainable: bool = False, sizes: Mapping[str, int] | None = None) -> Graph:  # fmt: skip
    """The graph of an ONNX model, from its path or its bytes.

    Inputs and outputs have the model's names, dimensions its names of dimensions; other tensors can
    be fetched by name too. Nodes say in errors and profiles what they are called in the model.
    `values` fixes inputs by name, to arrays, numbers or lists: they become constants; `sizes` fixes
    dimensions. With `trainable`, weights of float types become variables, to be trained further.

    Where values or sizes that are fed decide shapes or algorithms (the axes of a reduction, whether
    an axis is dropped), the result is a `graph.template.Template`: a session builds and compiles it
    once for each set of such values. `values` and `sizes` given for all of them make it a plain
    graph, as exporting and dumping need.

    ModelError where the file cannot be read or is malformed, and, listing every reason, where the
    model cannot be converted.
    """
    load_all()
    proto, file, data = _parsed(model)
    name = _identifier(proto.graph.name or Path(file).stem)
    fixed = dict(values or {})
    unknown = set(fixed) - {info.name for info in proto.graph.input}
    if unknown:
        raise ModelError(f"{file} has no inputs {', '.join(sorted(unknown))} to give values for",
                         f"it has {', '.join(info.name for info in proto.graph.input)}")  # fmt: skip

    def build(known: Known) -> Builder:
        options = Options(file, data, {**fixed, **known.values}, known.shapes,
                          {**(sizes or {}), **known.sizes}, trainable)  # fmt: skip
        made = Builder(proto, Graph(name), options)
        try:
            made.build()
        except (ModelError, FeedError):
            raise
        except UserError as e:
            raise ModelError(f"{file} is no valid model: {e.message}", *e.notes) from None
        except MALFORMED as e:
            raise ModelError(f"{file} is malformed: {e!r}") from None
        return made

    def again(known: Known) -> tuple[Graph, Missing]:
        made = build(known)
        return made.graph, Missing(tuple(made.needed), tuple(made.shapeless), dict(made.sizes))

    graph, missing = again(Known({}, {}, {}))
    return Template(graph, again, missing) if missing else graph


def operators(model: str | os.PathLike[str] | bytes) -> Counter[str]:
    """How often a model's graph and the graphs inside it have each operator. ModelError where the
    file cannot be read."""
    found: Counter[str] = Counter()
    graphs = [_parsed(model)[0].graph]
    while graphs:
        for node in graphs.pop().node:
            found[f"{node.domain}.{node.op_type}".lstrip(".")] += 1
            graphs += [a.g for a in node.attribute if a.HasField("g")]
    return found


def _parsed(model: str | os.PathLike[str] | bytes) -> tuple[ModelProto, str, DataFiles]:
    """The model, what to call it in errors, and where its external data lie, which are those too
    that stay in its file."""
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise ModelError("reading ONNX models needs the package onnx",
                         "python -m pip install 'flowmill[onnx]'") from None  # fmt: skip
    file, data = "model", DataFiles(None)
    raw: bytes | memoryview
    if isinstance(model, bytes | bytearray | memoryview):
        raw = bytes(model)
    else:
        path = Path(model)
        file = path.name
        try:
            if path.exists() and not (path.is_file() or path.is_dir()):
                raise ModelError(f"{path} is no file that can be read as a whole")
            if path.stat().st_size >= _LARGEST:
                raise ModelError(f"{path} is no ONNX model: it has more than 2 GiB",
                                 "larger weights lie in files of their own")  # fmt: skip
            own = MappedFile(path)
            raw = b"" if own.memory is None else memoryview(own.memory)
            raw = without_weights(memoryview(raw)) or bytes(raw)
        except OSError as e:
            raise ModelError(f"cannot read {path}: {e.strerror}") from None
        data = DataFiles(path.parent, own)
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(raw)
    except DecodeError as e:
        raise ModelError(f"{file} is no ONNX model, or it is damaged: {e}") from None
    if not _is_text(proto):
        raise ModelError(f"{file} is no ONNX model, or it is damaged: a name in it is no text")
    if not proto.HasField("graph") or not proto.opset_import:
        raise ModelError(f"{file} is no ONNX model: it has no graph, or names no opset")
    return proto, file, data


def _is_text(message: Message) -> bool:
    """Whether all strings of a message and those inside it are UTF-8: protobuf gives others as
    bytes."""
    for name, repeated, nested in _text_fields(message.DESCRIPTOR):
        if not repeated and nested and not message.HasField(name):
            continue
        found = getattr(message, name)
        for x in found if repeated else (found,):
            if not (_is_text(x) if nested else isinstance(x, str)):
                return False
    return True


@cache
def _text_fields(kind: Any) -> tuple[tuple[str, bool, bool], ...]:
    """Names of the fields that are or may hold strings, whether there may be several of each, and
    whether they are messages."""
    return tuple(
        (f.name, _is_repeated(f), f.type == f.TYPE_MESSAGE)
        for f in kind.fields
        if f.type in (f.TYPE_MESSAGE, f.TYPE_STRING)
    )


def _is_repeated(field: Any) -> bool:
    """Protobuf before 30 says it otherwise."""
    if hasattr(field, "is_repeated"):
        return bool(field.is_repeated)
    return bool(field.label == field.LABEL_REPEATED)


def _identifier(name: str) -> str:
    """A graph's name as an identifier."""
    spelt = "".join(c if c.isalnum() and c.isascii() else "_" for c in name)
    return spelt if spelt.isidentifier() else f"g_{spelt}"
