"""Prints the list of all public names, `docs/reference.md`, from their docstrings."""

from __future__ import annotations

import inspect
import re
from types import ModuleType
from typing import Any

import flowmill

_TITLES = {
    "errors": "Errors", "dtypes": "Data types", "graph.ir": "Graphs as data",
    "graph.definition": "Defining graphs", "graph.ops.source": "Constants",
    "graph.ops.pointwise": "Element by element",
    "graph.ops.logic": "Comparisons, logic and bits", "graph.ops.elementary": "Elementary functions",
    "graph.ops.activation": "Activations", "graph.ops.softmax": "Softmax",
    "graph.ops.reduce": "Reductions", "graph.ops.shape": "Shapes",
    "graph.ops.arrange": "Rearranging", "graph.ops.creation": "Arrays of a pattern",
    "graph.ops.division": "Division towards zero, bits",
    "graph.ops.linalg": "Products", "graph.ops.einsum": "Einstein's summation",
    "graph.ops.convolution": "Convolution", "graph.ops.transposed": "Transposed convolution",
    "graph.ops.deformable": "Deformable convolution", "graph.ops.patches": "Patches",
    "graph.ops.pooling": "Pooling", "graph.ops.lp_pool": "Pooling by norms",
    "graph.ops.adaptive": "Adaptive pooling", "graph.ops.resize": "Resizing",
    "graph.ops.grid": "Grids", "graph.ops.roi": "Regions of images",
    "graph.ops.padding": "Padding", "graph.ops.norms": "Norms",
    "graph.ops.normalization": "Normalisation", "graph.ops.attention": "Attention",
    "graph.ops.directions": "Recurrent networks", "graph.ops.cumulative": "Running sums and products",
    "graph.ops.window_functions": "Window functions", "graph.ops.indexing": "Indexing",
    "graph.ops.scattering": "Indexing along several axes", "graph.ops.sorting": "Sorting",
    "graph.ops.integer_products": "Products of integers", "graph.ops.quantized": "Quantisation",
    "graph.ops.qlinear": "Products of quantised values",
    "graph.ops.sequences": "Sequences, caches, sorted vectors",
    "graph.ops.fourier": "Fourier transforms", "graph.ops.ngrams": "Short sequences in long ones",
    "graph.ops.random": "Random values", "graph.ops.effects": "Checks and printing",
    "graph.ops.recurrent": "Loops", "graph.ops.base": "Defining ops",
    "tools.register": "Registering ops",
    "runtime.session": "Sessions", "graph.state": "Assignment", "graph.gradients": "Gradients",
    "graph.layers.mode": "Training and inference", "graph.sequential": "Layers in a row",
    "graph.clone": "Copies", "graph.summary": "Summaries", "graph.formats.flowmill": "Files",
}  # fmt: skip


def reference() -> str:
    """All names of `flowmill`, and those of its modules, with a line each, as Markdown."""
    written = "`import flowmill as fm`. Written by `python -m flowmill.tools.reference`."
    lines = ["# Public names", "", written, ""]
    for module, entries in flowmill._NAMES.items():
        lines += [f"## {_TITLES.get(module, module)}", ""]
        for entry in entries.split():
            name = entry.partition("=")[0]
            lines.append(f"- `fm.{name}`: {_line(getattr(flowmill, name))}")
        lines.append("")
    for name in flowmill._MODULES:
        module = getattr(flowmill, name)
        lines += [f"## {name}", "", f"`fm.{name}`: {_line(module)}", ""]
        lines += [f"- `{name}.{n}`: {_line(getattr(module, n))}" for n in _own(module)]
        lines.append("")
    return "\n".join(lines)


def _own(module: ModuleType) -> list[str]:
    """What a module offers: its `__all__`, or the public things it defines itself."""
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return list(listed)
    return [n for n, x in vars(module).items() if not n.startswith("_") and callable(x)
            and getattr(x, "__module__", None) == module.__name__]  # fmt: skip


def _line(x: Any) -> str:
    """The first sentence or line of a docstring."""
    if isinstance(x, flowmill.DType):
        return f"{x.bits} bits, `{x.short}` in text forms."
    if not (inspect.isroutine(x) or inspect.isclass(x) or inspect.ismodule(x)):
        return f"`{x!r}`"
    first = " ".join((inspect.getdoc(x) or "").split("\n\n")[0].split())
    return re.split(r"(?<=\.)(?<!\bal\.)\s", first)[0]


if __name__ == "__main__":
    print(reference(), end="")
