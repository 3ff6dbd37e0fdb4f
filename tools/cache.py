"""`flowmill cache`: what is in the folder of compiled programs, and what is to be."""

from __future__ import annotations

import re
import time
from argparse import ArgumentParser, Namespace

from .. import config
from ..errors import ConfigError
from ..runtime import cache
from .picture.memory import bytes_text
from .terminal import print_table

SUMMARY = "list, clear or limit the folder of compiled programs"
EXAMPLES = """\
  flowmill cache list
  flowmill cache limit 200M      drop what was used longest ago, down to 200 MB
  flowmill cache clear
"""
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kMG]?)B?")


def configure(parser: ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("action", choices=("list", "clear", "path", "limit"), nargs="?",
                        default="list", help="default list")  # fmt: skip
    parser.add_argument("size", nargs="?", help="of limit: bytes, or 200k, 200M, 2G")


def command(args: Namespace) -> int:
    """Does the action."""
    if args.size and args.action != "limit":
        raise ConfigError(f"cache {args.action} takes no size")
    if args.action == "path":
        print(config.cache_dir())
    elif args.action == "clear":
        print(f"removed {cache.clear()} programs from {config.cache_dir()}")
    elif args.action == "limit":
        _limit(args.size)
    else:
        _list()
    return 0


def _list() -> None:
    found = cache.entries()
    now = time.time()
    rows = [(path.stem, bytes_text(size), f"{(now - used) / 3600:.1f} h ago")
            for path, size, used in reversed(found)]  # fmt: skip
    total = sum(size for _, size, _ in found)
    rows.append((f"{len(found)} programs", bytes_text(total), ""))
    print_table(("program", "size", "last used"), rows, numbers=(1, 2), last_is_sum=True)


def _limit(text: str | None) -> None:
    if text is None:
        print(f"{config.integer('cache_bytes')} bytes; set FLOWMILL_CACHE_BYTES to change it")
        return
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ConfigError(f"{text!r} is no size: write 200M or 2G")
    size = int(float(match[1]) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[match[2]])
    print(f"removed {cache.trim(size)} programs; the limit of later runs is FLOWMILL_CACHE_BYTES")
