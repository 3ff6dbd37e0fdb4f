"""Recurrent layers: a cell run along the time axis by `scan`, and the gated networks LSTM and GRU.

Sequences come in as [batch, time, features]; the result is [batch, units], or [batch, time, units].
A cell is a layer that is called as `cell(x, states)` with x [batch, features] and states a tuple of
[batch, ...], and returns `(output, new states)`; `state_size` says what follows the batch in each
state.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ...dtypes import Array
from ...errors import ConfigError
from ..initializers import get as get_initializer
from ..ir import Value
from ..ops.arrange import flip
from ..ops.base import as_value
from ..ops.creation import full
from ..ops.linalg import matmul
from ..ops.recurrent import scan
from ..ops.rnn import along_gru, along_lstm, projected, recurrence
from ..ops.shape import concat, transpose
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

    def call(self, x: Value, states: Sequence[Value]) -> tuple[Value, tuple[Value, ...]]:
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

    def call(self, x: Value, initial_state: Any = None) -> Any:
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


class _Gated(Layer):
    """What LSTM and GRU share: weights as Keras has them, kernel [features, gates * units] and
    recurrent_kernel [units, gates * units], and what is done with all states."""

    gates: ClassVar[int]
    states: ClassVar[int] = 1

    def __init__(
        self, units: int, activation: ActivationLike = "tanh",
        recurrent_activation: ActivationLike = "sigmoid", use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform", recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros", return_sequences: bool = False,
        return_state: bool = False, go_backwards: bool = False, name: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name)
        (self.units,) = per_axis(units, 1, "units")
        self.activation = get_activation(activation)
        self.recurrent_activation = get_activation(recurrent_activation)
        self.use_bias, self.bias_initializer = use_bias, bias_initializer
        self.kernel_initializer = kernel_initializer
        self.recurrent_initializer = recurrent_initializer
        self.return_sequences, self.return_state = return_sequences, return_state
        self.go_backwards = go_backwards

    def build(self, *xs: Any) -> None:
        require_rank(xs[0], 3, type(self).__name__, "[batch, time, features]")
        dtype, wide = float_dtype(xs[0]), self.gates * self.units
        size = known(xs[0], -1, type(self).__name__)
        self.weight("kernel", (size, wide), self.kernel_initializer, dtype)
        self.weight("recurrent_kernel", (self.units, wide), self.recurrent_initializer, dtype)
        if self.use_bias:
            self.weight("bias", self.bias_shape(), self.first_bias, dtype)

    def bias_shape(self) -> tuple[int, ...]:
        return (self.gates * self.units,)

    def first_bias(self, generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
        """What the bias starts from."""
        return get_initializer(self.bias_initializer)(generator, shape)

    def call(
        self, *xs: Value, initial_state: Any = None, lengths: Any = None, **arguments: Any
    ) -> Any:
        """All of the sequences, or of each the first `lengths` [batch] elements: what follows
        changes no state and gives zeros."""
        (x,) = xs
        require_rank(x, 3, type(self).__name__, "[batch, time, features]")
        given = () if initial_state is None else initial_state
        states = tuple(given) if isinstance(given, tuple | list) else (given,)
        if initial_state is None:
            first = full((x.shape[0], self.units), 0, float_dtype(x), x.node.owner)
            states = (first,) * self.states
        if len(states) != self.states:
            raise ConfigError(f"{type(self).__name__} has {self.states} states, initial_state gives "
                              f"{len(states)}")  # fmt: skip
        ends = None if lengths is None else as_value(lengths, x)
        every, *last = self.along(transpose(x, (1, 0, 2)), states, ends)
        if not self.return_sequences:
            out = last[0]
        else:
            out = transpose(flip(every, 0) if self.go_backwards else every, (1, 0, 2))
        return (out, *last) if self.return_state else out

    def along(self, x: Value, first: tuple[Value, ...], lengths: Value | None) -> tuple[Value, ...]:
        """The states of all steps of x [time, batch, features], and the last ones."""
        raise NotImplementedError(type(self).__name__)


class LSTM(_Gated):
    """Long short-term memory (Hochreiter and Schmidhuber 1997) along axis 1 of [batch, time,
    features].

    The result is the last state h [batch, units], with `return_sequences` that of every step; with
    `return_state` a tuple of that, h and the cell c. States begin as zeros, or as the call's
    `initial_state` (h, c); its `lengths` [batch] say where sequences end. Gates stand in the order
    input, forget, cell, output, as in Keras; with `unit_forget_bias` the forget gate's bias begins
    at 1 (Jozefowicz et al. 2015). With `go_backwards` the last element comes first, and the results
    stand in the order of the steps. The input's part is one matrix product for all steps.
    """

    gates, states = 4, 2

    def __init__(
        self, units: int, activation: ActivationLike = "tanh",
        recurrent_activation: ActivationLike = "sigmoid", use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform", recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros", unit_forget_bias: bool = True,
        return_sequences: bool = False, return_state: bool = False, go_backwards: bool = False,
        name: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            units, activation, recurrent_activation, use_bias, kernel_initializer,
            recurrent_initializer, bias_initializer, return_sequences, return_state, go_backwards,
            name,
        )  # fmt: skip
        self.unit_forget_bias = unit_forget_bias

    def first_bias(self, generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
        out = np.array(super().first_bias(generator, shape), np.float64)
        if self.unit_forget_bias:
            out[self.units : 2 * self.units] = 1
        return out

    def along(self, x: Value, first: tuple[Value, ...], lengths: Value | None) -> tuple[Value, ...]:
        weights = self.weights
        steps = projected(x, weights["kernel"].T, weights.get("bias"))
        return along_lstm(
            steps, recurrence(weights["recurrent_kernel"].T), first, self.recurrent_activation,
            self.activation, self.activation, order="ifco", lengths=lengths,
            reverse=self.go_backwards,
        )  # fmt: skip


class GRU(_Gated):
    """A gated recurrent unit (Cho et al. 2014) along axis 1 of [batch, time, features].

    As `LSTM`, with one state. Gates stand in the order update, reset, new. With `reset_after` the
    reset gate multiplies what comes from the state after the matrix product, and bias is
    [2, 3 * units], of what comes from x and from the state; else it multiplies the state.
    """

    gates = 3

    def __init__(
        self, units: int, activation: ActivationLike = "tanh",
        recurrent_activation: ActivationLike = "sigmoid", use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform", recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros", return_sequences: bool = False,
        return_state: bool = False, go_backwards: bool = False, reset_after: bool = True,
        name: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            units, activation, recurrent_activation, use_bias, kernel_initializer,
            recurrent_initializer, bias_initializer, return_sequences, return_state, go_backwards,
            name,
        )  # fmt: skip
        self.reset_after = reset_after

    def bias_shape(self) -> tuple[int, ...]:
        wide = self.gates * self.units
        return (2, wide) if self.reset_after else (wide,)

    def along(self, x: Value, first: tuple[Value, ...], lengths: Value | None) -> tuple[Value, ...]:
        bias = self.weights.get("bias")
        below = None
        if bias is not None and self.reset_after:
            bias, below = bias[0], bias[1]
        steps = projected(x, self.weights["kernel"].T, bias)
        return along_gru(
            steps, self.weights["recurrent_kernel"].T, below, first, self.recurrent_activation,
            self.activation, self.reset_after, lengths=lengths, reverse=self.go_backwards,
        )  # fmt: skip


class Bidirectional(Layer):
    """A recurrent layer and a copy of it that goes the other way, over [batch, time, features].

    Their results are joined as `merge_mode` says: "concat", "sum", "mul", "ave", or None for a tuple
    of both. Those of the second stand in the order of time. With the layer's `return_state` the
    states of both follow; `initial_state` of a call gives those of both.
    """

    def __init__(
        self, layer: Layer, merge_mode: str | None = "concat", name: str | None = None
    ) -> None:
        super().__init__(name)
        if not hasattr(layer, "go_backwards") or layer.graph is not None:
            raise ConfigError(f"Bidirectional: {layer!r} is no new recurrent layer",
                              "give LSTM(...), GRU(...), SimpleRNN(...) or RNN(...)")  # fmt: skip
        if merge_mode not in ("concat", "sum", "mul", "ave", None):
            raise ConfigError(f'merge_mode must be "concat", "sum", "mul", "ave" or None, not '
                              f"{merge_mode!r}")  # fmt: skip
        self.merge_mode = merge_mode
        self.forward_layer: Any = layer
        self.backward_layer: Any = copy.deepcopy(layer)
        self.backward_layer.go_backwards = not layer.go_backwards
        self.forward_layer.name, self.backward_layer.name = "forward", "backward"

    def call(self, x: Value, initial_state: Any = None, **arguments: Any) -> Any:
        firsts: tuple[Any, Any] = (None, None)
        if initial_state is not None:
            half = len(initial_state) // 2
            firsts = tuple(initial_state[:half]), tuple(initial_state[half:])
        layers = (self.forward_layer, self.backward_layer)
        made = [layer(x, initial_state=first, **arguments)
                for layer, first in zip(layers, firsts)]  # fmt: skip
        pairs = [m if isinstance(m, tuple) else (m,) for m in made]
        a, b = pairs[0][0], pairs[1][0]
        if self.forward_layer.return_sequences:
            b = flip(b, 1)
        merged = self.merged(a, b)
        if not self.forward_layer.return_state:
            return merged
        return (*(merged if isinstance(merged, tuple) else (merged,)), *pairs[0][1:], *pairs[1][1:])

    def merged(self, a: Value, b: Value) -> Any:
        """Both results as `merge_mode` says."""
        if self.merge_mode == "concat":
            return concat([a, b], -1)
        if self.merge_mode == "mul":
            return a * b
        if self.merge_mode is None:
            return a, b
        return a + b if self.merge_mode == "sum" else (a + b) * 0.5
