"""The debug mode in which every native access is checked (FLOWMILL_CHECK_BOUNDS=1).

In: an access and its mask. Out: the mask under which it may go ahead. Where an index lies outside
of its buffer, the run is recorded as failed at the reserved site and the element is not touched.
"""

from __future__ import annotations

from ..algorithm import Expr, IndexLike
from ..dtypes import bool_, int64
from .dimensions import Operand
from .expressions import Expressions
from .kernel.ir import Buffer
from .llvm_text import Scope, splat_constant

SITE = (1 << 20) - 1  # no program has so many sites of its own


class CheckedExpressions(Expressions):
    """Expressions whose memory accesses are checked."""

    def guarded(
        self, buffer: Buffer, indices: tuple[IndexLike, ...], mask: Operand | None
    ) -> Operand | None:
        """`mask` and "every index is within `buffer`"; notes where it is not."""
        if not indices:
            return mask
        inside: Operand | None = None
        for i, size in zip(indices, buffer.shape):
            at = self.dim_lanes(i) if not isinstance(i, Expr) else self.wide(i)
            end = Operand(self.dim(size), 1)
            for order, limit in (("sge", Operand("0", 1)), ("slt", end)):
                inside = self.both(inside, self.compared(order, at, limit))
        assert inside is not None
        allowed = self.both(mask, inside)
        self.note(allowed, mask, inside)
        return allowed

    def wide(self, i: Expr) -> Operand:
        """A data-dependent index as int64."""
        x = self.value(i)
        return Operand(self.convert(x.text, i.dtype, int64, x.lanes), x.lanes)

    def compared(self, order: str, a: Operand, b: Operand) -> Operand:
        """A comparison of i64 values."""
        n = max(a.lanes, b.lanes)
        t = "i64" if n == 1 else f"<{n} x i64>"
        x, y = (v.text if n == 1 else self.splat(v, int64) for v in (a, b))
        return Operand(self.out.emit(f"icmp {order} {t} {x}, {y}"), n)

    def both(self, a: Operand | None, b: Operand) -> Operand:
        """a and b."""
        if a is None:
            return b
        n = max(a.lanes, b.lanes)
        t = "i1" if n == 1 else f"<{n} x i1>"
        x, y = (v.text if n == 1 else self.splat(v, bool_) for v in (a, b))
        return Operand(self.out.emit(f"and {t} {x}, {y}"), n)

    def note(self, allowed: Operand, mask: Operand | None, inside: Operand) -> None:
        """Records a failure where an element was wanted that is not inside."""
        out, n = self.out, allowed.lanes
        t = "i1" if n == 1 else f"<{n} x i1>"
        true = splat_constant("true", "i1", n)
        text = inside.text if n == 1 else self.splat(inside, bool_)
        bad = out.emit(f"xor {t} {text}, {true}")
        if mask is not None:
            wanted = mask.text if n == 1 else self.splat(mask, bool_)
            bad = out.emit(f"and {t} {bad}, {wanted}")
        if n > 1:
            if self.lanes is not None and self.lanes.active is not None:
                bad = out.emit(f"and {t} {bad}, {self.lanes.active}")
            bits = out.emit(f"bitcast {t} {bad} to i{n}")
            bad = out.emit(f"icmp ne i{n} {bits}, 0")
        outside, fine = out.new_label("outside"), out.new_label("inside")
        out.scopes.append(Scope(outside))
        out.emit(f"atomicrmw umin ptr %error, i64 {SITE << 44} monotonic")
        inner = out.scopes.pop()
        out.line(f"br i1 {bad}, label %{outside}, label %{fine}")
        out.start_block(outside)
        out.scope.lines.extend(inner.lines)
        out.line(f"br label %{fine}")
        out.start_block(fine)
