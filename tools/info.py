"""`flowmill info`: what a model is and needs; or versions, the CPU as the compiler sees it, settings."""

from __future__ import annotations

import platform
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Mapping
from math import prod

import numpy as np

from .. import __version__, config
from ..codegen.kernel.program import Program
from ..dims import Dim, evaluate, show, total
from ..errors import ConfigError
from ..graph.ir import Function
from ..graph.ops.source import Constant, Input, Variable
from ..runtime import build
from ..runtime.session import function_for
from ..target import host
from . import feeds, source, target_options
from .picture.memory import bytes_text
from .terminal import print_table, progress

SUMMARY = "a model's inputs, work and memory; or versions, this CPU, settings"
EXAMPLES = """\
  flowmill info
  flowmill info model.onnx
  flowmill info model.py:net --dim batch=32
"""


def configure(parser: ArgumentParser) -> None:
    """Arguments."""
    source.add_arguments(parser, required=False)
    feeds.add_dim_argument(parser)
    target_options.add_arguments(parser)


def command(args: Namespace) -> int:
    """Prints it all."""
    if args.graph is None:
        installation()
        return 0
    src = source.load(args)
    fetches = src.fetches(args.fetch)
    function = function_for(src.needed(), list(fetches.values()), [])
    dims = feeds.dimensions(args, function.symbols(), function)
    print(src.name)
    rows = [("input", str(v.name), str(v.type)) for v in function.inputs]
    rows += [("output", name, str(v.type)) for name, v in fetches.items()]
    print_table(("", "name", "type"), rows)
    ops = Counter(n.op.name for n in function.nodes()
                  if not isinstance(n.op, Input | Constant | Variable))  # fmt: skip
    if src.operators:
        print(f"operators of the model: {_counted(src.operators)}")
    print(f"operators: {_counted(ops)}")
    with progress(f"planning {src.name}"):
        program = build.compiled(function, target_options.chosen(args), args.level).program
    at = ", ".join(f"{k} = {v}" for k, v in dims.items())
    print_table(("at " + at if at else "", ""), costs(function, program, dims), numbers=(1,))
    return 0


def _counted(names: Counter[str]) -> str:
    return ", ".join(f"{name} {n}" for name, n in names.most_common())


def costs(function: Function, program: Program, dims: Mapping[str, int]) -> list[tuple[str, str]]:
    """Parameters, work and memory, by label; sizes that a run computes count as the largest."""
    dims = program.room(dims)
    weights = [n.types[0] for n in function.nodes() if isinstance(n.op, Constant | Variable)]
    numbers = sum(prod(d for d in t.shape if isinstance(d, int)) for t in weights
                  if t.dtype.is_float or t.ndim > 0)  # fmt: skip
    stored = total(t.nbytes for t in weights)
    flops = total(x.flops for x in program.launches)

    def said(d: Dim, unit: float, text: str) -> str:
        return f"{evaluate(d, dims) / unit:,.4g} {text}"

    memory = evaluate(stored + program.arena_bytes + program.prepared_bytes, dims)
    return [
        ("parameters", f"{numbers:,}"), ("work of a run", said(flops, 1e6, "MFLOP")),
        ("weights", bytes_text(evaluate(stored, dims))),
        ("weights as kernels want them", bytes_text(program.prepared_bytes)),
        ("arena", bytes_text(evaluate(program.arena_bytes, dims))),
        ("arena, in bytes", show(program.arena_bytes)), ("memory needed", bytes_text(memory)),
    ]  # fmt: skip


def installation() -> None:
    """Versions, the CPU and settings."""
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
