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
from .graph.gradients import gradients as gradients
from .graph.ir import Function as Function, TensorType as TensorType, Value as Value
from .graph.layers import catalogue as _catalogue, metrics as metrics, output as _output
from .graph.layers.mode import is_training as is_training, training as training
from .graph.ops.activation import (
    elu as elu,
    gelu as gelu,
    hard_sigmoid as hard_sigmoid,
    hard_swish as hard_swish,
    leaky_relu as leaky_relu,
    mish as mish,
    prelu as prelu,
    relu as relu,
    selu as selu,
    silu as silu,
    softsign as softsign,
)
from .graph.ops.arrange import flip as flip, split as split, stack as stack, tile as tile
from .graph.ops.base import Op as Op, Pointwise as Pointwise, sample as sample
from .graph.ops.branch import if_ as if_
from .graph.ops.convolution import conv as conv, conv_transpose as conv_transpose
from .graph.ops.creation import (
    arange as arange,
    full as full,
    iota as iota,
    ones as ones,
    ones_like as ones_like,
    zeros as zeros,
    zeros_like as zeros_like,
)
from .graph.ops.effects import check as check, print_ as _print
from .graph.ops.elementary import (
    acos as acos,
    asin as asin,
    atan as atan,
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
from .graph.ops.indexing import (
    cumsum as cumsum,
    gather as gather,
    one_hot as one_hot,
    scatter as scatter,
    scatter_add as scatter_add,
    take_along_axis as take_along_axis,
)
from .graph.ops.linalg import matmul as matmul
from .graph.ops.logic import (
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
from .graph.ops.pointwise import (
    abs_ as _abs,
    add as add,
    cast as cast,
    ceil as ceil,
    div as _div,
    floor as floor,
    floordiv as _floordiv,
    maximum as maximum,
    minimum as minimum,
    mod as mod,
    mul as _mul,
    neg as _neg,
    power as power,
    round_ as _round,
    sign as sign,
    stop_gradient as stop_gradient,
    sub as _sub,
    trunc as trunc,
    where as where,
)
from .graph.ops.pooling import (
    average_pool as average_pool,
    global_average_pool as global_average_pool,
    global_max_pool as global_max_pool,
    max_pool as max_pool,
)
from .graph.ops.random import (
    bernoulli as bernoulli,
    dropout as dropout,
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
    reduce_max as _reduce_max,
    reduce_min as _reduce_min,
    std as std,
    sum_ as _sum,
    var as var,
)
from .graph.ops.shape import (
    broadcast_to as broadcast_to,
    concat as concat,
    expand_dims as expand_dims,
    pad as pad,
    reshape as reshape,
    size_of as size_of,
    squeeze as squeeze,
    transpose as transpose,
)
from .graph.ops.softmax import (
    log_softmax as log_softmax,
    logsumexp as logsumexp,
    softmax as softmax,
)
from .graph.ops.source import constant as constant
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
abs = _abs
divide = _div
floor_divide = _floordiv
multiply = _mul
negative = _neg
round = _round
subtract = _sub
all = _all
any = _any
max = _reduce_max
min = _reduce_min
sum = _sum
print = _print
