"""Evaluates a `Compute` element by element in NumPy, graphs by references, and gradients by
finite differences: what the tests of the ops compare with."""

from __future__ import annotations

import math
from typing import Any

import flowmill.graph.ops.elementary
import flowmill.graph.ops.linalg
import flowmill.graph.ops.pointwise
import flowmill.graph.ops.reduce
import flowmill.graph.ops.shape  # noqa: F401 - registers what gradients use
import numpy as np
from flowmill import algorithm as alg
from flowmill import dims
from flowmill.dims import DimExpr
from flowmill.dtypes import Array, as_dtype
from flowmill.graph.ir import TensorType, Value, topological
from flowmill.graph.ops.base import OPS, Op, Operand, Sample

_NUMPY: dict[str, Any] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide,
    "floordiv": np.floor_divide, "mod": np.mod, "pow": np.power,
    "min": np.minimum, "max": np.maximum, "neg": np.negative, "abs": np.abs, "sign": np.sign,
    "floor": np.floor, "ceil": np.ceil, "round": np.round, "trunc": np.trunc, "sqrt": np.sqrt,
    "exp": np.exp, "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "tanh": np.tanh,
    "cos": np.cos, "sin": np.sin, "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.logaddexp(x, 0), "erf": np.vectorize(math.erf, otypes=[float]),
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "not": np.invert,
    "shl": np.left_shift, "shr": np.right_shift, "eq": np.equal, "ne": np.not_equal,
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "isnan": np.isnan, "isinf": np.isinf, "isfinite": np.isfinite,
}  # fmt: skip
_REDUCE: dict[str, Any] = {"add": np.sum, "mul": np.prod, "max": np.max, "min": np.min}


class FailedError(Exception):
    """A check of a Compute failed; the argument is its code."""


def evaluate(c: alg.Compute, xs: list[Array], sizes: dict[str, int] | None = None) -> Array:
    """What `c` computes. Loads out of bounds are errors; failing checks raise `FailedError`."""
    env: dict[str, Any] = dict(sizes or {})
    loops = (*c.axes, *c.reduce_axes)
    shape = tuple(int(_dim(a.extent, env)) for a in loops)
    for k, a in enumerate(loops):
        grid = np.arange(shape[k]).reshape([-1 if j == k else 1 for j in range(len(loops))])
        env[a.sym.name] = grid
    with np.errstate(all="ignore"):
        for check in c.checks:
            if np.any(_expr(check.cond, xs, env)):
                raise FailedError(check.code)
        value = np.broadcast_to(_expr(c.value, xs, env), shape)
        inside = tuple(range(len(c.axes), len(loops)))
        if c.combine in ("argmax", "argmin"):
            find = np.argmax if c.combine == "argmax" else np.argmin
            return np.asarray(find(value, axis=inside[0]))
        if c.combine is None:
            assert not inside
            return np.asarray(value)
        return np.asarray(_REDUCE[c.combine](value, axis=inside)).astype(value.dtype)


def _dim(d: dims.Dim, env: dict[str, Any]) -> Any:
    if not isinstance(d, DimExpr):
        return np.int64(d)
    out: Any = 0
    for atoms, k in d.terms:
        term: Any = k
        for a in atoms:
            term = term * (env[a.name] if isinstance(a, dims.Sym) else _atom(a, env))
        out = out + term
    return np.asarray(out, np.int64)


def _atom(a: Any, env: dict[str, Any]) -> Any:
    x, y = _dim(a.a, env), _dim(a.b, env)
    return {"floordiv": np.floor_divide, "mod": np.mod, "min": np.minimum,
            "max": np.maximum}[a.kind](x, y)  # fmt: skip


def _expr(e: alg.Expr, xs: list[Array], env: dict[str, Any]) -> Any:
    memo: dict[alg.Expr, Any] = {}

    def go(x: alg.Expr) -> Any:
        if x not in memo:
            memo[x] = one(x)
        return memo[x]

    def one(x: alg.Expr) -> Any:
        if isinstance(x, alg.Const):
            return np.asarray(x.value, x.dtype.numpy)
        if isinstance(x, alg.Index):
            return _dim(x.dim, env)
        if isinstance(x, alg.Apply):
            out = _NUMPY[x.fn](*(go(a) for a in x.args))
            return out.astype(x.dtype.numpy)
        if isinstance(x, alg.Select):
            return np.where(go(x.cond), go(x.yes), go(x.no))
        if isinstance(x, alg.Cast):
            return go(x.x).astype(x.dtype.numpy)
        assert isinstance(x, alg.Load), x
        array = xs[int(x.buffer)]
        at = [go(i) if isinstance(i, alg.Expr) else _dim(i, env) for i in x.indices]
        mask = None if x.mask is None else go(x.mask)
        every = np.broadcast_arrays(*at, *(() if mask is None else (mask,)), np.int64(0))
        index, valid = every[: len(at)], every[len(at)].astype(bool) if mask is not None else None
        out = np.zeros(every[0].shape, array.dtype)
        valid = np.ones(out.shape, bool) if valid is None else valid
        index = [i[valid] for i in index]
        for i, n in zip(index, array.shape):
            assert np.all((i >= 0) & (i < n)), f"out of bounds: {i.min()}..{i.max()} of {n}"
        out[valid] = array[tuple(index)]
        return out

    return go(e)


def operator(op: Op, *shapes_of: Array, types: tuple[TensorType, ...] = (),
             sizes: dict[str, int] | None = None) -> Array:  # fmt: skip
    """`op.compute` of arrays; `types` where some of their dimensions are symbolic."""
    types = types or tuple(TensorType(as_dtype(x.dtype), x.shape) for x in shapes_of)
    out = op.infer(*types)
    assert isinstance(out, TensorType)
    c = op.compute(out, *(Operand(k, t) for k, t in enumerate(types)))
    made = evaluate(c, list(shapes_of), sizes)
    assert made.dtype == out.dtype.numpy, (made.dtype, out.dtype)
    return made


def interpret(values: list[Value], feeds: dict[Value, Array]) -> list[Array]:
    """Values of a graph, every op by its reference."""
    env = dict(feeds)
    for node in topological(v.node for v in values):
        if node.outputs[0] not in env:
            with np.errstate(all="ignore"):
                env[node.outputs[0]] = np.asarray(node.op.ref(*(env[v] for v in node.inputs)))
    return [env[v] for v in values]


def draw(s: Sample, dtypes: tuple[str, ...], seed: int = 0) -> list[Array]:
    """Operands of a sample."""
    rng = np.random.default_rng(seed)
    out = []
    for shape, name in zip(s.shapes, dtypes):
        kind = np.dtype(name).kind
        x = (rng.uniform(s.low, s.high, shape) if kind == "f"
             else rng.integers(int(s.low), int(s.high), shape))  # fmt: skip
        out.append(np.asarray(x).astype(name))
    if s.special and out:
        flat = out[0].reshape(-1)
        flat[: len(s.special)] = s.special
    return out


def cases(module: str) -> list[Any]:
    """Every (op class, sample) of the ops defined in a module, for parametrize."""
    return [(c, s) for c in OPS.values() if c.__module__ == f"flowmill.graph.ops.{module}"
            for s in c.samples]  # fmt: skip


def ids(case: Any) -> str:
    """A readable name of a case."""
    return case.name if isinstance(case, type) else ",".join(str(list(s)) for s in case.shapes)


def check_compute(cls: type[Op], s: Sample) -> None:
    """`compute` (or `expand`) agrees with `ref` in every dtype."""
    kinds = [s.dtypes] if s.dtypes else [("float32",) * len(s.shapes), ("float64",) * len(s.shapes)]
    for dtypes in kinds:
        op = cls(**s.kwargs)
        xs = draw(s, dtypes)
        types = [TensorType(as_dtype(x.dtype), x.shape) for x in xs]
        with np.errstate(all="ignore"):
            expected = np.asarray(op.ref(*xs))
        out = op.infer(*types)
        assert isinstance(out, TensorType)
        assert (expected.dtype, expected.shape) == (out.dtype.numpy, out.shape)
        if cls.has("compute"):
            made = operator(op, *xs)
        elif cls.has("expand"):
            from flowmill.graph.definition import Graph, input

            with Graph():
                vs = [input(f"x{k}", x.shape, str(x.dtype)) for k, x in enumerate(xs)]
                (made,) = interpret([op.expand(*vs)], dict(zip(vs, xs)))
        else:
            continue
        wide = 1e-4 if out.dtype.name == "float32" else 1e-10
        np.testing.assert_allclose(made, expected, rtol=wide, atol=wide * 10)


def check_gradient(cls: type[Op], s: Sample) -> None:
    """`grad` agrees with finite differences of `ref` in float64, along random directions."""
    from flowmill.graph.definition import Graph, input

    names = tuple(
        "float64" if not s.dtypes or np.dtype(d).kind == "f" else d
        for d in (s.dtypes or ("float64",) * len(s.shapes))
    )
    xs = draw(s, names)
    op = cls(**s.kwargs)
    rng = np.random.default_rng(1)
    with Graph() as graph:
        vs = tuple(input(f"x{k}", x.shape, str(x.dtype)) for k, x in enumerate(xs))
        y = graph.node(op, vs).outputs[0]
        if not y.dtype.is_float:
            return
        g = input("g", y.shape, "float64")
        grads = op.grad(g, y, *vs)
        seed = rng.standard_normal(tuple(int(d) for d in y.shape))
        feeds = {**dict(zip(vs, xs)), g: seed}
        for k, (v, d) in enumerate(zip(vs, grads)):
            if d is None or xs[k].dtype.kind != "f":
                continue
            assert d.type == v.type
            direction = rng.standard_normal(xs[k].shape)
            step = 1e-5
            ends = []
            for sign in (1, -1):
                moved = [x + sign * step * direction if j == k else x for j, x in enumerate(xs)]
                ends.append(np.sum(op.ref(*moved) * seed))
            expected = (ends[0] - ends[1]) / (2 * step)
            (made,) = interpret([d], feeds)
            np.testing.assert_allclose(np.sum(made * direction), expected, rtol=1e-5, atol=1e-6)
