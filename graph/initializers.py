"""What variables start from: callables `(generator, shape) -> float64 array`.

Lower-case names are ready to use (`kernel_initializer=fm.initializers.he_normal`, or the string
"he_normal"); classes take parameters (`fm.initializers.Normal(std=0.02)`). Fans are those of a
dense kernel `[in, out]` and of a convolution's `[out, in / groups, *window]`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dtypes import Array
from ..errors import ConfigError
from .definition import Initializer

# The standard deviation of a unit normal distribution cut off at two standard deviations.
_TRUNCATED_STD = 0.87962566103423978


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """(fan in, fan out): how many inputs an output sums, how many outputs an input reaches."""
    if len(shape) < 2:
        size = shape[0] if shape else 1
        return size, size
    if len(shape) == 2:
        return shape[0], shape[1]
    window = math.prod(shape[2:])
    return shape[1] * window, shape[0] * window


@dataclass(frozen=True)
class Constant:
    """Every element is `value`."""

    value: float = 0.0

    def __call__(self, generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return np.full(shape, self.value)


@dataclass(frozen=True)
class Uniform:
    """Uniform in `[low, high)`."""

    low: float = -0.05
    high: float = 0.05

    def __call__(self, generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return generator.uniform(self.low, self.high, shape)


@dataclass(frozen=True)
class Normal:
    """Normal with `mean` and standard deviation `std`."""

    mean: float = 0.0
    std: float = 0.05

    def __call__(self, generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return generator.normal(self.mean, self.std, shape)


@dataclass(frozen=True)
class TruncatedNormal:
    """Normal, drawn again wherever it is more than two standard deviations off."""

    mean: float = 0.0
    std: float = 0.05

    def __call__(self, generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
        draw = np.asarray(generator.standard_normal(shape))
        while (far := np.abs(draw) > 2.0).any():
            draw[far] = generator.standard_normal(int(far.sum()))
        return np.asarray(self.mean + self.std * draw)


@dataclass(frozen=True)
class VarianceScaling:
    """Variance `scale / n`, n the `mode`: "fan_in", "fan_out" or "fan_avg".

    `distribution`: "uniform" or "truncated_normal". Glorot and Bengio 2010 is scale 1 with
    fan_avg, He et al. 2015 scale 2 with fan_in, LeCun et al. 1998 scale 1 with fan_in.
    """

    scale: float = 1.0
    mode: str = "fan_in"
    distribution: str = "truncated_normal"

    def __post_init__(self) -> None:
        if self.mode not in ("fan_in", "fan_out", "fan_avg"):
            raise ConfigError(f"mode must be fan_in, fan_out or fan_avg, not {self.mode!r}")
        if self.distribution not in ("uniform", "truncated_normal"):
            raise ConfigError(
                f"distribution must be uniform or truncated_normal, not {self.distribution!r}"
            )

    def __call__(self, generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
        fan_in, fan_out = fans(shape)
        n = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(n, 1)
        if self.distribution == "uniform":
            limit = math.sqrt(3 * variance)
            return generator.uniform(-limit, limit, shape)
        return TruncatedNormal(0.0, math.sqrt(variance) / _TRUNCATED_STD)(generator, shape)


@dataclass(frozen=True)
class Orthogonal:
    """Rows or columns, whichever are fewer, are orthogonal with length `gain` (Saxe et al. 2014).

    A dense kernel is taken as it is; a convolution's as a matrix `[out, in * window]`.
    """

    gain: float = 1.0

    def __call__(self, generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
        if len(shape) < 2:
            raise ConfigError(f"orthogonal needs two axes or more, the shape is {shape}")
        rows, columns = shape[0], math.prod(shape[1:])
        draw = generator.standard_normal((max(rows, columns), min(rows, columns)))
        q, r = np.linalg.qr(draw)
        q = q * np.where(np.diag(r) < 0, -1.0, 1.0)  # makes the draw uniform over such matrices
        return np.asarray(self.gain * (q.T if rows < columns else q).reshape(shape))


zeros, ones = Constant(0.0), Constant(1.0)
uniform, normal, truncated_normal = Uniform(), Normal(), TruncatedNormal()
glorot_uniform = VarianceScaling(1.0, "fan_avg", "uniform")
glorot_normal = VarianceScaling(1.0, "fan_avg", "truncated_normal")
he_uniform = VarianceScaling(2.0, "fan_in", "uniform")
he_normal = VarianceScaling(2.0, "fan_in", "truncated_normal")
lecun_uniform = VarianceScaling(1.0, "fan_in", "uniform")
lecun_normal = VarianceScaling(1.0, "fan_in", "truncated_normal")
orthogonal = Orthogonal()

NAMED: dict[str, Initializer] = {
    "zeros": zeros, "ones": ones, "uniform": uniform, "normal": normal,
    "truncated_normal": truncated_normal, "glorot_uniform": glorot_uniform,
    "glorot_normal": glorot_normal, "he_uniform": he_uniform, "he_normal": he_normal,
    "lecun_uniform": lecun_uniform, "lecun_normal": lecun_normal, "orthogonal": orthogonal,
}  # fmt: skip


def get(spec: Any) -> Initializer:
    """The initializer for a name, a number, an array or an initializer. ConfigError for anything
    else, or where an array is asked for another shape than its own."""
    if isinstance(spec, str):
        if spec not in NAMED:
            raise ConfigError(f"no initializer is named {spec!r}", f"known: {', '.join(NAMED)}")
        return NAMED[spec]
    if isinstance(spec, np.ndarray):
        array = spec
        return lambda generator, shape: array
    if isinstance(spec, int | float) and not isinstance(spec, bool):
        return Constant(float(spec))
    if callable(spec):
        return spec  # type: ignore[no-any-return]
    raise ConfigError(f"{spec!r} is not an initializer", f"known: {', '.join(NAMED)}")
