"""The fast call, compiled in memory: right frames for what fits, a refusal for everything else."""

from __future__ import annotations

import ctypes
import gc
import pickle
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import ml_dtypes
import numpy as np
import pytest
from flowmill.codegen import pycall
from flowmill.codegen.pycall import IN_USE, MISMATCH, pycall_ir
from flowmill.errors import InternalError
from flowmill.runtime import fastcall
from flowmill.runtime.fastcall import ArgPlan, DimPlan, FastCall
from hypothesis import given
from hypothesis import strategies as st

# Programs. copy: out[i] = in[i] * 2 for i < n in the frame {in, out, n, runs}, status 0.
# wait: sets word 3, then spins until word 4 is set, status 7.
PROGRAMS = """
define i32 @copy(ptr %frame) {
e:
  %in = load ptr, ptr %frame
  %p1 = getelementptr i64, ptr %frame, i64 1
  %out = load ptr, ptr %p1
  %p2 = getelementptr i64, ptr %frame, i64 2
  %n = load i64, ptr %p2
  %p3 = getelementptr i64, ptr %frame, i64 3
  %runs = load i64, ptr %p3
  %runs1 = add i64 %runs, 1
  store i64 %runs1, ptr %p3
  br label %l
l:
  %i = phi i64 [0, %e], [%i1, %b]
  %c = icmp slt i64 %i, %n
  br i1 %c, label %b, label %x
b:
  %pi = getelementptr float, ptr %in, i64 %i
  %po = getelementptr float, ptr %out, i64 %i
  %v = load float, ptr %pi
  %w = fadd float %v, %v
  store float %w, ptr %po
  %i1 = add i64 %i, 1
  br label %l
x:
  ret i32 0
}
define i32 @wait(ptr %frame) {
  %p3 = getelementptr i64, ptr %frame, i64 3
  store atomic i64 1, ptr %p3 release, align 8
  br label %l
l:
  %p4 = getelementptr i64, ptr %frame, i64 4
  %v = load atomic i64, ptr %p4 acquire, align 8
  %go = icmp ne i64 %v, 0
  br i1 %go, label %x, label %l
x:
  ret i32 7
}
define i32 @nothing(ptr %frame) {
  ret i32 0
}
"""
NAMES = ("fm_pycall", "fm_pycall_claim", "fm_pycall_release", "copy", "wait", "nothing")
F32 = np.dtype(np.float32)

pytestmark = pytest.mark.skipif(not fastcall.supported(), reason="the slow path is used here")


def compile_programs() -> tuple[Any, dict[str, int]]:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    triple = llvm.get_process_triple()
    machine = llvm.Target.from_triple(triple).create_target_machine(opt=2)
    module, programs = (llvm.parse_assembly(t) for t in (pycall_ir(), PROGRAMS))
    for m in (module, programs):
        m.triple = triple
        m.data_layout = str(machine.target_data)
        m.verify()
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.add_module(programs)
    engine.finalize_object()
    return engine, {n: int(engine.get_function_address(n)) for n in NAMES}


ENGINE, ADDRESS = compile_programs()  # for the whole run: callables point into it


def make(
    args: list[ArgPlan], dims: dict[str, DimPlan], program: str = "nothing", **options: Any
) -> tuple[FastCall, np.ndarray[Any, Any]]:
    frame = np.zeros(16, np.int64)
    entry = ADDRESS[program]
    address = frame.ctypes.data
    options.setdefault("owner", frame)
    fast = FastCall(ADDRESS["fm_pycall"], entry, address, frame.nbytes, args, dims, **options)
    return fast, frame


def doubler(**options: Any) -> tuple[FastCall, np.ndarray[Any, Any]]:
    args = [ArgPlan(F32, ("n",), 0), ArgPlan(F32, ("n",), 8, writable=True)]
    return make(args, {"n": DimPlan(16)}, "copy", **options)


def test_module_has_no_undefined_symbol() -> None:
    module = llvm.parse_assembly(pycall_ir())
    module.verify()
    assert [f.name for f in module.functions if f.is_declaration] == []


@pytest.mark.parametrize("release_gil", [False, True])
def test_runs_the_program(release_gil: bool) -> None:
    fast, frame = doubler(release_gil=release_gil)
    for n in (0, 1, 5, 1000):
        x, y = np.arange(n, dtype=np.float32), np.full(n, -1, np.float32)
        assert fast.call(x, y) == 0
        assert list(frame[:3]) == [x.ctypes.data, y.ctypes.data, n]
        assert np.array_equal(y, x * 2)
    assert frame[3] == 4


def test_what_is_written_lies_apart_from_what_comes_before() -> None:
    args = [ArgPlan(F32, ("n",), 0), ArgPlan(np.dtype(np.int8), (), 8),
            ArgPlan(F32, ("n", 2), 16, writable=True), ArgPlan(F32, (), 24, writable=True)]  # fmt: skip
    fast, _ = make(args, {"n": DimPlan(32)})
    memory = np.zeros(64, np.float32)
    scalar, apart = np.zeros((), np.int8), np.zeros((), np.float32)

    def at(first: int, count: int) -> np.ndarray[Any, Any]:
        return memory[first : first + count]

    def pairs(first: int) -> np.ndarray[Any, Any]:
        return at(first, 8).reshape(4, 2)

    assert fast.call(at(8, 4), scalar, pairs(12), apart) == 0  # side by side
    assert fast.call(at(8, 4), scalar, pairs(0), apart) == 0
    for first in (1, 8, 11):
        assert fast.call(at(8, 4), scalar, pairs(first), apart) == MISMATCH
    assert fast.call(at(8, 4), scalar, pairs(5)[:1], apart) == MISMATCH  # another n
    byte = memory.view(np.int8)[4 * 30 + 3 : 4 * 31].reshape(())
    assert fast.call(at(8, 4), byte, pairs(24), apart) == MISMATCH
    assert fast.call(at(8, 4), byte, pairs(31), apart) == 0
    assert fast.call(at(8, 4), scalar, pairs(12), at(19, 1).reshape(())) == MISMATCH
    assert fast.call(at(8, 4), scalar, pairs(12), at(20, 1).reshape(())) == 0
    assert fast.call(at(8, 4), scalar, pairs(12), at(9, 1).reshape(())) == MISMATCH


def test_any_rank_and_several_symbols() -> None:
    args = [
        ArgPlan(F32, (), 0),
        ArgPlan(np.dtype(np.int64), ("a", 3, "b"), 8),
        ArgPlan(np.dtype(np.bool_), ("b", "a"), 16),
    ]
    fast, frame = make(args, {"a": DimPlan(24), "b": DimPlan(32)})
    scalar, x, y = np.zeros((), F32), np.zeros((4, 3, 6), np.int64), np.zeros((6, 4), np.bool_)
    assert fast.call(scalar, x, y) == 0
    assert list(frame[:5]) == [scalar.ctypes.data, x.ctypes.data, y.ctypes.data, 4, 6]
    assert fast.call(scalar, x, y.T.copy()) == MISMATCH
    assert fast.call(scalar, np.zeros((4, 2, 6), np.int64), y) == MISMATCH
    assert fast.call(np.zeros(1, F32), x, y) == MISMATCH


def test_no_arguments() -> None:
    fast, _ = make([], {})
    assert fast.call() == 0 and fast.call(1) == MISMATCH


@pytest.mark.parametrize(
    "dtype",
    [
        *(np.bool_, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64),
        *(np.uint64, np.float16, np.float32, np.float64, np.complex64),
        *(ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.int4),
    ],
)
def test_dtypes(dtype: Any) -> None:
    fast, _ = make([ArgPlan(np.dtype(dtype), (3,), 0)], {})
    array = np.zeros(3, dtype)
    assert fast.call(array) == 0
    assert fast.call(pickle.loads(pickle.dumps(array))) == 0  # an equal dtype, another object
    for other in (np.float32, np.int32, np.uint32, np.int8, np.bool_, ml_dtypes.bfloat16):
        if np.dtype(other) != np.dtype(dtype):
            assert fast.call(np.zeros(3, other)) == MISMATCH


def unaligned() -> np.ndarray[Any, Any]:
    return np.zeros(17, np.uint8)[1:].view(np.float32)


def read_only() -> np.ndarray[Any, Any]:
    array = np.zeros(4, np.float32)
    array.flags.writeable = False
    return array


class Sub(np.ndarray[Any, Any]):
    """A subclass, which may override anything."""


BAD: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "int": lambda: 4,
    "str": lambda: "four",
    "list": lambda: [1.0] * 4,
    "bytes": lambda: bytes(16),
    "type": lambda: np.ndarray,
    "numpy scalar": lambda: np.float32(1),
    "memoryview": lambda: memoryview(bytearray(16)).cast("f"),
    "subclass": lambda: np.zeros(4, np.float32).view(Sub),
    "masked": lambda: np.ma.zeros(4, np.float32),
    "other dtype": lambda: np.zeros(4, np.float64),
    "same size, other dtype": lambda: np.zeros(4, np.int32),
    "foreign byte order": lambda: np.zeros(4, np.dtype(np.float32).newbyteorder()),
    "record": lambda: np.zeros(4, [("x", np.float32)]),
    "object": lambda: np.zeros(4, object),
    "strided": lambda: np.zeros(8, np.float32)[::2],
    "reversed": lambda: np.zeros(4, np.float32)[::-1],
    "broadcast": lambda: np.broadcast_to(np.float32(0), (4,)),
    "unaligned": unaligned,
    "other size": lambda: np.zeros(5, np.float32),
    "rank 0": lambda: np.zeros((), np.float32),
    "rank 2": lambda: np.zeros((4, 1), np.float32),
    "rank 32": lambda: np.zeros((1,) * 32, np.float32),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("place", [0, 1])
def test_refuses(name: str, place: int) -> None:
    fast, frame = doubler()
    arrays: list[Any] = [np.ones(4, np.float32), np.zeros(4, np.float32)]
    arrays[place] = BAD[name]()
    references = sys.getrefcount(arrays[place])
    status = fast.call(*arrays)
    leaked = sys.getrefcount(arrays[place]) - references  # outside assert, which keeps references
    assert (status, leaked, frame[3]) == (MISMATCH, 0, 0)
    assert (
        fast.call(np.ones(4, np.float32), np.zeros(4, np.float32)) == 0
    )  # the frame is free again


def test_read_only_arrays_are_inputs_only() -> None:
    fast, _ = doubler()
    assert fast.call(read_only(), np.zeros(4, np.float32)) == 0
    assert fast.call(np.zeros(4, np.float32), read_only()) == MISMATCH


def test_fortran_order() -> None:
    fast, _ = make([ArgPlan(F32, (2, 3), 0)], {})
    assert fast.call(np.zeros((2, 3), F32)) == 0
    assert fast.call(np.zeros((2, 3), F32, order="F")) == MISMATCH


def test_number_of_arguments() -> None:
    fast, frame = doubler()
    x = np.zeros(4, np.float32)
    assert fast.call() == fast.call(x) == fast.call(x, x, x) == MISMATCH
    with pytest.raises(TypeError, match="keyword"):
        fast.call(x, x, out=x)
    assert frame[3] == 0


def test_bounds_and_multiples() -> None:
    fast, frame = make([ArgPlan(F32, ("n",), 0)], {"n": DimPlan(8, 8, 64, 8)})
    runs = {n for n in range(100) if fast.call(np.zeros(n, np.float32)) == 0}
    assert runs == {8, 16, 24, 32, 40, 48, 56, 64}
    assert fast.call(np.zeros(72, np.float32)) == MISMATCH and frame[1] == 64


any_array = st.builds(
    lambda dtype, shape, order: np.zeros(shape, dtype, order=order),
    st.sampled_from([np.float32, np.float64, np.int32, ">f4"]),
    st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from("CF"),
)


@given(st.lists(any_array, max_size=3))
def test_accepts_exactly_what_fits(arrays: list[np.ndarray[Any, Any]]) -> None:
    args = [ArgPlan(F32, ("a", "b"), 0), ArgPlan(F32, ("b", 2), 8)]
    fast, _ = make(args, {"a": DimPlan(16), "b": DimPlan(24, 1)})
    fits = (
        len(arrays) == 2
        and all(a.dtype == F32 and a.ndim == 2 and a.flags.c_contiguous for a in arrays)
        and arrays[0].shape[1] == arrays[1].shape[0] >= 1
        and arrays[1].shape[1] == 2
    )
    assert fast.call(*arrays) == (0 if fits else MISMATCH)


def test_frame_in_use_by_another_thread() -> None:
    fast, frame = make([ArgPlan(F32, ("n",), 0)], {"n": DimPlan(8)}, "wait", release_gil=True)
    x = np.zeros(4, np.float32)
    results: list[int] = []
    other = threading.Thread(target=lambda: results.append(fast.call(x)))
    other.start()
    try:
        while frame[3] == 0:  # the GIL is released, or this would never end
            pass
        assert fast.call(np.zeros(9, np.float32)) == IN_USE
        assert fast.call(None) == IN_USE
        assert frame[1] == 4
    finally:
        frame[4] = 1
        other.join()
    assert results == [7]
    assert fast.call(x) == 7


def test_threads_with_one_frame_each_get_right_answers() -> None:
    fast, frame = doubler(release_gil=True)
    counts, wrong = [0] * 6, []

    def caller(k: int) -> None:
        x, y = np.full(50 + k, k, np.float32), np.zeros(50 + k, np.float32)
        for _ in range(3000):
            status = fast.call(x, y)
            counts[k] += status == 0
            if status not in (0, IN_USE) or (status == 0 and not (y == 2 * k).all()):
                wrong.append(status)

    threads = [threading.Thread(target=caller, args=(k,)) for k in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == [] and frame[3] == sum(counts) > 0


def test_shared_guard() -> None:
    guard = ctypes.c_int32(0)
    address = ctypes.addressof(guard)
    claim = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)(ADDRESS["fm_pycall_claim"])
    release = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(ADDRESS["fm_pycall_release"])
    fast, _ = doubler(guard=address, owner=guard)
    x, y = np.zeros(4, np.float32), np.zeros(4, np.float32)
    assert claim(address) == 1 and claim(address) == 0
    assert fast.call(x, y) == IN_USE
    release(address)
    assert fast.call(x, y) == 0 and guard.value == 0


def test_callable_outlives_its_maker_and_holds_the_owner() -> None:
    class Owner:
        frame = np.zeros(16, np.int64)

    owner = Owner()
    alive = weakref.ref(owner)
    fast, frame = doubler(owner=(owner, Owner.frame))
    call = fast.call
    plan = weakref.ref(call.__self__)  # type: ignore[attr-defined]
    del fast, owner
    gc.collect()
    x, y = np.ones(4, np.float32), np.zeros(4, np.float32)
    assert alive() is not None and call(x, y) == 0 and y.tolist() == [2] * 4
    del call
    gc.collect()
    assert alive() is None and plan() is None and frame[3] == 1


def test_no_leak_of_references() -> None:
    fast, _ = doubler()
    x, y, none = np.zeros(4, np.float32), np.zeros(4, np.float32), None
    before = [sys.getrefcount(o) for o in (x, y, np.ndarray, x.dtype)]
    for _ in range(1000):
        fast.call(x, y)
        fast.call(x, none)
    after = [sys.getrefcount(o) for o in (x, y, np.ndarray, x.dtype)]
    assert after == before


@pytest.mark.parametrize(
    ("args", "dims", "message"),
    [
        ([ArgPlan(F32, (1,), 4)], {}, "no word at offset 4 of a 128-byte frame"),
        ([ArgPlan(F32, (1,), 128)], {}, "no word at offset 128"),
        ([ArgPlan(F32, (1,), -8)], {}, "no word at offset -8"),
        ([ArgPlan(F32, ("n",), 0)], {}, "no such dimension in a fast call: n"),
        ([ArgPlan(F32, ("n",), 0)], {"n": DimPlan(8, multiple=0)}, "no such dimension"),
        ([], {"n": DimPlan(8)}, "no argument has dimension"),
        ([ArgPlan(np.dtype("S5"), (1,), 0)], {}, "cannot take"),
        ([ArgPlan(np.dtype("M8[s]"), (1,), 0)], {}, "cannot take"),
        ([ArgPlan(np.dtype(object), (1,), 0)], {}, "cannot take"),
        ([ArgPlan(F32.newbyteorder(), (1,), 0)], {}, "cannot take"),
    ],
)
def test_contradictory_plans(args: list[ArgPlan], dims: dict[str, DimPlan], message: str) -> None:
    with pytest.raises(InternalError, match=message):
        make(args, dims)


def test_another_layout_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, other in [
        ("ARRAY_DATA", 48),
        ("ARRAY_RANK", 64),
        ("ARRAY_SHAPE", 40),
        ("ARRAY_DTYPE", 48),
        ("DTYPE_ORDER", 24),
        ("DTYPE_SCALAR", 8),
    ]:
        with monkeypatch.context() as m:
            m.setattr(pycall, name, other)
            assert not fastcall.supported.__wrapped__(), name
