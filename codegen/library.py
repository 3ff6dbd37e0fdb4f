"""A library that leaves Python: programs and their interface in, one LLVM module out.

The module holds the kernels, the thread pool, and the C interface that `header.py` declares. The
interface is data tables and a few routines that every function shares; what belongs to one function
only is its table of facts, the bytes it needs, and a stub. It calls libc and nothing else: mmap
munmap madvise open close lseek memmem strlen strcmp memcpy memset memmove sched_yield syscall
pthread_create pthread_join pthread_sigmask.
"""

from __future__ import annotations

import re

from ..dims import Dim, DimExpr, Op, Sym, as_sym, product
from ..dtypes import float64
from ..errors import InternalError
from ..target import Target
from .cpu_check import cpu_check
from .expressions import Expressions
from .glue import Glue
from .interface import FUNCTIONS, LARGEST, Entry, Interface
from .kernel.frame import (
    ARENA,
    ARGUMENTS,
    CONSTANTS,
    PARALLEL_FOR,
    PREPARED,
    THREADS,
    USER,
    VARIABLES,
)
from .library_context import emit_context
from .library_state import emit_state
from .library_tables import dims_of, emit_tables
from .llvm_text import constant
from .pool import pool_ir
from .program import emit_module
from .routine import Routine

# Words of a function's facts, then 4 words per dimension and 2 per argument.
_NUMBER, _WRITES, _OUTDATES, _PREPARED, _DIMS, _ARGS, _PREPARES = range(7)
_HEAD = 7


def emit_library(interface: Interface, target: Target) -> str:
    """The whole module as LLVM text. The image of the weights, where it is inside, is the external
    symbol NAME_weights."""
    g = Glue(interface, target)
    if interface.embedded:
        g.parts.append(f"@{g.prefix}_weights = external constant "
                       f"[{interface.embedded} x i8], align 8\n")  # fmt: skip
    g.parts.append(cpu_check(f"{g.prefix}.cpu_fits", target, g.attributes))
    emit_tables(g)
    emit_context(g)
    emit_state(g)
    for e in interface.entries:
        _need(g, e)
        _facts(g, e)
    _check_dims(g)
    _arena_bytes(g)
    _run(g)
    for e in interface.entries:
        _stub(g, e)
    programs = emit_module([e.program for e in interface.entries], target, "internal")
    pool = re.sub(r"^define (?!internal)", "define internal ", pool_ir(target.triple), flags=re.M)
    pool = pool.replace(" nounwind {", f" {g.attributes} {{")
    return _joined(programs, pool, g.finished())


def exports(interface: Interface) -> list[str]:
    """The symbols the library shows."""
    own = [n for e in interface.entries for n in (e.name, f"{e.name}_arena_bytes")]
    return [f"{interface.name}_{n}" for n in (*FUNCTIONS, *own)]


def _joined(*texts: str) -> str:
    """One module: declarations are said once."""
    declarations: dict[str, None] = {}
    rest = []
    for line in "\n".join(texts).splitlines():
        if line.startswith("declare "):
            declarations[line.split(";")[0].rstrip()] = None
        else:
            rest.append(line)
    head = [x for x in rest if x.startswith("target ")]
    body = [x for x in rest if not x.startswith("target ")]
    return "\n".join([*head, *declarations, *body]) + "\n"


# --- facts of one function ------------------------------------------------------------------------


def _need(g: Glue, e: Entry) -> None:
    """`i64 NAME.need(ptr dims)`: bytes of arena, or -1 if the dimensions do not satisfy what the
    program requires, or some size would not fit a word.

    A bound in floating point comes first: the sum of the absolute values of all terms. What passes
    it cannot overflow in integers.
    """
    p = e.program
    r = g.begin("i64", f"{e.name}.need", "ptr %dims")
    ex = dims_of(r, p.dims, "%dims")
    required = [q.dim for q in p.requires]
    sizes: list[Dim] = [p.arena_bytes, *required]
    sizes += [product(p.largest(a)) * a.dtype.itemsize for a in (*p.inputs, *p.outputs)]
    for d in sizes:
        if isinstance(d, DimExpr):
            limit = constant(float(LARGEST), float64)
            with r.when(r.emit(f"fcmp ogt double {_magnitude(r, ex, d)}, {limit}")):
                r.ret("i64", -1)
    for d in required:
        with r.when(r.test("slt", "i64", ex.dim(d), 0)):
            r.ret("i64", -1)
    r.ret("i64", ex.dim(p.arena_bytes))
    g.end(r)


def _magnitude(r: Routine, ex: Expressions, d: Dim) -> str:
    """A double that is at least |d| and every partial sum of d; all symbols are >= 0."""
    if isinstance(d, int):
        return constant(float(abs(d)), float64)
    total = constant(0.0, float64)
    for m, c in d.terms:
        term = constant(float(abs(c)), float64)
        for atom in m:
            if isinstance(atom, Sym):
                factor = r.emit(f"uitofp i64 {ex.values[atom]} to double")
            elif isinstance(atom, Op) and atom.kind in ("min", "max"):
                a, b = _magnitude(r, ex, atom.a), _magnitude(r, ex, atom.b)
                factor = r.emit(f"fadd double {a}, {b}")
            elif isinstance(atom, Op):
                factor = _magnitude(r, ex, atom.a if atom.kind == "floordiv" else atom.b)
            else:
                raise InternalError(f"unknown atom {atom!r}")
            term = r.emit(f"fmul double {term}, {factor}")
        total = r.emit(f"fadd double {total}, {term}")
    return total


def _facts(g: Glue, e: Entry) -> None:
    p, i = e.program, g.interface
    everywhere = {s.name: k for k, s in enumerate(i.dims)}
    words = [e.number, int(bool(p.written)), i.stale_after(frozenset(p.written)), e.prepared_at,
             len(p.dims), len(p.inputs) + len(p.outputs), int(bool(p.prepare))]  # fmt: skip
    for d in p.dims:
        s = as_sym(d)
        words += [everywhere[s.name], s.lo, LARGEST if s.hi is None else s.hi, s.multiple]
    for f in e.fields:
        if f.array is not None:
            words += [f.array.dtype.itemsize - 1, g.string(f"args.{f.name}")]
    g.table(f"{e.name}.facts", words)
    g.table(f"{e.name}.dim_names", [g.string(as_sym(d).name) for d in p.dims])


def _check_dims(g: Glue) -> None:
    """`i64 check_dims(ptr facts, ptr dims)`: the number of the first bad dimension, or -1."""
    r = g.begin("i64", "check_dims", "ptr %facts", "ptr %dims")
    with r.each(r.word("%facts", _DIMS)) as k:
        row = r.element("%facts", r.bits("add", r.bits("mul", k, 4), _HEAD))
        d = r.word("%dims", k)
        low = r.test("slt", "i64", d, r.word(row, 1))
        high = r.test("sgt", "i64", d, r.word(row, 2))
        odd = r.test("ne", "i64", r.bits("srem", d, r.word(row, 3)), 0)
        with r.when(r.emit(f"or i1 {r.emit(f'or i1 {low}, {high}')}, {odd}")):
            r.ret("i64", k)
    r.ret("i64", -1)
    g.end(r)


def _arena_bytes(g: Glue) -> None:
    """Bytes for one function, and for the largest of all; 0 where the dimensions are not allowed.
    `dims` holds every dimension of the library."""
    i = g.interface
    for e in i.entries:
        p = e.program
        r = g.begin("i64", f"{e.name}_arena_bytes", "ptr %dims", public=True)
        facts = f"@{g.prefix}.{e.name}.facts"
        own = r.alloca(f"[{max(len(p.dims), 1)} x i64]", 8)
        if p.dims:
            with r.when(r.test("eq", "ptr", "%dims", "null")):
                r.ret("i64", 0)
        for k in range(len(p.dims)):
            place = r.word(facts, _HEAD + 4 * k)
            r.store("i64", r.word("%dims", place), own, 8 * k)
        bad = g.call(r, "i64", "check_dims", f"ptr {facts}", f"ptr {own}")
        with r.when(r.test("sge", "i64", bad, 0)):
            r.ret("i64", 0)
        n = g.call(r, "i64", f"{e.name}.need", f"ptr {own}")
        with r.when(r.test("slt", "i64", n, 0)):
            r.ret("i64", 0)
        r.declarations.add("declare i64 @llvm.umax.i64(i64, i64)")
        r.ret("i64", r.emit(f"call i64 @llvm.umax.i64(i64 {n}, i64 64)"))
        g.end(r)
    r = g.begin("i64", "arena_bytes", "ptr %dims", public=True)
    most = r.variable("i64", 0)
    for e in i.entries:
        n = r.call("i64", f"{g.prefix}_{e.name}_arena_bytes", "ptr %dims")
        with r.when(r.test("eq", "i64", n, 0)):
            r.ret("i64", 0)
        r.store("i64", r.emit(f"call i64 @llvm.umax.i64(i64 {n}, i64 {r.load('i64', most)})"), most)
    r.ret("i64", r.load("i64", most))
    g.end(r)


# --- a run ----------------------------------------------------------------------------------------


def _run(g: Glue) -> None:
    """`run` checks the arguments and fills the frame; `locked` runs while the state is held."""
    params = ("ptr %c", "ptr %args", "ptr %facts", "ptr %dim_names", "ptr %sites", "ptr %need",
              "ptr %prepare", "ptr %execute", "ptr %shape")  # fmt: skip
    r = g.begin("i32", "run", *params)
    frame = r.at("%c", g.fields["frame"])
    with r.when(r.test("eq", "ptr", "%args", "null")):
        g.fail(r, "NULL_ARGUMENT", "args")
    dims, count = r.word("%facts", _DIMS), r.word("%facts", _ARGS)
    bad = g.call(r, "i64", "check_dims", "ptr %facts", "ptr %args")
    with r.when(r.test("sge", "i64", bad, 0)):
        name = r.at(f"@{g.prefix}.strings", r.word("%dim_names", bad))
        g.fail(r, "BAD_DIMENSION", name=name)
    need = r.emit("call i64 %need(ptr %args)")
    with r.when(r.test("slt", "i64", need, 0)):
        g.fail(
            r,
            "BAD_DIMENSION",
            "together they are too small for the network, or too large for 64 bits",
        )
    first = r.element("%args", dims)
    to = r.at(frame, ARGUMENTS)
    table = r.element("%facts", r.bits("add", r.bits("mul", dims, 4), _HEAD))
    with r.each(count) as k:
        given = r.word(first, k)
        row = r.element(table, r.bits("mul", k, 2))
        name = r.at(f"@{g.prefix}.strings", r.word(row, 1))
        with r.when(r.test("eq", "i64", given, 0)):
            g.fail(r, "NULL_ARGUMENT", name=name)
        with r.when(r.test("ne", "i64", r.bits("and", given, r.word(row, 0)), 0)):
            g.fail(r, "MISALIGNED", "elements must lie at multiples of their size", name)
        r.store("i64", given, r.element(to, k))
    with r.each(dims) as k:
        r.store("i64", r.word("%args", k), r.element(to, r.bits("add", count, k)))
    short = g.call(r, "i32", "arena", "ptr %c", f"i64 {need}")
    with r.when(r.test("ne", "i32", short, 0)):
        r.ret("i32", short)
    _fill(g, r, frame)
    owner = g.get(r, "ptr", "owner")
    inner = [f"ptr {owner}", *params[:1], f"ptr {frame}", *(params[k] for k in (2, 4, 6, 7, 8))]
    writes = r.test("ne", "i64", r.word("%facts", _WRITES), 0)
    for cond, lock in ((writes, "write"), (r.emit(f"xor i1 {writes}, true"), "read")):
        with r.when(cond):
            if lock == "write":
                with r.when(r.test("ne", "ptr", owner, "%c")):
                    g.fail(r, "SHARED_STATE")
            with r.unless(g.call(r, "i1", f"{lock}_lock", f"ptr {owner}")):
                g.fail(r, "BUSY")
            code = g.call(r, "i32", "locked", *inner)
            g.call(r, "void", f"{lock}_unlock", f"ptr {owner}")
            r.ret("i32", code)
    r.line("unreachable")
    g.end(r)
    _locked(g)


def _fill(g: Glue, r: Routine, frame: str) -> None:
    """The words of the frame that do not depend on the arguments."""
    owner = g.get(r, "ptr", "owner")
    prepared = r.at(g.get(r, "ptr", "state", owner), r.word("%facts", _PREPARED))
    for offset, value in (
        (PARALLEL_FOR, g.get(r, "ptr", "parallel_for")), (USER, g.get(r, "ptr", "user")),
        (VARIABLES, r.at(owner, g.fields["variables"])),
        (CONSTANTS, r.at(owner, g.fields["constants"])), (PREPARED, prepared),
        (ARENA, g.get(r, "ptr", "arena")),
    ):  # fmt: skip
        r.store("ptr", value, frame, offset)
    r.store("i64", g.get(r, "i64", "threads"), frame, THREADS)


def _locked(g: Glue) -> None:
    """Renews the prepared values if they are out of date, runs, outdates what the run changed."""
    r = g.begin("i32", "locked", "ptr %o", "ptr %c", "ptr %frame", "ptr %facts", "ptr %sites",
                "ptr %prepare", "ptr %execute", "ptr %shape")  # fmt: skip
    explain = ("ptr %c", "ptr %frame", "ptr %sites", "ptr %shape")
    stale = r.at("%o", g.fields["stale"])
    mine = r.bits("shl", "1", r.word("%facts", _NUMBER))
    with r.when(_outdated(r, stale, mine)):
        g.call(r, "void", "prepare_lock", "ptr %o")
        with r.when(_outdated(r, stale, mine)):
            status = r.emit("call i32 %prepare(ptr %frame)")
            with r.when(r.test("ne", "i32", status, 0)):
                g.call(r, "void", "prepare_unlock", "ptr %o")
                r.ret("i32", g.call(r, "i32", "explain", *explain))
            r.emit(f"atomicrmw and ptr {stale}, i64 {r.bits('xor', mine, -1)} acq_rel, align 8")
        g.call(r, "void", "prepare_unlock", "ptr %o")
    status = r.emit("call i32 %execute(ptr %frame)")
    with r.when(r.test("ne", "i32", status, 0)):
        r.ret("i32", g.call(r, "i32", "explain", *explain))
    outdates = r.word("%facts", _OUTDATES)
    with r.when(r.test("ne", "i64", outdates, 0)):
        r.emit(f"atomicrmw or ptr {stale}, i64 {outdates} acq_rel, align 8")
    r.ret("i32", 0)
    g.end(r)


def _outdated(r: Routine, stale: str, mine: str) -> str:
    now = r.emit(f"load atomic i64, ptr {stale} acquire, align 8")
    return r.test("ne", "i64", r.bits("and", now, mine), 0)


def _stub(g: Glue, e: Entry) -> None:
    own = f"@{g.prefix}.{e.name}"
    native = f"@{e.program.name}"
    given = [f"ptr {own}.{x}" for x in ("facts", "dim_names", "sites", "need")]
    given += [f"ptr {native}_prepare", f"ptr {native}", f"ptr {own}.shape"]
    g.guarded(e.name, ["ptr %args"], lambda r: r.ret("i32", g.call(
        r, "i32", "run", "ptr %c", "ptr %args", *given)))  # fmt: skip
