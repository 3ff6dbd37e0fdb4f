"""Damaged models on the whole way: loaded, compiled, run; only flowmill's own errors may come of it.

Case k of a seed is one mutated model (`mutations.py`) of the official tests, or of a folder of real
ones. Cases run in child processes with limits on memory and processor time, so that a crash is a
finding like any other. One case in four is run with every native access checked.

    python tests/onnx/fuzz.py --cases 10000           # the long form
    python tests/onnx/fuzz.py --case 4711 -o bad.onnx  # one case again, here; its model as a file
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [p for p in (str(ROOT), str(ROOT / ".view")) if p not in sys.path]

import flowmill as fm  # noqa: E402
import numpy as np  # noqa: E402
import onnx  # noqa: E402
from flowmill.dims import evaluate  # noqa: E402
from flowmill.graph.template import Template  # noqa: E402
from flowmill.runtime.arguments import checked  # noqa: E402

from tests.onnx import suite  # noqa: E402
from tests.onnx.mutations import INTEGERS, mutated  # noqa: E402

MEMORY = 1 << 30  # bytes of address space a case may use beyond what Python and LLVM have
SECONDS = 20  # of processor time
WAIT = 300  # seconds until a silent child is taken to hang
LARGEST_BASE = 200_000  # bytes of an official model to mutate
MOST_FLOPS = 2e8  # a sound model may ask for hours of work: it is compiled, and not run


@dataclass(frozen=True)
class Finding:
    """A case that ended in something else than a result or an error of flowmill's."""

    case: int
    base: str
    phase: str
    text: str

    def __str__(self) -> str:
        return f"case {self.case} ({self.base}), {self.phase}: {self.text}"


# --- one case -------------------------------------------------------------------------------------


def base_of(random: Random, folder: str) -> Path:
    """A model to mutate: a small official one of plain tensors, or any of a folder."""
    if folder:
        return random.choice(sorted(Path(folder).rglob("*.onnx")))
    while True:
        case = random.choice(suite.cases())
        if case.path.stat().st_size <= LARGEST_BASE and suite.scope(case) is None:
            return case.path


def made(seed: int, case: int, folder: str = "") -> tuple[Path, bytes, Random]:
    """The model a case starts from, what became of it, and the generator for what is fed to it."""
    random = Random(f"{seed}/{case}")
    base = base_of(random, folder)
    return base, mutated(base.read_bytes(), random), random


def broken(case: int) -> None:
    """What a case does that tests whether findings are found."""
    if case == 2:
        os.kill(os.getpid(), signal.SIGSEGV)
    if case == 3:
        while True:
            pass
    if case == 4:
        raise ZeroDivisionError
    if case == 5:
        raise fm.ModelError("it is malformed: MemoryError()")


def steps(base: Path, raw: bytes, random: Random) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What is done with a model, by phase: each step needs the one before. A step that returns
    False is the last."""
    kept: dict[str, Any] = {}

    def load() -> None:
        kept["graph"] = fm.onnx.load(raw)

    def compile() -> bool:
        kept["session"] = fm.Session(kept["graph"], threads=random.choice((1, 2)),
                                     level=random.choice((2, 2, 2, 0)))  # fmt: skip
        kept["feeds"] = _feeds(kept["graph"], base, random)
        executable, inputs = kept["session"].bound(None, kept["feeds"])
        manifest = executable.manifest
        _, dims = checked(manifest, inputs, executable.places)
        room = manifest.room(dims)
        return sum(evaluate(s.flops + s.bytes, room) for s in manifest.steps) <= MOST_FLOPS

    def run() -> None:
        kept["session"].run(None, kept["feeds"])

    yield "load", load
    yield "compile", compile
    yield "run", run


def _feeds(graph: Any, base: Path, random: Random) -> dict[str, Any]:
    """The suite's own data where the model has some that fit, else noise: numbers of any size in
    what may be indices."""
    known = _data(base)
    sizes: dict[str, int] = {}
    feeds: dict[str, Any] = {}
    rng = np.random.default_rng(random.getrandbits(32))
    for name, value in graph.inputs.items():
        given = known.get(name)
        fits = (
            given is not None
            and given.dtype == value.dtype.numpy
            and (
                given.ndim == value.ndim
                and all(d == n for d, n in zip(value.shape, given.shape) if isinstance(d, int))
            )
        )
        if fits and random.random() < 0.7:
            feeds[name] = given
            continue
        for s in graph.symbols if isinstance(graph.symbols, dict) else ():
            sizes.setdefault(s, random.choice((0, 1, 2, 3, 5)))
        shape = tuple(d if isinstance(d, int) else evaluate(d, sizes) for d in value.shape)
        if any(n < 0 for n in shape) or np.prod([float(n) for n in shape]) > 1e6:
            raise fm.FeedError("the input is too large to feed")
        feeds[name] = _noise(shape, value.dtype.numpy, rng, random)
    for name in graph.shapeless if isinstance(graph, Template) else ():
        feeds[name] = known.get(name, np.ones((2, 3), np.float32))
    return feeds


@cache
def _data(base: Path) -> dict[str, Any]:
    names = [i.name for i in onnx.load(base).graph.input]
    folder = base.parent / "test_data_set_0"
    found = {}
    for path in folder.glob("input_*.pb"):
        try:
            found[names[int(path.stem.rpartition("_")[2])]] = suite._tensor(path)
        except Exception:
            continue  # data of a sequence: no tensor
    return found


def _noise(shape: tuple[int, ...], dtype: Any, rng: Any, random: Random) -> Any:
    kind = np.dtype(dtype).kind
    if kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if kind in "iu":
        wild = random.random() < 0.3
        few = np.array(INTEGERS if wild else (0, 1, 2, 0, 1, -1, 3))
        return rng.choice(few, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


def outcome(step: Callable[[], Any], phase: str) -> tuple[str, str]:
    """What became of a step: "done", "refused" (with the message), or "wrong" (with a traceback)."""
    try:
        return ("done" if step() is not False else "refused"), "too much work to run"
    except fm.errors.UserError as e:
        if "MemoryError" in str(e):
            return "wrong", f"memory is asked for without limit: {e}"
        if phase == "load" and not isinstance(e, fm.ModelError):
            return "wrong", f"{type(e).__name__} instead of ModelError: {e}"
        return "refused", str(e)
    except Exception as e:
        return "wrong", "".join(traceback.format_exception(e)[-9:])


# --- a child process ------------------------------------------------------------------------------


def child(args: argparse.Namespace) -> None:
    """Runs every `step`-th case from `first` on; a line of JSON before and after each phase."""
    faulthandler.enable()
    faulthandler.register(signal.SIGXCPU, chain=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))

    def tell(**what: Any) -> None:
        out.write(json.dumps(what) + "\n")
        out.flush()

    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what models print is none of the parent's business
    for case in range(args.first, args.cases, args.step):
        base, raw, random = made(args.seed, case, args.folder)
        os.environ["FLOWMILL_CHECK_BOUNDS"] = "1" if case % 4 == 0 else "0"
        spent = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(spent.ru_utime + spent.ru_stime) + (2 if args.broken else SECONDS)
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        last = {}
        if args.broken:
            todo = iter([("load", partial(broken, case))])
        else:
            todo = steps(base, raw, random)
        for phase, step in todo:
            tell(case=case, base=base.parent.name, phase=phase)
            result, text = outcome(step, phase)
            last = {"phase": phase, "result": result, "text": text}
            if result != "done":
                break
        tell(case=case, base=base.parent.name, **last)


# --- the parent -----------------------------------------------------------------------------------


@dataclass
class Report:
    """Of all cases: how many ended how, and the findings."""

    counts: dict[str, int]
    findings: list[Finding]
    refusals: list[Finding]


def fuzzed(cases: int, seed: int = 0, jobs: int = 2, folder: str = "", first: int = 0,
           progress: Callable[[Finding], None] | None = None, broken: bool = False) -> Report:  # fmt: skip
    """All cases, in `jobs` child processes at a time, which are begun anew where one dies."""
    report = Report({}, [], [])
    lock = threading.Lock()

    def add(message: dict[str, Any], found: str) -> None:
        said = Finding(message["case"], message["base"], message["phase"], found)
        with lock:
            kind = "wrong" if message["result"] == "wrong" else f"{said.phase} {message['result']}"
            report.counts[kind] = report.counts.get(kind, 0) + 1
            if kind == "wrong":
                report.findings.append(said)
                if progress:
                    progress(said)
            elif message["result"] == "refused":
                report.refusals.append(said)

    def series(at: int) -> None:
        with tempfile.TemporaryDirectory(prefix="flowmill-fuzz") as programs:
            while at < cases:
                at = _series(at, programs) + jobs

    def _series(at: int, programs: str) -> int:
        """Runs a child until it ends; the last case it began."""
        command = [sys.executable, str(Path(__file__)), "--child", "--first", str(at), "--cases",
                   str(cases), "--step", str(jobs), "--seed", str(seed), "--folder", folder,
                   *(["--broken"] if broken else [])]  # fmt: skip
        errors = Path(programs, "stderr")
        environ = {**os.environ, "FLOWMILL_CACHE": programs, "FLOWMILL_VERIFY": "1",
                   "FLOWMILL_CACHE_BYTES": str(64 << 20)}  # fmt: skip
        with errors.open("w") as sink:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=sink, text=True,
                                       env=environ, cwd=ROOT)  # fmt: skip
        timer = threading.Timer(WAIT, process.kill)
        begun: dict[str, Any] = {}
        assert process.stdout is not None
        for line in process.stdout:
            timer.cancel()
            message = json.loads(line)
            if "result" in message:
                add(message, message["text"])
                at, begun = message["case"], {}
            else:
                begun = message
                timer = threading.Timer(WAIT, process.kill)
                timer.start()
        code = process.wait()
        timer.cancel()
        tail = errors.read_text(errors="replace")[-3000:]
        if begun:
            at = begun["case"]
            name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            add({**begun, "result": "wrong"}, f"the process ended: {name}\n{tail}")
        elif code != 0:
            raise RuntimeError(f"a fuzzing process failed: {code}\n{tail}")
        return at if begun else cases

    threads = [threading.Thread(target=series, args=(first + k,)) for k in range(jobs)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    report.findings.sort(key=lambda f: f.case)
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=400)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--folder", default="", help="mutate the models of a folder")
    parser.add_argument("--case", type=int, help="one case, in this process")
    parser.add_argument("-o", "--output", help="where to write the model of --case")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--broken", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--step", type=int, default=1, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args)
        return 0
    if args.case is not None:
        base, raw, random = made(args.seed, args.case, args.folder)
        if args.output:
            Path(args.output).write_bytes(raw)
        print(base)
        for phase, step in steps(base, raw, random):
            result, text = outcome(step, phase)
            print(f"{phase}: {result} {text if result != 'done' else ''}")
            if result != "done":
                return int(result == "wrong")
        return 0
    begin = time.monotonic()
    report = fuzzed(args.cases, args.seed, args.jobs, args.folder, args.first,
                    lambda f: print(f, flush=True))  # fmt: skip
    print(f"{args.cases - args.first} cases in {time.monotonic() - begin:.0f} s: "
          + ", ".join(f"{n} {k}" for k, n in sorted(report.counts.items())))  # fmt: skip
    return int(bool(report.findings))


if __name__ == "__main__":
    sys.exit(main())
