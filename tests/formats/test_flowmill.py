"""The `.fm` file: what goes in comes out, and every damage is reported."""

from __future__ import annotations

import json
import os
import random
import stat
from pathlib import Path

import numpy as np
import pytest
from flowmill.errors import ModelError
from flowmill.graph.definition import Graph, dim, input, named, output, variable
from flowmill.graph.formats import container
from flowmill.graph.formats.flowmill import load_graph, save
from flowmill.graph.initializers import glorot_uniform
from flowmill.graph.ops.linalg import matmul
from flowmill.graph.ops.reduce import mean
from flowmill.graph.ops.source import constant
from flowmill.graph.optimizers import Adam
from flowmill.graph.state import assign

from ..harness import Runner

X = np.linspace(-1, 1, 12).astype(np.float32).reshape(4, 3)


def network() -> Graph:
    with Graph("net", seed=5) as g:
        x = input("x", (dim("batch", 1, 64), 3))
        w = variable("fc/w", glorot_uniform, (3, 40))
        table = constant(np.arange(40, dtype=np.float32))
        y = named(matmul(x, w) + table, "y")
        count = variable("count", np.int64(0), trainable=False)
        output("logits", y * 2)
        output("train", Adam(0.1).minimize(mean(y * y)))
        named(assign(count, count + 1), "tick")
    return g


def test_round_trip(tmp_path: Path) -> None:
    g = network()
    save(g, tmp_path / "net.fm")
    h = load_graph(tmp_path / "net.fm")
    assert (h.graph_name, h.seed) == ("net", 5)
    assert list(h.values) == list(g.values) and list(h.outputs) == list(g.outputs)
    assert list(h.variables) == list(g.variables) and list(h.inputs) == ["x"]
    assert [i.trainable for i in h.variables.values()] == [
        i.trainable for i in g.variables.values()
    ]
    assert h.symbols["batch"] == g.symbols["batch"]
    assert h.find("y").node.loc.line == g.find("y").node.loc.line
    one, two = Runner(g), Runner(h)
    for _ in range(3):
        for runner in (one, two):
            runner.run([runner.graph.find(n) for n in ("train", "tick")], {"x": X})
    for name, array in one.variables.items():
        np.testing.assert_array_equal(array, two.variables[name])
        assert array.dtype == two.variables[name].dtype
    save(h, tmp_path / "again.fm")
    assert (tmp_path / "again.fm").read_bytes() == (tmp_path / "net.fm").read_bytes()


def test_loaded_graph_can_be_extended(tmp_path: Path) -> None:
    save(network(), tmp_path / "net.fm")
    h = load_graph(tmp_path / "net.fm")
    with h:
        train = Adam(0.1).minimize(mean(h.find("y")))
    assert "adam_2/step" in h.variables
    runner = Runner(h)
    runner.run(train, {"x": X})
    assert runner.variables["adam_2/step"] == 1 and runner.variables["adam/step"] == 0


def test_given_variables_are_saved(tmp_path: Path) -> None:
    g = network()
    save(g, tmp_path / "net.fm", {"fc/w": np.full((3, 40), 7)})
    runner = Runner(load_graph(tmp_path / "net.fm"))
    assert (runner.variables["fc/w"] == 7).all()
    assert runner.variables["fc/w"].dtype == np.float32
    with pytest.raises(ModelError, match='no variable "fc/v"'):
        save(g, tmp_path / "net.fm", {"fc/v": 1})
    with pytest.raises(ModelError, match=r"shape \(3, 40\)"):
        save(g, tmp_path / "net.fm", {"fc/w": np.zeros((40, 3))})
    assert (Runner(load_graph(tmp_path / "net.fm")).variables["fc/w"] == 7).all()


def test_any_safetensors_reader_opens_it(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    save(network(), tmp_path / "net.fm")
    arrays = load_file(tmp_path / "net.fm")
    assert arrays["variable:fc/w"].shape == (3, 40)


def test_every_dtype(tmp_path: Path) -> None:
    from flowmill.dtypes import ALL

    arrays = {d.name: np.array([[1, 0, 1]]).astype(d.numpy) for d in ALL}
    container.write(tmp_path / "a.st", {**arrays, "empty": np.zeros((0, 3))}, {"k": "ä"})
    back, metadata = container.read(tmp_path / "a.st")
    assert metadata == {"k": "ä"} and back.pop("empty").shape == (0, 3)
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype and (back[name] == array).all()
        assert not back[name].flags.writeable


def test_truncated_and_flipped_files(tmp_path: Path) -> None:
    path = tmp_path / "net.fm"
    save(network(), path)
    raw = path.read_bytes()
    rng = random.Random(1)
    for length in (0, 1, 7, 8, 9, 100, len(raw) - 1, *(rng.randrange(len(raw)) for _ in range(20))):
        path.write_bytes(raw[:length])
        with pytest.raises(ModelError, match="damaged"):
            load_graph(path)
    path.write_bytes(raw + b"x")
    with pytest.raises(ModelError, match="damaged"):
        load_graph(path)
    positions = [*range(16), *(rng.randrange(len(raw)) for _ in range(200))]
    for at in positions:
        changed = bytearray(raw)
        changed[at] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(ModelError, match="damaged"):
            load_graph(path)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("version", "2", "format version 2"),
        ("format", "other", "no graph"),
        ("graph", "graph x() -> () { %0 = nothing() }", "valid graph"),
        ("graph", "", "valid graph"),
        ("structure", "[]", "valid graph"),
        ("structure", "{", "valid graph"),
    ],
)
def test_files_that_say_something_else(tmp_path: Path, key: str, value: str, says: str) -> None:
    save(network(), tmp_path / "net.fm")
    arrays, metadata = container.read(tmp_path / "net.fm")
    container.write(tmp_path / "net.fm", arrays, {**metadata, key: value})
    with pytest.raises(ModelError, match=says):
        load_graph(tmp_path / "net.fm")


def test_a_structure_that_lies(tmp_path: Path) -> None:
    save(network(), tmp_path / "net.fm")
    arrays, metadata = container.read(tmp_path / "net.fm")
    structure = json.loads(metadata["structure"])
    lies: list[dict[str, object]] = [
        {"names": {"x": 999}}, {"variables": {"x": structure["names"]["x"]}}, {"seed": "x"},
        {"updates": [[0, [[0, 0]]]]}, {"variables": {"gone": structure["names"]["fc/w"]}},
        {"inputs": {"x": structure["names"]["y"]}}, {"name": "a b"},
    ]  # fmt: skip
    for lie in lies:
        text = json.dumps({**structure, **lie})
        container.write(tmp_path / "lie.fm", arrays, {**metadata, "structure": text})
        with pytest.raises(ModelError, match=r"lie\.fm"):
            load_graph(tmp_path / "lie.fm")
    small = {k: v[:1] if k == "variable:fc/w" else v for k, v in arrays.items()}
    container.write(tmp_path / "lie.fm", small, metadata)
    with pytest.raises(ModelError, match='"fc/w" is'):
        load_graph(tmp_path / "lie.fm")


def header(table: object, length: int | None = None) -> bytes:
    text = json.dumps(table).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "raw",
    [
        header({}, 1 << 62),
        header([]),
        header({"__metadata__": []}),
        header({"__metadata__": {"digest": ""}}),
        header({"a": {"dtype": "F32", "shape": [1 << 60, 1 << 60], "data_offsets": [0, 4]},
                "__metadata__": {"digest": ""}}),
        header("[" * 100000),
        b"\x80\x04\x95pickle",
    ],
)  # fmt: skip
def test_hostile_headers(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "bad.fm").write_bytes(raw)
    with pytest.raises(ModelError, match="damaged"):
        load_graph(tmp_path / "bad.fm")


def test_consistent_digest_but_wrong_offsets(tmp_path: Path) -> None:
    def put(table: dict[str, object], data: bytes) -> None:
        digest = container._digest(table, {}, data)
        text = container._header(table, {"digest": digest})
        (tmp_path / "bad.st").write_bytes(len(text).to_bytes(8, "little") + text + data)

    good = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    put({"a": good}, b"\0" * 8)
    assert container.read(tmp_path / "bad.st")[0]["a"].shape == (2,)
    for change in ({"shape": [3]}, {"shape": [-2]}, {"shape": [True, 2]}, {"data_offsets": [0, 9]},
                   {"data_offsets": [-8, 0]}, {"dtype": "F128"}, {"shape": [1 << 62]},
                   {"shape": "2"}, {"data_offsets": [0]}, {"shape": 2}):  # fmt: skip
        put({"a": {**good, **change}}, b"\0" * 8)
        with pytest.raises(ModelError, match="damaged"):
            container.read(tmp_path / "bad.st")
    put({"a": good}, b"\0" * 12)
    with pytest.raises(ModelError, match="belong to no array"):
        container.read(tmp_path / "bad.st")


def test_places_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        load_graph(tmp_path / "none.fm")
    with pytest.raises(ModelError, match="directory"):
        load_graph(tmp_path)
    with pytest.raises(ModelError, match="cannot write"):
        save(network(), tmp_path / "none" / "net.fm")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ModelError, match="cannot write"):
        save(network(), tmp_path / "folder")
    assert os.listdir(tmp_path) == ["folder"]


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.fm"
    save(network(), path)
    before = path.read_bytes()

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ModelError, match="No space left"):
        save(network(), path, {"count": 9})
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["net.fm"]
    assert stat.S_IMODE(path.stat().st_mode) & 0o600 == 0o600


def test_hostile_text(tmp_path: Path) -> None:
    """Files whose digest is right and whose graph is not, as nobody but an attacker writes them."""
    save(network(), tmp_path / "net.fm")
    arrays, metadata = container.read(tmp_path / "net.fm")
    draw = random.Random(3)
    pieces = ["-1", "0", "99999999999999999999", "1e400", "nan", "]", "(", "{", '"', "%0", "f32[",
              "null", "[]", "x" * 5000, "\0", "(" * 2000]  # fmt: skip
    loaded = 0
    for _ in range(300):
        bad = dict(metadata)
        which = draw.choice(("graph", "structure"))
        text = bad[which]
        for _ in range(draw.choice((1, 1, 3))):
            at = draw.randrange(len(text))
            word = text[at : at + draw.choice((1, 3, 10))]
            other = draw.choice((draw.choice(pieces), text[draw.randrange(len(text)) :][:8], ""))
            text = text.replace(word, other, 1) if draw.random() < 0.5 else (
                text[:at] + other + text[at + len(word) :])  # fmt: skip
        bad[which] = text
        container.write(tmp_path / "bad.fm", arrays, bad)
        try:
            load_graph(tmp_path / "bad.fm")
            loaded += 1
        except ModelError:
            pass
    assert loaded < 150
