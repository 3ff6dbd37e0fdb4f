"""Errors and speeds of flowmill's elementary functions, natively, one thread.

    python benchmarks/vector_math.py [--functions exp,tanh] [--stride 16] [--lanes 16]

prints a row per function and float type: largest error in ulp, where, and nanoseconds per element.
float32 is judged by libm's float64 on every `stride`-th of all 2^32 inputs; float64 by libm's
80-bit functions on 2^21 inputs (x86 only), half of them random bit patterns. Two-argument
functions are judged on random pairs.
"""

from __future__ import annotations

import argparse
import ctypes
import math
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from flowmill.codegen.llvm_math import LlvmMath
from flowmill.codegen.vector_math import FUNCTIONS

Array = np.ndarray[Any, np.dtype[Any]]
TWO_ARGUMENTS = ("pow", "atan2")
_ELEMENT = {32: "float", 64: "double"}
_FLOAT = {32: np.float32, 64: np.float64}
_INT = {32: np.uint32, 64: np.uint64}


@lru_cache
def _machine() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=2
    )


def module_text(name: str, width: int, lanes: int) -> str:
    """A module with `void kernel(ptr out, ptr a, ptr b, i64 n, i64 mask)`: elements `i & mask` for
    i < n, n a positive multiple of lanes."""
    lines: list[str] = []

    def emit(right: str) -> str:
        lines.append(f"  %v{len(lines)} = {right}")
        return f"%v{len(lines) - 1}"

    element = _ELEMENT[width]
    vector = element if lanes == 1 else f"<{lanes} x {element}>"
    ops = LlvmMath(emit, lanes, width)
    args = ("%x", "%y") if name in TWO_ARGUMENTS else ("%x",)
    result = FUNCTIONS[name](ops, *args)
    body = "\n".join(lines)
    declarations = "\n".join(sorted(ops.declarations))
    return f"""{declarations}
define void @kernel(ptr %out, ptr %a, ptr %b, i64 %n, i64 %mask) #0 {{
entry:
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%next, %loop]
  %at = and i64 %i, %mask
  %pa = getelementptr {element}, ptr %a, i64 %at
  %pb = getelementptr {element}, ptr %b, i64 %at
  %po = getelementptr {element}, ptr %out, i64 %at
  %x = load {vector}, ptr %pa, align {width // 8}
  %y = load {vector}, ptr %pb, align {width // 8}
{body}
  store {vector} {result}, ptr %po, align {width // 8}
  %next = add nuw i64 %i, {lanes}
  %more = icmp ult i64 %next, %n
  br i1 %more, label %loop, label %done
done:
  ret void
}}
attributes #0 = {{ nounwind "tune-cpu"="sapphirerapids" "min-legal-vector-width"="512" }}
"""


def assembly(name: str, width: int, lanes: int) -> str:
    """What LLVM makes of `module_text` on this machine."""
    module = llvm.parse_assembly(module_text(name, width, lanes))
    text: str = _machine().emit_assembly(module)
    return text


class Native:
    """A compiled elementary function: called with arrays, returns an array."""

    def __init__(self, name: str, width: int, lanes: int) -> None:
        module = llvm.parse_assembly(module_text(name, width, lanes))
        module.verify()
        self._engine = llvm.create_mcjit_compiler(module, _new_machine())
        self._engine.finalize_object()
        pointer, count = ctypes.c_void_p, ctypes.c_int64
        prototype = ctypes.CFUNCTYPE(None, pointer, pointer, pointer, count, count)
        self.call = prototype(self._engine.get_function_address("kernel"))
        self.width, self.lanes = width, lanes

    def __call__(self, *args: Array) -> Array:
        n = args[0].size
        padded = -(-max(n, 1) // self.lanes) * self.lanes
        given = [np.ones(padded, _FLOAT[self.width]) for _ in range(2)]
        for whole, a in zip(given, args):
            whole[:n] = a.reshape(-1)
        out = np.empty(padded, _FLOAT[self.width])
        self.call(out.ctypes.data, given[0].ctypes.data, given[1].ctypes.data, padded, -1)
        return out[:n].reshape(args[0].shape)


def _new_machine() -> Any:
    """An engine owns its machine, so each gets one."""
    _machine.cache_clear()
    return _machine()


class Judge:
    """libm on arrays, in float64 or in 80 bits: the true values, nearly."""

    def __init__(self, name: str, width: int) -> None:
        self.wide = width == 64
        t, suffix = ("x86_fp80", "l") if self.wide else ("double", "")
        arity = 2 if name in TWO_ARGUMENTS else 1
        types = ", ".join([t] * arity)
        call = f"call {t} @{name}{suffix}({', '.join(f'{t} {v}' for v in ('%x', '%y')[:arity])})"
        step = 16 if self.wide else 8
        text = f"""
declare {t} @{name}{suffix}({types})
define void @judge(ptr %out, ptr %a, ptr %b, i64 %n) {{
entry:
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%next, %loop]
  %at = mul i64 %i, {step}
  %pa = getelementptr i8, ptr %a, i64 %at
  %pb = getelementptr i8, ptr %b, i64 %at
  %po = getelementptr i8, ptr %out, i64 %at
  %x = load {t}, ptr %pa
  %y = load {t}, ptr %pb
  %r = {call}
  store {t} %r, ptr %po
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %n
  br i1 %more, label %loop, label %done
done:
  ret void
}}
"""
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(text), _new_machine())
        self._engine.finalize_object()
        pointer = ctypes.c_void_p
        prototype = ctypes.CFUNCTYPE(None, pointer, pointer, pointer, ctypes.c_int64)
        self._call = prototype(self._engine.get_function_address("judge"))

    def __call__(self, *args: Array) -> Array:
        kind = np.longdouble if self.wide else np.float64
        given = [np.ascontiguousarray(a, kind) for a in args]
        out = np.empty(given[0].shape, kind)
        self._call(out.ctypes.data, given[0].ctypes.data, given[-1].ctypes.data, out.size)
        return out


def reference(name: str, width: int) -> Callable[..., Array]:
    """The true function, in a type wider than `width` bits."""
    if name in ("sigmoid", "softplus", "rsqrt"):
        kind = np.longdouble if width == 64 else np.float64
        exp, log1p = Judge("exp", width), Judge("log1p", width)

        def composed(x: Array) -> Array:
            x = x.astype(kind)
            if name == "rsqrt":
                return np.asarray(1 / np.sqrt(x))
            t = exp(-np.abs(x))
            if name == "sigmoid":
                return np.asarray(np.where(x < 0, t, 1) / (1 + t))
            return np.asarray(np.maximum(x, 0) + log1p(t))

        return composed
    return Judge(name, width)


def ulp_error(y: Array, true: Array) -> Array:
    """|y - true| in units of the last place of y's type at `true`; 0 where both are NaN or the
    same infinity, infinite where only one is NaN."""
    info = np.finfo(y.dtype)
    wide = true.dtype.type
    with np.errstate(all="ignore"):
        size = np.abs(true)
        limit = wide(info.max) * (1 + wide(2.0) ** (-info.nmant - 2))
        size = np.where(size < limit, size, wide(0))
        _, exponent = np.frexp(np.maximum(size, wide(info.tiny)))
        unit = np.ldexp(wide(1), exponent - info.nmant - 1)
        beyond = np.copysign(wide(2.0) ** info.maxexp, true)  # where infinity stands as a number
        a = np.where(np.isinf(y), np.copysign(wide(2.0) ** info.maxexp, y), y.astype(wide))
        error = np.abs(a - np.where(np.abs(true) >= limit, beyond, true)) / unit
        same = (np.isnan(y) & np.isnan(true)) | (y == true.astype(y.dtype)) & np.isinf(y)
    error = np.where(same, 0, error)
    return np.asarray(np.where(np.isnan(error), np.inf, error).astype(np.float64))


def _inputs(name: str, width: int, stride: int) -> Iterator[tuple[Array, ...]]:
    rng = np.random.default_rng(1)
    if width == 32 and name not in TWO_ARGUMENTS:
        chunk = 1 << 20
        for start in range(0, 1 << 32, chunk * stride):
            bits = np.arange(start, min(start + chunk * stride, 1 << 32), stride, dtype=np.uint64)
            bits += rng.integers(0, stride, bits.size, dtype=np.uint64)
            yield (bits.astype(np.uint32).view(np.float32),)
        return
    for _ in range(8):
        yield sample(name, width, 1 << 18, rng)


def sample(name: str, width: int, count: int, rng: np.random.Generator) -> tuple[Array, ...]:
    """Arguments: half random bit patterns, half where the function has middling values."""
    dtype, half = _FLOAT[width], count // 2

    def any_bits() -> Array:
        top = 1 << width
        return (
            rng.integers(0, top, half, dtype=np.uint64, endpoint=False)
            .astype(_INT[width])
            .view(dtype)
            if width == 32
            else (rng.integers(0, np.iinfo(np.uint64).max, half, dtype=np.uint64).view(dtype))
        )

    if name == "pow":
        x = np.exp(rng.normal(0, 3, half) * rng.choice([1e-3, 0.1, 1, 10], half))
        room = {32: 103.0, 64: 744.0}[width]
        y = rng.uniform(-1, 1, half) * room / np.maximum(np.abs(np.log(x)), 1e-6)
        pair = (x.astype(dtype), y.astype(dtype))
        return tuple(np.concatenate([any_bits(), p]) for p in pair)
    if name == "atan2":
        return tuple(
            np.concatenate([any_bits(), rng.normal(0, 1, count - half).astype(dtype)])
            for _ in range(2)
        )
    spread = rng.choice([1e-3, 0.3, 1.0, 5.0, 40.0], count - half)
    if name in ("asin", "acos"):
        middle = rng.uniform(-1, 1, count - half)
    elif name in ("log", "log2", "rsqrt"):
        middle = np.exp(rng.normal(0, 1, count - half) * spread)
    else:
        middle = rng.normal(0, 1, count - half) * spread
    return (np.concatenate([any_bits(), middle.astype(dtype)]),)


def largest_error(name: str, width: int, lanes: int, stride: int) -> tuple[float, str]:
    """The largest error in ulp found, and its arguments."""
    function, true = Native(name, width, lanes), reference(name, width)
    worst, where = 0.0, ""
    for args in _inputs(name, width, stride):
        error = ulp_error(function(*args), true(*args))
        at = int(np.argmax(error))
        if error[at] > worst:
            worst, where = float(error[at]), ", ".join(float(a[at]).hex() for a in args)
    return worst, where


def nanoseconds(name: str, width: int, lanes: int) -> float:
    """Time per element, best of 15 runs of 2^20 elements out of the first-level cache."""
    function = Native(name, width, lanes)
    held, count = 1024, 1 << 20
    a = np.random.default_rng(2).uniform(0.1, 0.9, held).astype(_FLOAT[width])
    out = np.empty_like(a)
    best = math.inf
    for _ in range(15):
        start = time.perf_counter()
        function.call(out.ctypes.data, a.ctypes.data, a.ctypes.data, count, held - 1)
        best = min(best, (time.perf_counter() - start) / count)
    return best * 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--functions", default=",".join(FUNCTIONS))
    parser.add_argument("--stride", type=int, default=16)
    parser.add_argument("--width", type=int, choices=(32, 64), default=0)
    parser.add_argument("--lanes", type=int, default=0, help="default: 512 bits")
    parser.add_argument("--no-errors", action="store_true")
    parser.add_argument("--no-speed", action="store_true")
    options = parser.parse_args()
    print("| function | type | max ulp | at | ns/element |\n|---|---|---|---|---|")
    for name in options.functions.split(","):
        for width in (options.width,) if options.width else (32, 64):
            lanes = options.lanes or 512 // width
            error, where = (math.nan, "") if options.no_errors else largest_error(
                name, width, lanes, options.stride)  # fmt: skip
            speed = math.nan if options.no_speed else nanoseconds(name, width, lanes)
            print(f"| {name} | f{width} | {error:.2f} | {where} | {speed:.3f} |", flush=True)


if __name__ == "__main__":
    main()
