"""Every knob, in one typed table: name, default, environment variable, meaning."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from .errors import ConfigError

DEFAULT_SEED = 0
MOST_THREADS = 256
LEVELS = (0, 1, 2)


@dataclass(frozen=True)
class Knob:
    """One setting. The environment variable wins over the default; arguments win over both."""

    name: str
    variable: str
    default: str
    meaning: str


KNOBS = (
    Knob("threads", "FLOWMILL_THREADS", "0", "threads per session; 0: what affinity and cgroup allow"),
    Knob("cache_dir", "FLOWMILL_CACHE", "", "folder of compiled programs; empty: ~/.cache/flowmill"),
    Knob("cache_bytes", "FLOWMILL_CACHE_BYTES", str(1 << 30), "size limit of that folder"),
    Knob("debug", "FLOWMILL_DEBUG", "0", "1 pass times, 2 kernel times, 3 graphs, 4 kernels, "
         "5 LLVM, 6 assembly"),
    Knob("dump", "FLOWMILL_DUMP", "", "folder that stages are written to: DIR[:pass,...]"),
    Knob("verify", "FLOWMILL_VERIFY", "0", "1: graphs are verified after every pass"),
    Knob("target", "FLOWMILL_TARGET", "", "CPU to compile for; empty: this one"),
    Knob("check_bounds", "FLOWMILL_CHECK_BOUNDS", "0", "1: every native access is bounds-checked"),
    Knob("level", "FLOWMILL_LEVEL", "2", "optimisation level; 0: unoptimised oracle"),
)  # fmt: skip
_BY_NAME = {k.name: k for k in KNOBS}


def setting(name: str) -> str:
    """The text of a knob."""
    knob = _BY_NAME[name]
    return os.environ.get(knob.variable, knob.default)


def integer(name: str) -> int:
    """The value of an integer knob. ConfigError where the text is no number."""
    text = setting(name)
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"{_BY_NAME[name].variable}={text!r} is not a number") from None


def cache_dir() -> Path:
    """The folder of compiled programs."""
    given = setting("cache_dir")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "flowmill"


def level(given: object = None) -> int:
    """The optimisation level: `given`, else the knob. ConfigError where there is none such."""
    chosen = integer("level") if given is None else given
    if isinstance(chosen, bool) or not isinstance(chosen, int) or chosen not in LEVELS:
        raise ConfigError(f"level must be one of {', '.join(map(str, LEVELS))}, not {chosen!r}")
    return chosen


def thread_count(given: object = None) -> int:
    """How many threads: `given`, else the knob, else what affinity and the cgroup's quota allow.
    ConfigError where that is no number from 1 on."""
    if given is None:
        return available_threads()
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= MOST_THREADS:
        raise ConfigError(f"threads must be a number from 1 to {MOST_THREADS}, not {given!r}")
    return given


def available_threads() -> int:
    """Threads to use: the knob, else the CPUs that affinity and the cgroup's quota allow."""
    asked = integer("threads")
    if asked:
        return thread_count(asked)
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()[:2]
        if quota != "max":
            cpus = min(cpus, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return min(cpus, MOST_THREADS)
