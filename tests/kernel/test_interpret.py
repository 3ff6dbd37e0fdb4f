"""The interpreter against NumPy, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from flowmill.codegen.kernel.interpret import run
from flowmill.codegen.kernel.text import parse
from flowmill.dtypes import Array, bfloat16
from flowmill.errors import InternalError

RNG = np.random.default_rng(7)


def floats(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


MATMUL = """kernel matmul(m in 1.., A: f32[m,40], B: f32[40,32], out C: f32[m,32]) {
  parallel i in 0..m step 4 {
    for j in 0..32 step 16 {
      alloc acc: f32[4,16] in register
      unroll r in 0..4 { vector v in 0..16 { acc[r, v] = 0.0f } }
      for k in 0..40 {
        prefetch B[k, j]
        unroll r in 0..4 {
          let a = A[i + r, k ; if [i + r] < m]
          vector v in 0..16 { acc[r, v] = fma(a, B[k, j + v], acc[r, v]) }
        }
      }
      unroll r in 0..4 { vector v in 0..16 { C[i + r, j + v ; if [i + r] < m] = acc[r, v] } }
    }
  }
}"""


@pytest.mark.parametrize("m", [1, 4, 7, 13])
@pytest.mark.parametrize("parts", [1, 3])
def test_tiled_matmul(m: int, parts: int) -> None:
    a, b, c = floats(m, 40), floats(40, 32), np.full((m, 32), np.nan, np.float32)
    for part in range(parts):
        assert run(parse(MATMUL), {"A": a, "B": b, "C": c}, {"m": m}, part, parts) == []
    np.testing.assert_allclose(c, a.astype(np.float64) @ b, rtol=1e-5, atol=1e-5)


def test_parts_share_iterations_contiguously() -> None:
    text = "kernel k(out C: i64[10]) { parallel i in 0..10 { C[i] = i + 1 } }"
    shares = []
    for part in range(3):
        c = np.zeros(10, np.int64)
        run(parse(text), {"C": c}, part=part, parts=3)
        shares.append(list(np.flatnonzero(c)))
    assert shares == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]


def test_every_parallel_loop_is_shared() -> None:
    text = """kernel k(out C: i64[2,10]) {
      for i in 0..2 { parallel j in 0..8 { C[i, j] = j } parallel r in 8..10 { C[i, r] = r } } }"""
    c = np.zeros((2, 10), np.int64)
    run(parse(text), {"C": c}, part=1, parts=2)
    assert c.tolist() == [[0, 0, 0, 0, 4, 5, 6, 7, 0, 9]] * 2


def test_part_0_alone_runs_a_kernel_without_parallel_loop() -> None:
    kernel = parse("kernel k(out C: i64[1]) { C[0] = C[0] + 1 }")
    c = np.zeros(1, np.int64)
    for part in range(3):
        run(kernel, {"C": c}, part=part, parts=3)
    assert c[0] == 1


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 23])
def test_masked_tail(n: int) -> None:
    text = """kernel relu(n in 0.., A: f32[n], out C: f32[n]) {
      for i in 0..n step 8 { vector v in 0..8 active n - i { C[i + v] = max(A[i + v], 0.0f) } } }"""
    a, c = floats(n), np.full(n, np.nan, np.float32)
    run(parse(text), {"A": a, "C": c}, {"n": n})
    np.testing.assert_array_equal(c, np.maximum(a, 0))


def test_gather_with_indices_out_of_range_fails_and_reads_zero() -> None:
    text = """kernel gather(n in 1.., T: f32[5,4], ids: i32[n], out C: f32[n,4]) {
      for i in 0..n {
        let id = ids[i]
        let good = (id >= 0:i32) & (id < 5:i32)
        fail 2 if !good at i
        vector v in 0..4 { C[i, v] = T[@id, v ; if good] }
      } }"""
    table, ids = floats(5, 4), np.array([3, 0, 5, 4, -1], np.int32)
    c = np.full((5, 4), np.nan, np.float32)
    failures = run(parse(text), {"T": table, "ids": ids, "C": c}, {"n": 5})
    assert failures == [(2, 2), (2, 4)]
    np.testing.assert_array_equal(c, np.where([[1], [1], [0], [1], [0]], table[ids % 5], 0))


def test_gather_by_lane() -> None:
    text = """kernel g(A: f64[9], ids: u8[8], out C: f64[8]) {
      vector v in 0..8 { C[@i64(ids[v])] = A[@ids[v]] * 2.0 } }"""
    a, ids, c = RNG.standard_normal(9), RNG.permutation(8).astype(np.uint8), np.zeros(8)
    run(parse(text), {"A": a, "ids": ids, "C": c})
    np.testing.assert_array_equal(c, a[:8] * 2)


def test_fail_in_lanes_names_every_live_one() -> None:
    text = """kernel f(A: f32[8], out C: f32[8]) {
      vector v in 0..8 active 6 { fail 1 if isnan(A[v]) at v + 10 C[v] = A[v] } }"""
    a = np.array([0, np.nan, 1, 1, 1, np.nan, np.nan, 1], np.float32)
    c = np.full(8, 5, np.float32)
    assert run(parse(text), {"A": a, "C": c}) == [(1, 11), (1, 15)]
    np.testing.assert_array_equal(c, [*a[:6], 5, 5])


@pytest.mark.parametrize("fn, start", [("add", "0.0f"), ("max", "-inf:f32"), ("mul", "1.0f")])
def test_lane_reduction_follows_its_tree(fn: str, start: str) -> None:
    call = {"add": "acc[v] + x", "mul": "acc[v] * x", "max": "max(acc[v], x)"}[fn]
    text = f"""kernel r(n in 0.., A: f32[n], out C: f32[]) {{
      alloc acc: f32[8] in register
      vector v in 0..8 {{ acc[v] = {start} }}
      for i in 0..n step 8 {{
        vector v in 0..8 active n - i {{ let x = A[i + v] acc[v] = {call} }}
      }}
      C[] = lanes_{fn}(acc) }}"""
    ufunc = {"add": np.add, "mul": np.multiply, "max": np.maximum}[fn]
    a, c = floats(21), np.zeros((), np.float32)
    run(parse(text), {"A": a, "C": c}, {"n": 21})
    row = np.full(8, ufunc.identity if fn != "max" else -np.inf, np.float32)
    for block in (a[:8], a[8:16], a[16:]):
        row[: len(block)] = ufunc(row[: len(block)], block)
    for half in (4, 2, 1):
        row = ufunc(row[:half], row[half : 2 * half])
    assert c.tobytes() == row.tobytes()


def test_softmax_of_rows() -> None:
    text = """kernel softmax(n in 1.., A: f32[n,10], out C: f32[n,10]) {
      parallel i in 0..n {
        alloc top: f32[] in register
        alloc sum: f32[] in register
        top[] = -inf:f32
        sum[] = 0.0f
        for j in 0..10 { top[] = max(top[], A[i, j]) }
        for j in 0..10 { let e = exp(A[i, j] - top[]) C[i, j] = e sum[] = sum[] + e }
        for j in 0..10 { C[i, j] = C[i, j] / sum[] }
      } }"""
    a, c = floats(3, 10), np.zeros((3, 10), np.float32)
    run(parse(text), {"A": a, "C": c}, {"n": 3})
    e = np.exp(a - a.max(1, keepdims=True))
    np.testing.assert_allclose(c, e / e.sum(1, keepdims=True), rtol=2e-6)


def test_argmax_with_branches() -> None:
    text = """kernel argmax(A: f32[6,9], out C: i64[6]) {
      for i in 0..6 {
        alloc best: f32[] in register
        best[] = A[i, 0]
        C[i] = 0
        for j in 1..9 { if A[i, j] > best[] { best[] = A[i, j] C[i] = j } else { } }
      } }"""
    a, c = floats(6, 9), np.zeros(6, np.int64)
    run(parse(text), {"A": a, "C": c})
    np.testing.assert_array_equal(c, a.argmax(1))


def test_transpose_in_registers() -> None:
    text = """kernel t(A: i32[8,8], out C: i32[8,8]) {
      alloc x: i32[8,8] in register
      unroll r in 0..8 { vector v in 0..8 { x[r, v] = A[r, v] } }
      transpose x
      unroll r in 0..8 { vector v in 0..8 { C[r, v] = x[r, v] } } }"""
    a, c = np.arange(64, dtype=np.int32).reshape(8, 8), np.zeros((8, 8), np.int32)
    run(parse(text), {"A": a, "C": c})
    np.testing.assert_array_equal(c, a.T)


def test_packing_through_the_stack() -> None:
    text = """kernel p(A: f32[12,5], out C: f32[5,12]) {
      for i in 0..12 step 4 {
        alloc panel: f32[5,4] in stack
        for r in 0..4 { for j in 0..5 { panel[j, r] = A[i + r, j] } }
        for j in 0..5 { vector v in 0..4 { C[j, i + v] = panel[j, v] } }
      } }"""
    a, c = floats(12, 5), np.zeros((5, 12), np.float32)
    run(parse(text), {"A": a, "C": c})
    np.testing.assert_array_equal(c, a.T)


def test_convolution_with_padding() -> None:
    text = """kernel conv(n in 3.., A: f32[n], W: f32[3], out C: f32[n]) {
      for i in 0..n {
        C[i] = 0.0f
        for k in 0..3 { C[i] = fma(A[i + k - 1 ; if ([i + k] >= 1) & ([i + k] <= n)], W[k], C[i]) }
      } }"""
    a, w, c = floats(11), floats(3), np.zeros(11, np.float32)
    run(parse(text), {"A": a, "W": w, "C": c}, {"n": 11})
    np.testing.assert_allclose(c, np.correlate(a, w, "same"), rtol=1e-5, atol=1e-6)


def test_sixteen_bit_floats_are_stored_and_cast() -> None:
    text = """kernel h(A: bf16[5], out C: bf16[5], out D: f16[5]) {
      vector v in 0..5 { let x = f32(A[v]) * 1.7f C[v] = bf16(x) D[v] = f16(x) } }"""
    a = floats(5).astype(bfloat16.numpy)
    c, d = np.zeros(5, bfloat16.numpy), np.zeros(5, np.float16)
    run(parse(text), {"A": a, "C": c, "D": d})
    x = a.astype(np.float32) * np.float32(1.7)
    np.testing.assert_array_equal(c, x.astype(bfloat16.numpy))
    np.testing.assert_array_equal(d, x.astype(np.float16))


def test_dimension_expressions_in_lanes() -> None:
    text = """kernel d(n in 1.., out C: i64[8]) {
      vector v in 0..8 { C[v] = [min(v, n)*10 + max(v - 3, 0)//2 - v%3] } }"""
    c = np.zeros(8, np.int64)
    run(parse(text), {"C": c}, {"n": 5})
    assert list(c) == [min(v, 5) * 10 + max(v - 3, 0) // 2 - v % 3 for v in range(8)]


def test_undefined_stack_elements_are_no_numbers() -> None:
    text = """kernel u(out C: f32[1], out D: i32[1]) {
      alloc s: f32[2] in stack
      alloc t: i32[2] in stack
      s[0] = 1.0f
      C[0] = s[1]
      D[0] = t[1] }"""
    c, d = np.zeros(1, np.float32), np.zeros(1, np.int32)
    run(parse(text), {"C": c, "D": d})
    assert np.isnan(c[0]) and d.view(np.uint32)[0] == 0xA5A5A5A5


HEAD = "kernel bad(n in 1..=8, A: f32[n], ids: i32[4], out C: f32[4]) {"
REFUSED = [
    ("C[4] = 1.0f", r"kernel bad: index 0 of C is 4, not in 0\.\.4"),
    ("for i in 0..4 { C[i] = A[i - 1] }", "index 0 of A is -1"),
    ("vector v in 0..4 { C[v] = A[v + 1] }", "index 0 of A is 4"),
    ("vector v in 0..4 { C[v] = A[@ids[v]] }", "index 0 of A is 9"),
    ("vector v in 0..4 { C[v//2] = 1.0f }", "two lanes store to one element of C"),
    ("alloc r: f32[4] in register C[0] = r[1]", r"r\[1\] is loaded before it is stored"),
    ("alloc r: f32[4] in register vector v in 0..4 { C[v] = r[v] }", "loaded before"),
    (
        "alloc r: f32[4] in register vector v in 0..4 active 3 { r[v] = 1.0f } C[0] = lanes_add(r)",
        "combined before",
    ),
    ("for i in 0..2 { alloc r: f32[] in register if i == 0 { r[] = 1.0f } C[i] = r[] }", "loaded"),
    ("C[0] = f32(7 // i64(ids[0]))", "floordiv by 0 is undefined on i64"),
    ("C[0] = f32(7:i32 << 32:i32)", "shl by 32 is undefined on i32"),
    ("C[0] = f32(pow(7, -1))", "pow by -1 is undefined on i64"),
    ("C[n] = 1.0f A[0] = 1.0f", "A is not an out parameter"),
]


@pytest.mark.parametrize("body, what", REFUSED, ids=[b for b, _ in REFUSED])
def test_what_native_code_leaves_undefined_is_refused(body: str, what: str) -> None:
    buffers = {"A": floats(4), "ids": np.array([0, 1, 9, 2], np.int32), "C": floats(4)}
    with pytest.raises(InternalError, match=what):
        run(parse(HEAD + body + "}"), buffers, {"n": 4})


def test_inactive_lanes_touch_nothing() -> None:
    text = """kernel k(A: i32[4], B: i32[4], out C: i32[4]) {
      vector v in 0..4 active 2 { C[v] = A[v + 2] // B[v + 2] } }"""
    c = np.zeros(4, np.int32)
    a, b = np.array([9, 9, 7, -7], np.int32), np.array([0, 0, 2, 2], np.int32)
    run(parse(text), {"A": a, "B": b, "C": c})
    assert list(c) == [3, -4, 0, 0]


@pytest.mark.parametrize(
    "buffers, dims, what",
    [
        ({}, {"n": 4}, "A is nothing, not float32"),
        ({"A": np.zeros(3, np.float32)}, {"n": 4}, r"A is float32\[3\], not float32\[4\]"),
        ({"A": np.zeros(4)}, {"n": 4}, "A is float64"),
        ({}, {}, "dimension n cannot be None"),
        ({}, {"n": 9}, "dimension n cannot be 9"),
        ({}, {"n": 0}, "dimension n cannot be 0"),
    ],
)
def test_arguments_that_do_not_fit(
    buffers: dict[str, Array], dims: dict[str, int], what: str
) -> None:
    with pytest.raises(InternalError, match=what):
        run(parse(HEAD + "}"), buffers, dims)
