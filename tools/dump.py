"""`flowmill dump`: any stage of a compilation as text, DOT, SVG or one HTML page."""

from __future__ import annotations

import os
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..errors import ConfigError
from ..graph.ir import Function
from . import feeds, source, target_options
from .stages import GRAPH, Stages, collect, names, pass_names
from .stages import file_name as stage_file
from .terminal import progress

SUMMARY = "show any stage of a compilation: text, DOT, SVG, HTML"
EXAMPLES = """\
  flowmill dump model.py:net                              the graph as defined
  flowmill dump model.py:net --stage fuse --format svg -o fused.svg
  flowmill dump net.fm --stage plan --dim batch=32        where every value lies in memory
  flowmill dump net.fm --stage all -o dump/               every stage, a file each
  flowmill dump net.fm --stage all --format html -o net.html
"""
FORMATS = ("text", "dot", "svg", "html")


def configure(parser: ArgumentParser) -> None:
    """Arguments."""
    source.add_arguments(parser)
    parser.add_argument("--stage", default=GRAPH, metavar="STAGE",
                        help=f"{', '.join(names())} or all (default {GRAPH})")  # fmt: skip
    parser.add_argument("--format", choices=FORMATS, default="text", help="default text")
    parser.add_argument("-o", "--output", metavar="PATH",
                        help="file, or folder for --stage all (default: standard output)")  # fmt: skip
    parser.add_argument("--engine", choices=("own", "dot"), default="own",
                        help="who lays SVG pictures out: flowmill (default), or Graphviz's dot")  # fmt: skip
    parser.add_argument("--limit", type=feeds.at_least(1), default=250, metavar="BOXES",
                        help="collapse layers where a picture has more boxes (default 250)")  # fmt: skip
    feeds.add_dim_argument(parser)
    target_options.add_arguments(parser)


def command(args: Namespace) -> int:
    """Writes what was asked for."""
    wanted = names() if args.stage == "all" else (args.stage,)
    if args.stage not in (*names(), "all"):
        raise ConfigError(f"there is no stage {args.stage!r}",
                          f"stages: {', '.join(names())}, all")  # fmt: skip
    if args.limit < 1:
        raise ConfigError(f"--limit {args.limit}: one box or more")
    pictured = (*pass_names(), "plan")
    if args.format in ("svg", "dot"):
        shown = tuple(s for s in wanted if s in pictured and (s != "plan" or args.format == "svg"))
        if not shown:
            raise ConfigError(f"stage {args.stage} has no picture",
                              f"pictures: {', '.join(pictured)}; or --format text")  # fmt: skip
        wanted = shown
    function = source.load(args).function(args.fetch)
    planned = "plan" in wanted
    dims = feeds.dimensions(args, function.symbols(), function) if planned else {}
    with progress(f"compiling {function.name}") as say:
        stages = collect(function, target_options.chosen(args), args.level, wanted, dims,
                         lambda stage, made: say(stage))  # fmt: skip
        if args.format == "html":
            _write(args.output, html(stages, wanted, args.limit))
            return 0
        written = []
        for stage in wanted:
            say(stage)
            written.append((stage, rendered(stages, stage, args.format, args.engine, args.limit)))
    if args.stage != "all":
        _write(args.output, written[0][1])
    elif args.output:
        suffix = "" if args.format == "text" else args.format
        for stage, text in written:
            _write(str(Path(args.output) / stage_file(stage, suffix)), text)
    else:
        for stage, text in written:
            print(f"#### {stage}\n{text}")
    return 0


def rendered(s: Stages, stage: str, format: str, engine: str = "own", limit: int = 250) -> str:
    """A stage in a format; pictures are of functions and of the memory plan."""
    if format == "text":
        return s.text(stage)
    if stage == "plan":
        from .picture.memory import picture

        return picture(s.memory)
    return graph_picture(s.after(stage), "" if stage == GRAPH else f"after {stage}", format, engine,
                         limit)  # fmt: skip


def graph_picture(function: Function, note: str = "", format: str = "svg", engine: str = "own",
                  limit: int = 250) -> str:  # fmt: skip
    """The picture of a function as SVG or DOT text."""
    from .picture.model import drawing

    made = drawing(function, limit, note)
    if format == "dot" or engine == "dot":
        from .picture import dot

        return dot.dot(made) if format == "dot" else dot.rendered(made)
    from .picture.svg import svg

    return svg(made)


def html(s: Stages, wanted: tuple[str, ...], limit: int = 250) -> str:
    """One page with pictures of the functions, the memory plan, and all texts."""
    from .picture.page import Section, by_layer, page, preformatted

    sections = []
    for stage in wanted:
        if stage in pass_names():
            function = s.after(stage)
            if stage != GRAPH and stage not in s.functions and len(wanted) > 1:
                continue  # it changed nothing
            title = "As defined" if stage == GRAPH else f"After {stage}"
            sections.append(Section(title, rendered(s, stage, "svg", limit=limit), picture=True))
            sections.append(Section(f"{title}, as text", by_layer(function)))
        elif stage == "plan":
            sections.append(Section("Memory", rendered(s, stage, "svg"), picture=True))
            sections.append(Section("Memory, as text", preformatted(s.text(stage))))
        else:
            body = preformatted(s.text(stage))
            sections.append(Section(stage, f"<details><summary>show</summary>{body}</details>"))
    return page(f"{s.functions[GRAPH].name} · flowmill", sections)


def _write(path: str | None, text: str) -> None:
    """To a file, whole or not at all, or to standard output."""
    if path is None or path == "-":
        sys.stdout.write(text)
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as f:
            f.write(text)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)  # mkstemp made it private
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    print(f"wrote {target}", file=sys.stderr)
