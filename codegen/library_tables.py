"""What a library says in words: error texts, the last failure with its place, tables of tensors."""

from __future__ import annotations

from ..dims import DimExpr, as_sym
from ..dtypes import DType
from .expressions import Expressions
from .glue import Glue, user_line
from .interface import CODE, CODES, DTYPE_CODES, SITE_CODES, TEXT_BYTES, Entry
from .kernel.frame import ARGUMENTS, INDEX_BITS
from .library_context import signed
from .routine import Routine


def emit_tables(g: Glue) -> None:
    """fail and what it is written with, error_text, last_error, explain, tables, manifest."""
    _put(g)
    _put_number(g)
    _error_text(g)
    _fail(g)
    _last_error(g)
    for e in g.interface.entries:
        _shape(g, e)
    _explain(g)
    _tensors(g)
    _find(g)
    _manifest(g)


# --- text -----------------------------------------------------------------------------------------


def _put(g: Glue) -> None:
    """`void put(ptr c, ptr text)`: appends to the context's text, cut where it is full."""
    r = g.begin("void", "put", "ptr %c", "ptr %text")
    used = g.get(r, "i64", "used")
    n = r.external("i64", "strlen", "ptr %text")
    room = r.bits("sub", str(TEXT_BYTES - 1), used)
    fits = r.choose(r.test("ult", "i64", n, room), "i64", n, room)
    to = r.at(r.at("%c", g.fields["text"]), used)
    r.copy(to, "%text", fits)
    r.store("i8", 0, to, fits)
    g.set(r, "i64", "used", r.bits("add", used, fits))
    r.ret("void")
    g.end(r)


def _put_number(g: Glue) -> None:
    """`void put_number(ptr c, i64 n)`: n >= 0 in decimal digits."""
    r = g.begin("void", "put_number", "ptr %c", "i64 %n")
    digits = r.alloca("[24 x i8]", 8)
    r.store("i8", 0, digits, 23)
    at = r.variable("i64", 23)
    rest = r.variable("i64", "%n")
    with r.forever():
        n, k = r.load("i64", rest), r.bits("sub", r.load("i64", at), 1)
        digit = r.bits("add", r.bits("urem", n, 10), ord("0"))
        r.store("i8", r.emit(f"trunc i64 {digit} to i8"), digits, k)
        r.store("i64", k, at)
        less = r.bits("udiv", n, 10)
        r.store("i64", less, rest)
        r.leave_if(r.test("eq", "i64", less, 0))
    start = r.at(digits, r.load("i64", at))
    g.call(r, "void", "put", "ptr %c", f"ptr {start}")
    r.ret("void")
    g.end(r)


def _error_text(g: Glue) -> None:
    places = g.table("meanings", [g.string(text) for _, text in CODES])
    r = g.begin("ptr", "error_text", "i32 %code", public=True)
    index = r.emit("zext i32 %code to i64")
    with r.when(r.test("uge", "i64", index, len(CODES))):
        r.ret("ptr", g.text("unknown code"))
    r.ret("ptr", r.at(f"@{g.prefix}.strings", r.word(places, index)))
    g.end(r)


def _fail(g: Glue) -> None:
    """`i32 fail(ptr c, i32 code, ptr name, ptr detail)`: "name: meaning (detail)"."""
    r = g.begin("i32", "fail", "ptr %c", "i32 %code", "ptr %name", "ptr %detail")
    g.set(r, "i64", "used", 0)
    with r.when(r.test("ne", "ptr", "%name", "null")):
        g.call(r, "void", "put", "ptr %c", "ptr %name")
        g.call(r, "void", "put", "ptr %c", f"ptr {g.text(': ')}")
    meaning = r.call("ptr", f"{g.prefix}_error_text", "i32 %code")
    g.call(r, "void", "put", "ptr %c", f"ptr {meaning}")
    with r.when(r.test("ne", "ptr", "%detail", "null")):
        g.call(r, "void", "put", "ptr %c", f"ptr {g.text(': ')}")
        g.call(r, "void", "put", "ptr %c", "ptr %detail")
    r.ret("i32", "%code")
    g.end(r)


def _last_error(g: Glue) -> None:
    r = g.begin("ptr", "last_error", "ptr %c", public=True)
    meaning = f"{g.prefix}_error_text"
    with r.when(r.test("eq", "ptr", "%c", "null")):
        r.ret("ptr", r.call("ptr", meaning, f"i32 {CODE['NULL_ARGUMENT']}"))
    magic = g.get(r, "i64", "magic")
    made = r.test("eq", "i64", magic, signed(g.magic()))
    failed = r.test("eq", "i64", magic, signed(g.magic() + 1))
    with r.unless(r.emit(f"or i1 {made}, {failed}")):
        r.ret("ptr", r.call("ptr", meaning, f"i32 {CODE['BAD_CONTEXT']}"))
    r.ret("ptr", r.at("%c", g.fields["text"]))
    g.end(r)


# --- failures inside kernels ----------------------------------------------------------------------


def dims_of(r: Routine, dims: tuple[DimExpr, ...], base: str) -> Expressions:
    """Dimensions as symbols, from consecutive words at `base`."""
    ex = Expressions(r, {})
    for k, d in enumerate(dims):
        symbol = as_sym(d)
        ex.values[symbol], ex.level[symbol] = r.load("i64", base, 8 * k), 0
    return ex


def _shape(g: Glue, e: Entry) -> None:
    """`i64 NAME.shape(ptr frame, i64 site, ptr out)`: the shape an error's index belongs to, and
    its rank; plus the table of sites: code, text, line."""
    p = e.program
    rows = []
    for s in p.sites:
        what = CODES[CODE[SITE_CODES[s.code]]][1] if s.code in SITE_CODES else s.code
        code = SITE_CODES.get(s.code, "CHECK_FAILED")
        rows += [CODE[code], g.string(f"{s.text}: {what}"), g.string(user_line(s.loc, ""))]
    g.table(f"{e.name}.sites", rows)
    r = g.begin("i64", f"{e.name}.shape", "ptr %frame", "i64 %site", "ptr %out")
    arguments = len(p.inputs) + len(p.outputs)
    ex = dims_of(r, (*p.dims, *p.computed), r.at("%frame", ARGUMENTS + 8 * arguments))
    for k, s in enumerate(p.sites):
        with r.when(r.test("eq", "i64", "%site", k)):
            for axis, d in enumerate(s.elements):
                r.store("i64", ex.dim(d), "%out", 8 * axis)
            r.ret("i64", len(s.elements))
    r.ret("i64", 0)
    g.end(r)


def _explain(g: Glue) -> None:
    """`i32 explain(ptr c, ptr frame, ptr sites, ptr shape)`: the recorded failure in words, as
    "text: meaning at element [i, j] (file:line in layer)"; its code."""
    ranks = [len(s.shape) for e in g.interface.entries for s in e.program.sites]
    most = max([1, *ranks])
    r = g.begin("i32", "explain", "ptr %c", "ptr %frame", "ptr %sites", "ptr %shape")
    extents, places = r.alloca(f"[{most} x i64]", 8), r.alloca(f"[{most} x i64]", 8)
    word = r.load("i64", "%frame")
    site = r.bits("lshr", word, INDEX_BITS)
    row = r.element("%sites", r.bits("mul", site, 3))
    rank = r.emit(f"call i64 %shape(ptr %frame, i64 {site}, ptr {extents})")
    rest = r.variable("i64", r.bits("and", word, (1 << INDEX_BITS) - 1))
    with r.each(rank) as k:
        axis = r.bits("sub", r.bits("sub", rank, 1), k)
        size = r.emit(f"call i64 @llvm.umax.i64(i64 {r.word(extents, axis)}, i64 1)")
        n = r.load("i64", rest)
        r.store("i64", r.bits("urem", n, size), r.element(places, axis))
        r.store("i64", r.bits("udiv", n, size), rest)
    r.declarations.add("declare i64 @llvm.umax.i64(i64, i64)")
    strings = f"@{g.prefix}.strings"
    g.set(r, "i64", "used", 0)
    _put_text(g, r, r.at(strings, r.word(row, 1)))
    with r.when(r.test("ne", "i64", rank, 0)):
        _put_text(g, r, g.text(" at element ["))
    with r.each(rank) as k:
        with r.when(r.test("ne", "i64", k, 0)):
            _put_text(g, r, g.text(", "))
        g.call(r, "void", "put_number", "ptr %c", f"i64 {r.word(places, k)}")
    with r.when(r.test("ne", "i64", rank, 0)):
        _put_text(g, r, g.text("]"))
    _put_text(g, r, r.at(strings, r.word(row, 2)))
    r.ret("i32", r.emit(f"trunc i64 {r.word(row, 0)} to i32"))
    g.end(r)


def _put_text(g: Glue, r: Routine, text: str) -> None:
    g.call(r, "void", "put", "ptr %c", f"ptr {text}")


# --- tables ---------------------------------------------------------------------------------------


def _tensors(g: Glue) -> None:
    """`tensor_count(group)` and `tensor_info(group, index, out)`: name, dtype, rank, shape."""
    i = g.interface
    rows: list[int] = []
    starts = [0]
    for _, arrays in i.groups:
        for a in arrays:
            shape = [d if isinstance(d, int) else -1 for d in a.shape]
            padded = [*shape, *([0] * (i.max_rank - len(shape)))]
            rows += [g.string(a.name), _kind(a.dtype), len(shape), *padded]
        starts.append(starts[-1] + len(arrays))
    table, first = g.table("tensors", rows), g.table("groups", starts)
    r = g.begin("i32", "tensor_count", "i32 %group", public=True)
    group = r.emit("zext i32 %group to i64")
    with r.when(r.test("uge", "i64", group, len(i.groups))):
        r.ret("i32", -1)
    count = r.bits("sub", r.word(first, r.bits("add", group, 1)), r.word(first, group))
    r.ret("i32", r.emit(f"trunc i64 {count} to i32"))
    g.end(r)

    r = g.begin("i32", "tensor_info", "i32 %group", "i32 %index", "ptr %out", public=True)
    with r.when(r.test("eq", "ptr", "%out", "null")):
        r.ret("i32", CODE["NULL_ARGUMENT"])
    count = r.call("i32", f"{g.prefix}_tensor_count", "i32 %group")
    inside = r.test("slt", "i32", "%index", count)
    positive = r.test("sge", "i32", "%index", 0)
    with r.unless(r.emit(f"and i1 {inside}, {positive}")):
        r.ret("i32", CODE["NOT_FOUND"])
    group = r.emit("zext i32 %group to i64")
    index = r.bits("add", r.word(first, group), r.emit("zext i32 %index to i64"))
    row = r.element(table, r.bits("mul", index, 3 + i.max_rank))
    r.store("ptr", r.at(f"@{g.prefix}.strings", r.word(row, 0)), "%out")
    r.copy(r.at("%out", 8), r.element(row, 1), 8 * (2 + i.max_rank))
    r.ret("i32", 0)
    g.end(r)


def _kind(dtype: DType) -> int:
    return DTYPE_CODES[dtype.short]


def _find(g: Glue) -> None:
    """`i32 find_variable(ptr name)`: its number, -1 for none."""
    names = g.table("names", [g.string(a.name) for a in g.interface.variables])
    r = g.begin("i32", "find_variable", "ptr %name", public=True)
    with r.when(r.test("eq", "ptr", "%name", "null")):
        r.ret("i32", -1)
    with r.each(len(g.interface.variables)) as k:
        text = r.at(f"@{g.prefix}.strings", r.word(names, k))
        order = r.external("i32", "strcmp", "ptr %name", f"ptr {text}")
        with r.when(r.test("eq", "i32", order, 0)):
            r.ret("i32", r.emit(f"trunc i64 {k} to i32"))
    r.ret("i32", -1)
    g.end(r)


def _manifest(g: Glue) -> None:
    symbol = g.bytes(f"{g.prefix}_manifest", g.interface.manifest.encode() + b"\0",
                     "dso_local")  # fmt: skip
    r = g.begin("ptr", "manifest_text", public=True)
    r.ret("ptr", symbol)
    g.end(r)
