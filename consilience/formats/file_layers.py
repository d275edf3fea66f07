"""Layers of a local file, read in place: by blocks or row by row, never memory-mapped and never as a whole."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from consilience.contract.embeddings import LayerDtype
from consilience.errors import UnreadableFile
from consilience.formats.open_file import BLOCK_BYTES, NUMPY_DTYPES, Array, OpenFile
from consilience.formats.reading import fill_at

#: Size in bytes, and the time of the last change in nanoseconds.
Stamp = tuple[int, int]
RowIds = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class FileLayer:
    """One layer of a file whose values are contiguous in C order.

    Attributes
    ----------
    name : the layer's name
    n, dim : numbers of rows and columns
    dtype : dtype of the rows that are returned; float64 becomes float32
    stored : dtype of the values in the file
    offset : position of the first row's first value
    stride : number of bytes from one row to the next
    stamp : size and time of the file when its values were checked; reading a changed file fails
    """

    path: Path
    name: str
    n: int
    dim: int
    dtype: LayerDtype
    stored: np.dtype[Any]
    offset: int
    stride: int
    stamp: Stamp

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the values; computed at the first access."""
        digest = sha256()
        step = max(1, BLOCK_BYTES // self._row_bytes)
        for start in range(0, self.n, step):
            digest.update(self.rows(start, min(start + step, self.n)).tobytes())
        return digest.hexdigest()

    def rows(self, start: int, stop: int) -> Array:
        """Return rows start to stop, with a single read if the file's rows hold only this layer."""
        if self.stride != self._row_bytes:
            return self.take(np.arange(start, stop))
        raw = np.empty((stop - start, self._row_bytes), np.uint8)
        self._fill(((raw.reshape(-1).data, start),))
        return self._convert(raw)

    def take(self, ids: RowIds) -> Array:
        """Return the rows with the given row numbers; the file is read in ascending order."""
        raw = np.empty((len(ids), self._row_bytes), np.uint8)
        self._fill([(raw[index].data, int(ids[index])) for index in np.argsort(ids, kind="stable")])
        return self._convert(raw)

    @property
    def _row_bytes(self) -> int:
        return self.dim * self.stored.itemsize

    def _fill(self, targets: Sequence[tuple[memoryview, int]]) -> None:
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError as error:
            raise self._changed() from error
        try:
            fill = fill_at(descriptor, self.offset)
            for buffer, row in targets:
                fill(buffer, row * self.stride)
            if _stamp(os.fstat(descriptor)) != self.stamp:
                raise self._changed()
        finally:
            os.close(descriptor)

    def _changed(self) -> UnreadableFile:
        return UnreadableFile(
            "The file changed while it was read for a score.",
            value=str(self.path),
            hint="Do not write to the file until the score is computed.",
        )

    def _convert(self, raw: Array) -> Array:
        return raw.view(self.stored).astype(NUMPY_DTYPES[self.dtype], copy=False)


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_size, status.st_mtime_ns


def find_file_layers(path: Path, file: OpenFile) -> list[FileLayer] | None:
    """Return the layers of an open file for reading in place, after a check of every value; None if it must be unpacked.

    Raises NonFiniteValues, UnreadableFile.
    """
    offsets = [tensor.offset for tensor in file.tensors if tensor.offset is not None]
    if len(offsets) < len(file.tensors):
        return None
    stamp = _stamp(path.stat())
    for _ in file.blocks():
        pass
    layers = []
    headers = iter(file.layers)
    for tensor, offset in zip(file.tensors, offsets, strict=True):
        for index in range(tensor.shape[1] if len(tensor.shape) == 3 else 1):
            header = next(headers)
            start = offset + index * header.dim * tensor.dtype.itemsize
            layers.append(
                FileLayer(
                    path, header.name, header.n, header.dim, header.dtype, tensor.dtype, start, tensor.row_bytes, stamp
                )
            )
    return layers
