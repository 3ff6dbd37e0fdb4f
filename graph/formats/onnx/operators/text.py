"""Sequences of tokens, as numbers."""

from __future__ import annotations

import numpy as np

from ....ir import Value
from ....ops.indexing import gather
from ....ops.ngrams import count_ngrams
from ....ops.pointwise import cast, where
from ....ops.shape import concat, reshape
from ..call import Call
from ..registry import converter

MOST_COLUMNS = 1 << 24


@converter("TfIdfVectorizer")
def _tf_idf(call: Call) -> Value:
    """Counts of the grams of the pool that are long enough, each in its column."""
    x = call.value(0)
    pool, starts = call.integers("pool_int64s"), call.integers("ngram_counts")
    columns = call.integers("ngram_indexes")
    if pool is None or starts is None or columns is None:
        call.refuse("it counts numbers: pool_int64s, ngram_counts and ngram_indexes are needed")
    low, high = call.integer("min_gram_length"), call.integer("max_gram_length")
    grams: list[tuple[int, ...]] = []
    for n, (first, last) in enumerate(zip(starts, (*starts[1:], len(pool))), 1):
        if not 0 <= first <= last <= len(pool) or (last - first) % n:
            call.refuse(f"ngram_counts {starts} do not fit a pool of {len(pool)} numbers")
        grams += [pool[k : k + n] for k in range(first, last, n)]
    if len(columns) != len(grams) or any(c < 0 for c in columns):
        call.refuse(f"{len(columns)} ngram_indexes for {len(grams)} grams")
    weights = call.numbers("weights") or (1.0,) * len(grams)
    if len(weights) != len(grams):
        call.refuse(f"{len(weights)} weights for {len(grams)} grams")
    wanted = [k for k, g in enumerate(grams) if low <= len(g) <= high]
    if not wanted:
        call.refuse(f"no gram of the pool has {low} to {high} elements")
    if max(columns) >= MOST_COLUMNS:
        call.refuse(f"a column {max(columns)}: there may be {MOST_COLUMNS}")
    found = count_ngrams(x, [grams[k] for k in wanted], call.integer("max_skip_count"))
    factors = np.array([weights[k] for k in wanted], np.float32)
    mode = call.text("mode")
    if mode == "IDF":
        out = where(found > 0, factors, np.float32(0))
    elif mode in ("TF", "TFIDF"):
        out = cast(found, "float32") * (factors if mode == "TFIDF" else np.float32(1))
    else:
        call.refuse(f"the mode {mode!r} is not known")
    # a column without a gram is one of zeros: the last, put behind
    none = reshape(out[..., 0] * 0, (*out.shape[:-1], 1))
    source = np.full(max(columns) + 1, len(wanted), np.int64)
    source[[columns[k] for k in wanted]] = range(len(wanted))
    return gather(concat([out, none], out.ndim - 1), source, out.ndim - 1)
