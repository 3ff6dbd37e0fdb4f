"""From a function to a compiled program: found in the cache, or compiled, linked and kept there.

In: a `Function`, a target and a level. Out: a cache entry, shared object and manifest. The only
place that loads the compiler; a cache hit does not.
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING

from .. import config
from ..errors import UserError
from ..graph.ir import Function
from ..graph.printer import constants_in, every_node, show
from ..target import Target
from . import cache, native
from .manifest import Manifest

if TYPE_CHECKING:
    from ..compiler import Compiled, Watch


def key(function: Function, target: Target, level: int) -> str:
    """The name of the cache entry of a function."""
    checked = config.setting("check_bounds")
    return cache.key(show(function), repr(target), str(level), checked, _foreign_ops(function))


def _foreign_ops(function: Function) -> str:
    """A digest of what defines the ops that are not flowmill's own: another when they change."""
    own = __name__.partition(".")[0] + "."
    classes = {type(n.op) for n in every_node(function)}
    bases = {b for c in classes if not c.__module__.startswith(own) for b in c.__mro__}
    foreign = sorted((b for b in bases if not f"{b.__module__}.".startswith(("builtins.", own))),
                     key=lambda b: (b.__module__, b.__qualname__))  # fmt: skip
    digest = hashlib.blake2b(digest_size=16)
    for b in foreign:
        digest.update(f"{b.__module__}.{b.__qualname__}".encode())
        file = getattr(sys.modules.get(b.__module__), "__file__", None)
        if file and Path(file).is_file():
            digest.update(Path(file).read_bytes())
        for name, member in sorted(vars(b).items()):
            code = getattr(member, "__code__", None)
            cells = [c.cell_contents for c in getattr(member, "__closure__", None) or ()]
            what = member if code is None else (cells, getattr(member, "__defaults__", None))
            digest.update(re.sub(r" at 0x[0-9a-f]+", "", f"{name} {what!r}").encode())
            digest.update(b"" if code is None else _code(code))
    return digest.hexdigest() if foreign else ""


def _code(code: CodeType) -> bytes:
    """The bytes that say what a function does."""
    inner = b"".join(_code(c) for c in code.co_consts if isinstance(c, CodeType))
    plain = [c for c in code.co_consts if not isinstance(c, CodeType)]
    return code.co_code + repr((plain, code.co_names, code.co_varnames)).encode() + inner


def entry(function: Function, target: Target, level: int) -> cache.Entry:
    """The compiled function, from the cache or made now: always now where settings ask to see how."""
    name = key(function, target, level)
    found = None if shown() else cache.fetch(name)
    return found or store(name, compiled(function, target, level), target)


def shown() -> bool:
    """Whether settings ask for what only a compilation can show."""
    return bool(config.setting("dump")) or config.integer("debug") not in (0, 2)


def compiled(
    function: Function, target: Target, level: int, watch: Watch | None = None
) -> Compiled:
    """Every stage of a compilation. `watch` sees them, and FLOWMILL_DEBUG and FLOWMILL_DUMP do.

    Where flowmill itself fails, a reproducer is saved and the error says how to replay it.
    """
    from ..compiler import compile_function
    from .trace import joined, tracer

    try:
        return compile_function(function, target, level, joined(watch, tracer(function.name)))
    except UserError:
        raise
    except Exception as e:
        from .reproducer import reported

        raise reported(e, function, target, level) from e


def store(name: str, made: Compiled, target: Target) -> cache.Entry:
    """Generates code for what was compiled, links it and keeps it in the cache under `name`."""
    from ..codegen.elf import link_shared
    from ..codegen.objects import object_codes
    from ..codegen.program import emit_module, emit_modules
    from .reproducer import reported
    from .trace import tracer

    program = made.program
    try:
        watch = tracer(program.name)
        if watch:
            watch("llvm", (emit_module([program], target), target))
        code = object_codes(emit_modules(program, target), target)
        library = link_shared(code, soname=f"lib{program.name}.so",
                              exports=native.exports_of([program.name]))  # fmt: skip
    except UserError:
        raise
    except Exception as e:
        raise reported(e, made.source, target, made.level) from e
    given = constants_in(made.source)
    constants = {d: a for d, a in made.constants().items() if d not in given}
    return cache.store(name, library, Manifest.of(program, constants).text())
