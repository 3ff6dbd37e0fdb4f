"""Sessions: fetches and feeds in, arrays out; compiled once per signature.

`Session.run(fetches, feeds)` compiles what the fetches need the first time they are asked for with
these feeds, keeps it in memory and on disk, and runs it natively.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np

from .. import config
from ..dtypes import Array
from ..errors import ConfigError, FeedError, FetchError, GraphError
from ..graph.definition import Graph, current_graph, initial_values
from ..graph.ir import CALLS, Function, Interner, Value, topological
from ..graph.ops.base import graph_function
from ..graph.ops.source import Constant, Input
from . import build, native
from .executable import Executable
from .state import State


@dataclass
class _Signature:
    """A compiled set of fetches and feeds, and how results are put together."""

    executable: Executable
    feeds: tuple[Any, ...]  # the user's keys, in input order
    rebuild: Callable[[list[Array]], Any]
    single: bool


class Session:
    """Runs a graph. Variables start from the graph's initial values and live as long as it does.

    `threads`: how many the kernels may use, the caller's included (None: what affinity and cgroup
    allow). The bits of every result are the same for any number. `level`: 2 optimises, 0 runs the
    unoptimised oracle. `seed`: of the variables' initial values.
    """

    def __init__(self, graph: Graph | None = None, threads: int | None = None,
                 seed: int | None = None, level: int | None = None) -> None:  # fmt: skip
        if threads is not None and (not isinstance(threads, int) or not 1 <= threads <= 256):
            raise ConfigError(f"threads must be a number from 1 to 256, not {threads!r}")
        self.graph = graph if graph is not None else current_graph()
        self.threads = threads or native.default_threads()
        self.level = config.integer("level") if level is None else level
        self.state = State(initial_values(self.graph, seed))
        self._signatures: dict[Any, _Signature] = {}
        self._constants: dict[str, Array] = {}

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    # --- running ----------------------------------------------------------------------------

    def run(self, fetches: Any = None, feeds: Mapping[Any, Any] | None = None,
            out: Any = None) -> Any:  # fmt: skip
        """The values of `fetches`, in their structure: a value or name, a list, a dict, or None
        for all outputs of the graph as a dict in order.

        `feeds` maps inputs, or any other values, by object or name, to arrays. `out` gives arrays
        to write results to, in the structure of the fetches. FeedError, FetchError and RunError
        leave session and variables as they were.
        """
        feeds = feeds or {}
        signature = self._find(fetches, feeds)
        e = signature.executable
        inputs = [feeds[k] for k in signature.feeds]
        if out is None and e.static:
            outs = [np.empty(s, d) for s, d in zip(e.static_shapes, e.dtypes)]
            if e.fast(*inputs, *outs) == 0:
                return outs[0] if signature.single else signature.rebuild(outs)
        results = e.run(inputs, None if out is None else _flat_out(fetches, out, e))
        return signature.rebuild(results)

    def bound(self, fetches: Any, feeds: Mapping[Any, Any]) -> tuple[Executable, list[Any]]:
        """The compiled program of these fetches and feeds, and its inputs in order."""
        signature = self._find(fetches, feeds)
        return signature.executable, [feeds[k] for k in signature.feeds]

    def make_callable(self, fetches: Any, feeds: Sequence[Any] = ()) -> Callable[..., Any]:
        """A function of the feeds' arrays, in order, returning what `run` would. Cheaper per call
        than `run`; `out=` gives memory for the results."""
        keys = tuple(feeds)
        signature = self._find(fetches, dict.fromkeys(keys))
        e = signature.executable
        single, rebuild, fast = signature.single, signature.rebuild, e.fast
        names = len(keys)
        empty, static = np.empty, e.static
        plan = list(zip(e.static_shapes, e.dtypes))

        def call(*arrays: Any, out: Any = None) -> Any:
            if len(arrays) != names:
                raise FeedError(f"{names} arrays are needed, {len(arrays)} were given")
            if static:
                outs: list[Any] = [empty(s, d) for s, d in plan] if out is None else (
                    [out] if single else _flat_out(fetches, out, e))  # fmt: skip
                if fast(*arrays, *outs) == 0:
                    return outs[0] if single else rebuild(outs)
            given = None if out is None else _flat_out(fetches, out, e)
            return rebuild(e.run(arrays, given))

        return call

    # --- variables --------------------------------------------------------------------------

    @property
    def variables(self) -> dict[str, Array]:
        """A copy of every variable by name."""
        return self.state.snapshot()

    def get(self, variable: Value | str) -> Array:
        """A copy of one variable's value."""
        return self.state.read(self._variable_name(variable))

    def set(self, variable: Value | str, value: Any) -> None:
        """Sets one variable. FeedError if shape or dtype do not fit."""
        self.state.write({self._variable_name(variable): value})

    def save(self, path: str | PathLike[str]) -> None:
        """Writes all variables to a safetensors file, atomically."""
        from .checkpoint import save

        save(self.state, path)

    def restore(self, path: str | PathLike[str]) -> None:
        """Reads all variables from a file that `save` wrote. CheckpointError, and nothing changed,
        if it is damaged or belongs to another model."""
        from .checkpoint import restore

        restore(self.state, path)

    @staticmethod
    def _variable_name(variable: Value | str) -> str:
        if isinstance(variable, Value):
            name = getattr(variable.node.op, "variable_name", None)
            if name is None:
                raise FetchError(f"{variable!r} is not a variable")
            return str(name)
        return variable

    # --- signatures -------------------------------------------------------------------------

    def _find(self, fetches: Any, feeds: Mapping[Any, Any]) -> _Signature:
        try:
            key = (_frozen(fetches), tuple(feeds))
            found = self._signatures.get(key)
        except TypeError:
            raise FetchError(f"cannot fetch {fetches!r}",
                             "fetch a value, a name, a list or a dict of these") from None  # fmt: skip
        if found is None:
            found = self._signatures[key] = self._compile(fetches, feeds)
        return found

    def _compile(self, fetches: Any, feeds: Mapping[Any, Any]) -> _Signature:
        values, rebuild, single = self._resolve(fetches)
        fed = {self._fed(k): k for k in feeds}
        if len(fed) != len(feeds):
            raise FeedError("a value is fed twice, by object and by name")
        function = function_for(self.graph, values, list(fed))
        missing = [v for v in function.inputs if v not in _origin(function, fed)]
        if missing:
            problems = [f'"{v.name}" ({v.type}, {v.node.loc}) is not fed' for v in missing]
            raise FeedError(problems[0], *problems[1:])
        executable = self.executable(function)
        keys = tuple(fed[_origin(function, fed)[v]] for v in function.inputs)
        return _Signature(executable, keys, rebuild, single)

    def executable(self, function: Function) -> Executable:
        """The compiled program of a function, from the cache or made now."""
        entry = build.entry(function, self._target(), self.level)
        for n in function.nodes():
            if isinstance(n.op, Constant):
                self._constants.setdefault(n.op.data.digest, n.op.data.array)
        return Executable(entry, self.state, self._constants, self.threads)

    @staticmethod
    def _target() -> Any:
        from .. import target

        name = config.setting("target")
        return target.host() if name in ("", "native") else target.named(name)

    def _resolve(self, fetches: Any) -> tuple[list[Value], Callable[[list[Array]], Any], bool]:
        """The distinct values to compute, and how to put results into the fetches' structure."""
        if fetches is None:
            if not self.graph.outputs:
                raise FetchError("the graph declares no outputs", 'declare them: fm.output("y", y)')
            fetches = dict(self.graph.outputs)
        values: list[Value] = []

        def place(f: Any) -> int:
            v = self._value(f)
            if v not in values:
                values.append(v)
            return values.index(v)

        if isinstance(fetches, Mapping):
            spots = {k: place(v) for k, v in fetches.items()}
            return values, lambda outs: {k: outs[i] for k, i in spots.items()}, False
        if isinstance(fetches, list | tuple):
            order = [place(f) for f in fetches]
            kind = type(fetches)
            return values, lambda outs: kind(outs[i] for i in order), False
        place(fetches)
        return values, lambda outs: outs[0], True

    def _value(self, f: Any) -> Value:
        if isinstance(f, str):
            return self.graph.find(f)
        if not isinstance(f, Value):
            raise FetchError(
                f"cannot fetch {f!r}", "fetch a value, a name, a list or a dict of these"
            )
        if f.node.owner is not self.graph:
            raise FetchError(f"{f!r} belongs to another graph")
        return f

    def _fed(self, key: Any) -> Value:
        if isinstance(key, str):
            try:
                return self.graph.find(key)
            except FetchError as e:
                raise FeedError(f'there is nothing named "{key}" to feed', *e.notes) from None
        if not isinstance(key, Value) or key.node.owner is not self.graph:
            raise FeedError(f"cannot feed {key!r}", "feed values of this graph, or their names")
        return key


def function_for(graph: Graph, fetches: Sequence[Value], fed: Sequence[Value],
                 name: str = "run") -> Function:  # fmt: skip
    """The function of some fetches when some values are given: those become its inputs."""
    function = graph.function(name, {f"y{k}": v for k, v in enumerate(fetches)})
    inner = [v for v in fed if not isinstance(v.node.op, Input)]
    if not inner:
        rest = [v for v in function.inputs if v not in fed]
        return Function(name, (*fed, *rest), function.outputs, function.updates, function.effects)
    unused = [v for v in fed if isinstance(v.node.op, Input) and v not in function.inputs]
    return _with_fed(function, inner, fed, unused)


def _with_fed(function: Function, inner: Sequence[Value], fed: Sequence[Value],
              unused: Sequence[Value]) -> Function:  # fmt: skip
    """A copy in which intermediate values are inputs."""
    interner = Interner()
    new: dict[Value, Value] = {}
    for v in inner:
        label = v.name or f"{v.node.op.name}_{v.node.serial}"
        made = interner.node(Input(label, v.dtype, v.shape), (), v.node.loc).outputs[0]
        interner.names_of[made] = label
        new[v] = made
    for n in topological([*(v.node for v in function.roots()), *(v.node for v in unused),
                          *(v.node for v, _ in function.updates)]):  # fmt: skip
        if all(v in new for v in n.outputs):
            continue
        made_node = interner.node(n.op, tuple(new[v] for v in n.inputs), n.loc)
        for a, b in zip(n.outputs, made_node.outputs):
            new.setdefault(a, b)
            if n.owner.names_of.get(a):
                interner.names_of.setdefault(b, n.owner.names_of[a])
    draft = Function(function.name, (), tuple((k, new[v]) for k, v in function.outputs),
                     tuple((new[a], new[b]) for a, b in function.updates),
                     tuple(new[v] for v in function.effects))  # fmt: skip
    needed = [n.outputs[0] for n in draft.nodes() if isinstance(n.op, Input)]
    given = [new[v] for v in fed]
    rest = [v for v in needed if v not in given]
    return Function(draft.name, (*given, *rest), draft.outputs, draft.updates, draft.effects)


def _origin(function: Function, fed: Iterable[Value]) -> dict[Value, Value]:
    """Input of the function -> the fed value it stands for: given ones come first, in order."""
    return dict(zip(function.inputs, fed))


def _frozen(fetches: Any) -> Any:
    if isinstance(fetches, list | tuple):
        return (type(fetches), *fetches)
    if isinstance(fetches, Mapping):
        return ("dict", *fetches.items())
    return fetches


def _flat_out(fetches: Any, out: Any, e: Executable) -> list[Array | None]:
    """`out` in output order."""
    if isinstance(fetches, Mapping):
        return [out.get(k) for k in fetches]
    if isinstance(fetches, list | tuple):
        return list(out)
    return [out]


@graph_function("__eval__")
def evaluate_value(value: Value, feeds: Mapping[Any, Any]) -> Array:
    """What `value.eval(feeds)` does."""
    graph = value.node.owner
    if not isinstance(graph, Graph):
        raise GraphError(f"{value!r} is not part of a graph under definition")
    result: Array = Session(graph).run(value, feeds)
    return result


CALLS["__eval__"] = evaluate_value
