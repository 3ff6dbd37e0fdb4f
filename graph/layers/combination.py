"""Combination layers: several values to one. And the layers that only rearrange one value.

`add`, `multiply`, `maximum`, `average`, `concatenate` take a list, as in Keras, or the values one
after the other. Shapes broadcast as in NumPy.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

from ... import algorithm as alg
from ...dims import product
from ...errors import ShapeError
from ..ir import Value
from ..ops.attention import attention as attend
from ..ops.base import as_value, normal_axis, operands
from ..ops.linalg import matmul
from ..ops.reduce import sum_
from ..ops.shape import as_shape, concat, expand_dims, reshape, transpose
from ..ops.windows import per_axis
from .base import Layer, known, require_rank
from .learnable import Dense

_MASKED = -1e30  # finite: a row that is masked throughout becomes a plain average, not NaN


def _all(values: tuple[Any, ...], what: str) -> tuple[Value, ...]:
    given = values[0] if len(values) == 1 and isinstance(values[0], list | tuple) else values
    if not given:
        raise ShapeError(f"{what} needs at least one value")
    return operands(*given)


def _fold(values: tuple[Any, ...], what: str, fn: Callable[[Value, Value], Any]) -> Value:
    return reduce(fn, _all(values, what))


def add(*values: Any) -> Value:
    """The sum of all values."""
    return _fold(values, "add", lambda a, b: a + b)


def multiply(*values: Any) -> Value:
    """The product of all values."""
    return _fold(values, "multiply", lambda a, b: a * b)


def subtract(*values: Any) -> Value:
    """The first value minus the others."""
    return _fold(values, "subtract", lambda a, b: a - b)


def maximum(*values: Any) -> Value:
    """The largest of all values, element by element."""
    return _fold(values, "maximum", alg.maximum)


def minimum(*values: Any) -> Value:
    """The smallest of all values, element by element."""
    return _fold(values, "minimum", alg.minimum)


def average(*values: Any) -> Value:
    """The mean of all values, element by element."""
    given = _all(values, "average")
    return add(*given) * (1.0 / len(given))


def concatenate(*values: Any, axis: int = -1) -> Value:
    """All values joined along `axis`; 1 joins channels."""
    return concat(_all(values, "concatenate"), axis)


def dot(a: Any, b: Any, axes: int | tuple[int, int] = -1, normalize: bool = False) -> Value:
    """The scalar products of each example: [batch, ..., k], [batch, ..., k] contracted over k.

    `axes` names the axis of each to contract (not the batch, axis 0); the result is
    [batch, *rest of a, *rest of b], with one axis of size 1 added when nothing is left (as Keras
    does). `normalize` scales to unit length first: the cosine of the angle.
    """
    x, y = operands(a, b)
    pair = (axes, axes) if isinstance(axes, int) else axes
    i, j = normal_axis(pair[0], x.ndim), normal_axis(pair[1], y.ndim)
    if i == 0 or j == 0:
        raise ShapeError("dot does not contract the batch axis")
    if x.shape[i] != y.shape[j]:
        raise ShapeError(f"dot: axis {i} of {x.type} and axis {j} of {y.type} differ")
    if normalize:
        x, y = unit_length(x, i), unit_length(y, j)
    rest_x = [k for k in range(1, x.ndim) if k != i]
    rest_y = [k for k in range(1, y.ndim) if k != j]
    left, right = transpose(x, (0, *rest_x, i)), transpose(y, (0, j, *rest_y))
    size, batch = x.shape[i], x.shape[0]
    kept_x, kept_y = left.shape[1:-1], right.shape[2:]
    out = matmul(reshape(left, (batch, product(kept_x), size)),
                 reshape(right, (batch, size, product(kept_y))))  # fmt: skip
    return reshape(out, (batch, *kept_x, *kept_y) if kept_x or kept_y else (batch, 1))


def unit_length(x: Value, axis: int = -1, epsilon: float = 1e-12) -> Value:
    """x divided by its Euclidean length along `axis`; shorter than sqrt(epsilon) counts as that."""
    length2 = sum_(x * x, axis, keepdims=True)
    return x * alg.rsqrt(alg.maximum(length2, epsilon))  # type: ignore[no-any-return]


def attention(
    query: Any, key: Any, value: Any, mask: Any = None, causal: bool = False,
    scale: float | None = None,
) -> Value:  # fmt: skip
    """`softmax(query @ key.mT * scale) @ value` (Vaswani et al. 2017).

    query [..., m, d], key [..., n, d], value [..., n, e] -> [..., m, e]. `scale` is 1/sqrt(d)
    unless given. `mask` (bool, broadcast to [..., m, n]) says which keys a query may see;
    `causal` hides keys after the query's position, the last query facing the last key. A query
    that may see nothing gets the average of all values.
    """
    q, k, v = operands(query, key, value)
    for x, what in ((q, "query"), (k, "key"), (v, "value")):
        if x.ndim < 2:
            raise ShapeError(f"attention: the {what} needs two axes or more, it is {x.type}")
    past = k.shape[-2] - q.shape[-2] if causal else 0
    return attend(q, k, v, mask, causal, scale, past=past, hidden=_MASKED)  # type: ignore[no-any-return]


class MultiHeadAttention(Layer):
    """`num_heads` attentions side by side, on projections of [batch, length, features].

    Called on (query, value) or (query, value, key), as in Keras; one operand attends to itself.
    The result has the query's features, or `output_size`.
    """

    def __init__(
        self, num_heads: int, key_dim: int, value_dim: int | None = None,
        output_size: int | None = None, use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform", name: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name)
        given = (num_heads, key_dim, key_dim if value_dim is None else value_dim)
        self.num_heads, self.key_dim, self.value_dim = (
            per_axis(n, 1, what)[0]
            for n, what in zip(given, ("num_heads", "key_dim", "value_dim"), strict=True)
        )
        self.output_size, self.use_bias = output_size, use_bias
        self.kernel_initializer = kernel_initializer
        self.projections: dict[str, Dense] = {}

    def build(self, *xs: Value) -> None:
        for x in xs:
            require_rank(x, 3, "MultiHeadAttention", "[batch, length, features]")
        heads = self.num_heads
        sizes = {
            "query": heads * self.key_dim, "key": heads * self.key_dim,
            "value": heads * self.value_dim,
            "output": self.output_size or known(xs[0], -1, "MultiHeadAttention"),
        }  # fmt: skip
        self.projections = {
            name: Dense(size, use_bias=self.use_bias, kernel_initializer=self.kernel_initializer,
                        name=name)
            for name, size in sizes.items()
        }  # fmt: skip

    def call(
        self, query: Value, value: Value | None = None, key: Value | None = None, mask: Any = None,
        causal: bool = False,
    ) -> Value:  # fmt: skip
        value = query if value is None else value
        key = value if key is None else key
        q, k, v = (self._heads(name, x) for name, x in
                   (("query", query), ("key", key), ("value", value)))  # fmt: skip
        if mask is not None:
            mask = expand_dims(as_value(mask, query), 1)  # one mask for all heads
        mixed = transpose(attention(q, k, v, mask, causal), (0, 2, 1, 3))
        flat = reshape(mixed, (*query.shape[:2], self.num_heads * self.value_dim))
        return self.projections["output"](flat)  # type: ignore[no-any-return]

    def _heads(self, name: str, x: Value) -> Value:
        """[batch, length, features] -> [batch, heads, length, size of a head]."""
        out = self.projections[name](x)
        size = known(out, -1, "MultiHeadAttention") // self.num_heads
        return transpose(reshape(out, (*x.shape[:2], self.num_heads, size)), (0, 2, 1, 3))


class Flatten(Layer):
    """[batch, ...] -> [batch, product of the rest]."""

    def call(self, x: Value) -> Value:
        if x.ndim == 0:
            raise ShapeError("Flatten wants a batch axis, it was given a scalar")
        return reshape(x, (x.shape[0], product(x.shape[1:])))


class Reshape(Layer):
    """[batch, ...] -> [batch, *target_shape]; one entry may be -1."""

    def __init__(self, target_shape: Any, name: str | None = None) -> None:
        super().__init__(name)
        self.target_shape = as_shape(target_shape)

    def call(self, x: Value) -> Value:
        return reshape(x, (x.shape[0], *self.target_shape))
