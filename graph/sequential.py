"""`Sequential`: layers one after the other, as one layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..errors import ConfigError, GraphError
from .ir import Value
from .layers.base import Layer


class Sequential(Layer):
    """Calls its layers in order, each on the result of the one before.

    Any function of one value is a layer here: `fm.Sequential([fm.layers.Dense(64), fm.relu])`.
    With a `name`, the layers' names start with `name/`; without one they stand for themselves.
    """

    def __init__(
        self, layers: Iterable[Callable[[Value], Value]] = (), name: str | None = None
    ) -> None:
        super().__init__(name)
        self.layers: list[Callable[[Value], Value]] = []
        if not isinstance(layers, Iterable) or isinstance(layers, Value | str):
            raise ConfigError(f"Sequential: {layers!r} is no list of layers",
                              "fm.Sequential([layer, layer, ...])")  # fmt: skip
        for layer in layers:
            self.add(layer)

    def add(self, layer: Callable[[Value], Value]) -> None:
        """Appends a layer or a function of one value. ConfigError for anything else."""
        if not callable(layer) or isinstance(layer, type):
            raise ConfigError(f"{layer!r} is not a layer", "give a layer object or a function")
        self.layers.append(layer)

    def _enter(self, graph: Any) -> bool:
        if self.name is None and self.graph is None:
            self.path, self.graph = graph.layer_path, graph
            return True
        return super()._enter(graph)

    def call(self, x: Value) -> Any:
        for layer in self.layers:
            x = layer(x)
            if x is None:
                raise GraphError(f"Sequential: {layer!r} returned nothing", "return a value")
        return x

    def __repr__(self) -> str:
        return f"Sequential([{', '.join(map(repr, self.layers))}])"

    def __iter__(self) -> Iterator[Callable[[Value], Value]]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: int) -> Callable[[Value], Value]:
        return self.layers[index]
