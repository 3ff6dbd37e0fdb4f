"""Objects and a library for the linker's tests."""

from __future__ import annotations

from pathlib import Path

import llvmlite.binding as llvm
import pytest
from flowmill.codegen.elf import link_shared_to

from .programs import AARCH64, EXPORTS, OTHER, PROGRAM, WEIGHTS, X86_64, emit


@pytest.fixture(scope="session", params=[X86_64, AARCH64], ids=["x86_64", "aarch64"])
def triple(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def parts(triple: str) -> list[bytes]:
    """PROGRAM and OTHER, for both machines."""
    return [emit(PROGRAM, triple), emit(OTHER, triple)]


@pytest.fixture(scope="session")
def native_parts(native: str) -> list[bytes]:
    """PROGRAM and OTHER for this machine."""
    return [emit(PROGRAM, native), emit(OTHER, native)]


@pytest.fixture(scope="session")
def native() -> str:
    """This machine's triple; skips elsewhere than on x86-64 and aarch64 Linux."""
    triple = str(llvm.get_process_triple())
    if "linux" not in triple or not triple.startswith(("x86_64", "aarch64")):
        pytest.skip("needs x86-64 or aarch64 Linux")
    return triple


@pytest.fixture
def library(tmp_path: Path, native_parts: list[bytes]) -> Path:
    """The whole of PROGRAM, OTHER and WEIGHTS, linked for this machine."""
    path = tmp_path / "libprogram.so"
    link_shared_to(
        path,
        native_parts,
        soname="libprogram.so",
        exports=EXPORTS,
        symbol_version="PROGRAM_1",
        payload=WEIGHTS,
    )
    return path
