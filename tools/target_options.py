"""Options of commands that compile: for which CPU, and how hard."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from .. import config
from ..target import Target, host, named


def add_arguments(parser: ArgumentParser) -> None:
    """`--target` and `--level`."""
    parser.add_argument("--target", default=config.setting("target") or "native",
                        help="native, x86-64-v2, x86-64-v3, x86-64-v4 or aarch64")  # fmt: skip
    parser.add_argument("--level", type=int, choices=(0, 2), default=config.level(),
                        help="2 optimises (default); 0 compiles every op by itself")  # fmt: skip


def chosen(args: Namespace) -> Target:
    """The target asked for. ConfigError if there is no such target."""
    return host() if args.target in ("", "native") else named(args.target)
