"""Resizing against its definition, element by element, for sizes known now and at run time."""

from __future__ import annotations

import math
import re

import flowmill as fm
import numpy as np
import pytest

RNG = np.random.default_rng(0)


def place(i, n, out, scale, coordinates, roi):
    """Where element i of the result lies, as the table in ONNX's documentation of Resize says."""
    wide = n * scale
    if coordinates == "half_pixel":
        return (i + 0.5) / scale - 0.5
    if coordinates == "half_pixel_symmetric":
        return n / 2 * (1 - out / wide) + (i + 0.5) / scale - 0.5
    if coordinates == "pytorch_half_pixel":
        return (i + 0.5) / scale - 0.5 if out > 1 else 0.0
    if coordinates == "align_corners":
        return i * (n - 1) / (wide - 1) if out > 1 else 0.0
    if coordinates == "asymmetric":
        return i / scale
    if coordinates == "tf_half_pixel_for_nn":
        return (i + 0.5) / scale
    start, end = roi
    if out == 1:
        return 0.5 * (start + end) * (n - 1)
    return start * (n - 1) + i * (end - start) * (n - 1) / (wide - 1)


def kernel(mode, x, a):
    x = abs(x)
    if mode == "linear":
        return max(1 - x, 0)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0


def line(x, out, scale, mode="nearest", coordinates="half_pixel", rounding="round_prefer_floor",
         antialias=False, cubic=-0.75, exclude_outside=False, roi=None):  # fmt: skip
    """One line resized."""
    n = len(x)
    made = []
    for i in range(out):
        at = place(i, n, out, scale, coordinates, roi)
        if mode == "nearest":
            k = {"round_prefer_floor": math.ceil(at - 0.5), "ceil": math.ceil(at),
                 "round_prefer_ceil": math.floor(at + 0.5), "floor": math.floor(at)}[rounding]  # fmt: skip
            made.append(x[min(max(k, 0), n - 1)])
            continue
        shrink = min(scale, 1) if antialias else 1
        taps = range(math.floor(at) - 30, math.floor(at) + 31)
        weights = {k: kernel(mode, (k - at) * shrink, cubic) for k in taps}
        if exclude_outside:
            weights = {k: w for k, w in weights.items() if 0 <= k < n}
        total = sum(weights.values())
        made.append(sum(w * x[min(max(k, 0), n - 1)] for k, w in weights.items()) / total)
    return np.array(made)


def defined(x, sizes, scales, roi=None, **options):
    for axis, (out, scale) in enumerate(zip(sizes, scales)):
        if out == x.shape[axis] and scale == 1 and roi is None:
            continue
        ends = None if roi is None else (roi[axis], roi[axis + x.ndim])
        x = np.apply_along_axis(line, axis, x, out, scale, roi=ends, **options)
    return x


CASES = [
    {"sizes": (2, 7, 9)}, {"sizes": (2, 3, 11), "rounding": "floor", "coordinates": "asymmetric"},
    {"sizes": (2, 8, 5), "rounding": "ceil", "coordinates": "align_corners"},
    {"sizes": (3, 5, 2), "rounding": "round_prefer_ceil", "coordinates": "tf_half_pixel_for_nn"},
    {"scales": (1, 2, 3)}, {"scales": (1, 2, 2), "coordinates": "asymmetric", "rounding": "ceil"},
    {"scales": (1, 3, 2), "coordinates": "asymmetric", "rounding": "floor"},
    {"scales": (1, 0.5, 0.5)}, {"scales": (1, 0.6, 1.5), "coordinates": "half_pixel_symmetric"},
    {"sizes": (2, 7, 9), "mode": "linear"}, {"scales": (1, 2, 0.5), "mode": "linear"},
    {"sizes": (2, 1, 4), "mode": "linear", "coordinates": "pytorch_half_pixel"},
    {"scales": (1, 0.6, 1.5), "mode": "linear", "coordinates": "align_corners"},
    {"scales": (1, 0.6, 2.5), "mode": "linear", "coordinates": "half_pixel_symmetric"},
    {"scales": (1, 0.6, 0.3), "mode": "linear", "antialias": True},
    {"sizes": (2, 7, 9), "mode": "cubic"}, {"scales": (1, 2, 0.5), "mode": "cubic", "cubic": -0.5},
    {"scales": (1, 0.6, 2), "mode": "cubic", "exclude_outside": True},
    {"scales": (1, 0.6, 0.3), "mode": "cubic", "antialias": True, "exclude_outside": True},
]  # fmt: skip


@pytest.mark.parametrize("options", CASES, ids=str)
def test_resize_is_its_definition(options):
    x = RNG.standard_normal((2, 4, 6))
    sizes, scales = options.get("sizes"), options.get("scales")
    wanted = sizes or tuple(math.floor(d * s + 1e-6) for d, s in zip(x.shape, scales))
    factors = scales or tuple(n / d for n, d in zip(sizes, x.shape))
    rest = {k: v for k, v in options.items() if k not in ("sizes", "scales")}
    expected = defined(x, wanted, factors, **rest)
    with fm.Graph() as graph:
        fixed = fm.input("fixed", x.shape, "float64")
        free = fm.input("free", ("n", "h", "w"), "float64")
        ys = [fm.resize(fixed, **options)]
        symbolic = not (options.get("antialias") and sizes)
        ys += [fm.resize(free, **options)] if symbolic else []
    for y in fm.Session(graph).run(ys, {fixed: x, free: x}):
        np.testing.assert_allclose(y, expected, atol=1e-9)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("ends", [(0.4, 0.6, 0.6, 0.8), (-0.3, 0.25, 1.2, 0.75)])
@pytest.mark.parametrize("out", [3, 1])
def test_crop_and_resize(mode, ends, out):
    """The roi may be numbers or a value; what lies outside is the given number."""
    x = RNG.standard_normal((5, 6))
    inside = np.ones((out, out), bool)
    for axis in (0, 1):
        at = np.array([place(i, x.shape[axis], out, out / x.shape[axis], "tf_crop_and_resize",
                             (ends[axis], ends[axis + 2])) for i in range(out)])  # fmt: skip
        within = (at >= 0) & (at <= x.shape[axis] - 1)
        inside &= within[:, None] if axis == 0 else within[None]
    made = defined(x, (out, out), (out / 5, out / 6), ends, mode=mode,
                   coordinates="tf_crop_and_resize")  # fmt: skip
    with fm.Graph() as graph:
        v, roi = fm.input("x", x.shape, "float64"), fm.input("roi", (4,), "float64")
        ys = [fm.resize(v, (out, out), mode=mode, roi=r, extrapolation=9.0,
                        coordinates="tf_crop_and_resize") for r in (ends, roi)]  # fmt: skip
    for y in fm.Session(graph).run(ys, {v: x, roi: np.array(ends)}):
        np.testing.assert_allclose(y, np.where(inside, made, 9.0), atol=1e-6)


def test_aspect_ratio():
    with fm.Graph():
        x = fm.input("x", (1, 1, 2, 4))
        assert fm.resize(x, (7, 8), axes=(2, 3), policy="not_larger").shape == (1, 1, 4, 8)
        assert fm.resize(x, (7, 8), axes=(2, 3), policy="not_smaller").shape == (1, 1, 7, 14)


def test_whole_scales_only_repeat():
    """Repeating is reading through, whatever the size; so is leaving elements out."""
    with fm.Graph() as graph:
        x = fm.input("x", (1, 3, "h", "w"))
        y = fm.resize(x, scales=(2, 3), axes=(2, 3))
        z = fm.resize(fm.input("z", (1, 8)), (4,), axes=(1,), coordinates="asymmetric")
    names = {n.op.name for n in graph.function("f", {"y": y, "z": z}).nodes()}
    assert names == {"input", "reshape", "broadcast_to", "slice"}


@pytest.mark.parametrize("options, text", [
    ({}, "give sizes or scales"), ({"sizes": (3, 3), "scales": (1, 1)}, "give sizes or scales"),
    ({"sizes": (3,)}, "1 sizes or scales for 2 axes"), ({"scales": (1, 0)}, "scale 0.0"),
    ({"sizes": (3, 3), "mode": "bilinear"}, "mode 'bilinear' is none of nearest"),
    ({"sizes": (3, 3), "coordinates": "tf_crop_and_resize"}, "need a roi"),
    ({"sizes": (3, 3), "antialias": True}, "antialiasing is for linear"),
    ({"sizes": (3, 3), "axes": (0, 0)}, "named once"),
    ({"scales": (1, math.pi)}, "no simple fraction"),
])  # fmt: skip
def test_errors(options, text):
    with fm.Graph(), pytest.raises(fm.UserError, match=re.escape(text)):
        fm.resize(fm.input("x", (4, "w")), **options)
