"""Identities of ops that move elements. Symbolic dimensions are compared in their normal form."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dims import Dim, bounds, total
from ..graph.ir import CALLS, Shape, Value
from ..graph.notation import (
    broadcast_to,
    containing,
    gather,
    pad,
    reshape,
    slice_,
    transpose,
    unslice,
)
from ..graph.ops.base import Pointwise
from ..graph.ops.shape import MOST_JOINED, BroadcastTo, Concat, Reshape
from ..graph.ops.source import Constant
from ..graph.patterns import applied, decline, rule, variables

X, P, Q, S, R, N, M, K, J = variables("x p q s r n m k j")
A, B, E, F, V = variables("a b e f v")
Perm = tuple[int, ...]
_FEW = 32  # operands of what unpacks a table, all counted


# --- transpose and reshape ------------------------------------------------------------------------


@rule(transpose(transpose(X, P), Q))
def transpose_transpose(x: Value, p: Perm, q: Perm) -> Any:
    return transpose(x, tuple(p[i] for i in q))


@rule(transpose(X, P))
def transpose_of_ones(x: Value, p: Perm) -> Any:
    """Axes of size 1 may go anywhere without an element moving."""
    kept = [i for i in p if x.shape[i] != 1]
    return reshape(x, tuple(x.shape[i] for i in p)) if kept == sorted(kept) else None


@rule(reshape(reshape(X, R), S))
def reshape_reshape(x: Value, s: Shape) -> Any:
    return reshape(x, s)


@rule(reshape(X, S))
def reshape_to_itself(x: Value, s: Shape) -> Any:
    return x if x.shape == s else None


@rule(broadcast_to(X, S))
def broadcast_to_itself(x: Value, s: Shape) -> Any:
    return x if x.shape == s else None


# --- slices and padding ---------------------------------------------------------------------------


@rule(slice_(X, S, N, K))
def whole_slice(x: Value, s: Shape, n: Shape, k: Perm) -> Any:
    whole = n == x.shape and all(a == 0 for a in s) and all(step == 1 for step in k)
    return x if whole else None


@rule(slice_(slice_(X, R, M, J), S, N, K))
def slice_slice(x: Value, r: Shape, j: Perm, s: Shape, n: Shape, k: Perm) -> Any:
    starts = tuple(a + b * step for a, b, step in zip(r, s, j))
    return slice_(x, starts, n, tuple(a * b for a, b in zip(j, k)))


@rule(slice_(pad(X, A, B, V), S, N, K))
def slice_of_padded(x: Value, a: Shape, s: Shape, n: Shape, k: Perm) -> Any:
    """What lies inside the padding."""
    starts = tuple(i - before for i, before in zip(s, a))
    if not all(step == 1 for step in k):
        return None
    if n == x.shape and all(i == 0 for i in starts):
        return x
    if not all(_within(i, size, of) for i, size, of in zip(starts, n, x.shape)):
        return None
    return slice_(x, starts, n, k)


@rule(slice_(unslice(X, R, S, K), S, N, K))
def slice_of_unsliced(x: Value, n: Shape) -> Any:
    return x if n == x.shape else None


@rule(slice_(containing(Concat, X), S, N, K))
def slice_of_joined(out: Value, s: Shape, n: Shape, k: Perm) -> Any:
    """What lies in one of the joined values."""
    joined = out.node.inputs[0].node
    op: Any = joined.op
    axis = op.axis
    if k[axis] != 1:
        return None
    start: Dim = s[axis]
    for x in joined.inputs:
        size = x.shape[axis]
        if (start == 0 and n[axis] == size) or _within(start, n[axis], size):
            return slice_(x, (*s[:axis], start, *s[axis + 1 :]), n, k)
        start = start - size
    return None


def _within(start: Dim, size: Dim, of: Dim) -> bool:
    """Whether start .. start + size certainly lies in 0 .. of."""
    if not (isinstance(start, int) and isinstance(size, int) and isinstance(of, int)):
        return False
    return start >= 0 and start + size <= of


@rule(pad(X, A, B, V))
def pad_by_nothing(x: Value, out: Value) -> Any:
    return x if x.shape == out.shape else None


@rule(pad(pad(X, A, B, V), E, F, V))
def pad_pad(x: Value, a: Shape, b: Shape, e: Shape, f: Shape, v: float) -> Any:
    before = tuple(i + j for i, j in zip(a, e))
    return pad(x, before, tuple(i + j for i, j in zip(b, f)), v)


# --- joining --------------------------------------------------------------------------------------


@rule(containing(Concat, X))
def join_of_joined(out: Value) -> Any:
    """Values joined along one axis are joined at once."""
    op: Any = out.node.op
    flat = [y for x in out.node.inputs for y in (x.node.inputs if x.node.op == op else (x,))]
    flat = [x for x in flat if x.shape[op.axis] != 0] or flat[:1]
    if len(flat) == 1:
        return flat[0]
    if len(flat) > MOST_JOINED:
        return decline("too many values for one kernel to choose from")
    return (
        None if flat == list(out.node.inputs) else out.node.owner.node(op, tuple(flat)).outputs[0]
    )


# --- looking up -----------------------------------------------------------------------------------


@rule(gather(X, V, A))
def gather_of_unpacked(x: Value, v: Value, a: int) -> Any:
    """A table that constants of fewer bytes stand for (quantised embeddings) is unpacked where it is
    read: it is never there as a whole."""
    held = _sources(x)
    if held is None or not isinstance(x.node.op, Pointwise):
        return None
    low, _ = bounds(x.type.nbytes - total(y.type.nbytes for y in held))
    if low is None or low <= 0:
        return None

    def taken(y: Value) -> Value:
        if isinstance(y.node.op, Pointwise):
            inputs = tuple(taken(z) for z in y.node.inputs)
            return y.node.owner.node(y.node.op, inputs).outputs[0]
        made: Value = reshape(y, ()) if y.type.size == 1 else gather(y, v, a)
        return made

    if any(y.type.size != 1 and (y.ndim != x.ndim or y.shape[a] != x.shape[a]) for y in held):
        return decline("what the table is made of repeats along the axis that is looked up")
    return taken(x)


def _sources(x: Value) -> set[Value] | None:
    """The constants that x is computed from element by element, in few steps; None if it depends on
    others."""
    found: set[Value] = set()
    stack = [x]
    for _ in range(_FEW):
        if not stack:
            return found
        y = stack.pop()
        if isinstance(y.node.op, Pointwise):
            stack += y.node.inputs
        elif isinstance(y.node.op, Constant):
            found.add(y)
        else:
            break
    return None


# --- repeating ------------------------------------------------------------------------------------


@rule(broadcast_to(broadcast_to(X, R), S))
def broadcast_broadcast(x: Value, s: Shape) -> Any:
    return broadcast_to(x, s)


@rule(transpose(broadcast_to(X, R), P), reshape(broadcast_to(X, R), S),
      slice_(broadcast_to(X, R), S, N, K))  # fmt: skip
def moved_element(x: Value) -> Any:
    """Wherever the copies of one element go, they are copies of it."""
    return reshape(x, ()) if x.type.size == 1 else None


@rule(broadcast_to(X, S))
def repeated_in_front(x: Value) -> Any:
    """Broadcasting puts axes of size 1 in front by itself."""
    return bare(x) if bare(x) is not x else None


@rule(containing(Pointwise, X))
def pointwise_of_repeated(out: Value) -> Any:
    """Compute first, then repeat; whoever broadcasts anyway need not be told."""
    n = out.node
    xs = tuple(bare(x) for x in n.inputs)
    if all(a is b for a, b in zip(xs, n.inputs)):
        return None
    return n.owner.node(n.op, xs).outputs[0]


def bare(x: Value) -> Value:
    """The value that `x` repeats, or gives axes of size 1 in front; x itself if it does neither."""
    op = x.node.op
    if isinstance(op, BroadcastTo):
        return x.node.inputs[0]
    if isinstance(op, Reshape):
        inner = x.node.inputs[0]
        if (1,) * (x.ndim - inner.ndim) + inner.shape == x.shape:
            return inner
    return x


@rule(applied(Constant))
def repeated_number(out: Value) -> Any:
    """A constant whose elements all have the same bits."""
    op: Any = out.node.op
    array = op.data.array
    if array.size < 2:
        return None
    bits = array.reshape(-1).view(np.dtype(f"u{array.itemsize}"))
    if bits[0] != bits[-1] or (bits[:64] != bits[0]).any() or (bits != bits[0]).any():
        return None
    one = array.reshape(-1)[:1].reshape(())
    return CALLS["constant"](one, dtype=out.dtype, owner=out.node.owner)
