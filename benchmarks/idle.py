"""How long inference takes after an idle gap, when the pool's workers are asleep: `idle.py THREADS`.

Prints JSON: seconds per call of an MLP 784-512-512-10 by batch, call after call ("hot") and after
gaps of 10 ms, medians. A process of its own.
"""

from __future__ import annotations

import json
import sys
import time
from statistics import median
from typing import Any

from worker import limit

GAP, CALLS, LAYERS = 0.01, 150, ((784, 512), (512, 512), (512, 10))


def seconds(run: Any, gap: float) -> float:
    """The median call."""
    found = []
    for _ in range(CALLS):
        if gap:
            time.sleep(gap)
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return median(found)


def main() -> None:
    threads = int(sys.argv[1])
    limit(2)  # also for one thread: what the other processor does is the point
    import flowmill as fm
    import numpy as np

    rng = np.random.default_rng(0)
    figures = {}
    for batch in (1, 16, 128):
        with fm.Graph() as graph:
            x = h = fm.input("x", (batch, 784))
            for i, shape in enumerate(LAYERS):
                w = fm.variable(f"w{i}", 0.05 * rng.standard_normal(shape, np.float32))
                h = h @ w + fm.variable(f"b{i}", np.zeros(shape[1], np.float32))
                h = fm.relu(h) if i < 2 else h
        call = fm.Session(graph, threads=threads).make_callable(h, [x])
        data = rng.standard_normal((batch, 784), np.float32)
        out = np.empty((batch, 10), np.float32)

        def run(call: Any = call, data: Any = data, out: Any = out) -> None:
            call(data, out=out)

        seconds(run, 0)
        figures[str(batch)] = {"hot": seconds(run, 0), "idle": seconds(run, GAP)}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
