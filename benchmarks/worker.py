"""One framework in a process of its own: `worker.py TASK PEER THREADS`, commands as JSON lines.

Comes in on standard input: `prepare` a case, time it for a `block` of seconds, `save` its results,
say its `memory`. Goes out on standard output: one JSON line per command. Between commands the
process waits in `read`, so that nobody else's measurement meets its threads.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def limit(threads: int) -> None:
    """This process on the first `threads` CPUs it may use; pools are made no larger than that.
    Before any framework is imported."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)


def memory_bytes(key: str) -> int:
    """`VmRSS` or `VmHWM` of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    return 0


class Worker:
    def __init__(self, task: str, peer: str, threads: int) -> None:
        self.module = importlib.import_module(f"tasks.{task}")
        self.peer, self.threads = peer, threads
        self.job: Any = None

    def prepare(self, case: dict[str, Any]) -> dict[str, Any]:
        from job import Case

        self.job = None
        start = time.perf_counter()
        self.job = getattr(self.module, self.peer.replace(".", "_"))(Case(**case), self.threads)
        self.job.run()
        return {"seconds": time.perf_counter() - start}

    def block(self, seconds: float) -> dict[str, Any]:
        """Calls for about `seconds`, at least three, after some that wake caches and threads."""
        job, clock = self.job, time.perf_counter
        long: list[float] = []
        short: list[float] = []
        warm = clock() + 0.15 * seconds
        while True:
            job.run()
            if clock() >= warm:
                break
        end = clock() + seconds
        while clock() < end or len(long) < 3:
            a = clock()
            job.run()
            b = clock()
            long.append(b - a)
            if job.short is not None:
                job.short()  # once unmeasured: its weights come back into the caches
                a = clock()
                job.short()
                short.append(clock() - a)
        return {"long": long, "short": short, "times": job.times}

    def save(self, path: str) -> dict[str, Any]:
        import numpy as np

        np.savez(path, *self.job.result())
        return {}

    def memory(self, case: dict[str, Any]) -> dict[str, Any]:
        """Peak resident memory, from the framework imported (data made) to after the first steps."""
        from job import Case

        case_ = Case(**case)
        self.module.parts(case_)
        importlib.import_module(self.peer.split(".")[0])
        if self.peer == "jax":  # its backend starts with the first array
            importlib.import_module("jax.numpy").zeros(1).block_until_ready()
        before = memory_bytes("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from now on
        self.prepare(case)
        return {"bytes": memory_bytes("VmHWM") - before}


def main() -> None:
    task, peer, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    limit(threads)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what frameworks print must not mix with answers
    worker: Worker | None = None
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        try:
            worker = worker or Worker(task, peer, threads)
            answer = getattr(worker, command)(*arguments)
        except Exception as e:
            answer = {"error": f"{type(e).__name__}: {e}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
