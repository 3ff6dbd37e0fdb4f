"""`fm.layers`: every layer of the six categories under one name.

CamelCase names are classes: configured first, then called on values (`Dense(10)(x)`). Lower-case
names are functions of values. Losses are `fm.losses`, metrics `fm.metrics`.
"""

from __future__ import annotations

from ..ops.activation import (
    elu,
    gelu,
    hard_sigmoid,
    hard_swish,
    leaky_relu,
    mish,
    relu,
    selu,
    silu,
    softsign,
)
from ..ops.elementary import sigmoid, softplus, tanh
from ..ops.softmax import log_softmax, softmax
from .activation import Activation, PReLU
from .base import Layer
from .combination import (
    Flatten,
    MultiHeadAttention,
    Reshape,
    add,
    attention,
    average,
    concatenate,
    dot,
    maximum,
    minimum,
    multiply,
    subtract,
)
from .input import Input, Normalization
from .learnable import Conv1D, Conv2D, Dense, DepthwiseConv2D, Dropout, Embedding
from .normalization import BatchNorm, LayerNorm
from .pooling import (
    AveragePool1D,
    AveragePool2D,
    GlobalAveragePool1D,
    GlobalAveragePool2D,
    GlobalMaxPool1D,
    GlobalMaxPool2D,
    MaxPool1D,
    MaxPool2D,
)
from .recurrent import RNN, SimpleRNN, SimpleRNNCell

__all__ = [
    "RNN",
    "Activation",
    "AveragePool1D",
    "AveragePool2D",
    "BatchNorm",
    "Conv1D",
    "Conv2D",
    "Dense",
    "DepthwiseConv2D",
    "Dropout",
    "Embedding",
    "Flatten",
    "GlobalAveragePool1D",
    "GlobalAveragePool2D",
    "GlobalMaxPool1D",
    "GlobalMaxPool2D",
    "Input",
    "Layer",
    "LayerNorm",
    "MaxPool1D",
    "MaxPool2D",
    "MultiHeadAttention",
    "Normalization",
    "PReLU",
    "Reshape",
    "SimpleRNN",
    "SimpleRNNCell",
    "add",
    "attention",
    "average",
    "concatenate",
    "dot",
    "elu",
    "gelu",
    "hard_sigmoid",
    "hard_swish",
    "leaky_relu",
    "log_softmax",
    "maximum",
    "minimum",
    "mish",
    "multiply",
    "relu",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "softsign",
    "subtract",
    "tanh",
]
