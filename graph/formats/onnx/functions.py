"""Functions: operators that are defined by other operators, in the model or by ONNX itself.

In: a node and the types of its operands. Out: the FunctionProto that says what it computes, and the
attributes its body refers to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ....dims import DimExpr
from ....errors import ModelError
from ...ir import TensorType
from .tensors import code_of

if TYPE_CHECKING:
    from onnx import AttributeProto, FunctionProto, NodeProto


def schema_of(node: NodeProto, version: int) -> Any:
    """What ONNX says about an operator at an opset; None if it knows none."""
    from onnx import defs

    domain = "" if node.domain == "ai.onnx" else node.domain
    try:
        return defs.get_schema(node.op_type, version, domain)
    except defs.SchemaError:
        return None


def check_operands(node: NodeProto, version: int) -> None:
    """ModelError if ONNX knows the operator, and it takes another number of operands."""
    schema = schema_of(node, version)
    given = len(node.input)
    if schema is None or schema.min_input <= given <= schema.max_input:
        return
    few, many = schema.min_input, schema.max_input
    takes = f"{few}" if few == many else f"{few} to {many}" if given > many else f"at least {few}"
    raise ModelError(f"it has {given} operands, the operator takes {takes}")


def expanded(node: NodeProto, attributes: Mapping[str, AttributeProto], version: int,
             types: Sequence[TensorType | None]) -> FunctionProto | None:  # fmt: skip
    """The function that ONNX defines an operator by at an opset; None if it does not."""
    from onnx import FunctionProto, NodeProto

    schema = schema_of(node, version)
    if schema is None:
        return None
    made = FunctionProto()
    if schema.has_function:
        made.ParseFromString(schema.function_body.SerializeToString())
        return made
    if not schema.has_context_dependent_function:
        return None
    whole = NodeProto()
    whole.CopyFrom(node)
    del whole.attribute[:]
    whole.attribute.extend(attributes.values())
    known = [v for v in schema.context_dependent_function_opset_versions if v <= version]
    if not known:
        return None
    raw = schema.get_context_dependent_function_with_opset_version(
        max(known), whole.SerializeToString(), [_type(t).SerializeToString() for t in types]
    )
    made.ParseFromString(raw)
    return made


def _type(t: TensorType | None) -> Any:
    """A type as ONNX writes it; nothing for an operand that is left out."""
    from onnx import TypeProto, helper

    if t is None:
        return TypeProto()
    shape = [str(d) if isinstance(d, DimExpr) else d for d in t.shape]
    return helper.make_tensor_type_proto(code_of(t.dtype), shape)


def bindings(function: FunctionProto, attributes: Mapping[str, AttributeProto],
             schema: Any = None) -> dict[str, AttributeProto]:  # fmt: skip
    """The attributes a function's body refers to: the node's, else defaults."""
    out = {a.name: a for a in function.attribute_proto}
    for name in function.attribute:
        if schema is not None and name in schema.attributes:
            default = schema.attributes[name].default_value
            if default.type:
                out[name] = default
    out.update(attributes)
    return out


def resolved(node: NodeProto, bound: Mapping[str, AttributeProto] | None
             ) -> dict[str, AttributeProto]:  # fmt: skip
    """A node's attributes by name; those that refer to the function's are replaced by them, or left
    out where it has none."""
    from onnx import AttributeProto

    out: dict[str, AttributeProto] = {}
    for a in node.attribute:
        if not a.ref_attr_name:
            out[a.name] = a
        elif bound is not None and a.ref_attr_name in bound:
            made = AttributeProto()
            made.CopyFrom(bound[a.ref_attr_name])
            made.name = a.name
            out[a.name] = made
    return out
