"""The clock that compiled programs read for profiles: the CPU's own counter, as LLVM text."""

from __future__ import annotations


def counter(triple: str) -> str:
    """The LLVM intrinsic that reads the counter. User programs may not read the cycle counter of
    most AArch64 systems, only its timer."""
    return "llvm.readcyclecounter" if triple.startswith("x86_64") else "llvm.readsteadycounter"


def clock_ir(triple: str) -> str:
    """`i64 fm_clock(void)`: the counter now."""
    name = counter(triple)
    return (f"declare i64 @{name}()\n"
            f"define i64 @fm_clock() {{\n  %now = call i64 @{name}()\n  ret i64 %now\n}}\n")  # fmt: skip
