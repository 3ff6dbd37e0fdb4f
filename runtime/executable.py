"""A compiled program bound to a state: checks arguments, fills frames, runs, explains failures.

In: native code with its manifest. Out: `run(inputs) -> outputs` on NumPy arrays.
"""

from __future__ import annotations

import ctypes
import re
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from ..codegen.kernel import frame as layout
from ..codegen.pycall import MISMATCH
from ..dims import evaluate, show
from ..dims_limits import size_problem
from ..dtypes import Array
from ..errors import InternalError, RunError, UserError
from ..mapping import give_back
from . import cache, native
from .arguments import checked, overlap, results, trimmed
from .fastcall import ArgPlan, DimPlan, FastCall, supported
from .manifest import Manifest, SiteInfo, plain_symbol
from .state import State, aligned

_empty = np.empty
_HOST = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)
UNCHANGED = "variables are as they were before the run"
NO_RESULTS = (AttributeError, IndexError, TypeError, ValueError, MemoryError)
"""What is raised where inputs are no arrays, or there is no memory for results; `run` says so."""
_MESSAGES = {
    "index": "index out of range",
    "zero_division": "integer division by zero",
    "check": "check failed",
}


def _not_yet(*_arrays: Any) -> int:
    """The fast call before there is one."""
    return MISMATCH


class Frame:
    """One run's arguments and scratch memory."""

    def __init__(self, executable: Executable) -> None:
        m = executable.manifest
        self.words = (layout.ARGUMENTS // 8 + len(m.inputs) + len(m.outputs)
                      + len(m.symbols) + len(m.computed))  # fmt: skip
        self.memory = aligned(8 * self.words).view(np.int64)
        self.arena_bytes = -1
        self.arena: Array = aligned(0)
        self.clock: Array | None = None  # where readings for a profile go

    @property
    def address(self) -> int:
        return int(self.memory.ctypes.data)

    def set(self, offset: int, value: int) -> None:
        self.memory[offset // 8] = value

    def need(self, nbytes: int) -> None:
        """An arena of at least `nbytes`."""
        if nbytes > self.arena_bytes:
            self.arena = aligned(nbytes)
            self.arena_bytes = nbytes
            self.set(layout.ARENA, int(self.arena.ctypes.data))


class Executable:
    """See the module docstring. Safe to call from several threads."""

    def __init__(self, entry: cache.Entry, state: State, constants: dict[str, Array],
                 threads: int, places: Sequence[str] = ()) -> None:  # fmt: skip
        self.manifest = manifest = Manifest.parse(entry.manifest)
        constants = constants | {m.digest: m.array for m in manifest.made}
        self.state = state
        self.places = places  # the user's lines of the inputs
        self.threads = native.open_pool(threads)
        self.library = native.load(entry)
        self.entry = native.address(self.library, manifest.name)
        self._call = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)(self.entry)
        self._prepare = None
        if manifest.has_prepare:
            at = native.address(self.library, f"{manifest.name}_prepare")
            self._prepare = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)(at)
        self._homes = [state.arrays[a.name] for a in manifest.variables]
        self._keep = [constants[d] for d in manifest.constants]
        self.variable_table = _table(self._homes)
        self.constant_table = _table(self._keep)
        self.prepared = aligned(manifest.prepared_bytes)
        self._prepared_versions: tuple[int, ...] | None = None
        self._prepared_at = -1  # count of the state's changes that the prepared values fit
        self._preparing = threading.Lock()
        self.written = tuple(manifest.variables[k].name for k in manifest.written)
        self._begin, self._end = state.begin_read, state.end_read
        if self.written:
            self._begin, self._end = state.begin_write, state.end_write
        self._sources = tuple(manifest.variables[k].name for k in manifest.prepared_from)
        self._host = _HOST(self.show) if manifest.printed else None
        self._free: list[Frame] = []
        self.static = not manifest.symbols
        sources = {name: place for place, name in manifest.dim_sources.items()}
        # of each result: sizes, those known only at run time as (input, axis), and dtype
        self._plan: list[tuple[list[Any], np.dtype[Any]]] = [
            ([d if isinstance(d, int) else sources.get(str(plain_symbol(d))) for d in a.shape],
             a.dtype.numpy) for a in manifest.outputs]  # fmt: skip
        self._uses_state = bool(manifest.variables) or self._prepare is not None
        self._fast_symbol = 0  # compiled now: a program that runs has memory of its own
        if self._fits_fast_call():
            self._fast_symbol = native.address(native.support(), "fm_pycall")
        self._fast: Callable[..., int] = _not_yet
        self._fast_caps: dict[str, int] = {}
        self.clock: Array | None = None  # readings of a profile
        self.ran: Callable[[dict[str, int]], None] | None = None  # told of every run's dims

    # --- runs -------------------------------------------------------------------------------

    def frame(self) -> Frame:
        """A frame nobody uses, with everything set that does not change."""
        with suppress(IndexError):  # another thread may take the last one
            return self._free.pop()
        return self.new_frame()

    def new_frame(self) -> Frame:
        f = Frame(self)
        f.set(layout.PARALLEL_FOR, native.parallel_for() if self.threads > 1 else 0)
        f.set(layout.THREADS, self.threads)
        f.set(layout.VARIABLES, ctypes.addressof(self.variable_table))
        f.set(layout.CONSTANTS, ctypes.addressof(self.constant_table))
        f.set(layout.PREPARED, int(self.prepared.ctypes.data))
        if self._host is not None:
            f.set(layout.HOST, ctypes.cast(self._host, ctypes.c_void_p).value or 0)
        if self.clock is not None:
            f.clock = self.clock
            f.set(layout.PROFILE, int(self.clock.ctypes.data))
        return f

    def show(self, _user: int, number: int, data: int, dims: int) -> None:
        """Prints a value of a run: what the native code calls for `fm.print`."""
        printed = self.manifest.printed[number].value
        symbols = (*self.manifest.symbols, *self.manifest.computed)
        words = (ctypes.c_int64 * len(symbols)).from_address(dims)
        known = {s.name: int(n) for s, n in zip(symbols, words)}
        shape = tuple(evaluate(d, known) for d in printed.shape)
        array = np.empty(shape, printed.dtype.numpy)
        ctypes.memmove(array.ctypes.data, data, array.nbytes)
        print(f"{printed.name}: {array}" if printed.name else array, flush=True)

    def start_clock(self) -> Array:
        """Makes every run from now on leave its clock readings in the array returned: at the end and
        at the start, then for each of the manifest's steps the ticks it took and how often it ran.
        One run at a time."""
        self.clock = np.zeros(2 + 2 * len(self.manifest.steps), np.int64)
        self._free.clear()
        self._fast = _not_yet
        return self.clock

    def stop_clock(self) -> None:
        """Ends `start_clock`."""
        self.clock = None
        self._free.clear()

    def run(self, inputs: Sequence[Any], outputs: Sequence[Array | None] | None = None
            ) -> list[Array]:  # fmt: skip
        """Outputs for inputs in manifest order; `outputs` gives memory to write to."""
        m = self.manifest
        arrays, dims = checked(m, inputs, self.places)
        if outputs is not None:
            overlap([*arrays, *self._homes], outputs)
        outs = results(m, dims, outputs)
        f = self.frame()
        f.need(evaluate(m.arena_bytes, dims))
        for k, a in enumerate((*arrays, *outs)):
            f.set(layout.ARGUMENTS + 8 * k, int(a.ctypes.data))
        base = layout.ARGUMENTS + 8 * (len(arrays) + len(outs))
        for k, s in enumerate(m.symbols):
            f.set(base + 8 * k, dims[s.name])
        try:
            self.enter(f, lambda: self._call(f.address), dims)
            found = f.memory[base // 8 + len(m.symbols) :].tolist()
            dims |= {s.name: n for s, n in zip(m.computed, found)}
        finally:
            self._free.append(f)
        if self.ran is not None:
            self.ran(dims)
        if self._fast is _not_yet or not self.static:
            self.enable_fast(dims)
        return trimmed(m, dims, outs)

    def enter(self, f: Frame, call: Any, dims: dict[str, int]) -> None:
        """Runs `call` in its turn, values that depend on variables renewed."""
        self._begin()
        try:
            if self._prepare is not None:
                self.renew(f)
            status = call()
            if status == 0 and self.written:
                self.state.touched(self.written)
        finally:
            self._end()
        if status != 0:
            raise self.failure(int(f.memory[0]) & layout.NO_ERROR, dims)

    def renew(self, f: Frame) -> None:
        """Computes prepared values again if what they come from was written."""
        assert self._prepare is not None
        with self._preparing:  # readers of one state run side by side
            if self.stale():
                if self._prepare(f.address) != 0:
                    raise self.failure(int(f.memory[0]) & layout.NO_ERROR, {})
                if self._prepared_versions is None:  # most of them are of no use any more
                    for array in self._keep:
                        give_back(array)
                self._prepared_versions = tuple([self.state.versions[n] for n in self._sources])

    # --- the fast path ----------------------------------------------------------------------

    def run_fast(self, inputs: Sequence[Any], given: list[Array | None] | None = None
                 ) -> list[Any] | None:  # fmt: skip
        """As `run`, where arguments fit exactly and nothing fails. None: nothing happened, and
        `run` does it, or says why it cannot be done."""
        outs: list[Any]
        if not self._fast_symbol:
            return None
        if given is not None:
            outs = given
        else:
            try:
                if self.static:
                    outs = [_empty(s, d) for s, d in self._plan]
                else:
                    outs = [_empty([d if d.__class__ is int else inputs[d[0]].shape[d[1]]
                                    for d in s], t) for s, t in self._plan]  # fmt: skip
            except NO_RESULTS:
                return None
        if not self._uses_state:
            return outs if self._fast(*inputs, *outs) == 0 else None
        self._begin()
        try:
            if self._prepared_at != self.state.changes and self.stale():
                return None
            if self._fast(*inputs, *outs) != 0:
                return None
            if self.written:
                self.state.touched(self.written)
            return outs
        finally:
            self._end()

    def quick(self, slow: Callable[[tuple[Any, ...], Any], Any]) -> Callable[..., Any] | None:
        """A function of the inputs, and of memory for the result as `out`, for programs with one
        result that write no variables: `run_fast` without the calls in between, half the cost.
        What it cannot do goes to `slow(inputs, out)`. None for other programs."""
        if len(self._plan) != 1 or self.written or not self._fast_symbol:
            return None
        (sizes, dtype), state, readers = self._plan[0], self.state, self.state.readers
        varying = [k for k, d in enumerate(sizes) if d.__class__ is not int]
        if len(varying) > 1:
            return None
        at = varying[0] if varying else len(sizes)
        fixed = tuple(sizes)
        head, tail = fixed[:at], fixed[at + 1 :]
        source, axis = fixed[at] if varying else (0, 0)

        def call(*arrays: Any, out: Any = None) -> Any:
            result = out
            if result is None:
                try:
                    if not varying:
                        result = _empty(fixed, dtype)
                    else:
                        result = _empty((*head, arrays[source].shape[axis], *tail), dtype)
                except NO_RESULTS:
                    return slow(arrays, None)
            readers.append(None)
            try:
                if state.writes or (self._prepared_at != state.changes and self.stale()):
                    pass
                elif self._fast(*arrays, result) == 0:
                    return result
            finally:
                readers.pop()
                if state.writes:
                    state.wake()
            return slow(arrays, out)

        return call

    def stale(self) -> bool:
        """Whether prepared values must be computed before a run. Within a turn only."""
        if self._prepare is not None:
            if self._prepared_versions != tuple([self.state.versions[n] for n in self._sources]):
                return True
        self._prepared_at = self.state.changes
        return False

    def enable_fast(self, dims: dict[str, int]) -> None:
        """Prepares the native call for dims up to these."""
        m = self.manifest
        if not self._fast_symbol or self.clock is not None:
            return
        caps = {s.name: max(dims[s.name], self._fast_caps.get(s.name, 0)) for s in m.symbols}
        if self._fast is not _not_yet and caps == self._fast_caps:
            return
        f = self.frame()  # from now on the fast call's own
        f.need(evaluate(m.arena_bytes, caps))
        base = layout.ARGUMENTS + 8 * (len(m.inputs) + len(m.outputs))
        plans = {s.name: DimPlan(base + 8 * k, s.lo, caps[s.name], s.multiple)
                 for k, s in enumerate(m.symbols)}  # fmt: skip
        args = [ArgPlan(a.dtype.numpy, tuple(d if isinstance(d, int) else str(plain_symbol(d))
                                             for d in a.shape), layout.ARGUMENTS + 8 * k,
                        writable=k >= len(m.inputs))
                for k, a in enumerate((*m.inputs, *m.outputs))]  # fmt: skip
        call = FastCall(self._fast_symbol, self.entry, f.address, 8 * f.words, args, plans,
                        release_gil=True, owner=(f, self.library))  # fmt: skip
        self._fast, self._fast_caps = call.call, caps

    def _fits_fast_call(self) -> bool:
        """Whether the native call can check and run this program: its dims are those of inputs,
        with no requirements but bounds; no result is smaller than its memory; and it prints nothing,
        as what fails is run again to learn why."""
        m = self.manifest
        dims = [d for a in (*m.inputs, *m.outputs) for d in a.shape if not isinstance(d, int)]
        return (supported() and not (m.printed or m.requires or m.told)
                and all(plain_symbol(d) for d in dims)
                and set(m.dim_sources.values()) == {s.name for s in m.symbols})  # fmt: skip

    # --- failures ---------------------------------------------------------------------------

    def failure(self, word: int, dims: dict[str, int]) -> UserError:
        """The error a run recorded."""
        if word >> layout.INDEX_BITS >= len(self.manifest.sites):
            raise InternalError(f"{self.manifest.name}: a kernel reached outside of its buffers")
        site = self.manifest.sites[word >> layout.INDEX_BITS]
        index = word & ((1 << layout.INDEX_BITS) - 1)
        return explain(site, index, dims)


def explain(site: SiteInfo, index: int, dims: dict[str, int]) -> UserError:
    """An error with code, place and index, in words."""
    if site.code == "size":
        name, most = site.shape
        n = index - (index >> (layout.INDEX_BITS - 1) << layout.INDEX_BITS)  # with its sign
        return RunError(size_problem(site.text, show(name), n, evaluate(most, dims)), str(site.loc),
                        UNCHANGED)  # fmt: skip
    if site.code == "require":
        return RunError(f"{site.text}: {show(site.shape[0])} must not be negative", str(site.loc),
                        UNCHANGED)  # fmt: skip
    what = _MESSAGES.get(site.code, site.code)
    at: list[int] = []
    for d in reversed(site.shape):
        size = evaluate(d, dims)
        at.insert(0, index % size if size else 0)
        index //= max(size, 1)
    place = f" at element {at}" if at else ""
    named = {n for n in re.findall(r"[A-Za-z_]\w*", site.text) if n in dims}
    sizes = ", ".join(f"{n} = {dims[n]}" for n in sorted(named)) if site.code == "check" else ""
    return RunError(f"{site.text}: {what}{place}", str(site.loc), sizes and f"where {sizes}",
                    UNCHANGED)  # fmt: skip


def _table(arrays: Sequence[Array]) -> Any:
    kind = ctypes.c_void_p * max(len(arrays), 1)
    return kind(*(int(a.ctypes.data) for a in arrays))
