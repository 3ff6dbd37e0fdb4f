"""Sessions: fetches and feeds in, arrays out; compiled once per signature.

`Session.run(fetches, feeds)` compiles what the fetches need the first time they are asked for with
these feeds, keeps it in memory and on disk, and runs it natively.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

from .. import config
from ..dtypes import Array
from ..errors import FeedError, FetchError, GraphError
from ..graph.definition import Graph, checked_seed, current_graph, starts
from ..graph.ir import CALLS, Function, Value
from ..graph.ops.base import graph_function
from ..graph.printer import constants_in
from ..graph.template import KEPT, Template
from . import build
from .arguments import feed_problems
from .executable import Executable
from .feeding import function_for
from .fetches import Fetches, frozen
from .state import State

if TYPE_CHECKING:
    from .weights import Loaded

__all__ = ["Session", "evaluate_value", "function_for"]


@dataclass
class _Signature:
    """A compiled set of fetches and feeds, and how results are put together."""

    executable: Executable
    feeds: tuple[Any, ...]  # the user's keys, in input order
    fetches: Fetches


class Session:
    """Runs a graph. Variables start from the graph's initial values and live as long as it does.

    `threads`: how many the kernels may use, the caller's included (None: what affinity and cgroup
    allow). The bits of every result are the same for any number. `level`: 2 optimises, 0 runs the
    unoptimised oracle. `seed`: of initializers and random values (None: the graph's; given arrays,
    as all variables of a loaded graph have them, stay as they are).
    """

    def __init__(self, graph: Graph | None = None, threads: int | None = None,
                 seed: int | None = None, level: int | None = None) -> None:  # fmt: skip
        self.graph = graph if graph is not None else current_graph()
        if not isinstance(self.graph, Graph):
            raise GraphError(f"a session runs a graph, {graph!r} is none",
                             "with fm.Graph() as graph: ...; fm.Session(graph)")  # fmt: skip
        self.threads = config.thread_count(threads)
        self.level = config.level(level)
        self.seed = None if seed is None else checked_seed(seed)
        self._state = State(starts(self.graph, self.seed))
        self._signatures: dict[Any, _Signature] = {}
        self._executables: dict[Any, Executable] = {}
        self._parts: OrderedDict[Graph, Session] = OrderedDict()  # for graphs of a template
        self._lock = threading.RLock()

    @property
    def state(self) -> State:
        """The variables, those too that joined the graph after this session was made."""
        if len(self.graph.variables) != len(self._state.arrays):
            with self._lock:
                self._state.add(starts(self.graph, self.seed, self._state.arrays))
        return self._state

    def __repr__(self) -> str:
        return f"<session of {self.graph!r}, {self.threads} threads>"

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    # --- running ----------------------------------------------------------------------------

    def run(self, fetches: Any = None, feeds: Mapping[Any, Any] | None = None,
            out: Any = None) -> Any:  # fmt: skip
        """The values of `fetches`, in their structure: a value or name, a list, tuple or dict of
        these, nested as you like, or None for all outputs of the graph as a dict in order.

        `feeds` maps inputs, or any other values, by object or name, to arrays. `out` gives arrays
        to write results to, in the structure of the fetches. FeedError, FetchError and RunError
        leave session and variables as they were.
        """
        if feeds is None:
            feeds = {}
        elif not isinstance(feeds, Mapping):
            raise FeedError(f"feeds must be a dict, not {type(feeds).__name__}",
                            "its keys are inputs or their names, its values arrays")  # fmt: skip
        signature = self._find(fetches, feeds)
        e, found = signature.executable, signature.fetches
        inputs = [feeds[k] for k in signature.feeds]
        given = None if out is None else found.flat(out)
        outs = e.run_fast(inputs, given) or e.run(inputs, given)
        return outs[0] if found.single else found.rebuild(outs)

    def bound(self, fetches: Any, feeds: Mapping[Any, Any]) -> tuple[Executable, list[Any]]:
        """The compiled program of these fetches and feeds, and its inputs in order."""
        signature = self._find(fetches, feeds)
        return signature.executable, [feeds[k] for k in signature.feeds]

    def make_callable(self, fetches: Any, feeds: Sequence[Any] | Value | str = ()
                      ) -> Callable[..., Any]:  # fmt: skip
        """A function of the feeds' arrays, in order, returning what `run` would. Cheaper per call
        than `run`; `out=` gives memory for the results."""
        if not isinstance(feeds, Value | str | Iterable):
            raise FeedError(f"feeds must be values or names, not {feeds!r}")
        keys = (feeds,) if isinstance(feeds, Value | str) else tuple(feeds)
        signature = self._find(fetches, keys)
        e, found = signature.executable, signature.fetches
        order = [keys.index(k) for k in signature.feeds]
        if order == list(range(len(keys))):
            order = []  # as the program takes them
        count = len(keys)

        def complete(arrays: tuple[Any, ...], out: Any) -> Any:
            if len(arrays) != count:
                raise FeedError(f"{count} arrays are needed, {len(arrays)} were given")
            given = None if out is None else [out] if found.single else found.flat(out)
            outs = e.run_fast(arrays, given) or e.run(arrays, given)
            return outs[0] if found.single else found.rebuild(outs)

        def general(*arrays: Any, out: Any = None) -> Any:
            return complete(arrays, out)

        call = (e.quick(complete) if found.single else None) or general

        def reordered(*arrays: Any, out: Any = None) -> Any:
            if len(arrays) != count:
                return complete(arrays, out)
            return call(*[arrays[k] for k in order], out=out)

        return reordered if order else call

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

    def load_weights(
        self, source: str | PathLike[str] | Mapping[str, Any],
        rename: Mapping[str, str | None] | None = None,
        transpose: Mapping[str, Sequence[int]] | None = None, strict: bool = True,
    ) -> Loaded:  # fmt: skip
        """Sets variables to weights of another framework: the path of any safetensors file, or
        arrays by name, as a `state_dict` of PyTorch has them.

        `rename` are regular expressions that are replaced in the arrays' names, in order, until
        they are names of variables; None for a replacement leaves such an array out. `transpose`
        gives the order of axes for variables whose name has a pattern: nothing is transposed
        unasked. Numbers are converted to the variable's dtype. What comes back names what was
        `missing` and what `unexpected`; with `strict` there must be nothing.

        CheckpointError, and nothing changed, that lists everything that does not fit.
        """
        from .weights import load_weights

        return load_weights(self.state, source, rename, transpose, strict)

    @staticmethod
    def _variable_name(variable: Value | str) -> str:
        if isinstance(variable, Value):
            name = getattr(variable.node.op, "variable_name", None)
            if name is None:
                raise FetchError(f"{variable!r} is not a variable", f"{variable.node.loc}")
            return str(name)
        return variable

    # --- signatures -------------------------------------------------------------------------

    def _find(self, fetches: Any, feeds: Mapping[Any, Any] | Sequence[Any]) -> _Signature:
        """The compiled program for these fetches and (the keys of) these feeds."""
        if fetches is None and not isinstance(self.graph, Template):
            fetches = self.graph.outputs
            if not fetches:
                raise FetchError("the graph declares no outputs", 'declare them: fm.output("y", y)')
        key: tuple[Any, ...] | None
        try:
            key = (frozen(fetches), *feeds)
            signature = self._signatures.get(key)
        except TypeError:  # something that cannot be a key cannot be fetched or fed either
            key = signature = None
        if signature is None:
            with self._lock:
                if isinstance(self.graph, Template):
                    return self._specialised(self.graph, fetches, feeds)
                signature = self._compile(fetches, feeds)
            self._signatures[key] = signature
        return signature

    def _specialised(self, template: Template, fetches: Any,
                     feeds: Mapping[Any, Any] | Sequence[Any]) -> _Signature:  # fmt: skip
        """The compiled program for these fetches and the values that are fed to parameters. The
        graphs of a template share the variables."""
        if not isinstance(feeds, Mapping):
            raise FeedError(f"graph {template.graph_name} depends on what is fed: use run",
                            "or give the values when loading: values={...}")  # fmt: skip
        names = {k: str(k.name if isinstance(k, Value) else k) for k in feeds}
        graph = template.specialised({names[k]: v for k, v in feeds.items()})
        part = self._parts.get(graph)
        if part is None:
            part = self._parts[graph] = copy(self)
            part.graph, part._signatures, part._executables = graph, {}, {}
            if len(self._parts) > KEPT:
                self._parts.popitem(last=False)
        self._parts.move_to_end(graph)
        rest = {names[k]: v for k, v in feeds.items() if names[k] not in template.parameters}
        return part._find(fetches, rest)

    def _compile(self, fetches: Any, feeds: Mapping[Any, Any] | Sequence[Any]) -> _Signature:
        found = Fetches(self.graph, fetches)
        if not found.values:
            raise FetchError("nothing is fetched", "fetch a value, or None for all outputs")
        fed, problems = self._fed(feeds)
        order = sorted(fed, key=lambda v: (v.node.serial, v.index))
        function = function_for(self.graph, found.values, order)
        for v in function.inputs[len(order) :]:
            known = ", ".join(filter(None, (str(v.type), str(v.node.loc))))
            problems.append(f'"{v.name}" ({known}) is not fed')
        if problems:
            if isinstance(feeds, Mapping):
                problems += feed_problems({v: feeds[k] for v, k in fed.items()})
            raise FeedError(f"cannot run: {problems[0]}", *problems[1:])
        key = (*found.values, None, *order)
        executable = self._executables.get(key)
        if executable is None:
            executable = self._executables[key] = self.executable(function)
        return _Signature(executable, tuple(fed[v] for v in order), found)

    def executable(self, function: Function) -> Executable:
        """The compiled program of a function, from the cache or made now."""
        entry = build.entry(function, self._target(), self.level)
        constants = constants_in(function)
        places = tuple(v.node.loc.aside for v in function.inputs)
        made = Executable(entry, self.state, constants, self.threads, places)
        if config.integer("debug") >= 2:
            from .profile import report_runs  # a session that reports nothing does without it

            report_runs(made)
        return made

    def _fed(self, feeds: Iterable[Any]) -> tuple[dict[Value, Any], list[str]]:
        """Fed values with the user's keys, and what is wrong with other keys."""
        fed: dict[Value, Any] = {}
        problems: list[str] = []
        for key in feeds:
            if isinstance(key, str):
                try:
                    v = self.graph.find(key)
                except FetchError as e:
                    problems.append(f'nothing is named "{key}" to feed ({e.notes[-1]})')
                    continue
            elif not isinstance(key, Value):
                problems.append(f"cannot feed {key!r}: feed values of the graph, or their names")
                continue
            elif key.node.owner is not self.graph:
                problems.append(f"{key!r}{key.node.loc.aside} belongs to another graph")
                continue
            else:
                v = key
            if v in fed:
                problems.append(f'"{v.name}" is fed twice, by value and by name')
            fed[v] = key
        return fed, problems

    @staticmethod
    def _target() -> Any:
        from .. import target

        name = config.setting("target")
        return target.host() if name in ("", "native") else target.named(name)


@graph_function("__eval__")
def evaluate_value(value: Value, feeds: Mapping[Any, Any]) -> Array:
    """What `value.eval(feeds)` does."""
    graph = value.node.owner
    if not isinstance(graph, Graph):
        raise GraphError(f"{value!r} is not part of a graph under definition")
    result: Array = Session(graph).run(value, feeds)
    return result


CALLS["__eval__"] = evaluate_value
