"""The pipeline refuses wrong orders, watches what passes do, and passes leave the rest alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import flowmill.algorithm as alg
import numpy as np
import pytest
from flowmill.errors import ConfigError, InternalError, Loc
from flowmill.graph.definition import Graph, group, input, variable
from flowmill.graph.ir import CALLS, Function
from flowmill.graph.ops.fused import Fused
from flowmill.graph.ops.registry import load_all
from flowmill.graph.patterns import Rules
from flowmill.graph.rewrite import copied, rewritten
from flowmill.graph.text import parse, show
from flowmill.passes.base import Context, Pass, Pipeline
from flowmill.passes.expand import Expand, no_composites
from flowmill.passes.fold import Fold
from flowmill.passes.pipeline import Fuse, Select, pipeline
from flowmill.passes.simplify import Simplify, table
from flowmill.passes.stabilise import Stabilise
from flowmill.target import named

load_all()
TARGET = named("x86-64-v3")


def function(build, shape_=("n", 4)) -> Function:
    with Graph() as g:
        x = input("x", shape_)
        f = g.function("f", {"y": build(x)})
    return Function("f", (x,), f.outputs, f.updates)


def twice(x):
    """Negated twice."""
    return CALLS["neg"](-x)


def names(f: Function) -> list[str]:
    return [n.op.name for n in f.nodes()]


@dataclass(frozen=True)
class Composing(Pass):
    """Makes composites again."""

    name = "composing"
    breaks = (no_composites,)

    def run(self, function: Function, context: Context) -> Function:
        return function


@dataclass(frozen=True)
class Lying(Pass):
    """Says what is not so."""

    name = "lying"
    ensures = (no_composites,)

    def run(self, function: Function, context: Context) -> Function:
        return function


@dataclass(frozen=True)
class Breaking(Pass):
    """Leaves a function that no verifier accepts."""

    name = "breaking"

    def run(self, function: Function, context: Context) -> Function:
        return replace(function, outputs=(*function.outputs, *function.outputs))


def test_wrong_orders_are_refused():
    with pytest.raises(InternalError, match=r"select requires no_composites, .* after stabilise"):
        Pipeline(Stabilise(), Select(), Expand())
    with pytest.raises(InternalError, match="fuse requires no_composites"):
        Pipeline(Expand(), Composing(), Fuse())
    Pipeline(Expand(), Composing(), Expand(), Fuse())


def test_broken_promises_are_found(monkeypatch):
    monkeypatch.setenv("FLOWMILL_VERIFY", "1")
    f = function(lambda x: CALLS["softmax"](x))
    with pytest.raises(InternalError, match=r"after pass lying, no_composites fails:\n.*softmax"):
        Pipeline(Lying()).run(f, Context(TARGET))
    with pytest.raises(InternalError, match=r"after pass breaking, verify fails:\n.*used twice"):
        Pipeline(Breaking()).run(f, Context(TARGET))
    monkeypatch.setenv("FLOWMILL_VERIFY", "0")
    Pipeline(Lying(), Breaking()).run(f, Context(TARGET))


def test_what_is_watched(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("FLOWMILL_DEBUG", "3")
    monkeypatch.setenv("FLOWMILL_DUMP", str(tmp_path / "stages"))
    seen: list[tuple[str, Function]] = []
    f = function(lambda x: alg.exp(x) * 1)
    context = Context(TARGET, watch=lambda name, made: seen.append((name, made)))
    last = pipeline(2).run(f, context)
    assert [name for name, _ in seen] == ["simplify", "fuse"]  # those that changed something
    assert seen[-1][1] is last
    files = sorted(p.name for p in (tmp_path / "stages").iterdir())
    assert files == ["00-defined.fm", "05-simplify.fm", "12-fuse.fm"]
    for file, stage in zip(files, (f, seen[0][1], last), strict=True):
        text = (tmp_path / "stages" / file).read_text()
        assert text == show(stage) == show(parse(text))
    errors = capsys.readouterr().err
    assert "f: 02 expand" in errors and "unchanged" in errors and show(last) in errors
    monkeypatch.setenv("FLOWMILL_DUMP", f"{tmp_path / 'one'}:simplify,expand")
    pipeline(2).run(f, Context(TARGET))
    assert [p.name for p in (tmp_path / "one").iterdir()] == ["05-simplify.fm"]


def test_decisions_are_on_record():
    context = Context(TARGET)
    pipeline(2).run(function(lambda x: twice(x) + alg.exp(x * 0)), context)
    texts = [str(r) for r in context.records]
    assert any("simplify: neg#" in t and "double_negation" in t for t in texts)
    assert any("times_zero: declined: x may be NaN" in t for t in texts)
    assert any(r.step == "fuse" and r.node is not None for r in context.records)
    assert any("test_pipeline.py" in t for t in texts)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_levels(level):
    f = function(lambda x: alg.log(CALLS["softmax"](x * 1)))
    made = pipeline(level).run(f, Context(TARGET))
    groups = [n.op.function for n in made.nodes() if isinstance(n.op, Fused)]
    inside = [n.op.name for g in groups for n in g.nodes()]
    assert "reduce_max" in inside and "softmax" not in inside
    assert ("mul" in inside) == (level == 0)
    assert inside.count("exp") == 1


def test_every_pass_returns_what_it_does_not_change():
    f = function(lambda x: alg.exp(x))
    for step in (Stabilise(), Expand(), Fold(), Simplify(), Select()):
        assert step.run(f, Context(TARGET)) is f


def test_rules_can_be_left_out():
    f = function(lambda x: twice(x))
    assert Simplify(without=("double_negation",)).run(f, Context(TARGET)) is f
    with pytest.raises(ConfigError, match="no rules named double_negatoin"):
        Simplify(without=("double_negatoin",)).run(f, Context(TARGET))
    assert len({r.name for r in table().rules}) == len(table().rules)
    with pytest.raises(InternalError, match="two rules have one name"):
        Rules(table().rules, table().rules)


# --- what needs no pass ---------------------------------------------------------------------------


def test_equal_computations_become_one_as_rules_make_them_equal():
    f = function(lambda x: (x * 1 + 2) * (2 + x - 0.0))
    made = Simplify().run(f, Context(TARGET))
    assert names(made) == ["input", "constant", "add", "mul"]


def test_what_nothing_needs_is_gone():
    with Graph() as g:
        x = input("x", (3,))
        w = variable("w", np.zeros(3, "float32"))
        unused = alg.exp(x + w)
        y = CALLS["where"](CALLS["constant"](True), x, unused)
        f = g.function("f", {"y": y})
    made = Simplify().run(f, Context(TARGET))
    assert names(f).count("exp") == 1
    assert names(made) == ["input"]


def test_effects_and_updates_stay():
    with Graph() as g:
        x = input("x", (3,))
        w = variable("w", np.zeros(3, "float32"))
        y = CALLS["check"](x * 1, x < 5, "small")
        group(g, y, [(w, twice(w))])
        f = g.function("f", {"y": y})
    made = Simplify().run(f, Context(TARGET))
    assert len(made.effects) == 1 and made.effects[0].node.op.name == "check"
    assert [(a, b) for a, b in made.updates] == [(w, w)]


def test_places_of_merged_computations_are_kept():
    with Graph() as g:
        x = input("x", (3,))
        op = (-x).node.op
        inner = g.node(op, (x,), Loc("a.py", 1)).outputs[0]
        outer = g.node(op, (inner,), Loc("b.py", 2)).outputs[0]
        y = g.node(op, (outer,), Loc("c.py", 3)).outputs[0]
        f = g.function("f", {"y": y, "z": alg.exp(y), "w": alg.exp(-x)})
    made = Simplify().run(copied(f), Context(TARGET))
    negation, exp = (made.outputs[k][1].node for k in (0, 1))
    assert negation.op.name == "neg"
    assert {"a.py", "c.py"} <= {loc.file for loc in negation.locs}
    assert exp is made.outputs[2][1].node and len(exp.locs) == 1  # one line holds both


def test_names_move_to_what_takes_a_place():
    with Graph() as g:
        x = input("x", (3,))
        y = g.set_name(alg.exp(x) * 1, "scores")
        f = g.function("f", {"y": y})
    made = Simplify().run(copied(f), Context(TARGET))
    assert made.outputs[0][1].name == "scores"


def test_functions_that_ops_hold_are_rewritten():
    f = function(lambda x: twice(alg.exp(x)))
    body = Function("body", f.inputs, f.outputs)
    with Graph() as g:
        x = input("x", ("n", 4))
        made = g.node(Fused(body), (x,)).outputs[0]
        outer = Function("outer", (x,), (("y", made),))
    done = Simplify().run(outer, Context(TARGET))
    (held,) = [n.op.function for n in done.nodes() if isinstance(n.op, Fused)]
    assert names(held) == ["input", "exp"]
    assert Simplify().run(done, Context(TARGET)) is done


def test_endless_rewriting_is_an_error():
    f = function(lambda x: alg.exp(x))

    def grow(n):
        return -n.outputs[0] if n.op.name in ("exp", "neg") else None

    with pytest.raises(InternalError, match=r"rewriting exp#.*does not come to an end"):
        rewritten(f, grow)


def test_long_chains_are_no_problem():
    def chain(x):
        for _ in range(2000):
            x = -(x * 1) + 1
        return x

    f = function(chain, (3,))
    for step in (Stabilise(), Expand(), Fold(), Simplify()):
        f = step.run(f, Context(TARGET))
    assert names(f).count("sub") == 2000 and not {"mul", "neg", "add"} & set(names(f))


# --- folding --------------------------------------------------------------------------------------


def folded(build) -> Function:
    return Fold().run(function(build), Context(TARGET))


def test_constants_are_computed():
    f = folded(lambda x: x * alg.sqrt(CALLS["constant"]([16.0, 4.0]))[:1])
    assert names(f) == ["input", "constant", "mul"]
    assert f.nodes()[1].op.data.array.tolist() == [4.0]


def test_composites_fold_before_they_are_expanded():
    f = folded(lambda x: x * CALLS["softmax"](CALLS["constant"]([0.0, 0.0, 0.0, 0.0]), 0))
    assert names(f) == ["input", "constant", "mul"]


def test_sizes_fold_if_they_are_numbers():
    assert names(folded(lambda x: x * CALLS["cast"](CALLS["size_of"](12, x.node.owner),
                                                    "float32"))) == ["input", "constant", "mul"]  # fmt: skip
    f = function(lambda x: CALLS["mean"](x))
    assert Fold().run(f, Context(TARGET)) is f


def test_what_is_not_folded():
    def constant(*shape):
        return CALLS["constant"](np.ones(shape, "float32"))

    context = Context(TARGET)
    for build in (
        lambda x: alg.exp(constant(33, 32)),  # large: computed when a program is loaded
        lambda x: x + CALLS["sum"](constant(2000)),  # of something large
        lambda x: x * CALLS["broadcast_to"](CALLS["constant"](2.0), (3, 4)),  # costs nothing
        lambda x: x * CALLS["iota"]((4,), 0, "float32", x.node.owner),  # nor does counting
    ):
        f = function(build, (3, 4))
        assert Fold().run(f, context) is f, show(f)
    failing = function(lambda x: x * CALLS["cast"](CALLS["constant"](3) // CALLS["constant"](0),
                                                   "float32"), (3, 4))  # fmt: skip
    assert Fold().run(failing, context) is failing
    assert [r.text for r in context.records] == ["not folded: it can fail at run time"]


def test_properties_see_into_held_functions():
    f = function(lambda x: CALLS["softmax"](x))
    assert list(no_composites(f)) == ["softmax#2 is a composite"]
    with Graph() as g:
        x = input("x", ("n", 4))
        y = g.node(Fused(f), (x,)).outputs[0]
        outer = Function("outer", (x,), (("y", y),))
    assert list(no_composites(outer)) == ["softmax#2 is a composite"]
    assert list(no_composites(Expand().run(outer, Context(TARGET)))) == []
