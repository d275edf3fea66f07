"""What can be uploaded: a file by its path, or an array; both are sent as streams and never copied whole."""

import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from consilience.client.exchange import Body
from consilience.contract.embeddings import EmbeddingSet
from consilience.contract.extraction import Extraction
from consilience.errors import MissingExtra

CHUNK_BYTES = 1 << 20
EMBEDDING_ID = re.compile(r"emb_[0-9a-f]{32}")
NAME_LENGTH = 128
MEDIA_TYPES = {
    ".npy": "application/x-npy",
    ".npz": "application/x-npz",
    ".safetensors": "application/x-safetensors",
    ".json": "application/json",
    ".parquet": "application/vnd.apache.parquet",
    ".arrow": "application/vnd.apache.arrow.file",
    ".feather": "application/vnd.apache.arrow.file",
    ".arrows": "application/vnd.apache.arrow.stream",
    ".jsonl": "application/jsonl",
    ".ndjson": "application/jsonl",
    ".zip": "application/zip",
    ".tar": "application/x-tar",
}


class ArrayLike(Protocol):
    """Numbers of shape (n, d) or (n, L, d): numpy's, or what `numpy.asarray` takes, such as a tensor in memory."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, then layers if there are several, then dimensions."""


#: A stored set, its id, a file's path, or an array.
Source = EmbeddingSet | str | os.PathLike[str] | ArrayLike
#: The same, or what a model is to make first.
AnySource = Source | Extraction


@dataclass(frozen=True)
class FileBody:
    """A file, read anew at each attempt."""

    path: Path

    @property
    def media_type(self) -> str:
        """By the file's suffix; the service looks into the others itself."""
        return MEDIA_TYPES.get(self.path.suffix.lower(), "application/octet-stream")

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self.path.stat().st_size

    def chunks(self) -> Iterator[bytes]:
        """The file's bytes."""
        with self.path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk


@dataclass(frozen=True)
class NpyBody:
    """An array as npy: its header, then its own memory."""

    header: bytes
    rows: memoryview
    media_type: str = "application/x-npy"

    @property
    def size(self) -> int:
        """Bytes of header and numbers."""
        return len(self.header) + self.rows.nbytes

    def chunks(self) -> Iterator[bytes]:
        """The npy file's bytes."""
        yield self.header
        for start in range(0, self.rows.nbytes, CHUNK_BYTES):
            yield bytes(self.rows[start : start + CHUNK_BYTES])


def stored_id(source: Source) -> str | None:
    """The id, where `source` is a set that the service already holds."""
    if isinstance(source, EmbeddingSet):
        return source.id
    return source if isinstance(source, str) and EMBEDDING_ID.fullmatch(source) else None


def body_of(source: Source) -> Body:
    """The bytes of a file or an array.

    Raises FileNotFoundError for a path that is not there, MissingExtra for an array without numpy.
    """
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        path.stat()
        return FileBody(path)
    return _npy(source)


def name_of(source: Source) -> str:
    """A label in the service's alphabet: the file's name without its suffix."""
    stem = Path(source).stem if isinstance(source, str | os.PathLike) else "array"
    label = re.sub(r"[^A-Za-z0-9 ._:@+-]", "-", stem)
    return re.sub(r"^[^A-Za-z0-9]+", "", label)[:NAME_LENGTH] or "embeddings"


def _npy(array: object) -> NpyBody:
    try:
        import numpy as np  # noqa: PLC0415 -- the client works without numpy until it is given an array
    except ImportError as error:
        raise MissingExtra("Uploading an array needs numpy.", hint="Run: pip install 'consilience[arrays]'") from error
    rows = np.ascontiguousarray(array)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(rows))
    return NpyBody(header.getvalue(), rows.reshape(-1).view(np.uint8).data)
