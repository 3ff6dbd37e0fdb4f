"""The thread pool as LLVM IR text: comes in a target triple, goes out one self-contained module.

The module defines four functions; everything else in it is internal:

    void fm_pool_parallel_for(ptr user, ptr fn, ptr arg, i32 parts)
        Calls fn(arg, part, parts) once for each part in 0..parts-1 and returns when all are done.
        `user` is ignored: the signature is that of a caller-supplied parallel_for. Runs the parts
        inline, in order, when the pool is busy (a nested call, a second caller), was not opened,
        or parts < 2; so it is always right and never waits for the pool.
    i32 fm_pool_open(i32 threads)
        Makes at least `threads` threads available, the caller included, at most MAX_THREADS, and
        returns how many there are: fewer if the system refuses more. Growing an open pool keeps
        its workers; it never shrinks. Callable from any thread, at any time.
    void fm_pool_close()
        Waits for a running parallel_for, then joins the workers; later calls run inline until the
        next open. Also run from .fini_array. Must not be called from inside a part.
    i32 fm_pool_threads()
        The threads the next parallel_for may use, the caller included; 1 if closed.

How it works. A job is ONE atomic word, `ticket` = parts << 32 | next. Whoever adds 1 to it learns
in the same instant how many parts the job has and which one is its own, so a worker that comes
late can never take an old job for a new one. The caller takes parts as well, and at the end waits
for parts that were *taken*, never for a worker that is still asleep. A new job is announced by
`epoch` (the futex the workers sleep on); `left` counts unfinished parts down (the caller's futex).

Spin, then sleep. An idle worker, and a caller whose last part is in other hands, polls for
`spin_us` microseconds before it sleeps on its futex. On a two-core virtual machine a polling worker
joins in 0.2 us and a sleeping one in 35 to 90 us. Polling as long as a wake-up costs would at most
double the worst case; 200 us also spans the serial gaps between phases and between the runs of a
Python loop, and wastes no more than that of a core after the last run. Where a worker wakes up is
the matter of `pool_place`. How many polls that is gets measured when the pool is first opened, because one
`pause` takes from 1 ns to 50 ns, depending on the processor.

Fork. All mutable state lives in pages marked MADV_WIPEONFORK: a child sees a closed pool. The
number of threads wished for lives outside of them, so the child's first parallel_for opens its
own pool. Forking from inside a part is not supported. Without MADV_WIPEONFORK (Linux before 4.14)
the pool stays closed.

Imports: mmap munmap madvise syscall pthread_create pthread_join pthread_sigmask. Linux only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import ExportError
from .pool_life import CLOSING, OPENING
from .pool_place import PLACING

MAX_THREADS = 256
PAGES = 8192  # bytes of state; the second page is for what is seldom touched

# Byte offsets in the pages. Words written by different parties are 128 bytes apart: two cache lines,
# because x86 fetches lines in pairs.
_FIELDS = {
    "lock": 0,  # held by open and close
    "opened": 4,  # 1 while parallel_for may use the workers
    "threads": 8,  # threads in the pool, the caller included; guarded by `lock`
    "stop": 12,  # 1 tells the workers to leave
    "fn": 16,  # the job; may be read after a part was taken
    "arg": 24,
    "away": 32,  # the processor the workers keep off, plus 1; changed by who holds `busy`
    "placed": 36,  # how many workers do
    "busy": 128,  # held by the one parallel_for that uses the workers
    "epoch": 256,  # changes with every job and when stopping; workers sleep on it
    "ticket": 384,  # parts << 32 | next part
    "left": 512,  # parts not yet finished; the caller sleeps on it
    "waiting": 640,  # 1 while the caller sleeps
    "sleepers": 768,  # workers asleep or about to be
    "known": 896,  # workers whose numbers are in `tids`
    "handles": 1152,  # pthread_t of worker 1, 2, ... at index 1, 2, ...
    "tids": 4096,  # i32 thread numbers of the workers, as they came; 0: not there yet
    "home": 5120,  # 1024 bits: processors the workers may use
    "given": 5248,  # 1024 bits: what is left of them, as last set
}


@dataclass(frozen=True)
class _Linux:
    """System call numbers, and the intrinsic that tells a core it is polling."""

    futex: int
    clock_gettime: int
    sched_yield: int
    getcpu: int
    gettid: int
    getaffinity: int
    setaffinity: int
    relax_type: str
    relax_call: str


_X86_64 = _Linux(
    202, 228, 24, 309, 186, 204, 203, "@llvm.x86.sse2.pause()", "@llvm.x86.sse2.pause()"
)
_AARCH64 = _Linux(
    98, 113, 124, 168, 178, 123, 122, "@llvm.aarch64.hint(i32)", "@llvm.aarch64.hint(i32 1)"
)

_SYSTEM = """
@fm_pool = internal global ptr null, align 8  ; the pages: published once, never unmapped
@fm_want = internal global i32 0, align 4     ; threads of the open pool; a forked child inherits it
@fm_polls = internal global i32 0, align 4    ; polls that take <SPIN_US> us; 0 = not yet measured

declare ptr @mmap(ptr, i64, i32, i32, i32, i64)
declare i32 @munmap(ptr, i64)
declare i32 @madvise(ptr, i64, i32)
declare i64 @syscall(i64, ...)
declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_join(i64, ptr)
declare i32 @pthread_sigmask(i32, ptr, ptr)
declare void <RELAX_TYPE>

define internal void @fm_futex_wait(ptr %word, i32 %seen) nounwind {
  %r = call i64 (i64, ...) @syscall(i64 <FUTEX>, ptr %word, i32 128, i32 %seen,
                                   ptr null, ptr null, i32 0)
  ret void
}
define internal void @fm_futex_wake(ptr %word, i32 %count) nounwind {
  %r = call i64 (i64, ...) @syscall(i64 <FUTEX>, ptr %word, i32 129, i32 %count,
                                   ptr null, ptr null, i32 0)
  ret void
}
"""

_WAITING = """
; Polls until (*word == value) is `equal`, at most `limit` times. True if it came to pass.
define internal i1 @fm_poll(ptr %word, i32 %value, i1 %equal, i32 %limit) nounwind {
entry:
  br label %look
look:
  %k = phi i32 [0, %entry], [%k1, %relax]
  %v = load atomic i32, ptr %word acquire, align 4
  %same = icmp eq i32 %v, %value
  %good = icmp eq i1 %same, %equal
  br i1 %good, label %yes, label %more
more:
  %spent = icmp uge i32 %k, %limit
  br i1 %spent, label %no, label %relax
relax:
  call void <RELAX_CALL>
  %k1 = add i32 %k, 1
  br label %look
yes:
  ret i1 true
no:
  ret i1 false
}
; Takes the lock word (0 -> 1), giving up the core between tries. False when the tries are spent.
define internal i1 @fm_take(ptr %word, i64 %tries) nounwind {
entry:
  br label %try
try:
  %left = phi i64 [%tries, %entry], [%less, %again]
  %x = cmpxchg ptr %word, i32 0, i32 1 acq_rel acquire
  %won = extractvalue {i32, i1} %x, 1
  br i1 %won, label %out, label %wait
wait:
  %less = sub i64 %left, 1
  %spent = icmp eq i64 %less, 0
  br i1 %spent, label %out, label %again
again:
  %y = call i64 (i64, ...) @syscall(i64 <SCHED_YIELD>)
  br label %try
out:
  ret i1 %won
}
"""

_WORK = """
; Takes and runs parts until the ticket is used up. The acquire half of the ticket's add makes this
; job's fn and arg visible; they cannot change before the part taken here is counted in `left`.
define internal void @fm_run(ptr %P) nounwind {
entry:
  %ticket = field ticket
  %left = field left
  %waiting = field waiting
  %pfn = field fn
  %parg = field arg
  br label %take
take:
  %t = atomicrmw add ptr %ticket, i64 1 acq_rel, align 8
  %high = lshr i64 %t, 32
  %parts = trunc i64 %high to i32
  %part = trunc i64 %t to i32
  %mine = icmp ult i32 %part, %parts
  br i1 %mine, label %work, label %out
work:
  %fn = load ptr, ptr %pfn, align 8
  %arg = load ptr, ptr %parg, align 8
  call void %fn(ptr %arg, i32 %part, i32 %parts)
  %before = atomicrmw sub ptr %left, i32 1 seq_cst, align 4
  %last = icmp eq i32 %before, 1
  br i1 %last, label %finish, label %take
finish:                     ; seq_cst here and in the caller: one of the two sees the other
  %asleep = load atomic i32, ptr %waiting seq_cst, align 4
  %wake = icmp ne i32 %asleep, 0
  br i1 %wake, label %call, label %out
call:
  call void @fm_futex_wake(ptr %left, i32 1)
  br label %out
out:
  ret void
}
define internal ptr @fm_worker(ptr %P) nounwind {
entry:
  %epoch = field epoch
  %stop = field stop
  %sleepers = field sleepers
  call void @fm_register(ptr %P)
  br label %top
top:
  %seen = load atomic i32, ptr %epoch acquire, align 4
  %s = load atomic i32, ptr %stop acquire, align 4
  %leave = icmp ne i32 %s, 0
  br i1 %leave, label %quit, label %run
run:
  call void @fm_run(ptr %P)
  %polls = load atomic i32, ptr @fm_polls monotonic, align 4
  %news = call i1 @fm_poll(ptr %epoch, i32 %seen, i1 false, i32 %polls)
  br i1 %news, label %top, label %sleep
sleep:                      ; announce, then sleep: the kernel compares the epoch once more
  %a = atomicrmw add ptr %sleepers, i32 1 seq_cst, align 4
  call void @fm_futex_wait(ptr %epoch, i32 %seen)
  %b = atomicrmw sub ptr %sleepers, i32 1 seq_cst, align 4
  br label %top
quit:
  ret ptr null
}
define void @fm_pool_parallel_for(ptr %user, ptr %fn, ptr %arg, i32 %parts) nounwind {
entry:
  %P = load atomic ptr, ptr @fm_pool acquire, align 8
  %never = icmp eq ptr %P, null
  %few = icmp slt i32 %parts, 2
  %plain = or i1 %never, %few
  br i1 %plain, label %serial, label %check
check:
  %opened = field opened
  %o = load atomic i32, ptr %opened acquire, align 4
  %is_open = icmp ne i32 %o, 0
  br i1 %is_open, label %try, label %closed
closed:                     ; closing clears the wish first, so a wish left over means: forked
  %wish = load atomic i32, ptr @fm_want monotonic, align 4
  %forked = icmp sgt i32 %wish, 1
  br i1 %forked, label %reopen, label %serial
reopen:
  %n = call i32 @fm_pool_open(i32 %wish)
  br label %try
try:
  %busy = field busy
  %x = cmpxchg ptr %busy, i32 0, i32 1 acq_rel monotonic
  %won = extractvalue {i32, i1} %x, 1
  br i1 %won, label %start, label %serial
start:
  %pfn = field fn
  %parg = field arg
  %left = field left
  %ticket = field ticket
  %epoch = field epoch
  %sleepers = field sleepers
  store ptr %fn, ptr %pfn, align 8
  store ptr %arg, ptr %parg, align 8
  store atomic i32 %parts, ptr %left monotonic, align 4
  %parts64 = zext i32 %parts to i64
  %job = shl i64 %parts64, 32
  store atomic i64 %job, ptr %ticket release, align 8
  %e = atomicrmw add ptr %epoch, i32 1 seq_cst, align 4
  %asleep = load atomic i32, ptr %sleepers seq_cst, align 4
  %any = icmp ne i32 %asleep, 0
  br i1 %any, label %wake, label %run
wake:
  call void @fm_keep_off(ptr %P)
  %others = sub i32 %parts, 1
  call void @fm_futex_wake(ptr %epoch, i32 %others)
  br label %run
run:
  call void @fm_run(ptr %P)
  %polls = load atomic i32, ptr @fm_polls monotonic, align 4
  %ready = call i1 @fm_poll(ptr %left, i32 0, i1 true, i32 %polls)
  br i1 %ready, label %done, label %slow
slow:
  %waiting = field waiting
  store atomic i32 1, ptr %waiting seq_cst, align 4
  br label %look
look:
  %l = load atomic i32, ptr %left seq_cst, align 4
  %zero = icmp eq i32 %l, 0
  br i1 %zero, label %awake, label %sleep
sleep:
  call void @fm_futex_wait(ptr %left, i32 %l)
  br label %look
awake:
  store atomic i32 0, ptr %waiting monotonic, align 4
  br label %done
done:
  store atomic i32 0, ptr %busy release, align 4
  ret void
serial:
  %some = icmp sgt i32 %parts, 0
  br i1 %some, label %inline, label %out
inline:
  %i = phi i32 [0, %serial], [%i1, %inline]
  call void %fn(ptr %arg, i32 %i, i32 %parts)
  %i1 = add i32 %i, 1
  %more = icmp slt i32 %i1, %parts
  br i1 %more, label %inline, label %out
out:
  ret void
}
"""


def pool_ir(triple: str, spin_us: int = 200) -> str:
    """The pool's module for `triple` (x86-64 or AArch64 Linux), without target lines.

    `spin_us`: microseconds to poll before sleeping, 0 to sleep at once. Raises ExportError for
    another processor.
    """
    processor = triple.split("-")[0]
    if processor in ("x86_64", "amd64"):
        linux = _X86_64
    elif processor in ("aarch64", "arm64"):
        linux = _AARCH64
    else:
        raise ExportError(
            f"no thread pool for {triple}", "it exists for Linux on x86-64 and AArch64"
        )
    words = {
        "FUTEX": linux.futex,
        "CLOCK_GETTIME": linux.clock_gettime,
        "SCHED_YIELD": linux.sched_yield,
        "GETCPU": linux.getcpu,
        "GETTID": linux.gettid,
        "GETAFFINITY": linux.getaffinity,
        "SETAFFINITY": linux.setaffinity,
        "PAGES": PAGES,
        "RELAX_TYPE": linux.relax_type,
        "RELAX_CALL": linux.relax_call,
        "MAX_THREADS": MAX_THREADS,
        "SPIN_US": spin_us,
        "SPIN_SCALED": spin_us * 1_000_000,  # nanoseconds times the 1000 polls of one round
    }
    text = _SYSTEM + _WAITING + _WORK + PLACING + OPENING + CLOSING
    text = re.sub(r"<([A-Z_]+)>", lambda m: str(words[m[1]]), text)
    return re.sub(
        r"= field (\w+)",
        lambda m: f"= getelementptr i8, ptr %P, i64 {_FIELDS[m[1]]}",
        text,
    )
