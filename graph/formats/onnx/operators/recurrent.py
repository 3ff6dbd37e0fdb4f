"""Recurrent networks: RNN, GRU, LSTM."""

from __future__ import annotations

from typing import Any

from ....ir import Value
from ....ops.directions import dynamic_quantize_lstm, gru, lstm, rnn
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
def _quantized_lstm(call: Call) -> tuple[Value | None, ...]:
    options = _options(call)
    del options["batch_first"]
    names = "w_scale", "w_zero_point", "r_scale", "r_zero_point"
    options.update(zip(names, (call.value(k) for k in range(8, 12))))
    return dynamic_quantize_lstm(
        **options, initial_c=call.optional(6), peepholes=call.optional(7),
        coupled=call.flag("input_forget"),
    )  # fmt: skip
