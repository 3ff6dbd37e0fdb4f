"""A `Compute` evaluated over its whole index space by NumPy, one array axis per loop.

The meaning of `compute`, executed as written: loads are checked against their bounds where their
mask holds and never made where it does not; checks that hold raise `FailedError`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flowmill import algorithm as alg
from flowmill import dims
from flowmill.dtypes import Array
from flowmill.graph.interpret import specialise
from flowmill.graph.ir import Node, TensorType, Value, topological
from flowmill.graph.ops.base import Op, Operand


class FailedError(Exception):
    """A check of a Compute holds; the argument is its code."""


def _each(f: Any) -> Any:
    return lambda x: np.vectorize(f, otypes=[np.float64])(x) if np.size(x) else x


FUNCTIONS: dict[str, Any] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide,
    "floordiv": np.floor_divide, "mod": np.mod, "pow": np.power,
    "fma": lambda a, b, c: a * b + c, "min": np.minimum, "max": np.maximum, "neg": np.negative,
    "abs": np.abs, "sign": np.sign, "floor": np.floor, "ceil": np.ceil, "round": np.rint,
    "trunc": np.trunc, "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x), "exp": np.exp,
    "expm1": np.expm1, "exp2": np.exp2, "log": np.log, "log1p": np.log1p, "log2": np.log2,
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos,
    "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh,
    "sigmoid": lambda x: 0.5 + 0.5 * np.tanh(0.5 * x),
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))), "erf": _each(math.erf),
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "not": np.invert,
    "shl": np.left_shift, "shr": np.right_shift, "eq": np.equal, "ne": np.not_equal,
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "isnan": np.isnan, "isinf": np.isinf, "isfinite": np.isfinite,
}  # fmt: skip
_REDUCE: dict[str, Any] = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


class Grid:
    """Operands and the index space that expressions are evaluated over."""

    def __init__(self, loops: Sequence[alg.Axis], xs: Sequence[Array], sizes: Mapping[str, int]):
        self.xs = xs
        self.env: dict[str, Any] = dict(sizes)
        self.shape: tuple[int, ...] = ()
        self.inside: Any = np.bool_(True)  # where loops of different lengths have an iteration
        for k, a in enumerate(loops):
            extent = self.dim(a.extent)
            self.shape = (*self.shape, int(np.max(extent, initial=0)))
            line = [-1 if j == k else 1 for j in range(len(loops))]
            self.env[a.sym.name] = np.arange(self.shape[k]).reshape(line)
            if np.size(extent) > 1:
                self.inside = self.inside & (self.env[a.sym.name] < extent)
        self.memo: dict[alg.Expr, Any] = {}

    def dim(self, d: dims.Dim) -> Any:
        if isinstance(d, int):
            return np.int64(d)
        out: Any = 0
        for atoms, k in d.terms:
            term: Any = k
            for a in atoms:
                term = term * (self.env[a.name] if isinstance(a, dims.Sym) else self.atom(a))
            out = out + term
        return np.asarray(out, np.int64)

    def atom(self, a: Any) -> Any:
        x, y = self.dim(a.a), self.dim(a.b)
        return {"floordiv": np.floor_divide, "mod": np.mod, "min": np.minimum,
                "max": np.maximum}[a.kind](x, y)  # fmt: skip

    def expr(self, e: alg.Expr) -> Any:
        if e not in self.memo:
            self.memo[e] = self.one(e)
        return self.memo[e]

    def one(self, e: alg.Expr) -> Any:
        if isinstance(e, alg.Const):
            return np.asarray(e.value, e.dtype.numpy)
        if isinstance(e, alg.Index):
            return self.dim(e.dim)
        if isinstance(e, alg.Apply):
            args = [self.expr(a) for a in e.args]
            assert len({a.dtype for a in args}) == 1, (e.fn, [a.dtype for a in args])
            return np.asarray(FUNCTIONS[e.fn](*args)).astype(e.dtype.numpy)
        if isinstance(e, alg.Select):
            yes, no = self.expr(e.yes), self.expr(e.no)
            assert yes.dtype == no.dtype
            return np.where(self.expr(e.cond), yes, no)
        if isinstance(e, alg.Cast):
            return cast(self.expr(e.x), e.dtype.numpy)
        if isinstance(e, alg.Bitcast):
            return self.expr(e.x).view(e.dtype.numpy)
        assert isinstance(e, alg.Load), e
        return self.load(e)

    def load(self, e: alg.Load) -> Array:
        array = self.xs[int(e.buffer)]
        assert array.dtype == e.dtype.numpy
        at = [self.expr(i) if isinstance(i, alg.Expr) else self.dim(i) for i in e.indices]
        mask = self.inside if e.mask is None else self.expr(e.mask) & self.inside
        *index, valid = np.broadcast_arrays(*at, mask)
        out = np.zeros(valid.shape, array.dtype)
        chosen = tuple(i[valid] for i in index)
        for i, n in zip(chosen, array.shape):
            assert np.all((i >= 0) & (i < n)), f"index {i.min()}..{i.max()} outside 0..{n}"
        out[valid] = array[chosen]
        return out


def cast(x: Array, dtype: Any) -> Array:
    """Conversion as `algorithm.Cast` defines it."""
    if np.dtype(dtype).kind in "iu" and x.dtype.kind not in "biu":
        info = np.iinfo(dtype)
        wide = np.nan_to_num(np.trunc(x.astype(np.float64)), nan=0.0)
        inside = (wide > info.min) & (wide < info.max)
        whole = np.where(inside, wide, 0).astype(dtype)
        return np.where(inside, whole, np.where(wide > 0, info.max, info.min).astype(dtype))
    return x.astype(dtype)


def evaluate(c: alg.Compute, xs: Sequence[Array], sizes: Mapping[str, int] | None = None) -> Array:
    """What `c` computes from operands `xs`, given the sizes of symbols by name."""
    grid = Grid((*c.axes, *c.reduce_axes), xs, sizes or {})
    with np.errstate(all="ignore"):
        for check in c.checks:
            if np.any(np.broadcast_to(grid.expr(check.cond), grid.shape)):
                raise FailedError(check.code)
        value = np.broadcast_to(grid.expr(c.value), grid.shape)
        kept = len(c.axes)
        if c.combine in _REDUCE:
            start = np.asarray(alg.REDUCTION_START[c.combine](c.value.dtype).value, value.dtype)
            value = np.where(grid.inside, value, start)
        flat = value.reshape((*grid.shape[:kept], math.prod(grid.shape[kept:])))
        if c.combine is None:
            assert not c.reduce_axes
            return np.asarray(value)
        if c.combine in ("argmax", "argmin"):
            assert len(c.reduce_axes) == 1
            return np.asarray(getattr(np, c.combine)(flat, axis=-1))
        out = np.full(grid.shape[:kept], start)
        for k in range(flat.shape[-1]):
            out = _REDUCE[c.combine](out, flat[..., k])
        return np.asarray(out)


def operator(
    op: Op, xs: Sequence[Array], types: Sequence[TensorType],
    sizes: Mapping[str, int] | None = None,
) -> Array:  # fmt: skip
    """What `op.compute` says for operands `xs` of `types`."""
    out = op.infer(*types)
    assert isinstance(out, TensorType)
    made = evaluate(op.compute(out, *(Operand(k, t) for k, t in enumerate(types))), xs, sizes)
    assert made.dtype == out.dtype.numpy, (op.name, made.dtype, out.dtype)
    return made


def graph(
    roots: Sequence[Value], feeds: Mapping[Value, Array], sizes: Mapping[str, int] | None = None
) -> list[Array]:
    """Values of a graph, every op by its `compute` (composites by their expansion)."""
    env = dict(feeds)
    for node in topological((v.node for v in roots), {v.node for v in feeds}):
        if node.outputs[0] not in env:
            env |= _node(node, [env[v] for v in node.inputs], sizes or {})
    return [env[v] for v in roots]


def _node(node: Node, xs: Sequence[Array], sizes: Mapping[str, int]) -> dict[Value, Array]:
    op = node.op
    if op.name == "constant":
        return {node.outputs[0]: op.ref()}
    if op.has("compute"):
        return {node.outputs[0]: operator(op, xs, [v.type for v in node.inputs], sizes)}
    if op.has("expand"):
        made = op.expand(*node.inputs)
        results = (made,) if isinstance(made, Value) else tuple(made)
        return dict(zip(node.outputs, graph(results, dict(zip(node.inputs, xs)), sizes)))
    op = specialise(op, sizes)
    if op.has("interpret"):

        def call(function, *arrays):
            outputs = [v for _, v in function.outputs]
            return tuple(graph(outputs, dict(zip(function.inputs, arrays)), sizes))

        results = op.interpret(call, *xs)
    else:
        results = op.ref(*xs)
    return dict(zip(node.outputs, results if isinstance(results, tuple) else (results,)))
