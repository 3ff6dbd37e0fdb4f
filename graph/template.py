"""Graphs that are built when the values of some inputs are known.

Where an input decides shapes or algorithms (the axes of a reduction, a new shape, how many elements
to keep), nothing can be compiled before it is there. A `Template` stands for such a computation: it
knows its inputs, and which of them are *parameters*; `specialised` makes the graph for their
values, in which they are constants. So it is with dimensions whose size decides how many axes there
are. A session does so by itself, once for each set of values and sizes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from ..dtypes import Array
from ..errors import FeedError, GraphError
from .definition import Graph
from .ir import Function, Value

KEPT = 64  # graphs made last
_MOST_BYTES = 1 << 16  # of a parameter


@dataclass(frozen=True)
class Known:
    """Values of parameters, shapes of inputs that state none, and sizes of dimensions, by name."""

    values: Mapping[str, Array]
    shapes: Mapping[str, tuple[int, ...]]
    sizes: Mapping[str, int]


@dataclass(frozen=True)
class Missing:
    """What is to be known before there is a graph: values of inputs, shapes of inputs, and sizes of
    dimensions, each with an input and axis that show it."""

    values: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()
    sizes: Mapping[str, tuple[str, int]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.values or self.shapes or self.sizes)


Build = Callable[[Known], tuple[Graph, Missing]]


class Template(Graph):
    """A graph for each set of values of its `parameters`, shapes of its `shapeless` inputs and
    sizes of dimensions that are `deciding`.

    `build` makes the graph for what is known of them; with it comes what is still missing (the
    graph is then of no use). `inputs` and `variables` are as in every graph; an input of unknown
    shape is not among the inputs but in `shapeless`.
    """

    def __init__(self, like: Graph, build: Build, missing: Missing) -> None:
        super().__init__(like.graph_name, like.seed)
        self.inputs, self.variables, self.symbols = like.inputs, like.variables, like.symbols
        self.parameters, self.shapeless = set(missing.values), missing.shapes
        self.deciding = dict(missing.sizes)
        self._build = build
        self._made: OrderedDict[tuple[Any, ...], Graph] = OrderedDict()

    def choice(self, feeds: Mapping[str, Any]) -> tuple[Any, ...]:
        """What of the feeds decides the graph: equal for feeds that run the same one."""
        return (*((name, *_identity(feeds[name])) for name in sorted(self.parameters)
                  if name in feeds),
                *((name, np.shape(feeds[name])) for name in self.shapeless if name in feeds),
                *((name, self._seen(name, feeds)) for name, (source, _) in sorted(self.deciding.items())
                  if source in feeds))  # fmt: skip

    def _seen(self, size: str, feeds: Mapping[str, Any]) -> int:
        """The size of a dimension in what is fed."""
        name, axis = self.deciding[size]
        shape = np.shape(feeds[name])
        if axis >= len(shape):
            raise FeedError(f'the value for input "{name}" has {len(shape)} axes, the model takes '
                            f"{self.inputs[name].type}")  # fmt: skip
        return int(shape[axis])

    def specialised(self, feeds: Mapping[str, Any]) -> Graph:
        """The graph for these values of the parameters, shapes of the shapeless inputs and sizes;
        other feeds do not matter. FeedError where a parameter is missing."""
        while True:
            key = self.choice(feeds)
            found = self._made.get(key)
            if found is not None:
                self._made.move_to_end(key)
                return found
            seen = [name for name, _ in self.deciding.values()]
            missing = [n for n in (*self.parameters, *self.shapeless, *seen) if n not in feeds]
            if missing:
                raise FeedError(f'cannot run: "{missing[0]}" is not fed',
                                "its value or shape decides the graph")  # fmt: skip
            known = Known({name: np.asarray(feeds[name]) for name in self.parameters},
                          {name: np.shape(feeds[name]) for name in self.shapeless},
                          {name: self._seen(name, feeds) for name in self.deciding})  # fmt: skip
            graph, more = self._build(known)
            if not more:
                self._made[key] = graph
                if len(self._made) > KEPT:
                    self._made.popitem(last=False)
                return graph
            self.parameters.update(more.values)
            self.deciding.update(more.sizes)

    def _refuse(self) -> NoReturn:
        names = ", ".join(f'"{n}"' for n in (*sorted(self.parameters), *self.shapeless,
                                             *sorted(self.deciding)))  # fmt: skip
        raise GraphError(f"graph {self.graph_name} depends on the values of {names}",
                         "run it in a session, or give them when loading: values= for inputs, "
                         "sizes= for dimensions")  # fmt: skip

    def function(self, name: str, outputs: Mapping[str, Value],
                 given: Collection[Value] = ()) -> Function:  # fmt: skip
        self._refuse()

    def results(self) -> list[Value]:
        self._refuse()

    def find(self, name: str) -> Value:
        if name in self.inputs:
            return self.inputs[name]
        self._refuse()


def _identity(value: Any) -> tuple[Any, ...]:
    """A key for an array: equal for equal arrays."""
    array = np.asarray(value)
    if array.nbytes > _MOST_BYTES:
        raise FeedError(f"a parameter of {array.nbytes} bytes is too large to build a graph for")
    return array.dtype.str, array.shape, array.tobytes()
