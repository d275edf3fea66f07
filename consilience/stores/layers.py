"""One layer on its way into the store, and out of it again."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from consilience.contract.embeddings import DTYPE_BYTES, Layer, LayerDtype
from consilience.formats.digests import start_hash
from consilience.formats.matrices import NUMPY_DTYPES, Array, LayerHeader
from consilience.formats.reading import fill_at
from consilience.stores import disk

HASH_BLOCK_BYTES = 2**22
RowIds = npt.NDArray[np.integer[Any]]


class Draft:
    """One layer's rows on their way into the store, hashed as they come."""

    def __init__(self, path: Path, header: LayerHeader) -> None:
        self.path = path
        self.size = header.bytes
        self._header = header
        self._hash = start_hash(header.n, header.dim, header.dtype)

    def __enter__(self) -> Self:
        with disk.storage_faults():
            disk.create(self.path)
        return self

    def __exit__(self, *_: object) -> None:
        self.path.unlink(missing_ok=True)

    @property
    def digest(self) -> str:
        """The address: SHA-256 over the header line and all rows so far."""
        return self._hash.hexdigest()

    def append(self, rows: Array) -> None:
        """The file is not held open between blocks: a set may have more layers than a process may have files."""
        data = rows.view(np.uint8).reshape(-1).data
        with disk.storage_faults():
            disk.append(self.path, data)
        self._hash.update(data)

    def layer(self) -> Layer:
        """The layer's record."""
        return Layer(name=self._header.name, dim=self._header.dim, dtype=self._header.dtype, digest=self.digest)


@dataclass(frozen=True)
class StoredLayer:
    """One layer in the store, read by blocks into fresh memory: the file is never mapped."""

    name: str
    n: int
    dim: int
    dtype: LayerDtype
    digest: str
    path: Path

    def rows(self, start: int, stop: int) -> Array:
        """Rows start to stop (not included), at most n, as (stop - start, dim) in the stored dtype."""
        stop = min(stop, self.n)
        row_bytes = self.dim * DTYPE_BYTES[self.dtype]
        raw = np.empty((stop - start) * row_bytes, np.uint8)
        with disk.storage_faults(), self.path.open("rb", buffering=0) as file:
            fill_at(file.fileno(), 0)(raw.data, start * row_bytes)
        return raw.view(NUMPY_DTYPES[self.dtype]).reshape(stop - start, self.dim)

    def is_sound(self) -> bool:
        """Whether the bytes are still those that the digest was taken of: reads all of them."""
        found = start_hash(self.n, self.dim, self.dtype)
        with disk.storage_faults(), self.path.open("rb") as file:
            while block := file.read(HASH_BLOCK_BYTES):
                found.update(block)
        return found.hexdigest() == self.digest

    def take(self, ids: RowIds) -> Array:
        """The rows of some ids, in the ids' order; read one by one, in the order in which they lie."""
        row_bytes = self.dim * DTYPE_BYTES[self.dtype]
        raw = np.empty((len(ids), row_bytes), np.uint8)
        with disk.storage_faults(), self.path.open("rb", buffering=0) as file:
            fill = fill_at(file.fileno(), 0)
            for place in np.argsort(ids, kind="stable"):
                fill(raw[place].data, int(ids[place]) * row_bytes)
        return raw.view(NUMPY_DTYPES[self.dtype])
