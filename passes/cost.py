"""What an expression costs: enough to tell what may be computed twice."""

from __future__ import annotations

from ..algorithm import Apply, Expr, children, walk

_HEAVY = frozenset({"exp", "log", "tanh", "sigmoid", "erf", "sin", "cos", "pow", "expm1", "log1p",
                    "tan", "asin", "acos", "atan", "sinh", "cosh", "softplus", "exp2", "log2"})  # fmt: skip


def heavy(e: Expr) -> bool:
    """Whether `e` takes a function of many instructions."""
    return any(isinstance(x, Apply) and x.fn in _HEAVY for x in walk(e))


def depth(e: Expr) -> int:
    """How many expressions stand inside one another in `e`."""
    found: dict[Expr, int] = {}
    stack = [e]
    while stack:
        parts = children(stack[-1])
        missing = [x for x in parts if x not in found]
        if missing:
            stack += missing
        else:
            found[stack.pop()] = 1 + max((found[x] for x in parts), default=0)
    return found[e]
