"""Shape arithmetic: small tensors whose elements are dimensions, solved while loading. They may be
floats that hold whole numbers, as exporters make of sizes they scale.

In: the `Call` of a node and, for each operand, an object array of `Dim`s. Out: such an array, or
None where the result cannot be said as dimensions. Booleans are Python's; comparisons of dims are
solved where their bounds decide them. Results have the dtype of the first operand that is no bool,
unless they are bools themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from ....dims import Dim, DimExpr, bounds, floordiv, maximum, minimum, mod, product
from ....dtypes import Array
from ....errors import ModelError
from .call import FEW, Call
from .registry import solver


def as_elements(dims: Any, shape: tuple[int, ...] | None = None) -> Array:
    """An object array of a sequence of dims, or of one."""
    if isinstance(dims, int | DimExpr):
        one: Array = np.empty((), object)
        one[()] = dims
        return one
    listed = list(dims)
    out: Array = np.empty(len(listed), object)
    out[:] = listed
    return out if shape is None else out.reshape(shape)


def _each(f: Callable[..., Any], *xs: Array) -> Array | None:
    """`f` of every element, operands broadcast; None if one result is None, or there are many."""
    if prod(np.broadcast_shapes(*(x.shape for x in xs))) > FEW:
        return None
    broadcast = np.broadcast_arrays(*xs)
    results = [f(*each) for each in zip(*(x.reshape(-1) for x in broadcast))]
    if any(r is None for r in results):
        return None
    return as_elements(results, broadcast[0].shape)


@solver("Add")
def _add(call: Call, x: Array, y: Array) -> Array | None:
    return _each(lambda a, b: a + b, x, y)


@solver("Sub")
def _sub(call: Call, x: Array, y: Array) -> Array | None:
    return _each(lambda a, b: a - b, x, y)


@solver("Mul")
def _mul(call: Call, x: Array, y: Array) -> Array | None:
    return _each(lambda a, b: a * b, x, y)


@solver("Neg")
def _neg(call: Call, x: Array) -> Array | None:
    return _each(lambda a: -a, x)


def _positive(d: Dim) -> bool:
    low, _ = bounds(d)
    return low is not None and low > 0


def _quotient(a: Dim, b: Dim) -> Dim | None:
    """a / b, rounded towards zero."""
    if isinstance(a, int) and isinstance(b, int):
        if b == 0:
            raise ModelError("a size is divided by zero")
        return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    if _positive(b) and isinstance(a, DimExpr):
        for m, c in a.terms:
            rest = DimExpr(((m, 1),))
            if c == -1 and mod(a + rest, b) == rest:  # x - x % b, written to be rounded down
                return floordiv(a + rest, b)
    low, _ = bounds(a)
    if b == 1 or (isinstance(b, int) and b > 0 and low is not None and low >= 0):
        return floordiv(a, b)
    if isinstance(b, DimExpr) and low is not None and low >= 0:
        low_b, _ = bounds(b)
        if low_b is not None and low_b >= 0:
            return floordiv(a, b)
    return None


@solver("Div")
def _div(call: Call, x: Array, y: Array) -> Array | None:
    def exact(a: Dim, b: Dim) -> Dim | None:
        whole = _quotient(a, b)
        return whole if whole is not None and whole * b == a else None

    return _each(exact if call.operand(0).dtype.is_float else _quotient, x, y)


@solver("Floor", "Ceil", "Round", "Identity")
def _whole(call: Call, x: Array) -> Array | None:
    return x


@solver("Mod")
def _mod(call: Call, x: Array, y: Array) -> Array | None:
    def remainder(a: Dim, b: Dim) -> Dim | None:
        low, _ = bounds(a)
        if not _positive(b) or (call.flag("fmod") and (low is None or low < 0)):
            return None
        return mod(a, b)

    return _each(remainder, x, y)


@solver("Min")
def _min(call: Call, *xs: Array) -> Array | None:
    out: Array | None = xs[0]
    for x in xs[1:]:
        out = None if out is None else _each(minimum, out, x)
    return out


@solver("Max")
def _max(call: Call, *xs: Array) -> Array | None:
    out: Array | None = xs[0]
    for x in xs[1:]:
        out = None if out is None else _each(maximum, out, x)
    return out


def _certain(a: Any, b: Any) -> tuple[int | None, int | None]:
    return bounds(int(a) - b if isinstance(a, bool) else a - b)


def _equal(a: Any, b: Any) -> bool | None:
    low, high = _certain(a, b)
    if low == high == 0:
        return True
    return False if (low is not None and low > 0) or (high is not None and high < 0) else None


def _less(a: Any, b: Any) -> bool | None:
    low, high = _certain(a, b)
    if high is not None and high < 0:
        return True
    return False if low is not None and low >= 0 else None


@solver("Equal")
def _equals(call: Call, x: Array, y: Array) -> Array | None:
    return _each(_equal, x, y)


@solver("Less")
def _lesser(call: Call, x: Array, y: Array) -> Array | None:
    return _each(_less, x, y)


@solver("Greater")
def _greater(call: Call, x: Array, y: Array) -> Array | None:
    return _each(lambda a, b: _less(b, a), x, y)


@solver("Not")
def _not(call: Call, x: Array) -> Array | None:
    return _each(lambda a: not a, x)


@solver("And")
def _and(call: Call, x: Array, y: Array) -> Array | None:
    return _each(lambda a, b: bool(a) and bool(b), x, y)


@solver("Or")
def _or(call: Call, x: Array, y: Array) -> Array | None:
    return _each(lambda a, b: bool(a) or bool(b), x, y)


@solver("Where")
def _where(call: Call, c: Array, x: Array, y: Array) -> Array | None:
    return _each(lambda k, a, b: a if k else b, c, x, y)


@solver("Concat")
def _concat(call: Call, *xs: Array) -> Array | None:
    return np.concatenate(xs, call.integer("axis"))


@solver("Gather")
def _gather(call: Call, x: Array, i: Array) -> Array | None:
    if not all(isinstance(k, int) for k in i.flat):
        return None
    axis = call.integer("axis", 0)
    at = i.astype(np.int64)
    if at.size and not (-x.shape[axis] <= at.min() and at.max() < x.shape[axis]):
        return None
    return np.asarray(np.take(x, at, axis), object)


@solver("Slice")
def _slice(call: Call, x: Array, *more: Array) -> Array | None:
    if call.version < 10:
        starts, ends = call.integers("starts"), call.integers("ends")
        axes, steps = call.integers("axes"), None
    else:
        given = [None if not all(isinstance(k, int) for k in m.flat) else
                 tuple(int(k) for k in m.reshape(-1)) for m in more]  # fmt: skip
        if any(m is None for m in given) or not all(call.has(k) for k in range(1, 3)):
            return None
        starts, ends = given[0], given[1]
        rest = iter(given[2:])
        axes = next(rest) if call.has(3) else None
        steps = next(rest) if call.has(4) else None
    if starts is None or ends is None:
        return None
    index = [slice(None)] * x.ndim
    for k, (a, b) in enumerate(zip(starts, ends)):
        at = k if axes is None else axes[k]
        step = 1 if steps is None else steps[k]
        index[at] = slice(a, None if step < 0 and b < -x.shape[at] else b, step)
    return x[tuple(index)]


@solver("Split")
def _split(call: Call, x: Array, *sizes: Array) -> list[Array] | None:
    if x.ndim != 1:
        return None
    given = call.ints(1) if sizes else call.integers("split")
    if given is None:
        chunk = -(-x.size // max(call.integer("num_outputs", call.results), 1))
        given = tuple(min(chunk, x.size - k * chunk) for k in range(call.results))
    if sum(given) != x.size or len(given) != call.results or min(given) < 0:
        return None
    starts = np.cumsum([0, *given])
    return [x[a : a + n] for a, n in zip(starts, given)]


@solver("Squeeze")
def _squeeze(call: Call, x: Array, *axes: Array) -> Array | None:
    found = call.ints(1) if axes else call.integers("axes")
    return np.asarray(np.squeeze(x, None if found is None else tuple(found)), object)


@solver("Unsqueeze")
def _unsqueeze(call: Call, x: Array, *axes: Array) -> Array | None:
    found = call.ints(1) if axes else call.integers("axes")
    return None if found is None else np.expand_dims(x, tuple(found))


@solver("Reshape")
def _reshape(call: Call, x: Array, shape: Array) -> Array | None:
    wanted = list(shape.reshape(-1))
    if not all(isinstance(d, int) for d in wanted) or 0 in wanted:
        return None
    return x.reshape(wanted)


@solver("Cast")
def _cast(call: Call, x: Array) -> Array | None:
    to = call.dtype("to")
    if to.kind == "b":
        return _each(lambda a: None if _equal(a, 0) is None else not _equal(a, 0), x)
    if not to.computes:
        return None
    if to.is_integer and to.bits < 64 and not all(isinstance(d, DimExpr) for d in x.flat):
        limits = np.iinfo(to.numpy)
        if not all(isinstance(d, DimExpr) or limits.min <= d <= limits.max for d in x.flat):
            return None
    return _each(lambda a: int(a) if isinstance(a, bool) else a, x)


@solver("ReduceProd")
def _product(call: Call, x: Array, *axes: Array) -> Array | None:
    found = call.ints(1) if axes else call.integers("axes")
    whole = found is None or sorted(a % max(x.ndim, 1) for a in found) == list(range(x.ndim))
    if not whole:
        return None
    out = as_elements(product(x.reshape(-1).tolist()))
    return out.reshape((1,) * x.ndim) if call.flag("keepdims", True) else out


@solver("Range")
def _range(call: Call, start: Array, stop: Array, step: Array) -> Array | None:
    if any(x.size != 1 for x in (start, stop, step)):
        return None
    first, last, by = (x.reshape(-1)[0] for x in (start, stop, step))
    if not all(isinstance(d, int) for d in (first, last, by)) or by == 0:
        return None
    made = range(first, last, by)
    return as_elements(made) if len(made) <= 64 else None


@solver("Expand")
def _expand(call: Call, x: Array, shape: Array) -> Array | None:
    wanted = list(shape.reshape(-1))
    if not all(isinstance(d, int) and 0 <= d <= 64 for d in wanted) or len(wanted) > 1:
        return None
    return np.array(np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(wanted))), object)


@solver("ConstantOfShape")
def _constant_of_shape(call: Call, shape: Array) -> Array | None:
    wanted = list(shape.reshape(-1))
    fill = call.tensor("value")
    if fill is None or fill.size != 1 or fill.dtype.kind not in "ib" or len(wanted) > 1:
        return None
    if not all(isinstance(d, int) and 0 <= d <= 64 for d in wanted):
        return None
    return np.full(tuple(wanted), fill.item(), object)


@solver("Shape", elements=False)
def _shape(call: Call) -> Array | None:
    shape = call.value(0).shape
    start, end = call.integer("start", 0), call.integer("end", len(shape))
    return as_elements(shape[slice(*slice(start, end).indices(len(shape))[:2])])


@solver("Size", elements=False)
def _size(call: Call) -> Array | None:
    return as_elements(call.value(0).type.size)
