"""Contexts of the C interface: made, locked, given memory, closed."""

from __future__ import annotations

from .glue import Glue
from .interface import (
    CODE,
    CONTEXT_ALIGN,
    MEMORY_ALIGN,
    OPTION,
)
from .pool import MAX_THREADS
from .routine import Routine


def emit_context(g: Glue) -> None:
    """enter, the state's locks, memory, init and close."""
    _sizes(g)
    _enter(g)
    _locks(g)
    _map(g)
    _arena(g)
    _state(g)
    _init(g)
    _release(g)
    _close(g)


def _sizes(g: Glue) -> None:
    i = g.interface
    for name, size in (("context_bytes", g.context_bytes), ("state_bytes", i.state_bytes),
                       ("saved_bytes", i.saved_bytes)):  # fmt: skip
        r = g.begin("i64", name, public=True)
        r.ret("i64", size)
        g.end(r)


def _enter(g: Glue) -> None:
    """Takes a context for one call, or says why not. Another thread's texts are left alone."""
    r = g.begin("i32", "enter", "ptr %c")
    with r.when(r.test("eq", "ptr", "%c", "null")):
        r.ret("i32", CODE["NULL_ARGUMENT"])
    with r.when(r.test("ne", "i64", g.get(r, "i64", "magic"), signed(g.magic()))):
        r.ret("i32", CODE["BAD_CONTEXT"])
    won = _swap(r, r.at("%c", g.fields["busy"]), 0, 1)
    with r.unless(won):
        r.ret("i32", CODE["BUSY"])
    r.ret("i32", 0)
    g.end(r)


def _locks(g: Glue) -> None:
    """Of an owner's state: any number of readers or one writer. Nobody waits: who cannot have the
    lock reports BUSY. Only values prepared by another reader are waited for."""
    r = g.begin("i1", "read_lock", "ptr %o")
    word = r.at("%o", g.fields["readers"])
    with r.forever():
        seen = r.emit(f"load atomic i32, ptr {word} monotonic, align 4")
        with r.when(r.test("slt", "i32", seen, 0)):
            r.ret("i1", "false")
        with r.when(_swap(r, word, seen, r.emit(f"add i32 {seen}, 1"))):
            r.ret("i1", "true")
    r.line("unreachable")
    g.end(r)
    r = g.begin("void", "read_unlock", "ptr %o")
    r.emit(f"atomicrmw sub ptr {r.at('%o', g.fields['readers'])}, i32 1 release, align 4")
    r.ret("void")
    g.end(r)
    r = g.begin("i1", "write_lock", "ptr %o")
    r.ret("i1", _swap(r, r.at("%o", g.fields["readers"]), 0, -1))
    g.end(r)
    r = g.begin("void", "write_unlock", "ptr %o")
    r.line(f"store atomic i32 0, ptr {r.at('%o', g.fields['readers'])} release, align 4")
    r.ret("void")
    g.end(r)
    r = g.begin("void", "prepare_lock", "ptr %o")
    word = r.at("%o", g.fields["preparing"])
    with r.forever():
        r.leave_if(_swap(r, word, 0, 1))
        r.external("i32", "sched_yield")
    r.ret("void")
    g.end(r)
    r = g.begin("void", "prepare_unlock", "ptr %o")
    r.line(f"store atomic i32 0, ptr {r.at('%o', g.fields['preparing'])} release, align 4")
    r.ret("void")
    g.end(r)


def _map(g: Glue) -> None:
    """`ptr map(i64 bytes)`: zeroed memory of the system's, or null."""
    r = g.begin("ptr", "map", "i64 %n")
    made = r.external("ptr", "mmap", "ptr null", "i64 %n", "i32 3", "i32 34", "i32 -1", "i64 0")
    address = r.emit(f"ptrtoint ptr {made} to i64")
    failed = r.test("eq", "i64", address, -1)
    r.ret("ptr", r.choose(failed, "ptr", "null", made))
    g.end(r)


def _arena(g: Glue) -> None:
    """`i32 arena(ptr c, i64 n)`: makes sure of n bytes; what the library mapped itself may grow."""
    r = g.begin("i32", "arena", "ptr %c", "i64 %n")
    with r.when(r.test("ule", "i64", "%n", g.get(r, "i64", "arena_bytes"))):
        r.ret("i32", 0)
    with r.when(r.test("ne", "i64", g.get(r, "i64", "fixed"), 0)):
        g.fail(r, "ARENA_TOO_SMALL")
    made = g.call(r, "ptr", "map", "i64 %n")
    with r.when(r.test("eq", "ptr", made, "null")):
        g.fail(r, "NO_MEMORY", "for the arena")
    _unmap(g, r, "arena", "arena_mapped")
    g.set(r, "ptr", "arena", made)
    g.set(r, "i64", "arena_bytes", "%n")
    g.set(r, "i64", "arena_mapped", "%n")
    r.ret("i32", 0)
    g.end(r)


def _unmap(g: Glue, r: Routine, pointer: str, size: str) -> None:
    n = g.get(r, "i64", size)
    with r.when(r.test("ne", "i64", n, 0)):
        r.external("i32", "munmap", f"ptr {g.get(r, 'ptr', pointer)}", f"i64 {n}")
        g.set(r, "i64", size, 0)


def _state(g: Glue) -> None:
    """`i32 state(ptr c, ptr o)`: memory for the variables, and their first values."""
    size = g.interface.state_bytes
    r = g.begin("i32", "state", "ptr %c", "ptr %o")
    given = r.load("ptr", "%o", OPTION["state"])
    has = r.test("ne", "ptr", given, "null")
    with r.when(has):
        with r.unless(_is_aligned(r, given, MEMORY_ALIGN)):
            g.fail(r, "MISALIGNED", "options.state must start at a multiple of 64 bytes")
        with r.when(r.test("ult", "i64", r.load("i64", "%o", OPTION["state_bytes"]), size)):
            g.fail(r, "STATE_TOO_SMALL")
        g.set(r, "ptr", "state", given)
    if size:
        with r.unless(has):
            made = g.call(r, "ptr", "map", f"i64 {size}")
            with r.when(r.test("eq", "ptr", made, "null")):
                g.fail(r, "NO_MEMORY", "for the state")
            g.set(r, "ptr", "state", made)
            g.set(r, "i64", "state_mapped", size)
    r.ret("i32", g.call(r, "i32", "first_weights", "ptr %c", "ptr %o"))
    g.end(r)


def _init(g: Glue) -> None:
    i = g.interface
    defaults = g.table("defaults", [i.signature] + [0] * (OPTION["largest"] // 8 + len(i.dims)))
    r = g.begin("i32", "init.inside", "ptr %c", "ptr %given")
    o = r.choose(r.test("eq", "ptr", "%given", "null"), "ptr", defaults, "%given")
    with r.when(r.test("ne", "i64", r.load("i64", o), signed(i.signature))):
        g.fail(r, "BAD_HEADER", "start from the header's OPTIONS value")
    with r.unless(g.call(r, "i1", "cpu_fits")):
        g.fail(r, "UNSUPPORTED_CPU", f"it needs {g.target.cpu} {g.target.features}".strip())
    _init_threads(g, r, o)
    _init_arena(g, r, o)
    share = r.load("ptr", o, OPTION["share"])
    with r.when(r.test("ne", "ptr", share, "null")):
        is_one = r.test("eq", "i64", r.load("i64", share), signed(g.magic()))
        with r.unless(is_one):
            g.fail(r, "BAD_CONTEXT", "options.share")
        g.set(r, "ptr", "owner", g.get(r, "ptr", "owner", share))
        r.ret("i32", 0)
    g.set(r, "ptr", "owner", "%c")
    g.set(r, "i64", "stale", i.prepares)
    r.ret("i32", g.call(r, "i32", "state", "ptr %c", f"ptr {o}"))
    g.end(r)

    r = g.begin("i32", "init", "ptr %c", "ptr %options", public=True)
    with r.when(r.test("eq", "ptr", "%c", "null")):
        r.ret("i32", CODE["NULL_ARGUMENT"])
    with r.unless(_is_aligned(r, "%c", CONTEXT_ALIGN)):
        r.ret("i32", CODE["MISALIGNED"])
    r.clear("%c", g.context_bytes)
    code = g.call(r, "i32", "init.inside", "ptr %c", "ptr %options")
    bad = r.test("ne", "i32", code, 0)
    with r.when(bad):
        g.call(r, "void", "release", "ptr %c")
    g.set(r, "i64", "magic", r.choose(bad, "i64", signed(g.magic() + 1), signed(g.magic())))
    r.ret("i32", code)
    g.end(r)


def _init_threads(g: Glue, r: Routine, o: str) -> None:
    wanted = r.load("i64", o, OPTION["threads"])
    with r.when(r.test("ugt", "i64", wanted, MAX_THREADS)):
        g.fail(r, "BAD_OPTION", f"options.threads must be between 0 and {MAX_THREADS}")
    count = r.variable("i64", r.emit(f"call i64 @llvm.smax.i64(i64 {wanted}, i64 1)"))
    r.declarations.add("declare i64 @llvm.smax.i64(i64, i64)")
    theirs = r.load("ptr", o, OPTION["parallel_for"])
    g.set(r, "ptr", "parallel_for", theirs)
    g.set(r, "ptr", "user", r.load("ptr", o, OPTION["user"]))
    with r.when(r.test("eq", "ptr", theirs, "null")):
        g.set(r, "ptr", "parallel_for", "@fm_pool_parallel_for")
        with r.when(r.test("ugt", "i64", wanted, 1)):
            got = r.call("i32", "fm_pool_open", f"i32 {r.emit(f'trunc i64 {wanted} to i32')}")
            have = r.emit(f"sext i32 {got} to i64")
            less = r.test("slt", "i64", have, wanted)
            r.store("i64", r.choose(less, "i64", have, wanted), count)
    g.set(r, "i64", "threads", r.load("i64", count))


def _init_arena(g: Glue, r: Routine, o: str) -> None:
    i = g.interface
    given = r.load("ptr", o, OPTION["arena"])
    size = r.load("i64", o, OPTION["arena_bytes"])
    largest = r.at(o, OPTION["largest"])
    need = r.variable("i64", 0)
    known = r.test("ne", "i64", r.load("i64", largest), 0) if i.dims else "true"
    with r.when(known):
        bytes_ = r.call("i64", f"{g.prefix}_arena_bytes", f"ptr {largest}")
        with r.when(r.test("eq", "i64", bytes_, 0)):
            g.fail(r, "BAD_DIMENSION", "options.largest")
        r.store("i64", bytes_, need)
    with r.when(r.test("eq", "ptr", given, "null")), r.when(r.test("ne", "i64", size, 0)):
        g.fail(r, "NULL_ARGUMENT", "options.arena is NULL, arena_bytes is not 0")
    with r.when(r.test("ne", "ptr", given, "null")):
        with r.unless(_is_aligned(r, given, MEMORY_ALIGN)):
            g.fail(r, "ARENA_MISALIGNED")
        g.set(r, "ptr", "arena", given)
        g.set(r, "i64", "arena_bytes", size)
        g.set(r, "i64", "fixed", 1)
    code = g.call(r, "i32", "arena", "ptr %c", f"i64 {r.load('i64', need)}")
    with r.when(r.test("ne", "i32", code, 0)):
        r.ret("i32", code)


def _release(g: Glue) -> None:
    """Gives back what the library mapped."""
    r = g.begin("void", "release", "ptr %c")
    _unmap(g, r, "arena", "arena_mapped")
    _unmap(g, r, "state", "state_mapped")
    _unmap(g, r, "image", "image_mapped")
    r.ret("void")
    g.end(r)


def _close(g: Glue) -> None:
    r = g.begin("i32", "close", "ptr %c", public=True)
    bad = g.call(r, "i32", "enter", "ptr %c")
    with r.when(r.test("ne", "i32", bad, 0)):
        r.ret("i32", bad)
    owner = g.get(r, "ptr", "owner")
    mine = r.test("eq", "ptr", owner, "%c")
    with r.when(mine), r.unless(g.call(r, "i1", "write_lock", "ptr %c")):
        g.leave(r)
        r.ret("i32", CODE["BUSY"])
    g.call(r, "void", "release", "ptr %c")
    r.clear("%c", g.context_bytes)
    r.ret("i32", 0)
    g.end(r)


def _swap(r: Routine, word: str, old: int | str, new: int | str) -> str:
    """Compare and swap of an i32: whether it was won."""
    pair = r.emit(f"cmpxchg ptr {word}, i32 {old}, i32 {new} acq_rel acquire")
    return r.emit(f"extractvalue {{i32, i1}} {pair}, 1")


def _is_aligned(r: Routine, pointer: str, align: int) -> str:
    address = r.emit(f"ptrtoint ptr {pointer} to i64")
    return r.test("eq", "i64", r.bits("and", address, align - 1), 0)


def signed(word: int) -> int:
    """A 64-bit word as LLVM spells it."""
    word &= (1 << 64) - 1
    return word - (1 << 64) if word >> 63 else word
