"""Random numbers that depend on nothing but (seed, run, op, element).

Bits come from Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as
easy as 1, 2, 3; 2011), one block for every element: key (seed, op), counter (element in row-major
order, run). How a tensor is laid out, split or recomputed cannot change a draw.

A graph with random values has one hidden variable "random/state": uint32 [seed, run], which starts
as every variable does, from the seed of the session or the graph. Fetching anything random adds one
to `run` once, so that every run draws anew, and a restored state repeats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import algorithm as alg
from ...algorithm import Compute, Const, Expr, Index, axis
from ...dims import Dim
from ...dtypes import Array, as_dtype, float32, float64, int32, uint32
from ...errors import ConfigError, DTypeError, GraphError, ShapeError
from ..definition import Graph, VariableInfo, current_graph, group
from ..ir import CALLS, Shape, TensorType, Value
from .base import Op, Operand, as_value, graph_function, make, sample
from .shape import as_shape
from .source import Variable
from .windows import concrete

STATE = "random/state"
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
_WORD = 0xFFFFFFFF


def threefry(k0: Any, k1: Any, c0: Any, c1: Any) -> tuple[Any, Any]:
    """Two words of Threefry-2x32-20 for a key and a counter; of Exprs of uint32."""
    keys = (k0, k1, k0 ^ k1 ^ _PARITY)
    x0, x1 = c0 + k0, c1 + k1
    for block in range(5):
        for r in _ROTATIONS[block % 2]:
            x0 = x0 + x1
            x1 = ((x1 << r) | (x1 >> (32 - r))) ^ x0
        x0 = x0 + keys[(block + 1) % 3]
        x1 = x1 + keys[(block + 2) % 3] + (block + 1)
    return x0, x1


@dataclass(frozen=True)
class RandomBits(Op):
    """state uint32 [seed, run] -> uniform uint32 of `shape`: word `word` (0 or 1) of each element's
    block. `op_id` tells draws of one run apart."""

    op_id: int
    shape: Shape
    word: int = 0
    arity = 1
    differentiable = False
    samples = (sample((2,), dtypes=("uint32",), low=0, high=99, op_id=1, shape=(5, 17)),
               sample((2,), dtypes=("uint32",), low=0, high=99, op_id=7, shape=(33,), word=1),
               sample((2,), dtypes=("uint32",), low=0, high=99, op_id=1, shape=()),
               sample((2,), dtypes=("uint32",), low=0, high=99, op_id=1, shape=(0, 3)))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        if types[0] != TensorType(uint32, (2,)):
            raise DTypeError(f"the state is uint32 [seed, run], not {types[0]}")
        made = TensorType(uint32, self.shape)
        if isinstance(made.size, int) and made.size > 1 << 32:
            raise ShapeError(f"{made} has more than 2**32 elements")
        return made

    def compute(self, out: TensorType, *xs: Operand) -> Compute:
        axes = tuple(axis(d) for d in out.shape)
        flat: Dim = 0
        for a in axes:
            flat = flat * a.extent + a.index
        element = alg.cast(Index(flat), uint32)
        key: Expr = Const(self.op_id, uint32)
        return Compute(axes, (), None, threefry(xs[0][0], key, element, xs[0][1])[self.word])

    def ref(self, *xs: Array) -> Array:
        seed, run = (int(v) for v in xs[0])
        shape = concrete(self.shape)
        x0: Array = np.arange(math.prod(shape), dtype=np.uint64)
        x1: Array = np.full_like(x0, run)
        keys = [seed, self.op_id, 0x1BD11BDA ^ seed ^ self.op_id]
        x0, x1 = (x0 + keys[0]) & _WORD, (x1 + keys[1]) & _WORD
        for i in range(20):
            turn = (13, 15, 26, 6, 17, 29, 16, 24)[i % 8]
            x0 = (x0 + x1) & _WORD
            x1 = (x1 << turn | x1 >> (32 - turn)) & _WORD ^ x0
            if i % 4 == 3:
                s = i // 4 + 1
                x0 = (x0 + keys[s % 3]) & _WORD
                x1 = (x1 + keys[(s + 1) % 3] + s) & _WORD
        return np.asarray((x0, x1)[self.word].astype(np.uint32).reshape(shape))

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return out.size * 100


def state(graph: Graph) -> Value:
    """The graph's hidden variable, made at the first random value."""
    known = graph.variables.get(STATE)
    if known is not None:
        return known.value
    value = graph.node(Variable(STATE, uint32, (2,), trainable=False), ()).outputs[0]
    graph.set_name(value, STATE)
    graph.variables[STATE] = VariableInfo(value, _first_state)
    return value


def _first_state(generator: np.random.Generator, _shape: tuple[int, ...]) -> Array:
    return np.array([generator.integers(1 << 32), 0], np.uint32)


def random_bits(shape: Any, like: Value | None = None, words: int = 1) -> tuple[Value, ...]:
    """`words` (1 or 2) independent uniform uint32 values of `shape`, a new draw at each run and
    different from every other in the graph (the current one, or that of `like`)."""
    graph = current_graph() if like is None else like.node.owner
    if not isinstance(graph, Graph):
        raise GraphError("random values are made while a graph is being defined")
    held = state(graph)
    drawn = [v.node.op.op_id for v in graph.updates if isinstance(v.node.op, RandomBits)]
    op_id, dims = max(drawn, default=0) + 1, as_shape(shape)
    most = CALLS["__most__"](dims, graph)
    made = tuple(make(RandomBits(op_id, most, word), held) for word in range(words))
    step = CALLS["constant"](np.array([0, 1], np.uint32), owner=graph)
    for v in made:
        group(graph, v, [(held, held + step)])
    return tuple(CALLS["__cut__"](v, dims) for v in made)


def _unit(shape: Any, like: Value | None, wide: bool) -> Value:
    """Uniform in [0, 1): multiples of 2**-24 as float32, of 2**-53 as float64."""
    cast = CALLS["cast"]
    if not wide:
        (bits,) = random_bits(shape, like)
        return cast(cast(bits >> 8, int32), float32) * 2.0**-24  # type: ignore[no-any-return]
    high, low = random_bits(shape, like, 2)
    top = cast(cast(high >> 5, int32), float64) * 2.0**-27
    return top + cast(cast(low >> 6, int32), float64) * 2.0**-53  # type: ignore[no-any-return]


def _wide(dtype: Any) -> bool:
    kind = as_dtype(dtype)
    if kind not in (float32, float64):
        raise DTypeError(f"random values are float32 or float64, not {kind}", "cast them")
    return kind == float64


@graph_function("uniform")
def uniform(shape: Any, low: Any = 0.0, high: Any = 1.0, dtype: Any = float32) -> Value:
    """Uniform in [low, high): 2**24 (float32) or 2**53 (float64) equally spaced values. Rounding
    may give `high` itself where low is not 0. Bounds are numbers or values that broadcast."""
    unit = _unit(shape, None, _wide(dtype))
    if all(isinstance(b, int | float) and b == e for b, e in ((low, 0), (high, 1))):
        return unit
    if not all(isinstance(b, int | float) for b in (low, high)):
        low, high = as_value(low, unit), as_value(high, unit)
    out: Value = unit * (high - low) + low
    return out


@graph_function("normal")
def normal(shape: Any, mean: Any = 0.0, std: Any = 1.0, dtype: Any = float32) -> Value:
    """Normally distributed values, by Box and Muller's transform: sqrt(-2 log u) cos(2 pi v) of two
    uniform words; |x| < 6.8. Mean and standard deviation are numbers or values that broadcast."""
    kind = float64 if _wide(dtype) else float32
    cast = CALLS["cast"]
    first, second = random_bits(shape, None, 2)
    # u in (0, 1]: the halves of a 32-bit step keep log away from 0
    u = cast(first, kind) * 2.0**-32 + 2.0**-33
    v = cast(cast(second >> 8, int32), kind) * (2 * math.pi * 2.0**-24)
    out: Value = alg.sqrt(alg.log(u) * -2.0) * alg.cos(v)
    if all(isinstance(b, int | float) and b == e for b, e in ((mean, 0), (std, 1))):
        return out
    scaled: Value = out * std + mean
    return scaled


@graph_function("bernoulli")
def bernoulli(shape: Any, p: Any = 0.5) -> Value:
    """bool, true with probability `p` (a number, or a broadcast value), in steps of 2**-24."""
    if isinstance(p, int | float) and not 0 <= p <= 1:
        raise ConfigError(f"a probability is between 0 and 1, not {p}")
    out: Value = _unit(shape, None, False) < p
    return out


@graph_function("multinomial")
def multinomial(logits: Any, samples: int = 1) -> Value:
    """int64 [batch, samples]: class numbers drawn, with replacement, with the probabilities
    softmax(logits), logits being [batch, classes]."""
    v = as_value(logits)
    if v.ndim != 2 or v.shape[1] == 0 or samples < 1:
        raise ShapeError(f"multinomial: {samples} draws from {v.type}, which should be "
                         "[batch, classes]")  # fmt: skip
    reached = CALLS["cumsum"](CALLS["softmax"](v), 1)
    unit = _unit((v.shape[0], samples), v, False)
    passed = CALLS["expand_dims"](unit, 2) >= CALLS["expand_dims"](reached, 1)
    last = v.shape[1] - 1
    limit = last if isinstance(last, int) else CALLS["size_of"](last, v.node.owner)
    return alg.minimum(CALLS["sum"](passed, 2), limit)  # type: ignore[no-any-return]


@graph_function("dropout")
def dropout(x: Any, rate: float, training: Any = True) -> Value:
    """x with elements made zero with probability `rate` and the others divided by 1 - rate.

    `training` is a bool, or a bool value that decides at each run; x itself if it is false.
    """
    v = as_value(x)
    if not isinstance(rate, int | float) or not 0 <= rate < 1:
        raise ConfigError(f"a dropout rate is at least 0 and below 1, not {rate!r}")
    if not v.dtype.is_float or not v.dtype.computes:
        raise DTypeError(f"dropout: not defined for {v.dtype}", "cast to float32 first")
    if rate == 0 or training is False:
        return v
    kept = _unit(v.shape, v, False) >= rate
    out: Value = alg.where(kept, v * (1 / (1 - rate)), 0)
    return out if training is True else alg.where(training, out, v)
