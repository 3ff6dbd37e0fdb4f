"""Keeps what a loop's body accumulates in registers: the transform `stage`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from math import prod

from ...algorithm import Expr, IndexLike, LaneReduce, Load, rebuild, walk
from ...dims import Dim, Sym, evaluate, free_symbols, substitute
from .ir import Alloc, Buffer, Call, For, If, Kernel, Stmt, Store, While, expressions, statements
from .transforms import at_loops, refusal, rewrite

_MOST_ELEMENTS = 4096


@dataclass(frozen=True)
class _Use:
    """One access to the buffer: its indices and the statements around it, outermost first."""

    indices: tuple[Dim, ...]
    around: tuple[Stmt, ...]
    stores: bool


def stage(kernel: Kernel, loop: str, buffer: str, name: str) -> Kernel:
    """Keeps the elements of `buffer` that one iteration of `loop` uses in registers.

        for j in 0..64 step 16 {                 for j in 0..64 step 16 {
          vector v in 0..16 {                      alloc acc: f32[16] in register
            C[j + v] = 0.0f                        vector v in 0..16 {
          }                                          acc[v] = 0.0f
          for k in 0..n {                          }
            vector v in 0..16 {                    for k in 0..n {
              C[j + v] = C[j + v] + B[k, v]          vector v in 0..16 {
            }                                          acc[v] = acc[v] + B[k, v]
          }                                          }
        }                                          }
                                                   vector v in 0..16 {
                                                     C[j + v] = acc[v]
                                                   }
                                                 }

    `name` names the register buffer. It has one dimension per unroll or vector loop that the
    indices use, lanes last. Elements are loaded first unless the body begins by storing them, and
    stored last if the body stores to them. Every access in the body must have the same indices
    and no mask, and different values of the loops used must mean different elements.
    """

    def change(s: For) -> Stmt:
        uses = list(_uses(s.body, buffer, (), s))
        if not uses:
            raise refusal(s, f"it does not use {buffer}")
        place = uses[0].indices
        if any(u.indices != place for u in uses):
            raise refusal(s, f"{buffer} is used with different indices")
        nest = _nest(s, uses)
        _check_one_to_one(s, place, nest)
        dtype = {b.name: b.dtype for b in _buffers(kernel)}[buffer]
        own = tuple(n.var for n in nest)
        outside, inside = Load(buffer, place, dtype), Load(name, own, dtype)
        body = _redirected(s.body, outside, inside)
        first = (
            () if _begins_by_storing(uses[0], nest) else _wrapped(Store(name, own, outside), nest)
        )
        stored = any(u.stores for u in uses)
        last = _wrapped(Store(buffer, place, inside), nest) if stored else ()
        made = Alloc(Buffer(name, dtype, tuple(n.hi for n in nest), "register"))
        return replace(s, body=(made, *first, *body, *last))

    return at_loops(kernel, loop, change)


def _buffers(kernel: Kernel) -> Iterator[Buffer]:
    yield from kernel.params
    yield from (s.buffer for s in statements(kernel.body) if isinstance(s, Alloc))


def _uses(body: tuple[Stmt, ...], buffer: str, around: tuple[Stmt, ...], at: For) -> Iterator[_Use]:
    """Accesses in the order of execution."""
    for s in body:
        for e in expressions(s):
            for x in walk(e):
                if isinstance(x, Load) and x.buffer == buffer:
                    yield _use(at, x.indices, x.mask, around, False)
                elif isinstance(x, LaneReduce) and x.buffer == buffer:
                    raise refusal(at, f"{buffer} is in registers already")
        if isinstance(s, Store) and s.buffer == buffer:
            yield _use(at, s.indices, s.mask, around, True)
        elif isinstance(s, Call) and s.buffer == buffer:
            raise refusal(at, f"`{s.instruction}` uses {buffer}")
        elif isinstance(s, For | While):
            yield from _uses(s.body, buffer, (*around, s), at)
        elif isinstance(s, If):
            yield from _uses(s.then + s.orelse, buffer, (*around, s), at)


def _use(
    at: For,
    indices: tuple[IndexLike, ...],
    mask: Expr | None,
    around: tuple[Stmt, ...],
    stores: bool,
) -> _Use:
    dims = tuple(i for i in indices if not isinstance(i, Expr))
    if mask is not None or len(dims) < len(indices):
        raise refusal(at, "an access has a mask or an index that depends on data")
    return _Use(dims, around, stores)


def _nest(at: For, uses: list[_Use]) -> tuple[For, ...]:
    """The loops that the indices use, without bodies, lanes last; the same around every use."""
    symbols = {s for d in uses[0].indices for s in free_symbols(d)}
    nests = []
    for u in uses:
        loops = [replace(s, body=()) for s in u.around if isinstance(s, For) and s.sym in symbols]
        nests.append(tuple(sorted(loops, key=lambda s: s.kind == "vector")))
    if any(set(n) != set(nests[0]) for n in nests):
        raise refusal(at, "the loops around the accesses differ")
    inside = {s.sym for s in statements(at.body) if isinstance(s, For)}
    for s in nests[0]:
        if s.kind not in ("unroll", "vector") or s.lo != 0 or s.step != 1:
            raise refusal(at, f"loop {s.sym.name} must be a vector loop or unroll from 0 by 1")
        if s.active is not None and free_symbols(s.active) & inside - symbols:
            raise refusal(at, f"what is active of {s.sym.name} is known inside only")
    return nests[0]


def _check_one_to_one(at: For, place: tuple[Dim, ...], nest: tuple[For, ...]) -> None:
    """Raises unless different values of the nest's variables are different places."""
    zero: dict[Sym, Dim] = {n.sym: 0 for n in nest}
    offsets = [d - substitute(d, zero) for d in place]
    if {s for d in offsets for s in free_symbols(d)} - set(zero):
        raise refusal(at, "indices multiply the loops used with others")
    ranges = [range(n.hi) for n in nest if isinstance(n.hi, int)]
    count = prod(map(len, ranges))
    if count > _MOST_ELEMENTS:
        raise refusal(at, f"{count} elements are too many for registers")
    names = [n.sym.name for n in nest]
    values = (dict(zip(names, v)) for v in product(*ranges))
    if len({tuple(evaluate(d, v) for d in offsets) for v in values}) < count:
        raise refusal(at, "different iterations use the same element")


def _begins_by_storing(first: _Use, nest: tuple[For, ...]) -> bool:
    """Whether the body begins by storing to every element, whatever happens."""
    around = {replace(s, body=()) if isinstance(s, For) else s for s in first.around}
    return first.stores and around == set(nest)


def _wrapped(s: Stmt, nest: tuple[For, ...]) -> tuple[Stmt, ...]:
    for loop in reversed(nest):
        s = replace(loop, body=(s,))
    return (s,)


def _redirected(body: tuple[Stmt, ...], old: Load, new: Load) -> tuple[Stmt, ...]:
    """`body` with loads of and stores to the place of `old` replaced by those of `new`."""

    def leaf(e: Expr) -> Expr | None:
        return new if e == old else None

    def store(s: Store) -> Stmt:
        if s.buffer == old.buffer:
            return replace(s, buffer=new.buffer, indices=new.indices)
        return s

    return rewrite(body, lambda d: d, lambda e: rebuild(e, leaf, lambda d: d), store)
