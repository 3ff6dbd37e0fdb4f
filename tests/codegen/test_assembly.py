"""What LLVM makes of the hot kernels: full-width multiply-adds, no spills, no calls."""

from __future__ import annotations

import re
from collections.abc import Iterator

import flowmill as fm
import pytest
from flowmill.codegen.objects import assembly
from flowmill.codegen.program import emit_module
from flowmill.compiler import compile_function
from flowmill.dims import evaluate
from flowmill.runtime.session import function_for
from flowmill.target import named

CALL = re.compile(r"\s+callq?\s+\*?%?([\w.@]+)")


def network() -> fm.Graph:
    """The MNIST network of examples/mnist.py, for inference."""
    with fm.Graph("cnn") as graph:
        x = fm.input("x", ("batch", 1, 28, 28))
        y = fm.Sequential([
            fm.layers.Conv2D(32, 5, activation="relu"), fm.layers.MaxPool2D(2),
            fm.layers.Conv2D(64, 5, activation="relu"), fm.layers.MaxPool2D(2),
            fm.layers.Flatten(), fm.layers.Dense(512, activation="relu"), fm.layers.Dense(10),
        ])(x)  # fmt: skip
        fm.output("y", y)
    return graph


def compiled(level: int = 2, name: str = "x86-64-v4"):
    graph = network()
    function = function_for(graph, [graph.outputs["y"]], [graph.inputs["x"]])
    return compile_function(function, named(name), level)


def loops(text: str) -> Iterator[list[str]]:
    """Innermost loops: from a label to the jump back to it, with no other label between."""
    lines = text.splitlines()
    starts = {m[1]: k for k, line in enumerate(lines) if (m := re.match(r"(\.\w+):", line))}
    for k, line in enumerate(lines):
        jump = re.match(r"\s+j\w+\s+(\.\w+)", line)
        if jump and starts.get(jump[1], k) < k:
            body = lines[starts[jump[1]] + 1 : k]
            if not any(re.match(r"\.\w+:", x) for x in body):
                yield body


def functions(text: str) -> dict[str, str]:
    """Function name -> its assembly."""
    parts = re.split(r"^(\w[\w.]*):\s*(?:#.*)?$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=False))


@pytest.mark.parametrize("name, register", [("x86-64-v4", "zmm"), ("x86-64-v3", "ymm")])
def test_hot_loops_are_full_width_and_do_not_spill(name: str, register: str) -> None:
    made = compiled(name=name)
    text = assembly(emit_module([made.program], named(name)), named(name))
    hot = 0
    for kernel in made.program.kernels:
        if not kernel.name.startswith(("conv_", "matmul_")):
            continue
        for body in loops(functions(text)[kernel.name]):
            products = [x for x in body if "vfmadd" in x]
            if not products:
                continue
            hot += 1
            assert all(register in x for x in products), kernel.name
            spills = [x for x in body if "rsp" in x and register in x]
            assert not spills, f"{kernel.name} spills: {spills[:2]}"
            assert not any(CALL.match(x) for x in body), kernel.name
    assert hot >= 4


def test_no_function_of_libm_is_called() -> None:
    with fm.Graph("elementary") as graph:
        x = fm.input("x", ("n",))
        y = sum(f(x) for f in (fm.exp, fm.log, fm.tanh, fm.erf, fm.sin, fm.sigmoid, fm.sqrt))
        fm.output("y", y + x**1.7)
    function = function_for(graph, [graph.outputs["y"]], [x])
    target = named("x86-64-v4")
    made = compile_function(function, target)
    text = assembly(emit_module([made.program], target), target)
    called = set(re.findall(r"\s+callq?\s+([\w.]+)", text))  # by name: others are pool and host
    assert called <= {k.name for k in made.program.kernels} | {"run.phase0"}


def test_fusion_and_planning_show_in_figures() -> None:
    optimised, plain = compiled(2).program, compiled(0).program
    launches = [x.label for x in optimised.launches]
    assert len(launches) <= 4  # one for each convolution or dense layer, pools and all else in them
    assert len(optimised.launches) < len(plain.launches)
    dims = {"batch": 128}
    assert evaluate(optimised.arena_bytes, dims) <= 1.05 * evaluate(optimised.peak_bytes, dims)
    moved = [sum(evaluate(x.bytes, dims) for x in p.launches) for p in (optimised, plain)]
    assert moved[0] < 0.7 * moved[1]
