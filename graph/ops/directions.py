"""Recurrent networks in one direction or both, with the arguments of ONNX's RNN, GRU and LSTM.

Sequences are [time, batch, features], or [batch, time, features] with `batch_first`. Weights and
states have an axis of directions: w [directions, gates * units, features], r [directions,
gates * units, units], b [directions, 2 * gates * units] (of x, then of h), states [directions,
batch, units]. Out come all states [time, directions, batch, units] and the last ones; with
`batch_first` the batch is the first axis of them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ... import algorithm as alg
from ...dtypes import int64
from ...errors import ConfigError, ShapeError
from ..ir import CALLS, Value
from .base import as_value, graph_function, promoted
from .integer_products import matmul_integer
from .quantized import dynamic_quantize_linear
from .rnn import Function, Gru, Lstm, Recurrent, Rnn, Spec, activation, along_lstm, specs

DIRECTIONS = ("forward", "reverse", "bidirectional")


class _Network:
    """The operands of a network, checked and one dtype, and its ops direction by direction."""

    def __init__(self, what: str, op: type[Recurrent], x: Any, w: Any, r: Any, b: Any,
                 initial: Sequence[Any], lengths: Any, direction: str, batch_first: bool,
                 clip: float | None) -> None:  # fmt: skip
        if direction not in DIRECTIONS:
            raise ConfigError(f"{what}: direction {direction!r} is none of {', '.join(DIRECTIONS)}")
        if clip is not None and not clip > 0:
            raise ConfigError(f"{what}: clip must be positive, not {clip}")
        self.what, self.op, self.batch_first = what, op, batch_first
        v, self.w, self.r = promoted(x, w, r)
        self.count = 2 if direction == "bidirectional" else 1
        self.backwards = (False, True) if self.count == 2 else (direction == "reverse",)
        self.clip = None if clip is None else float(clip)
        if v.ndim != 3 or self.w.ndim != 3 or self.r.ndim != 3:
            raise ShapeError(f"{what}: a sequence has three axes, and so have the weights of all "
                             f"directions: got {v.type}, {self.w.type} and {self.r.type}")  # fmt: skip
        for weights in (self.w, self.r):
            if weights.shape[0] != self.count:
                raise ShapeError(f"{what}: {weights.type} are not weights for {self.count} "
                                 "directions")  # fmt: skip
        self.x = CALLS["transpose"](v, (1, 0, 2)) if batch_first else v
        self.units = self.r.shape[2]
        self.b = None if b is None else CALLS["cast"](as_value(b, v), v.dtype)
        if self.b is not None and self.b.shape != (self.count, 2 * op.gates * self.units):
            raise ShapeError(f"{what}: biases {self.b.type} are not one for each gate and each "
                             "operand of every direction")  # fmt: skip
        self.initial = [self.state(s) for s in initial]
        self.lengths = None if lengths is None else as_value(lengths, v)

    def state(self, given: Any) -> Value:
        """First states [directions, batch, units]; zeros where none are given."""
        shape = (self.count, self.x.shape[1], self.units)
        if given is None:
            return CALLS["full"](shape, 0, self.x.dtype, self.x.node.owner)  # type: ignore[no-any-return]
        v = CALLS["cast"](as_value(given, self.x), self.x.dtype)
        v = CALLS["transpose"](v, (1, 0, 2)) if self.batch_first and v.ndim == 3 else v
        if v.shape != shape:
            raise ShapeError(f"{self.what}: first states {as_value(given, self.x).type} do not fit "
                             f"the batch and units of {self.x.type} and {self.r.type}")  # fmt: skip
        return v  # type: ignore[no-any-return]

    def peepholes(self, given: Any) -> Value:
        """The weights [directions, 3 * units] with which cells act on gates."""
        v = CALLS["cast"](as_value(given, self.x), self.x.dtype)
        if v.shape != (self.count, 3 * self.units):
            raise ShapeError(f"{self.what}: peepholes {v.type} are not three numbers for each unit "
                             "of every direction")  # fmt: skip
        return v  # type: ignore[no-any-return]

    def biases(self, k: int) -> list[Value]:
        """The biases of direction k as the op wants them: of x and of h, or their sum."""
        size = self.op.gates * self.units
        if self.b is None:
            none = CALLS["full"]((size,), 0, self.x.dtype, self.x.node.owner)
            return [none] * self.op.biases
        pair = CALLS["split"](self.b[k], 2, 0)
        return list(pair) if self.op.biases == 2 else [pair[0] + pair[1]]

    def run(self, functions: Sequence[Spec], more: Sequence[Value] = (),
            **attributes: Any) -> tuple[Value, ...]:  # fmt: skip
        """All states and the last ones. `more`: what stands before the lengths, stacked."""
        each = len(functions) // self.count
        made: list[tuple[Value, ...]] = []
        for k in range(self.count):
            op = self.op(tuple(functions[k * each : (k + 1) * each]), self.backwards[k], self.clip,
                         self.lengths is not None, **attributes)  # fmt: skip
            operands = [self.x, self.w[k], self.r[k], *self.biases(k),
                        *(s[k] for s in self.initial), *(m[k] for m in more)]  # fmt: skip
            operands += [] if self.lengths is None else [self.lengths]
            made.append(self.x.node.owner.node(op, tuple(operands)).outputs)
        return self.stacked(made)

    def stacked(self, made: Sequence[tuple[Value, ...]]) -> tuple[Value, ...]:
        """The results of all directions as one, in the order of axes that is wanted."""
        stack, transpose = CALLS["stack"], CALLS["transpose"]
        every = stack([m[0] for m in made], 1)  # [time, directions, batch, units]
        last = [stack([m[k] for m in made], 0) for k in range(1, len(made[0]))]
        if self.batch_first:
            every = transpose(every, (2, 0, 1, 3))
            last = [transpose(v, (1, 0, 2)) for v in last]
        return (every, *last)

    def functions(self, given: Sequence[str] | None, default: Sequence[str],
                  alpha: Sequence[float] | None, beta: Sequence[float] | None) -> tuple[Spec, ...]:  # fmt: skip
        """The activations of all directions."""
        names = list(given) if given is not None else [*default] * self.count
        if len(names) == len(default) and self.count == 2:
            names = names * 2
        return specs(names, alpha, beta, len(default) * self.count, self.what)


@graph_function("rnn")
def rnn(
    x: Any, w: Any, r: Any, b: Any = None, initial_h: Any = None, lengths: Any = None,
    direction: str = "forward", activations: Sequence[str] | None = None,
    alpha: Sequence[float] | None = None, beta: Sequence[float] | None = None,
    clip: float | None = None, batch_first: bool = False,
) -> tuple[Value, Value]:  # fmt: skip
    """A plain recurrent network, `h = tanh(x @ w.T + h @ r.T + b)`: all states and the last one.

    `direction`: "forward", "reverse" or "bidirectional"; `activations` are ONNX's names, with
    `alpha` and `beta` for those that take them; `clip` bounds what goes into them; `lengths` [batch]
    says where each sequence ends. Shapes: see the module `graph.ops.directions`.
    """
    net = _Network("rnn", Rnn, x, w, r, b, [initial_h], lengths, direction, batch_first, clip)
    made = net.run(net.functions(activations, ("Tanh",), alpha, beta))
    return made[0], made[1]


@graph_function("gru")
def gru(
    x: Any, w: Any, r: Any, b: Any = None, initial_h: Any = None, lengths: Any = None,
    direction: str = "forward", activations: Sequence[str] | None = None,
    alpha: Sequence[float] | None = None, beta: Sequence[float] | None = None,
    clip: float | None = None, reset_after: bool = False, batch_first: bool = False,
) -> tuple[Value, Value]:  # fmt: skip
    """Gated recurrent units, gates in the order update, reset, new: all states and the last one.

    With `reset_after` (ONNX: linear_before_reset) the reset gate multiplies the product of h and its
    weights, else h. The rest is as for `rnn`; activations are those of the gates and of the new
    state.
    """
    net = _Network("gru", Gru, x, w, r, b, [initial_h], lengths, direction, batch_first, clip)
    functions = net.functions(activations, ("Sigmoid", "Tanh"), alpha, beta)
    made = net.run(functions, reset_after=bool(reset_after))
    return made[0], made[1]


@graph_function("lstm")
def lstm(
    x: Any, w: Any, r: Any, b: Any = None, initial_h: Any = None, initial_c: Any = None,
    lengths: Any = None, peepholes: Any = None, direction: str = "forward",
    activations: Sequence[str] | None = None, alpha: Sequence[float] | None = None,
    beta: Sequence[float] | None = None, clip: float | None = None, coupled: bool = False,
    batch_first: bool = False,
) -> tuple[Value, Value, Value]:  # fmt: skip
    """Long short-term memory, gates in the order input, output, forget, cell: all states h, the last
    one, and the last cell.

    `peepholes` [directions, 3 * units] let the cell act on the input, output and forget gates; with
    `coupled` (ONNX: input_forget) the forget gate is 1 - the input gate. The rest is as for `rnn`;
    activations are those of the gates, of the new cell and of the output.
    """
    net = _Network("lstm", Lstm, x, w, r, b, [initial_h, initial_c], lengths, direction,
                   batch_first, clip)  # fmt: skip
    more = [] if peepholes is None else [net.peepholes(peepholes)]
    functions = net.functions(activations, ("Sigmoid", "Tanh", "Tanh"), alpha, beta)
    made = net.run(functions, more, has_peepholes=bool(more), coupled=bool(coupled))
    return made[0], made[1], made[2]


@graph_function("dynamic_quantize_lstm")
def dynamic_quantize_lstm(
    x: Any, w: Any, r: Any, w_scale: Any, w_zero_point: Any, r_scale: Any, r_zero_point: Any,
    b: Any = None, initial_h: Any = None, initial_c: Any = None, lengths: Any = None,
    peepholes: Any = None, direction: str = "forward", activations: Sequence[str] | None = None,
    alpha: Sequence[float] | None = None, beta: Sequence[float] | None = None,
    clip: float | None = None, coupled: bool = False,
) -> tuple[Value, Value, Value]:  # fmt: skip
    """`lstm` with weights of 8 bits, multiplied in integers: the whole of x, and the h of all the
    batch at each step, are quantised with `dynamic_quantize_linear` first. So what a sequence gives
    depends on those beside it.

    Weights are w [directions, features, 4 * units] and r [directions, units, 4 * units]; scales
    and zero points are a number for each direction [directions], or for each of its columns
    [directions, 4 * units]. The rest is as for `lstm`. The operator com.microsoft's
    DynamicQuantizeLSTM means this; onnxruntime shares a batch among threads, and then quantises h
    by parts of it, and takes the h of sequences that have ended for 0.
    """
    v = as_value(x)
    given = [as_value(k, v) for k in (w, r)]
    for weights in given:
        if weights.ndim != 3:
            raise ShapeError(f"dynamic_quantize_lstm: weights {weights.type} do not have the axes "
                             "directions, features and gates")  # fmt: skip
    w_turned, r_turned = (CALLS["transpose"](weights, (0, 2, 1)) for weights in given)
    net = _Network("dynamic_quantize_lstm", Lstm, v, w_turned, r_turned, b, [initial_h, initial_c], lengths,
                   direction, False, clip)  # fmt: skip
    columns = 4 * net.units
    if any(weights.shape[2] != columns for weights in given):
        raise ShapeError(f"dynamic_quantize_lstm: {given[0].type} and {given[1].type} are not "
                         "weights of four gates of the same units")  # fmt: skip
    pairs = (w_scale, w_zero_point), (r_scale, r_zero_point)
    steps = [[as_value(p, v) for p in pair] for pair in pairs]
    for p in (p for pair in steps for p in pair):
        if p.shape not in ((net.count,), (net.count, columns)):
            raise ShapeError(f"dynamic_quantize_lstm: {p.type} is not a number for each of "
                             f"{net.count} directions, or for each of its columns")  # fmt: skip
    if net.lengths is not None:  # what no sequence reaches shall not count: 0 is in any range
        beyond = CALLS["iota"]((v.shape[0], 1, 1), 0, owner=v.node.owner)
        reached = beyond < CALLS["cast"](CALLS["reduce_max"](net.lengths), int64)
        net.x = alg.where(reached, net.x, 0.0)
    look = None if peepholes is None else net.peepholes(peepholes)
    functions = net.functions(activations, ("Sigmoid", "Tanh", "Tanh"), alpha, beta)
    made = []
    for k, backwards in enumerate(net.backwards):
        of_x, of_h = (_quantized_product(weights[k], scale[k], zero[k])
                      for weights, (scale, zero) in zip(given, steps))  # fmt: skip
        f, g, h = (activation(spec) for spec in functions[3 * k : 3 * k + 3])
        made.append(along_lstm(
            of_x(net.x) + net.biases(k)[0], of_h, tuple(s[k] for s in net.initial), f, g, h,
            None if look is None else look[k], coupled=coupled, clip=net.clip, lengths=net.lengths,
            reverse=backwards,
        ))  # fmt: skip
    every, last, cell = net.stacked(made)
    return every, last, cell


def _quantized_product(w: Value, scale: Value, zero_point: Value) -> Function:
    """x -> x @ ((w - zero_point) * scale), x being quantised as a whole."""

    def product(x: Value) -> Value:
        q, step, zero = dynamic_quantize_linear(x)
        sums = CALLS["cast"](matmul_integer(q, w, zero, zero_point), x.dtype)
        return sums * (step * scale)  # type: ignore[no-any-return]

    return product
