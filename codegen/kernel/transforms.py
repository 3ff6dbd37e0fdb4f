"""Schedules step by step: a kernel in, one that computes the same in another order out.

Every transform is a pure function that names loops by their variable and applies to all loops of
that name (`fission` makes twins). Each refuses, with an InternalError saying why, what it cannot
see to be equal. None of them changes the order in which values are added up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from ...algorithm import Expr, IndexLike, LaneReduce, Load, Var, rebuild, walk
from ...dims import (
    Dim,
    DimExpr,
    Op,
    Sym,
    bounds,
    coefficient,
    divisor,
    free_symbols,
    minimum,
)
from ...dims import substitute as substitute_dim
from ...errors import InternalError
from .ir import (
    Alloc,
    Call,
    Fail,
    For,
    If,
    Kernel,
    Let,
    Stmt,
    Store,
    While,
    expressions,
    loop_var,
    statements,
)
from .structure import parallel_fault, vector_fault
from .text import show_head


def substitute(stmts: tuple[Stmt, ...], values: Mapping[Sym, Dim]) -> tuple[Stmt, ...]:
    """`stmts` with free symbols replaced by Dims.

    A[i, 0] = f32(i)      { i: 8*q + r }      A[8*q + r, 0] = f32([8*q + r])
    """

    def dim(d: Dim) -> Dim:
        return substitute_dim(d, values)

    return rewrite(stmts, dim, lambda e: rebuild(e, lambda _: None, dim))


def rewrite(
    stmts: tuple[Stmt, ...],
    dim: Callable[[Dim], Dim],
    expr: Callable[[Expr], Expr],
    store: Callable[[Store], Stmt] = lambda s: s,
) -> tuple[Stmt, ...]:
    """`stmts` with every Dim and Expr replaced, then `store` of every Store."""

    def index(i: IndexLike) -> IndexLike:
        return expr(i) if isinstance(i, Expr) else dim(i)

    def one(s: Stmt) -> Stmt:
        if isinstance(s, For):
            active = None if s.active is None else dim(s.active)
            body = tuple(map(one, s.body))
            return replace(s, lo=dim(s.lo), hi=dim(s.hi), active=active, body=body)
        if isinstance(s, Let):
            return Let(s.name, expr(s.value))
        if isinstance(s, Store):
            mask = None if s.mask is None else expr(s.mask)
            return store(Store(s.buffer, tuple(map(index, s.indices)), expr(s.value), mask))
        if isinstance(s, If):
            return If(expr(s.cond), tuple(map(one, s.then)), tuple(map(one, s.orelse)))
        if isinstance(s, While):
            return While(expr(s.cond), tuple(map(one, s.body)))
        if isinstance(s, Fail):
            return Fail(s.site, expr(s.cond), dim(s.index))
        if isinstance(s, Call):
            return replace(s, indices=tuple(map(dim, s.indices)))
        return s

    return tuple(map(one, stmts))


def split(kernel: Kernel, loop: str, factor: int) -> Kernel:
    """Cuts a serial loop into blocks of `factor` iterations. Always equal.

        for i in 0..n {              for i_outer in 0..n step 8 {
          A[i] = 1.0f                  for i_inner in 0..min(8, n - i_outer) {
        }                                A[i_outer + i_inner] = 1.0f
                                       }
                                     }

    Where the number of iterations is a multiple of `factor` the inner loop is `0..8`.
    """

    def cut(s: For) -> Stmt:
        _require(s, s.kind == "serial" and factor >= 1, "only a serial loop is split")
        block = factor * s.step
        outer = loop_var(f"{loop}_outer", s.lo, s.hi, block)
        whole = divisor(s.hi - s.lo) % block == 0
        hi = block if whole else minimum(block, s.hi - outer)
        inner = loop_var(f"{loop}_inner", 0, hi, s.step)
        body = substitute(s.body, {s.sym: outer + inner})
        return For(outer, s.lo, s.hi, block, "serial",
                   (For(inner, 0, hi, s.step, "serial", body),))  # fmt: skip

    return at_loops(kernel, loop, cut)


def reorder(kernel: Kernel, outer: str, inner: str) -> Kernel:
    """Exchanges two loops, the inner one being all that the outer one holds.

        for i in 0..n {              for j in 0..m {
          for j in 0..m {              for i in 0..n {
            A[i, j] = 1.0f               A[i, j] = 1.0f
          }                            }
        }                            }

    The iterations of one of the two must store to elements of their own.
    """
    done = False

    def swap(s: For) -> Stmt:
        nonlocal done
        if len(s.body) != 1 or not isinstance(s.body[0], For) or s.body[0].sym.name != inner:
            return s
        t = s.body[0]
        _require(s, {s.kind, t.kind} <= {"serial", "unroll"}, "both must be serial or unroll")
        ranges = free_symbols(t.lo) | free_symbols(t.hi)
        _require(s, s.sym not in ranges, f"the range of {inner} depends on {outer}")
        fault = _dependence(s)
        if fault and _dependence(t, frozenset((s.sym,))):
            raise refusal(s, fault)
        done = True
        return replace(t, body=(replace(s, body=t.body),))

    out = at_loops(kernel, outer, swap)
    if not done:
        raise InternalError(f"kernel {kernel.name}: no loop {outer} holds just a loop {inner}")
    return out


def fission(kernel: Kernel, loop: str, at: int) -> Kernel:
    """Cuts a loop in two, before statement number `at` of its body.

        for i in 0..n {              for i in 0..n {
          A[i] = 0.0f                  A[i] = 0.0f
          B[i] = A[i]                }
        }                            for i in 0..n {
                                       B[i] = A[i]
                                     }

    Iterations must store to elements of their own, and the second half use no Let or Alloc of
    the first. Loops whose body has no more than `at` statements stay.
    """

    def cut(s: For) -> tuple[Stmt, ...]:
        if at >= len(s.body):
            return (s,)
        _require(s, s.kind in ("serial", "unroll"), "only serial and unroll loops are cut")
        made = {t.name for t in s.body[:at] if isinstance(t, Let)}
        made |= {t.buffer.name for t in s.body[:at] if isinstance(t, Alloc)}
        used = made & _names(s.body[at:])
        _require(s, not used, f"{', '.join(sorted(used))} would be out of scope")
        fault = _dependence(s)
        if fault:
            raise refusal(s, fault)
        return replace(s, body=s.body[:at]), replace(s, body=s.body[at:])

    return at_loops(kernel, loop, cut)


def unroll(kernel: Kernel, loop: str) -> Kernel:
    """Repeats the body of a serial loop with constant bounds once per value. Always equal.

    for r in 0..8 { ... }        unroll r in 0..8 { ... }
    """

    def mark(s: For) -> Stmt:
        constant = isinstance(s.lo, int) and isinstance(s.hi, int)
        _require(s, s.kind == "serial" and constant, "a serial loop of constant bounds is wanted")
        return replace(s, kind="unroll")

    return at_loops(kernel, loop, mark)


def vectorize(kernel: Kernel, loop: str, lanes: int) -> Kernel:
    """Makes the iterations of a serial loop, at most `lanes` of them, lanes of SIMD operations.

        for v in 0..min(16, n - j) { ... }       vector v in 0..16 active n - j { ... }

    Iterations must store to elements of their own; the body must suit a vector loop.
    """

    def widen(s: For) -> Stmt:
        _require(s, s.kind == "serial" and s.lo == 0 and s.step == 1, "a serial 0..n is wanted")
        most = bounds(s.hi)[1]
        _require(s, most is not None and most <= lanes, f"more than {lanes} iterations")
        fault = vector_fault(s.body) or _dependence(s)
        if fault:
            raise refusal(s, fault)
        var = loop_var(loop, 0, lanes)
        body = substitute(s.body, {s.sym: var})
        active = None if s.hi == lanes else _unclamped(s.hi, lanes)
        return For(var, 0, lanes, 1, "vector", body, active)

    return at_loops(kernel, loop, widen)


def _unclamped(d: Dim, lanes: int) -> Dim:
    """`x` for `min(lanes, x)`: lanes beyond the last need no clamp."""
    if isinstance(d, DimExpr) and len(d.terms) == 1:
        atoms, factor = d.terms[0]
        if factor == 1 and len(atoms) == 1 and isinstance(atoms[0], Op) and atoms[0].kind == "min":
            a, b = atoms[0].a, atoms[0].b
            return b if a == lanes else a if b == lanes else d
    return d


def parallelize(kernel: Kernel, loop: str) -> Kernel:
    """Divides the iterations of a serial loop among the parts of a phase.

        for i in 0..n { ... }        parallel i in 0..n { ... }

    Iterations must store to elements of their own; the loop must stand where one may be parallel.
    """

    def mark(s: For) -> Stmt:
        _require(s, s.kind == "serial", "only a serial loop becomes parallel")
        fault = _dependence(s)
        if fault:
            raise refusal(s, fault)
        return replace(s, kind="parallel")

    out = at_loops(kernel, loop, mark)
    fault = parallel_fault(out)
    if fault:
        raise InternalError(f"kernel {kernel.name}: {fault}")
    return out


def at_loops(kernel: Kernel, name: str, change: Callable[[For], Stmt | tuple[Stmt, ...]]) -> Kernel:
    """`kernel` with `change` applied to every loop over `name`."""
    found = False

    def block(body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
        out: list[Stmt] = []
        for s in body:
            if isinstance(s, For) and s.sym.name == name:
                nonlocal found
                found = True
                new = change(s)
                out.extend(new if isinstance(new, tuple) else (new,))
            elif isinstance(s, For | While):
                out.append(replace(s, body=block(s.body)))
            elif isinstance(s, If):
                out.append(If(s.cond, block(s.then), block(s.orelse)))
            else:
                out.append(s)
        return tuple(out)

    body = block(kernel.body)
    if not found:
        raise InternalError(f"kernel {kernel.name} has no loop {name}")
    return replace(kernel, body=body)


def refusal(s: For, why: str) -> InternalError:
    return InternalError(f"cannot transform `{show_head(s)}`: {why}")


def _require(s: For, holds: bool, why: str) -> None:
    if not holds:
        raise refusal(s, why)


def _names(body: tuple[Stmt, ...]) -> set[str]:
    """The names of the values and buffers that `body` uses."""
    out: set[str] = set()
    for s in statements(body):
        if isinstance(s, Store | Call):
            out.add(s.buffer)
        for e in expressions(s):
            for x in walk(e):
                if isinstance(x, Var):
                    out.add(x.name)
                elif isinstance(x, Load | LaneReduce):
                    out.add(x.buffer)
    return out


def accesses(body: tuple[Stmt, ...]) -> Iterator[tuple[str, tuple[IndexLike, ...]]]:
    """Buffer and indices of everything `body` loads or stores, rows of lanes included."""
    for s in statements(body):
        if isinstance(s, Store | Call):
            yield s.buffer, s.indices
        for e in expressions(s):
            for x in walk(e):
                if isinstance(x, Load | LaneReduce):
                    yield x.buffer, x.indices


def _dependence(loop: For, more: frozenset[Sym] = frozenset()) -> str | None:
    """Why iterations of `loop` may touch what another one stores; None if they cannot.

    They cannot if every buffer stored to has an index that is the same wherever the buffer is
    accessed, moves with the loop's variable, and moves less by all symbols bound inside the loop
    (and those in `more`) than by one step of it.
    """
    body = loop.body
    private = {s.buffer.name for s in statements(body) if isinstance(s, Alloc)}
    inner = {s.sym for s in statements(body) if isinstance(s, For)} | more
    changed = {s.buffer for s in statements(body) if isinstance(s, Store)}
    changed |= {s.buffer for s in statements(body) if isinstance(s, Call) and not s.indices}
    for name in sorted(changed - private):
        uses = [indices for buffer, indices in accesses(body) if buffer == name]
        rank = min(map(len, uses))
        if not any(_own(tuple(u[n] for u in uses), loop, inner) for n in range(rank)):
            return f"iterations of {loop.sym.name} may store to the same element of {name}"
    return None


def _own(indices: tuple[IndexLike, ...], loop: For, inner: set[Sym]) -> bool:
    """Whether one index of all accesses to a buffer tells the iterations of `loop` apart."""
    first = indices[0]
    if isinstance(first, Expr) or any(i != first for i in indices):
        return False
    k = coefficient(first, loop.sym)
    low, high = bounds(first - substitute_dim(first, dict.fromkeys(inner, 0)))
    spread = None if low is None or high is None else high - low
    return isinstance(k, int) and spread is not None and spread < abs(k) * loop.step
