"""The reference interpreter: slow and right, what every faster way of running is compared with.

In go a function, arrays for its inputs and its variables; out come arrays for its outputs and for
the variables it updates. Each op is evaluated by its NumPy reference; composites without one by
their expansion, ops that hold functions by their `interpret`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

import numpy as np

from ..algorithm import Requirement
from ..dims import Dim, DimExpr, Sym, coefficient, evaluate, free_symbols, substitute
from ..dims import show as show_dim
from ..dims_limits import size_problem
from ..dtypes import Array, as_dtype
from ..errors import UNKNOWN, FeedError, GraphError, InternalError, RunError
from .definition import Graph
from .ir import Binding, Function, Node, Shape, TensorType, Value
from .ops.base import Op
from .ops.source import Input, Variable
from .printer import every_node
from .requirements import requirements

AnyOp = TypeVar("AnyOp", bound=Op)


def run(
    function: Function,
    feeds: Mapping[str, Array],
    variables: Mapping[str, Array] | None = None,
) -> tuple[dict[str, Array], dict[str, Array]]:
    """The outputs by name, and the new values of updated variables by variable name.

    Feeds and variables are by name and of the exact dtype. Raises FeedError, listing everything
    that is wrong, where they do not fit the function's inputs and variables.
    """
    variables = variables or {}
    dims = bind(function, feeds)
    _check_variables(function, variables)
    held = {v: np.asarray(feeds[_input(v).input_name]) for v in function.inputs}
    later = [r for r in requirements(function) if not told(r, dims)]
    with np.errstate(all="ignore"):
        values = _Run(dims, variables, later).evaluate(function, held)
    outputs = {name: values[v] for name, v in function.outputs}
    return outputs, {_variable(var).variable_name: values[new] for var, new in function.updates}


def specialise(op: AnyOp, dims: Mapping[str, int]) -> AnyOp:
    """`op` with the dimensions among its attributes replaced by numbers; `op` if there are none.

    Held functions keep their symbols.
    """
    changed = {}
    for f in fields(op):  # type: ignore[arg-type]
        old = getattr(op, f.name)
        new = _numbers(old, dims)
        if new is not old:
            changed[f.name] = new
    return replace(op, **changed) if changed else op  # type: ignore[type-var]


def bind(function: Function, feeds: Mapping[str, Any]) -> dict[str, int]:
    """The value of every dimension symbol of the inputs, by name, from what is fed.

    Raises FeedError with one note for each feed that is missing, unknown, of another dtype or rank,
    or of a shape that contradicts another feed or a symbol's bounds.
    """
    problems: list[str] = []
    shapes: list[tuple[str, Shape, tuple[int, ...]]] = []
    known = {_input(v).input_name: v for v in function.inputs}
    problems += [f'"{name}" is not an input' for name in feeds if name not in known]
    for name, v in known.items():
        if name not in feeds:
            problems.append(f'"{name}", {v.type}, is not fed')
            continue
        array = np.asarray(feeds[name])
        if array.dtype != v.dtype.numpy:
            problems.append(f'"{name}" is fed {array.dtype}, it is {v.type}')
        if array.ndim != v.ndim:
            problems.append(f'"{name}" is fed shape {array.shape}, it is {v.type}')
        else:
            shapes.append((name, v.shape, array.shape))
    dims = _solve(shapes, problems)
    if not problems:
        problems += [
            p for r in requirements(function) if told(r, dims) and (p := r.violation(dims))
        ]
    if problems:
        raise FeedError(f"feeds do not fit graph {function.name}", *problems)
    return dims


def told(requirement: Requirement, dims: Collection[str]) -> bool:
    """Whether all dimensions of a requirement are known."""
    return all(s.name in dims for s in free_symbols(requirement.dim))


def _solve(
    shapes: Sequence[tuple[str, Shape, tuple[int, ...]]], problems: list[str]
) -> dict[str, int]:
    """Symbols' values: plain dims first, then those that one unknown of a sum is left in."""
    dims: dict[str, int] = {}
    known: dict[Sym, Dim] = {}
    equations = [
        (name, axis, d, n)
        for name, shape, actual in shapes
        for axis, (d, n) in enumerate(zip(shape, actual))
    ]
    progress = True
    while progress:
        progress = False
        for _, _, d, n in equations:
            rest = substitute(d, known)
            unknown = free_symbols(rest)
            if len(unknown) != 1:
                continue
            (s,) = unknown
            k = coefficient(rest, s)
            if isinstance(k, int) and k != 0:
                offset = substitute(rest, {s: 0})
                if isinstance(offset, int) and (n - offset) % k == 0:
                    known[s] = dims[s.name] = (n - offset) // k
                    progress = True
    for name, axis, d, n in equations:
        if not free_symbols(d) <= set(known):
            problems.append(f'"{name}": axis {axis} of size {n} does not tell {show_dim(d)}')
        elif evaluate(d, dims) != n:
            known_as = f"{evaluate(d, dims)}" if isinstance(d, int) else (
                f"{show_dim(d)} = {evaluate(d, dims)}")  # fmt: skip
            problems.append(f'"{name}": axis {axis} has size {n}, not {known_as}')
    for s, value in known.items():
        if not isinstance(value, int) or not s.lo <= value <= (value if s.hi is None else s.hi):
            high = "" if s.hi is None else s.hi
            problems.append(f"dimension {s.name} is {value}, it must be in {s.lo}..{high}")
        elif value % s.multiple:
            problems.append(f"dimension {s.name} is {value}, no multiple of {s.multiple}")
    return dims


def _check_variables(function: Function, variables: Mapping[str, Array]) -> None:
    problems: list[str] = []
    for node in (n for n in every_node(function) if isinstance(n.op, Variable)):
        name, type = _variable(node.outputs[0]).variable_name, node.types[0]
        if name not in variables:
            problems.append(f'variable "{name}", {type}, has no value')
            continue
        array = np.asarray(variables[name])
        if array.dtype != type.dtype.numpy or array.shape != type.shape:
            problems.append(f'variable "{name}" holds {array.dtype}{list(array.shape)}, it is '
                            f"{type}")  # fmt: skip
    if problems:
        raise FeedError(f"variables do not fit graph {function.name}", *problems)


def _input(v: Value) -> Input:
    if not isinstance(v.node.op, Input):
        raise InternalError(f"{v!r} is no input")
    return v.node.op


def _variable(v: Value) -> Variable:
    if not isinstance(v.node.op, Variable):
        raise InternalError(f"{v!r} is no variable")
    return v.node.op


class _Run:
    """One evaluation: the dimensions and variables that a function and those it holds share."""

    def __init__(self, dims: dict[str, int], variables: Mapping[str, Array],
                 later: Sequence[Requirement] = ()) -> None:  # fmt: skip
        self.dims, self.variables = dims, variables
        self.later = later  # what sizes that the run computes must satisfy

    def evaluate(self, function: Function, held: Mapping[Value, Array]) -> dict[Value, Array]:
        """Every value of `function`, given those of its inputs."""
        values = dict(held)
        for node in function.nodes():
            if node.outputs[0] in held:
                continue
            results = self.apply(node, [values[x] for x in node.inputs])
            for y, array in zip(node.outputs, results, strict=True):
                values[y] = self.checked(node, y.type, array)
        return values

    def apply(self, node: Node, xs: Sequence[Array]) -> Sequence[Any]:
        for b in node.op.bindings():
            self.learn(node, b, int(xs[b.operand]))
        op = specialise(node.op, self.dims)
        if isinstance(op, Variable):
            return (self.variables[op.variable_name],)
        if op.has("interpret"):
            return _several(op.interpret(self, *xs))
        if op.has("ref"):
            return _several(op.ref(*xs))
        if op.has("expand"):
            return self.expanded(op, xs)
        raise InternalError(f"{op.name} has neither a reference nor an expansion")

    def learn(self, node: Node, b: Binding, n: int) -> None:
        """Takes note of a size. RunError where it cannot be."""
        most = evaluate(b.most, self.dims)
        if not 0 <= n <= most:
            raise RunError(size_problem(node.op.name, b.name, n, most), str(node.loc))
        self.dims[b.name] = n
        for r in self.later:
            if b.name in {s.name for s in free_symbols(r.dim)} and told(r, self.dims):
                problem = r.violation(self.dims)
                if problem:
                    raise RunError(problem)

    def __call__(self, function: Function, *xs: Array) -> tuple[Array, ...]:
        """The results of a function that an op holds."""
        values = self.evaluate(function, dict(zip(function.inputs, xs, strict=True)))
        return tuple(values[v] for _, v in function.outputs)

    def shape(self, type: TensorType) -> tuple[int, ...]:
        """A type's shape in numbers."""
        return tuple(evaluate(d, self.dims) for d in type.shape)

    def expanded(self, op: Op, xs: Sequence[Array]) -> Sequence[Array]:
        """The results of a composite, through ops that have references."""
        with Graph("expansion") as scratch:
            scratch.fixed_loc = UNKNOWN
            inputs = tuple(
                scratch.node(Input(f"x{k}", as_dtype(x.dtype), x.shape), ()).outputs[0]
                for k, x in enumerate(xs)
            )
            made = op.expand(*inputs)
        results = (made,) if isinstance(made, Value) else tuple(made)
        named = tuple((f"y{k}", y) for k, y in enumerate(results))
        return self(Function(op.name, inputs, named), *xs)

    def checked(self, node: Node, type: TensorType, result: Any) -> Array:
        """What a reference returned, which must be of the node's type."""
        array: Array = np.asarray(result)
        shape = _numbers(type.shape, self.dims)
        if array.shape != shape or array.dtype != type.dtype.numpy:
            raise InternalError(f"the reference of {node!r} gave {array.dtype}{list(array.shape)}, "
                                f"its type is {type}")  # fmt: skip
        return array


def _several(results: Any) -> tuple[Any, ...]:
    return tuple(results) if isinstance(results, tuple) else (results,)


def _numbers(x: Any, dims: Mapping[str, int]) -> Any:
    """`x` with every dimension in it, in tuples too, made a number."""
    if isinstance(x, DimExpr):
        try:
            return evaluate(x, dims)
        except KeyError as e:
            raise GraphError(f"no input tells the size of dimension {e.args[0]}") from None
    if isinstance(x, tuple):
        made = tuple(_numbers(y, dims) for y in x)
        return made if any(a is not b for a, b in zip(made, x)) else x
    return x
