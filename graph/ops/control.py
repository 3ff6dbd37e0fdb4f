"""What loops and branches have in common: ops that hold functions, and how these come about.

A user's Python function is called once on placeholders. What it computed from them becomes a
`Function` with an interner of its own; other values of the graph that it used are captured: they
become further operands of the op and further inputs of the function.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from typing import Any, ClassVar, TypeVar

from ...dims import Dim, free_symbols, maximum, total
from ...errors import UNKNOWN, ShapeError
from ..ir import CALLS, Function, Interner, TensorType, Value, topological
from ..rewire import rewire
from .base import Op
from .effects import Effect
from .source import Constant, Input

_C = TypeVar("_C", bound="Control")


class Control(Op, abstract=True):
    """An op that holds functions. Operands: `leading` ones of its own, then one for each input of
    its functions, which all have the same inputs. Results: one for each of the functions' results,
    but for the first `judging` ones, which say how to go on.

    The first `varying` inputs differ from turn to turn of a loop; the first `state` of these, its
    carries, are what the results with the same numbers were at the turn before."""

    leading: ClassVar[int] = 0
    judging: ClassVar[int] = 0
    loops: ClassVar[bool] = True

    @property
    def state(self) -> int:
        return 0

    @property
    def varying(self) -> int:
        return self.state

    @property
    def functions(self) -> tuple[Function, ...]:
        """The functions held, in the order of the attributes."""
        return tuple(getattr(self, name) for name in self._held())

    def holding(self: _C, functions: Sequence[Function]) -> _C:
        """The op with other functions."""
        return replace(self, **dict(zip(self._held(), functions)))  # type: ignore[type-var]

    def reduced(self: _C, results: Sequence[int], inputs: Sequence[int]) -> _C:
        """The op with some of its results only, and some inputs of its functions."""
        own = range(self.judging)
        return self.holding([
            replace(f, inputs=tuple(f.inputs[k] for k in inputs),
                    outputs=tuple(f.outputs[k] for k in (*own, *(len(own) + k for k in results))))
            for f in self.functions])  # fmt: skip

    def _held(self) -> list[str]:
        found = self.attributes()
        return [f.name for f in fields(self) if isinstance(found[f.name], Function)]  # type: ignore[arg-type]

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        """Of the function that takes most, once."""
        most: Dim = 0
        for f in self.functions:
            most = maximum(most, total(n.op.flops(n.types[0], *(v.type for v in n.inputs))
                                       for n in f.nodes()))  # fmt: skip
        return most


def placeholder(owner: Interner, type: TensorType) -> Value:
    """An input of a function that is being made. The blanks keep its name apart from a user's."""
    name = f"element of scan {owner.mark()}"
    return owner.node(Input(name, type.dtype, type.shape), (), UNKNOWN).outputs[0]


def captured(inputs: Iterable[Value], outputs: Sequence[Value],
             given: Iterable[Value] = ()) -> list[Value]:  # fmt: skip
    """What `outputs` need that does not depend on `inputs`, constants apart. `given`: inputs that
    are computed elsewhere: nothing is needed for them."""
    inside = set(inputs)
    known = {v.node for v in given}
    found: dict[Value, None] = {}
    for node in topological((v.node for v in outputs), known):
        if node not in known and any(v in inside for v in node.inputs):
            inside.update(node.outputs)
            found.update((v, None) for v in node.inputs if v not in inside)
    found.update((v, None) for v in outputs if v not in inside)
    return [v for v in found if not isinstance(v.node.op, Constant)]


def free_name(stem: str, taken: set[str]) -> str:
    """A name for one input more of a function: `stem` and a number. It is taken now."""
    name = next(name for k in range(len(taken) + 1) if (name := f"{stem}{k}") not in taken)
    taken.add(name)
    return name


def enclosed(
    name: str, inputs: Sequence[tuple[str, Value]], outputs: Sequence[tuple[str, Value]],
    effects: bool = True,
) -> Function:  # fmt: skip
    """The function from `inputs` to `outputs`, by name, in an interner of its own. With `effects`
    what it checks and prints on the way is part of it."""
    own = Interner()
    mapping = {v: own.node(Input(label, v.dtype, v.shape), (), UNKNOWN).outputs[0]
               for label, v in inputs}  # fmt: skip
    made = rewire([v for _, v in outputs], mapping, own)
    for _, v in outputs:
        for s in {s.name for d in v.shape for s in free_symbols(d)} & v.node.owner.sizes.keys():
            if v.node.owner.sizes[s].value in made.keys() - mapping.keys():
                raise ShapeError(f"{name}: the result {v.type} has a size that is computed inside",
                                 "return the whole, and the size, and use fm.prefix outside")  # fmt: skip
    given = tuple(mapping[v] for _, v in inputs)
    results = tuple((label, made[v]) for label, v in outputs)
    f = Function(name, given, results)
    if not effects:
        return f
    return replace(f, effects=tuple(n.outputs[0] for n in f.nodes() if isinstance(n.op, Effect)))


def owner_of(values: Iterable[Any]) -> Interner:
    """The graph of the first value among `values`, else the current one."""
    found = next((v for v in values if isinstance(v, Value)), None)
    owner: Interner = CALLS["__current__"]() if found is None else found.node.owner
    return owner


def values_in(x: Any) -> tuple[bool | None, list[Any]]:
    """What `x` holds, and whether it is a tuple, or None for nothing."""
    if x is None:
        return None, []
    return (True, list(x)) if isinstance(x, tuple | list) else (False, [x])


def packed(many: bool | None, values: Sequence[Value]) -> Any:
    """Values in the form that `values_in` found."""
    if many is None:
        return None
    return tuple(values) if many else values[0]


def form(x: Any) -> str:
    """What `x` holds, in words."""
    many, values = values_in(x)
    return "None" if many is None else f"a tuple of {len(values)}" if many else "a value"
