"""The structure of fetches: values, names, lists, tuples and dicts of them, nested as the user likes.

In: what the user wrote. Out: the distinct values to compute, and how results are put back together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..dtypes import Array
from ..errors import FeedError, FetchError
from ..graph.definition import Graph
from ..graph.ir import Value

_HINT = "fetch a value, a name, or a list, tuple or dict of these"


class Fetches:
    """Fetches of one graph. `values` are the distinct ones, in order of appearance; `single` tells
    that the user asked for one value alone. FetchError for what is no part of the graph."""

    def __init__(self, graph: Graph, wanted: Any) -> None:
        self.graph = graph
        self._places: dict[Value, int] = {}
        self.single = not isinstance(wanted, list | tuple | Mapping)
        self.tree = self._place(wanted)
        self.values = list(self._places)

    def _place(self, wanted: Any) -> Any:
        """`wanted` with each value replaced by its number."""
        if isinstance(wanted, Mapping):
            return {k: self._place(v) for k, v in wanted.items()}
        if isinstance(wanted, list | tuple):
            return _like(wanted, [self._place(v) for v in wanted])
        return self._places.setdefault(self._value(wanted), len(self._places))

    def _value(self, wanted: Any) -> Value:
        if isinstance(wanted, str):
            return self.graph.find(wanted)
        if not isinstance(wanted, Value):
            raise FetchError(f"cannot fetch {wanted!r}", _HINT)
        if wanted.node.owner is not self.graph:
            raise FetchError(f"{wanted!r} belongs to another graph", f"{wanted.node.loc}")
        return wanted

    def rebuild(self, results: list[Array]) -> Any:
        """The results in the user's structure."""
        return _rebuilt(self.tree, results)

    def flat(self, out: Any) -> list[Array | None]:
        """`out`, given in the structure of the fetches, in the order of `values`. FeedError where
        its structure differs, or where one value is to be written to two arrays."""
        found: list[Array | None] = [None] * len(self.values)
        self._flatten(self.tree, out, found)
        return found

    def _flatten(self, tree: Any, out: Any, found: list[Array | None]) -> None:
        if out is None:
            return
        if isinstance(tree, dict):
            if not isinstance(out, Mapping) or not set(out) <= set(tree):
                raise FeedError(f"out must be a dict with the fetches' keys, {list(tree)}")
            for k, array in out.items():
                self._flatten(tree[k], array, found)
        elif isinstance(tree, list | tuple):
            if not isinstance(out, list | tuple) or len(out) != len(tree):
                raise FeedError(f"out must be a list of {len(tree)}, as the fetches are")
            for part, array in zip(tree, out):
                self._flatten(part, array, found)
        else:
            if found[tree] is not None and found[tree] is not out:
                raise FeedError(f"{self.values[tree]!r} is fetched twice, into two arrays")
            found[tree] = out


def _like(kind: Any, items: list[Any]) -> Any:
    """`items` as a list, tuple or named tuple like `kind`."""
    if isinstance(kind, list):
        return items
    return type(kind)(*items) if hasattr(kind, "_fields") else tuple(items)


def _rebuilt(tree: Any, results: list[Array]) -> Any:
    if isinstance(tree, dict):
        return {k: _rebuilt(v, results) for k, v in tree.items()}
    if isinstance(tree, list | tuple):
        return _like(tree, [_rebuilt(v, results) for v in tree])
    return results[tree]


def frozen(wanted: Any) -> Any:
    """A key for `wanted`. TypeError where it holds what no fetch can be."""
    if isinstance(wanted, list | tuple):
        return (type(wanted), *map(frozen, wanted))
    if isinstance(wanted, Mapping):
        return ("dict", *((k, frozen(v)) for k, v in wanted.items()))
    return wanted
