"""What element types the operands of ONNX operators have, and how others are brought to them.

In: an operator, an opset, the dtypes of operands. Out: the dtypes they are to be cast to. A cast
keeps every value: where an operator takes no type that holds all values of an operand's, there is
none, and the node is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from onnx import defs

from ....dtypes import ALL, DType, as_dtype
from ....errors import ModelError

_ONNX = {"float32": "float", "float64": "double"}
_TYPES = {f"tensor({_ONNX.get(d.name, d.name)})": d for d in ALL}

# What ONNX allows and onnxruntime has no code for on CPUs; a wider type does as well.
_UNTAKEN = {
    "Where": ("bool", "int16", "uint16"),
    "Max": ("int16", "uint16"),
    "Min": ("int16", "uint16"),
    "ReduceMax": ("int16", "uint16", "uint32"),
    "ReduceMin": ("int16", "uint16", "uint32"),
    "Pad": ("int16", "uint16"),
    "TopK": ("int8", "uint8", "int16", "uint16", "uint32", "float16", "bfloat16"),
    "ArgMax": ("int16", "uint16", "uint32"),
    "ArgMin": ("int16", "uint16", "uint32"),
}
_WIDER = {
    "bool": ("uint8", "int32", "int64", "float32"),
    "int8": ("int16", "int32", "int64", "float32", "float64"),
    "uint8": ("int32", "int64", "uint32", "float32", "float64"),
    "int16": ("int32", "int64", "float32", "float64"),
    "uint16": ("int32", "int64", "uint32", "float32", "float64"),
    "int32": ("int64", "float64"),
    "uint32": ("int64", "uint64", "float64"),
    "float16": ("float32", "float64"),
    "bfloat16": ("float32", "float64"),
    "float32": ("float64",),
}


@dataclass(frozen=True)
class Signature:
    """Names of the types of operands and results ("T", "tensor(int64)"), the last one serving all
    that follow, and which dtypes each name may stand for."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    allowed: dict[str, frozenset[DType]]

    def input(self, k: int) -> str:
        """The type's name of operand k."""
        return self.inputs[min(k, len(self.inputs) - 1)]

    def output(self, k: int) -> str:
        """The type's name of result k."""
        return self.outputs[min(k, len(self.outputs) - 1)]

    def only(self, name: str) -> DType:
        """The one dtype that a type can be."""
        (found,) = self.allowed[name]
        return found


@cache
def signature(operator: str, opset: int) -> Signature:
    """The types of an operator at an opset."""
    schema = defs.get_schema(operator, opset, "")
    allowed = {c.type_param_str: frozenset(_TYPES[t] for t in c.allowed_type_strs if t in _TYPES)
               for c in schema.type_constraints}  # fmt: skip
    untaken = frozenset(as_dtype(name) for name in _UNTAKEN.get(operator, ()))
    inputs = tuple(i.type_str for i in schema.inputs)
    if inputs and untaken:
        name = inputs[1 if operator == "Where" else 0]
        allowed[name] = allowed[name] - untaken
    for formal in (*schema.inputs, *schema.outputs):
        if not formal.is_homogeneous:  # operands of any types, each its own
            allowed.pop(formal.type_str, None)
    for name in (*inputs, *(o.type_str for o in schema.outputs)):
        if name in _TYPES:
            allowed[name] = frozenset((_TYPES[name],))
    return Signature(inputs, tuple(o.type_str for o in schema.outputs), allowed)


def taken(operator: str, opset: int, dtypes: Sequence[DType | None]) -> dict[str, DType]:
    """For the types of an operator, by name, the dtype that operands of them are to have. ModelError
    where one cannot be brought to it."""
    known = signature(operator, opset)
    out: dict[str, DType] = {}
    for k, dtype in enumerate(dtypes):
        name = known.input(k)
        if dtype is None or name in out or name not in known.allowed:
            continue
        allowed = known.allowed[name]
        wider = (as_dtype(w) for w in _WIDER.get(dtype.name, ()))
        found = next((d for d in (dtype, *wider) if d in allowed), None)
        if found is None:
            raise ModelError(f"{operator} takes no {dtype}")
        out[name] = found
    return out
