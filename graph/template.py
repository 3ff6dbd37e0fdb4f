"""Graphs that are built when the values of some inputs are known.

Where an input decides shapes or algorithms (the axes of a reduction, a new shape, how many elements
to keep), nothing can be compiled before it is there. A `Template` stands for such a computation: it
knows its inputs, and which of them are *parameters*; `specialised` makes the graph for their
values, in which they are constants. A session does so by itself, once for each set of values.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from typing import Any, NoReturn

import numpy as np

from ..dtypes import Array
from ..errors import FeedError, GraphError
from .definition import Graph
from .ir import Function, Value

KEPT = 64  # graphs made last
_MOST_BYTES = 1 << 16  # of a parameter

Build = Callable[[Mapping[str, Array], Mapping[str, tuple[int, ...]]], "tuple[Graph, set[str]]"]


class Template(Graph):
    """A graph for each set of values of its `parameters`.

    `build(values, shapes)` makes the graph for values of parameters, and shapes of inputs that
    state none, by name; with it come the names of parameters whose values are still missing (the
    graph is then of no use). `inputs` and `variables` are as in every graph; an input of unknown
    shape is not among the inputs but in `shapeless`.
    """

    def __init__(self, like: Graph, build: Build, parameters: Collection[str],
                 shapeless: Collection[str]) -> None:  # fmt: skip
        super().__init__(like.graph_name, like.seed)
        self.inputs, self.variables, self.symbols = like.inputs, like.variables, like.symbols
        self.parameters, self.shapeless = set(parameters), tuple(shapeless)
        self._build = build
        self._made: OrderedDict[tuple[Any, ...], Graph] = OrderedDict()

    def choice(self, feeds: Mapping[str, Any]) -> tuple[Any, ...]:
        """What of the feeds decides the graph: equal for feeds that run the same one."""
        return (*((name, *_identity(feeds[name])) for name in sorted(self.parameters)
                  if name in feeds),
                *((name, np.shape(feeds[name])) for name in self.shapeless
                  if name in feeds))  # fmt: skip

    def specialised(self, feeds: Mapping[str, Any]) -> Graph:
        """The graph for these values of the parameters and shapes of the shapeless inputs; other
        feeds do not matter. FeedError where a parameter is missing."""
        while True:
            key = self.choice(feeds)
            found = self._made.get(key)
            if found is not None:
                self._made.move_to_end(key)
                return found
            missing = [name for name in (*self.parameters, *self.shapeless) if name not in feeds]
            if missing:
                raise FeedError(f'cannot run: "{missing[0]}" is not fed',
                                "its value or shape decides the graph")  # fmt: skip
            values = {name: np.asarray(feeds[name]) for name in self.parameters}
            shapes = {name: np.shape(feeds[name]) for name in self.shapeless}
            graph, more = self._build(values, shapes)
            if not more:
                self._made[key] = graph
                if len(self._made) > KEPT:
                    self._made.popitem(last=False)
                return graph
            self.parameters |= more

    def _refuse(self) -> NoReturn:
        names = ", ".join(f'"{n}"' for n in (*sorted(self.parameters), *self.shapeless))
        raise GraphError(f"graph {self.graph_name} depends on the values of {names}",
                         "run it in a session, or give these values when loading: values={...}")  # fmt: skip

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
