"""All op families: importing one registers its ops in `base.OPS`, its functions in `ir.CALLS`."""

from __future__ import annotations

from importlib import import_module

from .base import OPS, Op

FAMILIES = (
    "source",
    "pointwise",
    "logic",
    "elementary",
    "division",
    "reduce",
    "shape",
    "subscript",
    "linalg",
    "einsum",
    "convolution",
    "integer_products",
    "quantized",
    "transposed",
    "patches",
    "pooling",
    "adaptive",
    "normalization",
    "resample",
    "resize",
    "sampling",
    "grid",
    "deformable",
    "roi",
    "activation",
    "softmax",
    "norms",
    "nll",
    "attention",
    "lp_pool",
    "creation",
    "window_functions",
    "arrange",
    "sizes",
    "indexing",
    "scattering",
    "fourier_steps",
    "fourier",
    "sequences",
    "sorting",
    "suppression",
    "cumulative",
    "selection",
    "padding",
    "effects",
    "random",
    "fused",
    "control",
    "recurrent",
    "rnn",
    "directions",
    "state",
    "branch",
    "loop",
)


def load_all() -> dict[str, type[Op]]:
    """Imports every family; the registry, by op name."""
    for family in FAMILIES:
        import_module(f"{__package__}.{family}")
    return OPS
