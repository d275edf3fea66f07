"""Layers of a local file, read where they lie: by blocks or row by row, never mapped and never whole."""

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

#: Bytes, and when they were last changed.
Stamp = tuple[int, int]
RowIds = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class FileLayer:
    """One layer of a file whose values lie one after the other in C order.

    Attributes
    ----------
    name : the layer's name
    n, dim : its rows and columns
    dtype : how its rows are given; float64 becomes float32
    stored : the type of the values in the file
    offset : the position of the first row's first value
    stride : bytes from one row to the next
    stamp : of the file whose values were looked at; rows of another are not these
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
        """SHA-256 of the numbers; read when it is asked for first."""
        found = sha256()
        step = max(1, BLOCK_BYTES // self._row_bytes)
        for start in range(0, self.n, step):
            found.update(self.rows(start, min(start + step, self.n)).tobytes())
        return found.hexdigest()

    def rows(self, start: int, stop: int) -> Array:
        """Rows start to stop, in one read where the layer is alone in its rows."""
        if self.stride != self._row_bytes:
            return self.take(np.arange(start, stop))
        raw = np.empty((stop - start, self._row_bytes), np.uint8)
        self._fill(((raw.reshape(-1).data, start),))
        return self._keep(raw)

    def take(self, ids: RowIds) -> Array:
        """The rows of some ids, read in the order in which they lie."""
        raw = np.empty((len(ids), self._row_bytes), np.uint8)
        self._fill([(raw[place].data, int(ids[place])) for place in np.argsort(ids, kind="stable")])
        return self._keep(raw)

    @property
    def _row_bytes(self) -> int:
        return self.dim * self.stored.itemsize

    def _fill(self, wanted: Sequence[tuple[memoryview, int]]) -> None:
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError as error:
            raise self._changed() from error
        try:
            fill = fill_at(descriptor, self.offset)
            for buffer, row in wanted:
                fill(buffer, row * self.stride)
            if _stamp(os.fstat(descriptor)) != self.stamp:
                raise self._changed()
        finally:
            os.close(descriptor)

    def _changed(self) -> UnreadableFile:
        return UnreadableFile(
            "The file changed while it was scored.", value=str(self.path), hint="Let it be until the score is there."
        )

    def _keep(self, raw: Array) -> Array:
        return raw.view(self.stored).astype(NUMPY_DTYPES[self.dtype], copy=False)


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_size, status.st_mtime_ns


def find_file_layers(path: Path, file: OpenFile) -> list[FileLayer] | None:
    """The layers of an open file, to be read where they lie, after one look at every value; None where they cannot be.

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
        for place in range(tensor.shape[1] if len(tensor.shape) == 3 else 1):
            header = next(headers)
            start = offset + place * header.dim * tensor.dtype.itemsize
            layers.append(
                FileLayer(
                    path, header.name, header.n, header.dim, header.dtype, tensor.dtype, start, tensor.row_bytes, stamp
                )
            )
    return layers
