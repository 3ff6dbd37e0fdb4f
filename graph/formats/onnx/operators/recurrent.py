"""Recurrent networks: RNN, GRU, LSTM."""

from __future__ import annotations

from typing import Any

from ....ir import Value
from ....ops import pointwise
from ....ops.directions import gru, lstm, rnn
from ....ops.shape import reshape, transpose
from ..call import Call
from ..registry import converter


def _options(call: Call) -> dict[str, Any]:
    """What the three have in common: operands 0 to 5, directions, activations."""
    return {
        "x": call.value(0), "w": call.value(1), "r": call.value(2), "b": call.optional(3),
        "lengths": call.optional(4), "initial_h": call.optional(5),
        "direction": call.text("direction", "forward"), "activations": call.texts("activations"),
        "alpha": call.numbers("activation_alpha"), "beta": call.numbers("activation_beta"),
        "clip": call.number("clip") if call.given("clip") else None,
        "batch_first": call.flag("layout"),
    }  # fmt: skip


@converter("RNN", since=7)
def _rnn(call: Call) -> tuple[Value | None, ...]:
    return rnn(**_options(call))


@converter("GRU", since=7)
def _gru(call: Call) -> tuple[Value | None, ...]:
    return gru(**_options(call), reset_after=call.flag("linear_before_reset"))


@converter("LSTM", since=7)
def _lstm(call: Call) -> tuple[Value | None, ...]:
    return lstm(**_options(call), initial_c=call.optional(6), peepholes=call.optional(7),
                coupled=call.flag("input_forget"))  # fmt: skip


@converter("DynamicQuantizeLSTM", domain="com.microsoft")
def _quantised_lstm(call: Call) -> tuple[Value | None, ...]:
    """With its weights as floats; onnxruntime rounds what they are multiplied by to 8 bits as well,
    anew at each step."""
    options = {**_options(call), "w": _weights(call, 1, 8), "r": _weights(call, 2, 10)}
    return lstm(**options, initial_c=call.optional(6), peepholes=call.optional(7),
                coupled=call.flag("input_forget"))  # fmt: skip


def _weights(call: Call, k: int, scale: int) -> Value:
    """Quantised weights [directions, in, gates] as floats [directions, gates, in]. Scale and zero
    point differ from direction to direction, and maybe from gate to gate."""
    w = call.value(k)
    s, z = (reshape(p, (p.shape[0], 1, -1)) for p in (call.value(scale), call.value(scale + 1)))
    steps = pointwise.cast(w, "int32") - pointwise.cast(z, "int32")
    return transpose(pointwise.cast(steps, "float32") * s, (0, 2, 1))
