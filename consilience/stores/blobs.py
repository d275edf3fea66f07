"""Content-addressed store of layers, columns and views in a local folder.

layers/ab/abcdef...   the raw rows of one layer: C order, little-endian; the record holds dtype and shape
columns/ab/abcdef...  the ids or the groups of a set, or the ids of a dataset: a JSON list of strings
views/ab/abcdef...    one view of a dataset: its items one after the other, then the offset of each
incoming/             uploads and drafts in progress; old files here were left by a crash
"""

import hashlib
import json
import re
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import numpy.typing as npt

from consilience.contract.datasets import Dataset, ViewKind, ViewRecord
from consilience.contract.embeddings import DTYPE_BYTES, Column, Layer, LayerDtype
from consilience.datasets.views import Items, OpenDataset
from consilience.errors import StorageFull, Unavailable
from consilience.formats.items.item import OFFSET, OpenItems, PackHash, ViewHeader
from consilience.formats.open_file import NUMPY_DTYPES, Array, LayerHeader, LayerSource
from consilience.formats.reading import canonical_json, fill_at, start_hash
from consilience.stores import files

HASH_BLOCK_BYTES = 2**22
RowIds = npt.NDArray[np.integer[Any]]


class LayerDraft:
    """Rows of one layer that are being written to the store. They are hashed as they arrive."""

    def __init__(self, path: Path, header: LayerHeader) -> None:
        self.path = path
        self.size = header.bytes
        self._header = header
        self._hash = start_hash(header.n, header.dim, header.dtype)

    def __enter__(self) -> Self:
        with files.translate_storage_errors():
            files.create(self.path)
        return self

    def __exit__(self, *_: object) -> None:
        self.path.unlink(missing_ok=True)

    @property
    def digest(self) -> str:
        """Address of the layer: SHA-256 of the header line and all rows so far."""
        return self._hash.hexdigest()

    def append(self, rows: Array) -> None:
        """Append a block of rows.

        The file is not kept open between blocks, since a set may have more layers than a process may have open files.
        """
        data = rows.view(np.uint8).reshape(-1).data
        with files.translate_storage_errors():
            files.append(self.path, data)
        self._hash.update(data)

    def layer(self) -> Layer:
        """Return the record of the layer."""
        return Layer(name=self._header.name, dim=self._header.dim, dtype=self._header.dtype, digest=self.digest)


@dataclass(frozen=True)
class StoredLayer:
    """Layer in the store. Its rows are read in blocks into new memory; the file is never mapped."""

    name: str
    n: int
    dim: int
    dtype: LayerDtype
    digest: str
    path: Path

    def rows(self, start: int, stop: int) -> Array:
        """Return the rows from `start` to `stop` (exclusive, at most n) as an array (stop - start, dim) in the stored dtype."""
        stop = min(stop, self.n)
        row_bytes = self.dim * DTYPE_BYTES[self.dtype]
        raw = np.empty((stop - start) * row_bytes, np.uint8)
        with files.translate_storage_errors(), self.path.open("rb", buffering=0) as file:
            fill_at(file.fileno(), 0)(raw.data, start * row_bytes)
        return raw.view(NUMPY_DTYPES[self.dtype]).reshape(stop - start, self.dim)

    def is_intact(self) -> bool:
        """Return True if the content still has the recorded digest. Reads the whole file."""
        digest = start_hash(self.n, self.dim, self.dtype)
        with files.translate_storage_errors(), self.path.open("rb") as file:
            while block := file.read(HASH_BLOCK_BYTES):
                digest.update(block)
        return digest.hexdigest() == self.digest

    def take(self, ids: RowIds) -> Array:
        """Return the rows with these ids, in the order of the ids. They are read one by one, in the order of the file."""
        row_bytes = self.dim * DTYPE_BYTES[self.dtype]
        raw = np.empty((len(ids), row_bytes), np.uint8)
        with files.translate_storage_errors(), self.path.open("rb", buffering=0) as file:
            fill = fill_at(file.fileno(), 0)
            for position in np.argsort(ids, kind="stable"):
                fill(raw[position].data, int(ids[position]) * row_bytes)
        return raw.view(NUMPY_DTYPES[self.dtype])


#: Size of the write buffer of items, in bytes.
BUFFER_BYTES = 2**18


class ViewDraft:
    """Items of one view that are being written to the store. They are hashed as they arrive."""

    def __init__(self, path: Path, header: ViewHeader) -> None:
        self.path = path
        self._header, self._pack, self._buffer = header, PackHash(), bytearray()

    def __enter__(self) -> Self:
        with files.translate_storage_errors():
            files.create(self.path)
        return self

    def __exit__(self, *_: object) -> None:
        self.path.unlink(missing_ok=True)

    def append(self, item: bytes) -> None:
        """Append the next item."""
        self._pack.add(item)
        self._buffer += item
        if len(self._buffer) >= BUFFER_BYTES:
            self._flush()

    def finish(self) -> None:
        """Write the table of offsets after the last item."""
        self._buffer += self._pack.table()
        self._flush()

    @property
    def digest(self) -> str:
        """Address of the view: SHA-256 of the file."""
        return self._pack.digest()

    @property
    def size(self) -> int:
        """Size of the finished file in bytes."""
        return self._pack.size + len(self._pack.table())

    def record(self) -> ViewRecord:
        """Return the record of the view."""
        name, kind = self._header.name, self._header.kind
        return ViewRecord(name=name, kind=kind, bytes=self._pack.size, digest=self.digest)

    def _flush(self) -> None:
        with files.translate_storage_errors():
            files.append(self.path, bytes(self._buffer))
        self._buffer.clear()


@dataclass(frozen=True)
class StoredView:
    """View in the store. Its items are read in blocks."""

    name: str
    kind: ViewKind
    n: int
    size: int
    """Size of all items together, in bytes."""
    digest: str
    path: Path

    def read(self, start: int, stop: int) -> Items:
        """Return the items from `start` to `stop` (exclusive, at most n). Raise Unavailable if the file is damaged."""
        stop = min(stop, self.n)
        if stop <= start:
            return []
        with files.translate_storage_errors(), self.path.open("rb") as file:
            table = self._read_exactly(file, self.size + OFFSET.size * start, OFFSET.size * (stop - start + 1))
            offsets = [offset for (offset,) in OFFSET.iter_unpack(table)]
            if offsets != sorted(offsets) or offsets[-1] > self.size:
                raise self._damaged()
            data = self._read_exactly(file, offsets[0], offsets[-1] - offsets[0])
        items = [data[a - offsets[0] : b - offsets[0]] for a, b in pairwise(offsets)]
        if self.kind == "image":
            return items
        try:
            return [item.decode() for item in items]
        except UnicodeDecodeError:
            raise self._damaged() from None

    def _read_exactly(self, file: BinaryIO, at: int, size: int) -> bytes:
        file.seek(at)
        data = file.read(size)
        if len(data) < size:
            raise self._damaged()
        return data

    def is_intact(self) -> bool:
        """Return True if the content still has the recorded digest. Reads the whole file."""
        digest = hashlib.sha256()
        with files.translate_storage_errors(), self.path.open("rb") as file:
            while block := file.read(HASH_BLOCK_BYTES):
                digest.update(block)
        return digest.hexdigest() == self.digest

    def _damaged(self) -> Unavailable:
        return Unavailable("A stored view is damaged.", value=self.digest)


#: Minimum age in seconds of a blob that is deleted: the record of a younger one may not have been written yet.
DELETE_GRACE_S = 10.0
_DIGEST = re.compile("[0-9a-f]{64}")


class IncomingFile:
    """Temporary file of an upload. It is written as the data arrives and read by its path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        files.create(path)

    def write(self, chunk: bytes) -> int:
        """Append a chunk. Raise StorageFull or Unavailable if it cannot be written."""
        with files.translate_storage_errors():
            files.append(self.path, chunk)
        self.size += len(chunk)
        return len(chunk)


class BlobStore:
    """Folder of layers, columns, views and uploads in progress. Several processes and threads may use it at once."""

    def __init__(self, root: Path) -> None:
        self._layers, self._columns, self._views = root / "layers", root / "columns", root / "views"
        self._folders, self._incoming = (self._layers, self._columns, self._views), root / "incoming"
        with files.translate_storage_errors():
            for folder in (*self._folders, self._incoming):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextmanager
    def incoming(self) -> Iterator[IncomingFile]:
        """Open a temporary file for an upload. It is deleted when the context ends. Raise StorageFull or Unavailable."""
        path = self._draft_path()
        try:
            with files.translate_storage_errors():
                file = IncomingFile(path)
            yield file
        finally:
            path.unlink(missing_ok=True)

    def put(self, file: LayerSource) -> tuple[Layer, ...]:
        """Write all layers to the store. Existing layers stay unchanged.

        Either all layers are on the disk when this returns, or none is visible and an error is raised: StorageFull,
        Unavailable, or an error of reading the file.
        """
        with ExitStack() as stack:
            drafts = [stack.enter_context(LayerDraft(self._draft_path(), header)) for header in file.layers]
            for index, rows in file.blocks():
                drafts[index].append(rows)
            with files.translate_storage_errors():
                self._publish(drafts, self._layers)
            return tuple(draft.layer() for draft in drafts)

    def put_items(self, items: OpenItems) -> tuple[tuple[ViewRecord, ...], Column]:
        """Write all items to the store, and their ids as a column. Existing views stay unchanged.

        Either all views are on the disk when this returns, or none is visible and an error is raised: StorageFull,
        Unavailable, or an error of reading the items.
        """
        ids: list[str] = []
        with ExitStack() as stack:
            drafts = [stack.enter_context(ViewDraft(self._draft_path(), view)) for view in items.views]
            for item in items.read():
                ids.append(item.id)
                for draft, value in zip(drafts, item.values, strict=True):
                    draft.append(value)
            for draft in drafts:
                draft.finish()
            with files.translate_storage_errors():
                self._publish(drafts, self._views)
            return tuple(draft.record() for draft in drafts), self.put_column(ids)

    def open_view(self, view: ViewRecord, n: int) -> StoredView:
        """Open the stored view of n items. Raise Unavailable if its file is missing or has the wrong size."""
        path = _address(self._views, view.digest)
        expected = view.bytes + OFFSET.size * (n + 1)
        with files.translate_storage_errors():
            size = path.stat().st_size
        if size != expected:
            raise Unavailable(
                f"The file of a stored view has {size} bytes instead of {expected}.", value=view.digest, limit=expected
            )
        return StoredView(view.name, view.kind, n, view.bytes, view.digest, path)

    def open_dataset(self, dataset: Dataset) -> OpenDataset:
        """Open a stored dataset, whose views are read on demand. Raise Unavailable as `open_view` does."""
        views = tuple(self.open_view(view, dataset.n) for view in dataset.views)
        return OpenDataset(dataset.name, self.read_column(dataset.ids.digest), views, dataset.digest)

    def _publish(self, drafts: Sequence[LayerDraft | ViewDraft], folder: Path) -> None:
        """Move drafts to their addresses, after all of them have been written to the disk."""
        new = [draft for draft in drafts if not files.refresh(_address(folder, draft.digest), draft.size)]
        for draft in new:
            files.sync(draft.path)
        for draft in {draft.digest: draft for draft in new}.values():
            files.publish(draft.path, _address(folder, draft.digest))

    def open(self, layer: Layer, n: int) -> StoredLayer:
        """Open the stored layer of n rows. Raise Unavailable if its file is missing or has the wrong size."""
        path = _address(self._layers, layer.digest)
        expected = n * layer.dim * DTYPE_BYTES[layer.dtype]
        with files.translate_storage_errors():
            size = path.stat().st_size
        if size != expected:
            raise Unavailable(
                f"The file of a stored layer has {size} bytes instead of {expected}.",
                value=layer.digest,
                limit=expected,
            )
        return StoredLayer(layer.name, n, layer.dim, layer.dtype, layer.digest, path)

    def put_column(self, values: Sequence[str]) -> Column:
        """Store the strings of a column. An existing column stays unchanged.

        Either the column is on the disk when this returns, or it is not visible and StorageFull or Unavailable is raised.
        """
        data = canonical_json(list(values))
        column = Column(digest=hashlib.sha256(data).hexdigest(), unique=len(set(values)))
        draft, target = self._draft_path(), _address(self._columns, column.digest)
        try:
            with files.translate_storage_errors():
                if not files.refresh(target, len(data)):
                    files.create(draft)
                    files.append(draft, data)
                    files.sync(draft)
                    files.publish(draft, target)
        finally:
            draft.unlink(missing_ok=True)
        return column

    def read_column(self, digest: str) -> tuple[str, ...]:
        """Return the strings of a column. Raise Unavailable if the file is missing or damaged."""
        with files.translate_storage_errors():
            data = _address(self._columns, digest).read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise Unavailable("A stored column is damaged.", value=digest)
        return tuple(json.loads(data))

    def digests(self) -> Iterator[str]:
        """Iterate over the digests of all stored layers, columns and views."""
        return (path.name for folder in self._folders for path in folder.glob("*/*") if _DIGEST.fullmatch(path.name))

    def locate(self, digest: str) -> Path | None:
        """Return the path of the layer, column or view with this digest, or None if there is none."""
        return next((path for path in self._candidate_paths(digest) if path.is_file()), None)

    def find_stray_files(self) -> Iterator[Path]:
        """Iterate over files in the blob folders that are no blobs: the name is not a digest, or the folder is wrong."""
        for folder in self._folders:
            for path in folder.rglob("*"):
                is_blob = _DIGEST.fullmatch(path.name) and path.parent == folder / path.name[:2]
                if path.is_file() and not is_blob:
                    yield path

    def find_stale_uploads(self, older_than_s: float) -> Iterator[Path]:
        """Iterate over the temporary files that `sweep` would delete."""
        for path in self._incoming.iterdir():
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime >= older_than_s:
                    yield path

    def delete(self, digest: str, grace_s: float = DELETE_GRACE_S) -> bool:
        """Delete a layer, column or view that no record refers to. Return True if it was deleted.

        A blob that was written or reused within the last `grace_s` seconds is kept: the record of another upload with the
        same content may not have been written yet. Use `grace_s=0` only under `exclusive_upload_lock`.
        """
        with files.translate_storage_errors():
            return any(files.remove_old(path, grace_s) for path in self._candidate_paths(digest))

    def sweep(self, older_than_s: float) -> int:
        """Delete temporary files that have not been written to for this many seconds. Return their number."""
        with files.translate_storage_errors():
            return sum(files.remove_old(path, older_than_s) for path in self._incoming.iterdir())

    def check(self) -> None:
        """Raise Unavailable unless the store is writable."""
        try:
            with self.incoming() as file:
                file.write(b"ready?")
        except StorageFull as error:
            raise Unavailable(error.detail, value=error.value, hint=error.hint) from error

    def _draft_path(self) -> Path:
        return self._incoming / uuid.uuid4().hex

    def _candidate_paths(self, digest: str) -> Iterator[Path]:
        return (_address(folder, digest) for folder in self._folders)


def _address(folder: Path, digest: str) -> Path:
    return folder / digest[:2] / digest


def set_digest(layers: Sequence[Layer], ids: Column | None = None, groups: Column | None = None) -> str:
    """Return the SHA-256 of the names and digests of the layers and of the digests of the columns."""
    content: object = [[layer.name, layer.digest] for layer in layers]
    if ids or groups:
        content = {"layers": content, "ids": ids and ids.digest, "groups": groups and groups.digest}
    return hashlib.sha256(canonical_json(content)).hexdigest()
