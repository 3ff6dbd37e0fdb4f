"""Nothing is computed in NumPy or Python while a program runs: NumPy's functions are poisoned."""

from __future__ import annotations

import types

import flowmill as fm
import numpy as np
import pytest
from flowmill.graph.definition import Graph

ALLOWED = {  # makes, describes or checks memory; computes nothing
    "empty", "asarray", "ascontiguousarray", "require", "may_share_memory", "can_cast", "dtype",
    "ndarray", "array_equal", "shape", "result_type", "frombuffer", "zeros",
}  # fmt: skip


class PoisonError(Exception):
    pass


def poison(monkeypatch):
    """Every ufunc and function of NumPy raises, apart from `ALLOWED`."""
    count = 0
    for module in (np, np.linalg, np.fft):
        for name in list(vars(module)):
            found = vars(module)[name]
            callables = (np.ufunc, types.FunctionType, types.BuiltinFunctionType)
            dispatched = type(found).__name__ == "_ArrayFunctionDispatcher"
            if name.startswith("_") or name in ALLOWED or isinstance(found, type):
                continue
            if isinstance(found, callables) or dispatched:

                def raises(*_, name=name, **__):
                    raise PoisonError(name)

                monkeypatch.setattr(module, name, raises)
                count += 1
    return count


def test_runs_compute_nothing_in_numpy(monkeypatch):
    rng = np.random.default_rng(0)
    with Graph() as g:
        x = fm.input("x", ("batch", 1, 12, 12))
        labels = fm.input("labels", ("batch",), "int32")
        h = fm.relu(fm.layers.Conv2D(4, 3)(x))
        h = fm.max_pool(h, (2, 2))
        h = fm.layers.Dense(10)(fm.layers.Dropout(0.5)(fm.reshape(h, (h.shape[0], 100))))
        y = fm.named(fm.softmax(h, axis=1), "y")
        loss = fm.losses.sparse_softmax_cross_entropy(labels, h)
        train = fm.optimizers.Adam(0.01).minimize(loss)
    session = fm.Session(g, threads=2)
    data = rng.standard_normal((8, 1, 12, 12)).astype(np.float32)
    feeds = {x: data, labels: np.arange(8, dtype=np.int32)}
    call = session.make_callable([train, loss], [x, labels])
    session.run([train, loss], feeds)
    before = session.run(y, {x: data})
    session.run(y, {x: data.tolist()})
    assert poison(monkeypatch) > 400
    with pytest.raises(PoisonError):
        np.add(1, 2)
    losses = [session.run([train, loss], feeds)[1]]
    losses += [call(*feeds.values())[1] for _ in range(2)]
    other = session.run("y", {"x": data[:3, :, ::-1]})  # the slow path too
    session.run([y, y], {x: data.tolist()}, out=None)
    monkeypatch.undo()
    assert losses[2] < losses[0] and other.shape == (3, 10)
    assert (session.run(y, {x: data}) != before).any()
