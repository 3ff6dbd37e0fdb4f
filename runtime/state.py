"""The variables of a session: one writer at a time, many readers.

In: initial values. Out: arrays whose memory never moves, so that compiled programs hold their
addresses, and a version per variable that tells what was written since.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
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
    """Named arrays with versions. Reads and writes copy.

    Readers announce themselves by one append, which Python makes atomic, and look for a writer
    afterwards; a writer announces itself and looks for readers afterwards. So at least one of the
    two sees the other, and a run among readers alone takes no lock.
    """

    def __init__(self, initial: Iterable[tuple[str, Array]] = ()) -> None:
        self.arrays: dict[str, Array] = {}
        self.versions: dict[str, int] = {}
        self.changes = 0  # how often anything was written
        self._condition = threading.Condition()
        self.readers: list[None] = []  # one entry for each
        self.writes = False  # whether somebody writes, or waits to
        self.add(initial)
        _states.add(self)

    def add(self, initial: Iterable[tuple[str, Array]]) -> None:
        """More variables, with their first values."""
        for name, value in initial:
            home = aligned(max(value.nbytes, 1))[: value.nbytes].view(value.dtype)
            home = home.reshape(value.shape)
            home[...] = value
            self.versions[name] = 1
            self.arrays[name] = home

    def find(self, name: str) -> Array:
        """The memory of a variable. FetchError if there is none of that name."""
        found = self.arrays.get(name)
        if found is None:
            near = get_close_matches(str(name), list(self.arrays), 3)
            hint = f"did you mean {', '.join(near)}?" if near else (
                f"variables: {', '.join(list(self.arrays)[:12])}")  # fmt: skip
            raise FetchError(f'there is no variable "{name}"', hint)
        return found

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
            try:
                array = np.asarray(value)
            except (TypeError, ValueError) as e:
                problems.append(f'"{name}" cannot be made an array: {e}')
                continue
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
            self.touched(checked)

    def touched(self, names: Iterable[str]) -> None:
        """Notes that these variables were written."""
        self.changes += 1
        for name in names:
            self.versions[name] += 1

    # --- taking turns -----------------------------------------------------------------------

    def begin_read(self) -> None:
        """Holds off writers until `end_read`."""
        self.readers.append(None)
        if self.writes:
            with self._condition:
                self.readers.pop()
                self._condition.notify_all()
                while self.writes:
                    self._condition.wait()
                self.readers.append(None)

    def end_read(self) -> None:
        self.readers.pop()
        if self.writes:
            self.wake()

    def wake(self) -> None:
        """Tells a waiting writer that a reader is gone."""
        with self._condition:
            self._condition.notify_all()

    def begin_write(self) -> None:
        """Holds off everyone else until `end_write`."""
        with self._condition:
            while self.writes:
                self._condition.wait()
            self.writes = True
            while self.readers:
                self._condition.wait()

    def end_write(self) -> None:
        with self._condition:
            self.writes = False
            self._condition.notify_all()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Holds off writers."""
        self.begin_read()
        try:
            yield
        finally:
            self.end_read()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Holds off everyone else."""
        self.begin_write()
        try:
            yield
        finally:
            self.end_write()

    def forget_others(self) -> None:
        """Ends the turns of threads that a fork left behind."""
        self._condition = threading.Condition()
        self.readers.clear()
        self.writes = False


_states: weakref.WeakSet[State] = weakref.WeakSet()


def _after_fork() -> None:
    for state in list(_states):
        state.forget_others()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
