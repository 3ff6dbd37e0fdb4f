"""What every layer is made of: names, shared variables, training or inference.

The convention of all layers: a CamelCase name is a class, configured first and called on values
afterwards (`Dense(10)(x)`); a lower-case name is a function of values (`relu(x)`). Images are
"channels first": `[batch, channels, height, width]`, sequences under convolution
`[batch, channels, length]`.
"""

from __future__ import annotations

import re
from inspect import signature
from typing import Any

import numpy as np

from ...dtypes import DType, as_dtype
from ...errors import ConfigError, GraphError, ShapeError
from ..definition import Graph, current_graph, variable
from ..initializers import get as get_initializer
from ..ir import Value
from ..ops.base import as_value
from . import mode

LAYOUTS = {
    1: "[batch, channels, length]",
    2: "[batch, channels, height, width]",
    3: "[batch, channels, depth, height, width]",
}
"""The axes of channels-first values, by their number of spatial axes."""


class Layer:
    """Something with a name, and perhaps variables, that is called on values.

    The first call makes the variables, in the graph of its operands; every later call uses the
    same ones. Calling it in another graph is a GraphError. Nodes made inside carry the layer's
    path, and the first result is found under it: `graph.find("conv1")`.

    Subclasses define `call`, of the operands and any options by name; they make variables with
    `weight`, in `call` or in `build`.
    """

    call: Any

    def __init__(self, name: str | None = None) -> None:
        if name is not None and not isinstance(name, str):
            raise ConfigError(f"{type(self).__name__}: a layer's name is a string, not {name!r}")
        self.name = name
        self.path = ""
        self.graph: Graph | None = None
        self.weights: dict[str, Value] = {}

    def __call__(self, *xs: Any, training: bool | None = None, **arguments: Any) -> Any:
        """The layer applied to `xs`. `training`: None means what `with fm.training():` says."""
        if training is not None:
            with mode.training(training):
                return self(*xs, **arguments)
        self._check_arguments(xs, arguments)
        values = [v for x in xs for v in (x if _several(x) else (x,))]
        found = next((v for v in values if isinstance(v, Value)), None)
        owner = found.node.owner if found is not None else current_graph()
        if not isinstance(owner, Graph):
            raise GraphError(f"{found!r} is not part of a graph under definition")
        first = self._enter(owner)
        before, owner.layer_path = owner.layer_path, self.path
        try:
            xs = tuple(x if _several(x) else as_value(x, owner=owner) for x in xs)
            if first:
                self.build(*xs)
            out = self.call(*xs, **arguments)
        except Exception:
            if first:  # a call that failed leaves layer and graph as they were
                for made in self.weights.values():
                    owner.drop_variable(made)
                self.graph, self.weights = None, {}
            raise
        finally:
            owner.layer_path = before
        if isinstance(out, Value) and self.path and self.path not in owner.values:
            owner.set_name(out, self.path)
        return out

    def _enter(self, graph: Graph) -> bool:
        """Binds the layer to `graph`; whether this is its first call."""
        if self.graph is None:
            outer = f"{graph.layer_path}/" if graph.layer_path else ""
            if self.name is None:
                self.path = graph.unique(outer + snake(type(self).__name__))
            else:
                self.path = outer + self.name
            self.name = self.path[len(outer) :]
            self.graph = graph
            return True
        if self.graph is not graph:
            raise GraphError(
                f'layer "{self.path}" has its variables in graph {self.graph.graph_name} and was '
                f"called in graph {graph.graph_name}",
                "make a new layer for the other graph, or clone the graph",
            )
        return False

    def build(self, *xs: Value) -> None:
        """Checks the operands of the first call and makes the variables that depend on them."""

    def _check_arguments(self, xs: tuple[Any, ...], arguments: dict[str, Any]) -> None:
        """ConfigError where `call` does not take these."""
        what = type(self).__name__
        if not hasattr(self, "call"):
            raise GraphError(f"{what} does not say what it computes", "define call(self, x)")
        wanted = signature(self.call)
        try:
            wanted.bind(*xs, **arguments)
        except TypeError as e:
            names = ", ".join(wanted.parameters)
            raise ConfigError(f"{what}: {e}", f"it is called on ({names})") from None
        if not xs and any(isinstance(v, Value) for v in arguments.values()):
            raise ConfigError(
                f"{what}: the first operand has no name", f"call it as {snake(what)}(x)"
            )

    def weight(
        self, name: str, shape: tuple[int, ...], initializer: Any, dtype: DType,
        trainable: bool = True,
    ) -> Value:  # fmt: skip
        """Makes the variable `path/name`."""
        given = isinstance(initializer, np.ndarray | list)
        start = initializer if given else get_initializer(initializer)
        made = variable(name, start, shape, dtype, trainable)
        self.weights[name] = made
        return made

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path or self.name or ''})"


def _several(x: Any) -> bool:
    """Whether an operand is a list of values, rather than of numbers."""
    return isinstance(x, list | tuple) and (not x or any(isinstance(v, Value) for v in x))


def snake(name: str) -> str:
    """ "MaxPool2D" to "max_pool2d"."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", "_", name).lower()


def known(x: Value, axis: int, what: str) -> int:
    """The size of an axis that a variable's shape depends on. ShapeError if it is symbolic."""
    if not -x.ndim <= axis < x.ndim:
        raise ShapeError(f"{what}: axis {axis} does not exist in {x.type}")
    size = x.shape[axis]
    if not isinstance(size, int):
        raise ShapeError(f"{what}: axis {axis} of {x.type} must be a number, not a symbol",
                         "variables have fixed shapes")  # fmt: skip
    return size


def require_rank(x: Value, rank: int, what: str, layout: str) -> None:
    """ShapeError unless `x` has `rank` axes; `layout` names them."""
    if x.ndim != rank:
        raise ShapeError(f"{what} wants {rank} axes, {layout}; it was given {x.type}")


def float_dtype(x: Value) -> DType:
    """The dtype of a layer's variables: that of its operand, float32 for integers and bools."""
    return x.dtype if x.dtype.is_float and x.dtype.computes else as_dtype("float32")
