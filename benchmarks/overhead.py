"""What a call costs beside the native code: `Session.run` and a callable, one feed, one fetch.

Prints JSON: seconds per call of each way, and of the native entry alone, the best of many blocks.
A process of its own, one CPU.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from worker import limit


def per_call(run: Any, calls: int = 500, blocks: int = 60) -> float:
    """Seconds of one call in the best block: what others on the machine add is not ours."""
    found = []
    for _ in range(blocks):
        start = time.perf_counter()
        for _ in range(calls):
            run()
        found.append((time.perf_counter() - start) / calls)
    return min(found)


def main() -> None:
    limit(1)
    import flowmill as fm
    import numpy as np
    from flowmill.codegen.kernel.frame import ARGUMENTS

    batch: Any = "batch" if "symbolic" in sys.argv else 32
    with fm.Graph() as graph:
        x = fm.input("x", (batch, 64))
        y = fm.relu(x @ fm.variable("w", np.eye(64, dtype=np.float32)))
    session = fm.Session(graph, threads=1)
    data, out = np.ones((32, 64), np.float32), np.empty((32, 64), np.float32)
    call = session.make_callable(y, [x])
    feeds = {x: data}
    executable, inputs = session.bound(y, feeds)
    for _ in range(10):
        session.run(y, feeds)
        call(data, out=out)
    # the native entry, called as Python calls any C function; that costs is taken off below
    frame = executable.frame()
    for k, array in enumerate([*inputs, out]):
        frame.set(ARGUMENTS + 8 * k, array.ctypes.data)
    if executable.manifest.symbols:
        frame.set(ARGUMENTS + 16, len(data))
    import ctypes

    library = ctypes.CDLL(None)
    nothing = library.getpid
    entry = executable._call
    address = frame.address
    plain = per_call(lambda: None)
    native = per_call(lambda: entry(address)) - per_call(lambda: nothing(address))
    print(json.dumps({
        "Session.run": per_call(lambda: session.run(y, feeds)) - plain,
        "callable": per_call(lambda: call(data)) - plain,
        "callable, out=": per_call(lambda: call(data, out=out)) - plain,
        "native": max(native, 0.0),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
