"""One exported network for all tests, and what its session computes; a C compiler where there is one."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flowmill as fm
import numpy as np
import pytest

SOURCES = Path(__file__).parent / "c"
BATCH, STEPS = 13, 5


@dataclass(frozen=True)
class Shipped:
    """A library in a folder, its module, and a session that never ran."""

    folder: Path
    library: Path
    module: fm.Module
    new_session: Callable[[], fm.Session]


def network() -> fm.Module:
    """A small network with a training step; its packed weights are prepared values."""
    with fm.Graph("mlp", seed=3) as g:
        x = fm.input("x", ("batch", 20))
        t = fm.input("t", ("batch", 4))
        generator = np.random.default_rng(5)
        values = {"hidden/w": (20, 16), "hidden/b": (16,), "out/w": (16, 4), "out/b": (4,)}
        v = {k: fm.variable(k, generator.normal(0, 0.3, s).astype("f")) for k, s in values.items()}
        hidden = fm.maximum(x @ v["hidden/w"] + v["hidden/b"], 0)
        y = fm.named(hidden @ v["out/w"] + v["out/b"], "pred")
        d = y - t
        loss = fm.mean(d * d)
        step = fm.optimizers.SGD(0.1).minimize(loss)
    return fm.Module(g, infer=y, train_step={"loss": step})


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    folder = tmp_path_factory.mktemp("ship")
    module = network()
    fm.export(module, folder / "libmlp.so", kinds=("so", "o", "a"))
    return Shipped(folder, folder / "libmlp.so", module, lambda: fm.Session(module.graph))


@pytest.fixture(scope="session")
def cc() -> str:
    found = shutil.which("gcc")
    if found is None:
        pytest.skip("no C compiler")
    return found


FLAGS = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O1"]


@pytest.fixture(scope="session")
def build(shipped: Shipped, cc: str) -> Callable[..., Path]:
    """`build("train", "-lmlp")`: a program from c/train.c, linked as told."""

    def make(name: str, *link: str, suffix: str = "") -> Path:
        out = shipped.folder / f"{name}{suffix}"
        flags = [f for f in FLAGS if name != "train" or f != "-pedantic"]
        extra = ["-D_ISOC11_SOURCE", f"-I{shipped.folder}", f"-L{shipped.folder}",
                 f"-Wl,-rpath,{shipped.folder}", "-pthread"]  # fmt: skip
        run(cc, *flags, *extra, str(SOURCES / f"{name}.c"), "-o", str(out), *(link or ("-lmlp",)))
        return out

    return make


def run(*command: str, **options: Any) -> str:
    """What a command prints; fails with what it says."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, **options)
    assert done.returncode == 0, f"{command[0]}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def data() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The numbers train.c makes."""
    seed, out = 1, []
    for _ in range(BATCH * 24):
        seed = (seed * 1664525 + 1013904223) & 0xFFFFFFFF
        out.append(np.float32(seed >> 8) / np.float32(16777216) - np.float32(0.5))
    both = np.array(out, np.float32)
    return both[: BATCH * 20].reshape(BATCH, 20), both[BATCH * 20 :].reshape(BATCH, 4)


def bits(x: Any) -> str:
    return " ".join(f"{v:08x}" for v in np.ascontiguousarray(x, np.float32).reshape(-1).view("u4"))


def expected(shipped: Shipped) -> list[str]:
    """The lines train.c prints, from a session."""
    session = shipped.new_session()
    functions = shipped.module.functions
    y, loss = functions["infer"].outputs[0][1], functions["train_step"].outputs[0][1]
    x, t = data()
    lines = []
    for step in range(STEPS):
        rows = 1 + step * 3
        lines.append("y " + bits(session.run(y, {"x": x[:rows]})))
        lines.append("loss " + bits(session.run(loss, {"x": x, "t": t})))
    return [*lines, "w " + bits(session.get("out/w"))]
