"""The thread pool, compiled in memory: every part runs exactly once, whatever else happens."""

from __future__ import annotations

import ctypes
import os
import platform
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator

import llvmlite.binding as llvm
import numpy as np
import pytest
from flowmill.codegen.pool import MAX_THREADS, pool_ir
from flowmill.errors import ExportError

# Parts to run. arg: i32 marks[] for mark and nest, i32 count for meet.
PARTS = """
define void @mark(ptr %arg, i32 %part, i32 %parts) {
  %i = sext i32 %part to i64
  %p = getelementptr i32, ptr %arg, i64 %i
  %o = atomicrmw add ptr %p, i32 1 monotonic
  ret void
}
define void @nest(ptr %arg, i32 %part, i32 %parts) {
  call void @fm_pool_parallel_for(ptr null, ptr @mark, ptr %arg, i32 %parts)
  ret void
}
declare void @fm_pool_parallel_for(ptr, ptr, ptr, i32)
; `times` jobs from one native loop, without Python in between
define void @repeat(ptr %fn, ptr %arg, i32 %parts, i64 %times) {
e:
  br label %l
l:
  %i = phi i64 [0, %e], [%i1, %l]
  call void @fm_pool_parallel_for(ptr null, ptr %fn, ptr %arg, i32 %parts)
  %i1 = add i64 %i, 1
  %c = icmp slt i64 %i1, %times
  br i1 %c, label %l, label %x
x:
  ret void
}
; both parts wait for each other: proves that two threads run at once
define void @meet(ptr %arg, i32 %part, i32 %parts) {
e:
  %o = atomicrmw add ptr %arg, i32 1 acq_rel
  br label %l
l:
  %v = load atomic i32, ptr %arg acquire, align 4
  %all = icmp sge i32 %v, %parts
  br i1 %all, label %x, label %l
x:
  ret void
}
"""
EXPORTS = ("parallel_for", "open", "close", "threads")
TRIPLE = llvm.get_process_triple()

pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="the pool is Linux only")


class Pool:
    """The compiled pool and test parts. Native calls release the GIL."""

    def __init__(self, spin_us: int) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        machine = llvm.Target.from_triple(TRIPLE).create_target_machine(opt=2)
        module = llvm.parse_assembly(pool_ir(TRIPLE, spin_us))
        parts = llvm.parse_assembly(PARTS)
        for m in (module, parts):
            m.triple = TRIPLE
            m.data_layout = str(machine.target_data)
            m.verify()
        self.engine = llvm.create_mcjit_compiler(module, machine)
        self.engine.add_module(parts)
        self.engine.finalize_object()
        # looked up here, once: llvmlite holds a lock while it looks, and a fork would inherit it
        names = [*(f"fm_pool_{n}" for n in EXPORTS), "repeat", "mark", "nest", "meet"]
        self.address = {n: int(self.engine.get_function_address(n)) for n in names}
        i32, ptr = ctypes.c_int32, ctypes.c_void_p
        self.open = self.function("fm_pool_open", i32, i32)
        self.close = self.function("fm_pool_close", None)
        self.threads = self.function("fm_pool_threads", i32)
        self.parallel_for = self.function("fm_pool_parallel_for", None, ptr, ptr, ptr, i32)
        self.repeat = self.function("repeat", None, ptr, ptr, i32, ctypes.c_int64)

    def function(self, name: str, result: object, *args: object) -> Callable[..., int]:
        return ctypes.CFUNCTYPE(result, *args)(self.address[name])  # type: ignore[arg-type]

    def marks(self, parts: int, times: int = 1, name: str = "mark") -> list[int]:
        """How often each part ran in `times` jobs of `parts` parts."""
        marks = np.zeros(max(parts, 1) + 1, np.int32)
        self.repeat(self.address[name], marks.ctypes.data, parts, times)
        assert marks[parts:].sum() == 0
        return [int(m) for m in marks[: max(parts, 0)]]


@pytest.fixture(scope="module", params=[0, 200], ids=["sleeping", "spinning"])
def compiled(request: pytest.FixtureRequest) -> Pool:
    return Pool(request.param)


@pytest.fixture
def pool(compiled: Pool) -> Iterator[Pool]:
    yield compiled
    compiled.close()


def in_child(check: Callable[[], bool]) -> int:
    """Exit status of `check` in a forked child: 0 if true. A hanging child is killed by SIGALRM."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        try:
            os._exit(0 if check() else 1)
        except BaseException:
            os._exit(2)
    return os.waitpid(pid, 0)[1]


def tasks() -> set[int]:
    return {int(t) for t in os.listdir("/proc/self/task")}


def no_more_than(before: set[int]) -> bool:
    """Whether all later tasks are gone. A joined thread stays listed until the kernel has done."""
    deadline = time.monotonic() + 20
    while tasks() - before and time.monotonic() < deadline:
        time.sleep(0.001)
    return not tasks() - before


def test_closed_pool_runs_serially(pool: Pool) -> None:
    assert pool.threads() == 1
    for parts in (1, 2, 7):
        assert pool.marks(parts) == [1] * parts


@pytest.mark.parametrize("threads", range(1, 9))
def test_each_part_once(pool: Pool, threads: int) -> None:
    assert pool.open(threads) == threads == pool.threads()
    for parts in range(-1, 201):
        assert pool.marks(parts, 5) == [5] * max(parts, 0)


def test_many_parts(pool: Pool) -> None:
    pool.open(3)
    assert pool.marks(100_000, 3) == [3] * 100_000


def test_two_threads_at_once(pool: Pool) -> None:
    pool.open(2)
    for _ in range(50):
        count = np.zeros(1, np.int32)
        pool.parallel_for(None, pool.address["meet"], count.ctypes.data, 2)
        assert count[0] == 2


def test_nested_runs_inline(pool: Pool) -> None:
    pool.open(2)
    assert pool.marks(9, 100, "nest") == [900] * 9


def test_six_callers(pool: Pool) -> None:
    pool.open(3)
    bad: list[str] = []

    def caller(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(200):
            parts, times = rng.randrange(1, 12), rng.randrange(1, 30)
            if pool.marks(parts, times) != [times] * parts:
                bad.append(f"{parts} parts {times} times")

    callers = [threading.Thread(target=caller, args=(i,)) for i in range(6)]
    for t in callers:
        t.start()
    for t in callers:
        t.join()
    assert bad == []


def test_open_is_idempotent_grows_and_never_shrinks(pool: Pool) -> None:
    before = tasks()
    assert pool.open(0) == 1 and pool.open(1) == 1 and no_more_than(before)
    assert pool.open(3) == 3 and len(tasks() - before) == 2
    assert pool.open(3) == 3 and pool.open(2) == 3 and pool.open(1) == 3
    assert len(tasks() - before) == 2
    assert pool.open(5) == 5 == pool.threads() and len(tasks() - before) == 4
    assert pool.marks(50, 20) == [20] * 50
    pool.close()
    assert pool.threads() == 1 and no_more_than(before)


def test_more_threads_than_a_word_has_bits(pool: Pool) -> None:
    assert pool.open(70) == 70
    assert pool.marks(200, 20) == [20] * 200
    assert pool.open(MAX_THREADS + 1000) == MAX_THREADS
    assert pool.marks(1000, 3) == [3] * 1000


def test_open_close_repeatedly(pool: Pool) -> None:
    before = tasks()
    for i in range(60):
        assert pool.open(2 + i % 3) == 2 + i % 3
        assert pool.marks(11, 3) == [3] * 11
        pool.close()
        pool.close()
        assert pool.marks(11) == [1] * 11
    assert no_more_than(before)


def test_open_and_close_while_others_run(pool: Pool) -> None:
    bad: list[int] = []
    stop = threading.Event()

    def caller() -> None:
        while not stop.is_set():
            if pool.marks(7, 10) != [10] * 7:
                bad.append(1)

    def opener() -> None:
        for i in range(100):
            pool.open(2 + i % 4)
            pool.close()

    callers = [threading.Thread(target=caller) for _ in range(2)]
    openers = [threading.Thread(target=opener) for _ in range(2)]
    for t in callers + openers:
        t.start()
    for t in openers:
        t.join()
    stop.set()
    for t in callers:
        t.join()
    assert bad == []


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_forked_child_opens_its_own_pool_at_the_first_run(pool: Pool) -> None:
    pool.open(3)
    assert pool.marks(20, 10) == [10] * 20

    def child() -> bool:
        alone = tasks()
        right = pool.marks(20, 10) == [10] * 20
        grown = len(tasks()) == 3 and pool.threads() == 3
        grandchild = in_child(lambda: pool.marks(5) == [1] * 5 and len(tasks()) == 3)
        pool.close()
        closed = no_more_than(alone) and pool.marks(5) == [1] * 5
        return (
            len(alone) == 1 and right and grown and grandchild == 0 and closed and pool.open(2) == 2
        )

    assert in_child(child) == 0
    assert pool.marks(20, 10) == [10] * 20


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_child_of_a_closed_pool_stays_serial(pool: Pool) -> None:
    pool.open(2)
    pool.close()
    assert in_child(lambda: pool.marks(8) == [1] * 8 and len(tasks()) == 1) == 0


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_forks_while_another_thread_is_inside(pool: Pool) -> None:
    pool.open(2)
    stop = threading.Event()
    bad: list[int] = []

    def caller() -> None:
        while not stop.is_set():
            if pool.marks(4, 2000) != [2000] * 4:
                bad.append(1)

    thread = threading.Thread(target=caller)
    thread.start()
    try:
        results = [in_child(lambda: pool.marks(6, 20) == [20] * 6) for _ in range(100)]
    finally:
        stop.set()
        thread.join()
    assert results == [0] * 100 and bad == []


def test_workers_keep_off_the_caller_s_processor(pool: Pool) -> None:
    """Which the kernel of a virtual machine does not see to; what is set from outside counts."""
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        pytest.skip("one processor")
    first, second, *_ = sorted(allowed)
    before = tasks()
    pool.open(3)
    workers = tasks() - before

    def found(caller: int, wanted: set[int]) -> bool:
        """Whether jobs of a caller there leave all workers with these processors."""
        os.sched_setaffinity(0, {caller})
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            time.sleep(0.001)  # they go to sleep, and are woken
            assert pool.marks(3) == [1] * 3
            if all(os.sched_getaffinity(t) == wanted for t in workers):
                return True
        return False

    try:
        for caller in (first, second, first):
            assert found(caller, allowed - {caller})
        for t in workers:
            os.sched_setaffinity(t, {first})
        assert found(second, {first})
        assert found(first, {first})
    finally:
        os.sched_setaffinity(0, allowed)


def test_workers_block_signals_but_not_their_own_faults(pool: Pool) -> None:
    before = tasks()
    pool.open(3)
    workers = tasks() - before
    assert len(workers) == 2
    # a thread that is still starting blocks everything: let all three meet first
    count = np.zeros(1, np.int32)
    pool.parallel_for(None, pool.address["meet"], count.ctypes.data, 3)
    faults = {"SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGSEGV"}
    for task in workers:
        with open(f"/proc/self/task/{task}/status") as status:
            blocked = int(next(x for x in status if x.startswith("SigBlk")).split()[1], 16)
        free = {s.name for s in signal.Signals if not blocked >> (s - 1) & 1}
        assert free - {"SIGKILL", "SIGSTOP"} == faults
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_refused_threads_leave_a_working_pool(pool: Pool) -> None:
    def child() -> bool:
        import resource

        # no address space left for 200 stacks
        with open("/proc/self/statm") as statm:
            used = int(statm.read().split()[0]) * resource.getpagesize()
        limit = used + 256 * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        got = pool.open(200)
        return got < 200 and got == pool.threads() and pool.marks(50, 5) == [5] * 50

    assert in_child(child) == 0


def test_refused_page_leaves_the_pool_closed() -> None:
    fresh = Pool(0)  # its page is not mapped yet

    def child() -> bool:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (1, 1))
        return fresh.open(2) == 1 and fresh.threads() == 1 and fresh.marks(5) == [1] * 5

    assert in_child(child) == 0


@pytest.mark.parametrize("triple", ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"])
def test_module_imports_only_libc(triple: str) -> None:
    module = llvm.parse_assembly(pool_ir(triple))
    module.verify()
    imports = {f.name for f in module.functions if f.is_declaration}
    assert {n for n in imports if not n.startswith("llvm.")} == {
        *("mmap", "munmap", "madvise", "syscall"),
        *("pthread_create", "pthread_join", "pthread_sigmask"),
    }
    exports = {f.name for f in module.functions if not f.is_declaration}
    visible = {n for n in exports if module.get_function(n).linkage == llvm.Linkage.external}
    assert visible == {f"fm_pool_{n}" for n in EXPORTS}


def test_unknown_processor() -> None:
    with pytest.raises(ExportError, match="no thread pool for riscv64-unknown-linux-gnu"):
        pool_ir("riscv64-unknown-linux-gnu")
