"""Memory that ONNX models take: after loading, and after a first run, beyond what Python with
flowmill and onnx takes anyway.

    python benchmarks/onnx_memory.py [--gib 1] [MODEL.onnx...]

Each model is measured in processes of its own, once compiling and once from the cache; without a
model one of dense layers is made, its weights in a second file. `--dim` is the size of axes that are
known at run time only. RSS is resident memory, of which "file" are clean pages of mapped files.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

MIB = 1 << 20
_WIDTH = 4096  # of a layer: 64 MiB of weights


def resident() -> dict[str, float]:
    """MiB of this process: all, without mapped files, of these, and the most there ever were."""
    names = {"VmRSS": "rss", "RssAnon": "own", "RssFile": "file", "VmHWM": "peak"}
    lines = Path("/proc/self/status").read_text().splitlines()
    return {names[k]: int(v.split()[0]) / 1024 for k, v in
            (line.split(":", 1) for line in lines) if k in names}  # fmt: skip


def measure(path: Path, dim: int) -> dict[str, dict[str, float]]:
    """What this process takes at each stage of a model's life."""
    import flowmill as fm
    import numpy as np
    import onnx
    from flowmill.graph.formats.onnx.registry import load_all

    load_all()
    assert onnx.ModelProto
    found = {"before": resident()}
    graph = fm.onnx.load(path)
    session = fm.Session(graph)
    found["loaded"] = resident()
    rng = np.random.default_rng(0)
    feeds = {}
    for name, v in graph.inputs.items():
        shape = [d if isinstance(d, int) else dim for d in v.shape]
        feeds[name] = (rng.integers(0, 2, shape) if v.dtype.is_integer else rng.random(shape)).astype(
            v.dtype.numpy)  # fmt: skip
    session.run(None, feeds)
    found["run"] = resident()
    return found


def synthetic(path: Path, gib: float) -> None:
    """A model with so many GiB of weights in a second file."""
    import flowmill as fm
    import numpy as np

    rng = np.random.default_rng(0)
    with fm.Graph("dense") as graph:
        h = fm.input("x", ("batch", _WIDTH))
        for _ in range(max(1, round(gib * 16))):
            w = rng.standard_normal((_WIDTH, _WIDTH), np.float32) / 64
            h = fm.relu(h @ fm.constant(w))
        fm.output("y", h)
    fm.onnx.save(graph, path, external=True)


def report(path: Path, dim: int) -> None:
    """Prints the figures of one model, in processes that do nothing else."""
    files = [path, path.with_name(f"{path.name}.data")]
    size = sum(f.stat().st_size for f in files if f.exists()) / MIB
    print(f"{path.name}: {size:.1f} MiB")
    for how in ("compiling", "from the cache"):
        child = [sys.executable, __file__, "--measure", "--dim", str(dim), str(path)]
        found = json.loads(subprocess.run(child, check=True, capture_output=True).stdout)
        before = found["before"]["rss"]
        for stage in ("loaded", "run"):
            now = found[stage]
            more = now["rss"] - before
            print(f"  {how}, {stage:6}: {more:8.1f} MiB more, {more / size:.2f} of the file; RSS "
                  f"{now['rss']:.1f}, of it file {now['file']:.1f}; peak {now['peak']:.1f}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--gib", type=float, default=1.0)
    parser.add_argument("--dim", type=int, default=2)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.models[0], args.dim)))
        return
    for path in args.models:
        report(path, args.dim)
    if not args.models:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "dense.onnx")
            synthetic(path, args.gib)
            report(path, args.dim)


if __name__ == "__main__":
    main()
