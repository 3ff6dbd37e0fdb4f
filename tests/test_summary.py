"""The table of a network's layers."""

from __future__ import annotations

import flowmill as fm
import pytest


def network() -> fm.Graph:
    with fm.Graph() as g:
        x = fm.input("x", ("batch", 1, 8, 8))
        h = fm.layers.Conv2D(4, 3, activation="relu", name="conv")(x)
        h = fm.layers.BatchNorm(name="norm")(h)
        y = fm.layers.Dense(10, name="fc")(fm.layers.Flatten()(h))
        fm.output("probabilities", fm.softmax(y))
    return g


def test_rows_and_totals() -> None:
    s = fm.summary(network(), {"batch": 2})
    rows = {r.layer: r for r in s.rows}
    assert list(rows) == ["x", "conv", "norm", "flatten", "fc", ""]
    assert rows["conv"].parameters == 4 * 9 + 4 and rows["fc"].parameters == 144 * 10 + 10
    assert (rows["norm"].parameters, rows["norm"].trainable) == (16, 8)
    assert str(rows["conv"].output) == "f32[2,4,6,6]"
    assert rows["fc"].flops == 2 * (2 * 144 * 10 + 10)
    assert rows["fc"].bytes == 4 * (2 * 10 + 1450)
    assert s.parameters == 40 + 16 + 1450 and s.trainable == s.parameters - 8
    assert s.flops == sum(r.flops for r in s.rows)


def test_symbolic_sizes_and_text() -> None:
    g = network()
    text = str(fm.summary(g))
    lines = text.splitlines()
    assert lines[0].split() == ["Layer", "Ops", "Output", "Parameters", "FLOPs", "Bytes"]
    assert any("f32[batch,10]" in line and "1,450" in line and "2890*batch" in line
               for line in lines)  # fmt: skip
    assert lines[-1] == "1,498 parameters are trainable, 8 not"
    assert len(set(map(len, lines[2:-3]))) == 1


def test_of_values_counts_what_they_need() -> None:
    g = network()
    assert [r.layer for r in fm.summary(g.find("conv")).rows] == ["x", "conv"]
    assert [r.layer for r in fm.summary([g.find("norm"), g.find("x")]).rows] == [
        "x", "conv", "norm"
    ]  # fmt: skip


def test_without_outputs_all_ends_count_but_updates_do_not() -> None:
    with fm.Graph() as g:
        x = fm.input("x", ("batch", 3))
        y = fm.layers.Dense(2)(x)
        fm.optimizers.Adam().minimize(fm.mean(y))
        fm.exp(y)
    rows = {r.layer: r for r in fm.summary(g, {"batch": 1}).rows}
    assert list(rows) == ["x", "dense", ""]
    assert rows["dense"].flops == 14
    with fm.Graph() as empty, pytest.raises(fm.GraphError, match="computes nothing"):
        fm.summary(empty)


@pytest.mark.parametrize("arguments, text", [
    ((3,), "neither a graph nor values"), (([3],), "neither a graph nor values"),
    ((network(), {"bach": 1}), "no dimension 'bach'"), ((network(), [1]), "sizes by name"),
])  # fmt: skip
def test_what_cannot_be_summed_up(arguments, text) -> None:
    with pytest.raises(fm.UserError, match=text):
        fm.summary(*arguments)
