"""Ops that pass their operand on, random bits, and transforms between time and frequency."""

from __future__ import annotations

from .....dtypes import float64, int64, uint32
from ....ir import CALLS, Value
from ....ops.creation import iota
from ....ops.random import threefry
from ....ops.source import Variable
from ....rewire import rewire
from ..draft import Site, Tensor
from ..tensors import code_of
from ..writing import Composite, expansion, writer


@writer("check", "print", "ensure_shape", "token", "stop_gradient", "relayout")
def _passed(site: Site) -> Tensor:
    """What fails a run, prints, or concerns gradients and memory has no place in a model."""
    return site.x


@expansion("fused")
def _fused(n: Composite) -> tuple[Value, ...]:
    f = n.op.function
    outputs = [v for _, v in f.outputs]
    made = rewire(outputs, dict(zip(f.inputs, n.inputs)), n.owner)
    return tuple(made[v] for v in outputs)


@expansion("random_bits")
def _threefry(n: Composite) -> Value | None:
    """The bits of a state that is fed; those of a graph's own are drawn by the operator."""
    (state,), op = n.inputs, n.op
    if isinstance(state.node.op, Variable):
        return None
    size = n.outputs[0].type.size
    element = CALLS["cast"](iota((size,), owner=n.owner), uint32)
    key = CALLS["constant"](op.op_id, uint32, n.owner)
    bits = threefry(state[0], key, element, state[1])[op.word]
    return CALLS["reshape"](bits, op.shape)


@writer("random_bits")
def _random_bits(site: Site) -> Tensor:
    """Numbers below 2**32, the state being the business of whatever runs the model."""
    shape = site.emit("Expand", site.constant(0, float64), site.dims(site.op.shape))
    drawn = site.emit("RandomUniformLike", shape, dtype=float64, high=float(1 << 32), low=0.0)
    return site.emit("Cast", site.emit("Floor", drawn), dtype=uint32, to=code_of(uint32))


@writer("fft")
def _dft(site: Site) -> Tensor:
    return _transformed(site, site.x, int(site.op.inverse), 0)


@writer("rfft")
def _rfft(site: Site) -> Tensor:
    alone = site.emit("Unsqueeze", site.x, site.ints([-1]))
    return _transformed(site, alone, 0, 1)


def _transformed(site: Site, x: Tensor, inverse: int, onesided: int) -> Tensor:
    axis = site.op.axis
    if site.draft.opset < 20:
        return site.emit("DFT", x, axis=axis, inverse=inverse, onesided=onesided)
    return site.emit("DFT", x, None, site.constant(axis, int64), inverse=inverse,
                     onesided=onesided)  # fmt: skip
