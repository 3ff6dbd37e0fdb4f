"""Models to files: the weights inside, or apart in a file that can be mapped.

In: a ModelProto without initial values, and these by name. Out: the file, and where weights stand
apart `<file>.data` beside it; each appears whole or not at all, the weights first.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from onnx import ModelProto, TensorProto

from ....dtypes import Array, as_dtype
from ....errors import ModelError
from .tensors import code_of

MOST = (1 << 31) - (1 << 24)  # bytes of weights in one file: a protobuf has 2 GiB at most
_APART = 1024  # bytes from which a weight is worth a place in the second file
_PAGE = 4096  # weights begin at pages, so that mapping one maps nothing else


def store(proto: ModelProto, weights: Mapping[str, Array], path: Path,
          external: bool | None) -> None:  # fmt: skip
    """Writes a model. `external`: whether weights stand apart; None: where they must. ModelError
    where the path cannot be written."""
    if external is None:
        external = sum(a.nbytes for a in weights.values()) > MOST
    data = path.with_name(f"{path.name}.data") if external else None
    done: dict[Path, str] = {}
    try:
        if data is not None:
            with _temporary(data, done) as f:
                _apart(proto, weights, data.name, f)
        for name, array in weights.items():
            if data is None or array.nbytes < _APART:
                t = _described(proto, name, array)
                t.raw_data = _bytes(array)
        with _temporary(path, done) as f:
            f.write(proto.SerializeToString())
        for target in list(done):
            os.replace(done[target], target)
            del done[target]
    except OSError as e:
        raise ModelError(f"cannot write {path}: {e.strerror}") from None
    except ValueError as e:
        raise ModelError(f"cannot write {path}: {e}", "external=True has more room") from None
    finally:
        for name in done.values():
            with suppress(OSError):
                os.unlink(name)


@contextmanager
def _temporary(target: Path, done: dict[Path, str]) -> Iterator[BinaryIO]:
    """A file beside `target` that is to become it, noted in `done`."""
    handle, done[target] = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    with os.fdopen(handle, "wb") as f:
        yield f
        f.flush()
        os.fsync(f.fileno())
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(done[target], 0o666 & ~mask)  # mkstemp made it private


def _described(proto: ModelProto, name: str, array: Array) -> TensorProto:
    """An initial value that has its elements still to come."""
    return proto.graph.initializer.add(  # type: ignore[no-any-return]
        name=name, dims=array.shape, data_type=code_of(as_dtype(array.dtype)))  # fmt: skip


def _apart(proto: ModelProto, weights: Mapping[str, Array], location: str, f: BinaryIO) -> None:
    """Writes the larger weights one after the other, and says in the model where they lie."""
    end = 0
    for name, array in weights.items():
        if array.nbytes < _APART:
            continue
        start = -(-end // _PAGE) * _PAGE
        f.seek(start)
        f.write(_little(array))
        end = start + array.nbytes
        t = _described(proto, name, array)
        t.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", start), ("length", array.nbytes)):
            t.external_data.add(key=key, value=str(value))


def _little(array: Array) -> memoryview:
    """The bytes of an array, the lowest of each element first; no copy where they lie so."""
    stored = array.dtype.newbyteorder("<")
    return np.ascontiguousarray(array, stored).reshape(-1).view(np.uint8).data


def _bytes(array: Array) -> bytes:
    return _little(array).tobytes()
