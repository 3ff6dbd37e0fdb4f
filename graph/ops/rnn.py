"""Recurrent networks along a sequence: plain, with gated units (GRU), with long short-term memory.

In: a sequence [time, batch, features], weights as ONNX has them: w [gates * units, features],
r [gates * units, units], biases [gates * units]. The input's part of every step is one matrix
product before the loop; a `scan` does what depends on the step before. Out: the states of all steps
[time, batch, units], and the last ones [batch, units].

`Rnn`, `Gru` and `Lstm` are one direction each; `rnn`, `gru` and `lstm` are what users call, for both
directions too. The functions `along_*` are the loops themselves, for any activation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ... import algorithm as alg
from ...dims import Dim, show
from ...dtypes import Array, int64
from ...errors import ConfigError, DTypeError, ShapeError
from ..ir import CALLS, TensorType, Value
from .base import Op, sample
from .recurrent import scan
from .shape import concat

Spec: TypeAlias = tuple[str, float, float]
"""An activation: its ONNX name, alpha and beta."""
Function: TypeAlias = Callable[[Value], Value]

# name -> the values of alpha and beta where none are given, and the function of x, alpha, beta
ACTIVATIONS: dict[str, tuple[float, float, Callable[[Any, float, float], Any]]] = {
    "Tanh": (0, 0, lambda x, a, b: alg.tanh(x)),
    "Sigmoid": (0, 0, lambda x, a, b: alg.sigmoid(x)),
    "Relu": (0, 0, lambda x, a, b: alg.maximum(x, 0.0)),
    "Affine": (1, 0, lambda x, a, b: x * a + b),
    "LeakyRelu": (0.01, 0, lambda x, a, b: alg.where(x > 0, x, x * a)),
    "ThresholdedRelu": (1, 0, lambda x, a, b: alg.where(x > a, x, 0.0)),
    "ScaledTanh": (1, 1, lambda x, a, b: alg.tanh(x * b) * a),
    "HardSigmoid": (0.2, 0.5, lambda x, a, b: alg.minimum(alg.maximum(x * a + b, 0.0), 1.0)),
    "Elu": (1, 0, lambda x, a, b: CALLS["elu"](x, a)),
    "Softsign": (0, 0, lambda x, a, b: CALLS["softsign"](x)),
    "Softplus": (0, 0, lambda x, a, b: alg.softplus(x)),
}
_REFS: dict[str, Callable[[Array, float, float], Array]] = {
    "Tanh": lambda x, a, b: np.tanh(x),
    "Sigmoid": lambda x, a, b: 0.5 + 0.5 * np.tanh(x / 2),
    "Relu": lambda x, a, b: np.maximum(x, 0),
    "Affine": lambda x, a, b: a * x + b,
    "LeakyRelu": lambda x, a, b: np.where(x < 0, a * x, x),
    "ThresholdedRelu": lambda x, a, b: np.where(x > a, x, 0),
    "ScaledTanh": lambda x, a, b: a * np.tanh(b * x),
    "HardSigmoid": lambda x, a, b: np.clip(a * x + b, 0, 1),
    "Elu": lambda x, a, b: np.where(x < 0, a * np.expm1(np.minimum(x, 0)), x),
    "Softsign": lambda x, a, b: x / (1 + np.abs(x)),
    "Softplus": lambda x, a, b: np.logaddexp(x, 0),
}


def activation(spec: Spec) -> Function:
    """The function of graph values that a spec names."""
    name, alpha, beta = spec
    build = ACTIVATIONS[name][2]
    return lambda x: build(x, alpha, beta)


def specs(names: Sequence[str], alpha: Sequence[float] | None, beta: Sequence[float] | None,
          count: int, what: str) -> tuple[Spec, ...]:  # fmt: skip
    """Specs of `count` activations. As in ONNX, alphas and betas go to the activations that take
    one, in order; those that get none have their defaults. ConfigError for unknown names."""
    if len(names) != count:
        raise ConfigError(f"{what}: {len(names)} activations are given, {count} are wanted")
    left = [list(alpha or ()), list(beta or ())]
    out: list[Spec] = []
    for name in names:
        known = next((k for k in ACTIVATIONS if k.lower() == name.lower()), None)
        if known is None:
            raise ConfigError(f"{what}: no activation is named {name!r}",
                              f"known: {', '.join(ACTIVATIONS)}")  # fmt: skip
        pair = []
        for k, default in enumerate(ACTIVATIONS[known][:2]):
            takes = (known in TAKE_ALPHA) if k == 0 else (known in TAKE_BETA)
            pair.append(float(left[k].pop(0)) if takes and left[k] else float(default))
        out.append((known, pair[0], pair[1]))
    return tuple(out)


TAKE_ALPHA = ("Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu")
TAKE_BETA = ("Affine", "ScaledTanh", "HardSigmoid")


# --- the loops -----------------------------------------------------------------------------------


def projected(x: Value, w: Value, bias: Value | None) -> Value:
    """x [time, batch, features] times w [gates * units, features] plus a bias, all steps at once."""
    out: Value = CALLS["matmul"](x, CALLS["transpose"](w, (1, 0)))
    return out if bias is None else out + bias


def recurrence(r: Value) -> Function:
    """What a state h [batch, units] adds to the gates with weights r [gates * units, units]."""
    back = CALLS["transpose"](r, (1, 0))
    return lambda h: CALLS["matmul"](h, back)


def clipped(x: Value, clip: float | None) -> Value:
    """x between -clip and clip; None: as it is."""
    return x if clip is None else alg.minimum(alg.maximum(x, -clip), clip)


def _loop(
    step: Callable[..., tuple[Any, ...]], first: tuple[Value, ...], x: Value, lengths: Value | None,
    reverse: bool,
) -> tuple[Value, ...]:  # fmt: skip
    """`states = step(states, x[t])` along the sequence; the first state of every step, stacked, and
    the last states. Steps beyond the length of a sequence change nothing and give zeros."""
    if lengths is None:

        def plain(states: tuple[Value, ...], element: Value) -> tuple[Any, Value]:
            after = step(states, element)
            return after, after[0]

        last, every = scan(plain, first, x, reverse=reverse)
        return (every, *last)
    limit = CALLS["expand_dims"](CALLS["cast"](lengths, int64), 1)
    numbers = CALLS["iota"]((x.shape[0],), owner=x.node.owner)

    def masked(states: tuple[Value, ...], element: tuple[Value, Value]) -> tuple[Any, Value]:
        now = element[1] < limit
        after = tuple(alg.where(now, new, old) for new, old in
                      zip(step(states, element[0]), states))  # fmt: skip
        return after, alg.where(now, after[0], 0.0)

    last, every = scan(masked, first, (x, numbers), reverse=reverse)
    return (every, *last)


def _parts(x: Value, order: str) -> dict[str, Value]:
    """The gates that lie side by side along the last axis, by letter."""
    return dict(zip(order, CALLS["split"](x, len(order), -1)))


def along_rnn(
    x: Value, r: Value, first: tuple[Value, ...], f: Function, clip: float | None = None,
    lengths: Value | None = None, reverse: bool = False,
) -> tuple[Value, ...]:  # fmt: skip
    """h = f(x + h @ r.T) for a projected sequence x [time, batch, units]."""
    below = recurrence(r)

    def step(states: tuple[Value, ...], element: Value) -> tuple[Value, ...]:
        return (f(clipped(element + below(states[0]), clip)),)

    return _loop(step, first, x, lengths, reverse)


def along_gru(
    x: Value, r: Value, recurrent_bias: Value | None, first: tuple[Value, ...], f: Function,
    g: Function, reset_after: bool = False, order: str = "zrh", clip: float | None = None,
    lengths: Value | None = None, reverse: bool = False,
) -> tuple[Value, ...]:  # fmt: skip
    """h = (1 - z) * n + z * h, with the update gate z, the reset gate r and the new state n. The
    reset gate multiplies h before the matrix product, or its result with `reset_after`. Gates
    stand in `order`; `recurrent_bias` is added to what comes from h, for the new state before the
    reset gate multiplies it with `reset_after`."""
    back = CALLS["transpose"](r, (1, 0))
    matmul = CALLS["matmul"]
    if not reset_after and recurrent_bias is not None:
        x, recurrent_bias = x + recurrent_bias, None
    matrices = _parts(back, order)
    both = concat([matrices["z"], matrices["r"]], -1)

    def step(states: tuple[Value, ...], element: Value) -> tuple[Value, ...]:
        (h,) = states
        part = _parts(element, order)
        if reset_after:
            below = matmul(h, back)
            below = below if recurrent_bias is None else below + recurrent_bias
            from_h = _parts(below, order)
        else:
            from_h = _parts(matmul(h, both), "zr")
        z = f(clipped(part["z"] + from_h["z"], clip))
        reset = f(clipped(part["r"] + from_h["r"], clip))
        more = reset * from_h["h"] if reset_after else matmul(reset * h, matrices["h"])
        new = g(clipped(part["h"] + more, clip))
        return ((1.0 - z) * new + z * h,)

    return _loop(step, first, x, lengths, reverse)


def along_lstm(
    x: Value, below: Function, first: tuple[Value, ...], f: Function, g: Function, h: Function,
    peepholes: Value | None = None, order: str = "iofc", coupled: bool = False,
    clip: float | None = None, lengths: Value | None = None, reverse: bool = False,
) -> tuple[Value, ...]:  # fmt: skip
    """c = forget * c + input * g(...), h = output * h(c), the gates being f(...) each and standing
    in `order`. To them a projected sequence x adds, and `below` of h (see `recurrence`).
    `peepholes` [3 * units] for input, output and forget gate multiply the cell; with `coupled`
    gates the forget gate is 1 - the input gate."""
    look = None if peepholes is None else _parts(peepholes, "iof")

    def step(states: tuple[Value, ...], element: Value) -> tuple[Value, ...]:
        state, cell = states
        gates = _parts(element + below(state), order)

        def gate(name: str, seen: Value) -> Value:
            total = gates[name] if look is None else gates[name] + look[name] * seen
            return f(clipped(total, clip))

        opened = gate("i", cell)
        kept = 1.0 - opened if coupled else gate("f", cell)
        made = kept * cell + opened * g(clipped(gates["c"], clip))
        return gate("o", made) * h(clipped(made, clip)), made

    return _loop(step, first, x, lengths, reverse)


# --- the ops: one direction ----------------------------------------------------------------------


@dataclass(frozen=True)
class Recurrent(Op, abstract=True):
    """Operands: x [time, batch, features], w, r, biases, first states [batch, units], and with
    `has_lengths` the lengths [batch] of the sequences. In `reverse` the last step comes first."""

    activations: tuple[Spec, ...]
    reverse: bool = False
    clip: float | None = None
    has_lengths: bool = False
    arity = None
    gates = 1
    biases = 1
    states = 1

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        wanted = 3 + self.biases + self.states + self.has_lengths + self.more()
        if len(types) != wanted:
            raise ShapeError(f"there are {len(types)} operands instead of {wanted}")
        x, w, r = types[:3]
        floats = types[: 3 + self.biases + self.states]
        for t in floats:
            if not t.dtype.is_float or not t.dtype.computes or t.dtype != x.dtype:
                raise DTypeError(
                    f"not defined for {x.dtype} and {t.dtype}", "cast to float32 first"
                )
        if x.ndim != 3 or w.ndim != 2 or r.ndim != 2:
            raise ShapeError(f"a sequence is [time,batch,features], weights are matrices: got {x}, "
                             f"{w} and {r}")  # fmt: skip
        units = r.shape[1]
        shapes = [(self.gates * units, x.shape[2]), (self.gates * units, units),
                  *[(self.gates * units,)] * self.biases, *[(x.shape[1], units)] * self.states]  # fmt: skip
        for t, shape in zip(types[1:], shapes):
            if t.shape != shape:
                text = ",".join(show(d) for d in shape)
                raise ShapeError(f"{t} should be [{text}] for {x} and {show(units)} units")
        if self.has_lengths and (types[wanted - 1].shape != (x.shape[1],)
                                 or not types[wanted - 1].dtype.is_integer):  # fmt: skip
            raise ShapeError(f"{types[wanted - 1]} does not hold the length of each of {x}")
        known = all(name in ACTIVATIONS for name, *_ in self.activations)
        if not known or len(self.activations) != self.functions():
            raise ShapeError(f"activations {self.activations} are not {self.functions()} of "
                             f"{', '.join(ACTIVATIONS)}")  # fmt: skip
        last = TensorType(x.dtype, (x.shape[1], units))
        return (TensorType(x.dtype, (x.shape[0], *last.shape)), *[last] * self.states)

    def more(self) -> int:
        """How many operands there are before the lengths besides those all have."""
        return 0

    def functions(self) -> int:
        """How many activations the op has."""
        return {1: 1, 3: 2, 4: 3}[self.gates]

    def split(self, xs: Sequence[Any]) -> tuple[Any, Any, list[Any], tuple[Any, ...], Any]:
        """w, r, biases, first states and lengths among the operands."""
        at = 3 + self.biases
        lengths = xs[-1] if self.has_lengths else None
        return xs[1], xs[2], list(xs[3:at]), tuple(xs[at : at + self.states]), lengths

    def calls(self) -> list[Function]:
        return [activation(spec) for spec in self.activations]

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        steps = types[0].shape[0] * types[0].shape[1]
        return steps * (types[1].size + types[2].size) * 2

    def ref(self, *xs: Array) -> Any:
        w, r, biases, first, lengths = self.split(
            [a.astype(np.float64) if a.dtype.kind == "f" else a for a in xs])  # fmt: skip
        x = xs[0].astype(np.float64)
        states = [np.array(s) for s in first]
        out = np.zeros((*x.shape[:2], r.shape[1]))
        for t in range(len(x))[:: -1 if self.reverse else 1]:
            after = self.step_ref(x[t], w, r, biases, states, xs)
            now = np.full(x.shape[1], True) if lengths is None else t < lengths
            states = [np.where(now[:, None], new, old) for new, old in zip(after, states)]
            out[t] = np.where(now[:, None], after[0], 0)
        return tuple(a.astype(xs[0].dtype) for a in (out, *states))

    def applied_ref(self, k: int, x: Array) -> Array:
        """For references: activation k of a clipped value."""
        name, alpha, beta = self.activations[k]
        limit = np.inf if self.clip is None else self.clip
        return _REFS[name](np.clip(x, -limit, limit), alpha, beta)

    def step_ref(self, x: Array, w: Array, r: Array, biases: list[Array], states: list[Array],
                 xs: Sequence[Array]) -> list[Array]:  # fmt: skip
        """For references: the states after one step."""
        raise NotImplementedError


_TANH, _SIGMOID = ("Tanh", 0.0, 0.0), ("Sigmoid", 0.0, 0.0)


@dataclass(frozen=True)
class Rnn(Recurrent):
    """h = f(x @ w.T + h @ r.T + b) along a sequence."""

    onnx = "RNN"
    samples = (sample((4, 2, 3), (5, 3), (5, 5), (5,), (2, 5), activations=(_TANH,)),
               sample((3, 2, 3), (4, 3), (4, 4), (4,), (2, 4), (2,), low=0, high=2,
                      dtypes=(*("float64",) * 5, "int32"), activations=(("Affine", 0.5, 0.1),),
                      reverse=True, has_lengths=True, clip=2.0, gradient=False))  # fmt: skip

    def expand(self, *xs: Value) -> Any:
        w, r, (b,), first, lengths = self.split(xs)
        (f,) = self.calls()
        return along_rnn(projected(xs[0], w, b), r, first, f, self.clip, lengths, self.reverse)

    def step_ref(self, x: Array, w: Array, r: Array, biases: list[Array], states: list[Array],
                 xs: Sequence[Array]) -> list[Array]:  # fmt: skip
        return [self.applied_ref(0, x @ w.T + states[0] @ r.T + biases[0])]


@dataclass(frozen=True)
class Gru(Recurrent):
    """A gated recurrent unit (Cho et al. 2014) along a sequence; gates are update, reset, new. There
    are two biases, of what comes from x and of what comes from h; with `reset_after` the reset gate
    multiplies what comes from h, bias included, else h itself."""

    reset_after: bool = False
    onnx = "GRU"
    gates, biases = 3, 2
    samples = (sample((3, 2, 3), (12, 3), (12, 4), (12,), (12,), (2, 4),
                      activations=(_SIGMOID, _TANH)),
               sample((3, 2, 3), (12, 3), (12, 4), (12,), (12,), (2, 4), (2,), low=0, high=2,
                      dtypes=(*("float64",) * 6, "int64"), has_lengths=True, reset_after=True,
                      activations=(("HardSigmoid", 0.3, 0.4), ("ScaledTanh", 0.7, 0.6)),
                      gradient=False))  # fmt: skip

    def expand(self, *xs: Value) -> Any:
        w, r, (b, below), first, lengths = self.split(xs)
        f, g = self.calls()
        return along_gru(projected(xs[0], w, b), r, below, first, f, g, self.reset_after,
                         clip=self.clip, lengths=lengths, reverse=self.reverse)  # fmt: skip

    def step_ref(self, x: Array, w: Array, r: Array, biases: list[Array], states: list[Array],
                 xs: Sequence[Array]) -> list[Array]:  # fmt: skip
        (h,) = states
        xz, xr, xn = np.split(x @ w.T + biases[0], 3, 1)
        rz, rr, rn = np.split(r, 3)
        bz, br, bn = np.split(biases[1], 3)
        z = self.applied_ref(0, xz + h @ rz.T + bz)
        reset = self.applied_ref(0, xr + h @ rr.T + br)
        more = reset * (h @ rn.T + bn) if self.reset_after else (reset * h) @ rn.T + bn
        return [(1 - z) * self.applied_ref(1, xn + more) + z * h]


@dataclass(frozen=True)
class Lstm(Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber 1997) along a sequence; gates are input,
    output, forget, cell. First states are h and the cell; with `has_peepholes` weights [3 * units]
    for input, output and forget gate follow them; with `coupled` the forget gate is 1 - input."""

    has_peepholes: bool = False
    coupled: bool = False
    onnx = "LSTM"
    gates, states = 4, 2
    samples = (sample((3, 2, 3), (16, 3), (16, 4), (16,), (2, 4), (2, 4),
                      activations=(_SIGMOID, _TANH, _TANH)),
               sample((3, 2, 3), (16, 3), (16, 4), (16,), (2, 4), (2, 4), (12,), (2,), low=0, high=2,
                      dtypes=(*("float64",) * 7, "int32"), has_lengths=True, has_peepholes=True,
                      coupled=True, reverse=True, clip=3.0, gradient=False,
                      activations=(_SIGMOID, ("Softsign", 0.0, 0.0), ("Elu", 0.5, 0.0))),
               sample((2, 2, 3), (16, 3), (16, 4), (16,), (2, 4), (2, 4), (12,),
                      has_peepholes=True, activations=(_SIGMOID, _TANH, _TANH)))  # fmt: skip

    def more(self) -> int:
        return int(self.has_peepholes)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        made = super().infer(*types)
        if self.has_peepholes and types[6].shape != (3 * types[2].shape[1],):
            raise ShapeError(f"peepholes {types[6]} are not [{show(3 * types[2].shape[1])}]")
        return made

    def expand(self, *xs: Value) -> Any:
        w, r, (b,), first, lengths = self.split(xs)
        f, g, h = self.calls()
        return along_lstm(projected(xs[0], w, b), recurrence(r), first, f, g, h,
                          xs[6] if self.has_peepholes else None, coupled=self.coupled,
                          clip=self.clip, lengths=lengths, reverse=self.reverse)  # fmt: skip

    def step_ref(self, x: Array, w: Array, r: Array, biases: list[Array], states: list[Array],
                 xs: Sequence[Array]) -> list[Array]:  # fmt: skip
        h, c = states
        i, o, f, g = np.split(x @ w.T + h @ r.T + biases[0], 4, 1)
        pi, po, pf = np.split(xs[6].astype(np.float64), 3) if self.has_peepholes else (0.0,) * 3
        opened = self.applied_ref(0, i + pi * c)
        kept = 1 - opened if self.coupled else self.applied_ref(0, f + pf * c)
        made = kept * c + opened * self.applied_ref(1, g)
        return [self.applied_ref(0, o + po * made) * self.applied_ref(2, made), made]
