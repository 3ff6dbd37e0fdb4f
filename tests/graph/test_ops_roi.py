"""Regions of interest: pooling by its definition, gradients, numbers of images that do not exist."""

from __future__ import annotations

import flowmill as fm
import numpy as np
import pytest

REGIONS = np.array([[0, 0, 3, 3], [1, 2, 6, 4], [4.6, 1.2, 2, 8], [9, 9, 12, 12]], np.float32)
IMAGES = np.array([1, 0, 1, 0])


def pooled(x, size, scale):
    """Bin by bin, as in the paper's code: whole bins, those without an element being 0."""
    out = np.zeros((len(REGIONS), x.shape[1], *size), np.float32)
    for r, (region, image) in enumerate(zip(REGIONS * scale, IMAGES)):
        x1, y1, x2, y2 = (int(np.floor(v + 0.5)) for v in region)
        h, w = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)
        for i, j in np.ndindex(size):
            rows = np.clip([y1 + i * h // size[0], y1 - (-(i + 1) * h // size[0])], 0, x.shape[2])
            columns = np.clip(
                [x1 + j * w // size[1], x1 - (-(j + 1) * w // size[1])], 0, x.shape[3]
            )
            part = x[image, :, rows[0] : rows[1], columns[0] : columns[1]]
            if part.size:
                out[r, :, i, j] = part.max((1, 2))
    return out


@pytest.mark.parametrize("size, scale", [((2, 3), 1.0), ((3, 1), 0.5)])
def test_max_roi_pool(size, scale):
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 8)).astype(np.float32)
    with fm.Graph() as graph:
        v, regions = fm.input("x", ("n", 3, "h", "w")), fm.input("regions", ("r", 4))
        images = fm.input("images", ("r",), "int64")
        y = fm.max_roi_pool(v, regions, images, size, scale)
        (slope,) = fm.gradients(fm.sum(y), [v])
    feeds = {v: x, regions: REGIONS, images: IMAGES}
    session = fm.Session(graph)
    made, steps = session.run([y, slope], feeds)
    expected = pooled(x, size, scale)
    np.testing.assert_array_equal(made, expected)
    assert steps.sum() == np.count_nonzero(expected)
    np.testing.assert_allclose(np.sum(steps * x), expected.sum(), rtol=1e-5)
    with pytest.raises(fm.RunError, match="not in the batch"):
        session.run(y, {**feeds, images: IMAGES + 1})


def test_roi_align_of_a_whole_image_is_its_mean():
    x = np.random.default_rng(0).standard_normal((1, 2, 4, 6)).astype(np.float32)
    with fm.Graph() as graph:
        v = fm.input("x", x.shape)
        regions = fm.constant(np.array([[0, 0, 6, 4]], np.float32))
        y = fm.roi_align(v, regions, np.array([0]), (2, 3), 2)
        (slope,) = fm.gradients(fm.sum(y), [v])
    made, steps = fm.Session(graph).run([y, slope], {v: x})
    np.testing.assert_allclose(made[0], x.reshape(2, 2, 2, 3, 2).mean((2, 4)), rtol=1e-5)
    np.testing.assert_allclose(steps, np.full_like(x, 0.25), rtol=1e-6)


@pytest.mark.parametrize("regions", [0, "r"])
def test_no_regions(regions):
    with fm.Graph() as graph:
        v, boxes = fm.input("x", (1, 2, 4, 6)), fm.input("boxes", (regions, 4))
        images = fm.input("images", (regions,), "int64")
        y = fm.roi_align(v, boxes, images, (2, 3), 0)
    feeds = {v: np.ones((1, 2, 4, 6), np.float32), boxes: np.zeros((0, 4), np.float32),
             images: np.zeros(0, np.int64)}  # fmt: skip
    if regions == 0:
        assert fm.Session(graph).run(y, feeds).shape == (0, 2, 2, 3)
    else:
        feeds[boxes], feeds[images] = np.array([[0, 0, 3, 2]], np.float32), np.zeros(1, np.int64)
        np.testing.assert_allclose(
            fm.Session(graph).run(y, feeds), np.ones((1, 2, 2, 3)), rtol=1e-6
        )
