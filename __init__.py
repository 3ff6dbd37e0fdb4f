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
        "abs=abs_ add cast ceil clip divide=div floor floor_divide=floordiv maximum minimum mod "
        "multiply=mul negative=neg power reciprocal round=round_ sign stop_gradient subtract=sub "
        "trunc where",
    "graph.ops.division": "bitcast fmod integer_power trunc_divide",
    "graph.ops.logic":
        "bitwise_and bitwise_not bitwise_or bitwise_xor equal greater greater_equal isfinite isinf "
        "isnan left_shift less less_equal logical_and logical_not logical_or logical_xor not_equal "
        "right_shift",
    "graph.ops.elementary":
        "acos acosh asin asinh atan atanh cos cosh erf exp exp2 expm1 log log1p log2 rsqrt sigmoid "
        "sin sinh softplus sqrt tan tanh",
    "graph.ops.reduce":
        "Reduction all=all_ any=any_ argmax argmin max=reduce_max mean min=reduce_min prod std "
        "sum=sum_ var",
    "graph.ops.shape": "broadcast_to concat expand_dims reshape size_of squeeze transpose",
    "graph.ops.arrange":
        "center_crop_pad channel_shuffle compress depth_to_space flip space_to_depth split stack "
        "tile tril triu",
    "graph.ops.sizes": "nonzero prefix",
    "graph.ops.creation": "arange eye full iota ones ones_like zeros zeros_like",
    "graph.ops.window_functions":
        "blackman_window hamming_window hann_window mel_weight_matrix",
    "graph.ops.linalg": "det gemm matmul",
    "graph.ops.einsum": "diagonal einsum",
    "graph.ops.padding": "pad",
    "graph.ops.convolution": "conv",
    "graph.ops.transposed": "conv_transpose",
    "graph.ops.patches": "col2im im2col",
    "graph.ops.integer_products": "conv_integer matmul_integer",
    "graph.ops.quantized": "dequantize_linear dynamic_quantize_linear quantize_linear",
    "graph.ops.qlinear": "qlinear_conv qlinear_matmul",
    "graph.ops.pooling":
        "average_pool global_average_pool global_max_pool max_pool max_pool_with_indices max_unpool",
    "graph.ops.lp_pool": "global_lp_pool lp_pool",
    "graph.ops.resize": "resize",
    "graph.ops.attention": "attention rotary_embedding",
    "graph.ops.directions": "dynamic_quantize_lstm gru lstm rnn",
    "graph.ops.deformable": "deform_conv",
    "graph.ops.roi": "max_roi_pool roi_align",
    "graph.ops.grid": "affine_grid grid_sample",
    "graph.ops.normalization":
        "batch_norm batch_norm_training group_norm instance_norm layer_norm local_response_norm "
        "mean_variance_norm rms_norm",
    "graph.ops.adaptive": "adaptive_average_pool adaptive_max_pool",
    "graph.ops.indexing": "gather one_hot scatter scatter_add take_along_axis",
    "graph.ops.scattering": "gather_elements gather_nd scatter_elements scatter_nd",
    "graph.ops.fourier": "fft ifft irfft rfft stft",
    "graph.ops.sequences": "bincount reverse_sequence searchsorted tensor_scatter",
    "graph.ops.ngrams": "count_ngrams",
    "graph.ops.selection": "non_max_suppression unique",
    "graph.ops.sorting": "argsort sort top_k",
    "graph.ops.cumulative": "cumprod cumsum",
    "graph.ops.recurrent": "scan",
    "graph.ops.branch": "if_",
    "graph.ops.loop": "while_loop",
    "graph.ops.base": "Op Pointwise sample",
    "tools.register": "register_op",
    "graph.ops.effects": "check ensure_shape print=print_",
    "graph.ops.activation":
        "celu elu gelu hard_sigmoid hard_swish leaky_relu mish prelu relu selu shrink silu softsign "
        "swish thresholded_relu",
    "graph.ops.softmax": "hardmax log_softmax logsumexp softmax",
    "graph.ops.norms": "norm normalize",
    "graph.ops.random": "bernoulli dropout multinomial normal uniform",
}  # fmt: skip
# public name -> the module it stands for
_MODULES = {
    "layers": "graph.layers.catalogue",
    "losses": "graph.layers.output",
    "metrics": "graph.layers.metrics",
    "optimizers": "graph.optimizers",
    "schedules": "graph.schedules",
    "initializers": "graph.initializers",
    "onnx": "graph.formats.onnx.files",
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
        from difflib import get_close_matches

        near = get_close_matches(name, __all__, 3)
        hint = f"; did you mean {', '.join(near)}?" if near and not name.startswith("_") else ""
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")
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
