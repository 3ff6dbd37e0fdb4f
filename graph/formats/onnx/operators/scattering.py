"""Operators that read and write at places named along several axes, and caches."""

from __future__ import annotations

from ....ir import Value
from ....ops import scattering, sequences
from ..call import Call
from ..registry import converter


@converter("GatherElements", halves=True)
def _gather_elements(call: Call) -> Value:
    return scattering.gather_elements(call.value(0), call.value(1), call.integer("axis", 0))


@converter("GatherND", halves=True)
def _gather_nd(call: Call) -> Value:
    return scattering.gather_nd(call.value(0), call.value(1), call.integer("batch_dims", 0))


@converter("Scatter", "ScatterElements", halves=True)
def _scatter_elements(call: Call) -> Value:
    return scattering.scatter_elements(
        call.value(0), call.value(1), call.value(2), call.integer("axis", 0), _reduction(call)
    )


@converter("ScatterND", halves=True)
def _scatter_nd(call: Call) -> Value:
    return scattering.scatter_nd(call.value(0), call.value(1), call.value(2), _reduction(call))


def _reduction(call: Call) -> str:
    found = call.text("reduction", "none")
    if found not in scattering.REDUCTIONS:
        call.refuse(f"the reduction {found!r} is not known")
    if found != "none" and not call.value(0).dtype.computes:
        call.refuse(f"{found} of {call.value(0).dtype} is not supported")
    return found


@converter("TensorScatter", halves=True)
def _tensor_scatter(call: Call) -> Value:
    mode = call.text("mode", "linear")
    if mode not in ("linear", "circular"):
        call.refuse(f"the mode {mode!r} is not known")
    starts = call.optional(2)
    return sequences.tensor_scatter(
        call.value(0), call.value(1), starts, call.integer("axis", -2), mode == "circular"
    )


@converter("ReverseSequence", halves=True)
def _reverse_sequence(call: Call) -> Value:
    return sequences.reverse_sequence(
        call.value(0), call.value(1), call.integer("batch_axis", 1), call.integer("time_axis", 0)
    )
