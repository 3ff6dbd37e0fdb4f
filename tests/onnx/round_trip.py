"""What `fm.onnx.save` writes, judged by others: is it a valid model, does onnxruntime compute the same
with it, is it the same graph when it is read again?

    python tests/onnx/round_trip.py ops [NAME...]      every op of the registry, on its samples
    python tests/onnx/round_trip.py models FOLDER MANIFEST [NAME...]
                                                       models that a manifest lists: loaded, saved,
                                                       and run by onnxruntime beside the file they
                                                       came from

It needs onnx and onnxruntime (`bootstrap.py env test bench`). What differs is printed, with the
largest difference of each model; the exit code tells whether anything did.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

import flowmill as fm  # noqa: E402
from flowmill.dtypes import as_dtype  # noqa: E402
from flowmill.graph.template import Template  # noqa: E402

from tests.graph.samples import Case, cases  # noqa: E402
from tests.onnx import suite  # noqa: E402

TOLERANCE = {2: 1e-2, 4: 2e-5, 8: 1e-9}  # of the largest expected element, by element size
# op, or one of its halves -> why onnxruntime computes something else for its samples
OTHERWISE = {
    "max_pool": "a NaN in a window is passed over",
    "max_pool_index": "a NaN in a window is passed over",
    "matmul_integer": "sums of nothing are not set",
    "roi_align": "no region ends before it begins",
    "fft": "long transforms lose some digits",
    "rfft": "long transforms lose some digits",
    "gelu float64": "ONNX's definition holds its constants in float32",
    "nonzero": "a scalar counts as having an axis",
}
OPSETS = {"bit_cast": 26}  # where the default will not do
NO_CODE = "no code in onnxruntime"
UNKNOWN = ("NOT_IMPLEMENTED", "does not support double", "No corresponding Numpy type")


@dataclass(frozen=True)
class Program:
    """Samples of one op as one graph, what to feed it, and what it should give."""

    graph: fm.Graph
    feeds: dict[str, Any]
    expected: dict[str, Any]

    @classmethod
    def of(cls, found: list[Case]) -> Program:
        feeds: dict[str, Any] = {}
        expected: dict[str, Any] = {}
        with fm.Graph("samples") as graph:
            for k, case in enumerate(found):
                arrays = case.draw()
                xs = tuple(fm.input(f"x{k}_{j}", a.shape, a.dtype) for j, a in enumerate(arrays))
                feeds |= {f"x{k}_{j}": a for j, a in enumerate(arrays)}
                op = case.op(**case.sample.kwargs)
                with np.errstate(all="ignore"):
                    made = op.ref(*arrays)
                for j, (y, wanted) in enumerate(zip(graph.node(op, xs).outputs,
                                                    made if isinstance(made, tuple) else (made,))):  # fmt: skip
                    named = fm.stop_gradient(y) if y.name else y
                    fm.output(f"y{k}_{j}", fm.named(named, f"y{k}_{j}"))
                    expected[f"y{k}_{j}"] = wanted
        return cls(graph, feeds, expected)


def difference(made: Any, expected: Any) -> str | None:
    """How two arrays differ; None if they do not."""
    made, expected = np.asarray(made), np.asarray(expected)
    if (made.shape, made.dtype) != (expected.shape, expected.dtype):
        return f"{made.dtype}{list(made.shape)} instead of {expected.dtype}{list(expected.shape)}"
    if not as_dtype(made.dtype).is_float:
        return None if np.array_equal(made, expected) else "other integers"
    error, same = scaled(made, expected)
    if not same:
        return "infinities and NaN elsewhere"
    wide = TOLERANCE[made.dtype.itemsize]
    return None if error <= wide else f"{error:.1e} of the largest element"


def scaled(made: Any, expected: Any) -> tuple[float, bool]:
    """The largest difference over the largest expected element, and whether what is not finite is
    the same."""
    wide = [np.asarray(a).astype(np.float64) for a in (made, expected)]
    finite = np.isfinite(wide[1])
    same = np.array_equal(wide[0][~finite], wide[1][~finite], equal_nan=True)
    if not finite.any():
        return 0.0, same
    scale = max(float(np.abs(wide[1][finite]).max()), 1e-30)
    return float(np.abs(wide[0][finite] - wide[1][finite]).max()) / scale, same


def by_runtime(path: Path, feeds: dict[str, Any], plainly: bool = False) -> dict[str, Any]:
    """What onnxruntime computes, on one thread; `plainly`: without optimising."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    if plainly:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options)
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds)))


def groups() -> dict[str, dict[bool, list[Case]]]:
    """The samples of every op, those with float64 apart: onnxruntime knows fewer operators there."""
    out: dict[str, dict[bool, list[Case]]] = {}
    for case in cases():
        out.setdefault(case.op.name, {}).setdefault("float64" in case.dtypes, []).append(case)
    return out


def ops(names: list[str], folder: Path) -> Iterator[tuple[str, str, bool]]:
    """For each op what there is to tell, and whether that is wrong."""
    path = folder / "op.onnx"
    for name, halves in groups().items():
        if names and name not in names:
            continue
        for wide, found in halves.items():
            label = f"{name}{' float64' if wide else ''}"
            problems = list(_problems(found, path))
            if not problems:
                yield label, f"{len(found)} samples agree", False
            elif all(p == NO_CODE for p in problems):
                yield label, NO_CODE, False
            else:
                known = OTHERWISE.get(label, OTHERWISE.get(name))
                yield label, "; ".join(problems) + (f" ({known})" if known else ""), not known


def _problems(found: list[Case], path: Path) -> Iterator[str]:
    """What is wrong with samples written to one model; if that does not run, each to its own."""
    program = Program.of(found)
    try:
        fm.onnx.save(program.graph, path, opset=OPSETS.get(found[0].op.name, 21))
        onnx.checker.check_model(str(path), full_check=True)
        made = by_runtime(path, program.feeds)
    except Exception as e:
        if any(text in str(e) for text in UNKNOWN) and len(found) == 1:
            yield NO_CODE
        elif len(found) > 1:
            for case in found:
                yield from _problems([case], path)
        else:
            yield f"{found[0]}: {str(e)[:300]}"
        return
    for k, case in enumerate(found):
        for key, y in program.expected.items():
            if key.startswith(f"y{k}_") and (told := difference(made[key], y)):
                yield f"{case}: {told}"


def official(case: suite.Case, path: Path) -> str | None:
    """How the results of an official test's model change when it is saved and read in between; None
    if they do not, or if the model is one that flowmill does not load."""
    model = onnx.load(case.path)
    opset = max(
        (OPSETS["bit_cast"] for n in model.graph.node if n.op_type == "BitCast"), default=21
    )
    try:
        loaded = fm.onnx.load(case.path)
    except fm.ModelError:
        return None
    for feeds, _ in suite.data(case, model):
        graph = loaded.specialised(feeds) if isinstance(loaded, Template) else loaded
        try:
            wanted = fm.Session(graph).run(None, {k: feeds[k] for k in graph.inputs})
            fm.onnx.save(graph, path, opset=opset)
            onnx.checker.check_model(str(path), full_check=True)
            again = fm.onnx.load(path)
            made = fm.Session(again).run(None, {k: feeds[k] for k in again.inputs})
        except (fm.FlowmillError, onnx.checker.ValidationError) as e:
            return " ".join(str(e).split())[:300]
        told = suite.compared(made, wanted, case)
        if told:
            return told
    return None


def models(folder: Path, manifest: Path, names: list[str], scratch: Path
           ) -> Iterator[tuple[str, str, bool]]:  # fmt: skip
    """For each model of a manifest the largest difference between onnxruntime's runs of the file and
    of what was made of it, and between its runs of the file with and without optimising."""
    for entry in json.loads(manifest.read_text())["models"]:
        name = " ".join(filter(None, (entry["path"], entry["case"])))
        if names and not any(n in name for n in names):
            continue
        source, path = folder / entry["path"], scratch / "model.onnx"
        try:
            with np.load(manifest.parent / entry["io_npz"][0]) as stored:
                feeds = {key: stored[key] for key in stored.files}
            graph = fm.onnx.load(source)
            if isinstance(graph, Template):
                graph = graph.specialised(feeds)
            fm.onnx.save(graph, path)
            onnx.checker.check_model(str(path), full_check=True)
            wanted, other = (by_runtime(source, feeds, plainly) for plainly in (False, True))
            made = by_runtime(path, {k: v for k, v in feeds.items() if k in graph.inputs})
        except Exception as e:
            yield name, f"{type(e).__name__}: {str(e)[:300]}", True
            continue
        found = [scaled(made[k], y) for k, y in wanted.items()]
        error, own = (
            max(e for e, _ in found),
            max(scaled(other[k], y)[0] for k, y in wanted.items()),
        )
        fits = error <= max(1e-3, own) and all(same for _, same in found)
        yield name, f"{error:.1e}, onnxruntime from itself {own:.1e}", not fits


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])  # type: ignore[union-attr]
    parser.add_argument("what", choices=("ops", "models"))
    parser.add_argument("rest", nargs="*")
    args = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as scratch:
        if args.what == "ops":
            lines = ops(args.rest, Path(scratch))
        else:
            lines = models(Path(args.rest[0]), Path(args.rest[1]), args.rest[2:], Path(scratch))
        for name, text, wrong in lines:
            bad += wrong
            print(f"{'WRONG ' if wrong else ''}{name}: {text}", flush=True)
    print(f"{bad} wrong")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
