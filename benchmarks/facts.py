"""What a figure depends on: the machine, and who took part in which version."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path


def machine() -> list[str]:
    """The machine, a line per fact."""
    model, flags = platform.machine(), ""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                model = value.strip()
            elif key.strip() == "flags":
                flags = value
    except OSError:
        pass
    vectors = next((v for v in ("avx512f", "avx2", "sse4_2") if v in flags.split()), "")
    load = os.getloadavg()[0]
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return [f"{model}{f' ({vectors})' if vectors else ''}, {cpus} CPUs, {platform.system()} "
            f"{platform.release()}, Python {platform.python_version()}",
            f"load before the run: {load:.1f}"
            + (" (others were working: take these figures as preliminary)" if load > 0.7 else "")]  # fmt: skip


_PACKAGE = {"torch.compile": "torch"}


def version(peer: str) -> str | None:
    """The installed version of a framework, or None."""
    try:
        return metadata.version(_PACKAGE.get(peer, peer))
    except metadata.PackageNotFoundError:
        if peer != "flowmill":
            return None
        import flowmill

        return str(flowmill.__version__)


def missing(peer: str) -> str:
    """Why a peer cannot take part, or nothing."""
    if version(peer) is None:
        return f"{_PACKAGE.get(peer, peer)} is not installed"
    if peer == "onnxruntime" and version("onnx") is None:
        return "onnx, which writes its models, is not installed"
    return ""
