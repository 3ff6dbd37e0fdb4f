"""Graphs with thousands of nodes in a row, or with expressions many levels deep, compile and run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flowmill as fm
import numpy as np
import pytest

CHAINS: dict[str, tuple[int, str, Callable[[Any, Any], Any]]] = {
    "sums": (5000, "float32", lambda y, z: y + z),
    "integer powers": (100, "int64", lambda y, z: fm.integer_power(y, z) + 1),
    "powers that are written out": (100, "int32", lambda y, z: (y + z) ** 7),
    "powers and remainders": (70, "int64", lambda y, z: fm.mod(fm.integer_power(y, z), 1000)),
}


@pytest.mark.parametrize("chain", CHAINS)
def test_a_chain_of_any_length(chain: str) -> None:
    count, dtype, step = CHAINS[chain]
    with fm.Graph() as graph:
        x, z = fm.input("x", (5,), dtype), fm.input("z", (5,), dtype)
        y = x
        for _ in range(count):
            y = step(y, z)
        fm.output("y", y)
    feed = {"x": np.arange(5, dtype=dtype), "z": np.array([1, 2, 3, 0, 1], dtype)}
    wanted = feed["x"] + count * feed["z"]
    if chain != "sums":
        wanted = fm.Session(graph, level=0).run("y", feed)
    np.testing.assert_array_equal(fm.Session(graph).run("y", feed), wanted)
