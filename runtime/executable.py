"""A compiled program bound to a state: checks arguments, fills frames, runs, explains failures.

In: native code with its manifest. Out: `run(inputs) -> outputs` on NumPy arrays.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import config
from ..codegen.emit import INDEX_BITS, NO_ERROR
from ..codegen.kernel import program as frame_layout
from ..dims import evaluate
from ..dtypes import Array
from ..errors import RunError, UserError
from . import cache, native
from .arguments import checked, results
from .fastcall import ArgPlan, DimPlan, FastCall, supported
from .manifest import Manifest, SiteInfo, plain_symbol
from .state import State, aligned

_MESSAGES = {
    "index": "index out of range",
    "zero_division": "integer division by zero",
    "check": "check failed",
}


class Frame:
    """One run's arguments and scratch memory."""

    def __init__(self, executable: Executable) -> None:
        m = executable.manifest
        self.words = 10 + len(m.inputs) + len(m.outputs) + len(m.symbols)
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
            self.set(frame_layout.ARENA, int(self.arena.ctypes.data))


class Executable:
    """See the module docstring. Safe to call from several threads."""

    def __init__(self, entry: cache.Entry, state: State, constants: dict[str, Array],
                 threads: int) -> None:  # fmt: skip
        self.manifest = manifest = Manifest.parse(entry.manifest)
        constants = constants | {m.digest: m.array for m in manifest.made}
        self.state = state
        self.threads = native.open_pool(threads)
        self.library = native.load(entry)
        self.entry = native.address(self.library, manifest.name)
        self._call = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)(self.entry)
        self._prepare = None
        if manifest.has_prepare:
            at = native.address(self.library, f"{manifest.name}_prepare")
            self._prepare = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)(at)
        self._keep = [state.arrays[a.name] for a in manifest.variables]
        self._keep += [constants[d] for d in manifest.constants]
        self.variable_table = _table([state.arrays[a.name] for a in manifest.variables])
        self.constant_table = _table([constants[d] for d in manifest.constants])
        self.prepared = aligned(manifest.prepared_bytes)
        self._prepared_versions: tuple[int, ...] | None = None
        self.written = tuple(manifest.variables[k].name for k in manifest.written)
        self._sources = tuple(manifest.variables[k].name for k in manifest.prepared_from)
        self._free: list[Frame] = []
        self.dtypes = [a.dtype.numpy for a in manifest.outputs]
        self.static = not manifest.symbols
        self.static_shapes = [tuple(d for d in a.shape if isinstance(d, int))
                              for a in manifest.outputs]  # fmt: skip
        self._fast: FastCall | None = None
        self._fast_frame: Frame | None = None
        self._fast_limits: tuple[int, ...] = ()
        self.clock: Array | None = None  # readings of a profile
        self._report = config.integer("debug") >= 2
        if self._report:
            self.start_clock()

    # --- runs -------------------------------------------------------------------------------

    def frame(self) -> Frame:
        """A frame nobody uses, with everything set that does not change."""
        if self._free:
            return self._free.pop()
        f = Frame(self)
        f.set(frame_layout.PARALLEL_FOR, native.parallel_for() if self.threads > 1 else 0)
        f.set(frame_layout.THREADS, self.threads)
        f.set(frame_layout.VARIABLES, ctypes.addressof(self.variable_table))
        f.set(frame_layout.CONSTANTS, ctypes.addressof(self.constant_table))
        f.set(frame_layout.PREPARED, int(self.prepared.ctypes.data))
        if self.clock is not None:
            f.clock = self.clock
            f.set(frame_layout.PROFILE, int(self.clock.ctypes.data))
        return f

    def start_clock(self) -> Array:
        """Makes every run from now on leave its clock readings in the array returned: at the start,
        after each of the manifest's steps, at the end. One run at a time."""
        self.clock = np.zeros(len(self.manifest.steps) + 2, np.int64)
        self._free.clear()
        self._fast, self._fast_frame, self._fast_limits = None, None, ()
        return self.clock

    def stop_clock(self) -> None:
        """Ends `start_clock`."""
        self.clock = None
        self._free.clear()

    def run(self, inputs: Sequence[Any], outputs: Sequence[Array | None] | None = None
            ) -> list[Array]:  # fmt: skip
        """Outputs for inputs in manifest order; `outputs` gives memory to write to."""
        m = self.manifest
        arrays, dims = checked(m, inputs)
        outs = results(m, dims, outputs)
        f = self.frame()
        f.need(evaluate(m.arena_bytes, dims))
        for k, a in enumerate((*arrays, *outs)):
            f.set(frame_layout.ARGUMENTS + 8 * k, int(a.ctypes.data))
        base = frame_layout.ARGUMENTS + 8 * (len(arrays) + len(outs))
        for k, s in enumerate(m.symbols):
            f.set(base + 8 * k, dims[s.name])
        try:
            self.enter(f, lambda: self._call(f.address), dims)
        finally:
            self._free.append(f)
        if self._report and self.clock is not None:
            from .profile import print_run

            print_run(m, self.clock, dims, self.threads)
        return outs

    def enter(self, f: Frame, call: Any, dims: dict[str, int]) -> None:
        """Runs `call` under the state's lock, values that depend on variables renewed."""
        if self.written:
            with self.state.writing():
                self.renew(f)
                status = call()
                if status == 0:
                    self.state.touched(self.written)
        elif self.manifest.variables:
            with self.state.reading():
                self.renew(f)
                status = call()
        else:
            self.renew(f)
            status = call()
        if status != 0:
            raise self.failure(int(f.memory[0]) & NO_ERROR, dims)

    def renew(self, f: Frame) -> None:
        """Computes prepared values again if what they come from was written."""
        if self._prepare is None:
            return
        versions = tuple(self.state.versions[n] for n in self._sources)
        if versions != self._prepared_versions:
            if self._prepare(f.address) != 0:
                raise self.failure(int(f.memory[0]) & NO_ERROR, {})
            self._prepared_versions = versions

    def fast(self, *arrays: Array) -> int:
        """A run with arrays (inputs, then outputs) that fit exactly: 0. Anything else: not 0 and
        nothing happened, or a failure that the slow path will meet again."""
        if self._fast is None or self.stale():
            return -1
        return self._fast.call(*arrays)

    def stale(self) -> bool:
        """Whether prepared values must be computed before a run."""
        return self._prepare is not None and self._prepared_versions != tuple(
            self.state.versions[n] for n in self._sources
        )

    def enable_fast(self, dims: dict[str, int]) -> None:
        """Prepares the native call for dims up to these; programs that write variables and ones
        that can fail take the checked path."""
        m = self.manifest
        limits = tuple(dims[s.name] for s in m.symbols)
        if self.written or m.sites or not supported() or self._fast_limits == limits:
            return
        if self.clock is not None:
            return
        caps = {s.name: max(new, old) for s, new, old in zip(
            m.symbols, limits, self._fast_limits or limits)}  # fmt: skip
        f = self._fast_frame or self.frame()
        f.need(evaluate(m.arena_bytes, caps))
        base = frame_layout.ARGUMENTS + 8 * (len(m.inputs) + len(m.outputs))
        plans = {s.name: DimPlan(base + 8 * k, s.lo, caps[s.name], s.multiple)
                 for k, s in enumerate(m.symbols)}  # fmt: skip
        args = []
        for k, a in enumerate((*m.inputs, *m.outputs)):
            shape: list[int | str] = []
            for d in a.shape:
                plain = plain_symbol(d)
                if not isinstance(d, int) and plain is None:
                    return  # a compound dimension: Python works it out
                shape.append(d if isinstance(d, int) else str(plain))
            args.append(ArgPlan(a.dtype.numpy, tuple(shape), frame_layout.ARGUMENTS + 8 * k,
                                writable=k >= len(m.inputs)))  # fmt: skip
        bound = {d for p in args[: len(m.inputs)] for d in p.shape if isinstance(d, str)}
        if bound != set(caps):
            return
        self._fast = FastCall(native.address(native.support(), "fm_pycall"), self.entry,
                              f.address, 8 * f.words, args, plans, release_gil=True,
                              owner=(f, self.library))  # fmt: skip
        self._fast_frame, self._fast_limits = f, tuple(caps.values())

    # --- failures ---------------------------------------------------------------------------

    def failure(self, word: int, dims: dict[str, int]) -> UserError:
        """The error a run recorded."""
        site = self.manifest.sites[word >> INDEX_BITS]
        index = word & ((1 << INDEX_BITS) - 1)
        return explain(site, index, dims)


def explain(site: SiteInfo, index: int, dims: dict[str, int]) -> UserError:
    """An error with code, place and index, in words."""
    what = _MESSAGES.get(site.code, site.code)
    at: list[int] = []
    for d in reversed(site.shape):
        size = evaluate(d, dims)
        at.insert(0, index % size if size else 0)
        index //= max(size, 1)
    return RunError(f"{site.text}: {what} at element {at}", str(site.loc),
                    "variables are as they were before the run")  # fmt: skip


def _table(arrays: Sequence[Array]) -> Any:
    kind = ctypes.c_void_p * max(len(arrays), 1)
    return kind(*(int(a.ctypes.data) for a in arrays))
