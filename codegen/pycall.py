"""The fast call from Python as LLVM IR text: NumPy arrays in, a filled frame and a native run out.

The module defines

    ptr fm_pycall(ptr self, ptr args, i64 nargs)
        A CPython METH_FASTCALL function. `self` is a NumPy array that holds a *plan* (below). It
        checks every argument against the plan, writes data addresses and dimensions into the
        plan's frame, calls the plan's native entry `i32 entry(ptr frame)` and returns its status
        as a Python int. It never raises and never blocks. MISMATCH (-1): an argument does not fit,
        nothing ran, the slow path can tell the user why. IN_USE (-2): the frame belongs to another
        call at this moment, nothing ran.
    i32 fm_pycall_claim(ptr guard)      1 if the caller now owns the frame behind this guard
    void fm_pycall_release(ptr guard)   gives it back

One function serves every program, and the module has no undefined symbol: the three functions of
CPython it needs come by address in the plan. Fields of NumPy arrays are read at the offsets that
every extension module compiled against NumPy has built in; `runtime/fastcall.py` compares them with
the running interpreter before it makes a callable. Reading fields costs 5 ns per argument, the
buffer protocol 100 ns. Arguments are borrowed from the caller, who holds them during the call.

A plan is 8-byte words. Header, then for each argument one record followed by its dimensions:

    header      count, frame, entry, guard, ndarray type, PyLong_FromLong,
                PyEval_SaveThread (0: keep the GIL), PyEval_RestoreThread
    argument    scalar type, byte order, flags that must be set, rank, frame offset of the address,
                bytes of an element; then two words that a call fills: first byte, end
    dimension   kind (FIXED, BIND, MATCH), frame offset, least, greatest, multiple

A dimension must lie in least..greatest. BIND stores it in the frame if it is a multiple of
`multiple`; MATCH compares it with what an earlier BIND of this call stored. What must be writable
must share no byte with an argument before it.
"""

from __future__ import annotations

import re

MISMATCH = -1
IN_USE = -2

HEADER_WORDS = 8
ARGUMENT_WORDS = 8
DIMENSION_WORDS = 5
FIXED, BIND, MATCH = 0, 1, 2

# Byte offsets in CPython's and NumPy's objects (64-bit, with GIL).
OBJECT_TYPE = 8
ARRAY_DATA = 16
ARRAY_RANK = 24
ARRAY_SHAPE = 32
ARRAY_DTYPE = 56
ARRAY_FLAGS = 64
WRITEABLE = 0x400  # among the flags
DTYPE_SCALAR = 16
DTYPE_ORDER = 26

# `%x = at TYPE %base NAME` loads the field NAME of the object %base.
_FIELDS = {
    "TYPE": OBJECT_TYPE,
    "DATA": ARRAY_DATA,
    "RANK": ARRAY_RANK,
    "SHAPE": ARRAY_SHAPE,
    "DTYPE": ARRAY_DTYPE,
    "FLAGS": ARRAY_FLAGS,
    "SCALAR": DTYPE_SCALAR,
    "ORDER": DTYPE_ORDER,
}

_TEXT = """
define i32 @fm_pycall_claim(ptr %guard) nounwind {
  %x = cmpxchg ptr %guard, i32 0, i32 1 acquire monotonic, align 4
  %won = extractvalue {i32, i1} %x, 1
  %r = zext i1 %won to i32
  ret i32 %r
}
define void @fm_pycall_release(ptr %guard) nounwind {
  store atomic i32 0, ptr %guard release, align 4
  ret void
}
define ptr @fm_pycall(ptr %self, ptr %args, i64 %given) nounwind {
entry:
  %plan = at ptr %self DATA
  %count = at i64 %plan 0
  %frame = at ptr %plan 8
  %guard = at ptr %plan 24
  %ndarray = at ptr %plan 32
  %from_long = at ptr %plan 40
  %enough = icmp eq i64 %given, %count
  br i1 %enough, label %claim, label %answer
claim:
  %owned = call i32 @fm_pycall_claim(ptr %guard)
  %ours = icmp ne i32 %owned, 0
  br i1 %ours, label %begin, label %answer
begin:
  %first = getelementptr i64, ptr %plan, i64 <HEADER>
  br label %argument

argument:
  %i = phi i64 [0, %begin], [%i1, %accept]
  %record = phi ptr [%first, %begin], [%dim, %accept]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %look, label %run
look:                       ; only an exact ndarray has its fields where we look for them
  %slot = getelementptr ptr, ptr %args, i64 %i
  %array = load ptr, ptr %slot, align 8
  %type = at ptr %array TYPE
  %is_array = icmp eq ptr %type, %ndarray
  br i1 %is_array, label %check, label %release
check:
  %dtype = at ptr %array DTYPE
  %scalar = at ptr %dtype SCALAR
  %order = at i8 %dtype ORDER
  %flags = at i32 %array FLAGS
  %rank = at i32 %array RANK
  %want_scalar = at ptr %record 0
  %want_order = at i8 %record 8
  %want_flags = at i32 %record 16
  %want_rank = at i32 %record 24
  %offset = at i64 %record 32
  %set = and i32 %flags, %want_flags
  %good_scalar = icmp eq ptr %scalar, %want_scalar
  %good_order = icmp eq i8 %order, %want_order
  %good_flags = icmp eq i32 %set, %want_flags
  %good_rank = icmp eq i32 %rank, %want_rank
  %good_1 = and i1 %good_scalar, %good_order
  %good_2 = and i1 %good_flags, %good_rank
  %good = and i1 %good_1, %good_2
  br i1 %good, label %store, label %release
store:
  %data = at ptr %array DATA
  %shape = at ptr %array SHAPE
  %element = at i64 %record 40
  %where = getelementptr i8, ptr %frame, i64 %offset
  store ptr %data, ptr %where, align 8
  %dims = getelementptr i64, ptr %record, i64 <ARGUMENT>
  br label %dimension

dimension:
  %d = phi i32 [0, %store], [%d1, %next]
  %dim = phi ptr [%dims, %store], [%after, %next]
  %size_at = phi ptr [%shape, %store], [%size_after, %next]
  %bytes = phi i64 [%element, %store], [%more_bytes, %next]
  %left = icmp slt i32 %d, %rank
  br i1 %left, label %range, label %fits
range:
  %size = load i64, ptr %size_at, align 8
  %kind = at i64 %dim 0
  %home = at i64 %dim 8
  %least = at i64 %dim 16
  %greatest = at i64 %dim 24
  %low = icmp sge i64 %size, %least
  %high = icmp sle i64 %size, %greatest
  %within = and i1 %low, %high
  %word = getelementptr i8, ptr %frame, i64 %home
  %more_bytes = mul i64 %bytes, %size
  br i1 %within, label %symbol, label %release
symbol:
  switch i64 %kind, label %next [i64 <BIND>, label %bind i64 <MATCH>, label %match]
bind:
  store i64 %size, ptr %word, align 8
  %multiple = at i64 %dim 32
  %any = icmp eq i64 %multiple, 1
  br i1 %any, label %next, label %divide
divide:
  %rest = urem i64 %size, %multiple
  %divides = icmp eq i64 %rest, 0
  br i1 %divides, label %next, label %release
match:
  %bound = load i64, ptr %word, align 8
  %same = icmp eq i64 %size, %bound
  br i1 %same, label %next, label %release
next:
  %d1 = add i32 %d, 1
  %after = getelementptr i64, ptr %dim, i64 <DIMENSION>
  %size_after = getelementptr i64, ptr %size_at, i64 1
  br label %dimension
fits:
  %start = ptrtoint ptr %data to i64
  %end = add i64 %start, %bytes
  %start_at = getelementptr i8, ptr %record, i64 48
  %end_at = getelementptr i8, ptr %record, i64 56
  store i64 %start, ptr %start_at, align 8
  store i64 %end, ptr %end_at, align 8
  %writable = and i32 %want_flags, <WRITEABLE>
  %written = icmp ne i32 %writable, 0
  br i1 %written, label %earlier, label %accept
earlier:                    ; what is written lies apart from every argument before it
  %other = phi ptr [%first, %fits], [%following, %compare]
  %compared = icmp eq ptr %other, %record
  br i1 %compared, label %accept, label %compare
compare:
  %other_rank = at i64 %other 24
  %other_start = at i64 %other 48
  %other_end = at i64 %other 56
  %below = icmp ule i64 %end, %other_start
  %above = icmp uge i64 %start, %other_end
  %apart = or i1 %below, %above
  %dim_words = mul i64 %other_rank, <DIMENSION>
  %words = add i64 %dim_words, <ARGUMENT>
  %following = getelementptr i64, ptr %other, i64 %words
  br i1 %apart, label %earlier, label %release
accept:
  %i1 = add i64 %i, 1
  br label %argument

run:
  %native = at ptr %plan 16
  %save = at ptr %plan 48
  %restore = at ptr %plan 56
  %keep = icmp eq ptr %save, null
  br i1 %keep, label %short, label %long
short:
  %status_short = call i32 %native(ptr %frame)
  br label %release
long:
  %thread = call ptr %save()
  %status_long = call i32 %native(ptr %frame)
  call void %restore(ptr %thread)
  br label %release
release:
  %result = phi i32 [<MISMATCH>, %look], [<MISMATCH>, %check], [<MISMATCH>, %range],
                    [<MISMATCH>, %divide], [<MISMATCH>, %match], [<MISMATCH>, %compare],
                    [%status_short, %short], [%status_long, %long]
  call void @fm_pycall_release(ptr %guard)
  br label %answer
answer:
  %status = phi i32 [<MISMATCH>, %entry], [<IN_USE>, %claim], [%result, %release]
  %status64 = sext i32 %status to i64
  %object = call ptr %from_long(i64 %status64)
  ret ptr %object
}
"""


def pycall_ir() -> str:
    """The module's text, without target lines: the same for every 64-bit target."""
    numbers = {
        "HEADER": HEADER_WORDS,
        "ARGUMENT": ARGUMENT_WORDS,
        "DIMENSION": DIMENSION_WORDS,
        "BIND": BIND,
        "MATCH": MATCH,
        "MISMATCH": MISMATCH,
        "IN_USE": IN_USE,
        "WRITEABLE": WRITEABLE,
    }
    text = re.sub(r"<([A-Z_]+)>", lambda m: str(numbers[m[1]]), _TEXT)
    return re.sub(r"%(\w+) = at (\w+) %(\w+) (\w+)", _load, text)


def _load(m: re.Match[str]) -> str:
    name, type_, base, field = m.groups()
    offset = _FIELDS[field] if field in _FIELDS else int(field)
    align = {"i8": 1, "i32": 4, "i64": 8, "ptr": 8}[type_]
    return (
        f"%{name}.at = getelementptr i8, ptr %{base}, i64 {offset}\n"
        f"  %{name} = load {type_}, ptr %{name}.at, align {align}"
    )
