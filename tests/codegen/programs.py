"""Objects to link: LLVM IR text in, the bytes LLVM emits for it out."""

from __future__ import annotations

import llvmlite.binding as llvm

X86_64, AARCH64 = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"

# One of everything the linker handles. `other`, `shared` come from OTHER, `weights` is payload.
PROGRAM = r"""
@table = internal constant [2 x ptr] [ptr @square, ptr @other]
@pointers = global [3 x ptr] [ptr @square, ptr @number, ptr @getpid]
@number = global i32 7
@bytes = internal constant [5 x i8] c"\01\02\03\05\08"
@longs = internal constant [3 x i64] [i64 10, i64 20, i64 30]
@shorts = internal constant [3 x i16] [i16 4, i16 5, i16 6]
@zeros = internal global [1000 x i32] zeroinitializer
@flag = internal global i32 0
@start = internal constant ptr @set_flag, section ".init_array", align 8
@llvm.used = appending global [1 x ptr] [ptr @start], section "llvm.metadata"
@text = private unnamed_addr constant [6 x i8] c"hello\00"
@shared = external hidden global i32
@weights = external global [0 x i8]
@near = external hidden global [0 x i8]
declare i32 @getpid()
declare double @exp(double)
declare i32 @other(i32)
declare hidden i32 @hidden_other(i32)

define internal void @set_flag() { store i32 5, ptr @flag  ret void }
define i32 @get_flag() { %a = load i32, ptr @flag  ret i32 %a }
define internal i32 @square(i32 %x) noinline { %y = mul i32 %x, %x  ret i32 %y }
define double @formula(double %x) uwtable {
  %e = call double @exp(double %x)
  %f = fmul double %e, 3.5
  %g = fadd double %f, 1.25e-3
  ret double %g
}
define void @vector(ptr %p) {
  %x = load <4 x float>, ptr %p, align 4
  %y = fadd <4 x float> %x, <float 1.0, float 2.0, float 3.5, float 4.0>
  store <4 x float> %y, ptr %p, align 4
  ret void
}
define i32 @pid() { %a = tail call i32 @getpid()  ret i32 %a }
define i32 @through_table(i64 %i, i32 %x) {
  %p = getelementptr ptr, ptr @table, i64 %i
  %f = load ptr, ptr %p
  %r = call i32 %f(i32 %x)
  %d = load i32, ptr @number
  %z = add i32 %r, %d
  ret i32 %z
}
define i32 @count(i64 %i) {
  %p = getelementptr i32, ptr @zeros, i64 %i
  %r = load i32, ptr %p
  %s = add i32 %r, 1
  store i32 %s, ptr %p
  ret i32 %s
}
define i64 @pick(i64 %i) {
  %p = getelementptr i8, ptr @bytes, i64 %i
  %a = load i8, ptr %p
  %q = getelementptr i64, ptr @longs, i64 %i
  %b = load i64, ptr %q
  %c = zext i8 %a to i64
  %r = getelementptr i16, ptr @shorts, i64 %i
  %e = load i16, ptr %r
  %f = zext i16 %e to i64
  %d = add i64 %b, %c
  %g = add i64 %d, %f
  ret i64 %g
}
define i32 @choose(i32 %x) {
  switch i32 %x, label %other [ i32 0, label %a  i32 1, label %b  i32 2, label %c  i32 3, label %d
    i32 4, label %e ]
a: %r0 = call i32 @getpid()  ret i32 %r0
b: ret i32 17
c: %r1 = call i32 @square(i32 9)  ret i32 %r1
d: %r2 = call i32 @other(i32 1)  ret i32 %r2
e: %r3 = call i32 @hidden_other(i32 1)  ret i32 %r3
other: ret i32 -1
}
define i32 @read_shared() { %a = load i32, ptr @shared  ret i32 %a }
define ptr @greeting() { ret ptr @text }
define ptr @get_weights() { ret ptr @weights }
define ptr @get_near() { ret ptr @near }
define ptr @get_pointer(i64 %i) {
  %p = getelementptr ptr, ptr @pointers, i64 %i
  %r = load ptr, ptr %p
  ret ptr %r
}
"""
OTHER = """
@shared = hidden global i32 41
declare i32 @pid()
define i32 @other(i32 %x) { %y = add i32 %x, 100  ret i32 %y }
define hidden i32 @hidden_other(i32 %x) { %y = add i32 %x, 200  ret i32 %y }
define i32 @pid_plus_one() { %a = call i32 @pid()  %b = add i32 %a, 1  ret i32 %b }
"""
EXPORTS = [
    *("get_flag", "formula", "vector", "pid", "through_table", "count", "pick", "choose"),
    *("read_shared", "greeting", "get_weights", "get_near", "get_pointer", "pid_plus_one"),
    "weights",
]
WEIGHTS = {"weights": bytes(range(256)) * 40 + b"end", "near": b"another one"}


def emit(ir: str, triple: str = X86_64) -> bytes:
    """The object file, compiled the way flowmill compiles."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    module = llvm.parse_assembly(ir)
    module.triple = triple
    module.verify()
    target = llvm.Target.from_triple(triple)
    machine = target.create_target_machine(opt=2, reloc="pic", codemodel="small")
    return bytes(machine.emit_object(module))
