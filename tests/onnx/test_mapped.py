"""Weights of ONNX models stay in their files: what is mapped, what is given back, what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import flowmill as fm
import numpy as np
import onnx
import pytest
from flowmill import mapping
from flowmill.dtypes import float32
from flowmill.graph.formats.onnx.wire import OWN_FILE, without_weights
from flowmill.graph.ops.source import Constant

from tests.onnx.models import info, model, node

ROOT = Path(__file__).resolve().parents[2]
X = np.random.default_rng(0).standard_normal((3, 64), "float32")


def resident() -> int:
    """Bytes of mapped files in memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssFile"))


def dense(folder: Path, name: str = "w", **how) -> tuple[Path, np.ndarray]:
    """A model with a weight of 256 KiB."""
    w = np.random.default_rng(1).standard_normal((64, 1024), "float32")
    made = model([node("MatMul", f"x {name}", "y")], [info("x", "f", ["n", 64])], ["y"], {name: w})
    onnx.save(made, folder / "m.onnx", **how)
    return folder / "m.onnx", w


def held(graph: fm.Graph) -> list[np.ndarray]:
    return [n.op.data.array for n in graph.made_since(0) if isinstance(n.op, Constant)]


def lies_in_a_file(array: np.ndarray) -> bool:
    base = array
    while isinstance(base, np.ndarray):
        base = base.base
    return type(getattr(base, "obj", base)).__name__ == "mmap"


@pytest.mark.parametrize("name", ("w", "we", "wei", "weig"))
def test_large_weights_of_the_model_itself(name, tmp_path):
    """At whatever address they lie: names of several lengths move them by a byte each."""
    path, w = dense(tmp_path, name)
    graph = fm.onnx.load(path)
    (array,) = held(graph)
    assert lies_in_a_file(array) and not array.flags.writeable
    np.testing.assert_array_equal(array, w)
    np.testing.assert_allclose(fm.Session(graph).run("y", {"x": X}), X @ w, rtol=1e-4, atol=1e-4)
    (copied,) = held(fm.onnx.load(path.read_bytes()))
    np.testing.assert_array_equal(copied, w)
    fm.Session(fm.onnx.load(path, trainable=True)).set(name, w * 2)


def test_external_weights_share_one_mapping(tmp_path):
    """However many there are: a mapping each would need a file descriptor each."""
    weights = {f"w{k}": np.full(4, k, np.float32) for k in range(600)}
    nodes = [node("Concat", " ".join(weights), "y", axis=0)]
    made = model(nodes, [info("x", "f", [1])], ["y"], weights)
    onnx.save(made, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0, location="d")
    before = len(os.listdir("/proc/self/fd"))
    graph = fm.onnx.load(tmp_path / "m.onnx")
    assert len(os.listdir("/proc/self/fd")) <= before + 2
    assert len(held(graph)) == 600 and all(map(lies_in_a_file, held(graph)))


def test_memory_is_given_back(tmp_path):
    file = tmp_path / "numbers"
    np.arange(1 << 22, dtype=np.float32).tofile(file)
    array = mapping.MappedFile(file).array(float32, 4, (1 << 22) - 1)
    total = array.sum(dtype=np.float64)
    full = resident()
    mapping.give_back(array)
    assert resident() < full - (15 << 20)
    assert array.sum(dtype=np.float64) == total  # it is read again
    mapping.give_back(np.zeros(1 << 20))  # nothing of which lies in a file
    assert mapping.MappedFile(Path(os.devnull)).array(float32, 0, 0).size == 0


def test_replaced_files_do_no_harm(tmp_path):
    path, w = dense(tmp_path, save_as_external_data=True, size_threshold=0, location="d")
    graph = fm.onnx.load(path)
    fm.onnx.save(graph, path, external=True)
    (tmp_path / "d").unlink()
    for made in (graph, fm.onnx.load(path)):
        np.testing.assert_allclose(fm.Session(made).run("y", {"x": X}), X @ w, rtol=1e-4, atol=1e-4)


def test_a_model_cannot_point_into_itself_from_bytes(tmp_path):
    """What stands for the model's own file is refused where there is none, and where it is short."""
    path, _ = dense(tmp_path)
    shortened = without_weights(memoryview(path.read_bytes()))
    assert shortened is not None and len(shortened) < 1000
    with pytest.raises(fm.ModelError, match="give the model's path"):
        fm.onnx.load(shortened)
    path.write_bytes(shortened)  # places beyond the end of the file it now is
    with pytest.raises(fm.ModelError, match="does not lie in its model's file"):
        fm.onnx.load(path)
    made = onnx.ModelProto.FromString(shortened)
    (entry,) = (e for e in made.graph.initializer[0].external_data if e.key == "location")
    assert entry.value == OWN_FILE


def test_damaged_messages_are_left_to_the_parser(tmp_path):
    path, _ = dense(tmp_path)
    raw = path.read_bytes()
    for cut in (0, 1, 100, len(raw) // 2, len(raw) - 1):
        path.write_bytes(raw[:cut])
        with pytest.raises(fm.ModelError):
            fm.onnx.load(path)


@pytest.mark.slow
def test_packed_weights_are_in_memory_once(tmp_path):
    """A model of 256 MiB: what is resident after a first run. Twice as much were the weights and what
    is packed of them."""
    command = [sys.executable, ROOT / "benchmarks" / "onnx_memory.py"]
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        from onnx_memory import synthetic
    finally:
        sys.path.pop(0)
    path = tmp_path / "dense.onnx"
    synthetic(path, 0.25)
    for _ in range(2):
        done = subprocess.run([*command, "--measure", path], check=True, capture_output=True)
    found = json.loads(done.stdout)
    assert found["loaded"]["rss"] - found["before"]["rss"] < 20
    assert found["run"]["rss"] - found["before"]["rss"] < 1.1 * 256
