"""Where the workers of the thread pool run: a part of the module of `pool.py`, in its notation.

A guest of KVM reports its idle processors as preempted, and a Linux kernel that wakes a worker then
takes the waker's own processor for the better place: the worker waits behind the caller, who does
all parts alone, for milliseconds. So a caller that is about to wake workers keeps them off the
processor it runs on. Measured on two virtual processors, a network of 1.5 ms on one thread and
0.75 ms on two, after an idle gap of 10 ms: 1.85 ms left to the kernel, 0.9 ms with this.

The processors that remain are those the workers may use anyway: what they inherited, or what was
set from outside since. Where none remains, nothing changes. Kernels with more than 1024 processors
refuse a mask of this size, and place the workers themselves.
"""

PLACING = """
; A worker notes its thread's number, by which its processors are set.
define internal void @fm_register(ptr %P) nounwind {
  %known = field known
  %tids = field tids
  %tid64 = call i64 (i64, ...) @syscall(i64 <GETTID>)
  %tid = trunc i64 %tid64 to i32
  %k = atomicrmw add ptr %known, i32 1 acq_rel, align 4
  %slot = getelementptr i32, ptr %tids, i32 %k
  store atomic i32 %tid, ptr %slot release, align 4
  ret void
}
; Keeps the workers off the caller's processor: whenever that, or the number of workers, changed.
; Called by the one who holds `busy`, so no worker ends meanwhile.
define internal void @fm_keep_off(ptr %P) nounwind {
entry:
  %here = alloca i32, align 4
  %mask = alloca [16 x i64], align 8
  %away = field away
  %placed = field placed
  %known = field known
  %tids = field tids
  %home = field home
  %given = field given
  store i32 -1, ptr %here, align 4
  %r0 = call i64 (i64, ...) @syscall(i64 <GETCPU>, ptr %here, ptr null, ptr null)
  %cpu = load i32, ptr %here, align 4
  %now = add i32 %cpu, 1                      ; 0 in the page: never placed
  %was = load i32, ptr %away, align 4
  %before = load i32, ptr %placed, align 4
  %count = load atomic i32, ptr %known acquire, align 4
  %same_cpu = icmp eq i32 %now, %was
  %same_count = icmp eq i32 %count, %before
  %as_is = and i1 %same_cpu, %same_count
  %large = icmp uge i32 %cpu, 1024
  %leave = or i1 %as_is, %large
  br i1 %leave, label %out, label %look
look:
  %first = load atomic i32, ptr %tids acquire, align 4
  %nobody = icmp eq i32 %first, 0
  br i1 %nobody, label %out, label %read
read:
  store i32 %now, ptr %away, align 4
  store i32 %count, ptr %placed, align 4
  store <16 x i64> zeroinitializer, ptr %mask, align 8
  %r1 = call i64 (i64, ...) @syscall(i64 <GETAFFINITY>, i32 %first, i64 128, ptr %mask)
  %refused = icmp slt i64 %r1, 1
  br i1 %refused, label %out, label %compare
compare:                    ; another mask than was given here: it was set from outside
  %found = load <16 x i64>, ptr %mask, align 8
  %last = load <16 x i64>, ptr %given, align 8
  %old = load <16 x i64>, ptr %home, align 8
  %differ = xor <16 x i64> %found, %last
  %bits = call i64 @llvm.vector.reduce.or.v16i64(<16 x i64> %differ)
  %kept = icmp eq i64 %bits, 0
  %all = select i1 %kept, <16 x i64> %old, <16 x i64> %found
  store <16 x i64> %all, ptr %home, align 8
  store <16 x i64> %all, ptr %mask, align 8
  %at = lshr i32 %cpu, 6
  %in = and i32 %cpu, 63
  %in64 = zext i32 %in to i64
  %bit = shl i64 1, %in64
  %others = xor i64 %bit, -1
  %word = getelementptr i64, ptr %mask, i32 %at
  %w = load i64, ptr %word, align 8
  %less = and i64 %w, %others
  store i64 %less, ptr %word, align 8
  %rest = load <16 x i64>, ptr %mask, align 8
  %some = call i64 @llvm.vector.reduce.or.v16i64(<16 x i64> %rest)
  %none = icmp eq i64 %some, 0
  br i1 %none, label %out, label %set
set:
  store <16 x i64> %rest, ptr %given, align 8
  br label %next
next:
  %k = phi i32 [0, %set], [%k1, %done]
  %slot = getelementptr i32, ptr %tids, i32 %k
  %tid = load atomic i32, ptr %slot acquire, align 4
  %nameless = icmp eq i32 %tid, 0             ; 0 would mean the caller itself
  br i1 %nameless, label %done, label %move
move:
  %r2 = call i64 (i64, ...) @syscall(i64 <SETAFFINITY>, i32 %tid, i64 128, ptr %mask)
  br label %done
done:
  %k1 = add i32 %k, 1
  %more = icmp ult i32 %k1, %count
  br i1 %more, label %next, label %out
out:
  ret void
}
declare i64 @llvm.vector.reduce.or.v16i64(<16 x i64>)
"""
