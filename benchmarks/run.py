"""flowmill beside other frameworks: `python benchmarks/run.py [TASK...] [--threads 1 2] [--quick]`.

Tasks: matmul, conv, rows, train, resnet (each against peers), memory, overhead, idle, compile, or
all. Prints Markdown tables; `--write FILE` also puts them between the markers of that document.
Frameworks that are not installed are left out, and named.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import facts
import report
from job import Case
from rounds import HERE, Child, environment, measure

AGAINST_PEERS = ("matmul", "conv", "rows", "train", "resnet")
TRAINED = ("minilm_l3/paraphrase-MiniLM-L3-v2.onnx", "minilm_l6_int8/model.onnx",
           "open_nsfw/open-nsfw.onnx")  # fmt: skip
SECONDS = {"matmul": 0.25, "conv": 0.25, "rows": 0.25, "train": 0.5, "resnet": 0.5}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Run:
    """What every task needs to know."""

    def __init__(self, options: argparse.Namespace, cache: str) -> None:
        self.options, self.cache = options, cache

    def against_peers(self, name: str) -> str:
        """A task with peers, at every number of threads."""
        task = importlib.import_module(f"tasks.{name}")
        self.present(task)
        cases = task.cases(self.options.quick, self.options.models)
        if self.options.only:
            cases = [c for c in cases if self.options.only in c.name]
        if not cases:
            return "(nothing to measure)"
        rounds = 3 if self.options.quick else self.options.rounds
        found = []
        for threads in self.options.threads:
            found += measure(task, cases, threads, self.cache, rounds, SECONDS[name], say)
        unit = getattr(task, "UNIT", "GFLOP/s")
        return report.measured(found, task.PEERS, task.TARGET, unit)

    def present(self, task: Any) -> None:
        """Leaves out, and names, peers that cannot take part."""
        for peer in task.PEERS:
            if why := facts.missing(peer):
                say(f"{task.__name__}: without {peer}: {why}")
        task.PEERS = tuple(p for p in task.PEERS if not facts.missing(p))

    def memory(self) -> str:
        """Growth of peak memory by the first training steps, a new process each."""
        task = importlib.import_module("tasks.train")
        self.present(task)
        cases: list[Case] = task.cases(self.options.quick, self.options.models)
        rows = []
        for threads in self.options.threads:
            for case in cases:
                cells = []
                # the first process of flowmill compiles, the second finds that in the cache
                with tempfile.TemporaryDirectory() as empty:
                    for peer in ("flowmill", *task.PEERS):
                        child = Child("train", peer, threads, environment(empty))
                        answer = child.ask("memory", asdict(case))
                        child.close()
                        say(f"memory, {threads} threads: {case.name}, {peer}")
                        cells.append(f"{answer['bytes'] / 2**20:.0f}" if "bytes" in answer
                                     else "failed")  # fmt: skip
                rows.append([str(threads), case.name, *cells])
        head = ["threads", "case", "flowmill, compiling", "flowmill, cached", *task.PEERS[1:]]
        return ("MiB that the peak of resident memory grows from the imported framework to after "
                "the first steps.\n\n" + report.table(head, rows))  # fmt: skip

    def overhead(self) -> str:
        """Cost of a call beside its native code."""
        rows = []
        for kind in ("static", "symbolic"):
            found = self.script("overhead.py", kind)
            native = found.pop("native")
            rows += [[f"{name}, {kind} batch", report.seconds(t), report.seconds(native),
                      report.seconds(max(t - native, 0))] for name, t in found.items()]  # fmt: skip
        return "Targets: `Session.run` 5 us, a callable 1 us over the native time.\n\n" + (
            report.table(["way to call", "per call", "native", "cost"], rows))  # fmt: skip

    def idle(self) -> str:
        """Latency when the pool's workers are asleep."""
        found = [
            (threads, self.script("idle.py", str(threads))) for threads in self.options.threads
        ]
        rows = [[batch, str(threads), report.seconds(f[batch]["hot"]),
                 report.seconds(f[batch]["idle"])]
                for batch in found[0][1] for threads, f in found]  # fmt: skip
        return ("Inference of an MLP 784-512-512-10: median of calls one after the other, and of "
                "calls 10 ms apart.\n\n" + report.table(
                    ["batch", "threads", "one after the other", "10 ms apart"], rows))  # fmt: skip

    def compile(self) -> str:
        """Compile times."""
        with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as empty:
            self.script("compiling.py", "mnist", cache=first)  # reads the files, makes byte code
            cold, cached = (self.script("compiling.py", "mnist", cache=empty) for _ in range(2))
            deep = [self.script("compiling.py", "resnet", cache=empty) for _ in range(2)]
        big = self.script("compiling.py", "graph")
        rows = [["MNIST training step, cold", f"{cold['compile']:.2f} s", "2 s"],
                ["MNIST training step, cached", f"{cached['compile']:.3f} s", "0.1 s"],
                ["ResNet-50 inference, cold", f"{deep[0]['compile']:.2f} s", "3 s"],
                ["ResNet-50 inference, cached", f"{deep[1]['compile']:.3f} s", "0.3 s"],
                [f"define a graph of {big['nodes']:.0f} nodes", f"{big['define']:.2f} s", "1 s"],
                ["optimise it", f"{big['optimise']:.2f} s", "10 s"]]  # fmt: skip
        table = report.table(["what", "time", "target"], rows)
        return f"{table}\n\n{self.compile_files()}"

    def compile_files(self) -> str:
        """Compile times of trained models: the target is that of all three figures together."""
        rows, missing = [], []
        for file in TRAINED:
            path = Path(self.options.models) / file
            if not path.is_file():
                missing.append(f"`{file}`")
                continue
            job = ("compiling.py", "onnx", str(path.resolve()))
            self.script(*job)  # reads the files, makes byte code
            with tempfile.TemporaryDirectory() as empty:
                for turn, target in (("cold", "3 s"), ("cached", "0.3 s")):
                    found = self.script(*job, cache=empty)
                    cells = [f"{x:.3f} s" for x in (*found.values(), sum(found.values()))]
                    rows.append([file, turn, *cells, target])
        heads = ["model's file", "cache", "load", "compile", "first run", "together", "target"]
        notes = [f"Not in the folder of models, so left out: {', '.join(missing)}."] * bool(missing)
        return "\n\n".join([report.table(heads, rows)] * bool(rows) + notes)

    def script(self, name: str, *arguments: str, cache: str | None = None) -> dict[str, Any]:
        """The figures a script prints from a new process."""
        done = subprocess.run([sys.executable, str(HERE / name), *arguments], text=True,
                              env=environment(cache or self.cache), capture_output=True)  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{name} {' '.join(arguments)} failed:\n{done.stderr}")
        found: dict[str, Any] = json.loads(done.stdout)
        return found


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure flowmill beside other frameworks.")
    parser.add_argument("tasks", nargs="*", default=["all"], metavar="TASK",
                        choices=[*AGAINST_PEERS, "memory", "overhead", "idle", "compile", "all"],
                        help="matmul conv rows train resnet memory overhead idle compile, or all")  # fmt: skip
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--quick", action="store_true", help="few cases, few rounds")
    parser.add_argument("--rounds", type=int, default=6, help="blocks per framework and case")
    parser.add_argument("--only", help="cases whose name holds this text")
    parser.add_argument("--models", default=os.environ.get("FLOWMILL_MODELS", "models"),
                        help="folder of trained models (default: $FLOWMILL_MODELS)")  # fmt: skip
    parser.add_argument("--write", type=Path, help="document whose tables are replaced")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    os.environ.update(environment(""))
    sys.path[:0] = [p for p in os.environ["PYTHONPATH"].split(os.pathsep) if p not in sys.path]
    wanted = options.tasks
    if "all" in wanted:
        wanted = [*AGAINST_PEERS, "memory", "overhead", "idle", "compile"]
    peers = sorted({p for t in AGAINST_PEERS for p in importlib.import_module(f"tasks.{t}").PEERS})
    versions = ", ".join(f"{p} {v}" for p in peers if (v := facts.version(p)) and "." not in p)
    print(host := "\n".join(f"- {f}" for f in [*facts.machine(), versions]), flush=True)
    with tempfile.TemporaryDirectory(prefix="flowmill-bench-") as cache:
        run = Run(options, cache)
        parts: dict[str, Callable[[], str]] = {
            t: (lambda t=t: run.against_peers(t)) for t in AGAINST_PEERS
        }
        parts |= {"memory": run.memory, "overhead": run.overhead, "idle": run.idle,
                  "compile": run.compile}  # fmt: skip
        for name in wanted:
            text = parts[name]()
            print(f"\n## {name}\n\n{text}", flush=True)
            if options.write:
                report.replace(options.write, name, text)
                report.replace(options.write, "machine", host)


if __name__ == "__main__":
    main()
