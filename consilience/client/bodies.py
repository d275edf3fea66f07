"""Request bodies: a file, an array, or a form of both with JSON; all are streamed and never copied whole."""

import io
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from consilience.client.transport import Body
from consilience.contract.embeddings import EmbeddingSet
from consilience.contract.extraction import Extraction
from consilience.errors import InvalidRequest, MissingExtra

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
#: Media type of a map's file, whatever its suffix.
MAP_MEDIA_TYPE = "application/x-safetensors"


class ArrayLike(Protocol):
    """Numbers of shape (n, d) or (n, L, d): an array, or any object that `numpy.asarray` converts."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, then layers if there are several, then dimensions."""


#: A stored embedding set, its id, the path of a file, or an array.
Source = EmbeddingSet | str | os.PathLike[str] | ArrayLike
#: The same, or an extraction that the job runs first.
AnySource = Source | Extraction
#: One string or integer per row; an array is accepted too.
Labels = Sequence[str | int]


@dataclass(frozen=True)
class FileBody:
    """Content of a file, opened again for each attempt.

    Parameters
    ----------
    path : Path
    declared_type : str, optional
        Media type; by default that of the file's suffix.
    """

    path: Path
    declared_type: str | None = None

    @property
    def media_type(self) -> str:
        """Declared media type, else that of the suffix; the service detects the format of other files itself."""
        return self.declared_type or MEDIA_TYPES.get(self.path.suffix.lower(), "application/octet-stream")

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self.path.stat().st_size

    def chunks(self) -> Iterator[bytes]:
        """Yield the file's bytes."""
        with self.path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk


@dataclass(frozen=True)
class NpyBody:
    """Array in npy format: the header, then the array's own memory."""

    header: bytes
    rows: memoryview
    media_type: str = "application/x-npy"

    @property
    def size(self) -> int:
        """Bytes of the header and the numbers."""
        return len(self.header) + self.rows.nbytes

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes of the npy file."""
        yield self.header
        for start in range(0, self.rows.nbytes, CHUNK_BYTES):
            yield bytes(self.rows[start : start + CHUNK_BYTES])


@dataclass(frozen=True)
class FormBody:
    """Multipart form of JSON parts and one file, of known length.

    Parameters
    ----------
    file : Body
    parts : mapping of str to bytes
        JSON by the name of the part.
    name : str
        Name of the file's part.
    """

    file: Body
    parts: Mapping[str, bytes]
    name: str = "file"
    #: Random, so that no file contains it.
    boundary: str = field(default_factory=lambda: uuid4().hex)

    @property
    def media_type(self) -> str:
        """Media type with the boundary."""
        return f"multipart/form-data; boundary={self.boundary}"

    @property
    def size(self) -> int:
        """Total number of bytes."""
        return self.file.size + sum(map(len, self._before())) + len(self._end())

    def chunks(self) -> Iterator[bytes]:
        """Yield the form's bytes."""
        for piece in self._before():
            for start in range(0, len(piece), CHUNK_BYTES):
                yield piece[start : start + CHUNK_BYTES]
        yield from self.file.chunks()
        yield self._end()

    def _before(self) -> list[bytes]:
        """Return everything that precedes the file's bytes."""
        pieces = []
        for name, data in self.parts.items():
            pieces += [self._head(f'name="{name}"', "application/json"), data, b"\r\n"]
        return [*pieces, self._head(f'name="{self.name}"; filename="{self.name}"', self.file.media_type)]

    def _head(self, disposition: str, media_type: str) -> bytes:
        lines = f"--{self.boundary}", f"Content-Disposition: form-data; {disposition}", f"Content-Type: {media_type}"
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def _end(self) -> bytes:
        return f"\r\n--{self.boundary}--\r\n".encode()


def body_of(source: Source) -> Body:
    """Return the bytes of a file or an array.

    Raises FileNotFoundError if there is no such file, MissingExtra for an array if numpy is not installed.
    """
    return file_body(source) if isinstance(source, str | os.PathLike) else _npy_body(source)


def file_body(path: str | os.PathLike[str], media_type: str | None = None) -> FileBody:
    """Return the bytes of a file. Raises FileNotFoundError if there is no such file."""
    Path(path).stat()
    return FileBody(Path(path), media_type)


def upload_body(source: Source, ids: Labels | None, groups: Labels | None) -> Body:
    """Return the bytes of a file or an array, in a form if it has ids or groups."""
    columns = {"ids": ids, "groups": groups}
    parts = {name: column_json(labels, name) for name, labels in columns.items() if labels is not None}
    return FormBody(body_of(source), parts) if parts else body_of(source)


def column_json(labels: Any, name: str) -> bytes:
    """Return a column of labels as JSON; the service validates the values.

    Raises InvalidRequest if JSON cannot hold them.
    """
    hint = "Pass a sequence with one string or integer per row."
    if isinstance(labels, str | bytes):
        raise InvalidRequest(
            f"`{name}` must be a sequence of labels; got a single string.",
            value=labels,
            pointer=f"/{name}",
            hint=hint,
        )
    try:
        values = labels.tolist() if hasattr(labels, "tolist") else list(labels)
        return json.dumps(values, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"`{name}` cannot be encoded as JSON: {error}.", hint=hint, pointer=f"/{name}") from None


def stored_id(source: Source) -> str | None:
    """Return the id of a stored embedding set; None for a file or an array."""
    if isinstance(source, EmbeddingSet):
        return source.id
    return source if isinstance(source, str) and EMBEDDING_ID.fullmatch(source) else None


def name_of(source: Source) -> str:
    """Return a valid name for a source: the name of its file without the suffix."""
    stem = Path(source).stem if isinstance(source, str | os.PathLike) else "array"
    label = re.sub(r"[^A-Za-z0-9 ._:@+-]", "-", stem)
    return re.sub(r"^[^A-Za-z0-9]+", "", label)[:NAME_LENGTH] or "embeddings"


def _npy_body(array: object) -> NpyBody:
    try:
        import numpy as np  # noqa: PLC0415 - only needed to upload an array
    except ImportError as error:
        raise MissingExtra(
            "Uploading an array requires numpy.", hint="Run: pip install 'consilience[arrays]'"
        ) from error
    rows = np.ascontiguousarray(array)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(rows))
    return NpyBody(header.getvalue(), rows.reshape(-1).view(np.uint8).data)
