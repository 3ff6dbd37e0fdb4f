"""Weights of other frameworks, by name."""

from __future__ import annotations

from pathlib import Path
from random import Random

import flowmill as fm
import numpy as np
import pytest
from flowmill import layers
from safetensors.numpy import save, save_file

RENAME = {r"^fc(\d)\.": r"net/fc\1/", "num_batches_tracked": None, "weight$": "kernel"}
TRANSPOSE = {r"fc\d/kernel": (1, 0)}


def session() -> fm.Session:
    with fm.Graph() as graph:
        x = fm.input("x", ("n", 3))
        net = fm.Sequential([layers.Dense(4, name="fc1"), layers.Dense(2, name="fc2")], name="net")
        fm.output("y", net(x))
    return fm.Session(graph, threads=1)


def stored() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"fc1.weight": (4, 3), "fc1.bias": (4,), "fc2.weight": (2, 4), "fc2.bias": (2,)}
    return {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}


def wanted(x: np.ndarray) -> np.ndarray:
    w = stored()
    return (x @ w["fc1.weight"].T + w["fc1.bias"]) @ w["fc2.weight"].T + w["fc2.bias"]


@pytest.mark.parametrize("form", ["file", "arrays"])
def test_by_name(form: str, tmp_path: Path) -> None:
    arrays = {**stored(), "fc1.num_batches_tracked": np.array(3)}
    save_file(arrays, tmp_path / "w.safetensors")
    s, x = session(), np.ones((5, 3), np.float32)
    source = tmp_path / "w.safetensors" if form == "file" else arrays
    assert s.load_weights(source, RENAME, TRANSPOSE) == ((), ())
    np.testing.assert_allclose(s.run("y", {"x": x}), wanted(x), rtol=1e-5)


def test_what_is_missing_or_unexpected() -> None:
    arrays = {**stored(), "head.weight": np.ones(3, np.float32)}
    del arrays["fc2.bias"]
    s = session()
    before = s.variables
    with pytest.raises(fm.CheckpointError) as caught:
        s.load_weights(arrays, RENAME)
    for words in ('nothing is for "net/fc2/bias" ([2])', '"head.weight" ([3]) is for no variable',
                  '"fc1.weight" is [4, 3], "net/fc1/kernel" [3, 4]: transpose it?'):  # fmt: skip
        assert words in str(caught.value)
    assert all((a == before[n]).all() for n, a in s.variables.items())
    found = s.load_weights(arrays, RENAME, TRANSPOSE, strict=False)
    assert found.missing == ("net/fc2/bias",) and found.unexpected == ("head.weight",)
    assert (s.get("net/fc2/kernel") == arrays["fc2.weight"].T).all()


def test_arguments() -> None:
    s, arrays = session(), stored()
    for rename, transpose, words in (
        ({**RENAME, r"fc2": "fc1"}, TRANSPOSE, 'both for "net/fc1/'), ({"(": ""}, {}, "pattern"),
        (RENAME, {"kernel": (0,)}, "cannot be transposed by"),
    ):  # fmt: skip
        with pytest.raises(fm.CheckpointError, match=words):
            s.load_weights(arrays, rename, transpose)
    with pytest.raises(fm.CheckpointError, match="cannot read"):
        s.load_weights("/nowhere")


def test_damaged_files(tmp_path: Path) -> None:
    """Bytes changed anywhere end in an error, or in numbers; never in anything else."""
    raw, s, random = save(stored()), session(), Random(5)
    for _ in range(400):
        bad = bytearray(raw)
        for _ in range(random.choice((1, 2, 8))):
            at = random.randrange(min(len(bad), 360))
            bad[at] = random.choice((0, 0xFF, bad[at] ^ 1, ord("9"), ord("-"), ord("[")))
        if random.random() < 0.3:
            del bad[random.randrange(len(bad)) :]
        (tmp_path / "bad").write_bytes(bad)
        try:
            s.load_weights(tmp_path / "bad", RENAME, TRANSPOSE, strict=False)
        except fm.CheckpointError:
            continue
