"""Damaged and hostile ONNX models, made from sound ones.

In: the bytes of a model and a random generator. Out: the bytes of another, most of which are still
a protobuf: operators swapped, operands dropped, attributes, types and sizes changed, weights cut,
names used twice; or bytes flipped, cut, repeated. The same generator makes the same model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper

INTEGERS = (0, 1, -1, 2, 3, -2, 7, 64, 127, 128, 255, -128, 1000, 65_537, (1 << 31) - 1, -(1 << 31),
            1 << 31, 1 << 32, 1 << 40, (1 << 63) - 1, -(1 << 63))  # fmt: skip
FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-30, 1e30, float("inf"), float("-inf"), float("nan"))
NAMES = ("", "a\0b", "x" * 5000, "ÿ", "linear", "SAME_UPPER", "none", "reflect", "../../etc/passwd")
OPERATORS = tuple(sorted({s.name for s in onnx.defs.get_all_schemas() if s.domain == ""}))
COMMON = tuple(
    o for o in OPERATORS if "Sequence" not in o and not o.startswith(("Optional", "String"))
)
TYPES = tuple(range(0, 26))


def mutated(raw: bytes, random: Random) -> bytes:
    """The bytes of a model with a few things changed."""
    if random.random() < 0.1:
        return _bytes_changed(raw, random)
    model = onnx.ModelProto()
    model.ParseFromString(raw)
    for _ in range(random.choice((1, 1, 1, 2, 2, 3, 5))):
        try:
            _any(CHANGES, random)(model, random)
        except DecodeError:
            break  # an earlier change nested it too deeply to be copied
    out = bytes(model.SerializeToString())
    return _bytes_changed(out, random) if random.random() < 0.05 else out


def _any(things: Any, random: Random) -> Any:
    """One of these; None where there is none."""
    found = list(things)
    return random.choice(found) if found else None


def _number(random: Random) -> int:
    return random.choice(INTEGERS) if random.random() < 0.6 else random.randint(-4, 12)


# --- bytes ----------------------------------------------------------------------------------------


def _bytes_changed(raw: bytes, random: Random) -> bytes:
    out = bytearray(raw)
    for _ in range(random.choice((1, 1, 2, 4, 16))):
        if not out:
            break
        at = random.randrange(len(out))
        size = min(len(out) - at, random.choice((1, 2, 4, 8, 40)))
        what = random.randrange(6)
        if what == 0:
            out[at] ^= 1 << random.randrange(8)
        elif what == 1:
            out[at] = random.choice((0, 1, 0x7F, 0x80, 0xFF, 0x0B, 0x0C))
        elif what == 2:
            del out[at : at + size]
        elif what == 3:
            out[at:at] = out[at : at + size]
        elif what == 4:
            out[at:at] = (
                bytes([0xFF] * 9 + [1]) if random.random() < 0.5 else random.randbytes(size)
            )
        else:
            del out[at:]
    return bytes(out)


# --- structure ------------------------------------------------------------------------------------


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for a in node.attribute:
            if a.HasField("g"):
                yield from _graphs(a.g)


def _node(model: ModelProto, random: Random) -> NodeProto | None:
    """Any node, those of sub-graphs and functions too."""
    bodies = [g.node for g in _graphs(model.graph)] + [f.node for f in model.functions]
    return _any((n for body in bodies for n in body), random)


def _tensor(model: ModelProto, random: Random) -> TensorProto | None:
    """Any stored tensor."""
    graphs = list(_graphs(model.graph))
    found = [t for g in graphs for t in g.initializer]
    found += [a.t for g in graphs for n in g.node for a in n.attribute if a.HasField("t")]
    return _any(found, random)


def _names(model: ModelProto) -> list[str]:
    found = {name for g in _graphs(model.graph) for n in g.node for name in (*n.input, *n.output)}
    found |= {i.name for i in model.graph.input} | {t.name for t in model.graph.initializer}
    return sorted(found)


def _swap_operator(model: ModelProto, random: Random) -> None:
    node = _node(model, random)
    if node is not None:
        node.op_type = random.choice(
            COMMON if random.random() < 0.9 else (*OPERATORS, "", "Nothing")
        )


def _change_operands(model: ModelProto, random: Random) -> None:
    node = _node(model, random)
    if node is None:
        return
    names = list(node.input)
    what = random.randrange(6)
    if what == 0 and names:
        del names[random.randrange(len(names))]
    elif what == 1 and names:
        names[random.randrange(len(names))] = ""
    elif what == 2:
        random.shuffle(names)
    elif what == 3 and names:
        names[random.randrange(len(names))] = random.choice(_names(model) or [""])
    elif what == 4:
        names += [random.choice(_names(model) or [""])] * random.choice((1, 2, 40))
    else:
        names.append(random.choice(NAMES))
    node.input[:] = names


def _change_results(model: ModelProto, random: Random) -> None:
    node = _node(model, random)
    if node is None:
        return
    names = list(node.output)
    what = random.randrange(4)
    if what == 0 and names:
        del names[random.randrange(len(names))]
    elif what == 1:
        names += [f"more_{k}" for k in range(random.choice((1, 2, 9)))]
    elif what == 2 and names:
        names[random.randrange(len(names))] = random.choice(_names(model) or [""])
    else:
        random.shuffle(names)
    node.output[:] = names


def _attribute(model: ModelProto, random: Random) -> tuple[NodeProto, AttributeProto] | None:
    bodies = [g.node for g in _graphs(model.graph)] + [f.node for f in model.functions]
    return _any(((n, a) for body in bodies for n in body for a in n.attribute), random)


def _change_attribute(model: ModelProto, random: Random) -> None:
    """Another value of the same type."""
    found = _attribute(model, random)
    if found is None:
        return
    a = found[1]
    kind = AttributeProto.AttributeType.Name(a.type)
    if kind == "INT":
        a.i = _number(random)
    elif kind == "FLOAT":
        a.f = random.choice(FLOATS)
    elif kind == "STRING":
        a.s = random.choice((*(n.encode() for n in NAMES), b"\xff\xfe"))
    elif kind in ("INTS", "FLOATS", "STRINGS"):
        values = getattr(a, kind.lower())
        other: Any = {"INTS": _number(random), "FLOATS": random.choice(FLOATS),
                      "STRINGS": random.choice(NAMES).encode()}[kind]  # fmt: skip
        what = random.randrange(4)
        if what == 0 and values:
            values[random.randrange(len(values))] = other
        elif what == 1:
            values.extend([other] * random.choice((1, 2, 70)))
        elif what == 2 and values:
            del values[random.randrange(len(values))]
        else:
            del values[:]
    elif kind == "GRAPH" and a.g.node:
        del a.g.node[random.randrange(len(a.g.node))]


def _replace_attribute(model: ModelProto, random: Random) -> None:
    """None, one of another type, one that refers to nothing, or two of a name."""
    found = _attribute(model, random)
    if found is None:
        return
    node, a = found
    what = random.randrange(4)
    if what == 0:
        node.attribute.remove(a)
    elif what == 1:
        name = a.name
        value: Any = random.choice((1, -1, 2.5, b"text", [1, 2], [1.5], [b"a"]))
        a.CopyFrom(helper.make_attribute(name, value))
    elif what == 2:
        a.ref_attr_name = random.choice((a.name, "nothing"))
    else:
        node.attribute.add().CopyFrom(a)


def _add_attribute(model: ModelProto, random: Random) -> None:
    """One that some operator knows."""
    node = _node(model, random)
    if node is None:
        return
    known = onnx.defs.get_schema(node.op_type).attributes if node.op_type in OPERATORS else {}
    name = random.choice([*sorted(known), "axis", "axes"])
    value: Any = random.choice((_number(random), random.choice(FLOATS), random.choice(NAMES),
                                [_number(random) for _ in range(random.randrange(1, 5))]))  # fmt: skip
    node.attribute.add().CopyFrom(helper.make_attribute(name, value))


def _change_dims(model: ModelProto, random: Random) -> None:
    tensor = _tensor(model, random)
    if tensor is None:
        return
    dims = list(tensor.dims)
    what = random.randrange(3)
    if what == 0 and dims:
        dims[random.randrange(len(dims))] = _number(random)
    elif what == 1:
        dims.insert(random.randint(0, len(dims)), _number(random))
    elif dims:
        del dims[random.randrange(len(dims))]
    tensor.dims[:] = dims


def _change_tensor(model: ModelProto, random: Random) -> None:
    """Its type, the length of its data, where they lie, or what it is called."""
    tensor = _tensor(model, random)
    if tensor is None:
        return
    what = random.randrange(6)
    if what == 0:
        tensor.data_type = random.choice(TYPES)
    elif what == 1:
        tensor.raw_data = tensor.raw_data[: random.randint(0, len(tensor.raw_data))]
    elif what == 2:
        tensor.ClearField("raw_data")
    elif what == 3:
        tensor.name = random.choice(_names(model) or ["x"])
    elif what == 4:
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=random.choice(NAMES))
    else:
        tensor.int64_data.extend([_number(random)] * 3)


def _change_numbers(model: ModelProto, random: Random) -> None:
    """A few numbers of a stored tensor; integers that say sizes and places above all."""
    tensor = _tensor(model, random)
    if tensor is None:
        return
    if tensor.int64_data:
        tensor.int64_data[random.randrange(len(tensor.int64_data))] = _number(random)
    elif tensor.float_data:
        tensor.float_data[random.randrange(len(tensor.float_data))] = random.choice(FLOATS)
    elif tensor.raw_data:
        raw = bytearray(tensor.raw_data)
        size = {TensorProto.INT64: 8, TensorProto.INT32: 4}.get(tensor.data_type, 1)
        at = random.randrange(len(raw)) // size * size
        number = _number(random) if size > 1 else random.randrange(256)
        raw[at : at + size] = (number % (1 << 8 * size)).to_bytes(size, "little")
        tensor.raw_data = bytes(raw)


def _change_input(model: ModelProto, random: Random) -> None:
    """Type, shape or name of an input or output."""
    info = _any((*model.graph.input, *model.graph.output), random)
    if info is None:
        return
    t = info.type.tensor_type
    what = random.randrange(8)
    if what == 0:
        t.elem_type = random.choice(TYPES)
    elif what == 1 and t.shape.dim:
        t.shape.dim[random.randrange(len(t.shape.dim))].dim_value = _number(random)
    elif what == 2 and t.shape.dim:
        written = ("n", "n + 1", "2 * n", "n // 0", "-n", "", "?", "min(n, m)", "(" * 3000, "n" * 999,
                   "n * n * n * n", "1 << 99", "def", "é")  # fmt: skip
        t.shape.dim[random.randrange(len(t.shape.dim))].dim_param = random.choice(written)
    elif what == 3:
        t.shape.dim.add().dim_value = random.randint(0, 3)
    elif what == 4 and t.shape.dim:
        del t.shape.dim[random.randrange(len(t.shape.dim))]
    elif what == 5:
        t.ClearField("shape")
    elif what == 6:
        info.name = random.choice((*NAMES, *_names(model)))
    else:
        info.ClearField("type")


def _change_order(model: ModelProto, random: Random) -> None:
    """Nodes taken out, put elsewhere or there twice."""
    graph = random.choice(list(_graphs(model.graph)))
    nodes = [NodeProto.FromString(n.SerializeToString()) for n in graph.node]
    if not nodes:
        return
    at = random.randrange(len(nodes))
    what = random.randrange(4)
    if what == 0:
        del nodes[at]
    elif what == 1:
        nodes.insert(random.randrange(len(nodes)), nodes.pop(at))
    elif what == 2:
        nodes.insert(at, nodes[at])
    else:
        twice = NodeProto.FromString(nodes[at].SerializeToString())
        twice.output[:] = [f"{name}_2" for name in twice.output]
        nodes.insert(at + 1, twice)
    del graph.node[:]
    graph.node.extend(nodes)


def _append_node(model: ModelProto, random: Random) -> None:
    """An operator on what is there, its result an output."""
    op = random.choice(COMMON)
    schema = onnx.defs.get_schema(op)
    count = random.randint(schema.min_input, min(max(schema.max_input, 1), schema.min_input + 2))
    names = [i.name for i in (*model.graph.input, *model.graph.output)]
    names = _names(model) or ["x"] if not names or random.random() < 0.5 else names
    node = helper.make_node(op, [random.choice(names) for _ in range(count)], ["appended"])
    for name, a in schema.attributes.items():
        if a.required or random.random() < 0.3:
            value: Any = {"INT": _number(random), "INTS": [_number(random) for _ in range(2)],
                          "FLOAT": random.choice(FLOATS), "STRING": random.choice(NAMES),
                          "FLOATS": [random.choice(FLOATS)]}.get(a.type.name)  # fmt: skip
            if value is not None:
                node.attribute.add().CopyFrom(helper.make_attribute(name, value))
    end = f"appended_{len(model.graph.node)}"
    node.output[:] = [end]
    model.graph.node.append(node)
    model.graph.output.add().name = end


def _change_version(model: ModelProto, random: Random) -> None:
    what = random.randrange(4)
    if what < 2 and model.opset_import:
        version = random.choice((0, -1, 1, 6, 7, 9, 11, 13, 18, 22, 26, 99, (1 << 62)))
        model.opset_import[0].version = version
    elif what == 2 and model.opset_import:
        model.opset_import[0].domain = random.choice(("ai.onnx", "ai.onnx.ml", "com.microsoft"))
    else:
        model.ir_version = random.choice((0, 1, 3, 4, 10, 99))


def _change_domain(model: ModelProto, random: Random) -> None:
    node = _node(model, random)
    if node is not None:
        node.domain = random.choice(("ai.onnx", "ai.onnx.ml", "com.microsoft", "local", "a\0"))


def _make_function(model: ModelProto, random: Random) -> None:
    """A node becomes a call of a function that holds it, or calls itself."""
    node = _any(model.graph.node, random)
    if node is None:
        return
    body = NodeProto.FromString(node.SerializeToString())
    inputs, outputs = list(dict.fromkeys(filter(None, node.input))), list(filter(None, node.output))
    if random.random() < 0.3:
        body.domain, body.op_type = "local", "made"
    made = helper.make_function("local", "made", inputs[: random.randint(0, 9)], outputs, [body],
                                [helper.make_opsetid("", 21)], [])  # fmt: skip
    made.opset_import[0].CopyFrom(model.opset_import[0] if model.opset_import else
                                  helper.make_opsetid("", 21))  # fmt: skip
    model.functions.append(made)
    node.domain, node.op_type = "local", "made"
    node.input[:] = inputs
    del node.attribute[:]


def _nest(model: ModelProto, random: Random) -> None:
    """Sub-graphs within each other, or types of types."""
    deep = random.choice((2, 20, 45))
    if random.random() < 0.5 and model.graph.input:
        kind = model.graph.input[0].type
        for _ in range(deep):
            outer = onnx.TypeProto()
            outer.sequence_type.elem_type.CopyFrom(kind)
            kind = outer
        model.graph.input[0].type.CopyFrom(kind)
        return
    names = _names(model) or ["x"]
    body = helper.make_graph([helper.make_node("Identity", [names[0]], ["inner"])], "g", [], [])
    for k in range(deep):
        body.output.add().name = "inner" if k == 0 else f"inner_{k - 1}"
        held = helper.make_node("If", [random.choice(names)], [f"inner_{k}"])
        for branch in ("then_branch", "else_branch"):
            a = held.attribute.add()
            a.name, a.type = branch, AttributeProto.GRAPH
            if branch == "then_branch" or deep < 10:
                a.g.CopyFrom(body)
            else:
                a.g.name = "empty"
        if deep < 10 and k >= 6:
            break
        body = helper.make_graph([held], "g", [], [])
    model.graph.node.append(held)
    model.graph.output.add().name = held.output[0]


def _inputs_and_weights(model: ModelProto, random: Random) -> None:
    """A weight becomes an input, an input a weight."""
    if random.random() < 0.5 and model.graph.initializer:
        at = random.randrange(len(model.graph.initializer))
        t = model.graph.initializer[at]
        dims: list[Any] = list(t.dims)
        model.graph.input.append(helper.make_tensor_value_info(t.name, t.data_type, dims))
        if random.random() < 0.7:
            del model.graph.initializer[at]
    elif model.graph.input:
        info = model.graph.input[random.randrange(len(model.graph.input))]
        t = model.graph.initializer.add()
        t.name, t.data_type = info.name, info.type.tensor_type.elem_type or 7
        size = 1
        for d in info.type.tensor_type.shape.dim:
            t.dims.append(d.dim_value or 2)
            size *= t.dims[-1]
        size = min(size, 4096) if size > 0 else 0
        if t.data_type in (6, 3, 2, 9):
            t.int32_data.extend(random.randint(-3, 3) for _ in range(size))
        elif t.data_type == 7:
            t.int64_data.extend(_number(random) for _ in range(size))
        elif t.data_type == 1:
            t.float_data.extend(random.random() for _ in range(size))
        if random.random() < 0.7:
            model.graph.input.remove(info)


CHANGES: tuple[Callable[[ModelProto, Random], None], ...] = (
    _swap_operator, _change_operands, _change_operands, _change_results, _change_attribute,
    _change_attribute, _replace_attribute, _add_attribute, _change_dims, _change_tensor,
    _change_numbers, _change_numbers, _change_input, _change_input, _change_order, _append_node,
    _append_node, _change_version, _change_domain, _make_function, _nest, _inputs_and_weights,
)  # fmt: skip
