"""Sizes that runs compute: how many elements there are of what is looked for."""

from __future__ import annotations

from .....dtypes import int64
from ..draft import Site, Tensor
from ..writing import writer


@writer("nonzero")
def _nonzero(site: Site) -> tuple[Tensor, ...]:
    """The places, filled up with zeros to as many as there can be, and how many there are."""
    (x,), places = site.types, site.node.types[0]
    found = site.emit("NonZero", site.x, dtype=int64)
    count = site.emit("Shape", found, dtype=int64, start=1, end=2)
    missing = site.emit("Sub", site.dims([x.size]), count)
    pads = site.emit("Concat", site.ints([0, 0, 0]), missing, axis=0)
    filled = site.emit("Pad", found, pads, site.constant(0, places.dtype))
    return filled, site.emit("Squeeze", count, site.ints([0]))


@writer("prefix")
def _prefix(site: Site) -> Tensor:
    """A slice; its ends are dimensions that later ones are made of."""
    op = site.op
    for d, count in zip(op.sizes, site.xs[1:]):
        site.draft.sizes.tell(d, site.emit("Unsqueeze", count, site.ints([0])))
    ends = [(k, d) for k, (d, old) in enumerate(zip(op.shape, site.types[0].shape)) if d != old]
    if not ends:
        return site.x
    axes, dims = [k for k, _ in ends], [d for _, d in ends]
    return site.emit("Slice", site.x, site.ints([0] * len(ends)), site.dims(dims), site.ints(axes))
