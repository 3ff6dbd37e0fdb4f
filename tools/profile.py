"""`flowmill profile`: where the time of a run goes, kernel by kernel, with the user's lines."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from ..runtime.profile import duration, profile, table
from . import feeds, run, source
from .terminal import print_table, progress

SUMMARY = "time each kernel: share, GFLOP/s, GB/s, the line it comes from"
EXAMPLES = """\
  flowmill profile model.py:net --random --dim batch=128
  flowmill profile train.fm --fetch step --random --dim batch=64 --threads 2 --sort layer
"""


def configure(parser: ArgumentParser) -> None:
    """Arguments."""
    source.add_arguments(parser)
    feeds.add_arguments(parser)
    run.add_session_arguments(parser)
    parser.add_argument("--steps", type=int, default=20, help="runs to measure (default 20)")
    parser.add_argument("--sort", choices=("run", "time", "layer"), default="run",
                        help="order of the run (default), slowest first, or sums by layer")  # fmt: skip
    parser.add_argument("--top", type=int, metavar="N", help="only the first N rows")


def command(args: Namespace) -> int:
    """Profiles and prints the table."""
    src = source.load(args)
    fetches = src.fetches(args.fetch)
    given = feeds.arrays(args, run.bound_inputs(src, fetches))
    with progress(f"profiling {src.name}"):
        p = profile(*run.session(args, src).bound(dict(fetches), given), args.steps)
    at = "".join(f", {name} = {size}" for name, size in p.dims.items())
    print(f"{src.name}: {duration(p.seconds)} a run, median of {p.steps}, {p.threads} threads{at}; "
          f"with the call {duration(p.call)}")  # fmt: skip
    head, *rows = table(p, args.sort, args.top)
    print_table(head, rows, numbers=range(4), last_is_sum=True)
    return 0
