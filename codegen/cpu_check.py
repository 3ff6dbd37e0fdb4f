"""Whether the CPU at hand can run a target's code: asked once, before any of it runs.

In: a `Target`. Out: LLVM text of `i1 @NAME()`. On x86-64 it reads `cpuid` and, because an
operating system must save the wide registers too, `xgetbv`; both are bytes of machine code before
a function's body, since LLVM's assemblers are not there for every target. AArch64 code uses what
every AArch64 CPU has.
Source: Intel SDM volume 2A, CPUID; x86-64 psABI, micro-architecture levels.
"""

from __future__ import annotations

from ..target import Target
from .routine import Routine

EAX, EBX, ECX, EDX = 0, 4, 8, 12
# (leaf, sub-leaf, register, bits): all bits must be set
Need = tuple[int, int, int, tuple[int, ...]]
_V2: tuple[Need, ...] = ((1, 0, ECX, (0, 9, 13, 19, 20, 23)), (0x80000001, 0, ECX, (0,)))
_V3: tuple[Need, ...] = (*_V2, (1, 0, ECX, (12, 22, 27, 28, 29)), (7, 0, EBX, (3, 5, 8)),
                         (0x80000001, 0, ECX, (5,)))  # fmt: skip
_V4: tuple[Need, ...] = (*_V3, (7, 0, EBX, (16, 17, 28, 30, 31)))
_LEVELS = {"x86-64-v2": (_V2, 0), "x86-64-v3": (_V3, 0x6), "x86-64-v4": (_V4, 0xE6)}
_FEATURES: dict[str, Need] = {
    "avx512vnni": (7, 0, ECX, (11,)), "avx512vbmi": (7, 0, ECX, (1,)),
    "avx512fp16": (7, 0, EDX, (23,)), "avx512bf16": (7, 1, EAX, (5,)),
    "avxvnni": (7, 1, EAX, (4,)),
}  # fmt: skip

# void cpuid(i32 leaf, i32 sub, ptr out): push rbx; mov r8,rdx; mov eax,edi; mov ecx,esi; cpuid;
# mov [r8],eax; mov [r8+4],ebx; mov [r8+8],ecx; mov [r8+12],edx; pop rbx; ret
_CPUID = bytes.fromhex("534989d089f889f10fa241890041895804418948084189500c5bc3")
# i32 xgetbv(): xor ecx,ecx; xgetbv; ret
_XGETBV = bytes.fromhex("31c90f01d0c3")


def requirements(target: Target) -> tuple[list[Need], int]:
    """What `cpuid` must say and which registers (bits of XCR0) the system must save."""
    if not target.triple.startswith("x86_64"):
        return [], 0
    needs, saved = _LEVELS.get(target.cpu, ((), 0))
    extra = [_FEATURES[f.lstrip("+")] for f in target.features.split(",") if f]
    return [*needs, *extra], saved


def cpu_check(name: str, target: Target, attributes: str) -> str:
    """LLVM text of `i1 @name()`."""
    needs, saved = requirements(target)
    out = Routine(f"define internal i1 @{name}() {attributes}")
    if not needs:
        out.ret("i1", "true")
        return out.finished()
    answer = out.alloca("[4 x i32]", 16)
    most = {False: max((n[0] for n in needs if n[0] < 1 << 31), default=0),
            True: max((n[0] for n in needs if n[0] >= 1 << 31), default=0)}  # fmt: skip
    for extended, top in most.items():
        if top:
            _ask(out, name, answer, 1 << 31 if extended else 0, 0)
            _fail_if(out, out.test("ult", "i32", out.load("i32", answer), _signed(top)))
    for leaf, sub, register, bits in needs:
        _ask(out, name, answer, leaf, sub)
        mask = _signed(sum(1 << b for b in bits))
        have = out.emit(f"and i32 {out.load('i32', answer, register)}, {mask}")
        _fail_if(out, out.test("ne", "i32", have, mask))
    if saved:
        have = out.emit(f"and i32 {out.call('i32', f'{name}.xgetbv')}, {saved}")
        _fail_if(out, out.test("ne", "i32", have, saved))
    out.ret("i1", "true")
    cpuid = _code(f"void @{name}.cpuid(i32, i32, ptr)", attributes, _CPUID, "ret void")
    xgetbv = _code(f"i32 @{name}.xgetbv()", attributes, _XGETBV, "ret i32 0")
    return cpuid + xgetbv + out.finished()


def _ask(out: Routine, name: str, answer: str, leaf: int, sub: int) -> None:
    out.call("void", f"{name}.cpuid", f"i32 {_signed(leaf)}", f"i32 {sub}", f"ptr {answer}")


def _signed(word: int) -> int:
    """An unsigned 32-bit number as LLVM spells it."""
    return word - (1 << 32) if word >> 31 else word


def _fail_if(out: Routine, cond: str) -> None:
    with out.when(cond):
        out.ret("i1", "false")


def _code(head: str, attributes: str, code: bytes, end: str) -> str:
    """A function that consists of `code`, which returns: its body `end` is not reached."""
    text = "".join(f"\\{b:02X}" for b in code)
    return (f"define internal {head} noinline {attributes} "
            f'prologue [{len(code)} x i8] c"{text}" {{\n  {end}\n}}\n')  # fmt: skip
