"""Every op of the registry with every sample, as native code through a session, against the
independent reference: unoptimised and optimised, on one thread and on two."""

from __future__ import annotations

from collections import defaultdict

import flowmill as fm
import numpy as np
import pytest
from flowmill.dtypes import as_dtype
from flowmill.graph.ops.base import Pointwise

from ..graph.samples import Case, cases

TOLERANCE = {2: 1e-2, 4: 2e-6, 8: 1e-12}  # of the largest expected element, by element size
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, 1e-30, -1e-30, 88.0, -88.0, 3e38]
BY_OP: dict[str, list[Case]] = defaultdict(list)
for _case in cases():
    if _case.op.name != "relayout":  # its results are for passes only: no output has a layout
        BY_OP[_case.op.name].append(_case)


def near(made, expected, what):
    """Equal for integers and bools; for floats within tolerance, NaN and infinities in place."""
    made, expected = np.asarray(made), np.asarray(expected)
    assert made.shape == expected.shape, what
    assert made.dtype == expected.dtype, what
    if not as_dtype(made.dtype).is_float:
        np.testing.assert_array_equal(made, expected, what)
        return
    wide = TOLERANCE[made.dtype.itemsize]
    made, expected = made.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(made[~finite], expected[~finite], what)
    if finite.any():
        scale = max(np.abs(expected[finite]).max(), 1e-30)
        error = np.abs(made[finite] - expected[finite]).max() / scale
        assert error <= wide, f"{what}: error {error:.2e} of the largest element"


def fed(name: str, array: np.ndarray):
    """The array as an input: the value, and what to feed."""
    x = fm.input(name, array.shape, array.dtype)
    return x, {x: array}


def fed_as_view(name: str, array: np.ndarray):
    """The array as what a graph makes of a larger one by slicing, reversing and reshaping."""
    inner = (slice(1, None),) * array.ndim
    wide = np.zeros((2, *(d + 1 for d in array.shape)), array.dtype)
    wide[(1, *inner)] = array[..., ::-1] if array.ndim else array
    x = fm.input(name, wide.shape, wide.dtype)
    kept = x[(slice(1, 2), *inner)]
    return fm.reshape(fm.flip(kept, -1) if array.ndim else kept, array.shape), {x: wide}


def check(drawn: list[tuple[Case, list[np.ndarray]]], given=fed):
    """All cases as one program per level; the same bits on any number of threads."""
    expected = []
    with np.errstate(all="ignore"):
        for case, arrays in drawn:
            made = case.op(**case.sample.kwargs).ref(*arrays)
            expected.append(made if isinstance(made, tuple) else (made,))
    with fm.Graph() as g:
        feeds, fetches = {}, []
        for k, (case, arrays) in enumerate(drawn):
            made = [given(f"x{k}_{j}", a) for j, a in enumerate(arrays)]
            xs = tuple(x for x, _ in made)
            for _, more in made:
                feeds.update(more)
            fetches.append(g.node(case.op(**case.sample.kwargs), xs).outputs)
    flat = [y for ys in fetches for y in ys]
    for level in (0, 2):
        bits = None
        for threads in (1, 2):
            found = fm.Session(g, threads=threads, level=level).run(flat, feeds)
            rest = iter(found)
            for (case, _), ys, wanted in zip(drawn, fetches, expected):
                for _, w in zip(ys, wanted):
                    near(next(rest), w, f"{case} level {level} threads {threads}")
            now = [a.tobytes() for a in found]
            assert bits in (None, now), "threads change bits"
            bits = now


@pytest.mark.parametrize("name", sorted(BY_OP))
def test_native_code_agrees_with_the_reference(name):
    check([(case, case.draw()) for case in BY_OP[name]])


@pytest.mark.parametrize("name", sorted(BY_OP))
def test_operands_may_be_views(name):
    check([(case, case.draw()) for case in BY_OP[name][:3]], fed_as_view)


def specials(case: Case) -> list[np.ndarray]:
    """Operands of special values, each value meeting each."""
    dtype = as_dtype(case.dtypes[0]).numpy
    grid = np.meshgrid(*([SPECIAL] * len(case.dtypes)), indexing="ij")
    return [g.reshape(-1).astype(dtype) for g in grid]


def has_special_values(case: Case) -> bool:
    floats = all(as_dtype(d).name in ("float32", "float64") for d in case.dtypes)
    return issubclass(case.op, Pointwise) and floats and len(case.dtypes) in (1, 2)


@pytest.mark.parametrize("name", [n for n, cs in sorted(BY_OP.items())
                                  if any(map(has_special_values, cs))])  # fmt: skip
def test_special_values(name):
    chosen = {c.dtypes: c for c in BY_OP[name] if has_special_values(c)}
    check([(case, specials(case)) for case in chosen.values()])
