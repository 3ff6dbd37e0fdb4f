"""What follows a convolution is part of its kernel: pools fold what it computes, padding is written
around it; a dense layer takes its results as they lie."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flowmill as fm
import numpy as np
import pytest
from flowmill.codegen.kernel.interpret import run as interpret
from flowmill.codegen.kernel.verify import unproven_accesses, verify
from flowmill.compiler import Compiled, compile_function
from flowmill.dims import evaluate
from flowmill.graph.ops.fused import Fused
from flowmill.passes.lower import lower
from flowmill.passes.schedule import naive
from flowmill.runtime.session import function_for
from flowmill.target import named

from .agreement import agree

Make = Callable[[fm.Value], fm.Value | list[fm.Value]]


def weights(*shape: int) -> fm.Value:
    rng = np.random.default_rng(sum(shape))
    name = f"w{len(fm.current_graph().variables)}"
    return fm.variable(name, rng.standard_normal(shape).astype(np.float32))


def conv(x: fm.Value, channels: int, padding: Any = "valid", groups: int = 1) -> fm.Value:
    size = (3,) * (x.ndim - 2)
    inside = int(x.shape[1]) // groups
    return fm.conv(x, weights(channels, inside, *size), padding=padding, groups=groups)


def biased(x: fm.Value) -> fm.Value:
    return fm.relu(x + weights(int(x.shape[1]), *(1,) * (x.ndim - 2)))


def two_readers(x: fm.Value) -> fm.Value:
    y = biased(conv(x, 8))
    return y + conv(y, 8, "same")


# input, graph, how many kernels run (those that change layouts of inputs and weights not counted)
CASES: dict[str, tuple[tuple[Any, ...], Make, int]] = {
    "max": (("n", 3, 6, 8), lambda x: fm.max_pool(biased(conv(x, 20)), 2), 1),
    "mean": (("n", 3, 6, 8), lambda x: fm.average_pool(biased(conv(x, 20)), 2), 1),
    "rest left out": ((2, 3, 7, 9), lambda x: fm.max_pool(conv(x, 20), (2, 3)), 1),
    "relu last": (("n", 3, 6, 8), lambda x: fm.relu(fm.max_pool(conv(x, 20), 2)), 1),
    "gaps": (("n", 3, 6, 8), lambda x: fm.max_pool(conv(x, 20), 2, 3), 1),
    "line": (("n", 4, 18), lambda x: fm.max_pool(biased(conv(x, 33)), 4), 1),
    "depthwise": (("n", 20, 6, 8), lambda x: fm.max_pool(conv(x, 20, groups=20), 2), 1),
    "any size": (("n", 3, "h", "w"), lambda x: fm.max_pool(biased(conv(x, 20)), 2), 1),
    "same twice": (("n", 8, 5, 7), lambda x: conv(biased(conv(x, 20)), 8, "same"), 2),
    "same, any size": (("n", 8, "h", "w"), lambda x: conv(biased(conv(x, 20)), 8, "same"), 2),
    "pool, then same": (
        ("n", 3, 6, 8), lambda x: conv(fm.max_pool(biased(conv(x, 20)), 2), 8, "same"), 2),
    "pad read twice": (("n", 8, 5, 7), two_readers, 2),
    "product, then pad": (
        ("n", 24), lambda x: fm.pad(fm.relu(x @ weights(24, 40)), ((0, 0), (3, 5)), value=2.5), 1),
    "overlapping": (("n", 3, 6, 8), lambda x: fm.max_pool(conv(x, 20), 3, 2), 2),
    "read elsewhere": (
        ("n", 3, 6, 8), lambda x: [y := conv(x, 20), fm.max_pool(y, 2)], 2),
    "flattened": (
        ("n", 3, 6, 8), lambda x: fm.reshape(conv(x, 20), (x.shape[0], -1)) @ weights(480, 9), 2),
}  # fmt: skip
CASES |= {  # inputs that are read as they are given, with padding in a box
    "image": (("n", 3, 6, 8), lambda x: biased(conv(x, 20, "same")), 1),
    "large steps": (("n", 1, 13, 40), lambda x: fm.conv(x, weights(20, 1, 5, 5), 2, "same"), 1),
    "any size, padded": (
        ("n", 3, "h", "w"), lambda x: fm.max_pool(biased(conv(x, 20, "same")), 2), 1),
    "line, padded": (("n", 2, 37), lambda x: conv(x, 20, "same"), 1),
    "dilated": (
        ("n", 3, 9, 14), lambda x: fm.conv(x, weights(20, 3, 3, 3), padding=2, dilations=2), 1),
    "only below": (
        ("n", 3, 9, 14), lambda x: fm.conv(x, weights(20, 3, 3, 3), padding=((0, 2), (0, 1))), 1),
}  # fmt: skip
CASES |= {  # padding around what other reductions make
    "sum of columns, then pad": (
        (300, 40), lambda x: fm.pad(fm.sum(x * x, 0), ((2, 3),), value=1.5), 1),
    "sum of rows, then pad": (("n", 300), lambda x: fm.pad(fm.sum(x, 1), ((1, 2),)), 1),
    "long sum, then pad": ((5000, 33), lambda x: fm.pad(fm.sum(x, 0), ((4, 0),)), 2),
    "place, then pad": (("n", 9), lambda x: fm.pad(fm.argmax(x, 1), ((1, 1),), value=7), 1),
    "pool, then pad": (
        ("n", 4, 6, 8), lambda x: fm.pad(fm.max_pool(x, 2), ((0, 0), (0, 0), (1, 2), (2, 1))), 1),
}  # fmt: skip
SIZES = {"n": 2, "h": 11, "w": 15}


def compiled(name: str, target: str = "x86-64-v4") -> Compiled:
    shape, make, _ = CASES[name]
    with fm.Graph("g") as g:
        made = make(fm.input("x", shape))
    results = made if isinstance(made, list) else [made]
    return compile_function(function_for(g, results, list(g.inputs.values())), named(target), 2)


@pytest.mark.parametrize("name", CASES)
def test_kernels(name: str) -> None:
    for target in ("x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64"):
        made = compiled(name, target)
        labels = [w.label for w in made.program.launches if w.label not in ("pad", "relayout")]
        first = made.program.launches[0].label  # images of few channels are read as they are
        assert (first in ("pad", "relayout")) == (name == "depthwise")
        assert len(labels) == CASES[name][2], labels
        for w in made.works:  # the rest of a length known only at run time is more than it proves
            assert w.kernel.dims or not (list(verify(w.kernel)) + list(unproven_accesses(w.kernel)))


@pytest.mark.parametrize("name", ["mean", "gaps", "line", "product, then pad", "large steps"])
def test_scheduled_as_written(name: str) -> None:
    """The scheduled kernels in the kernel language's interpreter, beside plain loops."""
    rng = np.random.default_rng(1)
    for made in compiled(name, "x86-64-v3").works:
        assert isinstance(made.node.op, Fused)
        lowered = lower(made.node.op.function)
        arrays = {
            b.name: rng.standard_normal([evaluate(d, SIZES) for d in b.type.physical_shape])
            .astype(b.type.dtype.numpy) for b in lowered.buffers
        }  # fmt: skip
        found = []
        for kernel in (made.kernel, naive(lowered, "plain")[0]):
            copy = {k: a.copy() for k, a in arrays.items()}
            assert interpret(kernel, copy, SIZES) == []
            found.append(copy)
        for b in lowered.buffers:
            scale = np.abs(found[1][b.name]).max()
            np.testing.assert_allclose(
                found[0][b.name], found[1][b.name], atol=4e-6 * scale, rtol=0
            )


@pytest.mark.parametrize("name", CASES)
def test_results(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Native code at any number of threads, beside every op by itself; accesses checked."""
    monkeypatch.setenv("FLOWMILL_CHECK_BOUNDS", "1")
    shape, make, _ = CASES[name]
    with fm.Graph("g") as g:
        made = make(fm.input("x", shape))
    results = made if isinstance(made, list) else [made]
    sizes = [SIZES.get(d, d) for d in shape]
    data = {"x": np.random.default_rng(0).standard_normal(sizes).astype(np.float32)}
    agree(g, results, data)


def test_a_network_has_a_launch_for_each_layer_with_weights() -> None:
    layers = fm.layers
    with fm.Graph("net") as g:
        x = fm.input("x", ("batch", 1, 28, 28))
        y = fm.Sequential([
            layers.Conv2D(8, 5, activation="relu"), layers.MaxPool2D(2),
            layers.Conv2D(16, 3, padding="same", activation="relu"), layers.MaxPool2D(2),
            layers.Flatten(), layers.Dense(32, activation="relu"), layers.Dense(10),
        ])(x)  # fmt: skip
    made = compile_function(function_for(g, [y], [x]), named("x86-64-v4"), 2)
    assert [w.label for w in made.program.launches] == [
        "conv+reshape+add+relu+max_pool+pad", "conv+reshape+add+relu+max_pool",
        "transpose+reshape+reshape+matmul+add+relu", "matmul+add"]  # fmt: skip
