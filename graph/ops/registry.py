"""All op families: importing one registers its ops in `base.OPS`, its functions in `ir.CALLS`."""

from __future__ import annotations

from importlib import import_module

from .base import OPS, Op

FAMILIES = (
    "source",
    "pointwise",
    "logic",
    "elementary",
    "reduce",
    "shape",
    "linalg",
    "convolution",
    "pooling",
    "activation",
    "softmax",
    "creation",
    "arrange",
    "indexing",
    "effects",
    "random",
    "fused",
    "control",
    "recurrent",
    "state",
    "branch",
    "loop",
)


def load_all() -> dict[str, type[Op]]:
    """Imports every family; the registry, by op name."""
    for family in FAMILIES:
        import_module(f"{__package__}.{family}")
    return OPS
