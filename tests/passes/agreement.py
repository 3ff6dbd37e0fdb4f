"""What native code gives at any number of threads, beside every op by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import flowmill as fm
import numpy as np


def agree(graph: fm.Graph, results: Sequence[fm.Value], data: Mapping[str, np.ndarray]) -> None:
    """Level 0 and the default agree; so do one, two and three threads, bit for bit."""
    plain = fm.Session(graph, level=0, threads=1).run(list(results), data)
    bits = set()
    for threads in (1, 2, 3):
        fast = fm.Session(graph, threads=threads).run(list(results), data)
        bits.add(b"".join(a.tobytes() for a in fast))
        for a, b in zip(fast, plain):
            np.testing.assert_allclose(a, b, atol=4e-6 * np.abs(b).max(), rtol=0)
    assert len(bits) == 1
