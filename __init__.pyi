# What type checkers see of `flowmill`; tests compare it with the tables of `__init__.py`.
# ruff: noqa: I001 - one statement for each module

from .dtypes import (
    DType as DType,
    bfloat16 as bfloat16,
    bool_ as bool_,
    float16 as float16,
    float32 as float32,
    float64 as float64,
    int8 as int8,
    int16 as int16,
    int32 as int32,
    int64 as int64,
    uint8 as uint8,
    uint16 as uint16,
    uint32 as uint32,
    uint64 as uint64,
)
from .errors import (
    CheckpointError as CheckpointError,
    ConfigError as ConfigError,
    DTypeError as DTypeError,
    ExportError as ExportError,
    FeedError as FeedError,
    FetchError as FetchError,
    FlowmillError as FlowmillError,
    GraphError as GraphError,
    InternalError as InternalError,
    ModelError as ModelError,
    RunError as RunError,
    ShapeError as ShapeError,
    TextError as TextError,
    UserError as UserError,
)
from .graph import initializers as initializers, optimizers as optimizers, schedules as schedules
from .graph.clone import clone as clone
from .exporter import export as export
from .graph.module import Module as Module
from .runtime.library import Library as Library, load as load
from .runtime.session import Session as Session
from .graph.definition import (
    Graph as Graph,
    current_graph as current_graph,
    dim as dim,
    initial_values as initial_values,
    input as input,
    named as named,
    output as output,
    variable as variable,
)
from .graph.formats.flowmill import load_graph as load_graph, save as save
from .graph.formats.onnx import files as _onnx_files
from .graph.gradients import gradients as gradients
from .graph.ir import Function as Function, TensorType as TensorType, Value as Value
from .graph.layers import catalogue as _catalogue, metrics as metrics, output as _output
from .graph.layers.mode import is_training as is_training, training as training
from .graph.ops.activation import (
    celu as celu,
    elu as elu,
    gelu as gelu,
    hard_sigmoid as hard_sigmoid,
    hard_swish as hard_swish,
    leaky_relu as leaky_relu,
    mish as mish,
    prelu as prelu,
    relu as relu,
    selu as selu,
    shrink as shrink,
    silu as silu,
    softsign as softsign,
    swish as swish,
    thresholded_relu as thresholded_relu,
)
from .graph.ops.adaptive import (
    adaptive_average_pool as adaptive_average_pool,
    adaptive_max_pool as adaptive_max_pool,
)
from .graph.ops.arrange import (
    center_crop_pad as center_crop_pad,
    channel_shuffle as channel_shuffle,
    compress as compress,
    depth_to_space as depth_to_space,
    flip as flip,
    space_to_depth as space_to_depth,
    split as split,
    stack as stack,
    tile as tile,
    tril as tril,
    triu as triu,
)
from .graph.ops.attention import attention as attention, rotary_embedding as rotary_embedding
from .graph.ops.base import Op as Op, Pointwise as Pointwise, sample as sample
from .graph.ops.branch import if_ as if_
from .graph.ops.convolution import conv as conv
from .graph.ops.creation import (
    arange as arange,
    eye as eye,
    full as full,
    iota as iota,
    ones as ones,
    ones_like as ones_like,
    zeros as zeros,
    zeros_like as zeros_like,
)
from .graph.ops.cumulative import cumprod as cumprod, cumsum as cumsum
from .graph.ops.deformable import deform_conv as deform_conv
from .graph.ops.directions import (
    dynamic_quantize_lstm as dynamic_quantize_lstm,
    gru as gru,
    lstm as lstm,
    rnn as rnn,
)
from .graph.ops.division import (
    bitcast as bitcast,
    fmod as fmod,
    integer_power as integer_power,
    trunc_divide as trunc_divide,
)
from .graph.ops.effects import check as check, ensure_shape as ensure_shape, print_ as _print
from .graph.ops.einsum import diagonal as diagonal, einsum as einsum
from .graph.ops.elementary import (
    acos as acos,
    acosh as acosh,
    asin as asin,
    asinh as asinh,
    atan as atan,
    atanh as atanh,
    cos as cos,
    cosh as cosh,
    erf as erf,
    exp as exp,
    exp2 as exp2,
    expm1 as expm1,
    log as log,
    log1p as log1p,
    log2 as log2,
    rsqrt as rsqrt,
    sigmoid as sigmoid,
    sin as sin,
    sinh as sinh,
    softplus as softplus,
    sqrt as sqrt,
    tan as tan,
    tanh as tanh,
)
from .graph.ops.fourier import fft as fft, ifft as ifft, irfft as irfft, rfft as rfft, stft as stft
from .graph.ops.grid import affine_grid as affine_grid, grid_sample as grid_sample
from .graph.ops.indexing import (
    gather as gather,
    one_hot as one_hot,
    scatter as scatter,
    scatter_add as scatter_add,
    take_along_axis as take_along_axis,
)
from .graph.ops.integer_products import (
    conv_integer as conv_integer,
    matmul_integer as matmul_integer,
)
from .graph.ops.linalg import det as det, gemm as gemm, matmul as matmul
from .graph.ops.logic import (
    bitwise_and as bitwise_and,
    bitwise_not as bitwise_not,
    bitwise_or as bitwise_or,
    bitwise_xor as bitwise_xor,
    equal as equal,
    greater as greater,
    greater_equal as greater_equal,
    isfinite as isfinite,
    isinf as isinf,
    isnan as isnan,
    left_shift as left_shift,
    less as less,
    less_equal as less_equal,
    logical_and as logical_and,
    logical_not as logical_not,
    logical_or as logical_or,
    logical_xor as logical_xor,
    not_equal as not_equal,
    right_shift as right_shift,
)
from .graph.ops.loop import while_loop as while_loop
from .graph.ops.lp_pool import global_lp_pool as global_lp_pool, lp_pool as lp_pool
from .graph.ops.normalization import (
    batch_norm as batch_norm,
    batch_norm_training as batch_norm_training,
    group_norm as group_norm,
    instance_norm as instance_norm,
    layer_norm as layer_norm,
    local_response_norm as local_response_norm,
    mean_variance_norm as mean_variance_norm,
    rms_norm as rms_norm,
)
from .graph.ops.norms import norm as norm, normalize as normalize
from .graph.ops.padding import pad as pad
from .graph.ops.patches import col2im as col2im, im2col as im2col
from .graph.ops.pointwise import (
    abs_ as _abs,
    add as add,
    cast as cast,
    ceil as ceil,
    clip as clip,
    div as _divide,
    floor as floor,
    floordiv as _floor_divide,
    maximum as maximum,
    minimum as minimum,
    mod as mod,
    mul as _multiply,
    neg as _negative,
    power as power,
    reciprocal as reciprocal,
    round_ as _round,
    sign as sign,
    stop_gradient as stop_gradient,
    sub as _subtract,
    trunc as trunc,
    where as where,
)
from .graph.ops.pooling import (
    average_pool as average_pool,
    global_average_pool as global_average_pool,
    global_max_pool as global_max_pool,
    max_pool as max_pool,
    max_pool_with_indices as max_pool_with_indices,
    max_unpool as max_unpool,
)
from .graph.ops.qlinear import qlinear_conv as qlinear_conv, qlinear_matmul as qlinear_matmul
from .graph.ops.quantized import (
    dequantize_linear as dequantize_linear,
    dynamic_quantize_linear as dynamic_quantize_linear,
    quantize_linear as quantize_linear,
)
from .graph.ops.random import (
    bernoulli as bernoulli,
    dropout as dropout,
    multinomial as multinomial,
    normal as normal,
    uniform as uniform,
)
from .graph.ops.recurrent import scan as scan
from .graph.ops.reduce import (
    Reduction as Reduction,
    all_ as _all,
    any_ as _any,
    argmax as argmax,
    argmin as argmin,
    mean as mean,
    prod as prod,
    reduce_max as _max,
    reduce_min as _min,
    std as std,
    sum_ as _sum,
    var as var,
)
from .graph.ops.resize import resize as resize
from .graph.ops.roi import max_roi_pool as max_roi_pool, roi_align as roi_align
from .graph.ops.scattering import (
    gather_elements as gather_elements,
    gather_nd as gather_nd,
    scatter_elements as scatter_elements,
    scatter_nd as scatter_nd,
)
from .graph.ops.sequences import (
    bincount as bincount,
    reverse_sequence as reverse_sequence,
    searchsorted as searchsorted,
    tensor_scatter as tensor_scatter,
)
from .graph.ops.shape import (
    broadcast_to as broadcast_to,
    concat as concat,
    expand_dims as expand_dims,
    reshape as reshape,
    size_of as size_of,
    squeeze as squeeze,
    transpose as transpose,
)
from .graph.ops.selection import non_max_suppression as non_max_suppression, unique as unique
from .graph.ops.sizes import nonzero as nonzero, prefix as prefix
from .graph.ops.softmax import (
    hardmax as hardmax,
    log_softmax as log_softmax,
    logsumexp as logsumexp,
    softmax as softmax,
)
from .graph.ops.ngrams import count_ngrams as count_ngrams
from .graph.ops.sorting import argsort as argsort, sort as sort, top_k as top_k
from .graph.ops.source import constant as constant
from .graph.ops.transposed import conv_transpose as conv_transpose
from .graph.ops.window_functions import (
    blackman_window as blackman_window,
    hamming_window as hamming_window,
    hann_window as hann_window,
    mel_weight_matrix as mel_weight_matrix,
)
from .graph.sequential import Sequential as Sequential
from .graph.state import assign as assign
from .graph.summary import Summary as Summary, summary as summary
from .tools.register import register_op as register_op

__version__: str
_NAMES: dict[str, str]
_MODULES: dict[str, str]
_WHERE: dict[str, tuple[str, str]]
layers = _catalogue
losses = _output
onnx = _onnx_files
print = _print
abs = _abs
divide = _divide
floor_divide = _floor_divide
multiply = _multiply
negative = _negative
round = _round
subtract = _subtract
all = _all
any = _any
max = _max
min = _min
sum = _sum
