"""The 1,797 handwritten digits that ship with flowmill, as arrays ready to train on.

Source: "Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak, 1998, UCI Machine
Learning Repository, licence CC BY 4.0; the copy is scikit-learn's (BSD 3-Clause), which is the test
part of the original. `data/README.md` says more.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..dtypes import Array
from .idx import read_idx

TRAIN = 1437
TEST = 360
CLASSES = 10

_FOLDER = Path(__file__).resolve().parent


def load_digits() -> tuple[Array, Array, Array, Array]:
    """(train_images, train_labels, test_images, test_labels).

    Images are float32 of shape (n, 1, 8, 8), 0 for paper and 1 for ink in steps of 1/16; labels are
    int32 of shape (n,), 0 to 9. n is 1,437 for training and 360 for testing. The split is the same
    everywhere and always: the file's order shuffled by NumPy's frozen legacy generator with seed 0,
    cut after 1,437. It is shuffled because the file is in order of writers; so every writer may be
    in both parts, and test accuracy says nothing about unseen hands.

    Raises ModelError where the shipped files are damaged.
    """
    pixels = read_idx(_FOLDER / "digits-images.idx3-ubyte.gz")
    classes = read_idx(_FOLDER / "digits-labels.idx1-ubyte.gz")
    order = np.random.RandomState(0).permutation(len(classes))
    images = (pixels[order].astype(np.float32) / np.float32(16))[:, np.newaxis]
    labels = classes[order].astype(np.int32)
    return images[:TRAIN], labels[:TRAIN], images[TRAIN:], labels[TRAIN:]
