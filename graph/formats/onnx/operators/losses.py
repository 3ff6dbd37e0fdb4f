"""Losses of classification."""

from __future__ import annotations

from ....ir import Value
from ....ops.nll import nll
from ....ops.softmax import log_softmax
from ..call import Call
from ..registry import converter
from ..sizes import as_sized


def _nll(call: Call, logs: Value) -> Value:
    """The loss for log probabilities, of the operands that both operators have."""
    labels = as_sized(call.value(1), (logs.shape[0], *logs.shape[2:]))
    ignore = call.integer("ignore_index") if call.given("ignore_index") else None
    return nll(logs, labels, call.optional(2), ignore, call.text("reduction", "mean"))


@converter("NegativeLogLikelihoodLoss")
def _negative_log_likelihood(call: Call) -> Value:
    return _nll(call, call.value(0))


@converter("SoftmaxCrossEntropyLoss")
def _softmax_cross_entropy(call: Call) -> tuple[Value | None, ...]:
    logs = log_softmax(call.value(0), 1)
    return _nll(call, logs), logs
