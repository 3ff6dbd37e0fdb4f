"""Rewrite rules that read like mathematics: patterns, rules, and tables of rules.

    X, = variables("x")
    C, = numbers("c")

    @rule(log(softmax(X, A)))
    def log_of_softmax(x, a):
        return log_softmax(x, a)

A pattern is what the functions of `notation` and the operators make of variables. A variable stands
for any value, in an attribute's place for any attribute; twice the same variable means twice the
same thing. A `numbers` variable stands for a constant of one element, repeated to any shape, and
is bound to it as a NumPy scalar. Python numbers stand for constants equal to them, the sign of zero
included. Operands of commutative ops are tried in both orders.

The function under the pattern gets what the variables are bound to, by name, and `out`, the value
that matched. It returns what stands for `out`: a value, or a number, of a shape that broadcasts to
that of `out`; or `decline("why")`; or None, without a reason. `where` is asked before with arguments
of the same kind.

What a rule returns must not be worse than what it matches, and must not match the rule again for
ever; see `Rewriter` for what happens then.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from math import copysign
from types import ModuleType
from typing import Any

import numpy as np

from ..errors import ConfigError, InternalError
from .ir import CALLS, Node, Value
from .ops.base import OPS, Op
from .ops.source import Constant

Bindings = dict[str, Any]
Note = Callable[[Node, str], None]


class Pattern:
    """What the operators and the functions of `notation` make of variables."""

    # fmt: off
    def __add__(self, o: Any) -> Pattern: return applied("add", self, o)
    def __radd__(self, o: Any) -> Pattern: return applied("add", o, self)
    def __sub__(self, o: Any) -> Pattern: return applied("sub", self, o)
    def __rsub__(self, o: Any) -> Pattern: return applied("sub", o, self)
    def __mul__(self, o: Any) -> Pattern: return applied("mul", self, o)
    def __rmul__(self, o: Any) -> Pattern: return applied("mul", o, self)
    def __truediv__(self, o: Any) -> Pattern: return applied("div", self, o)
    def __rtruediv__(self, o: Any) -> Pattern: return applied("div", o, self)
    def __floordiv__(self, o: Any) -> Pattern: return applied("floordiv", self, o)
    def __mod__(self, o: Any) -> Pattern: return applied("mod", self, o)
    def __pow__(self, o: Any) -> Pattern: return applied("pow", self, o)
    def __rpow__(self, o: Any) -> Pattern: return applied("pow", o, self)
    def __and__(self, o: Any) -> Pattern: return applied("and", self, o)
    def __or__(self, o: Any) -> Pattern: return applied("or", self, o)
    def __xor__(self, o: Any) -> Pattern: return applied("xor", self, o)
    def __lshift__(self, o: Any) -> Pattern: return applied("shl", self, o)
    def __rshift__(self, o: Any) -> Pattern: return applied("shr", self, o)
    def __lt__(self, o: Any) -> Pattern: return applied("lt", self, o)
    def __le__(self, o: Any) -> Pattern: return applied("le", self, o)
    def __gt__(self, o: Any) -> Pattern: return applied("gt", self, o)
    def __ge__(self, o: Any) -> Pattern: return applied("ge", self, o)
    def __neg__(self) -> Pattern: return applied("neg", self)
    def __invert__(self) -> Pattern: return applied("not", self)
    # fmt: on


@dataclass(frozen=True)
class Var(Pattern):
    """Any value; in an attribute's place any attribute."""

    name: str


@dataclass(frozen=True)
class Number(Var):
    """A constant of one element, repeated to any shape."""


@dataclass(frozen=True)
class Literal(Pattern):
    """A constant of one element with this value, repeated to any shape."""

    value: float | int | bool


@dataclass(frozen=True)
class Applied(Pattern):
    """An op of class `op` on operands, of which the first ones have patterns; `rest` tells whether
    others may follow. `attributes` are variables or what an attribute must be equal to. With
    `once` the value must have no other reader."""

    op: type[Op]
    inputs: tuple[Pattern, ...]
    attributes: tuple[tuple[str, Any], ...] = ()
    rest: bool = False
    once: bool = False


_REPEATS = ("broadcast_to", "reshape", "prefix")  # they leave a repeated number one


@dataclass
class Setting:
    """What surrounds a match: values that are not to be looked into and match variables only, and
    values that have several readers. `blocked` tells whether the latter kept a rule from applying.
    """

    opaque: Collection[Value] = ()
    shared: Collection[Value] = ()
    blocked: bool = False


NOWHERE = Setting()
COMMUTATIVE = frozenset({"add", "mul", "maximum", "minimum", "eq", "ne", "and", "or", "xor"})


def variables(names: str) -> tuple[Any, ...]:
    """Pattern variables, for names between spaces."""
    return tuple(Var(n) for n in names.split())


def numbers(names: str) -> tuple[Any, ...]:
    """Pattern variables that stand for constants of one element."""
    return tuple(Number(n) for n in names.split())


def applied(op: str | type[Op], *args: Any, rest: bool = False) -> Applied:
    """A pattern of an op: its operands, then its attributes in the order of its fields."""
    op_class = OPS[op] if isinstance(op, str) else op
    names = list(getattr(op_class, "__dataclass_fields__", {}))
    count = op_class.arity if op_class.arity is not None else len(args) - len(names)
    inputs = args[: len(args) if rest else count]
    attributes = () if rest else tuple(zip(names, args[count:], strict=False))
    return Applied(
        op_class,
        tuple(x if isinstance(x, Pattern) else Literal(x) for x in inputs),
        attributes,
        rest,
    )


def once(pattern: Applied) -> Applied:
    """The pattern for a value that only what is replaced reads: it will not be computed again."""
    return replace(pattern, once=True)


@dataclass(frozen=True)
class Declined:
    """The answer of a rule that matched and does not apply."""

    why: str

    def __bool__(self) -> bool:
        return False


def decline(why: str) -> Any:
    """For conditions and rules: this does not apply, and why."""
    return Declined(why)


def number_of(v: Value) -> Any:
    """The one number that `v` repeats, as a NumPy scalar; None if it is not such a constant."""
    while v.node.op.name in _REPEATS:
        v = v.node.inputs[0]
    op = v.node.op
    if isinstance(op, Constant) and op.data.array.size == 1:
        return op.data.array.reshape(())[()]
    return None


def same_number(a: Any, b: Any) -> bool:
    """Equality that tells zeros apart by their sign. No number equals a NaN."""
    return bool(a == b) and (a != 0 or copysign(1, a) == copysign(1, b))


def matches(pattern: Pattern, v: Value, bound: Bindings, setting: Setting = NOWHERE) -> bool:
    """Whether `v` is what the pattern says; `bound` receives the variables."""
    if isinstance(pattern, Number | Literal):
        found = number_of(v)
        if found is None or v in setting.opaque:
            return False
        if isinstance(pattern, Literal):
            return same_number(found, pattern.value)
        known = bound.setdefault(pattern.name, found)
        return known is found or (known.dtype == found.dtype and same_number(known, found))
    if isinstance(pattern, Var):
        return bound.setdefault(pattern.name, v) is v
    if not isinstance(pattern, Applied):
        raise InternalError(f"{pattern!r} is no pattern")
    if v in setting.opaque or not _matches_node(pattern, v.node, bound, setting):
        return False
    if pattern.once and v in setting.shared:
        setting.blocked = True
        return False
    return True


def _matches_node(pattern: Applied, node: Node, bound: Bindings, setting: Setting) -> bool:
    op, inputs = node.op, node.inputs
    if not isinstance(op, pattern.op) or len(node.types) != 1:
        return False
    if len(inputs) != len(pattern.inputs) and not (
        pattern.rest and len(inputs) > len(pattern.inputs)
    ):
        return False
    for x, v in zip(pattern.inputs, inputs):
        if not matches(x, v, bound, setting):
            return False
    return all(_is(getattr(op, name), wanted, bound) for name, wanted in pattern.attributes)


def _is(found: Any, wanted: Any, bound: Bindings) -> bool:
    """Whether an attribute is what the pattern says."""
    if isinstance(wanted, Var):
        wanted = bound.setdefault(wanted.name, found)
    if isinstance(wanted, tuple) and isinstance(found, tuple):
        return len(wanted) == len(found) and all(_is(f, w, bound) for f, w in zip(found, wanted))
    if isinstance(found, float):
        return same_number(found, wanted)
    return bool(found == wanted)


@dataclass(frozen=True)
class Rule:
    """`build` says what stands for a node that one of `patterns` matches where `where` holds."""

    name: str
    patterns: tuple[Applied, ...]
    where: Callable[..., Any] | None
    build: Callable[..., Any]

    def apply(self, pattern: Applied, node: Node, setting: Setting) -> Any:
        """What stands for the node: a value, Declined, or None where the pattern does not match."""
        bound: Bindings = {}
        if not _matches_node(pattern, node, bound, setting):
            return None
        out = bound["out"] = node.outputs[0]
        with np.errstate(all="ignore"):  # arithmetic of constants means what it does at run time
            if self.where is not None:
                holds = self.where(**_wanted(self.where, bound))
                if not holds:
                    return holds if isinstance(holds, Declined) else None
            made = self.build(**_wanted(self.build, bound))
        if made is out:
            return None
        if made is None or isinstance(made, Declined):
            return made
        return self.fitted(made, out)

    def fitted(self, made: Any, out: Value) -> Value | None:
        """What the rule returned, of the type of `out`."""
        if not isinstance(made, Value):
            made = CALLS["constant"](made, dtype=out.dtype, owner=out.node.owner)
        if made.dtype != out.dtype:
            raise InternalError(f"rule {self.name} made {made.type} of {out.type}")
        if made.shape != out.shape:
            made = CALLS["broadcast_to"](made, out.shape)
        return made if made.type == out.type else None  # a layout was chosen: it stays


def _wanted(fn: Callable[..., Any], bound: Mapping[str, Any]) -> Bindings:
    return {name: bound[name] for name in fn.__code__.co_varnames[: fn.__code__.co_argcount]}


def rule(*patterns: Any, where: Callable[..., Any] | None = None) -> Callable[..., Rule]:
    """A rule from the function below, for each of `patterns`; see the module docstring."""

    def register(build: Callable[..., Any]) -> Rule:
        for p in patterns:
            if not isinstance(p, Applied):
                raise InternalError(f"rule {build.__name__}: {p!r} is no pattern of an op")
            known = {*_names(p), "out"}
            for fn in (build, where):
                missing = set(inspect.signature(fn).parameters) - known if fn else ()
                if missing:
                    raise InternalError(f"rule {build.__name__}: no variable named {missing}")
        every = {
            repr(v): v for p in patterns for v in _orders(p)
        }  # 0.0 == -0.0, not so their texts
        return Rule(build.__name__, tuple(every.values()), where, build)

    return register


def _names(pattern: Any) -> Iterator[str]:
    if isinstance(pattern, Var):
        yield pattern.name
    elif isinstance(pattern, Applied):
        yield from _names((*pattern.inputs, *(a for _, a in pattern.attributes)))
    elif isinstance(pattern, tuple):
        for p in pattern:
            yield from _names(p)


def _orders(pattern: Pattern) -> Iterator[Any]:
    """The pattern with the operands of commutative ops in every order."""
    if not isinstance(pattern, Applied):
        yield pattern
        return
    for inputs in product(*(tuple(_orders(p)) for p in pattern.inputs)):
        yield replace(pattern, inputs=inputs)
        if getattr(pattern.op, "name", None) in COMMUTATIVE:
            yield replace(pattern, inputs=inputs[::-1])


_Needed = tuple[tuple[int, Any], ...]


def _needed(pattern: Applied) -> _Needed:
    """Which operands must be of which class of op."""
    number = tuple(OPS[name] for name in ("constant", *_REPEATS))
    return tuple(
        (k, x.op if isinstance(x, Applied) else number)
        for k, x in enumerate(pattern.inputs)
        if isinstance(x, Applied | Number | Literal)
    )


class Rules:
    """A table of rules, found by the class of a node's op; earlier rules come first."""

    def __init__(self, *modules: ModuleType | Iterable[Rule]) -> None:
        self.rules: tuple[Rule, ...] = tuple(r for m in modules for r in rules_of(m))
        names = [r.name for r in self.rules]
        if len(set(names)) != len(names):
            raise InternalError(f"two rules have one name: {sorted(names)}")
        self._of: dict[type[Op], tuple[tuple[Rule, Applied, _Needed], ...]] = {}

    def without(self, names: Collection[str]) -> Rules:
        """The table without the rules of these names."""
        unknown = set(names) - {r.name for r in self.rules}
        if unknown:
            raise ConfigError(f"there are no rules named {', '.join(sorted(unknown))}")
        return Rules([r for r in self.rules if r.name not in names])

    def apply(
        self, node: Node, note: Note | None = None, setting: Setting = NOWHERE
    ) -> Value | None:
        """What the first rule that applies puts in the place of `node`; None if none does.

        `note` is told which rule applied, and why others declined.
        """
        kind = type(node.op)
        candidates = self._of.get(kind)
        if candidates is None:
            candidates = self._of[kind] = tuple(
                (r, p, _needed(p)) for r in self.rules for p in r.patterns if issubclass(kind, p.op)
            )
        ops = [v.node.op for v in node.inputs]
        for r, pattern, needed in candidates:
            if len(ops) < len(pattern.inputs) or not all(isinstance(ops[k], c) for k, c in needed):
                continue  # the most frequent case, decided without a call
            made = r.apply(pattern, node, setting)
            if made is None:
                continue
            if isinstance(made, Declined):
                if note:
                    note(node, f"{r.name}: declined: {made.why}")
                continue
            if note:
                note(node, r.name)
            return made  # type: ignore[no-any-return]
        return None


def rules_of(module: ModuleType | Iterable[Any]) -> Iterator[Rule]:
    """The rules a module defines, in the order it does."""
    values: Iterable[Any] = module if not isinstance(module, ModuleType) else vars(module).values()
    return (v for v in values if isinstance(v, Rule))
