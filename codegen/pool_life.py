"""Opening, growing and closing the thread pool: the second half of the module of `pool.py`.

IR text in the notation of `pool.py`: `%x = field NAME` is the address of a field of the pages `%P`,
and `<NAME>` a number of the target. Open and close exclude each other by `lock`. They
never touch a running job: a new worker only finds parts to take, and closing first takes `busy`,
as a job does.
"""

OPENING = """
define internal i64 @fm_now() nounwind {
  %ts = alloca [2 x i64], align 8
  %r = call i64 (i64, ...) @syscall(i64 <CLOCK_GETTIME>, i32 1, ptr %ts)
  %s = load i64, ptr %ts, align 8
  %pn = getelementptr i64, ptr %ts, i64 1
  %n = load i64, ptr %pn, align 8
  %sn = mul i64 %s, 1000000000
  %t = add i64 %sn, %n
  ret i64 %t
}
; How many polls take <SPIN_US> us: from the fastest of 3 rounds, so that a preemption does not
; shorten it.
define internal void @fm_measure(ptr %P) nounwind {
entry:
  %epoch = field epoch
  %e = load atomic i32, ptr %epoch monotonic, align 4
  br label %round
round:
  %i = phi i32 [0, %entry], [%i1, %round]
  %best = phi i64 [1000000000, %entry], [%better, %round]
  %t0 = call i64 @fm_now()
  %x = call i1 @fm_poll(ptr %epoch, i32 %e, i1 false, i32 1000)
  %t1 = call i64 @fm_now()
  %dt = sub i64 %t1, %t0
  %less = icmp ult i64 %dt, %best
  %better = select i1 %less, i64 %dt, i64 %best
  %i1 = add i32 %i, 1
  %again = icmp ult i32 %i1, 3
  br i1 %again, label %round, label %done
done:
  %ns = add i64 %better, 1
  %polls = udiv i64 <SPIN_SCALED>, %ns
  %polls32 = trunc i64 %polls to i32
  %polls1 = or i32 %polls32, 1
  store atomic i32 %polls1, ptr @fm_polls monotonic, align 4
  ret void
}
; The pages, made and published by whoever comes first; null if the system refuses it.
define internal ptr @fm_page() nounwind {
entry:
  %old = load atomic ptr, ptr @fm_pool acquire, align 8
  %have = icmp ne ptr %old, null
  br i1 %have, label %found, label %make
found:
  ret ptr %old
make:                       ; PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS; MAP_FAILED is -1
  %new = call ptr @mmap(ptr null, i64 <PAGES>, i32 3, i32 34, i32 -1, i64 0)
  %address = ptrtoint ptr %new to i64
  %failed = icmp eq i64 %address, -1
  br i1 %failed, label %none, label %mark
mark:                       ; MADV_WIPEONFORK, before anyone can see them
  %m = call i32 @madvise(ptr %new, i64 <PAGES>, i32 18)
  %marked = icmp eq i32 %m, 0
  br i1 %marked, label %publish, label %refused
refused:
  %u = call i32 @munmap(ptr %new, i64 <PAGES>)
  br label %none
none:
  ret ptr null
publish:
  %x = cmpxchg ptr @fm_pool, ptr null, ptr %new acq_rel acquire
  %won = extractvalue {ptr, i1} %x, 1
  br i1 %won, label %ours, label %theirs
ours:
  ret ptr %new
theirs:
  %first = extractvalue {ptr, i1} %x, 0
  %v = call i32 @munmap(ptr %new, i64 <PAGES>)
  ret ptr %first
}
define i32 @fm_pool_threads() nounwind {
  %w = load atomic i32, ptr @fm_want monotonic, align 4
  %some = icmp sgt i32 %w, 1
  %n = select i1 %some, i32 %w, i32 1
  ret i32 %n
}
define i32 @fm_pool_open(i32 %threads) nounwind {
entry:
  %signals = alloca [16 x i64], align 8
  %before = alloca [16 x i64], align 8
  %many = icmp sgt i32 %threads, <MAX_THREADS>
  %goal = select i1 %many, i32 <MAX_THREADS>, i32 %threads
  %alone = icmp slt i32 %goal, 2
  br i1 %alone, label %as_is, label %begin
as_is:
  %n = call i32 @fm_pool_threads()
  ret i32 %n
begin:
  %P = call ptr @fm_page()
  %refused = icmp eq ptr %P, null
  br i1 %refused, label %as_is, label %check
check:
  %opened = field opened
  %lock = field lock
  %threads.p = field threads
  %handles = field handles
  %o = load atomic i32, ptr %opened acquire, align 4
  %w = load atomic i32, ptr @fm_want monotonic, align 4
  %is_open = icmp ne i32 %o, 0
  %enough = icmp sge i32 %w, %goal
  %nothing = and i1 %is_open, %enough
  br i1 %nothing, label %as_is, label %take
take:
  %t = call i1 @fm_take(ptr %lock, i64 -1)
  %polls = load atomic i32, ptr @fm_polls monotonic, align 4
  %known = icmp ne i32 %polls, 0
  br i1 %known, label %mask, label %measure
measure:
  call void @fm_measure(ptr %P)
  br label %mask
mask:                       ; workers take no signals but those of their own faults: -1273 is all
                            ; bits except SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE and SIGSEGV
  store <16 x i64> splat (i64 -1), ptr %signals, align 8
  store i64 -1273, ptr %signals, align 8
  %s0 = call i32 @pthread_sigmask(i32 2, ptr %signals, ptr %before)
  %have = load i32, ptr %threads.p, align 4
  %first = call i32 @llvm.smax.i32(i32 %have, i32 1)
  br label %next
next:
  %i = phi i32 [%first, %mask], [%i1, %made]
  %more = icmp slt i32 %i, %goal
  br i1 %more, label %make, label %ready
make:
  %index = sext i32 %i to i64
  %handle = getelementptr i64, ptr %handles, i64 %index
  %rc = call i32 @pthread_create(ptr %handle, ptr null, ptr @fm_worker, ptr %P)
  %good = icmp eq i32 %rc, 0
  br i1 %good, label %made, label %ready      ; refused: carry on with those we have
made:
  %i1 = add i32 %i, 1
  br label %next
ready:
  %s1 = call i32 @pthread_sigmask(i32 2, ptr %before, ptr null)
  store i32 %i, ptr %threads.p, align 4
  store atomic i32 1, ptr %opened release, align 4
  store atomic i32 %i, ptr @fm_want monotonic, align 4
  store atomic i32 0, ptr %lock release, align 4
  ret i32 %i
}
declare i32 @llvm.smax.i32(i32, i32)
"""

CLOSING = """
; Gives up, leaving the pool to itself, when a lock cannot be had in `tries` tries.
define internal void @fm_stop(i64 %tries) nounwind {
entry:
  %P = load atomic ptr, ptr @fm_pool acquire, align 8
  %never = icmp eq ptr %P, null
  br i1 %never, label %out, label %enter
enter:
  %lock = field lock
  %t0 = call i1 @fm_take(ptr %lock, i64 %tries)
  br i1 %t0, label %check, label %out
check:                      ; the wish goes first: see `closed` in parallel_for
  %opened = field opened
  store atomic i32 0, ptr @fm_want monotonic, align 4
  %o = load atomic i32, ptr %opened acquire, align 4
  %is_open = icmp ne i32 %o, 0
  br i1 %is_open, label %drain, label %unlock
drain:
  %busy = field busy
  store atomic i32 0, ptr %opened release, align 4
  %t1 = call i1 @fm_take(ptr %busy, i64 %tries)
  br i1 %t1, label %halt, label %abandon
abandon:
  store atomic i32 1, ptr %opened release, align 4
  br label %unlock
halt:
  %stop = field stop
  %epoch = field epoch
  %threads = field threads
  %handles = field handles
  %tids = field tids
  %known = field known
  store atomic i32 1, ptr %stop seq_cst, align 4
  %e = atomicrmw add ptr %epoch, i32 1 seq_cst, align 4
  call void @fm_futex_wake(ptr %epoch, i32 2147483647)
  %n = load i32, ptr %threads, align 4
  br label %next
next:
  %i = phi i32 [1, %halt], [%i1, %join]
  %more = icmp slt i32 %i, %n
  br i1 %more, label %join, label %gone
join:
  %index = sext i32 %i to i64
  %handle = getelementptr i64, ptr %handles, i64 %index
  %id = load i64, ptr %handle, align 8
  %j = call i32 @pthread_join(i64 %id, ptr null)
  %before = sub i32 %i, 1
  %tid = getelementptr i32, ptr %tids, i32 %before
  store atomic i32 0, ptr %tid monotonic, align 4
  %i1 = add i32 %i, 1
  br label %next
gone:
  store i32 0, ptr %threads, align 4
  store atomic i32 0, ptr %known monotonic, align 4
  store atomic i32 0, ptr %stop release, align 4
  store atomic i32 0, ptr %busy release, align 4
  br label %unlock
unlock:
  store atomic i32 0, ptr %lock release, align 4
  br label %out
out:
  ret void
}
define void @fm_pool_close() nounwind {
  call void @fm_stop(i64 -1)
  ret void
}
; At exit another thread may be stuck inside a part for good: wait a fraction of a second, no more.
define internal void @fm_pool_fini() nounwind {
  call void @fm_stop(i64 262144)
  ret void
}
@fm_fini = internal constant ptr @fm_pool_fini, section ".fini_array", align 8
@llvm.used = appending global [1 x ptr] [ptr @fm_fini], section "llvm.metadata"
"""
