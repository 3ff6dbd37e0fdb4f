"""`flowmill run`: computes a graph's outputs and prints or saves them."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..dtypes import Array
from ..graph.ir import Value
from ..graph.ops.source import Input
from ..runtime.session import Session, function_for
from . import feeds, source
from .source import Source
from .terminal import progress

SUMMARY = "compute a graph's outputs"
EXAMPLES = """\
  flowmill run model.py:net --feed x=images.npy
  flowmill run net.fm --random --dim batch=4 --fetch logits
  flowmill run net.fm --restore weights.safetensors --feed x=images.npy -o out/
"""


def configure(parser: ArgumentParser) -> None:
    """Arguments."""
    source.add_arguments(parser)
    feeds.add_arguments(parser)
    add_session_arguments(parser)
    parser.add_argument("-o", "--output", metavar="FOLDER", help="save each output as NAME.npy")


def add_session_arguments(parser: ArgumentParser) -> None:
    """`--threads`, `--restore`, `--level`."""
    parser.add_argument("--threads", type=int, help="default: what affinity and cgroup allow")
    parser.add_argument("--restore", metavar="FILE", help="read variables that session.save wrote")
    parser.add_argument("--level", type=int, choices=(0, 2), help="0: the unoptimised oracle")


def session(args: Namespace, src: Source) -> Session:
    """The session these options ask for."""
    made = Session(src.needed(), threads=args.threads, level=args.level)
    if args.restore:
        made.restore(args.restore)
    return made


def bound_inputs(src: Source, fetches: Mapping[str, Value]) -> dict[str, Value]:
    """The inputs that some fetches need, by name, in the order of the compiled function."""
    function = function_for(src.needed(), list(fetches.values()), [])
    ops = [(v, v.node.op) for v in function.inputs]
    return {op.input_name: v for v, op in ops if isinstance(op, Input)}


def command(args: Namespace) -> int:
    """Runs once."""
    src = source.load(args)
    fetches = src.fetches(args.fetch)
    given = feeds.arrays(args, bound_inputs(src, fetches))
    with progress(f"compiling {src.name}"):
        results = session(args, src).run(dict(fetches), given)
    for name, array in results.items():
        print(described(name, array))
    if args.output:
        save(results, Path(args.output))
    return 0


def described(name: str, array: Array) -> str:
    """Name, type and elements, abridged."""
    shape = ",".join(map(str, array.shape))
    return f"{name}: {array.dtype}[{shape}]\n{np.array2string(array, threshold=64, precision=6)}"


def save(results: Mapping[str, Array], folder: Path) -> None:
    """Each array as NAME.npy."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in results.items():
        path = folder / f"{name.replace('/', '.')}.npy"
        temporary = path.with_name(f".{path.name}.tmp")
        with temporary.open("wb") as f:
            np.save(f, array, allow_pickle=False)
        os.replace(temporary, path)
        print(f"wrote {path}", file=sys.stderr)
