"""Recurrent networks along a sequence, one direction each."""

from __future__ import annotations

from typing import Any

import numpy as np

from .....dtypes import float32, int32
from ....ops.rnn import TAKE_ALPHA, TAKE_BETA  # the activations that have a parameter
from ....ops.windows import concrete
from ..draft import Site, Tensor
from ..writing import Composite, expansion, writer


@expansion("rnn", "gru", "lstm")
def _spelled_out(n: Composite) -> Any:
    """Runtimes know these operators for float32, and for a number of units."""
    known = isinstance(n.outputs[0].shape[2], int) and n.outputs[0].dtype == float32
    return None if known else n.op.expand(*n.inputs)


@writer("rnn", "gru", "lstm")
def _recurrent(site: Site) -> tuple[Tensor, ...]:
    op = site.op
    x, w, r, *rest = site.xs
    biases, rest = rest[: op.biases], rest[op.biases :]
    states, rest = rest[: op.states], rest[op.states :]
    lengths = site.cast(rest.pop(), int32) if op.has_lengths else None
    if op.biases == 1:
        biases.append(site.constant(np.zeros(concrete(site.types[3].shape)), x.dtype))
    bias = _first(site, site.emit("Concat", *biases, axis=0))
    more: dict[str, Any] = {"linear_before_reset": int(op.reset_after)} if op.name == "gru" else {}
    operands = [x, _first(site, w), _first(site, r), bias, lengths,
                *(_first(site, s) for s in states)]  # fmt: skip
    if op.name == "lstm":
        more["input_forget"] = int(op.coupled)
        operands.append(_first(site, rest[0]) if op.has_peepholes else None)
    (units,) = concrete(site.out.shape[2:])
    made = site.several(op.onnx, [None] * (1 + op.states), *operands, hidden_size=units,
                        direction="reverse" if op.reverse else "forward", clip=op.clip or None,
                        **_activations(op), **more)  # fmt: skip
    axes = [1, *[0] * op.states]
    return tuple(site.emit("Squeeze", y, site.ints([k])) for y, k in zip(made, axes))


def _first(site: Site, x: Tensor) -> Tensor:
    """x with an axis of directions before the others."""
    return site.emit("Unsqueeze", x, site.ints([0]))


def _activations(op: Any) -> dict[str, Any]:
    names = [name for name, *_ in op.activations]
    alpha = [a for name, a, _ in op.activations if name in TAKE_ALPHA]
    beta = [b for name, _, b in op.activations if name in TAKE_BETA]
    return {
        "activations": names,
        "activation_alpha": alpha or None,
        "activation_beta": beta or None,
    }
