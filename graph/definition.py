"""Defining graphs: what a user writes inside `with fm.Graph():`.

In: calls of `input`, `variable`, `constant` and of ops and layers. Out: a `Graph`, which keeps the
nodes, the names, the variables' initial values, named outputs, and makes `Function`s of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ..config import DEFAULT_SEED
from ..dims import Dim, DimExpr, as_sym, free_symbols, sym
from ..dtypes import Array, DType, as_array, as_dtype, converted, float32
from ..errors import ConfigError, FetchError, GraphError, Loc, ShapeError, user_frame
from .clone import clone
from .ir import CALLS, Function, Interner, Layout, Node, Shape, Value, topological
from .ops.base import Op, graph_function
from .ops.registry import load_all
from .ops.shape import as_shape
from .ops.source import Constant, Input, Variable
from .rewire import rewire
from .tokens import RESERVED

Initializer: TypeAlias = "Callable[[np.random.Generator, tuple[int, ...]], Array]"
_stack = threading.local()


@dataclass(frozen=True)
class VariableInfo:
    """A variable: its value in the graph, and what it starts from (an array or an initializer)."""

    value: Value
    initial: Array | Initializer

    @property
    def name(self) -> str:
        return _variable_op(self.value).variable_name

    @property
    def trainable(self) -> bool:
        return _variable_op(self.value).trainable


def _variable_op(v: Value) -> Variable:
    op = v.node.op
    if not isinstance(op, Variable):
        raise GraphError(f"{v!r} is not a variable")
    return op


class Graph(Interner):
    """A graph under definition; use as a context: `with fm.Graph() as g:`.

    `seed`: of initializers and random values, unless a session has one of its own.
    """

    def __init__(self, name: str = "graph", seed: int = DEFAULT_SEED) -> None:
        load_all()  # operators and gradients find each other's functions by name
        super().__init__()
        if not isinstance(name, str) or not name.isidentifier():
            raise GraphError(f"a graph's name must be an identifier, {name!r} is not")
        self.graph_name = name
        self.seed = checked_seed(seed)
        self.values: dict[str, Value] = {}
        self.inputs: dict[str, Value] = {}
        self.variables: dict[str, VariableInfo] = {}
        self.outputs: dict[str, Value] = {}
        self.updates: dict[Value, tuple[tuple[Value, Value], ...]] = {}
        self.derived: set[Node] = set()  # made by `gradients`
        self.chained: set[Value] = set()  # variables whose updates apply one after the other
        self.symbols: dict[str, DimExpr] = {}
        self.named_at: dict[str, Loc] = {}
        self.counts: dict[str, int] = {}

    def __repr__(self) -> str:
        return (f"<graph {self.graph_name}: {len(self._nodes)} nodes, inputs "
                f"{', '.join(self.inputs) or 'none'}, {len(self.variables)} variables, outputs "
                f"{', '.join(self.outputs) or 'none'}>")  # fmt: skip

    def __enter__(self) -> Graph:
        _contexts().append(self)
        return self

    def __exit__(self, *exc: object) -> None:
        _contexts().pop()

    @contextmanager
    def scope(self, name: str) -> Iterator[str]:
        """Names and locations inside get the prefix `name/`."""
        before = self.layer_path
        self.layer_path = f"{before}/{name}" if before else name
        try:
            yield self.layer_path
        finally:
            self.layer_path = before

    def unique(self, base: str) -> str:
        """`base`, or `base_2`, `base_3`... if it was used before."""
        count = self.counts.get(base, 0) + 1
        self.counts[base] = count
        name = base if count == 1 else f"{base}_{count}"
        return name if name not in self.values else self.unique(base)

    def set_name(self, value: Value, name: str) -> Value:
        """Names a value; GraphError if the name is taken."""
        if not isinstance(name, str) or self.values.get(name) is not value:
            self.check_name(name)
        self.values[name] = value
        self.named_at[name] = Loc(*user_frame())
        self.names_of.setdefault(value, name)
        return value

    def check_name(self, name: str) -> None:
        """GraphError if this is no name, or, with both places, if a value has it already."""
        if not isinstance(name, str) or not name or not name.isprintable():
            raise GraphError(f"{name!r} cannot be a name", "names are printable text")
        if name in self.values:
            raise GraphError(f'the name "{name}" is used twice', f"{Loc(*user_frame())}",
                             f"first used at {self.named_at[name]}")  # fmt: skip

    def drop_variable(self, value: Value) -> None:
        """Forgets a variable that nothing uses."""
        del self.variables[_variable_op(value).variable_name]
        for label in [label for label, v in self.values.items() if v is value]:
            del self.values[label], self.named_at[label]
        self.names_of.pop(value, None)
        self._nodes = {k: n for k, n in self._nodes.items() if n is not value.node}

    def dim(self, name: str, lo: int = 1, hi: int | None = None) -> DimExpr:
        """The symbolic dimension `name`; the same name is the same dimension throughout."""
        known = self.symbols.get(name)
        if known is None:
            bounds = (lo,) if hi is None else (lo, hi)
            if any(isinstance(b, bool) or not isinstance(b, int) for b in bounds) or not (
                0 <= lo <= bounds[-1]
            ):
                raise ShapeError(f"dimension {name!r} cannot be in {lo}..{hi}")
            if not isinstance(name, str) or not name.isidentifier() or name in RESERVED:
                hint = "it has a meaning in the textual form" if name in RESERVED else ""
                raise ShapeError(f"{name!r} cannot name a dimension", hint)
            known = self.symbols[name] = sym(name, lo, hi)
        return known

    def output(self, name: str, value: Value) -> Value:
        """Declares `value` an output: what `run(None)` gives and an exported library computes.
        GraphError if the name is taken by another value."""
        if value.node.owner is not self:
            raise GraphError(f"{value!r} belongs to another graph")
        self.set_name(value, name)
        self.outputs[name] = value
        return value

    def clone(
        self, replace: Mapping[Value | str, Any] | None = None,
        outputs: Iterable[Value | str] | None = None, name: str | None = None,
    ) -> Graph:  # fmt: skip
        """`fm.clone` of this graph: a copy, some values replaced, for fine-tuning."""
        return clone(self, replace, outputs, name)

    def find(self, name: str) -> Value:
        """The value named `name`. FetchError with similar names if there is none."""
        found = self.outputs.get(name, self.values.get(name))
        if found is None:
            import difflib

            near = difflib.get_close_matches(name, {**self.values, **self.outputs}, 3)
            hint = f"did you mean {', '.join(near)}?" if near else "named values: " + ", ".join(
                list(self.values)[:12])  # fmt: skip
            raise FetchError(f'no value is named "{name}" in graph {self.graph_name}', hint)
        return found

    def node(self, op: Op, inputs: tuple[Value, ...], loc: Loc | None = None,
             layout: Layout | None = None) -> Node:  # fmt: skip
        """The node `op(inputs)`; what gradients build for their own ends is remembered as such."""
        before = self._serial
        made = super().node(op, inputs, loc, layout)
        if self.fixed_loc is not None and self._serial > before:
            self.derived.add(made)
        return made

    def forget(self, mark: int, leaves: Iterable[Value]) -> set[Value]:
        """As any interner does. GraphError if a variable was to be assigned what is forgotten."""
        gone = super().forget(mark, leaves)
        for name in [name for name, v in self.values.items() if v in gone]:
            del self.values[name], self.named_at[name]
        self.derived -= {v.node for v in gone}
        tokens = [v for v in self.updates if v in gone]
        for token in tokens:
            del self.updates[token]
        if tokens:
            raise GraphError("a loop or a branch cannot assign to variables",
                             f"{tokens[0].node.loc}",
                             "let it return the new value, and assign that")  # fmt: skip
        return gone

    def results(self) -> list[Value]:
        """The ends of the graph: what nothing the user wrote is computed from.

        New values of variables are left out; the values whose fetching stores them are here.
        Gradients and constants are left out too, unless they have a name.
        """
        used = {v.node for n in self._nodes.values() if n not in self.derived for v in n.inputs}
        used.update(v.node for pairs in self.updates.values() for pair in pairs for v in pair)
        return [v for n in self._nodes.values() for v in n.outputs
                if n not in used and not isinstance(n.op, Variable)
                and (v in self.names_of
                     or (n not in self.derived and not isinstance(n.op, Constant)))]  # fmt: skip

    def function(self, name: str, outputs: Mapping[str, Value],
                 given: Collection[Value] = ()) -> Function:  # fmt: skip
        """The function that computes `outputs` and performs the updates they stand for. Nothing
        that only `given` values depend on is part of it, nor are updates these stand for.

        GraphError where one variable gets two values that no order was given for.
        """
        roots = tuple(outputs.items())
        updates: dict[Value, Value] = {}
        set_by: dict[Value, Value] = {}
        done: set[Value] = set(given)
        known = {v.node for v in given if all(other in done for other in v.node.outputs)}
        while True:
            nodes = topological(
                [*(v.node for _, v in roots), *(new.node for new in updates.values())], known
            )
            tokens = [v for n in nodes for v in n.outputs if v in self.updates and v not in done]
            if not tokens:
                break
            for token in tokens:
                done.add(token)
                for target, new in self.updates[token]:
                    chosen = self._ordered(target, new, token, updates, set_by)
                    if updates.get(target) is not chosen:
                        updates[target], set_by[target] = chosen, token
        inputs = tuple(n.outputs[0] for n in nodes if isinstance(n.op, Input))
        effects = tuple(n.outputs[0] for n in nodes
                        if n.op.name in ("check", "print") and n not in known)  # fmt: skip
        return Function(name, inputs, roots, tuple(updates.items()), effects)

    def _ordered(
        self, target: Value, new: Value, token: Value, updates: dict[Value, Value],
        set_by: dict[Value, Value],
    ) -> Value:  # fmt: skip
        """What `target` is set to, now that `token` asks for `new`."""
        before = updates.get(target)
        if before is None or before is new or (target, before) in self.updates[token]:
            return new
        if target in self.chained:
            return rewire([new], {target: before}, self)[new]
        if (target, new) in self.updates[set_by[target]]:
            return before
        raise GraphError(
            f'variable "{target.name}" is assigned twice in one run, in no order',
            f"{set_by[target].node.loc}", f"{token.node.loc}",
            "give the second assignment after=<the first>, or fetch them in two runs",
        )  # fmt: skip


def _contexts() -> list[Graph]:
    if not hasattr(_stack, "graphs"):
        _stack.graphs = []
    return _stack.graphs  # type: ignore[no-any-return]


_default: list[Graph] = []


@graph_function("__current__")
def current_graph() -> Graph:
    """The graph being defined: the innermost `with`, else one default graph per process."""
    stack = _contexts()
    if stack:
        return stack[-1]
    if not _default:
        _default.append(Graph("default"))
    return _default[0]


@graph_function("__dim__")
def as_dim(d: Any) -> Dim:
    """A dimension from an int, a name or a Dim. ShapeError if it is none of these."""
    if isinstance(d, DimExpr):
        return d
    if isinstance(d, str):
        return current_graph().dim(d)
    if isinstance(d, bool) or not isinstance(d, int | np.integer):
        raise ShapeError(f"a dimension must be a number or a name, not {d!r}")
    return int(d)


def checked_seed(seed: object) -> int:
    """The seed as a number. ConfigError unless it is an integer from 0."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ConfigError(f"a seed is an integer from 0, not {seed!r}")
    return int(seed)


def new_shape(shape: Any) -> Shape:
    """A shape of a new value: dims >= 0, names allowed."""
    dims = as_shape(shape)
    for d in dims:
        if isinstance(d, int) and d < 0:
            raise ShapeError(f"dimension {d} of shape {dims} is negative",
                             'name one that is known only at run time: "batch"')  # fmt: skip
    return dims


def dim(name: str, min: int | None = None, max: int | None = None) -> DimExpr:
    """A symbolic dimension with bounds, for shapes: `fm.dim("batch", min=1, max=64)`. It is at least
    1 unless told otherwise. ShapeError where the graph has it with other bounds already."""
    graph = current_graph()
    known = graph.symbols.get(name)
    if known is None:
        return graph.dim(name, 1 if min is None else min, max)
    lo, hi = (as_sym(known).lo, as_sym(known).hi)
    if (min is not None and min != lo) or (max is not None and max != hi):
        raise ShapeError(f"dimension {name!r} is in {lo}..{'' if hi is None else hi} already",
                         "give its bounds where it is used first")  # fmt: skip
    return known


def input(name: str, shape: Any, dtype: Any = float32) -> Value:
    """A value fed at each run. Dimensions may be names: `("batch", 1, 28, 28)`."""
    graph = current_graph()
    graph.check_name(name)
    dims = new_shape(shape)
    for s in sorted({s.name for d in dims for s in free_symbols(d)} & graph.sizes.keys()):
        raise ShapeError(f'input "{name}": a run computes dimension {s}, no input can have it',
                         "give the dimension another name")  # fmt: skip
    value = graph.node(Input(name, as_dtype(dtype), dims), ()).outputs[0]
    graph.set_name(value, name)
    graph.inputs[name] = value
    return value


def variable(
    name: str, initial: Any = None, shape: Any = None, dtype: Any = None, trainable: bool = True
) -> Value:
    """A value kept between runs.

    `initial` is an array (its shape and dtype count), a number, or an initializer
    `f(generator, shape) -> array` used with `shape`. `trainable` variables are what `minimize`
    updates unless told otherwise.
    """
    graph = current_graph()
    if graph.layer_path:
        name = f"{graph.layer_path}/{name}"
    start: Array | Initializer
    if callable(initial):
        if shape is None:
            raise ShapeError(f'variable "{name}": an initializer needs a shape')
        start, dims, kind = initial, new_shape(shape), as_dtype(dtype or float32)
    else:
        if isinstance(initial, str | Value):
            raise GraphError(f'variable "{name}": {initial!r} is no initial value',
                             "give numbers, or an initializer and a shape: "
                             "fm.initializers.glorot_uniform")  # fmt: skip
        array = as_array(0.0 if initial is None else initial)
        kind = _initial_dtype(array, initial, dtype)
        if shape is not None:
            wanted = new_shape(shape)
            if array.ndim == 0:
                array = np.broadcast_to(array, [int(d) for d in wanted if isinstance(d, int)])
            if tuple(array.shape) != wanted:
                raise ShapeError(f'variable "{name}": initial value has shape {array.shape}, '
                                 f"not {wanted}")  # fmt: skip
        start, dims = np.array(converted(array, kind)), tuple(int(d) for d in array.shape)
    if any(free_symbols(d) for d in dims):
        raise ShapeError(f'variable "{name}" needs a shape of numbers, not {dims}')
    graph.check_name(name)
    value = graph.node(Variable(name, kind, dims, trainable), ()).outputs[0]
    graph.set_name(value, name)
    graph.variables[name] = VariableInfo(value, start)
    return value


def _initial_dtype(array: Array, initial: Any, dtype: Any) -> DType:
    if dtype is not None:
        return as_dtype(dtype)
    if isinstance(initial, np.ndarray):
        return as_dtype(initial.dtype)
    return float32 if array.dtype.kind == "f" else as_dtype(array.dtype)


def output(name: str, value: Value) -> Value:
    """Declares `value` an output of its graph, under `name`. Returns it."""
    return graph_of(value, "output").output(name, value)


def named(value: Value, name: str) -> Value:
    """Gives `value` a name, to be found, fetched and seen by it. Returns it."""
    return graph_of(value, "named").set_name(value, name)


def graph_of(value: Any, what: str) -> Graph:
    """The graph under definition that `value` belongs to. GraphError, with the name of the function
    that was called, if there is none."""
    if not isinstance(value, Value):
        raise GraphError(f"{what}: {value!r} is no value of a graph", f"{Loc(*user_frame())}")
    if not isinstance(value.node.owner, Graph):
        raise GraphError(f"{what}: {value!r} is not part of a graph under definition")
    return value.node.owner


def initial_values(graph: Graph, seed: int | None = None) -> dict[str, Array]:
    """Every variable's initial value. Depends on the seed and the variable's name only."""
    return {name: value.copy() for name, value in starts(graph, seed)}


def starts(graph: Graph, seed: int | None = None,
           known: Collection[str] = ()) -> Iterator[tuple[str, Array]]:  # fmt: skip
    """As `initial_values`, without those already `known`: one by one, as they may be large, and
    only to be read, as some are the graph's own."""
    for name, info in list(graph.variables.items()):
        if name in known:
            continue
        if not callable(info.initial):
            yield name, info.initial
            continue
        op = _variable_op(info.value)
        entropy = [graph.seed if seed is None else seed, *name.encode()]
        shape = tuple(d for d in op.shape if isinstance(d, int))
        try:
            made = np.asarray(info.initial(np.random.default_rng(entropy), shape))
        except MemoryError:
            raise ConfigError(f'variable "{name}", {info.value.type}, is larger than memory',
                              f"{info.value.node.loc}") from None  # fmt: skip
        if made.shape != shape:
            raise ConfigError(f'the initializer of "{name}" made {made.shape}, not {shape}')
        yield name, np.ascontiguousarray(made, dtype=op.dtype.numpy)


def group(graph: Graph, token: Value, updates: Sequence[tuple[Value, Value]]) -> Value:
    """Makes fetching `token` perform `updates` (variable, new value)."""
    for target, new in updates:
        _variable_op(target)
        if target.type != new.type:
            raise ShapeError(f'cannot assign {new.type} to variable "{target.name}", which is '
                             f"{target.type}")  # fmt: skip
    graph.updates[token] = (*graph.updates.get(token, ()), *updates)
    return token


CALLS["input"] = input
