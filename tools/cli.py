"""The command line: `flowmill COMMAND …`, `python -m flowmill COMMAND …`.

Every command is a module of this package with SUMMARY, EXAMPLES, `configure(parser)` and
`command(args) -> int`; it is imported when it is called. Exit codes: 0 well, 1 the user can mend it
(a message, no traceback), 2 wrong usage, 3 flowmill itself is wrong (with traceback).
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from ..errors import UserError

# command -> what it does, for the overview, which imports none of them
COMMANDS = {
    "demo": "train a network on digits, export it, look at it",
    "run": "compute a graph's outputs",
    "compile": "compile a graph; launches, memory traffic and arena before and after",
    "profile": "time each kernel: share, GFLOP/s, GB/s, the line it comes from",
    "dump": "show any stage of a compilation: text, DOT, SVG, HTML",
    "check": "compare every pass and the native code with the oracle",
    "cache": "list, clear or limit the folder of compiled programs",
    "info": "a model's inputs, work and memory; or versions, this CPU, settings",
    "replay": "compile a saved failure again, for a bug report",
}
_EPILOG = """\
GRAPH is file.py:name (a Graph, or a function that returns one), a saved file.fm or a model.onnx.

examples:
  flowmill demo
  flowmill dump model.py:net --stage fuse --format svg -o net.svg
  flowmill profile model.py:net --random --dim batch=32

flowmill COMMAND -h tells more. Settings: flowmill info.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line; returns the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(given)
    except SystemExit as e:  # argparse: 0 after help, 2 after wrong usage
        return e.code if isinstance(e.code, int) else 1
    except UserError as e:
        print(f"flowmill: {type(e).__name__}: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on
        return 0
    except OSError as e:
        print(f"flowmill: {e}", file=sys.stderr)
        return 1
    except Exception as e:
        traceback.print_exc()
        print(f"\nflowmill: internal error: {e}", file=sys.stderr)
        return 3


def _run(given: list[str]) -> int:
    name = next((word for word in given if not word.startswith("-")), "")
    parser = _parser(name)
    args = parser.parse_args(given)
    if not args.command:
        parser.print_help()
        return 2
    status = _module(args.command).command(args)
    sys.stdout.flush()
    return int(status)


def _parser(name: str) -> argparse.ArgumentParser:
    """The parser, with the arguments of the one command that is called."""
    parser = argparse.ArgumentParser(
        "flowmill", description="Networks described once, compiled ahead of time for CPUs.",
        epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--version", action="store_const", const="info", dest="command",
                        help="same as info")  # fmt: skip
    commands = parser.add_subparsers(metavar="COMMAND", dest="command")
    for command, summary in COMMANDS.items():
        chosen = command == name and present(command)
        module = _module(command) if chosen else None
        sub = commands.add_parser(
            command, help=summary, description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=f"examples:\n{module.EXAMPLES}" if module else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        if module:
            module.configure(sub)
        elif command == name:
            sub.error("this installation does not have it")
    return parser


def present(command: str) -> bool:
    """Whether the command's module is there."""
    return find_spec(f"{__package__}.{command}") is not None


def _module(command: str) -> ModuleType:
    return import_module(f".{command}", __package__)
