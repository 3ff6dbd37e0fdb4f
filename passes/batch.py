"""All steps of a loop at once, where no step needs the one before.

Before:  scan(h, s, xs, w): { z = x @ w + h; s + transpose(x) @ z; y = z @ v }
After:   scan(h, xs @ w): { z = xw + h }; s + transpose(xs) @ zs; ys = zs @ v

A product of elements of the sequences with what stays the same is one large product before the
loop; one that only becomes a result, or is only added up, is one large product after it, of what the
loop stacks instead. A step then has the work that depends on its carries; what is left out runs at
the speed of large products. Sums over the steps are added up in another order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ..graph.ir import CALLS, Function, Node, Value
from ..graph.ops.base import Pointwise, make
from ..graph.ops.control import free_name
from ..graph.ops.linalg import Matmul
from ..graph.ops.recurrent import Scan
from ..graph.ops.reduce import Sum
from ..graph.ops.shape import BroadcastTo, Reshape, Transpose
from ..graph.ops.source import Input
from ..graph.rewire import rewire
from ..graph.rewrite import rebuilt
from .base import Context, Pass
from .everywhere import everywhere

Late: TypeAlias = Callable[[], Value]  # a value made of the results of the new loop


@dataclass(frozen=True)
class Batch(Pass):
    """See the module docstring."""

    name = "batch"

    def run(self, function: Function, context: Context) -> Function:
        def change(n: Node, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
            return _Loop(n, n.op, inputs).run() if isinstance(n.op, Scan) else None

        return everywhere(function, lambda f, _: rebuilt(f, change))


class _Loop:
    """One loop. `still` are values of its body that are the same at every turn, `early` those that
    depend on elements but on no carry; `stacks` are values that the new loop stacks."""

    def __init__(self, n: Node, op: Scan, inputs: tuple[Value, ...]) -> None:
        self.node, self.op, self.length = n, op, op.length
        given = op.body.inputs
        self.outside = dict(zip(given, inputs))
        self.carries = list(given[: op.carries])
        self.elements = list(given[op.carries : op.varying])
        self.rest = list(given[op.varying :])
        self.outputs = [v for _, v in op.body.outputs]
        self.effects = op.body.effects
        self.inner = given[0].node.owner
        self.stacks: dict[Value, int] = {}
        self.made: Sequence[Value] = ()

    def run(self) -> Sequence[Value] | None:
        """The results, or None if the loop can stay as it is."""
        c = self.op.carries
        projected = self.project()
        self.look()
        sums = self.sums()
        late = {k: self.result(self.outputs[k]) for k in range(c, len(self.outputs))}
        if not projected and not sums and not any(late.values()):
            return None
        flows = [k for k in range(c) if k not in sums]
        ys = [k for k in late if late[k] is None]
        stacks = [*self.stacks]
        if flows or ys or stacks:
            self.made = self.loop(flows, [*(self.outputs[k] for k in ys), *stacks])
        elif self.effects:
            return None
        self.stacks = {v: len(flows) + len(ys) + k for k, v in enumerate(stacks)}
        results = [*sums, *(k for k in late if late[k] is not None)]
        found = {k: (sums.get(k) or late[k])() for k in results}  # type: ignore[misc]
        found |= {k: self.made[at] for at, k in enumerate((*flows, *ys))}
        return [found[k] for k in range(len(self.outputs))]

    def loop(self, flows: list[int], ys: list[Value]) -> Sequence[Value]:
        """The new loop."""
        inputs = [*(self.carries[k] for k in flows), *self.elements, *self.rest]
        named = [*((f"carry{k}", self.outputs[j]) for k, j in enumerate(flows)),
                 *((f"y{k}", v) for k, v in enumerate(ys))]  # fmt: skip
        body = Function(self.op.body.name, tuple(inputs), tuple(named), (), self.effects)
        op = Scan(body, len(flows), len(self.elements), self.length, self.op.reverse)
        return self.node.owner.node(op, tuple(self.outside[v] for v in inputs)).outputs

    # --- what depends on what ---------------------------------------------------------------

    def look(self) -> None:
        """Finds out what depends on what, and who reads what."""
        body = Function("", (), tuple((str(k), v) for k, v in enumerate(self.outputs)), (),
                        self.effects)  # fmt: skip
        self.nodes = [n for n in body.nodes() if not isinstance(n.op, Input)]
        self.readers = Counter(v for n in self.nodes for v in n.inputs) + Counter(body.roots())
        self.still, self.early = set(self.rest), set(self.elements)
        for n in self.nodes:
            if all(v in self.still for v in n.inputs) and n.op.pure:
                self.still.update(n.outputs)
            elif all(v in self.still or v in self.early for v in n.inputs):
                self.early.update(n.outputs)

    def same(self, v: Value) -> Value:
        """A value of `still`, outside."""
        return rewire([v], self.outside, self.node.owner)[v]

    def whole(self, v: Value) -> Value | None:
        """A value of `early` for all steps, [length, ...], if its op can be applied to all."""
        if v in self.elements:
            return self.outside[v]
        if v not in self.early:
            return None
        op, xs, n = v.node.op, v.node.inputs, self.length
        if v.ndim == 2 and isinstance(op, Matmul | Pointwise):
            rows = self.rows(v)
            if rows is not None:
                made: Value = CALLS["reshape"](rows, (n, *v.shape))
                return made
        stacked = [self.whole(x) if x in self.early else self.same(x) for x in xs]
        known = [x for x in stacked if x is not None]
        if len(known) < len(xs):
            return None
        if isinstance(op, Pointwise):
            return make(op, *(self.aligned(x, a, v.ndim) for x, a in zip(xs, known)))
        if isinstance(op, Reshape):
            return make(Reshape((n, *op.shape)), *known)
        if isinstance(op, BroadcastTo):
            return make(BroadcastTo((n, *op.shape)), self.aligned(xs[0], known[0], v.ndim))
        if isinstance(op, Transpose):
            return make(Transpose((0, *(k + 1 for k in op.perm))), *known)
        return None

    def rows(self, v: Value) -> Value | None:
        """A matrix of `early` for all steps, [length * rows, columns]: what products are made of,
        and what is computed in the same place as they."""
        op, xs = v.node.op, v.node.inputs
        if isinstance(op, Matmul) and self.is_product(v):
            a = self.rows(xs[0])
            return None if a is None else make(Matmul(), a, self.same(xs[1]))
        if isinstance(op, Pointwise) and v not in self.elements:
            made = []
            for x in xs:
                if x in self.early and x.ndim == 2 and x.shape[0] == v.shape[0]:
                    made.append(self.rows(x))
                elif x not in self.early and (x.ndim < 2 or x.shape[0] == 1):
                    made.append(self.same(x))
            known = [x for x in made if x is not None]
            return make(op, *known) if len(known) == len(xs) else None
        whole = self.whole(v)
        return None if whole is None else matrix(whole)

    def aligned(self, x: Value, stacked: Value, ndim: int) -> Value:
        """What stands for `x` in an op whose result had `ndim` axes."""
        if x not in self.early:
            return stacked
        made: Value = CALLS["reshape"](stacked, (self.length, *[1] * (ndim - x.ndim), *x.shape))
        return made

    def is_product(self, v: Value) -> bool:
        """Whether `v` is a matrix times a matrix that stays the same."""
        if not isinstance(v.node.op, Matmul):
            return False
        a, b = v.node.inputs
        return a.ndim == b.ndim == 2 and b in self.still and a not in self.still

    # --- before the loop --------------------------------------------------------------------

    def project(self) -> bool:
        """Makes products of elements sequences of their own. Whether there are any."""
        self.look()
        taken = {v.node.op.input_name for v in self.outside if isinstance(v.node.op, Input)}
        outside: dict[Value, Value] = {}  # products, and what is made of them
        ends: dict[Value, None] = dict.fromkeys((*self.outputs, *self.effects))
        for n in self.nodes:
            v = n.outputs[0]
            if v in self.early and (self.is_product(v) or any(x in outside for x in n.inputs)):
                whole = self.whole(v)
                if whole is not None:
                    outside[v] = whole
                    continue
            ends.update(dict.fromkeys(n.inputs))
        new: dict[Value, Value] = {}
        for v in ends:
            if v in outside:
                op = Input(free_name("x", taken), v.dtype, v.shape)
                element = new[v] = self.inner.node(op, (), v.node.loc).outputs[0]
                self.elements.append(element)
                self.outside[element] = outside[v]
        made = rewire((*self.outputs, *self.effects), new, self.inner)
        self.outputs = [made[v] for v in self.outputs]
        self.effects = tuple(made[v] for v in self.effects)
        return bool(new)

    # --- after the loop ---------------------------------------------------------------------

    def stack(self, v: Value) -> Late:
        """`v` of all steps."""
        whole = self.whole(v)
        if whole is not None:
            return lambda: whole
        self.stacks.setdefault(v, len(self.stacks))
        return lambda: self.made[self.stacks[v]]

    def result(self, v: Value) -> Late | None:
        """A stacked result that is computed outside, if it can be."""
        whole = self.whole(v)
        if whole is not None:
            return lambda: whole
        if not self.is_product(v) or self.readers[v] > 1:
            return None
        a, b = v.node.inputs
        left, right = self.stack(a), self.same(b)

        def product() -> Value:
            made: Value = CALLS["reshape"](make(Matmul(), matrix(left()), right),
                                           (self.length, *v.shape))  # fmt: skip
            return made

        return product

    def sums(self) -> dict[int, Late]:
        """Carries to which every step only adds products, or sums of what is stacked anyway."""
        found: dict[int, Late] = {}
        chains = {k: terms for k in range(self.op.carries) if (terms := self.terms(k))}
        for k, terms in sorted(chains.items(), key=lambda x: not any(map(_is_inner, x[1]))):
            sums = [t for t in terms if not _is_inner(t)]
            free = {_summed(t) for t in sums} <= {*self.stacks, *self.early}
            if free or len(sums) < len(terms):
                found[k] = self.total(self.carries[k], [self.term(t) for t in terms])
        return found

    def terms(self, k: int) -> list[Value]:
        """What every step adds to a carry that nobody else reads; none if it is anything else."""
        v, carry = self.outputs[k], self.carries[k]
        out: list[Value] = []
        while v is not carry:
            if v.node.op.name != "add" or self.readers[v] > 1:
                return []
            # the carry is in one of both
            a, b = v.node.inputs
            rest, v = (a, b) if self.leads_to(b, carry) else (b, a)
            if rest.shape != carry.shape or not (_is_inner(rest) or _summed(rest) is not None):
                return []
            out.append(rest)
        return out if self.readers[carry] == 1 else []

    def leads_to(self, v: Value, carry: Value) -> bool:
        """Whether additions alone lead from `v` to a carry."""
        while v is not carry and v.node.op.name == "add":
            a, b = v.node.inputs
            v = b if b is carry or b.node.op.name == "add" else a
        return v is carry

    def term(self, t: Value) -> Late:
        """The sum over all steps of what one step adds."""
        if _is_inner(t):
            left, right = t.node.inputs
            u, v = self.stack(left.node.inputs[0]), self.stack(right)
            return lambda: make(Matmul(), CALLS["transpose"](matrix(u()), (1, 0)), matrix(v()))
        inner = t if isinstance(t.node.op, Sum) else t.node.inputs[0]
        op, x = inner.node.op, self.stack(inner.node.inputs[0])
        assert isinstance(op, Sum)
        axes = (0, *(k + 1 for k in op.axes))
        return lambda: CALLS["reshape"](make(Sum(axes), x()), t.shape)

    def total(self, carry: Value, terms: list[Late]) -> Late:
        def add() -> Value:
            out = self.outside[carry]
            for t in terms:
                out = CALLS["add"](out, t())
            return out

        return add


def matrix(x: Value) -> Value:
    """[n, m, k] as [n * m, k]."""
    n, m, k = x.shape
    if isinstance(x.node.op, Reshape) and x.node.inputs[0].shape == (n * m, k):
        return x.node.inputs[0]
    made: Value = CALLS["reshape"](x, (n * m, k))
    return made


def _is_inner(v: Value) -> bool:
    """Whether `v` is a sum of products over the rows of two matrices."""
    if not isinstance(v.node.op, Matmul):
        return False
    a, b = v.node.inputs
    return a.ndim == b.ndim == 2 and isinstance(a.node.op, Transpose)


def _summed(v: Value) -> Value | None:
    """What `v` is the sum of, along some axes."""
    x = v.node.inputs[0] if isinstance(v.node.op, Reshape) else v
    op = x.node.op
    return x.node.inputs[0] if isinstance(op, Sum) and x.dtype == x.node.inputs[0].dtype else None
