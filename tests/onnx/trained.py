"""Trained models against onnxruntime: values at several sizes, threads, times, memory.

    python tests/onnx/trained.py MANIFEST MODELS [--only NAME ...] [--write | --memory]

In: a manifest of models with recorded inputs, and the folder the models lie in. Out: a row for each
model; `--write` puts the table into `docs/onnx-models.md`. Needs onnxruntime. Each model is run in
processes of its own: one that compiles anew, one that finds what was compiled. `--memory` runs each
at fifty sizes instead and says by how much the second half of them made the process grow.

Where dimensions are dynamic, the recorded inputs are repeated or cut to three sizes. The largest
difference is relative to the largest magnitude of the tensor. Where onnxruntime with optimisations
and without differ by as much, the decision counts: where the largest score of the first output
stands, at the last place of a sequence.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docs" / "onnx-models.md"
WANTED = 1e-3  # of a tensor's largest magnitude
HEAD = """# Trained models

Every model of the collection that is made of standard operators, run by flowmill and by
onnxruntime {version} at the sizes listed (of the input with most axes): "difference" is the largest
one of all outputs and sizes, relative to a tensor's largest magnitude; "its own" that between
onnxruntime with and without optimisations. Where the latter exceeds 1e-3 (a value that is
quantised on the way falls to one side or the other), the decision is the same: the largest score.
One and two threads give the same bits.

"load" is the seconds that reading the model takes, "cold" those of compiling it, "cached" those of
loading and finding the compiled program in a new process; "run" and "onnxruntime" are milliseconds
on one thread at the first size, on a shared machine ({cpu}): ratios say more than times. Written by
`tests/onnx/trained.py`.

| Model | Sizes | Difference | Its own | load | cold | cached | run | onnxruntime |
|---|---|---|---|---|---|---|---|---|
"""

# What the second and third size are where models take only some: dimensions by name.
SIZES: dict[str, tuple[dict[str, int], ...]] = {
    "rapidocr_v4/ch_PP-OCRv4_rec_infer.onnx": ({"p2o_DynamicDimension_0": 2,
                                                "p2o_DynamicDimension_1": 480},
                                               {"p2o_DynamicDimension_0": 3,
                                                "p2o_DynamicDimension_1": 100}),
    "minimind2/model_quantized.onnx": (
        {"batch_size": 2, "sequence_length": 5, "past_sequence_length": 20},
        {"batch_size": 3, "sequence_length": 16, "past_sequence_length": 7}),
    "rapidocr_v4/ch_ppocr_mobile_v2.0_cls_infer.onnx": ({"x_0": 3, "x_2": 64, "x_3": 288},
                                                        {"x_0": 1, "x_2": 48, "x_3": 96}),
    "silero_vad/silero_vad_16k_op15.onnx": ({"batch": 2}, {"batch": 3}),
}  # fmt: skip


def sizes(path: str, graph: Any, recorded: Mapping[str, Any]) -> list[dict[str, int]]:
    """Values of the dimensions of a graph's inputs: the recorded ones, and two more sets."""
    first = solved(graph, recorded)
    if path in SIZES:
        return [first, *({**first, **more} for more in SIZES[path])]
    if not first:
        return [first]

    def scaled(n: int, num: int, den: int, add: int) -> int:
        step = next(s for s in (32, 16, 8, 4, 2, 1) if n % s == 0 and (s == 1 or n >= 4 * s))
        return n + add if n <= 8 else max(n * num // den // step * step, step)

    return [first, {k: scaled(n, 3, 2, 1) for k, n in first.items()},
            {k: scaled(n, 1, 2, 2) for k, n in first.items()}]  # fmt: skip


def solved(graph: Any, feeds: Mapping[str, Any]) -> dict[str, int]:
    """The values of the symbols that the shapes of feeds show."""
    from flowmill.dims import DimExpr

    found: dict[str, int] = {}
    for name, value in graph.inputs.items():
        for d, n in zip(value.shape, np.shape(feeds[name])):
            if isinstance(d, DimExpr) and str(d).isidentifier():
                found[str(d)] = n
    return found


def resized(graph: Any, feeds: Mapping[str, Any], values: Mapping[str, int]) -> dict[str, Any]:
    """Feeds repeated or cut along the dynamic axes."""
    from flowmill.dims import DimExpr, evaluate

    out = {}
    for name, given in feeds.items():
        array = np.asarray(given)
        shape = graph.inputs[name].shape if name in graph.inputs else array.shape
        for axis, d in enumerate(shape):
            if isinstance(d, DimExpr):
                n = int(evaluate(d, values))
                if array.shape[axis]:
                    array = np.take(array, np.arange(n) % array.shape[axis], axis)
                else:
                    whole = [n if k == axis else m for k, m in enumerate(array.shape)]
                    array = np.zeros(whole, array.dtype)
        out[name] = np.array(array, order="C")
    return out


def difference(got: Any, wanted: Any) -> float:
    """The largest difference relative to the largest magnitude; infinite where not comparable."""
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        return float("inf")
    if not got.size:
        return 0.0
    a, b = got.astype(np.float64), wanted.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if same.all():
        return 0.0
    scale = np.abs(b[np.isfinite(b)]).max(initial=0.0) or 1.0
    gap = np.abs(np.where(same, 0, a - b)).max() / scale
    return float("inf") if np.isnan(gap) else float(gap)


def decided(got: Any, wanted: Any) -> bool:
    """Whether the largest scores stand at the same places, at the end of a sequence."""
    if got.shape != wanted.shape:
        return False
    a, b = (x[..., -1, :] if x.ndim > 2 else x for x in (got, wanted))
    return bool(np.all(a.argmax(-1) == b.argmax(-1)))


def timed(call: Any, seconds: float = 0.5) -> float:
    """Milliseconds of the fastest call."""
    best, end = float("inf"), time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        call()
        now = time.perf_counter()
        best = min(best, now - start)
        if now > end:
            return best * 1e3


def peer(path: Path, optimised: bool, threads: int = 1) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def recordings(manifest: Path, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The recorded inputs of the cases of a model."""
    found = []
    for e in entries:
        npz = next(manifest.parent / p for p in e["io_npz"] if p.endswith(".in.npz"))
        with np.load(npz) as data:
            found.append({name: data[name] for name in data.files})
    return found


def first_result(path: Path, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """Seconds that loading and compiling a model take."""
    import flowmill as fm
    import onnx  # noqa: F401 - the time is flowmill's

    start = time.perf_counter()
    graph = fm.onnx.load(path)
    loaded = time.perf_counter()
    session = fm.Session(graph, threads=2)
    session.bound(None, feeds)
    return {"load": loaded - start, "compile": time.perf_counter() - loaded}


def judged(manifest: Path, folder: Path, path: str) -> dict[str, Any]:
    """What the row of a model says."""
    entries = [e for e in json.loads(manifest.read_text())["models"] if e["path"] == path]
    recorded = recordings(manifest, entries)
    out: dict[str, Any] = first_result(folder / path, recorded[0])
    import flowmill as fm

    graph = fm.onnx.load(folder / path)
    one, two = (fm.Session(graph, threads=n) for n in (1, 2))
    plain, best = (peer(folder / path, optimised) for optimised in (False, True))
    names = [o.name for o in best.get_outputs()]
    sets = [resized(graph, recorded[0], s) for s in sizes(path, graph, recorded[0])]
    sets += recorded[1:]
    out.update(sizes=[], difference=0.0, peers=0.0, problems=[])
    for feeds in sets:
        shapes = [list(np.shape(x)) for x in feeds.values()]
        out["sizes"].append(max(shapes, key=len))
        wanted, other = (dict(zip(names, s.run(names, feeds))) for s in (best, plain))
        try:
            got, again = (s.run(None, feeds) for s in (one, two))
        except fm.FlowmillError as e:
            out["problems"].append(f"{shapes[0]}: {' '.join(str(e).split())}")
            continue
        peers = max(difference(other[name], wanted[name]) for name in names)
        agrees = peers > WANTED and decided(got[names[0]], wanted[names[0]])
        out["peers"] = max(out["peers"], peers)
        for name in names:
            if got[name].tobytes() != again[name].tobytes():
                out["problems"].append(f"{name} at {shapes[0]}: threads differ")
            gap = difference(got[name], wanted[name])
            out["difference"] = max(out["difference"], gap)
            if gap > WANTED and not agrees:
                out["problems"].append(f"{name} at {shapes[0]}: {gap:.1e} (peers {peers:.1e})")
    feeds = sets[0]
    if not out["problems"]:
        out["run"] = timed(lambda: one.run(None, feeds))
    out["onnxruntime"] = timed(lambda: best.run(names, feeds))
    return out


def resident() -> float:
    """MiB of the process."""
    gc.collect()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def grown(manifest: Path, folder: Path, path: str) -> dict[str, Any]:
    """By how many MiB a process grows between the middle and the end of fifty runs at sizes that
    vary, the largest of them first."""
    import flowmill as fm

    entries = [e for e in json.loads(manifest.read_text())["models"] if e["path"] == path]
    recorded = recordings(manifest, entries)[0]
    graph = fm.onnx.load(folder / path)
    session = fm.Session(graph, threads=2)
    tried = sizes(path, graph, recorded)
    middle = 0.0
    for turn in range(50):
        if turn == 25:
            middle = resident()
        values = {}
        for k in tried[0]:
            given = [s[k] for s in tried]
            unit = next(n for n in (32, 16, 8, 4, 2, 1) if all(v % n == 0 for v in given))
            steps = (max(given) - min(given)) // unit + 1
            values[k] = max(given) - turn % steps * unit
        session.run(None, resized(graph, recorded, values))
    return {"grown": resident() - middle, "resident": resident()}


def _child(arguments: list[str], folder: str) -> dict[str, Any]:
    """What a process of its own says about a model, in whose `folder` it keeps what it compiles."""
    command = [sys.executable, __file__, *arguments]
    known = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    known |= {"FLOWMILL_CACHE": f"{folder}/programs", "PYTHONPYCACHEPREFIX": f"{folder}/python"}
    made = subprocess.run(command, capture_output=True, text=True, env=known)
    last = (made.stdout.strip().splitlines() or [""])[-1]
    if made.returncode or not last.startswith("{"):
        return {"problems": [f"exit {made.returncode}: {made.stderr.strip()[-600:]}"]}
    found: dict[str, Any] = json.loads(last)
    return found


def row(path: str, found: Mapping[str, Any]) -> str:
    shown = " ".join("x".join(map(str, s)) for s in found.get("sizes", []))
    numbers = {k: float(found.get(k, "nan")) for k in ("difference", "peers")}
    cells = [path, shown, *(f"{n:.1e}" for n in numbers.values())]
    cells += [f"{found.get(k, float('nan')):.2f}"
              for k in ("load", "compile", "cached", "run", "onnxruntime")]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="trained models against onnxruntime")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("models", type=Path)
    parser.add_argument("--only", nargs="*", help="models whose path holds one of these")
    parser.add_argument("--write", action="store_true", help=f"write {FILE.name}")
    parser.add_argument("--memory", action="store_true", help="fifty sizes: does memory grow?")
    parser.add_argument("--child", choices=("judge", "again", "grown"), help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child in ("judge", "grown"):
        what = judged if args.child == "judge" else grown
        print(json.dumps(what(args.manifest, args.models, args.path)))
        return
    entries = json.loads(args.manifest.read_text())["models"]
    if args.child == "again":
        mine = [e for e in entries if e["path"] == args.path]
        print(json.dumps(first_result(args.models / args.path, recordings(args.manifest, mine)[0])))
        return
    paths = list(dict.fromkeys(e["path"] for e in entries if not e["nonstandard_ops"]))
    if args.only:
        paths = [p for p in paths if any(word in p for word in args.only)]
    rows = []
    for path in paths:
        with tempfile.TemporaryDirectory() as kept:
            common = [str(args.manifest), str(args.models), "--path", path, "--child"]
            if args.memory:
                print(path, _child([*common, "grown"], kept), flush=True)
                continue
            found = _child([*common, "judge"], kept)
            again = _child([*common, "again"], kept)
            found["cached"] = again.get("load", float("nan")) + again.get("compile", float("nan"))
        rows.append(row(path, found))
        print(rows[-1], flush=True)
        for problem in found["problems"]:
            print("   ", problem, flush=True)
    if args.write and rows:
        from onnxruntime import __version__

        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), "")
        head = HEAD.format(version=__version__, cpu=cpu)
        kept = FILE.read_text(encoding="utf-8").splitlines() if FILE.exists() else []
        known = {line.split("|")[1].strip(): line for line in (*kept, *rows) if ".onnx |" in line}
        FILE.write_text(head + "\n".join(known.values()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
