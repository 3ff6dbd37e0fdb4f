"""Optimizers: a scalar loss in, one value out whose fetching performs a training step.

All arithmetic is ordinary graph nodes; what an optimizer remembers is variables of the graph that
are not trainable, named "<optimizer>/<variable>/<what>", and a step counter "<optimizer>/step".
Argument names are Keras's, update rules those of `torch.optim`, cited with each class.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np

from .. import algorithm as alg
from ..dtypes import float64, int64
from ..errors import ConfigError, DTypeError, GraphError, ShapeError
from .definition import Graph, graph_of, variable
from .gradients import gradients
from .initializers import Constant
from .ir import CALLS, Value, topological
from .ops.base import as_value
from .ops.reduce import sum_
from .ops.source import Variable
from .schedules import Schedule
from .state import token

Rate: TypeAlias = "float | Value | Schedule"


class Optimizer:
    """What all optimizers share: the rate, clipping, weight decay, the step counter.

    `learning_rate` is a number, a scalar value of the graph, or a schedule. Gradients pass, in
    this order, `clip_value` (each element into -c..c), `clip_norm` (all of them together scaled
    to a Euclidean length of at most c), and `weight_decay` (w times it is added; AdamW decays
    apart from the gradient). One optimizer object minimizes one loss.
    """

    def __init__(
        self, learning_rate: Rate, weight_decay: float = 0.0, clip_value: float | None = None,
        clip_norm: float | None = None, name: str | None = None, **unknown: Any,
    ) -> None:  # fmt: skip
        if unknown:
            raise ConfigError(f"{type(self).__name__} has no option {', '.join(unknown)}",
                              "shared by all: weight_decay, clip_value, clip_norm, name")  # fmt: skip
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.clip_value, self.clip_norm = clip_value, clip_norm
        self.name = name or type(self).__name__.lower()
        if isinstance(learning_rate, int | float | np.integer | np.floating):
            self._require("learning_rate", bool(learning_rate >= 0), learning_rate)
        elif not isinstance(learning_rate, Value) and not callable(learning_rate):
            raise ConfigError(f"learning_rate={learning_rate!r} is no number, value or schedule")
        self._require("weight_decay", weight_decay >= 0, weight_decay)
        for what, limit in (("clip_value", clip_value), ("clip_norm", clip_norm)):
            self._require(what, limit is None or limit > 0, limit)
        self.graph: Graph | None = None
        self.step: Value | None = None
        self.slots: dict[str, Value] = {}

    @staticmethod
    def _require(what: str, holds: bool, value: Any) -> None:
        if not holds:
            raise ConfigError(f"{what}={value} is out of range")

    def minimize(
        self, loss: Value, variables: Value | str | Iterable[Value | str] | None = None
    ) -> Value:
        """The loss, as a value whose fetching also updates `variables`, given by value or name.

        None means every trainable variable the loss depends on. Its value is the loss before the
        update. ShapeError if the loss is no scalar, GraphError if there is nothing to update.
        """
        graph = graph_of(loss, "minimize")
        needed = {v for n in topological([loss.node]) for v in n.outputs}
        if variables is None:
            chosen = [i.value for i in graph.variables.values() if i.trainable
                      and i.value in needed and i.value.dtype.is_float]  # fmt: skip
        else:
            given = [variables] if isinstance(variables, Value | str) else list(variables)
            chosen = [graph.find(v) if isinstance(v, str) else v for v in given]
            for v in chosen:
                if not isinstance(v, Value) or not isinstance(v.node.op, Variable):
                    raise GraphError(f"minimize: {v!r} is not a variable")
                if v not in needed:
                    raise GraphError(
                        f'the loss does not depend on variable "{v.name}"',
                        f"loss: {loss.node.loc}",
                        f"variable: {v.node.loc}",
                    )
        if not chosen:
            raise GraphError("minimize: the loss depends on no trainable variable",
                             f"the loss comes from {loss.node.loc}")  # fmt: skip
        return self.apply(list(zip(gradients(loss, chosen), chosen)), loss)

    def apply(self, pairs: Sequence[tuple[Value, Value]], loss: Value) -> Value:
        """Like `minimize`, for gradients of one's own: pairs of gradient and variable."""
        graph = graph_of(loss, "apply")
        if self.graph is not None:
            raise GraphError(f'optimizer "{self.name}" minimizes a loss already',
                             "make one optimizer for each loss")  # fmt: skip
        for grad, v in pairs:
            if not isinstance(v.node.op, Variable):
                raise GraphError(f"{v!r} is not a variable")
            if grad.shape != v.shape:
                raise ShapeError(f'the gradient of "{v.name}" is {grad.type}, it is {v.type}')
        self.graph = graph
        self.name = graph.unique(self.name)
        with self._scope(graph):
            self.step = variable("step", 0, dtype=int64, trainable=False)
            grads = self._prepared([g for g, _ in pairs])
            rate = self._rate(self.step)
            updates = [(self.step, self.step + 1)]
            for grad, (_, v) in zip(grads, pairs):
                if self.weight_decay and not self.decays_apart:
                    grad = grad + self.weight_decay * v
                updates += self.update(v, alg.cast(grad, v.dtype), rate)
            return token(loss, f"{self.name}/minimize", updates, trains=True)

    decays_apart = False

    def update(self, v: Value, grad: Value, rate: Value) -> list[tuple[Value, Value]]:
        """New values of `v` and of its slots, for a gradient and a float64 rate."""
        raise NotImplementedError

    def slot(self, v: Value, what: str, start: float = 0.0) -> Value:
        """A variable shaped as `v` that this optimizer keeps for it."""
        shape = tuple(d for d in v.shape if isinstance(d, int))
        made = variable(f"{v.name}/{what}", Constant(start), shape, v.dtype, trainable=False)
        self.slots[f"{v.name}/{what}"] = made
        return made

    def steps(self) -> Value:
        """The number of this update, counted from 1, as float64."""
        if self.step is None:
            raise GraphError("the optimizer has no step counter before minimize")
        return alg.cast(self.step + 1, float64)  # type: ignore[no-any-return]

    @contextmanager
    def _scope(self, graph: Graph) -> Iterator[None]:
        before, graph.layer_path = graph.layer_path, self.name
        try:
            with graph:
                yield
        finally:
            graph.layer_path = before

    def _rate(self, step: Value) -> Value:
        rate = self.learning_rate
        if not isinstance(rate, Value) and not callable(rate):
            return CALLS["constant"](float(rate), dtype=float64)  # type: ignore[no-any-return]
        made = rate if isinstance(rate, Value) else as_value(rate(alg.cast(step, float64)), step)
        if made.shape != () or not made.dtype.is_float:
            raise DTypeError(f"a learning rate must be a float scalar, this one is {made.type}")
        return alg.cast(made, float64)  # type: ignore[no-any-return]

    def _prepared(self, grads: list[Value]) -> list[Value]:
        if self.clip_value is not None:
            c = float(self.clip_value)
            grads = [alg.minimum(alg.maximum(g, -c), c) for g in grads]
        if self.clip_norm is not None:
            squares = [alg.cast(sum_(g * g), float64) for g in grads]
            total = squares[0]
            for s in squares[1:]:
                total = total + s
            scale = self.clip_norm / alg.maximum(alg.sqrt(total), float(self.clip_norm))
            grads = [g * alg.cast(scale, g.dtype) for g in grads]
        return grads


class SGD(Optimizer):
    """`w -= rate * g`; with momentum m: `u = m * u + g`, `w -= rate * u` (torch.optim.SGD).

    `nesterov` uses `g + m * u` in place of u (Sutskever et al. 2013).
    """

    def __init__(
        self, learning_rate: Rate = 0.01, momentum: float = 0.0, nesterov: bool = False,
        **shared: Any,
    ) -> None:  # fmt: skip
        super().__init__(learning_rate, **shared)
        self._require("momentum", 0 <= momentum <= 1, momentum)
        if nesterov and not momentum:
            raise ConfigError("nesterov needs a momentum")
        self.momentum, self.nesterov = momentum, nesterov

    def update(self, v: Value, grad: Value, rate: Value) -> list[tuple[Value, Value]]:
        step = alg.cast(rate, v.dtype)
        if not self.momentum:
            return [(v, v - step * grad)]
        u = self.slot(v, "momentum")
        moved = self.momentum * u + grad
        direction = grad + self.momentum * moved if self.nesterov else moved
        return [(u, moved), (v, v - step * direction)]


class RMSProp(Optimizer):
    """`s = rho * s + (1 - rho) * g**2`, `w -= rate * g / (sqrt(s) + epsilon)`.

    With momentum m: `u = m * u + g / (sqrt(s) + epsilon)`, `w -= rate * u`. `centered` subtracts
    the square of the gradient's running mean from s (torch.optim.RMSprop; Graves 2013).
    """

    def __init__(
        self, learning_rate: Rate = 0.001, rho: float = 0.9, momentum: float = 0.0,
        epsilon: float = 1e-8, centered: bool = False, **shared: Any,
    ) -> None:  # fmt: skip
        super().__init__(learning_rate, **shared)
        self._require("rho", 0 <= rho <= 1, rho)
        self._require("momentum", 0 <= momentum <= 1, momentum)
        self._require("epsilon", epsilon >= 0, epsilon)
        self.rho, self.momentum, self.epsilon, self.centered = rho, momentum, epsilon, centered

    def update(self, v: Value, grad: Value, rate: Value) -> list[tuple[Value, Value]]:
        s = self.slot(v, "rms")
        square = self.rho * s + (1 - self.rho) * (grad * grad)
        updates, spread = [(s, square)], square
        if self.centered:
            m = self.slot(v, "mean")
            centre = self.rho * m + (1 - self.rho) * grad
            updates.append((m, centre))
            spread = square - centre * centre
        direction = grad / (alg.sqrt(spread) + self.epsilon)
        if self.momentum:
            u = self.slot(v, "momentum")
            direction = self.momentum * u + direction
            updates.append((u, direction))
        return [*updates, (v, v - alg.cast(rate, v.dtype) * direction)]


class Adagrad(Optimizer):
    """`s += g**2`, `w -= rate * g / (sqrt(s) + epsilon)` (torch.optim.Adagrad; Duchi 2011)."""

    def __init__(
        self, learning_rate: Rate = 0.01, initial_accumulator_value: float = 0.0,
        epsilon: float = 1e-10, **shared: Any,
    ) -> None:  # fmt: skip
        super().__init__(learning_rate, **shared)
        self._require("initial_accumulator_value", initial_accumulator_value >= 0,
                      initial_accumulator_value)  # fmt: skip
        self._require("epsilon", epsilon >= 0, epsilon)
        self.start, self.epsilon = initial_accumulator_value, epsilon

    def update(self, v: Value, grad: Value, rate: Value) -> list[tuple[Value, Value]]:
        s = self.slot(v, "accumulator", self.start)
        total = s + grad * grad
        step = alg.cast(rate, v.dtype) * grad / (alg.sqrt(total) + self.epsilon)
        return [(s, total), (v, v - step)]


class Adam(Optimizer):
    """Kingma and Ba 2015, algorithm 1, as torch.optim.Adam: with t counted from 1,

    `m = b1 * m + (1 - b1) * g`, `v = b2 * v + (1 - b2) * g**2`,
    `w -= rate / (1 - b1**t) * m / (sqrt(v) / sqrt(1 - b2**t) + epsilon)`.
    The corrections are computed in float64.
    """

    def __init__(
        self, learning_rate: Rate = 0.001, beta_1: float = 0.9, beta_2: float = 0.999,
        epsilon: float = 1e-8, **shared: Any,
    ) -> None:  # fmt: skip
        super().__init__(learning_rate, **shared)
        self._require("beta_1", 0 <= beta_1 < 1, beta_1)
        self._require("beta_2", 0 <= beta_2 < 1, beta_2)
        self._require("epsilon", epsilon >= 0, epsilon)
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon

    def update(self, v: Value, grad: Value, rate: Value) -> list[tuple[Value, Value]]:
        m, s = self.slot(v, "m"), self.slot(v, "v")
        mean = self.beta_1 * m + (1 - self.beta_1) * grad
        square = self.beta_2 * s + (1 - self.beta_2) * (grad * grad)
        t = self.steps()
        step = alg.cast(rate / (1 - self.beta_1**t), v.dtype)
        spread = alg.cast(alg.rsqrt(1 - self.beta_2**t), v.dtype)
        moved = self._decayed(v, rate) - step * mean / (alg.sqrt(square) * spread + self.epsilon)
        return [(m, mean), (s, square), (v, moved)]

    def _decayed(self, v: Value, rate: Value) -> Value:
        return v


class AdamW(Adam):
    """Adam with the decay apart from the gradient: first `w -= rate * weight_decay * w`.

    Loshchilov and Hutter 2019, as torch.optim.AdamW.
    """

    decays_apart = True

    def __init__(self, learning_rate: Rate = 0.001, weight_decay: float = 0.01,
                 **options: Any) -> None:  # fmt: skip
        super().__init__(learning_rate, weight_decay=weight_decay, **options)

    def _decayed(self, v: Value, rate: Value) -> Value:
        if not self.weight_decay:
            return v
        return v * alg.cast(1 - rate * self.weight_decay, v.dtype)  # type: ignore[no-any-return]
