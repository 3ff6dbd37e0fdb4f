"""The official tests of the installed onnx package: its cases, which of them are in scope, and one
run of one case through `fm.Session(fm.onnx.load(model)).run(None, feeds)`.

In: the folder `onnx.backend.test.data`. Out: `Case`s, and for each None or the reason it fails. The
judgement is the suite's own: shapes and dtypes equal, values within the case's tolerances. Of what
is drawn at random, values can only be among those that were recorded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import flowmill as fm
import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.loader import DATA_DIR

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator", "light")
PLAIN = frozenset((1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 16))  # floats, integers, bool
OTHER = {"ImageDecoder": "decodes images"}  # operators that take what is no tensor of numbers
RANDOM = ("Bernoulli", "RandomUniform")  # and what begins so

_WRAPS = "the recorded result wraps around where the operator's definition says that it saturates"
_NOISE = "the recorded result is 2e-7 where the exact one is 0, the tolerance there 1e-7"
EXCEPTED = {
    "test_dft_inverse": _NOISE,
    "test_dft_inverse_opset19": _NOISE,
    "test_qlinearmatmul_2D_int8_float16": _WRAPS,
    "test_qlinearmatmul_2D_int8_float32": _WRAPS,
    "test_qlinearmatmul_3D_int8_float16": _WRAPS,
    "test_qlinearmatmul_3D_int8_float32": _WRAPS,
}
"""Cases that cannot pass, and why: onnxruntime fails them too."""


@dataclass(frozen=True)
class Case:
    """One case: its model, the folders of its data, and the suite's tolerances."""

    kind: str
    name: str
    path: Path
    rtol: float = 1e-3
    atol: float = 1e-7

    @property
    def id(self) -> str:
        return f"{self.kind}/{self.name}"


def _texts(folder: Path) -> list[str]:
    return [p.read_text() for p in folder.glob("*/data.json")]


@cache
def cases() -> tuple[Case, ...]:
    """Every case of every kind, by kind and name."""
    found: list[Case] = []
    for kind in KINDS:
        folder = Path(DATA_DIR, kind)
        if kind == "light":
            limits = {k["model_name"]: k for k in map(json.loads, _texts(Path(DATA_DIR, "real")))}
            for path in sorted(folder.glob("*.onnx")):
                data = limits[path.stem.removeprefix("light_")]
                found.append(Case(kind, path.stem, path, data["rtol"], data["atol"]))
            continue
        for path in sorted(folder.glob("*/model.onnx")):
            limits = path.parent / "data.json"
            data = json.loads(limits.read_text()) if limits.exists() else {}
            found.append(Case(kind, path.parent.name, path, data.get("rtol", 1e-3),
                              data.get("atol", 1e-7)))  # fmt: skip
    return tuple(found)


def scope(case: Case) -> str | None:
    """None where a model is made of plain tensors and operators of ai.onnx; else what it needs."""
    model = onnx.load(case.path)
    for domain in (o.domain for o in model.opset_import):
        if domain not in ("", "ai.onnx"):
            return f"domain {domain}"
    for node in _nodes(model.graph.node):
        if node.op_type in OTHER:
            return OTHER[node.op_type]
    for graph in _graphs(model.graph):
        for info in (*graph.input, *graph.output, *graph.value_info):
            kind = info.type.WhichOneof("value")
            if kind is None:
                continue
            if kind != "tensor_type":
                return kind.removesuffix("_type") + "s"
            if info.type.tensor_type.elem_type not in (0, *PLAIN):
                return onnx.TensorProto.DataType.Name(info.type.tensor_type.elem_type).lower()
    for node in _nodes(model.graph.node):
        sequences = "Sequence" in node.op_type and node.op_type != "ReverseSequence"
        if sequences or node.op_type.startswith(("Optional", "String")):
            return "sequences"
    return None


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for a in node.attribute:
            if a.type == onnx.AttributeProto.GRAPH:
                yield from _graphs(a.g)


def _nodes(nodes: Any) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for a in node.attribute:
            if a.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(a.g.node)


def tested(case: Case) -> str:
    """The operator a case of the node set is about: that of its only node, or of the case that its
    name says it expands. Cases of other sets are about their set."""
    if case.kind != "node":
        return case.kind
    base = case.name.partition("_expanded")[0]
    path = Path(DATA_DIR, "node", base, "model.onnx")
    model = onnx.load(path if path.exists() else case.path)
    ops = [n.op_type for n in model.graph.node if n.op_type != "Constant"]
    return ops[-1] if ops else "Constant"


def failure(case: Case) -> str | None:
    """Why a case fails; None if it passes."""
    model = onnx.load(case.path)
    drawn = any(n.op_type.startswith(RANDOM) for n in _nodes(model.graph.node))
    try:
        session = fm.Session(fm.onnx.load(case.path))
    except fm.FlowmillError as e:
        return "; ".join(str(e).splitlines())
    for feeds, wanted in data(case, model):
        try:
            results = session.run(None, feeds)
        except fm.FlowmillError as e:
            return "; ".join(str(e).splitlines())
        problem = compared(results, wanted, case, drawn)
        if problem:
            return problem
    return None


def compared(results: dict[str, Any], wanted: dict[str, Any], case: Case,
             drawn: bool = False) -> str | None:  # fmt: skip
    """How results, `drawn` at random or not, differ from what a case wants."""
    if list(results) != list(wanted):
        return f"outputs {list(results)} instead of {list(wanted)}"
    for name, y in wanted.items():
        got = results[name]
        if got.shape != y.shape or got.dtype != y.dtype:
            return f'"{name}" is {got.dtype}{list(got.shape)}, not {y.dtype}{list(y.shape)}'
        if drawn:
            if not np.isin(got, y).all():
                return f'"{name}" has other values than {np.unique(y).tolist()}'
            continue
        try:
            np.testing.assert_allclose(got, y, rtol=case.rtol, atol=case.atol)
        except AssertionError as e:
            return f'"{name}": {" ".join(str(e).split())[:160]}'
    return None


def data(case: Case, model: onnx.ModelProto) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Feeds and results by name, of every data set."""
    outputs = [o.name for o in model.graph.output]
    if case.kind == "light":  # the suite's runner feeds such models this
        given = {t.name for t in model.graph.initializer}
        feeds = {}
        for info in (i for i in model.graph.input if i.name not in given):
            shape = tuple(d.dim_value for d in info.type.tensor_type.shape.dim)
            size = int(np.prod(shape))
            feeds[info.name] = (np.arange(size).reshape(shape) / size).astype(np.float32)
        wanted = _tensor(case.path.with_name(f"{case.name}_output_0.pb"))
        yield feeds, {outputs[0]: wanted}
        return
    names = [i.name for i in model.graph.input]
    for folder in sorted(case.path.parent.glob("test_data_set_*")):
        inputs = {names[k]: _tensor(p) for k, p in _numbered(folder, "input")}
        yield inputs, {outputs[k]: _tensor(p) for k, p in _numbered(folder, "output")}


def _numbered(folder: Path, what: str) -> list[tuple[int, Path]]:
    found = [(int(p.stem.rpartition("_")[2]), p) for p in folder.glob(f"{what}_*.pb")]
    return sorted(found)


def _tensor(path: Path) -> Any:
    t = onnx.TensorProto()
    t.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(t)
