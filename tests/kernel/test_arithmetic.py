"""Exact semantics of scalar functions, judged by Python's own integers and fractions."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from flowmill.algorithm import FUNCTIONS
from flowmill.codegen.kernel import arithmetic
from flowmill.dtypes import (
    ALL,
    DType,
    as_dtype,
    bool_,
    float16,
    float32,
    float64,
    int8,
    int32,
    int64,
    uint8,
    uint64,
)
from hypothesis import given, settings
from hypothesis import strategies as st

LAW = settings(max_examples=300, deadline=None, derandomize=True)


@pytest.fixture(autouse=True)
def silent() -> Any:
    with np.errstate(all="ignore"):
        yield


def apply(fn: str, dtype: DType, *args: Any) -> Any:
    return arithmetic.evaluate(fn, [np.array(a, dtype.numpy)[()] for a in args], dtype)


def to_float32(x: Fraction) -> float:
    """Nearest float32 by comparing exact neighbours."""
    near = np.float32(float(x))
    around = [near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, -np.float32(np.inf))]
    finite = [a for a in around if np.isfinite(a)]
    best = min(abs(Fraction(float(a)) - x) for a in finite)
    ties = [a for a in finite if abs(Fraction(float(a)) - x) == best]
    return float(min(ties, key=lambda a: int(a.view(np.uint32)) & 1))


moderate = st.floats(min_value=-(2.0**60), max_value=2.0**60, width=32)


@LAW
@given(moderate, moderate, moderate)
def test_fma_rounds_once_in_float32(a: float, b: float, c: float) -> None:
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    assert float(apply("fma", float32, a, b, c)) == to_float32(exact)


def test_fma_is_not_fooled_by_rounding_twice() -> None:
    """The exact sum lies 2**-64 below the middle of two float32; float64 rounds it onto it."""
    a, b, c = 2.0**-12 * (1 + 2.0**-20), 2.0**-12 * (1 - 2.0**-20), 1 + 2.0**-23
    assert float(np.float32(a * b + c)) == 1 + 2.0**-22
    assert float(apply("fma", float32, a, b, c)) == 1 + 2.0**-23


@LAW
@given(*([st.floats(allow_nan=False, allow_infinity=False)] * 3))
def test_fma_rounds_once_in_float64(a: float, b: float, c: float) -> None:
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    try:
        expected = float(exact)
    except OverflowError:
        expected = math.inf if exact > 0 else -math.inf
    assert float(apply("fma", float64, a, b, c)) == expected


@pytest.mark.parametrize("dtype", [int8, uint8, int32, int64, uint64], ids=repr)
@pytest.mark.parametrize("fn", ["add", "sub", "mul", "floordiv", "mod", "shl", "shr", "pow", "fma"])
def test_integers_wrap(dtype: DType, fn: str) -> None:
    info = np.iinfo(dtype.numpy)
    low, high = int(info.min), int(info.max)
    values = [v for v in (low, low + 1, -7, -1, 0, 1, 2, 7, high - 1, high) if low <= v <= high]
    python: dict[str, Any] = {
        "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b,
        "floordiv": lambda a, b: a // b, "mod": lambda a, b: a % b, "shl": lambda a, b: a << b,
        "shr": lambda a, b: a >> b, "pow": lambda a, b: pow(a, b, 1 << dtype.bits),
        "fma": lambda a, b: a * b + 3,
    }  # fmt: skip
    for a in values:
        for b in values:
            if fn in ("floordiv", "mod"):
                fits = b != 0
            elif fn in ("shl", "shr"):
                fits = 0 <= b < dtype.bits
            else:
                fits = fn != "pow" or b >= 0
            args = (a, b, 3) if fn == "fma" else (a, b)
            if not fits:
                with pytest.raises(ArithmeticError):
                    apply(fn, dtype, *args)
                continue
            found = apply(fn, dtype, *args)
            assert found.dtype == dtype.numpy
            assert (int(found) - python[fn](a, b)) % (1 << dtype.bits) == 0, (a, b, found)


@pytest.mark.parametrize(
    "fn, args, expected",
    [
        ("min", (math.nan, 1.0), math.nan), ("max", (1.0, math.nan), math.nan),
        ("round", (2.5,), 2.0), ("round", (-3.5,), -4.0), ("trunc", (-1.7,), -1.0),
        ("floordiv", (-7.0, 2.0), -4.0), ("mod", (-7.0, 2.0), 1.0), ("mod", (7.0, -2.0), -1.0),
        ("sign", (-0.5,), -1.0), ("sign", (math.nan,), math.nan), ("abs", (-0.0,), 0.0),
        ("sigmoid", (-1000.0,), 0.0), ("sigmoid", (1000.0,), 1.0), ("softplus", (1000.0,), 1000.0),
        ("softplus", (-1000.0,), 0.0), ("exp", (1000.0,), math.inf), ("log", (0.0,), -math.inf),
        ("rsqrt", (4.0,), 0.5), ("erf", (math.inf,), 1.0), ("pow", (2.0, -1.0), 0.5),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [float32, float64], ids=repr)
def test_floats_at_their_edges(
    fn: str, args: tuple[float, ...], expected: float, dtype: DType
) -> None:
    found = apply(fn, dtype, *args)
    assert found.dtype == dtype.numpy
    np.testing.assert_equal(float(found), expected)


@pytest.mark.parametrize("fn", FUNCTIONS)
def test_every_function_keeps_shape_and_dtype(fn: str) -> None:
    count, result = FUNCTIONS[fn]
    integer = fn in ("and", "or", "xor", "not", "shl", "shr")
    dtype = int32 if integer else float32
    lanes = [np.array([1, 2, 3], dtype.numpy)] * count
    found = arithmetic.evaluate(fn, lanes, dtype)
    assert found.shape == (3,)
    assert found.dtype == (bool_ if result == "bool" else dtype).numpy
    one = arithmetic.evaluate(fn, [a[1] for a in lanes], dtype)
    np.testing.assert_array_equal(found[1], one)


@pytest.mark.parametrize("to", [d for d in ALL if d.is_integer], ids=repr)
@pytest.mark.parametrize("source", [float32, float64, float16], ids=repr)
def test_floats_saturate_to_integers(source: DType, to: DType) -> None:
    info = np.iinfo(to.numpy)
    edges = [0.0, -0.9, 0.9, -1.0, 1.5, -1.5, math.inf, -math.inf, math.nan, 127.0, 127.5, 128.0,
             -128.9, -129.0, 255.9, 256.0, 2.0**31, -(2.0**31), 2.0**53, 2.0**63, -(2.0**63),
             2.0**64, 1e30, -1e30]  # fmt: skip
    x = np.array(edges).astype(source.numpy)
    for value, found in zip(x, arithmetic.convert(x, source, to)):
        v = float(value)
        if math.isnan(v):
            expected = 0
        elif math.isinf(v):
            expected = int(info.max) if v > 0 else int(info.min)
        else:
            expected = min(max(math.trunc(v), int(info.min)), int(info.max))
        assert int(found) == expected, v


def test_other_conversions() -> None:
    convert = arithmetic.convert
    assert int(convert(np.int64(300), int64, uint8)) == 44
    assert int(convert(np.int32(-1), int32, uint64)) == 2**64 - 1
    assert bool(convert(np.float32(math.nan), float32, bool_)) is True
    assert bool(convert(np.float32(-0.0), float32, bool_)) is False
    assert float(convert(np.bool_(True), bool_, float32)) == 1.0
    assert float(convert(np.int64(2**24 + 1), int64, float32)) == 2.0**24
    above = np.float64(1 + 2.0**-11 + 2.0**-40)  # float32 rounds it to the middle of two float16
    assert float(convert(above, float64, float16)) == 1 + 2.0**-10
    assert float(convert(np.int64(3 * 2**40 + 1), int64, as_dtype("bf16"))) == 3 * 2**40
    assert float(convert(np.bool_(True), bool_, float16)) == 1.0
    assert convert(np.float32(1.5), float32, as_dtype("bf16")).dtype == as_dtype("bf16").numpy


def test_lanes_are_joined_by_halves() -> None:
    row = np.array([1e8, 1.0, -1e8, 1.0], np.float32)
    assert float(arithmetic.lanes("add", row)) == 2.0
    assert float(arithmetic.lanes("max", row)) == np.float32(1e8)
