"""Element-by-element ops of floats, comparisons and choices. Most are written by their names."""

from __future__ import annotations

import math

from ..... import algorithm as alg
from .....dtypes import bool_
from ....ir import CALLS, Value
from ....ops.base import make
from ....ops.pointwise import Pow
from ..draft import Site, Tensor
from ..tensors import code_of
from ..writing import Composite, expansion, writer

_CUT = ("int8", "uint8", "int16", "uint16")


@writer("cast")
def _cast(site: Site) -> Tensor:
    """Floats that do not fit an integer: ONNX leaves open what they become. What flowmill says, the
    nearest there is, is written for 8 and 16 bits, where it matters."""
    to, x = site.op.dtype, site.x
    if to.name in _CUT and x.dtype.is_float:
        low, high = alg.extreme(to, -1), alg.extreme(to, 1)
        x = site.emit("Clip", x, site.constant(low, x.dtype), site.constant(high, x.dtype))
    return site.emit("Cast", x, dtype=to, to=code_of(to))


@writer("ne")
def _ne(site: Site) -> Tensor:
    return site.emit("Not", site.emit("Equal", *site.xs, dtype=bool_), dtype=bool_)


@expansion("lt", "le", "gt", "ge")
def _ordered(n: Composite) -> Value | None:
    """Bools have an order in flowmill only."""
    if n.inputs[0].dtype != bool_:
        return None
    return CALLS[n.op.name](*(CALLS["cast"](x, "int32") for x in n.inputs))


@expansion("add", "maximum")
def _either(n: Composite) -> Value | None:
    return CALLS["or"](*n.inputs) if n.inputs[0].dtype == bool_ else None


@expansion("mul", "minimum")
def _both(n: Composite) -> Value | None:
    return CALLS["and"](*n.inputs) if n.inputs[0].dtype == bool_ else None


@expansion("neg")
def _neg(n: Composite) -> Value | None:
    return 0 - n.inputs[0] if n.inputs[0].dtype.kind == "u" else None


@expansion("isfinite")
def _isfinite(n: Composite) -> Value:
    (x,) = n.inputs
    return ~(CALLS["isnan"](x) | CALLS["isinf"](x))


@expansion("trunc")
def _trunc(n: Composite) -> Value:
    (x,) = n.inputs
    return alg.where(x < 0, alg.ceil(x), alg.floor(x))


@writer("rsqrt")
def _rsqrt(site: Site) -> Tensor:
    return site.emit("Reciprocal", site.emit("Sqrt", site.x))


@expansion("exp2")
def _exp2(n: Composite) -> Value:
    return make(Pow(), CALLS["constant"](2.0, n.inputs[0].dtype, n.owner), n.inputs[0])


@expansion("expm1")
def _expm1(n: Composite) -> Value:
    """tanh(x / 2) (exp(x) + 1), which is accurate near zero; far from it exp(x) - 1 is, and finite
    where the other is infinity times something."""
    (x,) = n.inputs
    e = alg.exp(x)
    return alg.where(alg.abs_(x) < 1, alg.tanh(x * 0.5) * (e + 1), e - 1)


@expansion("log1p")
def _log1p(n: Composite) -> Value:
    """log(u) x / (u - 1) for u = 1 + x as rounded (Goldberg 1991), x itself where u is 1."""
    (x,) = n.inputs
    u = x + 1
    near = alg.equal(u, 1) | alg.isinf(u)
    scaled = alg.log(u) * (x / alg.where(near, 1, u - 1))
    return alg.where(alg.equal(u, 1), x, alg.where(alg.isinf(u), u, scaled))


@expansion("log2")
def _log2(n: Composite) -> Value:
    return alg.log(n.inputs[0]) * (1 / math.log(2))


@expansion("mod", "fmod", "floordiv", "trunc_divide")
def _division(n: Composite) -> Value | None:
    """Of floats: with the exact remainder of C's fmod, which Mod has."""
    x, y = n.inputs
    if not x.dtype.is_float or n.op.name == "fmod":
        return None
    if n.op.name == "trunc_divide":
        return alg.trunc(x / y)
    rest = CALLS["fmod"](x, y)
    rest = alg.where(alg.not_equal(rest, 0) & ((rest < 0) ^ (y < 0)), rest + y, rest)
    if n.op.name == "mod":
        return rest
    return alg.where(alg.equal(y, 0), x / y, alg.round_((x - rest) / y))


@writer("mod", "fmod")
def _mod(site: Site) -> Tensor:
    return site.emit("Mod", *site.xs, fmod=int(site.op.name == "fmod"))


@expansion("where")
def _where(n: Composite) -> Value | None:
    """Bools by logic, which all that reads models has."""
    cond, yes, no = n.inputs
    return (cond & yes) | (~cond & no) if yes.dtype == bool_ else None
