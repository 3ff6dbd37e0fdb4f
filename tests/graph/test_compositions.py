"""Functions made of several ops, compared with NumPy on small operands."""

from __future__ import annotations

import flowmill as fm
import numpy as np
import pytest
from flowmill.graph.interpret import run

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 4, 5)).astype(np.float32)
IMAGE = RNG.standard_normal((2, 8, 4, 6)).astype(np.float32)
INTS = np.array([-9, -5, -1, 0, 1, 7, 9], np.int32)
INFINITE = np.array([1, np.inf, -np.inf, np.nan], np.float32)


def blocks(x, n, crd):
    """Pixel by pixel: what depth_to_space does."""
    b, c, h, w = x.shape
    out = np.empty((b, c // n**2, h * n, w * n), x.dtype)
    for i in range(h * n):
        for j in range(w * n):
            place = i % n * n + j % n
            channels = slice(place, None, n * n) if crd else slice(
                place * (c // n**2), (place + 1) * (c // n**2))  # fmt: skip
            out[:, :, i, j] = x[:, channels, i // n, j // n]
    return out


def shuffled(x, groups):
    deal = [g * (x.shape[1] // groups) + k for k in range(x.shape[1] // groups)
            for g in range(groups)]  # fmt: skip
    return x[:, deal]


def one_hot(indices, depth, axis, on, off):
    return np.moveaxis(np.where(np.eye(depth, dtype=bool)[indices], on, off), -1, axis)


CASES = {
    "clip": (lambda x: fm.clip(x, -0.5, 0.5), lambda x: np.clip(x, -0.5, 0.5), X),
    "clip-above": (lambda x: fm.clip(x, high=0.5), lambda x: np.clip(x, None, 0.5), X),
    "clip-crossed": (lambda x: fm.clip(x, 1, -1), lambda x: np.clip(x, 1, -1), INTS),
    "reciprocal": (fm.reciprocal, lambda x: 1 / x, X),
    "isinf-negative": (lambda x: fm.isinf(x, positive=False), np.isneginf, INFINITE),
    "isinf-positive": (lambda x: fm.isinf(x, negative=False), np.isposinf, INFINITE),
    "isinf-none": (lambda x: fm.isinf(x, False, False), lambda x: np.zeros(4, bool), INFINITE),
    "swish": (lambda x: fm.swish(x, 2.0), lambda x: x / (1 + np.exp(-2 * x)), X),
    "normalize": (lambda x: fm.normalize(x, 1, 1), lambda x: x / np.abs(x).sum(1, keepdims=True), X),
    "normalize-zero": (fm.normalize, lambda x: x, np.zeros((2, 3), np.float32)),
    "norm-scalar": (fm.norm, np.abs, np.float32(-3)),
    "logsumexp": (lambda x: fm.logsumexp(x, (0, 2)), lambda x: np.log(np.exp(x).sum((0, 2))), X),
    "logsumexp-all": (lambda x: fm.logsumexp(x, None, True),
                      lambda x: np.log(np.exp(x).sum(keepdims=True)), X),
    "argmax-last": (lambda x: fm.argmax(x, 1, last=True), lambda x: np.array([3, 2]),
                    np.array([[1, 5, 2, 5], [7, 7, 7, 3]], np.int32)),
    "argmin-last": (lambda x: fm.argmin(x, -1, True, last=True), lambda x: np.array([[2], [3]]),
                    np.array([[1, 5, 1, 5], [7, 7, 7, 3]], np.float32)),
    "depth-dcr": (lambda x: fm.depth_to_space(x, 2), lambda x: blocks(x, 2, False), IMAGE),
    "depth-crd": (lambda x: fm.depth_to_space(x, 2, "CRD"), lambda x: blocks(x, 2, True), IMAGE),
    "space": (lambda x: fm.depth_to_space(fm.space_to_depth(x, 2), 2), lambda x: x, IMAGE),
    "shuffle": (lambda x: fm.channel_shuffle(x, 4), lambda x: shuffled(x, 4), IMAGE),
    "tril": (lambda x: fm.tril(x, -1), lambda x: np.tril(x, -1), X),
    "triu": (lambda x: fm.triu(x, 2), lambda x: np.triu(x, 2), X),
    "triu-bool": (lambda x: fm.triu(x > 0), lambda x: np.triu(x > 0), X),
    "eye": (lambda x: x + fm.eye(4, 5, -1), lambda x: x + np.eye(4, 5, -1, np.float32), X),
    "compress": (lambda x: fm.compress(x, [True, False, True], 1),
                 lambda x: np.compress([True, False, True], x, 1), X),
    "compress-flat": (lambda x: fm.compress(x, [False, True]), lambda x: x.reshape(-1)[1:2], X),
    "crop-pad": (lambda x: fm.center_crop_pad(x, (4, 2), (0, -1)),
                 lambda x: np.pad(x[:, :, 1:3], ((0, 1), (0, 0), (0, 0))), X),
    "pad-crop": (lambda x: fm.pad(x, (-1, 0, 2), (0, -2, -1), mode="reflect"),
                 lambda x: np.pad(x[1:, :-2, :-1], ((0, 0), (0, 0), (2, 0)), "reflect"), X),
    "pad-value": (lambda x: fm.pad(x, (1,), (2,), fm.constant(7, "int32")),
                  lambda x: np.pad(x, (1, 2), constant_values=7), INTS),
    "one-hot": (lambda x: fm.one_hot(x, 5, "int32", 0, on=7, off=-1),
                lambda x: one_hot(x, 5, 0, 7, -1).astype(np.int32),
                np.array([[1, 4, 0], [2, 2, 3]])),
    "hann": (lambda x: x * fm.hann_window(5), lambda x: x * np.hanning(6)[:-1], X),
    "hamming": (lambda x: x * fm.hamming_window(5, False),
                lambda x: x * (25 / 46 - 21 / 46 * np.cos(np.arange(5) * np.pi / 2)), X),
    "blackman": (lambda x: x * fm.blackman_window(5, False), lambda x: x * np.blackman(5), X),
}  # fmt: skip


@pytest.mark.parametrize("name", list(CASES))
def test_composition(name):
    build, expected, at = CASES[name]
    with fm.Graph() as graph:
        y = build(fm.input("x", at.shape, at.dtype))
    found = run(graph.function("f", {"y": y}), {"x": np.asarray(at)})[0]["y"]
    wanted = np.asarray(expected(at))
    assert found.dtype.kind == wanted.dtype.kind
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=1e-6)


def test_symbolic_sizes():
    """What is made from sizes known at run time only."""
    with fm.Graph() as graph:
        x = fm.input("x", ("m", "n"))
        window = fm.hann_window(fm.dim("n"), False)
        y = fm.tril(x * window) + fm.eye("m", "n", 1)
        z = fm.argmax(x, 1, last=True)
    at = RNG.standard_normal((3, 5)).astype(np.float32)
    found = fm.Session(graph).run([y, z], {"x": at})
    np.testing.assert_allclose(
        found[0], np.tril(at * np.hanning(5)) + np.eye(3, 5, 1), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(found[1], 4 - np.argmax(at[:, ::-1], 1))


def test_mel_weight_matrix():
    """Triangles of height 1 that meet at their feet, as librosa and ONNX have them."""
    with fm.Graph():
        found = fm.mel_weight_matrix(8, 16, 8192, 0, 4096).eval()
    assert found.shape == (9, 8) and found.dtype == np.float32
    assert found.min() == 0 and found.max() == 1
    assert all(np.count_nonzero(found[:, k] == 1) == 1 for k in range(8))
    np.testing.assert_array_equal(np.argmax(found, 0), np.sort(np.argmax(found, 0)))


@pytest.mark.parametrize("build, complaint", [
    (lambda x: fm.depth_to_space(x, 3), "channels"),
    (lambda x: fm.depth_to_space(x, 2, "RCD"), "mode must be"),
    (lambda x: fm.space_to_depth(x, 4), "does not divide"),
    (lambda x: fm.channel_shuffle(x, 3), "groups"),
    (lambda x: fm.pad(x, (0, 0, 0, -7), (0,) * 4), "takes more away"),
    (lambda x: fm.pad(x, (1,), (0,) * 4), "padding for 1 and 4 axes"),
    (lambda x: fm.pad(x, (0,) * 4, (1,) * 4, mode="mirror"), "none of constant, edge"),
    (lambda x: fm.norm(x, -1), "must be positive"),
    (lambda x: fm.tril(x[0, 0, 0]), "two axes"),
    (lambda x: fm.celu(x, 0), "must not be 0"),
    (lambda x: fm.compress(x, [True] * 3, 0), "chooses place 2"),
    (lambda x: fm.center_crop_pad(x, (3,)), "1 sizes"),
    (lambda x: fm.bitcast(x, "float64"), "cannot be read as"),
])  # fmt: skip
def test_errors(build, complaint):
    with fm.Graph(), pytest.raises(fm.UserError, match=complaint):
        build(fm.input("x", (2, 8, 4, 6)))
