"""The textual form of functions: `show` prints one, `parse` reads it back; see `printer`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from types import UnionType
from typing import Any

import numpy as np

from ..dims import Dim, DimExpr, sym
from ..dims_text import parse as parse_dim
from ..dtypes import Array, DType
from ..errors import UNKNOWN, Loc, TextError, UserError
from .ir import Function, Interner, Layout, Piece, TensorType, Value
from .ops.base import OPS, Op
from .ops.registry import load_all
from .ops.source import Constant, Data, Input
from .printer import DTYPES, FROM_TYPE, SOURCES, large_data, name_text, show
from .tokens import Reader

__all__ = ["large_data", "parse", "show"]
# what type rules raise for attributes that are of the wrong kind altogether
MISFITS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


_KINDS: dict[str, type | UnionType] = {
    "int": int, "bool": bool, "float": int | float, "str": str, "Dim": int | DimExpr,
    "DType": DType, "Function": Function,
}  # fmt: skip


def _is_kind(value: object, kind: str) -> bool:
    """Whether an attribute is of the kind that its op declares, as far as that is known here."""
    if kind in ("Shape", "tuple[int, ...]"):
        item = "Dim" if kind == "Shape" else "int"
        return isinstance(value, tuple) and all(_is_kind(v, item) for v in value)
    known = _KINDS.get(kind)
    if known is None:
        return True
    return isinstance(value, known) and (kind == "bool" or not isinstance(value, bool))


def parse(
    text: str, interner: Interner | None = None, data: Mapping[str, bytes] | None = None
) -> Function:
    """The function that `text` describes, its nodes made in `interner` (None: a new one).

    `data` holds the bytes of constants too large to stand in the text, by digest.
    Raises TextError, with line and column, where the text cannot be read, a type is not what the
    op gives, or data is missing.
    """
    load_all()
    return _Parser(text, interner or Interner(), data or {}).file()


class _Parser:
    def __init__(self, text: str, interner: Interner, data: Mapping[str, bytes]) -> None:
        self.read = Reader(text)
        self.interner, self.data = interner, data
        self.symbols: dict[str, DimExpr] = {}

    def file(self) -> Function:
        read = self.read
        if read.skip("dims"):
            while True:
                self.symbol()
                if not read.skip(","):
                    break
        found = self.function()
        if read.kind != "end":
            read.fail(f"expected the end, found {read.word}")
        return found

    def symbol(self) -> None:
        read = self.read
        name = read.take(kind="name")
        if name in self.symbols:
            read.fail(f"dimension {name} is declared twice", read.at - 1)
        read.take("in")
        low = read.integer()
        read.take("..")
        high = read.integer() if read.kind == "int" or read.word == "-" else None
        multiple = read.integer() if read.skip("multiple") else 1
        self.symbols[name] = sym(name, low, high, multiple)

    def function(self) -> Function:
        read = self.read
        read.take("graph")
        name = read.name()
        scope: dict[str, Value] = {}
        inputs: list[Value] = []
        for label, type in self.header():
            op = self.op(Input, {"input_name": label}, type, read.at)
            value = self.node(op, (), (type,), ())[0]
            self.bind(scope, "%" + name_text(label), label, value)
            inputs.append(value)
        read.take("->")
        declared = self.header()
        read.take("{")
        while read.kind == "value":
            self.statement(scope)
        updates: list[tuple[Value, Value]] = []
        while read.skip("update"):
            target = self.use(scope)
            read.take("=")
            updates.append((target, self.use(scope)))
        effects: list[Value] = []
        while read.skip("effect"):
            effects.append(self.use(scope))
        outputs = self.results(scope, declared)
        read.take("}")
        return Function(name, tuple(inputs), outputs, tuple(updates), tuple(effects))

    def held(self) -> Function:
        """A function that an op holds: its nodes are not those of the graph around it."""
        outer, self.interner = self.interner, Interner()
        try:
            return self.function()
        finally:
            self.interner = outer

    def header(self) -> list[tuple[str, TensorType]]:
        """`(name: type, ...)`."""
        read = self.read
        out: list[tuple[str, TensorType]] = []
        read.take("(")
        while not read.skip(")"):
            if out:
                read.take(",")
            name = read.name()
            read.take(":")
            out.append((name, self.type()))
        return out

    def results(
        self, scope: Mapping[str, Value], declared: list[tuple[str, TensorType]]
    ) -> tuple[tuple[str, Value], ...]:
        """`return y=%1, ...`, which must be what the header says."""
        read = self.read
        at = read.at
        read.take("return")
        out: list[tuple[str, Value]] = []
        while read.word != "}":
            if out:
                read.take(",")
            name = read.name()
            read.take("=")
            out.append((name, self.use(scope)))
        if [(name, v.type) for name, v in out] != declared:
            read.fail("what is returned is not what the header declares", at)
        return tuple(out)

    def use(self, scope: Mapping[str, Value]) -> Value:
        at = self.read.at
        label, _ = self.read.value()
        if label not in scope:
            self.read.fail(f"{label} is not defined above", at)
        return scope[label]

    def bind(self, scope: dict[str, Value], label: str, name: str | None, value: Value) -> None:
        if label in scope:
            self.read.fail(f"{label} is defined twice", self.read.at - 1)
        scope[label] = value
        if name is not None:
            self.interner.names_of.setdefault(value, name)

    def statement(self, scope: dict[str, Value]) -> None:
        """`%a, %b = op(%x, ..., attribute=...) : type, type @file:line "layer" ...`."""
        read = self.read
        results = [read.value()]
        while read.skip(","):
            results.append(read.value())
        read.take("=")
        at = read.at
        op_class = OPS.get(read.take(kind="name"))
        if op_class is None:
            read.fail(f"no op is named {read.words[at]}", at)
        inputs: list[Value] = []
        attributes: dict[str, Any] = {}
        literal: int | None = None  # where the elements of a constant stand
        read.take("(")
        while not read.skip(")"):
            if inputs or attributes or literal is not None:
                read.take(",")
            if read.kind == "value":
                inputs.append(self.use(scope))
            elif read.kind == "name" and read.words[read.at + 1] == "=":
                name = read.take()
                read.take("=")
                attributes[name] = self.attribute()
            elif op_class is Constant:
                literal = read.at
                read.raw() if not read.follows("[") else self.skip_list()
            else:
                attributes[f"{op_class.name}_name"] = read.string()
        read.take(":")
        types = [self.type()]
        while read.skip(","):
            types.append(self.type())
        locs: list[Loc] = []
        while read.skip("@"):
            file = read.name()
            read.take(":")
            line = read.integer()
            locs.append(Loc(file, line, read.string() if read.kind == "string" else ""))
        if literal is not None:
            attributes["data"] = self.elements(literal, types[0])
        op = self.op(op_class, attributes, types[0], at)
        if len(types) != len(results):
            read.fail(f"{len(results)} results, {len(types)} types", at)
        for (label, given), value in zip(results, self.node(op, inputs, types, locs, at)):
            self.bind(scope, label, given, value)

    def skip_list(self) -> None:
        self.read.take("[")
        while not self.read.skip("]"):
            self.read.at += 1
            if self.read.kind == "end":
                self.read.fail("expected ], found the end")

    def op(self, op_class: type[Op], attributes: dict[str, Any], type: TensorType, at: int) -> Op:
        known = {f.name: str(f.type) for f in fields(op_class)}  # type: ignore[arg-type]
        if issubclass(op_class, SOURCES):
            for name in known.keys() & set(FROM_TYPE):
                attributes[name] = getattr(type, name)
        for name, value in attributes.items():
            if name not in known:
                self.read.fail(f"{op_class.name} has no attribute {name}", at)
            if not _is_kind(value, known[name]):
                self.read.fail(f"{op_class.name}: {name} cannot be {value!r}", at)
        try:
            return op_class(**attributes)
        except TypeError:
            missing = ", ".join(sorted(known.keys() - set(attributes)))
            self.read.fail(f"{op_class.name} needs the attributes {missing}", at)

    def node(
        self, op: Op, inputs: Sequence[Value], types: Sequence[TensorType], locs: Sequence[Loc],
        at: int | None = None,
    ) -> tuple[Value, ...]:  # fmt: skip
        try:
            layout = None if len(types) != 1 or hasattr(op, "layout") else types[0].layout
            node = self.interner.node(op, tuple(inputs), locs[0] if locs else UNKNOWN, layout)
        except UserError as e:
            self.read.fail(e.message, at)
        except MISFITS as e:
            self.read.fail(f"{op.name} cannot have these attributes: {e!r}", at)
        for loc in locs[1:]:
            self.interner.node(op, tuple(inputs), loc, layout)
        if node.types != tuple(types):
            gives, says = (", ".join(str(t) for t in ts) for ts in (node.types, types))
            self.read.fail(f"{op.name} gives {gives}, the text says {says}", at)
        return node.outputs

    def type(self) -> TensorType:
        """`f32[batch,784]`, with the layout in braces if it is not row-major."""
        read = self.read
        short = read.take(kind="name")
        if short not in DTYPES:
            read.fail(f"{short} is not a data type", read.at - 1)
        shape: list[Dim] = []
        read.take("[")
        while not read.skip("]"):
            if shape:
                read.take(",")
            shape.append(self.dim())
        layout = self.layout() if read.follows("{") and read.kinds[read.at + 1] == "int" else None
        return TensorType(DTYPES[short], tuple(shape), layout)

    def layout(self) -> Layout:
        """`{0,1/16,2,1%16}`."""
        read = self.read
        pieces: list[Piece] = []
        read.take("{")
        while not read.skip("}"):
            if pieces:
                read.take(",")
            text, at = read.raw()
            match = re.fullmatch(r"(\d+)(?:([/%])(\d+))?", text)
            if match is None:
                read.fail(f"cannot read the layout {text}", at)
            axis, sign, block = match.groups()
            part = "all" if sign is None else "outer" if sign == "/" else "inner"
            pieces.append(Piece(int(axis), part, int(block or 1)))
        return tuple(pieces)

    def dim(self) -> Dim:
        text, at = self.read.raw()

        def symbol(name: str) -> Dim:
            if name not in self.symbols:
                self.read.fail(f"dimension {name} is not declared", at)
            return self.symbols[name]

        try:
            return parse_dim(text, symbol)
        except TextError as e:
            self.read.fail(e.message, at)

    def attribute(self) -> Any:
        read = self.read
        if read.kind == "string":
            return read.string()
        if read.follows("graph"):
            return self.held()
        if read.follows("{"):
            return self.layout()
        if read.skip("["):
            items: list[Any] = []
            while not read.skip("]"):
                if items:
                    read.take(",")
                items.append(self.attribute())
            return tuple(items)
        for word, value in (("none", None), ("true", True), ("false", False)):
            if read.skip(word):
                return value
        if read.word in DTYPES:
            if read.words[read.at + 1] == "[":
                return self.type()
            return DTYPES[read.take()]
        ahead = read.at + (read.word == "-")
        if read.kinds[ahead] == "float" or read.words[ahead] in ("inf", "nan"):
            return self.number()
        return self.dim()

    def number(self) -> float:
        read = self.read
        sign = -1.0 if read.skip("-") else 1.0
        word = read.take()
        try:
            return sign * (float.fromhex(word) if word.startswith("0x") else float(word))
        except ValueError:
            read.fail(f"expected a number, found {word}", read.at - 1)

    def elements(self, at: int, type: TensorType) -> Data:
        """The elements of a constant of a known type, which stand from word `at` on."""
        read = self.read
        after, read.at = read.at, at
        shape = tuple(d for d in type.shape if isinstance(d, int))
        dtype = type.dtype.numpy
        if read.follows("data", "("):
            read.at += 2
            digest, _ = read.raw()
            raw = self.data.get(digest)
            if raw is None:
                read.fail(f"the bytes of data({digest}) were not given", at)
            try:
                found = Data(np.frombuffer(raw, dtype).reshape(shape))
            except ValueError:
                read.fail(f"the bytes of data({digest}) are not those of {type}", at)
            if found.digest != digest:
                read.fail(f"the bytes given for data({digest}) have another digest", at)
        else:
            listed = read.skip("[")
            items: list[Array] = []
            while not read.skip("]"):
                if items:
                    read.take(",")
                items.append(self.element(dtype))
                if not listed:
                    break
            if len(items) != type.size:
                read.fail(f"{len(items)} elements for {type}", at)
            flat = np.concatenate(items) if items else np.zeros(0, dtype)
            found = Data(flat.reshape(shape))
        read.at = after
        return found

    def element(self, dtype: Any) -> Array:
        read = self.read
        if read.skip("bits"):
            read.take("(")
            bits = int(read.take(kind="hex"), 16)
            read.take(")")
            return np.full(1, bits, f"u{np.dtype(dtype).itemsize}").view(dtype)
        if read.word in ("true", "false"):
            return np.full(1, read.take() == "true", dtype)
        at = read.at
        if read.kinds[at + (read.word == "-")] == "int":
            return np.full(1, read.integer()).astype(dtype)
        if np.dtype(dtype).kind in "biu":
            read.fail(f"expected an integer, found {read.word}")
        return np.full(1, self.number()).astype(dtype)
