"""A CPU as a table: vector width, registers, caches. Every schedule reads it; nothing else does.

`host()` reads the machine the process runs on without loading LLVM; `named` gives the portable
levels of the x86-64 and AArch64 architectures for cross compilation and reproducible artefacts.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from .dtypes import DType
from .errors import ConfigError


@dataclass(frozen=True)
class Target:
    """What code generation may assume of a CPU.

    `cpu` and `features` are LLVM's names. `vector_bytes` and `registers` describe the vector
    registers; `fma_latency` and `fma_ports` the fused multiply-add units; caches are bytes per
    core. `level_bandwidth`: bytes per clock one core reads from (L2, L3, memory).
    """

    name: str
    triple: str
    cpu: str
    features: str
    vector_bytes: int
    registers: int
    l1: int = 32 << 10
    l2: int = 512 << 10
    l3: int = 8 << 20
    fma_latency: int = 4
    fma_ports: int = 2
    level_bandwidth: tuple[float, float, float] = (50.0, 27.0, 9.6)
    tune: str = ""
    min_parallel_bytes: int = 1 << 15  # below this much memory traffic one thread is faster
    min_parallel_flops: int = 1 << 18  # below this much arithmetic one thread is faster

    def lanes(self, dtype: DType) -> int:
        """Elements of `dtype` in one vector register."""
        return max(1, self.vector_bytes // max(dtype.itemsize, 1))

    @property
    def attributes(self) -> str:
        """LLVM function attributes. `tune-cpu` keeps LLVM's instruction scheduler from spilling
        the accumulators of unrolled kernels, which its models of recent AMD CPUs make it do."""
        parts = [f'"target-cpu"="{self.cpu}"']
        if self.features:
            parts.append(f'"target-features"="{self.features}"')
        if self.tune:
            parts.append(f'"tune-cpu"="{self.tune}"')
        width = self.vector_bytes * 8
        parts += [f'"prefer-vector-width"="{width}"', f'"min-legal-vector-width"="{width}"',
                  "nounwind"]  # fmt: skip
        return " ".join(parts)


_LINUX_X86 = "x86_64-unknown-linux-gnu"
_LINUX_ARM = "aarch64-unknown-linux-gnu"
_NAMED = {
    "x86-64-v2": Target("x86-64-v2", _LINUX_X86, "x86-64-v2", "", 16, 16),
    "x86-64-v3": Target("x86-64-v3", _LINUX_X86, "x86-64-v3", "", 32, 16),
    "x86-64-v4": Target("x86-64-v4", _LINUX_X86, "x86-64-v4", "", 64, 32, l1=48 << 10,
                        l2=1 << 20, l3=32 << 20, tune="sapphirerapids"),
    "aarch64": Target("aarch64", _LINUX_ARM, "generic", "+neon", 16, 32, l1=64 << 10, l2=1 << 20),
}  # fmt: skip

# CPU flags of /proc/cpuinfo that code generation uses beyond the architecture level.
_EXTRA = {"avx512_vnni": "avx512vnni", "avx512_bf16": "avx512bf16", "avx512vbmi": "avx512vbmi",
          "avx_vnni": "avxvnni", "avx512_fp16": "avx512fp16"}  # fmt: skip
_V4 = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
_V3 = {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"}
_V2 = {"cx16", "popcnt", "sse4_1", "sse4_2", "ssse3"}


def named(name: str) -> Target:
    """A portable target. ConfigError for names that are not known."""
    if name not in _NAMED:
        raise ConfigError(f"unknown target {name!r}", f"known: native, {', '.join(_NAMED)}")
    return _NAMED[name]


@lru_cache(maxsize=1)
def host() -> Target:
    """The machine this process runs on. ConfigError where no code can be made for it."""
    machine = platform.machine()
    if platform.system() != "Linux" or machine not in ("x86_64", "aarch64"):
        raise ConfigError(f"flowmill runs code on Linux x86-64 and aarch64, this is "
                          f"{platform.system()} {machine}",
                          "graphs can be defined and exported for a named target here")  # fmt: skip
    if machine == "aarch64":
        return _with_caches(replace(_NAMED["aarch64"], name="native"))
    flags = _cpu_flags()
    if not flags >= _V2:
        raise ConfigError("this CPU is older than x86-64-v2 (SSE 4.2)")
    level = "x86-64-v4" if flags >= _V4 | _V3 else "x86-64-v3" if flags >= _V3 else "x86-64-v2"
    extra = sorted(_EXTRA[f] for f in flags if f in _EXTRA and level == "x86-64-v4")
    features = ",".join("+" + f for f in extra)
    return _with_caches(replace(_NAMED[level], name="native", features=features))


def _cpu_flags() -> set[str]:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            flags = set(line.split(":", 1)[1].split())
            return flags | ({"ssse3"} if "ssse3" in flags else set())
    return set()


def _with_caches(t: Target) -> Target:
    sizes: dict[str, int] = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            kind = (folder / "type").read_text().strip()
            level = (folder / "level").read_text().strip()
            text = (folder / "size").read_text().strip()
        except OSError:
            continue
        if kind in ("Data", "Unified"):
            scale = {"K": 1 << 10, "M": 1 << 20}.get(text[-1], 1)
            sizes[f"l{level}"] = int(text.rstrip("KM")) * scale
    return replace(t, **{k: v for k, v in sizes.items() if k in ("l1", "l2", "l3") and v})  # type: ignore[arg-type]
