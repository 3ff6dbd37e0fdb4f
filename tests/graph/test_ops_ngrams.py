"""Counting short sequences in long ones."""

from __future__ import annotations

import flowmill as fm
import numpy as np
import pytest

GRAMS = [(2,), (1, 2), (0,), (3, 3), (1, 0, 1), (2, 1)]


def counted(row, gram, most):
    """Occurrences with equal distances of up to `most` elements."""
    steps = range(1, (most if len(gram) > 1 else 0) + 2)
    return sum(list(row[k : k + (len(gram) - 1) * s + 1 : s]) == list(gram)
               for s in steps for k in range(len(row) - (len(gram) - 1) * s))  # fmt: skip


@pytest.mark.parametrize("skip", [0, 2])
@pytest.mark.parametrize("n", [1, 4, 40])
def test_counts(n, skip):
    x = np.random.default_rng(n).integers(0, 4, (3, n))
    with fm.Graph() as graph:
        y = fm.count_ngrams(fm.input("x", (3, "n"), "int64"), GRAMS, skip)
    made = fm.Session(graph).run(y, {"x": x})
    assert made.dtype == np.int32
    np.testing.assert_array_equal(made, [[counted(r, g, skip) for g in GRAMS] for r in x])


def test_errors():
    with fm.Graph():
        with pytest.raises(fm.DTypeError, match="sequences of integers"):
            fm.count_ngrams(fm.input("x", (3,)), GRAMS)
        with pytest.raises(fm.DTypeError, match="uint8 does not hold"):
            fm.count_ngrams(fm.input("y", (3,), "uint8"), [(300,)])
