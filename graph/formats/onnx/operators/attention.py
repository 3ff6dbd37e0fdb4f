"""Attention and rotary embedding."""

from __future__ import annotations

from .....dims import Dim
from .....dtypes import bool_
from ....ir import Value
from ....ops.attention import attention, rotary_embedding
from ....ops.creation import iota
from ....ops.padding import pad
from ....ops.pointwise import where
from ....ops.shape import concat, reshape, transpose
from ..call import Call
from ..registry import converter
from ..sizes import as_sized

_SCORES = ("raw", "masked", "capped", "weights")
_INF = float("inf")


def _heads(call: Call, x: Value, attribute: str) -> Value:
    """[batch, heads, length, size], also from [batch, length, heads * size]."""
    if x.ndim == 4:
        return x
    count = call.integer(attribute)
    if x.ndim != 3 or count < 1 or not isinstance(x.shape[2], int) or x.shape[2] % count:
        call.refuse(f"{x.type} does not hold {count} heads")
    batch, length, wide = x.shape
    return transpose(reshape(x, (batch, length, count, wide // count)), (0, 2, 1, 3))


def _joined(x: Value) -> Value:
    """[batch, heads, length, size] as [batch, length, heads * size]."""
    batch, heads, length, size = x.shape
    return reshape(transpose(x, (0, 2, 1, 3)), (batch, length, heads * size))


@converter("Attention")
def _attention(call: Call) -> tuple[Value | None, ...]:
    given = call.value(0)
    q = _heads(call, given, "q_num_heads")
    k, v = (_heads(call, call.value(j), "kv_num_heads") for j in (1, 2))
    batch = q.shape[0]
    k = as_sized(k, (batch, *k.shape[1:3], q.shape[3]))
    v = as_sized(v, (*k.shape[:3], v.shape[3]))
    past: Dim = 0
    if call.has(4):
        before = [as_sized(call.value(j), (batch, x.shape[1], call.value(4).shape[2], x.shape[3]))
                  for j, x in ((4, k), (5, v))]  # fmt: skip
        past = before[0].shape[2]
        k, v = (concat([old, new], 2) for old, new in zip(before, (k, v)))
    mode = call.integer("qk_matmul_output_mode", 0)
    if not 0 <= mode < len(_SCORES):
        call.refuse(f"qk_matmul_output_mode {mode} is not known")
    made = attention(
        q, k, v, _mask(call, q, k), call.flag("is_causal"),
        call.number("scale") if call.given("scale") else None, call.number("softcap", 0.0), past,
        scores=_SCORES[mode] if call.wants(3) else "",
    )  # fmt: skip
    out, scores = made if call.wants(3) else (made, None)
    return out if given.ndim == 4 else _joined(out), k, v, scores


def _mask(call: Call, q: Value, k: Value) -> Value | None:
    """What hides keys, or is added to scores: a mask, whose missing keys are hidden, and the number
    of keys that are no padding."""
    length = k.shape[2]
    mask = call.optional(3)
    if mask is not None:
        missing = length - mask.shape[-1]
        if not isinstance(missing, int) or missing > 0:
            hidden = 0.0 if mask.dtype == bool_ else -_INF
            none = (0,) * mask.ndim
            mask = pad(mask, none, (*none[1:], missing), hidden)
    if not call.has(6):
        return mask
    count = reshape(call.value(6), (-1, 1, 1, 1))
    seen = iota((1, 1, 1, length), 3, owner=q.node.owner) < count
    if mask is None:
        return seen
    return mask & seen if mask.dtype == bool_ else where(seen, mask, -_INF)


@converter("RotaryEmbedding")
def _rotary_embedding(call: Call) -> Value:
    given = call.value(0)
    x = _heads(call, given, "num_heads")
    made = rotary_embedding(x, call.value(1), call.value(2), call.optional(3),
                            call.flag("interleaved"), call.integer("rotary_embedding_dim", 0))  # fmt: skip
    return made if given.ndim == 4 else _joined(made)
