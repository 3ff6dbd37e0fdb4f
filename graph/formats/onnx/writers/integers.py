"""Integers: bits, shifts, division and powers."""

from __future__ import annotations

from typing import Any

from ..... import algorithm as alg
from .....dtypes import as_dtype, bool_
from ....ir import CALLS, Value
from ....ops.loop import while_loop
from ....ops.source import scalar_value
from ..draft import Site, Tensor
from ..tensors import code_of
from ..writing import Composite, expansion, writer

_BITWISE = {"and": "And", "or": "Or", "xor": "Xor", "not": "Not"}


@writer(*_BITWISE)
def _bits(site: Site) -> Tensor:
    name = _BITWISE[site.op.name]
    return site.emit(name if site.x.dtype == bool_ else f"Bitwise{name}", *site.xs)


@expansion("shl", "shr")
def _shift(n: Composite) -> Value | None:
    """Signed integers by way of unsigned ones, which are all that is shifted: to the right a
    negative number is turned over, so that zeros come in."""
    x, count = n.inputs
    if x.dtype.kind == "u":
        return None
    cast, bare = CALLS["cast"], as_dtype(f"uint{x.dtype.bits}")
    turned = x if n.op.name == "shl" else alg.where(x < 0, ~x, x)
    moved = cast(CALLS[n.op.name](cast(turned, bare), cast(count, bare)), x.dtype)
    return moved if n.op.name == "shl" else alg.where(x < 0, ~moved, moved)


@writer("shl", "shr")
def _bit_shift(site: Site) -> Tensor:
    return site.emit("BitShift", *site.xs, direction="LEFT" if site.op.name == "shl" else "RIGHT")


@writer("trunc_divide")
def _trunc_divide(site: Site) -> Tensor:
    return site.emit("Div", *site.xs)


@expansion("floordiv")
def _floordiv(n: Composite) -> Value | None:
    x, y = n.inputs
    return CALLS["trunc_divide"](x - x % y if x.dtype.kind == "i" else x, y)


@expansion("integer_power")
def _integer_power(n: Composite) -> Value:
    """By squaring, in a loop unless the exponent is known: Pow would compute with floats."""
    shape = n.outputs[0].shape
    known = scalar_value(n.inputs[1])
    if known is not None and known >= 0:
        return CALLS["broadcast_to"](_power(n.inputs[0], int(known)), shape)
    x, y = (CALLS["broadcast_to"](v, shape) for v in n.inputs)
    one: Any = CALLS["constant"](1, x.dtype, n.owner)

    def body(state: tuple[Value, Value, Value]) -> tuple[Value, Value, Value]:
        out, square, left = state
        used = alg.not_equal(left & 1, 0)
        return alg.where(used, out * square, out), square * square, left >> 1

    first = (CALLS["broadcast_to"](one, shape), x, CALLS["max"](y, 0))
    out, _, _ = while_loop(lambda state: CALLS["any"](state[2] > 0), body, first)
    if y.dtype.kind == "u":
        return out
    odd = alg.where(alg.equal(y & 1, 0), one, -one)
    inverse = alg.where(alg.equal(x, 1), one, alg.where(alg.equal(x, -1), odd, 0))
    return alg.where(y < 0, inverse, out)


def _power(x: Value, exponent: int) -> Value:
    out: Value = CALLS["constant"](1, x.dtype, x.node.owner)
    for bit in f"{exponent:b}":
        out = out * out if bit == "0" else out * out * x
    return out


@writer("bit_cast")
def _bit_cast(site: Site) -> Tensor:
    """Between integers Cast keeps the bits; between integers and floats it takes opset 26."""
    to, x = site.op.dtype, site.x
    if not to.is_float and not x.dtype.is_float:
        return site.emit("Cast", x, dtype=to, to=code_of(to))
    if site.draft.opset < 26:
        site.refuse(f"bits of {x.dtype} read as {to} take opset 26")
    return site.emit("BitCast", x, dtype=to, to=code_of(to))
