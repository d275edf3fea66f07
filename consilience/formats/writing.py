"""Layers into a safetensors file, block by block: nothing of them is held in memory."""

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
    """A file to be written, which takes its place when the block succeeds; otherwise what was there before stays.

    Raises
    ------
    StorageFull, InputError (the path cannot be written)
    """
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with unfinished.open("xb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        unfinished.replace(path)
    except OSError as error:
        refusal = StorageFull if error.errno == ENOSPC else InputError
        raise refusal(f"{path} cannot be written: {error.strerror}.", value=path) from error
    finally:
        unfinished.unlink(missing_ok=True)


def write_npy(path: Path, shape: tuple[int, int], blocks: Iterable[Array]) -> None:
    """Write rows of float32; the whole file is there when this returns, else what was there before.

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
    """Write layers under their names, whole or not at all; `metadata` stands in the header.

    Raises
    ------
    StorageFull, InputError, or what the rows raise
    """
    sizes = [layer.bytes for layer in rows.layers]
    starts = [sum(sizes[:place]) for place in range(len(sizes))]
    tensors = {
        layer.name: {"dtype": layer.dtype, "shape": [layer.n, layer.dim], "data_offsets": [start, start + size]}
        for layer, start, size in zip(rows.layers, starts, sizes, strict=True)
    }
    header = json.dumps({"__metadata__": dict(metadata), **tensors}).encode()
    header += b" " * (-len(header) % _LENGTH_BYTES)
    with atomic_write(path) as file:
        file.write(len(header).to_bytes(_LENGTH_BYTES, "little") + header)
        places = [_LENGTH_BYTES + len(header) + start for start in starts]
        for index, block in rows.blocks():
            file.seek(places[index])
            data = np.ascontiguousarray(block).view(np.uint8).reshape(-1).data
            file.write(data)
            places[index] += len(data)
