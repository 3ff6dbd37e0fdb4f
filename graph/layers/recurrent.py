"""Recurrent layers: a cell run along the time axis by `scan`.

Sequences come in as [batch, time, features]; the result is [batch, units], or [batch, time, units].
A cell is a layer that is called as `cell(x, states)` with x [batch, features] and states a tuple of
[batch, ...], and returns `(output, new states)`; `state_size` says what follows the batch in each
state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...errors import ConfigError
from ..ir import Value
from ..ops.arrange import flip
from ..ops.creation import full
from ..ops.linalg import matmul
from ..ops.recurrent import scan
from ..ops.shape import transpose
from ..ops.windows import per_axis
from .activation import ActivationLike
from .activation import get as get_activation
from .base import Layer, float_dtype, known, require_rank


class SimpleRNNCell(Layer):
    """One step of `SimpleRNN`: `h = activation(x @ kernel + h @ recurrent_kernel + bias)`."""

    def __init__(
        self, units: int, activation: ActivationLike = "tanh", use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform", recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros", name: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name)
        (self.units,) = per_axis(units, 1, "units")
        self.state_size = self.units
        self.activation, self.use_bias = get_activation(activation), use_bias
        self.kernel_initializer, self.bias_initializer = kernel_initializer, bias_initializer
        self.recurrent_initializer = recurrent_initializer

    def build(self, *xs: Any) -> None:
        dtype = float_dtype(xs[0])
        size = known(xs[0], -1, type(self).__name__)
        self.weight("kernel", (size, self.units), self.kernel_initializer, dtype)
        self.weight("recurrent_kernel", (self.units, self.units), self.recurrent_initializer, dtype)
        if self.use_bias:
            self.weight("bias", (self.units,), self.bias_initializer, dtype)

    def call(self, *xs: Any, **arguments: Any) -> tuple[Value, tuple[Value, ...]]:
        x, states = xs
        out = matmul(x, self.weights["kernel"])
        if self.use_bias:
            out = out + self.weights["bias"]
        out = self.activation(out + matmul(states[0], self.weights["recurrent_kernel"]))
        return out, (out,)


class RNN(Layer):
    """`cell` run along axis 1 of [batch, time, features].

    The result is the output of the last step, or with `return_sequences` of every step; with
    `return_state` a tuple of that and the last states. States begin as zeros, or as the call's
    `initial_state`, one value or a tuple of them. With `go_backwards` the last element comes first,
    and the results stand in the order of the steps.
    """

    def __init__(
        self, cell: Any, return_sequences: bool = False, return_state: bool = False,
        go_backwards: bool = False, name: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name)
        if not hasattr(cell, "state_size"):
            raise ConfigError(f"RNN: {cell!r} is no cell", "a cell is a layer with a state_size")
        self.cell = cell
        self.return_sequences, self.return_state = return_sequences, return_state
        self.go_backwards = go_backwards

    def call(self, *xs: Value, initial_state: Any = None, **arguments: Any) -> Any:
        (x,) = xs
        require_rank(x, 3, type(self).__name__, "[batch, time, features]")
        steps = transpose(x, (1, 0, 2))
        shown: list[int | None] = []  # the state that is the output, if one is

        def step(states: tuple[Value, ...], x: Value) -> tuple[tuple[Value, ...], Value | None]:
            output, after = self.cell(x, states)
            same = [k for k, v in enumerate(after) if v is output]
            shown.append(same[0] if same and not self.return_sequences else None)
            return tuple(after), output if shown[0] is None else None

        states, outputs = scan(step, self._first(x, initial_state), steps, None, self.go_backwards)
        if shown[0] is not None:  # the last of all outputs need not be stacked to be found
            out = states[shown[0]]
        elif not self.return_sequences:
            out = outputs[0 if self.go_backwards else -1]
        else:
            outputs = flip(outputs, 0) if self.go_backwards else outputs
            out = transpose(outputs, (1, 0, *range(2, outputs.ndim)))
        return (out, *states) if self.return_state else out

    def _first(self, x: Value, given: Any) -> tuple[Any, ...]:
        size = self.cell.state_size
        sizes = tuple(size) if isinstance(size, Sequence) else (size,)
        if given is None:
            dtype = float_dtype(x)
            return tuple(full((x.shape[0], n), 0, dtype, x.node.owner) for n in sizes)
        states = tuple(given) if isinstance(given, tuple | list) else (given,)
        if len(states) != len(sizes):
            raise ConfigError(f"{type(self).__name__} has {len(sizes)} states, initial_state gives "
                              f"{len(states)}")  # fmt: skip
        return states


class SimpleRNN(RNN):
    """`h = activation(x @ kernel + h @ recurrent_kernel + bias)` along the time axis, an `RNN`.

    kernel is [features, units], recurrent_kernel [units, units].
    """

    def __init__(
        self, units: int, activation: ActivationLike = "tanh", use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform", recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros", return_sequences: bool = False,
        return_state: bool = False, go_backwards: bool = False, name: str | None = None,
    ) -> None:  # fmt: skip
        cell = SimpleRNNCell(units, activation, use_bias, kernel_initializer,
                             recurrent_initializer, bias_initializer, name="cell")  # fmt: skip
        super().__init__(cell, return_sequences, return_state, go_backwards, name)
