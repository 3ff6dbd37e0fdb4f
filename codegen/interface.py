"""The C interface of an exported library as data: what the header declares and the code obeys.

In: merged programs and their names. Out: an `Interface` with C identifiers, struct layouts, error
codes and sizes. Every argument, option and dimension is one 8-byte word, so that a struct's layout
is its list of fields.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property

from ..dims import Dim, Sym, as_sym, show
from ..dtypes import ALL, DType
from ..errors import ExportError
from .kernel.frame import ARGUMENTS
from .kernel.program import Array, Program
from .weights_image import header, in_order, nbytes

ABI = 1  # of the interface's shape; a change that breaks callers makes a new number
CONTEXT_ALIGN, MEMORY_ALIGN = 16, 64
TEXT_BYTES = 512
LARGEST = 1 << 62  # of any dimension or size

# name, meaning. The position is the code.
CODES = (
    ("OK", "success"),
    ("NULL_ARGUMENT", "a pointer is NULL"),
    ("BAD_CONTEXT", "the context was not initialised"),
    ("BAD_HEADER", "the program was compiled with the header of another export"),
    ("BAD_OPTION", "an option has a value that is not allowed"),
    ("BAD_DIMENSION", "a dimension is out of its bounds"),
    ("BAD_SIZE", "a buffer has the wrong number of bytes"),
    ("MISALIGNED", "a pointer is not aligned as the header asks"),
    ("ARENA_TOO_SMALL", "the arena is too small for these dimensions"),
    ("ARENA_MISALIGNED", "the arena does not start at a multiple of 64 bytes"),
    ("STATE_TOO_SMALL", "the state memory is too small"),
    ("NO_MEMORY", "the system gives no memory"),
    ("NO_WEIGHTS", "the weights are not in the library: set options.weights or weights_path"),
    ("BAD_STATE", "not a safetensors image of this model"),
    ("NOT_FOUND", "there is nothing of that name or number"),
    ("BUSY", "the context or its state is in use by another thread"),
    ("SHARED_STATE", "this context borrows its state: only the owner may change it"),
    ("FILE_ERROR", "the file cannot be read"),
    ("UNSUPPORTED_CPU", "the library was compiled for a newer CPU than this one"),
    ("INDEX_RANGE", "index out of range"),
    ("ZERO_DIVISION", "integer division by zero"),
    ("CHECK_FAILED", "check failed"),
    ("SIZE_RANGE", "a size that the run computed is out of range"),
)  # fmt: skip
CODE = {name: k for k, (name, _) in enumerate(CODES)}
SITE_CODES = {"index": "INDEX_RANGE", "zero_division": "ZERO_DIVISION", "check": "CHECK_FAILED",
              "size": "SIZE_RANGE", "require": "SIZE_RANGE"}  # fmt: skip

# name, C type, for every option but `largest`, which follows them.
OPTIONS = (
    ("signature", "uint64_t"), ("threads", "int64_t"), ("parallel_for", "{p}_parallel_for"),
    ("user", "void *"), ("arena", "void *"), ("arena_bytes", "uint64_t"), ("state", "void *"),
    ("state_bytes", "uint64_t"), ("weights", "const void *"), ("weights_bytes", "uint64_t"),
    ("weights_path", "const char *"), ("share", "{p}_context *"),
)  # fmt: skip
OPTION = {name: 8 * k for k, (name, _) in enumerate(OPTIONS)}
OPTION["largest"] = 8 * len(OPTIONS)

# What every library has, and the names that functions of a model cannot have.
_PUBLIC = """
context_bytes arena_bytes state_bytes saved_bytes init close reset get_variable set_variable
find_variable save_state load_state error_text last_error tensor_count tensor_info manifest
manifest_text
"""
FUNCTIONS = tuple(_PUBLIC.split())
RESERVED = frozenset((*FUNCTIONS, "context", "dims", "options", "parallel_for", "part", "strings",
                      "tensor", "weights"))  # fmt: skip
_C_TYPES = {"b8": "uint8_t", "f16": "uint16_t", "bf16": "uint16_t", "f32": "float",
            "f64": "double"}  # fmt: skip
_C_AND_CPP = """
alignas alignof and asm auto bitand bitor bool break case catch char class compl const constexpr
continue decltype default delete do double else enum explicit export extern false float for friend
goto if inline int long mutable namespace new noexcept not nullptr operator or private protected
public register restrict return short signed sizeof static struct switch template this throw true
try typedef typeid typename union unsigned using virtual void volatile while xor
"""
_KEYWORDS = frozenset(_C_AND_CPP.split())
DTYPE_CODES = {d.short: k + 1 for k, d in enumerate(ALL)}


def c_type(dtype: DType) -> str:
    """The C type of an element; the 16-bit floats travel as their bits."""
    known = _C_TYPES.get(dtype.short)
    return known or f"{'u' if dtype.kind == 'u' else ''}int{dtype.bits}_t"


def identifier(name: str) -> str:
    """`name` as a C identifier."""
    out = re.sub(r"[^A-Za-z0-9_]", "_", name)
    if not out or out[0].isdigit():
        out = "_" + out
    return out + "_" if out in _KEYWORDS else out


def unique(names: list[str]) -> list[str]:
    """Distinct identifiers for names, in order."""
    taken: set[str] = set()
    out = []
    for name in names:
        made, k = identifier(name), 2
        while made in taken:
            made, k = f"{identifier(name)}_{k}", k + 1
        taken.add(made)
        out.append(made)
    return out


@dataclass(frozen=True)
class Field:
    """A word of an argument struct: a dimension or a pointer to an array, with `room` for the largest
    it can become."""

    name: str
    array: Array | None
    written: bool
    room: tuple[Dim, ...] = ()


@dataclass(frozen=True)
class Entry:
    """A function of the library."""

    name: str
    number: int
    program: Program
    prepared_at: int  # offset in the state memory

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """The words of its argument struct: dimensions, inputs, outputs."""
        p = self.program
        arrays = [*((a, False) for a in p.inputs), *((a, True) for a in p.outputs)]
        names = unique([*(as_sym(d).name for d in p.dims), *(a.name for a, _ in arrays)])
        kinds: list[tuple[Array | None, bool]] = [*((None, False) for _ in p.dims), *arrays]
        return tuple(Field(n, a, w, () if a is None else p.largest(a))
                     for n, (a, w) in zip(names, kinds))  # fmt: skip

    @property
    def frame_words(self) -> int:
        p = self.program
        return ARGUMENTS // 8 + len(p.inputs) + len(p.outputs) + len(p.dims) + len(p.computed)


@dataclass(frozen=True)
class Interface:
    """See the module docstring. `constants` are arrays named as an image names them."""

    name: str
    programs: tuple[tuple[str, Program], ...]
    variables: tuple[Array, ...]
    constants: tuple[Array, ...]
    manifest: str
    embedded: int  # bytes of the image inside; 0: none

    def __post_init__(self) -> None:
        for name, _ in self.programs:
            if name in RESERVED or not name.isidentifier() or not name.isascii():
                raise ExportError(f"a function of a library cannot be called {name!r}",
                                  "it would collide with the C interface")  # fmt: skip
        taken: set[str] = set()
        for name, _ in self.programs:
            mine = {name.lower(), f"{name}_args".lower(), f"{name}_arena_bytes".lower()}
            if taken & mine:
                raise ExportError(f"the function {name!r} collides with another in C",
                                  "names must differ in more than case, and not end in _args")  # fmt: skip
            taken |= mine
        if len(self.programs) > 63:
            raise ExportError(f"{len(self.programs)} functions: a library has at most 63")

    # --- functions and dimensions -----------------------------------------------------------

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        at = self.slots_end
        out = []
        for k, (name, p) in enumerate(self.programs):
            out.append(Entry(name, k, p, at))
            at += _up(p.prepared_bytes)
        return tuple(out)

    @cached_property
    def dims(self) -> tuple[Sym, ...]:
        """The dimensions of all functions."""
        found = {as_sym(d).name: as_sym(d) for _, p in self.programs for d in p.dims}
        return tuple(found[k] for k in sorted(found))

    @cached_property
    def dim_names(self) -> list[str]:
        return unique([s.name for s in self.dims])

    # --- state ------------------------------------------------------------------------------

    @cached_property
    def slots(self) -> tuple[int, ...]:
        """Where each variable lies in the state memory."""
        out, at = [], 0
        for a in self.variables:
            out.append(at)
            at += _up(nbytes(a))
        return tuple(out)

    @property
    def slots_end(self) -> int:
        return self.slots[-1] + _up(nbytes(self.variables[-1])) if self.slots else 0

    @property
    def state_bytes(self) -> int:
        """Variables, then the values prepared from them."""
        return self.slots_end + sum(_up(p.prepared_bytes) for _, p in self.programs)

    @cached_property
    def written(self) -> frozenset[int]:
        """Numbers of the variables that some function changes."""
        return frozenset(k for _, p in self.programs for k in p.written)

    def stale_after(self, changed: frozenset[int]) -> int:
        """Functions whose prepared values a change of these variables outdates, as bits."""
        return sum(1 << e.number for e in self.entries
                   if e.program.prepare and changed & set(e.program.prepared_from))  # fmt: skip

    @property
    def prepares(self) -> int:
        """Functions that have prepared values, as bits."""
        return sum(1 << e.number for e in self.entries if e.program.prepare)

    @cached_property
    def saved(self) -> tuple[list[Array], bytes]:
        """What `save_state` writes: the variables in order, and the header before them."""
        order = in_order(self.variables)
        return order, header(order)

    @property
    def saved_bytes(self) -> int:
        return len(self.saved[1]) + sum(nbytes(a) for a in self.variables)

    # --- names and figures for the header -----------------------------------------------------

    @cached_property
    def groups(self) -> tuple[tuple[str, tuple[Array, ...]], ...]:
        """The tables of `tensor_info`."""
        out: list[tuple[str, tuple[Array, ...]]] = [("VARIABLES", self.variables)]
        for name, p in self.programs:
            out += [(f"{name.upper()}_INPUTS", p.inputs), (f"{name.upper()}_OUTPUTS", p.outputs)]
        return tuple(out)

    @cached_property
    def max_rank(self) -> int:
        return max(8, *(len(a.shape) for _, group in self.groups for a in group))

    @cached_property
    def signature(self) -> int:
        """What a program and the library must agree on: the layout of every struct."""
        text = [str(ABI), self.name, repr(OPTIONS), repr(self.dim_names), str(self.max_rank)]
        for e in self.entries:
            text.append(e.name)
            for f in e.fields:
                kind = "" if f.array is None else f"{f.array.dtype.short}{f.written}" + ",".join(
                    show(d) for d in f.array.shape)  # fmt: skip
                text.append(f"{f.name}:{kind}")
        text += [f"{a.name}:{a.dtype.short}:{a.shape}" for a in self.variables]
        digest = hashlib.blake2b("\n".join(text).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") | 1


def _up(n: int) -> int:
    return -(-n // MEMORY_ALIGN) * MEMORY_ALIGN
