"""The variables of a session: one writer at a time, many readers.

In: initial values. Out: arrays whose memory never moves, so that compiled programs hold their
addresses, and a version per variable that tells what was written since.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..dtypes import Array
from ..errors import FeedError, FetchError

ALIGN = 64


def aligned(nbytes: int) -> Array:
    """Bytes that start on a cache line, zeroed."""
    raw = np.zeros(nbytes + ALIGN, np.uint8)
    start = -raw.ctypes.data % ALIGN
    return raw[start : start + nbytes]


class State:
    """Named arrays with versions. Reads and writes copy."""

    def __init__(self, initial: Mapping[str, Array]) -> None:
        self.arrays: dict[str, Array] = {}
        self.versions: dict[str, int] = {}
        self._condition = threading.Condition()
        self._readers = 0
        self._writing = False
        for name, value in initial.items():
            home = aligned(max(value.nbytes, 1))[: value.nbytes].view(value.dtype)
            home = home.reshape(value.shape)
            home[...] = value
            self.arrays[name] = home
            self.versions[name] = 1

    def find(self, name: str) -> Array:
        """The memory of a variable. FetchError if there is none of that name."""
        if name not in self.arrays:
            raise FetchError(f'there is no variable "{name}"',
                             f"variables: {', '.join(list(self.arrays)[:12])}")  # fmt: skip
        return self.arrays[name]

    def read(self, name: str) -> Array:
        """A copy of a variable's value."""
        home = self.find(name)
        with self.reading():
            return home.copy()

    def snapshot(self) -> dict[str, Array]:
        """A copy of every variable, all from between the same two runs."""
        with self.reading():
            return {name: home.copy() for name, home in self.arrays.items()}

    def write(self, values: Mapping[str, Any]) -> None:
        """Sets variables; all or, if one does not fit, none. FeedError says which and why."""
        checked: dict[str, Array] = {}
        problems: list[str] = []
        for name, value in values.items():
            home = self.find(name)
            array = np.asarray(value)
            if array.shape != home.shape:
                problems.append(f'"{name}" has shape {list(home.shape)}, given {list(array.shape)}')
            elif not np.can_cast(array.dtype, home.dtype, "same_kind"):
                problems.append(f'"{name}" is {home.dtype}, given {array.dtype}')
            checked[name] = array
        if problems:
            raise FeedError("variables cannot be set", *problems)
        with self.writing():
            for name, array in checked.items():
                self.arrays[name][...] = array
                self.versions[name] += 1

    def touched(self, names: tuple[str, ...]) -> None:
        """Notes that a program wrote these variables."""
        for name in names:
            self.versions[name] += 1

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Holds off writers."""
        with self._condition:
            while self._writing:
                self._condition.wait()
            self._readers += 1
        try:
            yield
        finally:
            with self._condition:
                self._readers -= 1
                if not self._readers:
                    self._condition.notify_all()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Holds off everyone else."""
        with self._condition:
            while self._writing or self._readers:
                self._condition.wait()
            self._writing = True
        try:
            yield
        finally:
            with self._condition:
                self._writing = False
                self._condition.notify_all()
