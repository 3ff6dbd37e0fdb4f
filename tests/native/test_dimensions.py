"""Sizes known only at run time: slices are clipped as NumPy clips them, and what a size makes
impossible is found out before anything runs, in sessions and in libraries."""

from __future__ import annotations

import ctypes

import flowmill as fm
import numpy as np
import pytest

SLICES = [
    np.s_[0:5], np.s_[5:], np.s_[:-2], np.s_[-2:], np.s_[2:4], np.s_[-3:-1], np.s_[1:-1], np.s_[::-1],
    np.s_[::2], np.s_[1::3], np.s_[-1:0:-2], np.s_[5:1:-1], np.s_[3:1],
]  # fmt: skip


@pytest.mark.parametrize("level", [0, 2])
def test_slices_are_clipped(level):
    with fm.Graph() as g:
        x = fm.input("x", ("n", 2))
        ys = [x[s] * 1 for s in SLICES]
    session = fm.Session(g, level=level)
    for n in (1, 2, 3, 4, 7):
        given = np.arange(2.0 * n, dtype="f").reshape(n, 2)
        for s, y in zip(SLICES, session.run(ys, {x: given}), strict=True):
            np.testing.assert_array_equal(y, given[s], str(s))


def test_what_is_certain_needs_no_check():
    """These run through the short way, which cannot explain failures."""
    with fm.Graph() as g:
        x = fm.input("x", ("n", 3, 9, 9))
        f = fm.conv(fm.pad(x, (0, 0, 1, 1), (0, 0, 1, 1)), np.ones((2, 3, 3, 3), "f"))
        y = fm.max_pool(f, 2)[1:] + fm.sum(x[:-1]) + x[0, 0, 0, 0]
    executable, _ = fm.Session(g).bound(y, {x: np.ones((2, 3, 9, 9), "f")})
    assert executable.manifest.requires == ()


@pytest.mark.parametrize("name", ["i", "j", "k", "t", "v", "once"])
def test_dimensions_may_be_called_as_loops_are(name):
    with fm.Graph() as g:
        n = g.dim(name, 0)
        x = fm.input("x", (n, 5, 3))
        ys = [fm.transpose(x, (1, 0, 2)) * 2, fm.sum(x, axis=(0, 2)), x * fm.size_of(n)]
    given = np.arange(105, dtype="f").reshape(7, 5, 3)
    wanted = [given.transpose(1, 0, 2) * 2, given.sum((0, 2)), given * 7]
    for y, want in zip(fm.Session(g).run(ys, {x: given}), wanted, strict=True):
        np.testing.assert_allclose(y, want)


IMPOSSIBLE = {
    "index": lambda x: x[:, 0, 3],
    "index from the end": lambda x: x[:, 0, -4],
    "convolution": lambda x: fm.conv(x, np.ones((1, 1, 4), "f")),
    "pooling": lambda x: fm.max_pool(x, 4, 1),
    "padding": lambda x: fm.pad(x, (0, 0, x.shape[2] - 4), (0, 0, 0)),
    "shape": lambda x: x[0, 0, 0] + fm.zeros(x.shape[2] - 4),
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_impossible_sizes(what, tmp_path):
    with fm.Graph() as g:
        x = fm.input("x", ("n", 1, "h"))
        y = fm.output("y", fm.sum(IMPOSSIBLE[what](x)))
    session = fm.Session(g)
    for _ in range(3):
        session.run(y, {x: np.ones((2, 1, 7), "f")})
        with pytest.raises(fm.FeedError, match=r"for h = 3: .*must not be negative.*\.py:\d+"):
            session.run(y, {x: np.ones((2, 1, 3), "f")})
    with pytest.raises(fm.FeedError, match="must not be negative"):
        fm.Session(g, level=0).run(y, {x: np.ones((2, 1, 3), "f")})
    fm.export(g, tmp_path / "libsizes.so")
    with fm.load(tmp_path / "libsizes.so") as library:
        with pytest.raises(fm.FeedError, match="must not be negative"):
            library.infer(x=np.ones((2, 1, 3), "f"))
        arena_bytes = library._library.sizes_infer_arena_bytes
        arena_bytes.restype = ctypes.c_uint64
        assert (
            arena_bytes((ctypes.c_int64 * 2)(3, 2)) == 0 < arena_bytes((ctypes.c_int64 * 2)(7, 2))
        )


def test_extremes_of_nothing():
    with fm.Graph() as g:
        x = fm.input("x", (fm.dim("n", min=0), 2))
        y = fm.max(x, axis=0)
    session = fm.Session(g)
    np.testing.assert_array_equal(session.run(y, {x: np.eye(2, dtype="f")}), [1, 1])
    with pytest.raises(fm.FeedError, match=r"reduce_max: axis 0 of f32\[n,2\] is empty for n = 0"):
        session.run(y, {x: np.zeros((0, 2), "f")})
