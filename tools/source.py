"""The GRAPH argument of commands: `file.py:name`, `file.py`, a saved `.fm` file or an ONNX model.

In: what the user typed. Out: a `Source`: the graph, or, for the text of a dumped function, that
function; and the values to compute. Everything wrong with it is a UserError.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import traceback
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ..errors import FeedError, GraphError, ModelError, UserError
from ..graph.definition import Graph
from ..graph.ir import Function, Value
from ..graph.template import Template

EXAMPLES = "model.py:net   saved.fm   model.onnx"


@dataclass(frozen=True)
class Source:
    """What a GRAPH argument stands for: a graph, or a function that was dumped as text. `operators`
    are those of an ONNX model, counted."""

    name: str
    graph: Graph | None
    dumped: Function | None = None
    operators: Counter[str] = field(default_factory=Counter)

    def fetches(self, names: Sequence[str]) -> dict[str, Value]:
        """The values to compute by name: those asked for, else the declared outputs, else all ends
        of the graph."""
        graph = self.needed()
        if names:
            return {name: graph.find(name) for name in names}
        if graph.outputs:
            return dict(graph.outputs)
        found = {v.name or f"{v.node.op.name}_{v.node.serial}": v for v in graph.results()}
        if not found:
            raise GraphError(f"graph {self.name} computes nothing",
                             'declare what it is for: fm.output("y", y)')  # fmt: skip
        return found

    def function(self, names: Sequence[str] = ()) -> Function:
        """The function of these fetches, or the dumped one."""
        if self.dumped is not None:
            return self.dumped
        return self.needed().function(self.name, self.fetches(names))

    def needed(self) -> Graph:
        """The graph. ModelError if there is none to run."""
        if self.graph is None:
            raise ModelError(f"{self.name} is the text of a function: it can be dumped only",
                             "run and compile what fm.save wrote, or file.py:name")  # fmt: skip
        return self.graph


def add_arguments(parser: ArgumentParser, required: bool = True) -> None:
    """GRAPH, --fetch and --value."""
    parser.add_argument("graph", metavar="GRAPH", nargs=None if required else "?",
                        help="file.py:name, file.py, a saved file.fm or a model.onnx")  # fmt: skip
    parser.add_argument("--value", action="append", default=[], metavar="NAME=VALUE",
                        help="fixes an input of an ONNX model: a number, JSON list or file.npy")  # fmt: skip
    parser.add_argument("--fetch", action="append", default=[], metavar="NAME",
                        help="value to compute; may be repeated (default: the graph's outputs)")  # fmt: skip


def load(args: Namespace) -> Source:
    """The source that `add_arguments`' GRAPH names."""
    return load_source(args.graph, args.value)


def load_source(spec: str, values: Sequence[str] = ()) -> Source:
    """The source called `spec`; `values` fix inputs of an ONNX model."""
    file, _, name = spec.rpartition(":") if ".py:" in spec else (spec, "", "")
    path = Path(file)
    if not path.is_file():
        raise ModelError(f"there is no file {file}", f"give one of: {EXAMPLES}")
    if path.suffix == ".py":
        graph = _graph_in(path, name)
        return Source(graph.graph_name, graph)
    if path.suffix == ".fm":
        return _saved(path)
    if path.suffix == ".onnx":
        return _onnx(path, values)
    raise ModelError(f"{file} is neither Python, nor a saved graph (.fm), nor an ONNX model")


def _saved(path: Path) -> Source:
    """A container, or the text of a function."""
    from ..graph.formats.flowmill import load_graph
    from ..graph.text import parse

    try:
        head = path.read_bytes()[:6]
        if head.startswith((b"graph ", b"dims ")):
            function = parse(path.read_text(encoding="utf-8"))
            return Source(function.name, None, function)
        if head.startswith((b"kernel", b"progra")):
            raise ModelError(f"{path} is the text of kernels or a program: it can be read only",
                             "dump a graph, or the text of one")  # fmt: skip
    except (OSError, UnicodeDecodeError) as e:
        raise ModelError(f"cannot read {path}: {e}") from None
    graph = load_graph(path)
    return Source(graph.graph_name, graph)


def _onnx(path: Path, values: Sequence[str]) -> Source:
    """An ONNX model. GraphError where a value that decides its graph is missing."""
    from ..graph.formats.onnx.files import load as load_onnx
    from ..graph.formats.onnx.files import operators

    for text in values:
        if "=" not in text:
            raise FeedError(f"--value {text}: write --value NAME=VALUE")
    fixed = {name: parsed(value) for name, _, value in (text.partition("=") for text in values)}
    graph = load_onnx(path, fixed)
    if isinstance(graph, Template):
        names = [*sorted(graph.parameters), *graph.shapeless, *sorted(graph.sizes)]
        raise GraphError(f"the graph of {path} depends on the values of {', '.join(names)}",
                         f"give each: --value {names[0]}=VALUE")  # fmt: skip
    return Source(graph.graph_name, graph, operators=operators(path))


def parsed(text: str) -> Any:
    """A file's array as it is, or the number or list that the text is. FeedError for neither."""
    if text.endswith(".npy") or Path(text).is_file():
        try:
            loaded = np.load(text, allow_pickle=False)
        except OSError as e:
            raise FeedError(f"cannot read {text}: {e.strerror or e}") from None
        except (ValueError, EOFError):
            raise FeedError(f"{text} is damaged, or holds something else than numbers",
                            "write it with numpy.save") from None  # fmt: skip
        if not isinstance(loaded, np.ndarray):
            raise FeedError(f"{text} holds several arrays: save one with numpy.save")
        return loaded
    try:
        return json.loads(text)
    except ValueError:
        raise FeedError(f"{text!r} is neither a file nor a number or list") from None


def _graph_in(path: Path, name: str) -> Graph:
    """The graph a Python file defines under a name; the only one it defines, without one."""
    module = _executed(path)
    if not name:
        found = {k: v for k, v in vars(module).items() if isinstance(v, Graph)}
        if len({id(v) for v in found.values()}) == 1:
            return next(iter(found.values()))
        raise GraphError(f"{path} defines {len(found)} graphs, say which: {path}:NAME",
                         f"names: {', '.join(found)}" if found else "")  # fmt: skip
    if not hasattr(module, name):
        known = [k for k, v in vars(module).items()
                 if isinstance(v, Graph) or (callable(v) and getattr(v, "__module__", "") ==
                                             module.__name__)]  # fmt: skip
        raise GraphError(f"{path} defines nothing called {name}",
                         f"it defines: {', '.join(known)}" if known else "")  # fmt: skip
    found_value: Any = getattr(module, name)
    if callable(found_value) and not isinstance(found_value, Graph):
        found_value = _guarded(path, found_value)
    if isinstance(found_value, Value) and isinstance(found_value.node.owner, Graph):
        found_value = found_value.node.owner
    if not isinstance(found_value, Graph):
        raise GraphError(f"{path}:{name} is of type {type(found_value).__name__}, no graph",
                         "give the name of a Graph, or of a function that returns one")  # fmt: skip
    return found_value


def _executed(path: Path) -> ModuleType:
    """The file as a module; what stands under `if __name__ == "__main__":` does not run."""
    name = f"flowmill_source_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ModelError(f"cannot read {path} as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.resolve().parent))
    loader = spec.loader
    _guarded(path, lambda: loader.exec_module(module))
    return module


def _guarded(path: Path, call: Any) -> Any:
    """Runs the user's code: what goes wrong in it is told with their line, and is theirs."""
    try:
        return call()
    except UserError:
        raise
    except (Exception, SystemExit) as e:
        frames = traceback.extract_tb(e.__traceback__)
        own = [f for f in frames if Path(f.filename).resolve().parent == path.resolve().parent]
        line = e.lineno if isinstance(e, SyntaxError) else own[-1].lineno if own else None
        place = f"{path.name}:{line}" if line else str(path)
        raise GraphError(f"{place}: {type(e).__name__}: {e}",
                         (own[-1].line or "") if own else "") from e  # fmt: skip
