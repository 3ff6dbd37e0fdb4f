"""Workers side by side: short blocks in turn, the order moved on every round.

In: a task's cases and peers. Out: seconds per framework and case, and how far results differ.
Every framework runs in a process of its own with as many CPUs as threads: pools that spin while
others work would spoil everybody's figures. While one works the others wait; a pause before each
block lets spinning threads go to sleep.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from job import Case

HERE = Path(__file__).resolve().parent
PAUSE = 0.05


class Child:
    """A worker process."""

    def __init__(self, task: str, peer: str, threads: int, environment: dict[str, str]) -> None:
        self.peer = peer
        command = [sys.executable, str(HERE / "worker.py"), task, peer, str(threads)]
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the process
        self.process = subprocess.Popen(command, env=environment, text=True, stderr=self.log,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip

    def ask(self, *command: Any) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self.log.seek(0)
            last = self.log.read().strip().splitlines()[-1:] or ["no message"]
            return {"error": f"the process ended ({self.process.wait()}): {last[0]}"}
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.log.close()


@dataclass
class Measured:
    """One case: seconds per framework, and the largest difference of its result from the first
    peer's that gave one, relative to the scale of that."""

    case: Case
    threads: int
    median: dict[str, float] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)
    error: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def ratio(self, which: str = "median") -> float | None:
        """How many times as fast as the best peer flowmill is."""
        times = getattr(self, which)
        peers = [v for k, v in times.items() if k != "flowmill"]
        return min(peers) / times["flowmill"] if peers and "flowmill" in times else None

    def best_peer(self) -> str:
        peers = {k: v for k, v in self.median.items() if k != "flowmill"}
        return min(peers, key=lambda k: peers[k]) if peers else ""


def environment(cache: str) -> dict[str, str]:
    """What the workers see. NumPy's OpenBLAS does not know some processors with AVX-512, or is told
    by the surroundings to take AVX2 kernels: here it takes the best there are. Python keeps the
    byte code of modules it has read, as it does for packages that were installed."""
    found = {**os.environ, "FLOWMILL_CACHE": cache, "TF_CPP_MIN_LOG_LEVEL": "3"}
    found.pop("PYTHONDONTWRITEBYTECODE", None)
    view = HERE.parent / ".view"
    found["PYTHONPATH"] = os.pathsep.join(
        [str(HERE), *([str(view)] if view.is_dir() else []), os.environ.get("PYTHONPATH", "")]
    ).rstrip(os.pathsep)
    if "avx512f" in _cpu_flags():
        found["OPENBLAS_CORETYPE"] = "SkylakeX"
    return found


def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return set(next((line for line in lines if line.startswith("flags")), "").split())


def measure(task: Any, cases: list[Case], threads: int, cache: str, rounds: int,
            seconds: float, say: Any) -> list[Measured]:  # fmt: skip
    """Every case of a task at one number of threads."""
    name = task.__name__.split(".")[-1]
    children = [Child(name, peer, threads, environment(cache)) for peer in task.PEERS]
    found = []
    try:
        for case in cases:
            say(f"{name}, {threads} thread{'s' * (threads > 1)}: {case.name}")
            found.append(_one(case, threads, children, rounds, seconds))
    finally:
        for c in children:
            c.close()
    return found


def _one(case: Case, threads: int, children: list[Child], rounds: int, seconds: float) -> Measured:
    out = Measured(case, threads)
    ready = []
    for c in children:
        answer = c.ask("prepare", asdict(case))
        if "error" in answer:
            out.failed[c.peer] = answer["error"]
        else:
            ready.append(c)
    blocks: dict[str, list[dict[str, Any]]] = {c.peer: [] for c in ready}
    for r in range(rounds):
        turn = r % max(len(ready), 1)
        for c in ready[turn:] + ready[:turn]:
            time.sleep(PAUSE)
            blocks[c.peer].append(c.ask("block", seconds))
    for peer, answers in blocks.items():
        times, best = _per_call(answers)
        out.median[peer], out.best[peer] = times, best
    _compare(out, ready)
    return out


def _per_call(answers: list[dict[str, Any]]) -> tuple[float, float]:
    """Median and best seconds of one call (or of one link of a chain)."""
    long = [t for a in answers for t in a["long"]]
    short = [t for a in answers for t in a["short"]] or [0.0]
    times = answers[0]["times"]
    return (median(long) - median(short)) / times, (min(long) - min(short)) / times


def _compare(out: Measured, ready: list[Child]) -> None:
    reference: list[np.ndarray[Any, Any]] | None = None
    with tempfile.TemporaryDirectory() as folder:
        # flowmill last: it is what is compared
        for c in sorted(ready, key=lambda c: c.peer == "flowmill"):
            path = Path(folder) / "result.npz"
            c.ask("save", str(path))
            with np.load(path) as held:
                arrays = [held[k] for k in held.files]
            if reference is None:
                reference = arrays
                continue
            out.error[c.peer] = max(_error(a, b) for a, b in zip(arrays, reference, strict=True))
            if not out.error[c.peer] <= out.case.tolerance:
                out.failed[c.peer] = f"wrong by {out.error[c.peer]:.1e} of the scale"


def _error(found: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]) -> float:
    """Largest difference relative to scale; infinite where there is nothing but zeros to compare."""
    scale = float(np.abs(wanted).max())
    return float(np.abs(found.astype(float) - wanted).max()) / scale if scale else float("inf")
