"""A graph of 10,000 nodes: the time to define it and to make a program of it, LLVM not included.

    python benchmarks/large_graph.py [--nodes 10000] [--profile]

The graph is a deep network of residual blocks with Adam, its gradients included. Printed are the
time to define it, and those of passes, of kernels and of the memory plan; `--profile` prints, for
each of both halves, where the time goes.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeVar

import flowmill as fm

T = TypeVar("T")


def network(blocks: int) -> tuple[fm.Graph, list[fm.Value]]:
    """`blocks` residual blocks of two dense layers with normalisation, trained by Adam."""
    with fm.Graph() as graph:
        x = fm.input("x", ("batch", 64))
        labels = fm.input("labels", ("batch",), "int64")
        h = fm.layers.Dense(64, "relu")(x)
        for _ in range(blocks):
            inner = fm.layers.Dense(64, "gelu")(fm.layers.LayerNorm()(h))
            h = h + fm.layers.Dense(64)(inner)
        loss = fm.losses.sparse_softmax_cross_entropy(labels, fm.layers.Dense(10)(h))
        train = fm.optimizers.Adam(1e-3).minimize(loss)
    return graph, [loss, train]


def timed(what: str, made: Callable[[], T], profile: bool) -> T:
    """Runs and prints the time."""
    watch = cProfile.Profile() if profile else None
    start = time.perf_counter()
    result: Any = watch.runcall(made) if watch else made()
    print(f"{what}: {time.perf_counter() - start:.2f} s", flush=True)
    if watch:
        pstats.Stats(watch).sort_stats("tottime").print_stats(28)
    return result  # type: ignore[no-any-return]


def main() -> None:
    """Prints the times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=10_000, help="at least so many")
    parser.add_argument("--level", type=int, default=2)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    from flowmill.compiler import compile_function
    from flowmill.runtime.session import function_for
    from flowmill.target import host

    def size(blocks: int) -> int:
        graph, fetches = network(blocks)
        return len(function_for(graph, fetches, []).nodes())

    one, two = size(1), size(2)
    blocks = -(-(options.nodes - one) // (two - one)) + 1
    graph, fetches = timed("define", lambda: network(blocks), options.profile)
    function = function_for(graph, fetches, [])
    print(f"{blocks} blocks, {len(function.nodes())} nodes, "
          f"{len(graph.variables)} variables")  # fmt: skip
    stages: list[tuple[str, float]] = [("", time.perf_counter())]
    compiled = timed(
        "compile to a program",
        lambda: compile_function(function, host(), options.level,
                                 lambda name, _: stages.append((name, time.perf_counter()))),
        options.profile,
    )  # fmt: skip
    for (_, before), (name, after) in pairwise(stages):
        print(f"  {name}: {after - before:.2f} s")
    print(f"{len(compiled.program.launches)} launches, {len(compiled.program.kernels)} kernels")


if __name__ == "__main__":
    main()
