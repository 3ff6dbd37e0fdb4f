"""Elementary functions: error bounds, special values, the same bits everywhere, inline code."""

from __future__ import annotations

import itertools
import math
import platform
from functools import lru_cache
from typing import Any

import llvmlite.binding as llvm
import mpmath
import numpy as np
import pytest
from flowmill.benchmarks.vector_math import (
    TWO_ARGUMENTS,
    Native,
    assembly,
    module_text,
    sample,
    ulp_error,
)
from flowmill.codegen.vector_math import FUNCTIONS
from flowmill.tests.codegen.numpy_math import NumpyMath, fma

Array = np.ndarray[Any, np.dtype[Any]]
inf, nan = math.inf, math.nan
WIDTHS = (32, 64)
FLOAT: dict[int, Any] = {32: np.float32, 64: np.float64}
INT: dict[int, Any] = {32: np.uint32, 64: np.uint64}
x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="x86-64 only")

EDGES = (
    0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 3.0, -3.0, 1.5, -2.5, inf, -inf, nan, math.pi,
    1e-3, 1e10, -1e10, 1e38, -3e38, 88.0, 89.0, -87.5, -100.0, -103.9, -105.0, 709.0, 710.5, -745.0,
    -747.0, 0.5493, 1e-40, -1e-40, 1e-310, 5e-324, 1e300, -1e300, 2.0**48, 2.0**68, 2.0**100,
)  # fmt: skip


@lru_cache(None)
def native(name: str, width: int, lanes: int, cpu: str = "") -> Native:
    return Native(name, width, lanes, cpu)


def arguments(name: str, width: int, count: int) -> tuple[Array, ...]:
    """A sample, and all edges (all pairs of them)."""
    given = sample(name, width, count, np.random.default_rng(hash_of(name)))
    edges = np.array(EDGES)
    with np.errstate(over="ignore"):
        edges = edges.astype(FLOAT[width])
    extra = [edges]
    if len(given) == 2:
        extra = [g.reshape(-1) for g in np.meshgrid(edges, edges)]
    return tuple(np.concatenate([a, e]) for a, e in zip(given, extra))


def hash_of(name: str) -> int:
    return sum(ord(c) * 31**i for i, c in enumerate(name))


def pattern(a: Array) -> Array:
    """The bits, with one NaN for all."""
    return np.where(np.isnan(a), FLOAT[a.itemsize * 8](nan), a).view(INT[a.itemsize * 8])


# --- errors ---------------------------------------------------------------------------------


def in_float64(name: str, *args: Array) -> Array:
    """The true function of float32 arguments, by NumPy and the C library in float64."""
    with np.errstate(all="ignore"):
        x = args[0].astype(np.float64)
        if name in ("erf", "erfc"):
            return np.array([getattr(math, name)(v) for v in x.tolist()])
        if name == "rsqrt":
            return np.asarray(1 / np.sqrt(x))
        if name == "sigmoid":
            return np.asarray(1 / (1 + np.exp(-x)))
        if name == "softplus":
            return np.logaddexp(0, x)
        spelled = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "atan2": "arctan2",
                   "pow": "power"}.get(name, name)  # fmt: skip
        out: Array = getattr(np, spelled)(*(a.astype(np.float64) for a in args))
        return out


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32_error(name: str) -> None:
    args = arguments(name, 32, 1 << 18)
    error = ulp_error(native(name, 32, 16)(*args), in_float64(name, *args))
    at = int(np.argmax(error))
    assert error[at] <= 2.0, [float(a[at]).hex() for a in args]


def in_many_digits(name: str, *args: float) -> Any:
    """The true function of finite arguments in its domain."""
    mp = mpmath.mp
    x = mpmath.mpf(args[0])
    if name == "pow":
        return mpmath.power(x, mpmath.mpf(args[1]))
    if name == "atan2":
        return mpmath.atan2(x, mpmath.mpf(args[1]))
    if name == "rsqrt":
        return 1 / mpmath.sqrt(x)
    if name == "sigmoid":
        return 1 / (1 + mpmath.exp(-x))
    if name == "softplus":
        return mpmath.log1p(mpmath.exp(x))
    if name == "log2":
        return mpmath.log(x) / mp.ln2
    if name == "exp2":
        return mpmath.exp(x * mp.ln2)
    return getattr(mpmath, name)(x)


def in_domain(name: str, *args: float) -> bool:
    x = args[0]
    if not all(math.isfinite(a) for a in args):
        return False
    if name in ("asin", "acos"):
        return abs(x) <= 1
    if name in ("log", "log2", "rsqrt"):
        return x > 0
    if name == "log1p":
        return x > -1
    if name == "pow":
        return x > 0 and abs(args[1] * math.log(x)) < 1000
    if name in ("atan", "sin", "cos", "tan"):
        return True
    if name == "atan2":
        return 0.0 not in args
    return abs(x) < 1000


def ulps(y: float, true: Any) -> float:
    """|y - true| in units of the last place of a float64 at `true`."""
    limit = mpmath.mpf(2) ** 1024 * (1 - mpmath.mpf(2) ** -54)
    if abs(true) >= limit:
        return 0.0 if y == math.copysign(inf, true) else inf
    if not math.isfinite(y):
        return inf
    exponent = max(mpmath.frexp(true)[1], -1021) if true else -1021
    return float(abs(mpmath.mpf(y) - true) / mpmath.mpf(2) ** (exponent - 53))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float64_error(name: str) -> None:
    args = arguments(name, 64, 1 << 10)
    results = native(name, 64, 8)(*args)
    judged = 0
    with mpmath.workprec(160):
        for *given, y in zip(*(a.tolist() for a in args), results.tolist()):
            if in_domain(name, *given):
                judged += 1
                assert ulps(y, in_many_digits(name, *given)) <= 2.0, [v.hex() for v in given]
    assert judged > 200


# --- special values -------------------------------------------------------------------------

SPECIAL: dict[str, list[tuple[float, float]]] = {
    "exp": [(0.0, 1), (-0.0, 1), (inf, inf), (-inf, 0.0), (1e4, inf), (-1e4, 0.0)],
    "exp2": [
        (0.0, 1),
        (inf, inf),
        (-inf, 0.0),
        (3.0, 8),
        (-1.0, 0.5),
        (10.0, 1024),
        (1e4, inf),
        (-1e4, 0.0),
    ],
    "expm1": [
        (0.0, 0.0),
        (-0.0, -0.0),
        (inf, inf),
        (-inf, -1),
        (1e4, inf),
        (-1e4, -1),
        (1e-45, 1e-45),
    ],
    "log": [(1.0, 0.0), (0.0, -inf), (-0.0, -inf), (inf, inf), (-inf, nan), (-1.0, nan)],
    "log2": [
        (1.0, 0.0),
        (8.0, 3),
        (2.0**-140, -140),
        (0.0, -inf),
        (-0.0, -inf),
        (inf, inf),
        (-1.0, nan),
    ],
    "log1p": [
        (0.0, 0.0),
        (-0.0, -0.0),
        (-1.0, -inf),
        (inf, inf),
        (-inf, nan),
        (-1.5, nan),
        (1e-45, 1e-45),
    ],
    "sin": [(0.0, 0.0), (-0.0, -0.0), (inf, nan), (-inf, nan), (1e-45, 1e-45)],
    "cos": [(0.0, 1), (-0.0, 1), (inf, nan), (-inf, nan), (1e-45, 1)],
    "tan": [(0.0, 0.0), (-0.0, -0.0), (inf, nan), (-inf, nan), (1e-45, 1e-45)],
    "asin": [
        (0.0, 0.0),
        (-0.0, -0.0),
        (1.0, math.pi / 2),
        (-1.0, -math.pi / 2),
        (1.5, nan),
        (-inf, nan),
    ],
    "acos": [(1.0, 0.0), (-1.0, math.pi), (0.0, math.pi / 2), (1.5, nan), (inf, nan)],
    "atan": [(0.0, 0.0), (-0.0, -0.0), (inf, math.pi / 2), (-inf, -math.pi / 2), (1e-45, 1e-45)],
    "sinh": [(0.0, 0.0), (-0.0, -0.0), (inf, inf), (-inf, -inf), (1e4, inf), (1e-45, 1e-45)],
    "cosh": [(0.0, 1), (-0.0, 1), (inf, inf), (-inf, inf), (-1e4, inf)],
    "tanh": [(0.0, 0.0), (-0.0, -0.0), (inf, 1), (-inf, -1), (50.0, 1), (1e-45, 1e-45)],
    "sigmoid": [(0.0, 0.5), (-0.0, 0.5), (inf, 1), (-inf, 0.0), (50.0, 1), (-1e4, 0.0)],
    "softplus": [(inf, inf), (-inf, 0.0), (1000.0, 1000), (-1e4, 0.0)],
    "erf": [(0.0, 0.0), (-0.0, -0.0), (inf, 1), (-inf, -1), (7.0, 1)],
    "erfc": [(0.0, 1), (-0.0, 1), (inf, 0.0), (-inf, 2), (30.0, 0.0), (-7.0, 2)],
    "rsqrt": [(1.0, 1), (4.0, 0.5), (0.0, inf), (-0.0, -inf), (inf, 0.0), (-1.0, nan)],
}

PI = math.pi
SPECIAL_PAIRS: dict[str, list[tuple[float, float, float]]] = {
    "pow": [
        *((x, y, 1.0) for x in (nan, 0.0, -0.0, inf, -inf, -3.0) for y in (0.0, -0.0)),
        *((1.0, y, 1.0) for y in (nan, inf, -inf, 3.5, -1e30)),
        (-1.0, inf, 1.0), (-1.0, -inf, 1.0), (nan, 1.0, nan), (2.0, nan, nan),
        (0.0, 3.0, 0.0), (-0.0, 3.0, -0.0), (-0.0, 2.0, 0.0), (-0.0, 0.5, 0.0), (0.0, inf, 0.0),
        (0.0, -3.0, inf), (-0.0, -3.0, -inf), (-0.0, -2.0, inf), (-0.0, -0.5, inf),
        (-0.0, -inf, inf), (0.5, inf, 0.0), (0.5, -inf, inf), (-0.5, inf, 0.0), (2.0, inf, inf),
        (2.0, -inf, 0.0), (-2.0, inf, inf), (inf, 2.0, inf), (inf, -2.0, 0.0), (inf, 1e-30, inf),
        (-inf, 3.0, -inf), (-inf, 2.0, inf), (-inf, 0.5, inf), (-inf, -3.0, -0.0),
        (-inf, -2.0, 0.0), (-inf, -0.5, 0.0), (-2.0, 3.0, -8.0), (-2.0, 2.0, 4.0),
        (-2.0, -1.0, -0.5), (-2.0, 0.5, nan), (-1e-30, 1.5, nan), (2.0, 10.0, 1024.0),
        (2.0, 1e4, inf), (-2.0, 10001.0, -inf), (2.0, -1e4, 0.0), (-2.0, -10001.0, -0.0),
        (9.0, 0.5, 3.0), (2.0, -140.0, 2.0**-140), (1.0000001, 1e30, inf), (0.9999999, 1e30, 0.0),
    ],
    "atan2": [
        (0.0, 1.0, 0.0), (-0.0, 1.0, -0.0), (0.0, -1.0, PI), (-0.0, -1.0, -PI), (0.0, 0.0, 0.0),
        (-0.0, 0.0, -0.0), (0.0, -0.0, PI), (-0.0, -0.0, -PI), (1.0, 0.0, PI / 2),
        (-1.0, -0.0, -PI / 2), (inf, inf, PI / 4), (inf, -inf, 3 * PI / 4), (-inf, inf, -PI / 4),
        (-inf, -inf, -3 * PI / 4), (1.0, inf, 0.0), (-1.0, inf, -0.0), (1.0, -inf, PI),
        (inf, 1.0, PI / 2), (-inf, -1.0, -PI / 2), (nan, 1.0, nan), (1.0, nan, nan),
    ],
}  # fmt: skip


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_special_values(name: str, width: int) -> None:
    rows: list[tuple[float, ...]] = [
        *(SPECIAL_PAIRS[name] if name in TWO_ARGUMENTS else [*SPECIAL[name], (nan, nan)])
    ]
    *args, expected = (np.array(column, FLOAT[width]) for column in zip(*rows))
    for lanes in (1, 8):
        found = native(name, width, lanes)(*args)
        wrong = pattern(found) != pattern(expected)
        assert not wrong.any(), [
            (*(float(a[i]) for a in args), float(found[i]), float(expected[i]))
            for i in np.nonzero(wrong)[0]
        ]


# --- the same bits --------------------------------------------------------------------------


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_lane_counts_agree(name: str, width: int) -> None:
    args = arguments(name, width, 1 << 12)
    first, *others = (pattern(native(name, width, n)(*args)) for n in (1, 4, 8, 16))
    for other in others:
        np.testing.assert_array_equal(first, other)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_native_code_does_what_the_operations_say(name: str, width: int) -> None:
    args = arguments(name, width, 1 << 8)
    with np.errstate(all="ignore"):
        expected = FUNCTIONS[name](NumpyMath(width), *args)
    np.testing.assert_array_equal(
        pattern(native(name, width, 512 // width)(*args)), pattern(expected)
    )


@x86
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_avx2_agrees_with_this_machine(name: str, width: int) -> None:
    args = arguments(name, width, 1 << 12)
    np.testing.assert_array_equal(
        pattern(native(name, width, 256 // width, "haswell")(*args)),
        pattern(native(name, width, 512 // width)(*args)),
    )


# --- the code -------------------------------------------------------------------------------


@x86
@pytest.mark.parametrize(
    ("cpu", "bits", "register"), [("skylake-avx512", 512, "zmm"), ("haswell", 256, "ymm")]
)
@pytest.mark.parametrize(("name", "width"), list(itertools.product(FUNCTIONS, WIDTHS)))
def test_code_is_inline_vector_code(
    name: str, width: int, cpu: str, bits: int, register: str
) -> None:
    text = assembly(name, width, bits // width, cpu)
    assert not [line for line in text.splitlines() if line.split()[:1] in (["call"], ["callq"])]
    assert register in text
    for approximate in ("vrcp", "vrsqrt", "vscalef", "vexp2", "vgetexp", "vgetmant"):
        assert approximate not in text


def test_declarations_are_all_that_is_needed() -> None:
    for name, width in itertools.product(FUNCTIONS, WIDTHS):
        llvm.parse_assembly(module_text(name, width, 5)).verify()


# --- the oracle -----------------------------------------------------------------------------


@pytest.mark.parametrize("width", WIDTHS)
def test_numpy_fma_rounds_once(width: int) -> None:
    rng = np.random.default_rng(5)
    dtype, count = FLOAT[width], 2000
    span = {32: 60, 64: 500}[width]

    def draw() -> Array:
        return (rng.normal(size=count) * 2.0 ** rng.integers(-span, span, count)).astype(dtype)

    a, b, c = draw(), draw(), draw()
    with np.errstate(all="ignore"):
        near = rng.random(count) < 0.5  # half of them cancel
        c = np.where(near, -(a * b) * (1 + rng.integers(-2, 3, count) * np.finfo(dtype).eps), c)
        c = c.astype(dtype)
        found = fma(a, b, c)
    precision, least = {32: (24, -149), 64: (53, -1074)}[width]
    with mpmath.workprec(4000):
        for x, y, z, f in zip(a.tolist(), b.tolist(), c.tolist(), found.tolist()):
            if not all(map(math.isfinite, (x, y, z, f))):
                continue
            true = mpmath.mpf(x) * mpmath.mpf(y) + mpmath.mpf(z)
            if true == 0:
                assert f == 0
                continue
            unit = mpmath.mpf(2) ** max(mpmath.frexp(true)[1] - precision, least)
            assert mpmath.mpf(f) == mpmath.nint(true / unit) * unit
