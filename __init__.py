"""flowmill: networks described once, compiled ahead of time for CPUs.

`import flowmill as fm` gives everything a user needs: `fm.Graph`, `fm.input`, `fm.layers`,
`fm.optimizers`, ops under their NumPy names. Names are looked up when they are first used, so that
importing loads nothing but this file and NumPy.
"""

from __future__ import annotations

from importlib import import_module
from sys import modules as _modules
from typing import Any

import numpy as _numpy  # noqa: F401 - so that a missing NumPy shows here, not at the first name

# module -> the public names it defines; `sum=sum_` where it calls one differently
_NAMES = {
    "errors":
        "CheckpointError ConfigError DTypeError ExportError FeedError FetchError FlowmillError "
        "GraphError InternalError ModelError RunError ShapeError TextError UserError",
    "dtypes":
        "DType bfloat16 bool_ float16 float32 float64 int16 int32 int64 int8 uint16 uint32 "
        "uint64 uint8",
    "graph.ir": "Function TensorType Value",
    "graph.definition": "Graph current_graph dim initial_values input named output variable",
    "graph.state": "assign",
    "runtime.session": "Session",
    "graph.module": "Module",
    "exporter": "export",
    "runtime.library": "Library load",
    "graph.gradients": "gradients",
    "graph.clone": "clone",
    "graph.sequential": "Sequential",
    "graph.summary": "Summary summary",
    "graph.formats.flowmill": "load_graph save",
    "graph.layers.mode": "is_training training",
    "graph.ops.source": "constant",
    "graph.ops.pointwise":
        "abs=abs_ add cast ceil divide=div floor floor_divide=floordiv maximum minimum mod "
        "multiply=mul negative=neg power round=round_ sign stop_gradient subtract=sub trunc where",
    "graph.ops.logic":
        "equal greater greater_equal isfinite isinf isnan left_shift less less_equal logical_and "
        "logical_not logical_or logical_xor not_equal right_shift",
    "graph.ops.elementary":
        "acos asin atan cos cosh erf exp exp2 expm1 log log1p log2 rsqrt sigmoid sin sinh "
        "softplus sqrt tan tanh",
    "graph.ops.reduce":
        "Reduction all=all_ any=any_ argmax argmin max=reduce_max mean min=reduce_min prod std "
        "sum=sum_ var",
    "graph.ops.shape": "broadcast_to concat expand_dims pad reshape size_of squeeze transpose",
    "graph.ops.arrange": "flip split stack tile",
    "graph.ops.creation": "arange full iota ones ones_like zeros zeros_like",
    "graph.ops.linalg": "matmul",
    "graph.ops.convolution": "conv conv_transpose",
    "graph.ops.pooling": "average_pool global_average_pool global_max_pool max_pool",
    "graph.ops.indexing": "cumsum gather one_hot scatter scatter_add take_along_axis",
    "graph.ops.recurrent": "scan",
    "graph.ops.branch": "if_",
    "graph.ops.loop": "while_loop",
    "graph.ops.base": "Op Pointwise sample",
    "tools.register": "register_op",
    "graph.ops.effects": "check print=print_",
    "graph.ops.activation":
        "elu gelu hard_sigmoid hard_swish leaky_relu mish prelu relu selu silu softsign",
    "graph.ops.softmax": "log_softmax logsumexp softmax",
    "graph.ops.random": "bernoulli dropout normal uniform",
}  # fmt: skip
# public name -> the module it stands for
_MODULES = {
    "layers": "graph.layers.catalogue",
    "losses": "graph.layers.output",
    "metrics": "graph.layers.metrics",
    "optimizers": "graph.optimizers",
    "schedules": "graph.schedules",
    "initializers": "graph.initializers",
}
_WHERE = {
    name: (module, attribute or name)
    for module, names in _NAMES.items()
    for name, _, attribute in (entry.partition("=") for entry in names.split())
}
__version__ = "0.1.0"
__all__ = [*_WHERE, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        found: Any = import_module(f".{_MODULES[name]}", __name__)
    elif name in _WHERE:
        module, attribute = _WHERE[name]
        found = getattr(import_module(f".{module}", __name__), attribute)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    _offer_eval()
    return found


def _offer_eval() -> None:
    """Makes `value.eval()` load the runtime when it is first called: graphs know nothing of it."""
    ir = _modules.get(f"{__name__}.graph.ir")
    if ir is not None:
        ir.CALLS.setdefault("__eval__", _eval)


def _eval(*args: Any) -> Any:
    return import_module(".runtime.session", __name__).evaluate_value(*args)


def __dir__() -> list[str]:
    return sorted(__all__)
