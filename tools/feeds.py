"""Options that say what a run is fed: `--feed x=file.npy`, `--random`, `--dim`, `--seed`.

In: parsed arguments and the inputs to feed. Out: an array per input, or a FeedError that lists all
that is missing.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ..dims import Sym, evaluate, free_symbols
from ..dtypes import Array
from ..errors import ConfigError, FeedError
from ..graph.ir import Function, TensorType, Value
from .source import parsed


def add_arguments(parser: ArgumentParser) -> None:
    """The options of commands that run graphs."""
    parser.add_argument("--feed", action="append", default=[], metavar="NAME=FILE.npy",
                        help="array for an input, or a number or JSON list; may be repeated")  # fmt: skip
    parser.add_argument("--random", action="store_true",
                        help="feed random numbers to the inputs that --feed leaves out")  # fmt: skip
    parser.add_argument("--range", action="append", default=[], metavar="NAME=LOW:HIGH",
                        help="of a random integer input (default 0:2), HIGH excluded")  # fmt: skip
    parser.add_argument("--seed", type=at_least(0), default=0, help="of --random (default 0)")
    add_dim_argument(parser)


def at_least(least: int) -> Callable[[str], int]:
    """The type of options that take a whole number."""

    def number(text: str) -> int:
        if int(text) < least:
            raise ArgumentTypeError(f"{text} is less than {least}")
        return int(text)

    return number


_LARGEST = 4096  # of a size that nobody chose


def add_dim_argument(parser: ArgumentParser) -> None:
    """`--dim`."""
    parser.add_argument("--dim", action="append", default=[], metavar="NAME=SIZE",
                        help="size of a symbolic dimension, such as batch=32")  # fmt: skip


def dimensions(args: Namespace, symbols: Iterable[Sym],
               function: Function | None = None) -> dict[str, int]:  # fmt: skip
    """A size for every symbol: those given, else the least allowed, which is said. Where sizes
    within `function` would be negative then, those that are not given are doubled. ConfigError
    where that does not help."""
    known = {s.name: s for s in symbols}
    out: dict[str, int] = {}
    for text in args.dim:
        name, _, size = text.partition("=")
        if name not in known:
            raise ConfigError(f"--dim {text}: the graph has no dimension {name!r}",
                              f"it has {', '.join(known) or 'none'}")  # fmt: skip
        if not size.isdigit():
            raise ConfigError(f"--dim {text}: write {name}=SIZE")
        out[name] = int(size)
        s = known[name]
        if out[name] < s.lo or (s.hi is not None and out[name] > s.hi):
            raise ConfigError(f"--dim {text}: {name} is {s.lo} or more" if s.hi is None else
                              f"--dim {text}: {name} is from {s.lo} to {s.hi}")  # fmt: skip
    free = {name: max(s.lo, s.multiple) for name, s in known.items() if name not in out}
    sizes = {d for n in function.nodes() for t in n.types for d in t.shape} if function else set()
    while below := [d for d in sizes if evaluate(d, {**out, **free}) < 0]:
        part = {s.name for d in below for s in free_symbols(d)}
        larger = {name: max(2 * n, 1) for name, n in free.items()
                  if name in part and known[name].hi is None and n < _LARGEST}  # fmt: skip
        if not larger:
            at = ", ".join(f"{name} = {n}" for name, n in {**out, **free}.items())
            raise ConfigError(f"the graph has sizes below 0 at {at}", "choose others with --dim")
        free.update(larger)
    for name, n in free.items():
        print(f"{name} = {n}; choose with --dim {name}=SIZE", file=sys.stderr)
    return {**out, **free}


def arrays(args: Namespace, inputs: Mapping[str, Value]) -> dict[str, Array]:
    """What to feed, by input name."""
    given = _pairs("--feed", args.feed, inputs)
    out = {name: _given(text, inputs[name].type) for name, text in given.items()}
    missing = {name: v for name, v in inputs.items() if name not in out}
    if missing and not args.random:
        raise FeedError("inputs are not fed",
                        *(f'"{name}": {v.type}' for name, v in missing.items()),
                        "give each --feed NAME=FILE.npy, or give --random")  # fmt: skip
    if missing:
        limits = _pairs("--range", args.range, inputs)
        symbols = {s for v in missing.values() for d in v.shape for s in free_symbols(d)}
        fed = _known_dims(out, inputs)
        wanted = [s for s in symbols if s.name not in fed]
        dims = {**fed, **dimensions(args, sorted(wanted, key=lambda s: s.name))}
        generator = np.random.default_rng(args.seed)
        for name, v in missing.items():
            out[name] = random_array(generator, v.type, dims, limits.get(name, "0:2"))
    return {name: out[name] for name in inputs}


def random_array(generator: np.random.Generator, type: TensorType, dims: Mapping[str, int],
                 limits: str = "0:2") -> Array:  # fmt: skip
    """Normal floats, or integers (and booleans) from a range `LOW:HIGH`."""
    shape = tuple(evaluate(d, dims) for d in type.shape)
    if type.dtype.is_float:
        return np.asarray(generator.standard_normal(shape)).astype(type.dtype.numpy)
    low, _, high = limits.partition(":")
    try:
        return np.asarray(generator.integers(int(low), int(high), shape)).astype(type.dtype.numpy)
    except ValueError:
        raise ConfigError(f"{limits!r} is no range LOW:HIGH of integers") from None


def _pairs(option: str, given: list[str], inputs: Mapping[str, Any]) -> dict[str, str]:
    out = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise FeedError(f"{option} {text}: write {option} NAME=VALUE")
        if name not in inputs:
            raise FeedError(f"{option} {text}: there is no input {name!r} to feed",
                            f"inputs: {', '.join(inputs) or 'none'}")  # fmt: skip
        out[name] = value
    return out


def _known_dims(given: Mapping[str, Array], inputs: Mapping[str, Value]) -> dict[str, int]:
    """The dimensions that given arrays determine."""
    out: dict[str, int] = {}
    for name, array in given.items():
        for d, size in zip(inputs[name].shape, array.shape):
            for s in free_symbols(d):
                if str(d) == s.name:
                    out[s.name] = size
    return out


def _given(text: str, type: TensorType) -> Array:
    """A file's array as it is, or the number or list that the text is, as the input's type."""
    found = parsed(text)
    if isinstance(found, np.ndarray):
        return found
    try:
        array = np.asarray(found)
        made = array.astype(type.dtype.numpy)
    except (ValueError, TypeError, OverflowError):
        raise FeedError(f"{text!r} is neither a file nor a number or list") from None
    if not type.dtype.is_float and (made != array).any():
        raise FeedError(f"{text} is more than {type.dtype} can hold")
    return made
