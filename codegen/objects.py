"""LLVM text to object code and assembly. The only place where llvmlite is used.

LLVM's own code is the largest thing in a compiling process: it is let go once it is loaded, and
after each object.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from functools import lru_cache

import llvmlite.binding as llvm

from ..errors import InternalError
from ..target import Target
from .resident import Pages

_own = Pages(llvm.ffi.lib._name)
_own.release()  # what loading has read


@lru_cache(maxsize=2)
def _initialize(own: bool) -> None:
    """Makes this machine's kind of processor known to LLVM, or every kind, which takes 10 MiB."""
    if own:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
    else:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()


@lru_cache(maxsize=8)
def _machine(target: Target) -> llvm.TargetMachine:
    _initialize(target.triple.split("-")[0] == platform.machine())
    found = llvm.Target.from_triple(target.triple)
    return found.create_target_machine(cpu=target.cpu, features=target.features, opt=2,
                                       reloc="pic", codemodel="small")  # fmt: skip


def _module(text: str, target: Target) -> llvm.ModuleRef:
    machine = _machine(target)
    try:
        module = llvm.parse_assembly(text)
        module.verify()
    except RuntimeError as e:
        raise InternalError(f"LLVM rejects the generated code: {e}") from None
    module.data_layout = str(machine.target_data)
    return module


def object_code(text: str, target: Target) -> bytes:
    """A relocatable ELF object."""
    code = bytes(_machine(target).emit_object(_module(text, target)))
    _own.release()
    return code


def object_codes(texts: Iterable[str], target: Target) -> list[bytes]:
    """The objects of modules. LLVM works on them in a thread, Python's lock released, while whoever
    writes them is at the next."""
    several = iter(texts)
    first, second = next(several), next(several, None)
    if second is None:  # a thread has memory of its own
        return [object_code(first, target)]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as worker:
        waiting = [worker.submit(object_code, text, target) for text in (first, second)]
        waiting += [worker.submit(object_code, text, target) for text in several]
    return [w.result() for w in waiting]


def assembly(text: str, target: Target) -> str:
    """The assembly of a module."""
    return str(_machine(target).emit_assembly(_module(text, target)))


def version() -> str:
    """llvmlite's and LLVM's versions: part of every cache key."""
    import llvmlite

    return f"llvmlite {llvmlite.__version__} LLVM {'.'.join(map(str, llvm.llvm_version_info))}"
