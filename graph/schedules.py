"""Learning rates that change as training goes on, computed inside the graph.

Each function returns a schedule: `schedule(step) -> rate`. `step` is a float64 scalar value, the
number of updates made before this one (0 at the first), and so is the rate. Give it to an
optimizer as `learning_rate`. The formulas are those of `keras.optimizers.schedules`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

from .. import algorithm as alg
from ..dtypes import float64
from ..errors import ConfigError
from .ir import Value
from .ops.base import as_value
from .ops.pointwise import minimum

Schedule: TypeAlias = Callable[[Value], Value]


def _number(x: float, step: Value) -> Value:
    return alg.cast(as_value(float(x), step), float64)  # type: ignore[no-any-return]


def _positive(what: str, x: float) -> None:
    if not x > 0:
        raise ConfigError(f"{what} must be positive, it is {x}")


def constant(rate: float) -> Schedule:
    """Always `rate`."""
    return lambda step: _number(rate, step)


def piecewise(boundaries: Sequence[int], values: Sequence[float]) -> Schedule:
    """`values[0]` up to and including step `boundaries[0]`, then `values[1]`, and so on.

    There is one value more than there are boundaries, which increase. ConfigError otherwise.
    """
    if len(values) != len(boundaries) + 1:
        raise ConfigError(f"{len(boundaries)} boundaries need {len(boundaries) + 1} values, "
                          f"there are {len(values)}")  # fmt: skip
    if list(boundaries) != sorted(set(boundaries)):
        raise ConfigError(f"boundaries must increase: {list(boundaries)}")

    def rate(step: Value) -> Value:
        out = _number(values[-1], step)
        for boundary, value in zip(reversed(boundaries), reversed(values[:-1])):
            out = alg.where(step <= float(boundary), _number(value, step), out)
        return out

    return rate


def exponential(
    initial: float, decay_steps: int, decay_rate: float, staircase: bool = False
) -> Schedule:
    """`initial * decay_rate ** (step / decay_steps)`; `staircase` rounds the exponent down."""
    _positive("decay_steps", decay_steps)
    _positive("decay_rate", decay_rate)

    def rate(step: Value) -> Value:
        exponent = step / float(decay_steps)
        if staircase:
            exponent = alg.floor(exponent)
        return initial * alg.exp(exponent * math.log(decay_rate))  # type: ignore[no-any-return]

    return rate


def cosine(
    initial: float,
    decay_steps: int,
    alpha: float = 0.0,
    warmup_steps: int = 0,
    warmup_target: float | None = None,
) -> Schedule:
    """Half a cosine from the peak down to `alpha * peak` in `decay_steps`, then constant.

    With `warmup_steps`, the rate first rises in a line from `initial` to the peak, which is
    `warmup_target`; without a target it rises from 0 and the peak is `initial`. Loshchilov and
    Hutter 2017, without restarts.
    """
    _positive("decay_steps", decay_steps)
    if warmup_steps < 0:
        raise ConfigError(f"warmup_steps must not be negative, it is {warmup_steps}")
    peak = initial if warmup_target is None else warmup_target
    start = 0.0 if warmup_target is None else initial

    def rate(step: Value) -> Value:
        progress = minimum((step - float(warmup_steps)) / float(decay_steps), 1.0)
        falling = peak * ((1 - alpha) * (0.5 + 0.5 * alg.cos(math.pi * progress)) + alpha)
        if warmup_steps == 0:
            return falling  # type: ignore[no-any-return]
        rising = start + (peak - start) * (step / float(warmup_steps))
        return alg.where(step < float(warmup_steps), rising, falling)  # type: ignore[no-any-return]

    return rate


def polynomial(
    initial: float, decay_steps: int, end: float = 0.0001, power: float = 1.0
) -> Schedule:
    """`(initial - end) * (1 - step / decay_steps) ** power + end`, then constant."""
    _positive("decay_steps", decay_steps)
    _positive("power", power)

    def rate(step: Value) -> Value:
        left = 1.0 - minimum(step / float(decay_steps), 1.0)
        shaped = left if power == 1.0 else alg.power(left, float(power))
        return (initial - end) * shaped + end  # type: ignore[no-any-return]

    return rate


def linear(initial: float, decay_steps: int, end: float = 0.0) -> Schedule:
    """A line from `initial` to `end` in `decay_steps`, then constant."""
    return polynomial(initial, decay_steps, end, 1.0)
