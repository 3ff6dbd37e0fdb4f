"""Kernels of their own in programs: operands that are views, results nobody needs, scratch memory,
sizes known at run time, and no access outside of a buffer."""

from __future__ import annotations

import flowmill as fm
import numpy as np
import pytest
from flowmill.passes.special import KERNELS

from ..graph.samples import cases
from .test_ops import check

RNG = np.random.default_rng(3)


def test_operands_are_views_and_single_numbers():
    with fm.Graph() as graph:
        x, i, u = (fm.input("x", (5, 4)), fm.input("i", (2, 2), "int64"), fm.input("u", (4, 4)))
        turned = fm.transpose(u)[::-1]
        y = fm.scatter(x, fm.reshape(i, (4,)), turned)
        z = fm.scatter_add(fm.zeros((5,)), np.array([3]), fm.ones((1,)))
    feeds = {"x": RNG.standard_normal((5, 4)), "i": [[4, 0], [-3, 1]],
             "u": RNG.standard_normal((4, 4))}  # fmt: skip
    feeds = {n: np.asarray(a, np.float32 if n != "i" else np.int64) for n, a in feeds.items()}
    expected = feeds["x"].copy()
    expected[[4, 0, -3, 1]] = feeds["u"].T[::-1]
    for level in (0, 2):
        made, ones = fm.Session(graph, level=level).run([y, z], feeds)
        np.testing.assert_array_equal(made, expected)
        np.testing.assert_array_equal(ones, [0, 0, 0, 1, 0])


def test_selections_of_sizes_known_at_run_time():
    with fm.Graph() as graph:
        x = fm.input("x", ("rows", "n"))
        k = fm.input("k", ("k",), "int32").shape[0]
        top, some = fm.top_k(x, 5, largest=False), fm.top_k(x, k, axis=0)
        order = fm.argsort(x)
    session = fm.Session(graph)
    for rows, n, few in ((3, 5, 1), (70, 333, 66), (1, 900, 1)):
        a = RNG.integers(-9, 9, (rows, n)).astype(np.float32)
        feeds = {"x": a, "k": np.zeros(few, np.int32)}
        values, places, more, which, all_ = session.run([*top, *some, order], feeds)
        np.testing.assert_array_equal(places, np.argsort(a, 1, kind="stable")[:, :5])
        np.testing.assert_array_equal(values, np.sort(a, 1)[:, :5])
        np.testing.assert_array_equal(which, np.argsort(-a, 0, kind="stable")[:few])
        np.testing.assert_array_equal(more, np.sort(a, 0)[::-1][:few])
        np.testing.assert_array_equal(all_, np.argsort(a, 1, kind="stable"))
    with pytest.raises(fm.RunError, match="top_k: k = 5, and axis 1 has only n elements"):
        session.run(top[0], {"x": np.zeros((2, 4), np.float32)})


def test_the_best_come_last():
    """Every key beats those before it: a selection is cut again and again."""
    a = np.arange(5000, dtype=np.float32)
    with fm.Graph() as graph:
        top = fm.top_k(fm.input("x", (5000,)), 37)
    values, places = fm.Session(graph).run(list(top), {"x": a})
    np.testing.assert_array_equal(values, a[::-1][:37])
    np.testing.assert_array_equal(places, np.arange(5000)[::-1][:37])


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_every_access_is_within_its_buffer(name, monkeypatch, tmp_path):
    monkeypatch.setenv("FLOWMILL_CHECK_BOUNDS", "1")
    monkeypatch.setenv("FLOWMILL_CACHE", str(tmp_path))
    check([(case, case.draw()) for case in cases() if case.op.name == name])
