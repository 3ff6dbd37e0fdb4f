"""From a function to a compiled program: found in the cache, or compiled, linked and kept there.

In: a `Function`, a target and a level. Out: a cache entry, shared object and manifest. The only
place that loads the compiler; a cache hit does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import config
from ..errors import UserError
from ..graph.ir import Function
from ..graph.ops.source import Constant
from ..graph.printer import show
from ..target import Target
from . import cache, native
from .manifest import Manifest

if TYPE_CHECKING:
    from ..compiler import Compiled, Watch


def key(function: Function, target: Target, level: int) -> str:
    """The name of the cache entry of a function."""
    return cache.key(show(function), repr(target), str(level))


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
    from ..codegen.objects import object_code
    from ..codegen.program import emit_module
    from .reproducer import reported
    from .trace import tracer

    program = made.program
    try:
        text = emit_module([program], target)
        watch = tracer(program.name)
        if watch:
            watch("llvm", (text, target))
        code = object_code(text, target)
        library = link_shared(code, soname=f"lib{program.name}.so",
                              exports=native.exports_of([program.name]))  # fmt: skip
    except UserError:
        raise
    except Exception as e:
        raise reported(e, made.source, target, made.level) from e
    given = {n.op.data.digest for n in made.source.nodes() if isinstance(n.op, Constant)}
    constants = {d: a for d, a in made.constants().items() if d not in given}
    return cache.store(name, library, Manifest.of(program, constants).text())
