"""`fm.register_op`: ops defined outside the tree, examined as those inside are by the tests.

In: a class derived from `fm.Op`, `fm.Pointwise` or `fm.Reduction`. Out: the function that makes its
nodes. The class is complete, and what it says of itself in several ways agrees: native code with
the reference, the gradient with finite differences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from ..dtypes import Array, as_dtype
from ..errors import GraphError, InternalError, UserError
from ..graph.definition import Graph, input
from ..graph.gradients import gradients
from ..graph.interpret import run
from ..graph.ir import CALLS, Function, Value
from ..graph.ops.base import Op, Pointwise, Sample, operands, promoted
from ..graph.ops.reduce import Reduction
from ..passes.check import TOLERANCE
from ..runtime.session import Session

STEP, NEAR = 1e-5, 1e-5  # of finite differences in float64, and how well they agree with gradients


def register_op(op_class: type[Op], check: bool = True) -> Callable[..., Any]:
    """Makes an op defined by a class known to graphs, and returns the function that applies it.

    The class derives from `fm.Op`, `fm.Pointwise` or `fm.Reduction`, is a frozen dataclass whose
    fields are the op's attributes, and has a docstring, a type rule `infer` (`Pointwise` and
    `Reduction` bring one), a meaning (`compute`, `expand`, `scalar` or `combine`), a reference
    `ref` in NumPy, `samples`, and `grad` unless it has `expand` or says `differentiable = False`.

    With `check` the samples are run: by native code at level 0 and 2 against the reference, and in
    float64 the gradient against finite differences. The function takes the operands, then the
    attributes, positional or by name; it returns a value, or a tuple for several results. It can
    stand as a decorator over `@dataclass(frozen=True)`; `function.op` is then the class.

    GraphError, listing everything, for a class that lacks something or disagrees with itself.
    """
    if not (isinstance(op_class, type) and issubclass(op_class, Op)):
        raise GraphError(f"{op_class!r} is no op", "derive it from fm.Op, fm.Pointwise, ...")
    lacks = list(_lacks(op_class))
    if lacks:
        raise GraphError(f"op {op_class.__name__} lacks what an op must have", *lacks)
    if check:
        wrong = [f"sample {k}: {problem}" for k, s in enumerate(op_class.samples)
                 for problem in _disagreements(op_class, s)]  # fmt: skip
        if wrong:
            raise GraphError(f"op {op_class.__name__} does not agree with itself", *wrong)

    def apply(*args: Any, **attributes: Any) -> Any:
        count = len(args) if op_class.arity is None else op_class.arity
        if len(args) < max(count, 1):
            raise GraphError(f"{op_class.name} takes {count} operands, not {len(args)}")
        gather = promoted if issubclass(op_class, Pointwise) else operands
        xs = gather(*args[:count])
        try:
            op = op_class(*args[count:], **attributes)
        except TypeError:
            known = ", ".join(f.name for f in fields(op_class)) or "none"  # type: ignore[arg-type]
            raise GraphError(f"{op_class.name} takes {count} operands, then the attributes {known}",
                             f"given: {args[count:]} {attributes}") from None  # fmt: skip
        made = xs[0].node.owner.node(op, xs).outputs
        return made[0] if len(made) == 1 else made

    apply.__name__, apply.__doc__ = op_class.name, op_class.__doc__
    apply.op = op_class  # type: ignore[attr-defined]
    return apply


def _lacks(op: type[Op]) -> Iterator[str]:
    parameters = op.__dict__.get("__dataclass_params__")
    if not is_dataclass(op) or parameters is None or not parameters.frozen:
        yield "@dataclass(frozen=True): its fields are the attributes"
    doc = op.__dict__.get("__doc__")
    if not doc or doc.startswith(f"{op.__name__}("):
        yield "a docstring: one sentence on what it computes"
    if not op.has("infer"):
        yield "infer(self, *types): the type of the result"
    if issubclass(op, Pointwise):
        if op.scalar is Pointwise.scalar and not op.has("expand"):
            yield "scalar(self, *xs): one element from one element of each operand"
    elif issubclass(op, Reduction):
        if not hasattr(op, "combine"):
            yield 'combine: "add", "mul", "max" or "min"'
    elif op.has("compute") == op.has("expand"):
        yield "either compute(self, out, *xs), an algorithm, or expand(self, *xs), simpler ops"
    if not (op.has("ref") or op.has("interpret")):
        yield "ref(self, *xs): the same in NumPy, written independently"
    if not op.samples:
        yield "samples: (fm.sample((3, 4), attribute=...), ...), what it is tried on"
    if op.differentiable and not (op.has("grad") or op.has("expand")):
        yield "grad(self, g, y, *xs), or differentiable = False"


def _disagreements(op: type[Op], sample: Sample) -> Iterator[str]:
    """What is wrong with an op on one sample."""
    try:
        for dtypes in (sample.dtypes,) if sample.dtypes else (("float32",), ("float64",)):
            yield from _values(op, sample, dtypes * (1 if sample.dtypes else len(sample.shapes)))
        if op.differentiable and sample.gradient:
            yield from _slopes(op, sample)
    except InternalError as e:  # of code that the user wrote
        yield str(e).splitlines()[0]
    except UserError as e:
        yield f"{e}"
    except Exception as e:  # whatever the user's code raises belongs into the list
        yield f"{type(e).__name__}: {e}"


def _made(
    op: type[Op], sample: Sample, dtypes: tuple[str, ...]
) -> tuple[Graph, list[Value], tuple[Value, ...], dict[str, Array]]:
    """A graph with the op on inputs, the inputs, its results, and something to feed."""
    rng = np.random.default_rng(0)
    feeds: dict[str, Array] = {}
    with Graph("sample") as graph:
        xs = [input(f"x{k}", s, d) for k, (s, d) in enumerate(zip(sample.shapes, dtypes))]
        ys = graph.node(op(**sample.kwargs), tuple(xs)).outputs
    for k, x in enumerate(xs):
        shape = sample.shapes[k]
        drawn: Any = rng.uniform(sample.low, sample.high, shape)
        if not x.dtype.is_float:
            drawn = rng.integers(int(sample.low), max(int(sample.high), int(sample.low) + 1), shape)
        feeds[f"x{k}"] = np.asarray(drawn).astype(x.dtype.numpy)
    if sample.special:
        feeds["x0"].reshape(-1)[: len(sample.special)] = sample.special
    return graph, xs, ys, feeds


def _values(op: type[Op], sample: Sample, dtypes: tuple[str, ...]) -> Iterator[str]:
    graph, xs, ys, feeds = _made(op, sample, dtypes)
    function = Function("sample", tuple(xs), tuple((f"y{k}", y) for k, y in enumerate(ys)))
    expected = list(run(function, feeds)[0].values())
    for level in (0, 2):
        with Session(graph, level=level) as session:
            found = session.run(list(ys), feeds)
        for k, (a, b) in enumerate(zip(found, expected)):
            a, b = (np.asarray(v, np.float64) for v in (a, b))
            near = TOLERANCE[ys[k].dtype.bits] if ys[k].dtype.is_float else 0.0
            if not np.allclose(a, b, rtol=near, atol=near, equal_nan=True):
                worst = int(np.argmax(np.nan_to_num(np.abs(a - b), nan=np.inf)))
                yield (f"for {', '.join(dtypes)} native code at level {level} gives "
                       f"{a.flat[worst]}, ref says {b.flat[worst]}")  # fmt: skip


def _slopes(op: type[Op], sample: Sample) -> Iterator[str]:
    """The derivative along a random direction, of the results' sum with random weights."""
    given = sample.dtypes or ("float64",) * len(sample.shapes)
    wide = tuple("float64" if as_dtype(d).is_float else d for d in given)
    graph, xs, ys, feeds = _made(op, sample, wide)
    floats = [x for x in xs if x.dtype.is_float]
    results = [y for y in ys if y.dtype.is_float]
    if not floats or not results:
        return
    rng = np.random.default_rng(1)
    with graph:
        terms = [CALLS["sum"](y * rng.standard_normal(_shape(y))) for y in results]
        loss = terms[0]
        for term in terms[1:]:
            loss = loss + term
        slopes = gradients(loss, floats)
    named = {"loss": loss, **{f"d{k}": g for k, g in enumerate(slopes)}}
    function = Function("slopes", tuple(xs), tuple(named.items()))
    found, _ = run(function, feeds)
    for k, x in enumerate(floats):
        name = str(x.name)
        way = rng.choice([-1.0, 1.0], feeds[name].shape)
        up, down = (
            float(run(function, {**feeds, name: feeds[name] + sign * STEP * way})[0]["loss"])
            for sign in (1, -1)
        )
        made, expected = float(np.sum(found[f"d{k}"] * way)), (up - down) / (2 * STEP)
        if not abs(made - expected) <= NEAR * (1 + float(np.sum(np.abs(found[f"d{k}"])))):
            yield f"the gradient of {name} along a direction is {made}, differences say {expected}"


def _shape(v: Value) -> tuple[int, ...]:
    """The shape of a result of a sample, which consists of numbers."""
    return tuple(d for d in v.shape if isinstance(d, int))
