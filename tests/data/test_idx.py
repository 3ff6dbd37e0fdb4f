"""The IDX reader: every element type, plain and gzipped, and every way a file can be wrong."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from flowmill.data.idx import read_idx
from flowmill.errors import ModelError

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx(values: np.ndarray, code: int) -> bytes:
    head = struct.pack(f">4B{values.ndim}I", 0, 0, code, values.ndim, *values.shape)
    return head + values.astype(values.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize("kind", CODES)
@pytest.mark.parametrize("shape", [(), (5,), (0, 3), (2, 3, 4)])
@pytest.mark.parametrize("packed", [False, True])
def test_what_is_written_is_read(
    tmp_path: Path, kind: str, shape: tuple[int, ...], packed: bool
) -> None:
    count = int(np.prod(shape))
    values = (np.arange(count) * 37 - 11).astype(kind).reshape(shape)
    raw = idx(values, CODES[kind])
    file = tmp_path / "a.idx"
    file.write_bytes(gzip.compress(raw, mtime=0) if packed else raw)
    found = read_idx(file)
    assert found.dtype == np.dtype(kind) and found.dtype.isnative
    assert found.flags.writeable and found.flags.c_contiguous
    np.testing.assert_array_equal(found, values)


GOOD = idx(np.arange(6, dtype="i2").reshape(2, 3), 0x0B)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "begins with the bytes (none)"),
        (b"\x89PNG....", "begins with the bytes 89 50 4e 47"),
        (b"\0\0\x0a\x01" + GOOD[4:], "begins with the bytes 00 00 0a 01"),
        (GOOD[:3], "no IDX file"),
        (GOOD[:9], "truncated in its header of 2 dimensions"),
        (GOOD[:-1], "truncated: int16[2, 3] takes 24 bytes, the file has 23"),
        (GOOD + b"x", "too long: int16[2, 3] takes 24 bytes, the file has 25"),
        (b"\0\0\x0e\x03" + b"\xff" * 12, "truncated: float64"),
        (gzip.compress(GOOD, mtime=0)[:-9], "damaged gzip data"),
        (
            gzip.compress(GOOD, mtime=0)[:12] + b"\xff\xff" + gzip.compress(GOOD, mtime=0)[14:],
            "damaged gzip data",
        ),
        (gzip.compress(GOOD[:-1], mtime=0), "truncated: int16[2, 3]"),
    ],
)
def test_a_damaged_file_is_told(tmp_path: Path, raw: bytes, message: str) -> None:
    file = tmp_path / "bad.idx"
    file.write_bytes(raw)
    with pytest.raises(ModelError) as error:
        read_idx(file)
    assert message in str(error.value) and str(file) in str(error.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        read_idx(tmp_path / "none.idx")
    with pytest.raises(ModelError, match="cannot be read: Is a directory"):
        read_idx(str(tmp_path))
