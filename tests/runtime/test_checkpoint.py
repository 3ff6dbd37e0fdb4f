"""Checkpoints: what was saved comes back, and nothing else does."""

from __future__ import annotations

import flowmill as fm
import numpy as np
import pytest
from flowmill.graph.formats import container
from flowmill.runtime import checkpoint


def model(**changes):
    """A session over three variables of three kinds."""
    shapes = {"w": ((3, 4), "float32"), "b": ((4,), "float64"), "count": ((), "int64"), **changes}
    with fm.Graph() as g:
        for k, (name, made) in enumerate(shapes.items()):
            if made is not None:
                fm.variable(name, np.full(made[0], k + 1, made[1]))
    return fm.Session(g, threads=1)


def values(session):
    return {name: array.tobytes() for name, array in session.variables.items()}


def test_what_was_saved_comes_back(tmp_path):
    session, path = model(), tmp_path / "net.safetensors"
    session.set("w", np.arange(12, dtype=np.float32).reshape(3, 4))
    saved = values(session)
    session.save(path)
    for name, array in session.variables.items():
        session.set(name, array + 1)
    session.restore(path)
    assert values(session) == saved
    other = model()
    other.restore(path)
    assert values(other) == saved


def test_other_readers_understand_the_file(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    session, path = model(), tmp_path / "net.safetensors"
    session.save(path)
    read = safetensors.load_file(path)
    assert {n: a.tobytes() for n, a in read.items()} == values(session)


def test_any_flipped_bit_and_any_cut_is_seen(tmp_path):
    session, path = model(), tmp_path / "net.safetensors"
    session.save(path)
    raw = path.read_bytes()
    session.set("count", 77)
    before = values(session)
    rng = np.random.default_rng(0)
    damaged = [raw[:n] for n in (0, 7, 8, 100, len(raw) - 1)] + [raw + b"\0"]
    for at in rng.integers(0, len(raw), 60):
        flipped = bytearray(raw)
        flipped[at] ^= 1 << int(rng.integers(8))
        damaged.append(bytes(flipped))
    for bad in damaged:
        path.write_bytes(bad)
        with pytest.raises(fm.CheckpointError, match="variables are as they were"):
            session.restore(path)
        assert values(session) == before


def test_another_model_is_refused_with_all_differences(tmp_path):
    path = tmp_path / "net.safetensors"
    model(b=((5,), "float64"), count=((), "int32"), w=None, extra=((2,), "float32")).save(path)
    session = model()
    before = values(session)
    with pytest.raises(fm.CheckpointError) as caught:
        session.restore(path)
    text = str(caught.value)
    for part in ('"w" (float32[3, 4]) is missing from the file',
                 '"extra" (float32[2]) is no variable of this graph',
                 '"b" is float64[4], in the file it is float64[5]',
                 '"count" is int64[], in the file it is int32[]'):  # fmt: skip
        assert part in text
    assert values(session) == before


def test_files_of_other_kinds_are_refused(tmp_path):
    session, path = model(), tmp_path / "net.safetensors"
    with pytest.raises(fm.CheckpointError, match="cannot read"):
        session.restore(path)
    container.write(path, session.variables, {"format": "something", "version": "1"})
    with pytest.raises(fm.CheckpointError, match="is not a checkpoint"):
        session.restore(path)
    container.write(path, session.variables, {"format": checkpoint.FORMAT, "version": "999"})
    with pytest.raises(fm.CheckpointError, match="version 999"):
        session.restore(path)


def test_a_path_that_cannot_be_written_leaves_what_is_there(tmp_path, monkeypatch):
    session, path = model(), tmp_path / "net.safetensors"
    with pytest.raises(fm.CheckpointError, match="cannot write"):
        session.save(tmp_path / "absent" / "net.safetensors")
    session.save(path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    session.set("count", 5)
    with pytest.raises(fm.CheckpointError, match="No space left"):
        session.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_eval_needs_no_import_of_the_runtime():
    import subprocess
    import sys

    code = (
        "import sys, flowmill as fm\n"
        "with fm.Graph():\n"
        "    x = fm.input('x', (3,))\n"
        "    y = x * 2 + 1\n"
        "assert 'flowmill.runtime.session' not in sys.modules\n"
        "print(y.eval({'x': [1, 2, 3]}).tolist(), fm.constant(2.0).eval().tolist())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[3.0, 5.0, 7.0] 2.0", done.stderr
