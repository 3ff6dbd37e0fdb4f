"""The shipped digits are whole, split once and for all, and what they say they are."""

from __future__ import annotations

import hashlib

import numpy as np
from flowmill.data.digits import CLASSES, TEST, TRAIN, load_digits


def test_shapes_types_and_ranges() -> None:
    train_images, train_labels, test_images, test_labels = load_digits()
    assert train_images.shape == (TRAIN, 1, 8, 8) and test_images.shape == (TEST, 1, 8, 8)
    assert train_labels.shape == (TRAIN,) and test_labels.shape == (TEST,)
    assert TRAIN + TEST == 1797
    assert train_images.dtype == test_images.dtype == np.float32
    assert train_labels.dtype == test_labels.dtype == np.int32
    for images in (train_images, test_images):
        assert images.min() == 0 and images.max() == 1
        np.testing.assert_array_equal(images * 16, np.round(images * 16))


def test_the_split_never_changes() -> None:
    digests = [hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest() for a in load_digits()]
    assert digests == [
        "3820c50301b036949a6af2d5b1d256e458dca7ae2e0b6886475b3c538c7e1a06",
        "aa78bab8171651831639a9bba908edff00832c302b016c46a5b3ad773644b355",
        "e110f2fe7f72d46560e9d184c572e50cf8daffbfadc5e27460b8f790cf13d400",
        "2173da232606556354f0338035bc63aa9aaaba75169f1b781cc13eb413fd3e6c",
    ]


def test_every_class_is_in_both_parts() -> None:
    _, train_labels, _, test_labels = load_digits()
    assert np.bincount(train_labels, minlength=CLASSES).min() > 100
    assert np.bincount(test_labels, minlength=CLASSES).min() > 20


def test_labels_belong_to_the_images() -> None:
    """The nearest training image of a test image has its label, 98 times in 100."""
    train_images, train_labels, test_images, test_labels = load_digits()
    near, far = train_images.reshape(TRAIN, -1), test_images.reshape(TEST, -1)
    distance = (near**2).sum(1) - 2 * far @ near.T
    assert (train_labels[distance.argmin(1)] == test_labels).mean() > 0.97
