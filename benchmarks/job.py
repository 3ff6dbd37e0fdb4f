"""What a task gives the worker: something to time, and what it computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Case:
    """One thing to measure. `work` is in floating-point operations, or in bytes where the task's
    rates are (0 where a rate says nothing);
    `options` are what the task needs to build it, as JSON holds them."""

    name: str
    work: float = 0
    tolerance: float = 1e-4  # largest difference between frameworks, relative to scale
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """`run` is timed; `result` gives what it computed. With `short`, what counts is `run` minus
    `short`, divided by `times`: what both share (layout changes at the ends) cancels."""

    run: Callable[[], object]
    result: Callable[[], list[np.ndarray[Any, Any]]]
    short: Callable[[], object] | None = None
    times: int = 1
