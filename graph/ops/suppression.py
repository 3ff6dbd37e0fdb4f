"""Boxes that are left when those that overlap a better one are taken away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...dims import Dim
from ...dtypes import Array, float32, int64
from ...errors import DTypeError, ShapeError
from ..ir import TensorType
from .base import Op, sample

_TYPES = ("float32", "float32", "int64", "float32", "float32")


@dataclass(frozen=True)
class SelectedBoxes(Op):
    """boxes [b, n, 4], scores [b, c, n], how many to select for each class, the share of their
    union that two boxes may have in common, the score that a box must exceed -> the places of the
    boxes selected [b, c, most], best first; -1 where there are no more.

    A box is selected if it overlaps no better one that is; of equal scores the first is better. A
    box has two opposite corners (y, x, y, x), or if `centred` a centre and sizes (x, y, w, h)."""

    most: Dim
    centred: bool = False
    arity = 5
    differentiable = False
    samples = (sample((1, 40, 4), (1, 1, 40), (), (), (), dtypes=_TYPES, low=0.1, high=3, most=9),
               sample((2, 33, 4), (2, 3, 33), (), (), (), dtypes=_TYPES, low=0.2, high=9, most=33,
                      centred=True),
               sample((1, 1, 4), (1, 2, 1), (), (), (), dtypes=_TYPES, low=0.1, high=3, most=1),
               sample((1, 5, 4), (1, 2, 5), (), (), (), dtypes=_TYPES, low=0, high=1,
                      most=3))  # fmt: skip

    def infer(self, *types: TensorType) -> TensorType:
        boxes, scores, *limits = types
        if any(t.dtype != float32 for t in (boxes, scores, *limits[1:])):
            raise DTypeError("boxes, scores and thresholds must be float32")
        if limits[0].dtype != int64 or any(t.shape != () for t in limits):
            raise ShapeError("how many and the thresholds must be scalars, the first int64")
        if (boxes.ndim, scores.ndim) != (3, 3) or boxes.shape[2] != 4 or (
            boxes.shape[0] != scores.shape[0] or boxes.shape[1] != scores.shape[2]
        ):  # fmt: skip
            raise ShapeError(f"boxes are [batch, n, 4] and scores [batch, classes, n], not {boxes} "
                             f"and {scores}")  # fmt: skip
        return TensorType(int64, (*scores.shape[:2], self.most))

    def ref(self, *xs: Array) -> Array:
        boxes, scores, many, share, least = xs
        most = int(self.most) if isinstance(self.most, int) else -1
        out = np.full((*scores.shape[:2], most), -1, np.int64)
        for b, c in np.ndindex(scores.shape[:2]):
            edges = _edges(boxes[b], self.centred)
            kept: list[int] = []
            for k in np.argsort(-scores[b, c], kind="stable"):
                if len(kept) == min(int(many), most):
                    break
                if scores[b, c, k] > least and not any(
                    _share(edges[k], edges[j]) > share for j in kept
                ):
                    kept.append(int(k))
            out[b, c, : len(kept)] = kept
        return out

    def flops(self, out: TensorType, *types: TensorType) -> Dim:
        return types[1].size * 40


def _edges(boxes: Array, centred: bool) -> Any:
    """For references: lower and upper ends along both axes, [n, 2, 2]."""
    if centred:
        half = boxes[:, 2:] / np.float32(2)
        return np.stack([boxes[:, :2] - half, boxes[:, :2] + half], 1)
    corners = boxes.reshape(-1, 2, 2)
    return np.stack([corners.min(1), corners.max(1)], 1)


def _share(a: Any, b: Any) -> float:
    """For references: what two boxes have in common, as a share of their union."""
    sides = np.minimum(a[1], b[1]) - np.maximum(a[0], b[0])
    common = np.prod(np.maximum(sides, 0))
    union = np.prod(a[1] - a[0]) + np.prod(b[1] - b[0]) - common
    return float(common / union) if union else 0.0
