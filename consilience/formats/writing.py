"""Atomic writes of npy and safetensors files, block by block.

A file either appears complete or not at all, and no layer is held in memory.
"""

import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from errno import ENOSPC
from pathlib import Path
from typing import BinaryIO

import numpy as np

from consilience.errors import InputError, StorageFull
from consilience.formats.open_file import Array, LayerSource


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces `path` when the block succeeds; after an error the old file stays.

    Raises
    ------
    StorageFull, InputError (the path cannot be written)
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
    except OSError as error:
        kind = StorageFull if error.errno == ENOSPC else InputError
        raise kind(f"The file {path} cannot be written: {error.strerror}.", value=path) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_npy(path: Path, shape: tuple[int, int], blocks: Iterable[Array]) -> None:
    """Write rows of float32 to an npy file, atomically.

    Raises
    ------
    StorageFull, InputError, or what the blocks raise
    """
    with atomic_write(path) as out:
        np.lib.format.write_array_header_1_0(out, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for block in blocks:
            out.write(np.ascontiguousarray(block, "<f4").data)


_LENGTH_BYTES = 8


def write_safetensors(path: Path, rows: LayerSource, metadata: Mapping[str, str]) -> None:
    """Write layers under their names to a safetensors file, atomically; `metadata` goes into the header.

    Raises
    ------
    StorageFull, InputError, or what the rows raise
    """
    sizes = [layer.bytes for layer in rows.layers]
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    tensors = {
        layer.name: {"dtype": layer.dtype, "shape": [layer.n, layer.dim], "data_offsets": [start, start + size]}
        for layer, start, size in zip(rows.layers, starts, sizes, strict=True)
    }
    header = json.dumps({"__metadata__": dict(metadata), **tensors}).encode()
    header += b" " * (-len(header) % _LENGTH_BYTES)
    with atomic_write(path) as file:
        file.write(len(header).to_bytes(_LENGTH_BYTES, "little") + header)
        positions = [_LENGTH_BYTES + len(header) + start for start in starts]
        for index, block in rows.blocks():
            file.seek(positions[index])
            data = np.ascontiguousarray(block).view(np.uint8).reshape(-1).data
            file.write(data)
            positions[index] += len(data)
