"""Where statements may stand: rules about parallel and vector loops, asked by verifier and
transforms alike."""

from __future__ import annotations

from collections.abc import Iterator

from .ir import Fail, For, If, Kernel, Let, Stmt, Store, While, loads, statements
from .text import show_head


def parallel_fault(kernel: Kernel) -> str | None:
    """What is wrong with the places of parallel loops, if anything is."""
    regions = [s for s in statements(kernel.body) if isinstance(s, For) and s.kind == "parallel"]
    if not regions:
        return None
    args = {b.name for b in kernel.params}
    for s in _outside(kernel.body):
        if isinstance(s, Fail) or (isinstance(s, Store) and s.buffer in args):
            return f"every part would do `{show_head(s)}`, outside of the parallel loops"
        inner = _parallel_inside(s)
        if inner is not None and not (isinstance(s, For) and s.kind == "serial"):
            return f"parallel loop {inner.sym.name} stands in `{show_head(s)}`"
    for loop in regions:
        for s in loop.body:
            inner = _parallel_inside(s)
            if inner is not None:
                return f"parallel loop {inner.sym.name} stands in another"
        stored = {s.buffer for s in statements(loop.body) if isinstance(s, Store)} & args
        for other in regions:
            late = stored & {x.buffer for x in loads(other.body)}
            if other is not loop and late:
                return f"parallel loop {other.sym.name} loads {min(late)}, stored by another part"
    return None


def _outside(body: tuple[Stmt, ...]) -> Iterator[Stmt]:
    """Statements that are not in a parallel loop, nor one."""
    for s in body:
        if isinstance(s, For) and s.kind == "parallel":
            continue
        yield s
        if isinstance(s, For | While):
            yield from _outside(s.body)
        elif isinstance(s, If):
            yield from _outside(s.then + s.orelse)


def _parallel_inside(s: Stmt) -> For | None:
    inner = (t for t in statements((s,)) if isinstance(t, For) and t.kind == "parallel")
    return next(inner, None)


def vector_fault(body: tuple[Stmt, ...]) -> str | None:
    """What a vector loop's body holds that it must not, if it does."""
    for s in body:
        if isinstance(s, For) and s.kind == "unroll":
            fault = vector_fault(s.body)
            if fault:
                return fault
        elif not isinstance(s, Let | Store | Fail):
            return f"a vector loop holds Let, Store, unroll and Fail only, not {show_head(s)!r}"
    return None
