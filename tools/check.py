"""`flowmill check`: is a graph computed right, and if not, which pass or level is to blame?

In: a graph and what to fetch. Out: a report of every pass against the reference interpreter, and of
native code at level 0 and 2 against it.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .. import target as targets
from ..dtypes import Array
from ..errors import FetchError
from ..graph.definition import Graph
from ..graph.ir import Value
from ..passes import check as library
from ..passes.pipeline import pipeline
from ..runtime.session import Session, function_for
from . import feeds as options
from . import run, source
from .terminal import progress

SUMMARY = "compare every pass and the native code with the oracle"
EXAMPLES = """\
  flowmill check model.py:net
  flowmill check net.fm --fetch loss --fetch step --dim batch=5 --random
"""


def configure(parser: ArgumentParser) -> None:
    """The command's options."""
    source.add_arguments(parser)
    options.add_arguments(parser)


def command(args: Namespace) -> int:
    """Checks and reports; 1 where a result is wrong."""
    src = source.load(args)
    fetches = src.fetches(args.fetch)
    given = None
    if args.feed or args.random or args.dim:
        args.random = True
        given = options.arrays(args, run.bound_inputs(src, fetches))
    with progress(f"checking {src.name}"):
        found = check_graph(src.needed(), list(fetches.values()), given, seed=args.seed)
    print(found)
    return int(found.blamed is not None)


@dataclass(frozen=True)
class Checked:
    """What `check_graph` found: of the passes, and of native code by level."""

    passes: library.Report
    native: Mapping[int, library.Stage]

    @property
    def blamed(self) -> str | None:
        """The first pass that changes a result, else the first native level that is wrong."""
        wrong = [f"native code at level {k}" for k, s in self.native.items() if not s.ok]
        return self.passes.blamed or (wrong[0] if wrong else None)

    def __str__(self) -> str:
        lines = [str(self.passes)]
        for level, stage in self.native.items():
            lines.append(f"native, level {level}: {'ok' if stage.ok else 'WRONG'}")
            lines += [f"  {d}" for d in stage.differences if d.ulps or not d.ok]
        lines.append(f"wrong: {self.blamed}" if self.blamed else "all results agree")
        return "\n".join(line for line in lines if line)


def check_graph(graph: Graph, fetches: Sequence[Value | str] | None = None,
                feeds: Mapping[str, Array] | None = None,
                variables: Mapping[str, Array] | None = None, seed: int = 0,
                levels: Sequence[int] = (0, 2)) -> Checked:  # fmt: skip
    """Checks the passes and the native code of a graph on given or random data.

    `fetches` are values or names, by default the graph's outputs. Raises FetchError if there are
    none, FeedError where feeds do not fit.
    """
    wanted = list(graph.outputs.values()) if fetches is None else [
        graph.find(f) if isinstance(f, str) else f for f in fetches]  # fmt: skip
    if not wanted:
        raise FetchError("there is nothing to check", "name what to fetch")
    function = function_for(graph, wanted, [])
    if feeds is None:
        feeds = library.random_feeds(function, seed)
    if variables is None:
        variables = library.random_variables(function, seed)
    report = library.check(function, pipeline(2), targets.host(), feeds, variables)
    native = {k: _native(graph, wanted, report.results, feeds, variables, k) for k in levels}
    return Checked(report, native)


def _native(graph: Graph, wanted: Sequence[Value], expected: Mapping[str, Array],
            feeds: Mapping[str, Array], variables: Mapping[str, Array], level: int
            ) -> library.Stage:  # fmt: skip
    """What native code computes, compared with the interpreter."""
    with Session(graph, level=level) as session:
        for name, value in variables.items():
            session.set(name, value)
        outputs = session.run(list(wanted), dict(feeds))
        found = {f"y{k}": np.asarray(v) for k, v in enumerate(outputs)}
        for name in expected:
            if name not in found:
                found[name] = session.get(name.removeprefix("variable "))
    compared = tuple(library.difference(k, found[k], v) for k, v in expected.items())
    return library.Stage(f"level {level}", compared)
