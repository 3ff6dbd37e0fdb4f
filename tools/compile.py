"""`flowmill compile`: compiles a graph into the cache or a library, and says what came out."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path

from ..codegen.kernel.program import Program, counted
from ..dims import evaluate, total
from ..exporter import check_path, export
from ..graph.module import Module
from ..runtime import build, cache
from ..runtime.session import function_for
from . import feeds, source, target_options
from .picture.memory import bytes_text
from .terminal import print_table, progress

SUMMARY = "compile a graph; launches, memory traffic and arena before and after"
EXAMPLES = """\
  flowmill compile model.py:net --dim batch=32
  flowmill compile net.fm --fetch step --target x86-64-v3
  flowmill compile net.fm --output libnet.so
"""


def configure(parser: ArgumentParser) -> None:
    """Arguments."""
    source.add_arguments(parser)
    feeds.add_dim_argument(parser)
    target_options.add_arguments(parser)
    parser.add_argument("-o", "--output", metavar="lib.so",
                        help="also write a shared object and its C header")  # fmt: skip
    parser.add_argument(
        "--brief", action="store_true", help="leave out the comparison with level 0"
    )


def command(args: Namespace) -> int:
    """Compiles, stores and reports."""
    library = Path(args.output) if args.output else None
    if library:
        check_path(library)
    src = source.load(args)
    fetches = src.fetches(args.fetch)
    function = function_for(src.needed(), list(fetches.values()), [])
    target = target_options.chosen(args)
    dims = feeds.dimensions(args, function.symbols(), function)
    name = build.key(function, target, args.level)
    cached = cache.fetch(name) is not None
    with progress(f"compiling {src.name}") as say:
        start = time.perf_counter()
        made = build.compiled(function, target, args.level, lambda stage, _: say(stage))
        say("machine code")
        entry = build.store(name, made, target)
        seconds = time.perf_counter() - start
        before = None
        if not args.brief and args.level > 0:
            say("the same without optimisation")
            before = build.compiled(function, target, 0).program
    where = "memory only (the cache folder cannot be written)" if entry.path is None else (
        f"{entry.path}, {bytes_text(entry.path.stat().st_size)}")  # fmt: skip
    print(f"{src.name}: compiled in {seconds:.2f} s for {target.name}"
          f"{' (it was in the cache)' if cached else ''}\n  {where}")  # fmt: skip
    at = ", ".join(f"{k} = {v}" for k, v in dims.items())
    head = ("at " + at if at else "", *(["level 0"] if before else []), f"level {args.level}")
    columns = [figures(before, dims, reuses=False)] if before else []
    columns.append(figures(made.program, dims, args.level > 0))
    rows = [(label, *(column[label] for column in columns)) for label in columns[0]]
    print_table(head, rows, numbers=range(1, len(head)))
    if library:
        module = Module(src.needed(), infer=fetches)
        for written in export(module, library, target=target, level=args.level):
            print(f"wrote {written}")
    return 0


def figures(p: Program, dims: Mapping[str, int], reuses: bool = True) -> dict[str, str]:
    """What a program costs, by label; sizes that a run computes count as the largest."""
    dims = p.room(dims)
    moved = evaluate(total(x.bytes * n for x, n in counted(p.body)), dims)
    flops = evaluate(total(x.flops * n for x, n in counted(p.body)), dims)
    arena, peak = evaluate(p.arena_bytes, dims), evaluate(p.peak_bytes, dims)
    if not reuses:
        peak = 0  # nothing shares memory
    return {
        "launches": str(len(p.launches)), "phases": str(len(p.phases)),
        "kernels": str(len(p.kernels)), "arithmetic": f"{flops / 1e6:,.3f} MFLOP",
        "bytes moved": bytes_text(moved), "arena": bytes_text(arena),
        "live peak": bytes_text(peak) if peak else "-", "arena / peak": f"{arena / peak:.3f}" if peak else "-",
    }  # fmt: skip
