"""Names what a large expression computes more than once: kernel -> kernel.

Expressions are graphs with shared parts (a random number's rounds use each word several times);
text, interpreter and every other walk over trees would take exponentially long. In such statements
each shared part becomes a `let` before the statement. Other kernels are returned as they are.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from ..algorithm import Const, Expr, Index, Load, Var, children, rebuild
from ..codegen.kernel.ir import Fail, For, If, Kernel, Let, Stmt, Store, While, expressions
from ..dims import Dim

LARGE = 512  # nodes of an expression written as a tree


def share(kernel: Kernel) -> Kernel:
    """`kernel` with the shared parts of its large expressions named; itself if there are none."""
    names = Counter[str]()
    body = _block(kernel.body, names)
    return kernel if body is kernel.body else replace(kernel, body=body)


def _block(body: tuple[Stmt, ...], names: Counter[str]) -> tuple[Stmt, ...]:
    out: list[Stmt] = []
    for s in body:
        out += _statement(s, names)
    same = len(out) == len(body) and all(a is b for a, b in zip(out, body))
    return body if same else tuple(out)


def _statement(s: Stmt, names: Counter[str]) -> list[Stmt]:
    if isinstance(s, For | While):  # a `while` evaluates its condition anew at each turn
        body = _block(s.body, names)
        return [s if body is s.body else replace(s, body=body)]
    lets: list[Stmt] = []
    roots = tuple(expressions(s))
    if sum(_sizes(roots).get(e, 1) for e in roots) > LARGE:
        known: dict[Expr, Expr] = {}
        for e in _shared(roots):
            names["shared"] += 1
            name = f"shared.{names['shared']}"
            lets.append(Let(name, _replaced(e, known)))
            known[e] = Var(name, e.dtype)
        s = _rewritten(s, known)
    if isinstance(s, If):
        then, orelse = _block(s.then, names), _block(s.orelse, names)
        if then is not s.then or orelse is not s.orelse:
            s = replace(s, then=then, orelse=orelse)
    return [*lets, s]


def _order(roots: tuple[Expr, ...]) -> list[Expr]:
    """Every distinct sub-expression, parts before wholes."""
    out: list[Expr] = []
    done: set[Expr] = set()
    for root in roots:
        stack: list[tuple[Expr, bool]] = [(root, False)]
        while stack:
            e, ready = stack.pop()
            if ready:
                out.append(e)
            elif e not in done:
                done.add(e)
                stack.append((e, True))
                stack.extend((c, False) for c in children(e))
    return out


def _sizes(roots: tuple[Expr, ...]) -> dict[Expr, int]:
    """How many nodes each sub-expression has when written as a tree."""
    out: dict[Expr, int] = {}
    for e in _order(roots):
        out[e] = 1 + sum(out[c] for c in children(e))
    return out


def _shared(roots: tuple[Expr, ...]) -> list[Expr]:
    """Parts that are used more than once and are more than a leaf, parts before wholes."""
    order = _order(roots)
    uses = Counter(c for e in order for c in children(e)) + Counter(roots)
    return [e for e in order if uses[e] > 1 and not isinstance(e, Const | Index | Var)
            and (children(e) or isinstance(e, Load))]  # fmt: skip


def _replaced(e: Expr, known: dict[Expr, Expr]) -> Expr:
    return rebuild(e, known.get, _unchanged)


def _unchanged(d: Dim) -> Dim:
    return d


def _rewritten(s: Stmt, known: dict[Expr, Expr]) -> Stmt:
    def new(e: Expr) -> Expr:
        return _replaced(e, known)

    if isinstance(s, Let):
        return replace(s, value=new(s.value))
    if isinstance(s, Store):
        indices = tuple(new(i) if isinstance(i, Expr) else i for i in s.indices)
        mask = None if s.mask is None else new(s.mask)
        return replace(s, indices=indices, value=new(s.value), mask=mask)
    if isinstance(s, If | Fail):
        return replace(s, cond=new(s.cond))
    return s
