"""`flowmill replay`: compiles again what flowmill failed to compile."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..graph.printer import show
from ..runtime import reproducer
from .terminal import progress

SUMMARY = "compile a saved failure again, for a bug report"
EXAMPLES = "  flowmill replay ~/.cache/flowmill/failures/run-0123456789ab.fm\n"


def configure(parser: ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("file", help="what the error message named")
    parser.add_argument("--text", action="store_true", help="print the graph, do not compile")


def command(args: Namespace) -> int:
    """Compiles; an error goes out as it is, with its traceback."""
    function, target, level, error = reproducer.load(Path(args.file))
    if args.text:
        print(show(function), end="")
        return 0
    print(f"it failed with: {error}")
    from ..codegen.objects import object_code
    from ..codegen.program import emit_module
    from ..compiler import compile_function

    with progress(f"compiling {function.name}") as say:
        made = compile_function(function, target, level, lambda stage, _: say(stage))
        object_code(emit_module([made.program], target), target)
    print("this flowmill compiles it")
    return 0
