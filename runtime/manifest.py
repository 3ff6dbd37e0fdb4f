"""What a compiled program needs to run, as JSON beside its native code.

In: a `Program`. Out: a `Manifest`, and back from its text without loading a compiler.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..algorithm import Requirement
from ..dims import Dim, DimExpr, as_sym, evaluate, show, sole_symbol, sym, total
from ..dims_text import parse
from ..dtypes import Array as NumPyArray
from ..dtypes import DType, as_dtype
from ..errors import Loc, ModelError

if TYPE_CHECKING:
    from ..codegen.kernel.program import Array as ProgramArray
    from ..codegen.kernel.program import Launch, Program

FORMAT = 3


@dataclass(frozen=True)
class Symbol:
    """A dimension fed at run time, or a symbol that a run sets itself, with its bounds."""

    name: str
    lo: int
    hi: int | None
    multiple: int


@dataclass(frozen=True)
class Area:
    """An input, output or variable: name, dtype, shape as dims."""

    name: str
    dtype: DType
    shape: tuple[Dim, ...]


@dataclass(frozen=True)
class SiteInfo:
    """An error a run can report: its code, what failed, and the user's line."""

    code: str
    text: str
    loc: Loc
    shape: tuple[Dim, ...]


@dataclass(frozen=True)
class Printed:
    """A value that a run prints: its text, dtype and shape, and the user's line."""

    value: Area
    loc: Loc


@dataclass(frozen=True)
class Step:
    """What a profile times: the kernel's name, what it computes, where the user wrote that,
    arithmetic and bytes moved, and the number of its phase."""

    kernel: str
    label: str
    loc: Loc
    flops: Dim
    bytes: Dim
    phase: int


@dataclass(frozen=True)
class MadeConstant:
    """A constant that a pass computed: its elements' bytes as hexadecimal digits."""

    digest: str
    dtype: DType
    shape: tuple[int, ...]
    elements: str

    @property
    def array(self) -> NumPyArray:
        """Its elements."""
        return np.frombuffer(bytes.fromhex(self.elements), self.dtype.numpy).reshape(self.shape)


@dataclass(frozen=True)
class Manifest:
    """See the module docstring."""

    name: str
    symbols: tuple[Symbol, ...]
    inputs: tuple[Area, ...]
    outputs: tuple[Area, ...]
    variables: tuple[Area, ...]
    written: tuple[int, ...]
    constants: tuple[str, ...]
    prepared_bytes: int
    prepared_from: tuple[int, ...]
    has_prepare: bool
    arena_bytes: Dim
    peak_bytes: Dim
    sites: tuple[SiteInfo, ...]
    steps: tuple[Step, ...]
    made: tuple[MadeConstant, ...] = ()
    printed: tuple[Printed, ...] = ()
    requires: tuple[Requirement, ...] = ()
    computed: tuple[Symbol, ...] = ()  # they follow `symbols` in the frame
    limits: tuple[tuple[str, Dim], ...] = ()  # how large sizes become that a run computes
    told: int = 0  # how many of the last outputs are sizes of the others

    @staticmethod
    def of(p: Program, made: Mapping[str, NumPyArray] | None = None) -> Manifest:
        """The manifest of a program. `made`: the constants that passes computed, by digest."""

        def areas(xs: tuple[ProgramArray, ...]) -> tuple[Area, ...]:
            return tuple(Area(a.name, a.dtype, a.shape) for a in xs)

        def symbols(dims: tuple[DimExpr, ...]) -> tuple[Symbol, ...]:
            return tuple(Symbol(s.name, s.lo, s.hi, s.multiple) for s in map(as_sym, dims))

        return Manifest(
            p.name, symbols(p.dims),
            areas(p.inputs), areas(p.outputs), areas(p.variables), p.written, p.constants,
            p.prepared_bytes, p.prepared_from, bool(p.prepare), p.arena_bytes, p.peak_bytes,
            tuple(SiteInfo(s.code, s.text, s.loc, s.shape) for s in p.sites),
            tuple(_step(group, phase) for group, phase in p.timed),
            tuple(MadeConstant(d, as_dtype(a.dtype), a.shape, a.tobytes().hex())
                  for d, a in (made or {}).items()),
            tuple(Printed(areas((r.value,))[0], r.loc) for r in p.reports), p.requires,
            symbols(p.computed), tuple(p.limits.items()), p.told,
        )  # fmt: skip

    @cached_property
    def dim_sources(self) -> dict[tuple[int, int], str]:
        """(input, axis) -> the symbol which that axis is."""
        return {(k, axis): name for k, a in enumerate(self.inputs)
                for axis, d in enumerate(a.shape) if (name := plain_symbol(d))}  # fmt: skip

    @property
    def results(self) -> tuple[Area, ...]:
        """The outputs that a user asked for."""
        return self.outputs[: len(self.outputs) - self.told]

    def room(self, dims: Mapping[str, int]) -> dict[str, int]:
        """The dimensions of a run, and the largest values of those that it computes."""
        return {**dims, **{name: evaluate(most, dims) for name, most in self.limits}}

    def text(self) -> str:
        """JSON."""

        def plain(x: Any) -> Any:
            if isinstance(x, DType):
                return x.short
            return show(x)

        body = {k: getattr(self, k) for k in self.__dataclass_fields__}
        return json.dumps({"format": FORMAT, **_plain(body, plain)}, separators=(",", ":"))

    @staticmethod
    def parse(text: str) -> Manifest:
        """Reads what `text` wrote. ModelError if it is damaged or of another version."""
        try:
            raw = json.loads(text)
            if raw["format"] != FORMAT:
                raise ModelError(f"manifest format {raw['format']}, this flowmill reads {FORMAT}")
            return _manifest(raw)
        except (KeyError, TypeError, ValueError, IndexError) as e:
            raise ModelError(f"the manifest of a compiled program is damaged: {e}") from None


def _step(group: tuple[Launch, ...], phase: int) -> Step:
    first = group[0]
    label = " ; ".join(launch.label for launch in group)
    return Step(first.kernel, label, first.locs[0], total(x.flops for x in group),
                total(x.bytes for x in group), phase)  # fmt: skip


def plain_symbol(d: Any) -> str | None:
    """The name of the symbol that `d` is, if it is nothing else."""
    found = sole_symbol(d)
    return None if found is None else found.name


def _plain(x: Any, leaf: Any) -> Any:
    if isinstance(x, Loc):
        return [x.file, x.line, x.layer]
    if isinstance(x, dict):
        return {k: _plain(v, leaf) for k, v in x.items()}
    if isinstance(x, tuple | list):
        return [_plain(v, leaf) for v in x]
    if hasattr(x, "__dataclass_fields__") and not isinstance(x, DType):
        return {k: _plain(getattr(x, k), leaf) for k in x.__dataclass_fields__}
    if x is None or isinstance(x, bool | int | str):
        return x
    return leaf(x)


def _manifest(raw: Mapping[str, Any]) -> Manifest:
    symbols, computed = (tuple(Symbol(**s) for s in raw[k]) for k in ("symbols", "computed"))
    known = {s.name: sym(s.name, s.lo, s.hi, s.multiple) for s in (*symbols, *computed)}

    def dim(x: Any) -> Dim:
        return x if isinstance(x, int) else parse(x, lambda n: known[n])

    def loc(x: Any) -> Loc:
        return Loc(str(x[0]), int(x[1]), str(x[2]))

    def area(a: Mapping[str, Any]) -> Area:
        return Area(str(a["name"]), as_dtype(a["dtype"]), tuple(dim(d) for d in a["shape"]))

    return Manifest(
        name=str(raw["name"]), symbols=symbols,
        inputs=tuple(area(a) for a in raw["inputs"]),
        outputs=tuple(area(a) for a in raw["outputs"]),
        variables=tuple(area(a) for a in raw["variables"]),
        written=tuple(raw["written"]), constants=tuple(raw["constants"]),
        prepared_bytes=int(raw["prepared_bytes"]), prepared_from=tuple(raw["prepared_from"]),
        has_prepare=bool(raw["has_prepare"]), arena_bytes=dim(raw["arena_bytes"]),
        peak_bytes=dim(raw["peak_bytes"]),
        sites=tuple(SiteInfo(s["code"], s["text"], loc(s["loc"]),
                             tuple(dim(d) for d in s["shape"])) for s in raw["sites"]),
        steps=tuple(Step(s["kernel"], s["label"], loc(s["loc"]), dim(s["flops"]), dim(s["bytes"]),
                         int(s["phase"])) for s in raw["steps"]),
        made=tuple(MadeConstant(str(m["digest"]), as_dtype(m["dtype"]), tuple(m["shape"]),
                                str(m["elements"])) for m in raw["made"]),
        printed=tuple(Printed(area(r["value"]), loc(r["loc"])) for r in raw["printed"]),
        requires=tuple(Requirement(dim(r["dim"]), str(r["text"]), loc(r["loc"]))
                       for r in raw["requires"]),
        computed=computed, limits=tuple((str(n), dim(d)) for n, d in raw["limits"]),
        told=int(raw["told"]),
    )  # fmt: skip
