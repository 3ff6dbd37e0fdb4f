"""The mode that checks every native access: sound programs run as ever, a bad kernel is caught."""

from __future__ import annotations

import ctypes

import flowmill as fm
import numpy as np
import pytest
from flowmill.algorithm import Load
from flowmill.codegen.bounds import SITE
from flowmill.codegen.elf import link_shared
from flowmill.codegen.emit import emit_kernel
from flowmill.codegen.expressions import ZERO_BYTES, ZEROS
from flowmill.codegen.kernel.frame import INDEX_BITS, NO_ERROR
from flowmill.codegen.kernel.ir import Buffer, For, Kernel, Store
from flowmill.codegen.objects import object_code
from flowmill.dims import sym
from flowmill.dtypes import float32
from flowmill.runtime import cache, native
from flowmill.target import host


def shifted(offset: int) -> Kernel:
    """y[i] = x[i + offset] for 32 elements, in vectors."""
    j, v = sym("j", 0, 16), sym("v", 0, 15)
    x, y = (Buffer(n, float32, (32,), "arg", n == "y") for n in "xy")
    store = Store("y", (j + v,), Load("x", (j + v + offset,), float32))
    body = (For(j, 0, 32, 16, "parallel", (For(v, 0, 16, 1, "vector", (store,)),)),)
    return Kernel("shifted", (), (x, y), body)


def run(kernel: Kernel) -> tuple[np.ndarray, int]:
    made = emit_kernel(kernel, host().attributes, linkage="", check_bounds=True)
    zeros = f"{ZEROS} = internal constant [{ZERO_BYTES} x i8] zeroinitializer, align 64"
    head = f'target triple = "{host().triple}"'
    code = object_code("\n".join([head, zeros, *made.declarations, made.text]), host())
    library = link_shared(code, soname="libshifted.so", exports=["shifted"])
    loaded = native.load(cache.Entry(None, library, ""))
    word = ctypes.c_uint64(NO_ERROR)
    x, y = np.arange(32, dtype=np.float32), np.full(32, -1, np.float32)
    p = ctypes.c_void_p
    loaded.shifted(ctypes.byref(word), ctypes.c_int64(0), ctypes.c_int64(0), ctypes.c_int64(1),
                   p(x.ctypes.data), p(y.ctypes.data))  # fmt: skip
    return y, word.value


def test_a_sound_kernel_runs() -> None:
    y, word = run(shifted(0))
    assert word == NO_ERROR
    assert np.array_equal(y, np.arange(32))


@pytest.mark.parametrize("offset", [1, -1, 1000, -(1 << 40)])
def test_an_access_outside_is_recorded_and_not_made(offset: int) -> None:
    y, word = run(shifted(offset))
    assert word >> INDEX_BITS == SITE
    at = np.arange(32) + offset
    assert np.array_equal(y, np.where((at >= 0) & (at < 32), at, 0))


def test_networks_run_checked(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("FLOWMILL_CHECK_BOUNDS", "1")
    monkeypatch.setenv("FLOWMILL_CACHE", str(tmp_path))
    with fm.Graph() as graph:
        x = fm.input("x", ("batch", 3, 11, 9))
        label = fm.input("label", ("batch",), "int32")
        y = fm.Sequential([
            fm.layers.Conv2D(20, 3, padding="same", activation="relu"), fm.layers.MaxPool2D(2),
            fm.layers.Conv2D(7, 3, activation="gelu"), fm.layers.Flatten(), fm.layers.Dense(5),
        ])(x)  # fmt: skip
        loss = fm.losses.sparse_softmax_cross_entropy(label, y)
        step = fm.optimizers.Adam(0.01).minimize(loss)
    generator = np.random.default_rng(0)
    feeds = {"x": generator.standard_normal((5, 3, 11, 9)).astype(np.float32),
             "label": np.arange(5, dtype=np.int32)}  # fmt: skip
    checked = fm.Session(graph, threads=2)
    losses = [checked.run(step, feeds) for _ in range(2)]
    monkeypatch.setenv("FLOWMILL_CHECK_BOUNDS", "0")
    plain = fm.Session(graph, threads=2)
    assert [plain.run(step, feeds) for _ in range(2)] == losses
