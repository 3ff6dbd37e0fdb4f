"""flowmill's own linker: relocatable ELF64 objects in, a shared object out; no toolchain needed.

    link_shared([program, pool], soname="libnet.so", exports=["net_infer"], symbol_version="NET_1")

The objects are those LLVM emits with reloc='pic', codemodel='small', for x86-64 or aarch64 Linux.
What holds for the result: only `exports` are visible, references inside are bound at link time,
imports are bound eagerly when the library is loaded, no page is writable and executable, all that
the loader writes becomes read-only, and the same input gives the same bytes.

A payload (weights) is a read-only, page-aligned symbol that objects declare `external global`.
With default visibility it is reached through the global offset table and may be of any size;
`hidden` saves that load, for payloads that together stay below 1 GiB.
"""

from __future__ import annotations

import io
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import BinaryIO

from ..errors import ExportError
from .elf_link import Linker
from .elf_object import STB_LOCAL, STB_WEAK, Object, read_object
from .elf_write import Linked, write_shared

_LIBC = """
__errno_location __register_atfork abort aligned_alloc calloc clock_gettime close dl_iterate_phdr
dladdr exit fclose fflush fopen fprintf fputs fread free fseek ftell fwrite getauxval getenv getpid
gettimeofday lseek madvise malloc memchr memcmp memcpy memmem memmove memset mmap mprotect msync
munmap nanosleep open posix_memalign pread printf pthread_attr_destroy pthread_attr_init
pthread_attr_setstacksize pthread_create pthread_detach pthread_getspecific pthread_join
pthread_key_create pthread_key_delete pthread_mutex_lock pthread_mutex_unlock pthread_once
pthread_self pthread_setaffinity_np pthread_setspecific pthread_sigmask putchar puts pwrite qsort
read realloc rename sched_getaffinity sched_getcpu sched_yield sigemptyset sigfillset snprintf
strcmp strcpy strerror strlen strncmp strncpy strtod strtol syscall sysconf unlink usleep write
"""
_LIBM = """
acos acosh asin asinh atan atan2 atanh cbrt ceil copysign cos cosh erf erfc exp exp2 expm1 fabs
fdim floor fma fmax fmin fmod frexp hypot ilogb ldexp lgamma llrint llround log log10 log1p log2
logb lrint lround modf nearbyint nextafter pow remainder rint round roundeven scalbn sin sinh sqrt
tan tanh tgamma trunc
"""

# Symbol -> the library that provides it ("" for one that whoever loads the library provides).
# The threads' functions are in libc.so.6 since glibc 2.34; condition variables are left out,
# because an unversioned import binds to their incompatible old versions.
SYSTEM: Mapping[str, str] = {
    **dict.fromkeys(_LIBC.split(), "libc.so.6"),
    **{name + suffix: "libm.so.6" for name in _LIBM.split() for suffix in ("", "f")},
}
_CHUNK = 1 << 20


def imports(obj: bytes) -> set[str]:
    """Names a relocatable object leaves undefined. Raises ExportError if it is damaged."""
    return read_object(obj, "object").undefined()


def link_shared(
    obj: bytes | Sequence[bytes],
    *,
    soname: str,
    exports: Sequence[str],
    needed: Sequence[str] | None = None,
    symbol_version: str | None = None,
    payload: Mapping[str, bytes | Path] | None = None,
    system: Mapping[str, str] = SYSTEM,
) -> bytes:
    """Links one or several objects into the bytes of a shared object.

    obj: relocatable objects; they may define symbols for one another.
    exports: the names to be found by others; each must be defined.
    needed: libraries to load with this one; None: those `system` names for the imports.
    symbol_version: version node of the exports, such as "FLOWMILL_1".
    payload: read-only blobs, or files of them, by symbol name.
    system: the symbols that may be imported, and from where.

    Raises ExportError for undefined symbols, for symbols defined twice, for a damaged object, for
    one that holds a relocation, section or symbol kind not supported, for an unreadable payload.
    """
    sources = dict(payload or {})
    linked, sizes = _link(obj, soname, exports, needed, symbol_version, sources, system)
    out = io.BytesIO()
    _write(out, linked, sources, sizes)
    return out.getvalue()


def link_shared_to(
    path: Path,
    obj: bytes | Sequence[bytes],
    *,
    soname: str,
    exports: Sequence[str],
    needed: Sequence[str] | None = None,
    symbol_version: str | None = None,
    payload: Mapping[str, bytes | Path] | None = None,
    system: Mapping[str, str] = SYSTEM,
) -> None:
    """`link_shared` into a file, which appears whole or not at all; payload files are streamed."""
    sources = dict(payload or {})
    linked, sizes = _link(obj, soname, exports, needed, symbol_version, sources, system)
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        # Not tempfile: its files are private to the user, a library is for all whom umask allows.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755)
        try:
            with open(descriptor, "wb") as out:
                _write(out, linked, sources, sizes)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as e:
        raise ExportError(f"cannot write {path}: {e.strerror}") from e


def _link(
    obj: bytes | Sequence[bytes],
    soname: str,
    exports: Sequence[str],
    needed: Sequence[str] | None,
    symbol_version: str | None,
    sources: Mapping[str, bytes | Path],
    system: Mapping[str, str],
) -> tuple[Linked, dict[str, int]]:
    """The linked library and the sizes of its payloads."""
    if not soname or "/" in soname or any("\0" in n for n in (soname, *exports, *sources)):
        raise ExportError(f"not a library name, or a name with a zero byte: {soname!r}")
    parts = [obj] if isinstance(obj, bytes) else list(obj)
    if not parts:
        raise ExportError("there is no object to link")
    objects = [read_object(data, f"object {i}") for i, data in enumerate(parts)]
    sizes = {name: _size(name, source) for name, source in sources.items()}
    wanted = _imports(objects, sizes.keys())
    if unknown := [name for name in wanted if name not in system]:
        raise ExportError(
            f"undefined symbols: {', '.join(unknown)}",
            "no object and no payload defines them, and they are not among the functions of "
            "libc and libm that may be imported",
        )
    if needed is None:
        needed = sorted({system[name] for name in wanted} - {""})
    linker = Linker(objects, list(wanted), exports, sizes)
    linked = write_shared(
        linker, soname=soname, imports=wanted, needed=needed, symbol_version=symbol_version
    )
    return linked, sizes


def _imports(objects: Sequence[Object], payload: Set[str]) -> dict[str, bool]:
    """Sorted names that nothing here defines, and whether each may be missing (weak)."""
    defined = {s.name for o in objects for s in o.symbols if s.defined and s.bind != STB_LOCAL}
    weak: dict[str, bool] = {}
    for o in objects:
        for s in o.symbols:
            if not s.defined and s.name and s.name not in defined and s.name not in payload:
                weak[s.name] = weak.get(s.name, True) and s.bind == STB_WEAK
    return dict(sorted(weak.items()))


def _size(name: str, source: bytes | Path) -> int:
    if isinstance(source, bytes):
        size = len(source)
    else:
        try:
            size = source.stat().st_size
        except OSError as e:
            raise ExportError(f"cannot read payload {name!r} from {source}: {e.strerror}") from e
    if not size:
        raise ExportError(f"payload {name!r} is empty")
    return size


def _write(
    out: BinaryIO, linked: Linked, sources: Mapping[str, bytes | Path], sizes: Mapping[str, int]
) -> None:
    """Writes the file front to back; gaps, at most a page each, are left to `seek`."""
    out.write(linked.head)
    for name, offset in linked.payload.items():
        out.seek(offset)
        source = sources[name]
        if isinstance(source, bytes):
            out.write(source)
            continue
        try:
            with source.open("rb") as file:
                shutil.copyfileobj(file, out, _CHUNK)
        except OSError as e:
            raise ExportError(f"cannot copy payload {name!r} from {source}: {e.strerror}") from e
        if out.tell() - offset != sizes[name]:
            raise ExportError(f"payload {name!r}: {source} changed while it was copied")
    out.seek(linked.tail_at)
    out.write(linked.tail)
