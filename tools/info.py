"""`flowmill info`: versions, the CPU as the compiler sees it, settings."""

from __future__ import annotations

import platform
from argparse import ArgumentParser, Namespace

import numpy as np

from .. import __version__, config
from ..errors import ConfigError
from ..target import host
from .terminal import print_table

SUMMARY = "versions, this CPU, settings"
EXAMPLES = "  flowmill info\n"


def configure(parser: ArgumentParser) -> None:
    """No arguments."""


def command(args: Namespace) -> int:
    """Prints it all."""
    from ..codegen.objects import version

    print(f"flowmill {__version__}, Python {platform.python_version()}, NumPy {np.__version__}, "
          f"{version()}")  # fmt: skip
    try:
        t = host()
        print(f"CPU: {t.cpu} {t.features}, {t.vector_bytes * 8}-bit vectors, {t.registers} "
              f"registers, L1 {t.l1 >> 10} KiB, L2 {t.l2 >> 10} KiB, "
              f"{config.available_threads()} threads")  # fmt: skip
    except ConfigError as e:
        print(f"CPU: {e.message}")
    print(f"cache: {config.cache_dir()}")
    rows = [(k.variable, config.setting(k.name), k.meaning) for k in config.KNOBS]
    print_table(("setting", "value", "meaning"), rows)
    return 0
