"""The MNIST example on small files: the C program prints what the Python one does, bit for bit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

EXAMPLES = Path(__file__).parents[2] / "examples"


def write_idx(path: Path, data: np.ndarray) -> None:
    head = b"\0\0\x08" + bytes([data.ndim])
    path.write_bytes(head + b"".join(n.to_bytes(4, "big") for n in data.shape) + data.tobytes())


def test_c_goes_on_where_python_stopped(cc: str, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for part, many in (("train", 300), ("t10k", 1100)):  # neither is a multiple of its batches
        write_idx(tmp_path / f"{part}-images-idx3-ubyte",
                  draw.integers(0, 256, (many, 28, 28), np.uint8))  # fmt: skip
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte", draw.integers(0, 10, many, np.uint8))

    def run(*command: str) -> list[str]:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    trained = run(sys.executable, str(EXAMPLES / "mnist.py"), ".", "1")
    run(cc, "-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", str(EXAMPLES / "mnist.c"),
        "-I.", "-L.", "-lmnist", "-Wl,-rpath,.", "-o", "mnist")  # fmt: skip
    first, second = run("./mnist", ".")
    assert first.removeprefix("as exported: ") == trained[0][trained[0].index("test accuracy") :]
    assert second == trained[1]
