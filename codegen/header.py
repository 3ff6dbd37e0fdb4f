"""The C99 header of an exported library, valid C++ as well."""

from __future__ import annotations

from ..dims import Dim, show
from ..dtypes import ALL
from .interface import (
    ABI,
    CODES,
    CONTEXT_ALIGN,
    DTYPE_CODES,
    OPTIONS,
    Entry,
    Field,
    Interface,
    c_type,
    unique,
)
from .kernel.frame import TOLD
from .kernel.program import Array
from .weights_image import nbytes


def header_text(i: Interface, summary: str) -> str:
    """The header. `summary`: a line on what the library was compiled for."""
    p, up = i.name, i.name.upper()
    parts = [
        _OPENING.format(p=p, P=up, summary=summary, abi=ABI, signature=i.signature,
                        align=CONTEXT_ALIGN),
        _codes(i), _dtypes(i), _dims(i), _options(i), _LIFE.format(p=p, P=up),
        *(_entry(i, e) for e in i.entries),
        _variables(i), _STATE.format(p=p, P=up), _groups(i),
        _TABLES.format(p=p, P=up, rank=i.max_rank), _CLOSING.format(P=up),
    ]  # fmt: skip
    return "\n".join(parts)


_OPENING = """/* {p}: a neural network compiled by flowmill. {summary}
 *
 * Linking   -l{p}; the library needs libc and nothing else.
 * Errors    Every function that returns int32_t gives {P}_OK (0) or a code below; {p}_last_error
 *           says more. After a failure variables are as they were before the call; output arrays
 *           may have been written to.
 * Memory    Nothing is allocated and no thread is started during a run once the context has its
 *           memory: see {p}_options. Arrays belong to the caller, are dense in row-major order,
 *           must be aligned to their elements, and outputs must not overlap anything else.
 * Threads   Any number of contexts may run at the same time. One context runs one call at a time: a
 *           second thread gets {P}_BUSY. Results have the same bits for any number of threads.
 */
#ifndef {P}_H
#define {P}_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

#define {P}_ABI {abi}
#define {P}_SIGNATURE UINT64_C({signature:#x}) /* of every struct below; checked by {p}_init */

/* A network with its memory; opaque. Give {p}_init a block of {p}_context_bytes() bytes that starts
 * at a multiple of {align} bytes (what malloc gives does). */
typedef struct {p}_context {p}_context;

/* One part of a parallel loop, and who runs all parts 0..parts-1, in any order, on any threads,
 * and returns when they are done. */
typedef void (*{p}_part)(void *argument, int32_t part, int32_t parts);
typedef void (*{p}_parallel_for)(void *user, {p}_part function, void *argument, int32_t parts);
"""

_LIFE = """/* Sizes to plan memory with; constants of this library. */
uint64_t {p}_context_bytes(void);
uint64_t {p}_state_bytes(void);

/* Bytes of arena that the largest of the functions needs; 0 where a dimension is not allowed. */
uint64_t {p}_arena_bytes(const {p}_dims *dims);

/* Makes `context`, memory the caller provides, ready. `options` may be NULL: one thread, memory
 * from the system. On failure nothing is held; {p}_last_error(context) may be asked. Close a
 * context before it is initialised again. */
int32_t {p}_init({p}_context *context, const {p}_options *options);

/* Gives back what {p}_init took from the system. A context whose state others share closes last. */
int32_t {p}_close({p}_context *context);

/* The meaning of a code; a text that lives as long as the library. */
const char *{p}_error_text(int32_t code);

/* What went wrong in the last call that failed on this context, with names, the index, and the
 * line of the model's source. Lives in the context; the next failure overwrites it. {P}_BUSY may
 * leave it as it is. */
const char *{p}_last_error(const {p}_context *context);
"""

_STATE = """/* Copies a variable out or in. `bytes` must be its exact size. Values that were prepared
 * from it are renewed by the next run. */
int32_t {p}_get_variable({p}_context *context, int32_t variable, void *to, uint64_t bytes);
int32_t {p}_set_variable({p}_context *context, int32_t variable, const void *from, uint64_t bytes);

/* The number of the variable of that name, or -1. */
int32_t {p}_find_variable(const char *name);

/* All variables as one safetensors image of {p}_saved_bytes() bytes. {p}_load_state takes any such
 * image of this model, e.g. a file that Session.save wrote; it checks all of it before it changes
 * anything, and keeps no pointer to it. */
uint64_t {p}_saved_bytes(void);
int32_t {p}_save_state({p}_context *context, void *to, uint64_t bytes);
int32_t {p}_load_state({p}_context *context, const void *from, uint64_t bytes);

/* Variables as they were after {p}_init. */
int32_t {p}_reset({p}_context *context);
"""

_TABLES = """/* What there is, for programs that do not know the model. A dimension known only at a run
 * is -1. */
#define {P}_MAX_RANK {rank}
typedef struct {p}_tensor {{
    const char *name;
    int64_t dtype; /* {P}_FLOAT32, ... */
    int64_t rank;
    int64_t shape[{P}_MAX_RANK];
}} {p}_tensor;
int32_t {p}_tensor_count(int32_t group); /* -1: no such group */
int32_t {p}_tensor_info(int32_t group, int32_t index, {p}_tensor *out);

/* Everything about the library as JSON. */
const char *{p}_manifest_text(void);
"""

_CLOSING = """#ifdef __cplusplus
}}
#endif

#endif /* {P}_H */
"""


def _codes(i: Interface) -> str:
    up = i.name.upper()
    rows = [f"    {up}_{name} = {k}, /* {text} */" for k, (name, text) in enumerate(CODES)]
    return "enum {\n" + "\n".join(_last_without_comma(rows)) + "\n};\n"


def _last_without_comma(rows: list[str]) -> list[str]:
    return [*rows[:-1], rows[-1].replace(", /*", " /*", 1)]


def _dtypes(i: Interface) -> str:
    names = [f"{i.name.upper()}_{d.name.upper()} = {DTYPE_CODES[d.short]}" for d in ALL]
    return "enum {\n    " + ",\n    ".join(names) + "\n};\n"


def _dims(i: Interface) -> str:
    rows = []
    for name, s in zip(i.dim_names, i.dims):
        limit = f"{s.lo}" + (" or more" if s.hi is None else f" to {s.hi}")
        if s.multiple > 1:
            limit += f", a multiple of {s.multiple}"
        rows.append(f"    int64_t {name}; /* {limit} */")
    rows = rows or ["    int64_t none; /* this model has no dimensions that vary; leave it 0 */"]
    return (f"/* The dimensions that vary from run to run. */\ntypedef struct {i.name}_dims {{\n"
            + "\n".join(rows) + f"\n}} {i.name}_dims;\n")  # fmt: skip


_OPTION_TEXT = {
    "signature": "{P}_SIGNATURE: use {P}_OPTIONS",
    "threads": "0 or 1: the caller's only. More: the caller's and, unless parallel_for is given, "
               "threads of the library's own pool, started here and shared by its contexts",
    "parallel_for": "NULL: the library's pool. Called once per parallel step",
    "user": "passed to parallel_for",
    "arena": "scratch memory for runs, at a multiple of 64 bytes; its contents need not be kept "
             "between runs. NULL: mapped here for `largest`, or by the first run that needs more",
    "arena_bytes": "at least {p}_arena_bytes(dims) for every run's dims",
    "state": "memory for the variables, at a multiple of 64 bytes, the library's until close. "
             "NULL: mapped here",
    "state_bytes": "at least {p}_state_bytes()",
    "weights": "the weights as a safetensors image, which must stay as long as the context. NULL: "
               "those of weights_path, or those inside the library",
    "weights_bytes": "of that image",
    "weights_path": "a file with the weights, mapped and never copied where they do not change",
    "share": "another context whose variables this one is to use: one copy for many contexts. It "
             "can run what does not change variables, at the same time as others",
    "largest": "dimensions to map the arena for; 0: not known yet",
}  # fmt: skip


def _options(i: Interface) -> str:
    p, up = i.name, i.name.upper()
    rows = []
    for name, kind in (*OPTIONS, ("largest", "{p}_dims")):
        declared = kind.format(p=p)
        gap = "" if declared.endswith("*") else " "
        rows += _comment("    ", _OPTION_TEXT[name].format(p=p, P=up))
        rows.append(f"    {declared}{gap}{name};")
    zeros = ", ".join(["0"] * (len(OPTIONS) - 1) + ["{0%s}" % (", 0" * (len(i.dims) - 1))])
    return (f"/* How a context gets threads and memory. Begin with\n *     {p}_options options = "
            f"{up}_OPTIONS;\n */\ntypedef struct {p}_options {{\n" + "\n".join(rows) +
            f"\n}} {p}_options;\n#define {up}_OPTIONS {{ {up}_SIGNATURE, {zeros} }}\n")  # fmt: skip


def _comment(indent: str, text: str) -> list[str]:
    """A C comment in lines of at most 100 characters."""
    words = text.split()
    lines, line = [], ""
    for w in words:
        if line and len(indent) + 6 + len(line) + 1 + len(w) > 100:
            lines.append(line)
            line = w
        else:
            line = f"{line} {w}" if line else w
    lines.append(line)
    out = [f"{indent}/* {lines[0]}"]
    out += [f"{indent} * {x}" for x in lines[1:]]
    out[-1] += " */"
    return out


def _shape(a: Array) -> str:
    return _dims_text(a.shape)


def _dims_text(shape: tuple[Dim, ...]) -> str:
    return "[" + ", ".join(show(d) for d in shape) + "]"


def _quoted(name: str) -> str:
    """A user's name inside a comment, which it must not end."""
    return '"' + name.replace("*/", "* /").replace("/*", "/ *").replace("\\", "/") + '"'


def _declared(f: Field) -> str:
    """A field of an argument struct with what it points to."""
    a = f.array
    if a is None:
        return f"    int64_t {f.name};"
    kind = c_type(a.dtype)
    if a.name.startswith(TOLD):
        return f"    {kind} *{f.name}; /* what {a.name.removeprefix(TOLD)} is, set by the run */"
    as_text = "" if a.dtype.name == kind.removesuffix("_t") else f"{a.dtype.name} "
    name = "" if f.name == a.name else f" {_quoted(a.name)}"
    room = "" if f.room == a.shape else f", in memory for {_dims_text(f.room)}"
    constant = "" if f.written else "const "
    return f"    {constant}{kind} *{f.name}; /* {as_text}{_shape(a)}{room}{name} */"


def _entry(i: Interface, e: Entry) -> str:
    p = i.name
    rows = [_declared(f) for f in e.fields] or ["    int64_t none; /* leave it 0 */"]
    changes = [i.variables[k].name for k in e.program.written]
    does = "Changes no variables." if not changes else f"Changes {len(changes)} variables: " + (
        ", ".join(_quoted(c) for c in changes[:8]) + (", ..." if len(changes) > 8 else "") + ".")  # fmt: skip
    return (f"typedef struct {p}_{e.name}_args {{\n" + "\n".join(rows) +
            f"\n}} {p}_{e.name}_args;\n" +
            "\n".join(_comment("", f"{does} No pointer may be NULL.")) +
            f"\nint32_t {p}_{e.name}({p}_context *context, const {p}_{e.name}_args *args);\n"
            f"uint64_t {p}_{e.name}_arena_bytes(const {p}_dims *dims);\n")  # fmt: skip


def _variables(i: Interface) -> str:
    up = i.name.upper()
    names = unique(["COUNT", *(a.name for a in i.variables)])[1:]
    rows = [f'    {up}_VARIABLE_{n} = {k}, /* {_quoted(a.name)} {a.dtype}{_shape(a)}, '
            f"{nbytes(a)} bytes */"
            for k, (n, a) in enumerate(zip(names, i.variables))]  # fmt: skip
    rows.append(f"    {up}_VARIABLE_COUNT = {len(rows)}")
    return "enum {\n" + "\n".join(rows) + "\n};\n"


def _groups(i: Interface) -> str:
    up = i.name.upper()
    rows = [f"    {up}_{name} = {k}" for k, (name, _) in enumerate(i.groups)]
    return "/* Groups of tensors. */\nenum {\n" + ",\n".join(rows) + "\n};\n"
