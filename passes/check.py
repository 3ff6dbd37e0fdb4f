"""Which pass changed a result: every graph pass checked against the reference interpreter.

In: a function, a pipeline, feeds and variables (drawn at random where none are given). Out: a
report that says for each pass how far the results moved, and names the first one that moved them
beyond tolerance. A pass that refines results is held to those of the same computation in float64,
where these are finite; every other pass to what was computed before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from ..dims import evaluate
from ..dtypes import Array, float32, float64
from ..errors import UserError
from ..graph.interpret import run
from ..graph.ir import Function
from ..graph.ops.base import Op
from ..graph.ops.source import Data, Input, Variable
from ..graph.printer import every_node
from ..graph.rewrite import changed_copy, copied
from ..target import Target
from .base import Context, Pipeline, Record

TOLERANCE = {8: 0.0, 16: 2e-2, 32: 1e-4, 64: 1e-10}  # relative to scale, by bits of a float
Arrays = Mapping[str, Array]


@dataclass(frozen=True)
class Difference:
    """How far one result is from what it should be: the largest distance in units in the last
    place and relative to the largest magnitude; infinite where only one of both is finite."""

    result: str
    ulps: float
    relative: float
    tolerance: float

    @property
    def ok(self) -> bool:
        return self.relative <= self.tolerance

    def __str__(self) -> str:
        sign = "ok" if self.ok else "WRONG"
        return f"{self.result}: {self.ulps:.3g} ulp, {self.relative:.2g} of scale  {sign}"


@dataclass(frozen=True)
class Stage:
    """A pass and what it did to the results; `problem` where they could not be computed."""

    name: str
    differences: tuple[Difference, ...]
    problem: str = ""

    @property
    def ok(self) -> bool:
        return not self.problem and all(d.ok for d in self.differences)


@dataclass(frozen=True)
class Report:
    """The stages in order, up to the first that is wrong. `records` are the decisions of passes,
    `results` what the interpreter computed: what native code must compute too."""

    stages: tuple[Stage, ...]
    records: tuple[Record, ...]
    results: Arrays

    @property
    def blamed(self) -> str | None:
        """The first stage that changed a result beyond tolerance."""
        return next((s.name for s in self.stages if not s.ok), None)

    def __str__(self) -> str:
        lines = []
        for s in self.stages:
            lines.append(f"{s.name}: {s.problem or ('ok' if s.ok else 'WRONG')}")
            lines += [f"  {d}" for d in s.differences if d.ulps or not d.ok]
        if self.blamed:
            lines.append(f"the first to change a result is {self.blamed}, which decided:")
            lines += [f"  {r}" for r in self.records if r.step == self.blamed]
        return "\n".join(lines)


def check(function: Function, pipeline: Pipeline, target: Target, feeds: Arrays | None = None,
          variables: Arrays | None = None, seed: int = 0) -> Report:  # fmt: skip
    """What each pass of `pipeline` does to the results of `function`.

    Raises FeedError where feeds or variables do not fit, and what the function itself raises.
    """
    if feeds is None:
        feeds = random_feeds(function, seed)
    if variables is None:
        variables = random_variables(function, seed)
    expected = results(function, feeds, variables)
    exact = results_in_float64(function, feeds, variables)
    refining = {p.name for p in pipeline.passes if p.refines}
    stages: list[Stage] = []

    def watch(name: str, made: Function) -> None:
        nonlocal expected
        if stages and not stages[-1].ok:
            return
        try:
            found = results(made, feeds, variables)
        except UserError as e:
            stages.append(Stage(name, (), f"cannot be computed: {e}"))
            return
        compared = [difference(k, found[k], v) for k, v in expected.items()]
        if name in refining:
            compared = [d if d.ok else difference(d.result, found[d.result], exact[d.result], True)
                        for d in compared]  # fmt: skip
            expected = found
        stages.append(Stage(name, tuple(compared)))

    context = Context(target, 2, watch)
    pipeline.run(copied(function), context)
    return Report(tuple(stages), tuple(context.records), expected)


def results(function: Function, feeds: Arrays, variables: Arrays) -> dict[str, Array]:
    """Outputs by name, and new values of variables as "variable NAME"."""
    outputs, updates = run(function, feeds, variables)
    return outputs | {f"variable {name}": v for name, v in updates.items()}


def difference(name: str, found: Array, expected: Array, refined: bool = False) -> Difference:
    """How far `found` is from `expected`; where that is not finite it counts only if not
    `refined`."""
    with np.errstate(all="ignore"):
        expected = expected.astype(found.dtype)
    tolerance = TOLERANCE[min(64, found.dtype.itemsize * 8)] if found.dtype.kind == "f" else 0.0
    if found.dtype.kind not in "fc" and found.dtype.name != "bfloat16":
        same = bool(np.array_equal(found, expected))
        return Difference(name, 0.0 if same else np.inf, 0.0 if same else np.inf, tolerance)
    spacing = np.asarray(np.spacing(np.abs(expected)), np.float64)
    a, b = found.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(b)
    gap = np.abs(np.where(finite, a, 0) - np.where(finite, b, 0))
    gap = np.where(np.isnan(gap), np.inf, gap)
    if not refined and not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return Difference(name, np.inf, np.inf, tolerance)
    worst = float(np.max(gap, initial=0))
    scale = float(np.max(np.abs(b), initial=0, where=finite))
    ulps = float(np.max(gap / np.where(finite, spacing, 1), initial=0))
    return Difference(name, ulps, worst / scale if scale else (np.inf if worst else 0.0), tolerance)


def results_in_float64(function: Function, feeds: Arrays, variables: Arrays) -> dict[str, Array]:
    """The results of the same computation with float64 in the place of float32."""
    wide = changed_copy(function, widened)

    def cast(arrays: Arrays) -> dict[str, Array]:
        return {k: v.astype(np.float64) if v.dtype == np.float32 else v for k, v in arrays.items()}

    return results(wide, cast(feeds), cast(variables))


def widened(op: Op) -> Op:
    """`op` with float64 for float32 in its attributes and data."""
    changed: dict[str, Any] = {}
    for f in fields(op):  # type: ignore[arg-type]
        value = getattr(op, f.name)
        if value == float32:
            changed[f.name] = float64
        elif isinstance(value, Data) and value.array.dtype == np.float32:
            changed[f.name] = Data(value.array.astype(np.float64))
    return replace(op, **changed) if changed else op  # type: ignore[type-var]


# --- data -----------------------------------------------------------------------------------------


def random_feeds(function: Function, seed: int = 0, sizes: Mapping[str, int] | None = None
                 ) -> dict[str, Array]:  # fmt: skip
    """Something to feed: small numbers, and the smallest sizes that are not special."""
    rng = np.random.default_rng(seed)
    dims = {s.name: _size(s.lo, s.hi, s.multiple) for s in function.symbols()} | dict(sizes or {})
    ops = [v.node.op for v in function.inputs]
    return {op.input_name: _draw(rng, op, dims) for op in ops if isinstance(op, Input)}


def random_variables(function: Function, seed: int = 0) -> dict[str, Array]:
    """Values for every variable that a function, or one it holds, reads or writes."""
    rng = np.random.default_rng([seed, 1])
    ops = (n.op for n in every_node(function))
    return {op.variable_name: _draw(rng, op, {}) for op in ops if isinstance(op, Variable)}


def _size(lo: int, hi: int | None, multiple: int) -> int:
    size = -(-max(lo, 3) // multiple) * multiple
    if hi is not None and size > hi:
        size = hi // multiple * multiple
    return size


def _draw(rng: np.random.Generator, op: Input | Variable, dims: Mapping[str, int]) -> Array:
    shape = tuple(evaluate(d, dims) for d in op.shape)
    if op.dtype.is_float:
        return np.asarray(rng.standard_normal(shape)).astype(op.dtype.numpy)
    return np.asarray(rng.integers(0, 2, shape)).astype(op.dtype.numpy)
