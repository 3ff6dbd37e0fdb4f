"""Ops that no `Compute` expresses, as kernels: `KERNELS[op.name](op, inputs, outputs)`.

Running sums, writes at places that data names, sorting: one module `special_*` for each family,
`special_parts` for what they are written with. A Fail in such a kernel has site 0 and means that
one of the op's `indices` is out of range (code "index").
"""

from __future__ import annotations

from . import (
    special_nms,
    special_rows,
    special_running,
    special_sampling,
    special_scatter,
    special_search,
    special_sizes,
    special_sort,
)
from .special_parts import Maker

KERNELS: dict[str, Maker] = {
    "cumsum": special_running.cumulative,
    "cumprod": special_running.cumulative,
    "scatter_add": special_scatter.scatter_add,
    "scatter": special_scatter.scatter,
    "add_along_axis": special_scatter.add_along_axis,
    "scatter_elements": special_scatter.scatter_elements,
    "scatter_nd": special_scatter.scatter_nd,
    "spread_at": special_sampling.spread_at,
    "nonzero": special_sizes.nonzero,
    "row_order": special_rows.row_order,
    "searchsorted": special_search.searchsorted,
    "selected_boxes": special_nms.selected_boxes,
    "sort": special_sort.sort,
    "top_k": special_sort.top_k,
}
