"""Activation layers: functions of one value, applied element by element or along one axis.

The functions themselves are ops and reached as `fm.relu`, `fm.gelu`... or `fm.layers.relu`. Here
are their names for `activation="relu"`, and the two forms that are layers: `Activation`, which
makes one of them an object with a name, and `PReLU`, which learns its slope.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from ...errors import ConfigError
from ..ir import Value
from ..ops.activation import (
    celu,
    elu,
    gelu,
    hard_sigmoid,
    hard_swish,
    leaky_relu,
    mish,
    prelu,
    relu,
    selu,
    silu,
    softsign,
)
from ..ops.base import normal_axes
from ..ops.elementary import sigmoid, softplus, tanh
from ..ops.softmax import log_softmax, softmax
from .base import Layer, float_dtype, known

ActivationLike: TypeAlias = "str | Callable[[Value], Value] | None"


def linear(x: Value) -> Value:
    """x itself."""
    return x


ACTIVATIONS: dict[str, Callable[..., Value]] = {
    "linear": linear, "relu": relu, "leaky_relu": leaky_relu, "elu": elu, "celu": celu, "selu": selu,
    "gelu": gelu, "silu": silu, "swish": silu, "sigmoid": sigmoid, "hard_sigmoid": hard_sigmoid,
    "hard_swish": hard_swish, "tanh": tanh, "softplus": softplus, "softsign": softsign,
    "mish": mish, "softmax": softmax, "log_softmax": log_softmax,
}  # fmt: skip


def get(spec: ActivationLike) -> Callable[[Value], Value]:
    """The function for a name, a function, or None (no activation). ConfigError otherwise."""
    if spec is None:
        return linear
    if isinstance(spec, str):
        found = ACTIVATIONS.get(spec)
        if found is None:
            raise ConfigError(f"no activation is named {spec!r}",
                              f"known: {', '.join(ACTIVATIONS)}")  # fmt: skip
        return found
    if not callable(spec):
        raise ConfigError(f"{spec!r} is not an activation",
                          "give a name, or a function of one value")  # fmt: skip
    return spec


class Activation(Layer):
    """The activation `function`, a name or a function, as a layer with a name."""

    def __init__(self, function: ActivationLike, name: str | None = None) -> None:
        super().__init__(name)
        self.function = get(function)

    def call(self, x: Value) -> Value:
        return self.function(x)


class PReLU(Layer):
    """x where x > 0, else `alpha * x`; alpha is learned (He et al. 2015).

    Without `shared_axes` every element of an example has a slope of its own; `shared_axes=(2, 3)`
    gives a convolution's channels one each. Axis 0 is the batch and always shared.
    """

    def __init__(
        self, alpha_initializer: Any = "zeros", shared_axes: int | Sequence[int] = (),
        name: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name)
        self.alpha_initializer, self.shared_axes = alpha_initializer, shared_axes

    def build(self, *xs: Value) -> None:
        (x,) = xs
        shared = normal_axes(self.shared_axes, x.ndim)
        shape = tuple(1 if a in shared else known(x, a, "PReLU") for a in range(1, x.ndim))
        self.weight("alpha", shape, self.alpha_initializer, float_dtype(x))

    def call(self, x: Value) -> Value:
        return prelu(x, self.weights["alpha"])
