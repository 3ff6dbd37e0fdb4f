"""Profiles: how long each kernel of a run takes, how much arithmetic and memory traffic it makes.

In: a compiled program and its inputs. Out: a `Profile` with a row per timed step. The native code reads
the CPU's clock between kernels itself, so that profiled code is the code that always runs; kernels
that several threads share are timed per phase.
"""

from __future__ import annotations

import ctypes
import linecache
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..dims import evaluate
from ..dtypes import Array
from ..errors import UNKNOWN, ConfigError, Loc
from . import native
from .executable import Executable
from .manifest import Manifest


@dataclass(frozen=True)
class Row:
    """A timed step: its kernel, what it computes, where the user wrote it, its median seconds per
    run, and what it does in that time; `runs` is how often it ran, in a loop, say."""

    kernel: str
    label: str
    loc: Loc
    seconds: float
    flops: int
    bytes: int
    phase: int
    runs: int = 1

    @property
    def gflops(self) -> float:
        """10**9 operations a second; a multiply-add is two."""
        return self.flops / self.seconds / 1e9 if self.seconds > 0 else 0.0

    @property
    def gbytes(self) -> float:
        """10**9 bytes a second that the kernel must read and write at least."""
        return self.bytes / self.seconds / 1e9 if self.seconds > 0 else 0.0

    @property
    def source(self) -> str:
        """The user's line, as far as the file can be read."""
        return linecache.getline(self.loc.file, self.loc.line).strip()


@dataclass(frozen=True)
class Profile:
    """Rows in the order they ran. `seconds` is the median run from the first kernel to the end;
    `call` the median of what the whole call took in Python."""

    name: str
    rows: tuple[Row, ...]
    seconds: float
    call: float
    steps: int
    threads: int
    dims: Mapping[str, int]

    def share(self, row: Row) -> float:
        """The part of the time in kernels that a row took, 0 to 1."""
        return row.seconds / self.busy if self.busy > 0 else 0.0

    @property
    def busy(self) -> float:
        """Seconds in kernels."""
        return sum(r.seconds for r in self.rows)

    @property
    def flops(self) -> int:
        return sum(r.flops for r in self.rows)

    @property
    def bytes(self) -> int:
        return sum(r.bytes for r in self.rows)

    def by_layer(self) -> tuple[Row, ...]:
        """One row per layer, in order of appearance."""
        found: dict[str, Row] = {}
        for r in self.rows:
            name = r.loc.layer
            if name not in found:
                found[name] = replace(r, label=name or "(no layer)", kernel="", runs=1)
            else:
                old = found[name]
                found[name] = replace(old, seconds=old.seconds + r.seconds,
                                      flops=old.flops + r.flops, bytes=old.bytes + r.bytes)  # fmt: skip
        return tuple(found.values())


def profile(executable: Executable, inputs: Sequence[Any], steps: int = 20,
            warmup: int = 3) -> Profile:  # fmt: skip
    """Runs a program (`session.bound(fetches, feeds)` gives it and its inputs) for `steps` runs,
    after `warmup` ones, and says where time goes.

    Variables are updated as by any run. ConfigError if `steps` is less than 1; what `run` raises.
    """
    if steps < 1:
        raise ConfigError(f"a profile needs one step or more, not {steps}")
    m, ran = executable.manifest, executable.ran
    dims: dict[str, int] = {}
    clock = executable.start_clock()
    executable.ran = dims.update
    try:
        for _ in range(warmup):
            executable.run(inputs)
        readings = np.zeros((steps, clock.size), np.int64)
        calls = np.zeros(steps)
        for k in range(steps):
            start = time.perf_counter()
            executable.run(inputs)
            calls[k] = time.perf_counter() - start
            readings[k] = clock
    finally:
        executable.stop_clock()
        executable.ran = ran
    tick = seconds_per_tick()
    times = np.median(readings[:, 2::2], axis=0) * tick
    whole = float(np.median(readings[:, 0] - readings[:, 1]) * tick)
    return Profile(m.name, rows(m, times, readings[-1, 3::2], dims), whole, float(np.median(calls)),
                   steps, executable.threads, dims)  # fmt: skip


def rows(m: Manifest, seconds: Array, runs: Array, dims: Mapping[str, int]) -> tuple[Row, ...]:
    """A row per step."""
    return tuple(
        Row(s.kernel, s.label, s.loc, float(t), evaluate(s.flops, dims) * int(n),
            evaluate(s.bytes, dims) * int(n), s.phase, int(n))
        for s, t, n in zip(m.steps, seconds, runs)
    )  # fmt: skip


@lru_cache(maxsize=1)
def seconds_per_tick() -> float:
    """What one tick of the clock is worth, measured once per process."""
    read = native.support().fm_clock
    read.restype = ctypes.c_int64
    pairs = []
    for pause in (0.0, 0.02):
        time.sleep(pause)
        tries = []  # the reading that was disturbed least
        for _ in range(5):
            before = time.perf_counter_ns()
            tick = read()
            after = time.perf_counter_ns()
            tries.append((after - before, (before + after) / 2, tick))
        pairs.append(min(tries)[1:])
    (t0, c0), (t1, c1) = pairs
    return float((t1 - t0) / max(c1 - c0, 1) / 1e9)


def table(p: Profile, order: str = "run", limit: int | None = None) -> list[tuple[str, ...]]:
    """The rows as text, a head first, the sum last: for terminals and FLOWMILL_DEBUG=2.

    `order` "run" keeps the order of the run, "time" puts the slowest first, "layer" adds up layers.
    """
    chosen = p.by_layer() if order == "layer" else p.rows
    if order != "run":
        chosen = tuple(sorted(chosen, key=lambda r: -r.seconds))
    out: list[tuple[str, ...]] = [("time", "share", "GFLOP/s", "GB/s", "kernel", "computes", "layer",
                                   "line")]  # fmt: skip
    for r in chosen[:limit]:
        line = f"{Path(r.loc.file).name}:{r.loc.line}" if r.loc.line else ""
        layer = r.loc.layer if order != "layer" else ""
        label = r.label if r.runs == 1 else f"{r.runs} x {r.label}"
        out.append((duration(r.seconds), f"{p.share(r):.1%}", f"{r.gflops:.1f}", f"{r.gbytes:.1f}",
                    r.kernel, label, layer, f"{line}  {r.source}".strip()))  # fmt: skip
    whole = Row("", "all kernels", UNKNOWN, p.busy, p.flops, p.bytes, 0)
    out.append((duration(p.busy), f"{p.share(whole):.1%}", f"{whole.gflops:.1f}",
                f"{whole.gbytes:.1f}", "", f"{len(p.rows)} steps", "", ""))  # fmt: skip
    return out


def duration(seconds: float) -> str:
    """`12.3 us`, `4.56 ms`, `1.20 s`."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}" if seconds / scale < 1000 else (
                f"{seconds / scale:.0f} {unit}")  # fmt: skip
    return f"{seconds * 1e9:.0f} ns"


def report_runs(executable: Executable) -> None:
    """Prints a profile of every run from now on, as FLOWMILL_DEBUG=2 asks for."""
    executable.start_clock()
    executable.ran = lambda dims: print_run(executable, dims)


def print_run(executable: Executable, dims: Mapping[str, int]) -> None:
    """The profile of the last run, on standard error, if it was timed."""
    m, clock = executable.manifest, executable.clock
    if clock is None:
        return
    tick = seconds_per_tick()
    whole = float(clock[0] - clock[1]) * tick
    made = rows(m, clock[2::2] * tick, clock[3::2], dims)
    p = Profile(m.name, made, whole, whole, 1, executable.threads, dims)
    lines = table(p)
    widths = [min(max(len(line[k]) for line in lines), 40) for k in range(len(lines[0]))]
    print(f"# run of {m.name}: {duration(whole)}", file=sys.stderr)
    for line in lines:
        cells = [c.rjust(w) if k < 4 else c[:w].ljust(w)
                 for k, (c, w) in enumerate(zip(line, widths))]  # fmt: skip
        print("  ".join(cells).rstrip(), file=sys.stderr)
