"""The variables of a library: their first values, reading, writing, saving and loading them.

All weights come as one safetensors image (`weights_image.py`), from inside the library, from a
mapped file or from the caller. A variable that no function changes, and every constant, is used
where it lies in the image; the others are copied into the state memory. The word tables of the
context hold where each of them is at present.
"""

from __future__ import annotations

from .glue import Glue
from .interface import LARGEST, OPTION
from .kernel.program import Array
from .routine import Routine
from .weights_image import key, nbytes

# Words per tensor: name, key, key's length, bytes, alignment - 1, slot, written to, outdates
_NAME, _KEY, _LENGTH, _BYTES, _ALIGN, _SLOT, _WRITTEN, _STALE = range(8)
_ROW = 8


def emit_state(g: Glue) -> None:
    """parse, first_weights, reset, get and set of variables, save and load."""
    _rows(g)
    _number(g)
    _offset(g)
    _parse(g)
    _adopt(g)
    _first_weights(g)
    _load_all(g)
    g.guarded("reset", [], lambda r: _write_locked(g, r, "reset.locked"))
    _get_set(g)
    _save(g)


def _rows(g: Glue) -> None:
    """The table of all tensors: variables, then constants."""
    i = g.interface

    def row(a: Array, slot: int, written: bool, stale: int) -> list[int]:
        text = key(a)
        return [g.string(a.name), g.string(text), len(text.encode()), nbytes(a), a.dtype.itemsize - 1, slot,
                int(written), stale]  # fmt: skip

    words: list[int] = []
    for k, a in enumerate(i.variables):
        words += row(a, i.slots[k], k in i.written, i.stale_after(frozenset({k})))
    for a in i.constants:
        words += row(a, 0, False, 0)
    g.table("rows", words)


def _row(g: Glue, r: Routine, k: str) -> str:
    return r.element(f"@{g.prefix}.rows", r.bits("mul", k, _ROW))


# --- reading an image -----------------------------------------------------------------------------


def _number(g: Glue) -> None:
    """`i64 number(ptr at, ptr end, i8 stop)`: the decimal number up to the character `stop`, or
    -1. `at` holds the place and is moved behind `stop`."""
    r = g.begin("i64", "number", "ptr %at", "ptr %end", "i8 %stop")
    sum_ = r.variable("i64", 0)
    with r.forever():
        place = r.load("ptr", "%at")
        with r.when(r.test("uge", "ptr", place, "%end")):
            r.ret("i64", -1)
        c = r.load("i8", place)
        r.store("ptr", r.at(place, 1), "%at")
        with r.when(r.test("eq", "i8", c, "%stop")):
            r.ret("i64", r.load("i64", sum_))
        digit = r.bits("sub", r.emit(f"zext i8 {c} to i64"), ord("0"))
        so_far = r.load("i64", sum_)
        wrong = r.test("ugt", "i64", digit, 9)
        huge = r.test("ugt", "i64", so_far, LARGEST // 10 - 1)
        with r.when(r.emit(f"or i1 {wrong}, {huge}")):
            r.ret("i64", -1)
        r.store("i64", r.bits("add", r.bits("mul", so_far, 10), digit), sum_)
    r.line("unreachable")
    g.end(r)


def _offset(g: Glue) -> None:
    """`i64 offset(ptr row, ptr text, i64 n, i64 room)`: where a tensor begins in the data of an
    image whose header is text[0..n) and whose data has `room` bytes; -1 if it is not there."""
    r = g.begin("i64", "offset", "ptr %row", "ptr %text", "i64 %n", "i64 %room")
    wanted = r.at(f"@{g.prefix}.strings", r.word("%row", _KEY))
    length = r.word("%row", _LENGTH)
    found = r.external("ptr", "memmem", "ptr %text", "i64 %n", f"ptr {wanted}", f"i64 {length}")
    with r.when(r.test("eq", "ptr", found, "null")):
        r.ret("i64", -1)
    at = r.alloca("ptr", 8)
    r.store("ptr", r.at(found, length), at)
    end = r.at("%text", "%n")
    first = g.call(r, "i64", "number", f"ptr {at}", f"ptr {end}", f"i8 {ord(',')}")
    last = g.call(r, "i64", "number", f"ptr {at}", f"ptr {end}", f"i8 {ord(']')}")
    size = r.bits("sub", last, first)
    sound = r.test("eq", "i64", size, r.word("%row", _BYTES))
    for cond in (r.test("sge", "i64", first, 0), r.test("sge", "i64", last, 0),
                 r.test("ule", "i64", last, "%room")):  # fmt: skip
        sound = r.emit(f"and i1 {sound}, {cond}")
    r.ret("i64", r.choose(sound, "i64", first, -1))
    g.end(r)


def _parse(g: Glue) -> None:
    """`i32 parse(ptr c, ptr image, i64 bytes, i64 count)`: checks an image that must hold the first
    `count` tensors and no others; their addresses go to the context's `offsets`."""
    r = g.begin("i32", "parse", "ptr %c", "ptr %image", "i64 %bytes", "i64 %count")
    with r.when(r.test("eq", "ptr", "%image", "null")):
        g.fail(r, "NULL_ARGUMENT")
    with r.when(r.test("ult", "i64", "%bytes", 8)):
        g.fail(r, "BAD_STATE", "it is shorter than its header")
    n = r.emit("load i64, ptr %image, align 1")
    with r.when(r.test("ugt", "i64", n, r.bits("sub", "%bytes", 8))):
        g.fail(r, "BAD_STATE", "it is shorter than its header")
    text = r.at("%image", 8)
    data = r.at(text, n)
    room = r.bits("sub", r.bits("sub", "%bytes", 8), n)
    with r.each("%count") as k:
        row = _row(g, r, k)
        offset = g.call(r, "i64", "offset", f"ptr {row}", f"ptr {text}", f"i64 {n}",
                        f"i64 {room}")  # fmt: skip
        with r.when(r.test("slt", "i64", offset, 0)):
            name = r.at(f"@{g.prefix}.strings", r.word(row, _NAME))
            g.fail(r, "BAD_STATE", "the tensor is missing, of another type, or cut off", name)
        out = r.element(r.at("%c", g.fields["offsets"]), k)
        r.store("ptr", r.at(data, offset), out)
    _count_tensors(g, r, text, n)
    r.ret("i32", 0)
    g.end(r)


def _count_tensors(g: Glue, r: Routine, text: str, n: str) -> None:
    """Fails if the header names other tensors than those asked for."""
    mark = '"data_offsets":['
    seen = r.variable("i64", 0)
    at = r.variable("ptr", text)
    end = r.at(text, n)
    with r.forever():
        here = r.load("ptr", at)
        left = r.bits("sub", r.emit(f"ptrtoint ptr {end} to i64"),
                      r.emit(f"ptrtoint ptr {here} to i64"))  # fmt: skip
        found = r.external("ptr", "memmem", f"ptr {here}", f"i64 {left}", f"ptr {g.text(mark)}",
                           f"i64 {len(mark)}")  # fmt: skip
        r.leave_if(r.test("eq", "ptr", found, "null"))
        r.store("ptr", r.at(found, len(mark)), at)
        r.store("i64", r.bits("add", r.load("i64", seen), 1), seen)
    with r.when(r.test("ne", "i64", r.load("i64", seen), "%count")):
        g.fail(r, "BAD_STATE", "it holds tensors that this model has not")


# --- taking values --------------------------------------------------------------------------------


def _adopt(g: Glue) -> None:
    """`void adopt(ptr c, i1 all)`: takes the variables found by `parse`. With `all` every one is
    copied; else those that no function changes stay where they are, and constants too."""
    i = g.interface
    r = g.begin("void", "adopt", "ptr %c", "i1 %all")
    offsets = r.at("%c", g.fields["offsets"])
    state = g.get(r, "ptr", "state")
    if i.variables:
        with r.each(len(i.variables)) as k:
            row = _row(g, r, k)
            source = r.load("ptr", r.element(offsets, k))
            home = r.at(state, r.word(row, _SLOT))
            changes = r.test("ne", "i64", r.word(row, _WRITTEN), 0)
            moved = r.emit(f"or i1 {changes}, %all")
            with r.when(moved):
                r.copy(home, source, r.word(row, _BYTES))
            to = r.element(r.at("%c", g.fields["variables"]), k)
            r.store("ptr", r.choose(moved, "ptr", home, source), to)
    if i.constants:
        with r.unless("%all"), r.each(len(i.constants)) as k:
            source = r.load("ptr", r.element(offsets, r.bits("add", k, len(i.variables))))
            r.store("ptr", source, r.element(r.at("%c", g.fields["constants"]), k))
    r.ret("void")
    g.end(r)


def _first_weights(g: Glue) -> None:
    """`i32 first_weights(ptr c, ptr o)`: finds the image and begins with it."""
    i = g.interface
    _map_file(g)
    r = g.begin("i32", "first_weights", "ptr %c", "ptr %o")
    if i.variables or i.constants:
        _find_image(g, r)
    r.ret("i32", g.call(r, "i32", "reset.locked", "ptr %c"))
    g.end(r)

    r = g.begin("i32", "reset.locked", "ptr %c")
    count = len(i.variables) + len(i.constants)
    if not count:
        r.ret("i32", 0)
        g.end(r)
        return
    image, size = g.get(r, "ptr", "image"), g.get(r, "i64", "image_bytes")
    bad = g.call(r, "i32", "parse", "ptr %c", f"ptr {image}", f"i64 {size}", f"i64 {count}")
    with r.when(r.test("ne", "i32", bad, 0)):
        r.ret("i32", bad)
    with r.each(count) as k:
        address = r.emit(
            f"ptrtoint ptr {r.load('ptr', r.element(r.at('%c', g.fields['offsets']), k))} to i64"
        )
        low = r.bits("and", address, r.word(_row(g, r, k), _ALIGN))
        with r.when(r.test("ne", "i64", low, 0)):
            g.fail(r, "MISALIGNED", "tensors of the weights must be aligned to their elements")
    g.call(r, "void", "adopt", "ptr %c", "i1 false")
    _outdate(g, r, i.prepares)
    r.ret("i32", 0)
    g.end(r)


def _find_image(g: Glue, r: Routine) -> None:
    """Options' image, else options' file, else the image inside."""
    given = r.load("ptr", "%o", OPTION["weights"])
    path = r.load("ptr", "%o", OPTION["weights_path"])
    g.set(r, "ptr", "image", given)
    g.set(r, "i64", "image_bytes", r.load("i64", "%o", OPTION["weights_bytes"]))
    with r.when(r.test("eq", "ptr", given, "null")):
        named = r.test("ne", "ptr", path, "null")
        with r.when(named):
            bad = g.call(r, "i32", "map_file", "ptr %c", f"ptr {path}")
            with r.when(r.test("ne", "i32", bad, 0)):
                r.ret("i32", bad)
        with r.unless(named):
            if g.interface.embedded:
                g.set(r, "ptr", "image", f"@{g.prefix}_weights")
                g.set(r, "i64", "image_bytes", g.interface.embedded)
            else:
                g.fail(r, "NO_WEIGHTS")


def _map_file(g: Glue) -> None:
    """`i32 map_file(ptr c, ptr path)`: a file as the image."""
    r = g.begin("i32", "map_file", "ptr %c", "ptr %path")
    r.declarations.add("declare i32 @open(ptr, i32, ...)")
    fd = r.emit("call i32 (ptr, i32, ...) @open(ptr %path, i32 524288)")  # O_RDONLY | O_CLOEXEC
    with r.when(r.test("slt", "i32", fd, 0)):
        g.fail(r, "FILE_ERROR", "it cannot be opened", "%path")
    size = r.external("i64", "lseek", f"i32 {fd}", "i64 0", "i32 2")
    made = r.external("ptr", "mmap", "ptr null", f"i64 {size}", "i32 1", "i32 2", f"i32 {fd}",
                      "i64 0")  # fmt: skip
    r.external("i32", "close", f"i32 {fd}")
    address = r.emit(f"ptrtoint ptr {made} to i64")
    with r.when(r.test("eq", "i64", address, -1)):
        g.fail(r, "FILE_ERROR", "it cannot be mapped, or is empty", "%path")
    g.set(r, "ptr", "image", made)
    g.set(r, "i64", "image_bytes", size)
    g.set(r, "i64", "image_mapped", size)
    r.ret("i32", 0)
    g.end(r)


def _load_all(g: Glue) -> None:
    i = g.interface
    r = g.begin("i32", "load_state.locked", "ptr %c", "ptr %from", "i64 %bytes")
    bad = g.call(r, "i32", "parse", "ptr %c", "ptr %from", "i64 %bytes",
                 f"i64 {len(i.variables)}")  # fmt: skip
    with r.when(r.test("ne", "i32", bad, 0)):
        r.ret("i32", bad)
    g.call(r, "void", "adopt", "ptr %c", "i1 true")
    _outdate(g, r, i.prepares)
    r.ret("i32", 0)
    g.end(r)
    params = ["ptr %from", "i64 %bytes"]
    g.guarded("load_state", params, lambda r: _write_locked(g, r, "load_state.locked", *params))


def _write_locked(g: Glue, r: Routine, name: str, *args: str) -> None:
    """The rest of a routine: `name`, while nobody else reads or writes the state."""
    owner = g.get(r, "ptr", "owner")
    with r.when(r.test("ne", "ptr", owner, "%c")):
        g.fail(r, "SHARED_STATE")
    with r.unless(g.call(r, "i1", "write_lock", "ptr %c")):
        g.fail(r, "BUSY")
    code = g.call(r, "i32", name, "ptr %c", *args)
    g.call(r, "void", "write_unlock", "ptr %c")
    r.ret("i32", code)


def _outdate(g: Glue, r: Routine, functions: int | str) -> None:
    """Marks prepared values as out of date; the caller holds the write lock."""
    old = g.get(r, "i64", "stale")
    g.set(r, "i64", "stale", r.bits("or", old, functions))


# --- single variables, saving ---------------------------------------------------------------------


def _get_set(g: Glue) -> None:
    i = g.interface
    for name, pointer in (("get_variable", "ptr %to"), ("set_variable", "ptr %from")):
        params = ["i32 %index", pointer, "i64 %bytes"]
        g.guarded(name, params, lambda r, name=name, pointer=pointer: _one(g, r, name, pointer))  # type: ignore[misc]
    r = g.begin("i32", "set_variable.locked", "ptr %c", "i32 %index", "ptr %from", "i64 %bytes")
    if i.variables:
        k = r.emit("sext i32 %index to i64")
        row = _row(g, r, k)
        home = r.at(g.get(r, "ptr", "state"), r.word(row, _SLOT))
        r.copy(home, "%from", "%bytes")
        r.store("ptr", home, r.element(r.at("%c", g.fields["variables"]), k))
        _outdate(g, r, r.word(row, _STALE))
    r.ret("i32", 0)
    g.end(r)


def _one(g: Glue, r: Routine, name: str, pointer: str) -> None:
    """Reads or writes the variable %index after checking number, pointer and size."""
    i = g.interface
    with r.when(r.test("uge", "i32", "%index", len(i.variables))):
        g.fail(r, "NOT_FOUND", f"variables are numbered from 0 to {len(i.variables) - 1}")
    with r.when(r.test("eq", "ptr", pointer.split()[1], "null")):
        g.fail(r, "NULL_ARGUMENT")
    row = _row(g, r, r.emit("sext i32 %index to i64"))
    with r.when(r.test("ne", "i64", "%bytes", r.word(row, _BYTES))):
        g.fail(r, "BAD_SIZE")
    if name == "set_variable":
        _write_locked(g, r, "set_variable.locked", "i32 %index", "ptr %from", "i64 %bytes")
        return
    owner = _read_locked(g, r)
    table = r.at(owner, g.fields["variables"])
    source = r.load("ptr", r.element(table, r.emit("sext i32 %index to i64")))
    r.copy("%to", source, "%bytes")
    g.call(r, "void", "read_unlock", f"ptr {owner}")
    r.ret("i32", 0)


def _read_locked(g: Glue, r: Routine) -> str:
    """The owner of the state, whose readers' lock is now held."""
    owner = g.get(r, "ptr", "owner")
    with r.unless(g.call(r, "i1", "read_lock", f"ptr {owner}")):
        g.fail(r, "BUSY")
    return owner


def _save(g: Glue) -> None:
    """All variables as an image."""
    i = g.interface
    order, head = i.saved
    numbers = {a.name: k for k, a in enumerate(i.variables)}
    g.bytes(f"{g.prefix}.saved_header", head)
    queue = g.table("saved_order", [numbers[a.name] for a in order])

    def body(r: Routine) -> None:
        with r.when(r.test("eq", "ptr", "%to", "null")):
            g.fail(r, "NULL_ARGUMENT")
        with r.when(r.test("ult", "i64", "%bytes", i.saved_bytes)):
            g.fail(r, "BAD_SIZE", f"{i.saved_bytes} bytes are needed")
        owner = _read_locked(g, r)
        r.copy("%to", f"@{g.prefix}.saved_header", len(head))
        at = r.variable("ptr", r.at("%to", len(head)))
        with r.each(len(order)) as k:
            number = r.word(queue, k)
            size = r.word(_row(g, r, number), _BYTES)
            source = r.load("ptr", r.element(r.at(owner, g.fields["variables"]), number))
            here = r.load("ptr", at)
            r.copy(here, source, size)
            r.store("ptr", r.at(here, size), at)
        g.call(r, "void", "read_unlock", f"ptr {owner}")
        r.ret("i32", 0)

    g.guarded("save_state", ["ptr %to", "i64 %bytes"], body)
