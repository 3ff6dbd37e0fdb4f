"""Attention: every query's weighted mean of values, and positions that turn queries and keys."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import algorithm as alg
from ...dims import Dim, show
from ...dtypes import Array, bool_
from ...errors import ConfigError, DTypeError, ShapeError
from ..ir import CALLS, Shape, TensorType, Value
from .activation import narrow
from .base import Op, as_value, broadcast_shapes, graph_function, promoted, sample
from .shape import concat

SCORES = ("", "raw", "masked", "capped", "weights")
_Q, _K, _V = (2, 4, 3, 5), (2, 4, 6, 5), (2, 4, 6, 7)
_GROUPED = ((1, 4, 3, 5), (1, 2, 5, 5), (1, 2, 5, 7))


@dataclass(frozen=True)
class Attention(Op):
    """q [..., heads, m, d], k [..., heads, n, d], v [..., heads, n, e] and perhaps a mask that
    broadcasts to [..., heads, m, n] -> softmax(q @ k.mT * scale) @ v (Vaswani et al. 2017).

    A bool mask says which keys a query may see, another is added to the scores. `causal` hides the
    keys after a query's position, the first query standing `past` keys after the first key. With
    fewer heads, k and v serve groups of neighbouring heads of q. `softcap` c > 0 makes a score s
    c * tanh(s / c). `hidden` is the score of what may not be seen; with -inf a query that sees
    nothing gets NaN. `scores` asks for a second result [..., heads, m, n]: the products ("raw"), or
    those "masked", "capped" too, or the "weights".
    """

    scale: float
    causal: bool = False
    past: Dim = 0
    softcap: float = 0.0
    hidden: float = -math.inf
    scores: str = ""
    arity = None
    onnx = "Attention"
    samples = (sample(_Q, _K, _V, scale=0.5), sample(*_GROUPED, scale=0.4, softcap=2.0),
               sample((3, 5), (3, 5), (3, 4), scale=1.0, causal=True, scores="weights"),
               sample((2, 3, 4), (2, 5, 4), (2, 5, 3), scale=0.3, causal=True, past=2),
               sample(_Q, _K, _V, (3, 6), scale=0.5, scores="masked"),
               sample(_Q, _K, _V, (2, 1, 3, 6), scale=0.5, softcap=1.0, scores="capped", low=0,
                      high=2, dtypes=(*("float64",) * 3, "bool"), hidden=-1e30))  # fmt: skip

    def infer(self, *types: TensorType) -> Any:
        q, k, v = types[:3] if len(types) in (3, 4) else (TensorType(bool_, ()),) * 3
        for t in (q, k, v):
            if not t.dtype.is_float or not t.dtype.computes or t.dtype != q.dtype:
                raise DTypeError(f"not defined for {', '.join(str(t) for t in types)}",
                                 "cast to float32 first")  # fmt: skip
            if t.ndim < 2 or t.ndim != q.ndim:
                raise ShapeError(
                    f"{q}, {k} and {v} should have the same number of axes, two or more"
                )
        if q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2] or k.shape[:-2] != v.shape[:-2]:
            raise ShapeError(f"queries {q}, keys {k} and values {v} do not fit each other")
        if self.grouped(q.shape, k.shape) and (
                broadcast_shapes(q.shape[:-3], k.shape[:-3]) != q.shape[:-3]):  # fmt: skip
            raise ShapeError(f"keys {k} do not broadcast to queries {q} but for heads")
        if self.scores not in SCORES:
            raise ShapeError(f"scores {self.scores!r} is none of {SCORES}")
        lead = q.shape[:-2] if self.grouped(q.shape, k.shape) else broadcast_shapes(
            q.shape[:-2], k.shape[:-2])  # fmt: skip
        scores = TensorType(q.dtype, (*lead, q.shape[-2], k.shape[-2]))
        if len(types) == 4:
            mask = types[3]
            if mask.dtype not in (bool_, q.dtype):
                raise DTypeError(f"a mask is bool or {q.dtype}, not {mask.dtype}")
            if broadcast_shapes(mask.shape, scores.shape) != scores.shape:
                raise ShapeError(f"the mask {mask} does not broadcast to the scores {scores}")
        out = TensorType(q.dtype, (*lead, q.shape[-2], v.shape[-1]))
        return (out, scores) if self.scores else out

    def grouped(self, q: Shape, k: Shape) -> bool:
        """Whether a head of keys serves several heads of queries. ShapeError if unevenly."""
        if len(q) < 3 or q[-3] == k[-3] or 1 in (q[-3], k[-3]):
            return False
        if not isinstance(q[-3], int) or not isinstance(k[-3], int) or q[-3] % k[-3]:
            raise ShapeError(f"{show(k[-3])} heads of keys do not serve {show(q[-3])} of queries")
        return True

    def expand(self, *xs: Value) -> Any:
        q, k, v = xs[:3]
        reshape, matmul = CALLS["reshape"], CALLS["matmul"]
        lead = q.shape[:-2]
        grouped = self.grouped(q.shape, k.shape)
        if grouped:
            heads = k.shape[-3]
            q = reshape(q, (*lead[:-1], heads, lead[-1] // heads, *q.shape[-2:]))
            k, v = (reshape(x, (*x.shape[:-2], 1, *x.shape[-2:])) for x in (k, v))
        products = matmul(q * self.scale, k.mT)
        if grouped:
            products = reshape(products, (*lead, *products.shape[-2:]))
        masked = self.masked(products, xs[3] if len(xs) == 4 else None)
        capped = alg.tanh(masked * (1 / self.softcap)) * self.softcap if self.softcap else masked
        weights = CALLS["softmax"](capped, -1)
        parts = weights
        if grouped:
            parts = reshape(weights, (*q.shape[:-2], *weights.shape[-2:]))
        out = matmul(parts, v)
        if grouped:
            out = reshape(out, (*lead, *out.shape[-2:]))
        asked = {"raw": products, "masked": masked, "capped": capped, "weights": weights}
        return (out, asked[self.scores]) if self.scores else out

    def masked(self, scores: Value, mask: Value | None) -> Value:
        """The scores, with `hidden` in place of what may not be seen."""
        if mask is not None and mask.dtype != bool_:
            scores = scores + mask
        elif mask is not None:
            scores = alg.where(mask, scores, self.hidden)
        if self.causal:
            m, n = scores.shape[-2:]
            iota, owner = CALLS["iota"], scores.node.owner
            past = self.past
            if not isinstance(past, int):
                past = CALLS["size_of"](past, owner)
            seen = iota((1, n), 1, owner=owner) <= iota((m, 1), 0, owner=owner) + past
            scores = alg.where(seen, scores, self.hidden)
        return scores

    def ref(self, *xs: Array) -> Any:
        q, k, v = (x.astype(np.float64) for x in xs[:3])
        if q.ndim > 2 and q.shape[-3] != k.shape[-3] > 1:
            k, v = (np.repeat(x, q.shape[-3] // x.shape[-3], -3) for x in (k, v))
        raw = np.einsum("...md,...nd->...mn", q, k) * self.scale
        masked = raw
        if len(xs) == 4:
            bias = xs[3].astype(np.float64)
            masked = np.where(xs[3], raw, self.hidden) if xs[3].dtype == bool else raw + bias
        if self.causal:
            m, n = raw.shape[-2:]
            past = int(self.past) if isinstance(self.past, int) else -1
            masked = np.where(np.tril(np.ones((m, n), bool), past), masked, self.hidden)
        capped = self.softcap * np.tanh(masked / self.softcap) if self.softcap else masked
        e = np.exp(capped - capped.max(-1, keepdims=True))
        weights = e / e.sum(-1, keepdims=True)
        out = narrow(weights @ v, xs[0])
        asked = {"raw": raw, "masked": masked, "capped": capped, "weights": weights}
        return (out, narrow(asked[self.scores], xs[0])) if self.scores else out

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        q, k, v = types[:3]
        return q.size * k.shape[-2] * 2 + out.size * v.shape[-2] * 2


@graph_function("attention")
def attention(
    q: Any, k: Any, v: Any, mask: Any = None, causal: bool = False, scale: float | None = None,
    softcap: float = 0.0, past: Any = 0, hidden: float = -math.inf, scores: str = "",
) -> Any:  # fmt: skip
    """softmax(q @ k.mT * scale) @ v for q [..., heads, m, d], k [..., heads, n, d] and v [..., heads,
    n, e]; `scale` is 1/sqrt(d) unless given. See the op `Attention` for masks, causality, grouped
    heads, and for `scores`, which makes the result a pair."""
    query, key, value = promoted(q, k, v)
    if scale is None:
        size = query.shape[-1] if query.ndim else 0
        if not isinstance(size, int) or size < 1:
            raise ShapeError(f"attention: the last axis of {query.type} must be a number",
                             "or give scale")  # fmt: skip
        scale = 1 / math.sqrt(size)
    if softcap < 0:
        raise ConfigError(f"attention: softcap must not be negative, it is {softcap}")
    xs = [query, key, value]
    if mask is not None:
        given = as_value(mask, query)
        xs.append(given if given.dtype == bool_ else CALLS["cast"](given, query.dtype))
    op = Attention(float(scale), bool(causal), past, float(softcap), float(hidden), scores)
    made = query.node.owner.node(op, tuple(xs)).outputs
    return made if scores else made[0]


@dataclass(frozen=True)
class Rotate(Op):
    """x [..., t, d], cosines and sines that broadcast to [..., t, d / 2]: pairs of x are turned by
    an angle each (Su et al. 2021, rotary embedding). A pair is element i and i + d / 2, or with
    `interleaved` 2 i and 2 i + 1."""

    interleaved: bool = False
    arity = 3
    onnx = "RotaryEmbedding"
    samples = (sample((2, 3, 4, 6), (4, 3), (4, 3)), sample((3, 4), (3, 2), (3, 2), interleaved=True),
               sample((2, 1, 3, 10), (2, 1, 3, 5), (2, 1, 3, 5), interleaved=True))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        x, cosines, sines = types
        for t in types:
            if not t.dtype.is_float or not t.dtype.computes or t.dtype != x.dtype:
                raise DTypeError(
                    f"not defined for {x.dtype} and {t.dtype}", "cast to float32 first"
                )
        if x.ndim < 1 or not isinstance(x.shape[-1], int) or x.shape[-1] % 2:
            raise ShapeError(f"the last axis of {x} does not consist of pairs")
        half = (*x.shape[:-1], x.shape[-1] // 2)
        if cosines.shape != sines.shape or broadcast_shapes(cosines.shape, half) != half:
            raise ShapeError(f"cosines {cosines} and sines {sines} do not fit {x}")
        return x

    def expand(self, *xs: Value) -> Value:
        x, cosines, sines = xs
        d = x.type.shape[-1]
        if self.interleaved:
            pairs = CALLS["reshape"](x, (*x.shape[:-1], d // 2, 2))
            a, b = pairs[..., 0], pairs[..., 1]
        else:
            a, b = CALLS["split"](x, 2, -1)
        turned = a * cosines - b * sines, a * sines + b * cosines
        if self.interleaved:
            return CALLS["reshape"](CALLS["stack"](turned, -1), x.shape)  # type: ignore[no-any-return]
        return concat(turned, -1)

    def ref(self, *xs: Array) -> Array:
        x, cosines, sines = (a.astype(np.float64) for a in xs)
        half = x.shape[-1] // 2
        apart: Any = (np.s_[..., 0::2], np.s_[..., 1::2])
        first, second = apart if self.interleaved else (np.s_[..., :half], np.s_[..., half:])
        turned = (x[first] + 1j * x[second]) * (cosines + 1j * sines)
        out = np.empty_like(x)
        out[first], out[second] = turned.real, turned.imag
        return narrow(out, xs[0])


@graph_function("rotary_embedding")
def rotary_embedding(
    x: Any, cosines: Any, sines: Any, positions: Any = None, interleaved: bool = False,
    size: int = 0,
) -> Value:  # fmt: skip
    """Queries or keys x [batch, heads, t, d] turned by their positions: the first `size` (0: all)
    elements of each, in pairs of element i and i + size / 2, or with `interleaved` of neighbours.

    `cosines` and `sines` are tables [positions, size / 2] read at `positions` [batch, t] (integers),
    or without those what each place needs, [t, size / 2] or [batch, t, size / 2].
    """
    v, c, s = promoted(x, cosines, sines)
    if v.ndim != 4 or not 0 <= size <= (v.shape[3] if isinstance(v.shape[3], int) else size):
        raise ShapeError(f"rotary_embedding: {size} elements of {v.type}, which should be "
                         "[batch, heads, t, d]")  # fmt: skip
    if positions is not None:
        c, s = (CALLS["gather"](table, positions, 0) for table in (c, s))
    if c.ndim == 3:  # the same for all heads
        c, s = (CALLS["expand_dims"](table, 1) for table in (c, s))
    owner = v.node.owner
    if not size or size == v.shape[3]:
        return owner.node(Rotate(bool(interleaved)), (v, c, s)).outputs[0]
    turned = owner.node(Rotate(bool(interleaved)), (v[..., :size], c, s)).outputs[0]
    return concat([turned, v[..., size:]], -1)
