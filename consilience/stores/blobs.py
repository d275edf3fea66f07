"""Layers, columns and views in a local folder, each at the address of its content.

layers/ab/abcdef...   the raw rows of one layer: C order, little-endian; dtype and shape stand in the record
columns/ab/abcdef...  the ids or the groups of a set, or the ids of a dataset: a JSON list of strings
views/ab/abcdef...    one view of a dataset: its items one after the other, then where each begins
incoming/             uploads and drafts; whatever is old here was left by a crash
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


class Draft:
    """One layer's rows on their way into the store, hashed as they come."""

    def __init__(self, path: Path, header: LayerHeader) -> None:
        self.path = path
        self.size = header.bytes
        self._header = header
        self._hash = start_hash(header.n, header.dim, header.dtype)

    def __enter__(self) -> Self:
        with files.storage_faults():
            files.create(self.path)
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
        with files.storage_faults():
            files.append(self.path, data)
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
        with files.storage_faults(), self.path.open("rb", buffering=0) as file:
            fill_at(file.fileno(), 0)(raw.data, start * row_bytes)
        return raw.view(NUMPY_DTYPES[self.dtype]).reshape(stop - start, self.dim)

    def is_sound(self) -> bool:
        """Whether the bytes are still those that the digest was taken of: reads all of them."""
        found = start_hash(self.n, self.dim, self.dtype)
        with files.storage_faults(), self.path.open("rb") as file:
            while block := file.read(HASH_BLOCK_BYTES):
                found.update(block)
        return found.hexdigest() == self.digest

    def take(self, ids: RowIds) -> Array:
        """The rows of some ids, in the ids' order; read one by one, in the order in which they lie."""
        row_bytes = self.dim * DTYPE_BYTES[self.dtype]
        raw = np.empty((len(ids), row_bytes), np.uint8)
        with files.storage_faults(), self.path.open("rb", buffering=0) as file:
            fill = fill_at(file.fileno(), 0)
            for place in np.argsort(ids, kind="stable"):
                fill(raw[place].data, int(ids[place]) * row_bytes)
        return raw.view(NUMPY_DTYPES[self.dtype])


#: Bytes of items that are written at once.
BUFFER_BYTES = 2**18


class ViewDraft:
    """One view's items on their way into the store, hashed as they come."""

    def __init__(self, path: Path, header: ViewHeader) -> None:
        self.path = path
        self._header, self._pack, self._buffer = header, PackHash(), bytearray()

    def __enter__(self) -> Self:
        with files.storage_faults():
            files.create(self.path)
        return self

    def __exit__(self, *_: object) -> None:
        self.path.unlink(missing_ok=True)

    def append(self, item: bytes) -> None:
        """The next item."""
        self._pack.add(item)
        self._buffer += item
        if len(self._buffer) >= BUFFER_BYTES:
            self._flush()

    def finish(self) -> None:
        """All items have come."""
        self._buffer += self._pack.table()
        self._flush()

    @property
    def digest(self) -> str:
        """The address."""
        return self._pack.digest()

    @property
    def size(self) -> int:
        """Bytes of the finished file."""
        return self._pack.size + len(self._pack.table())

    def record(self) -> ViewRecord:
        """The view's record."""
        name, kind = self._header.name, self._header.kind
        return ViewRecord(name=name, kind=kind, bytes=self._pack.size, digest=self.digest)

    def _flush(self) -> None:
        with files.storage_faults():
            files.append(self.path, bytes(self._buffer))
        self._buffer.clear()


@dataclass(frozen=True)
class StoredView:
    """One view in the store, read by blocks."""

    name: str
    kind: ViewKind
    n: int
    size: int
    """Bytes of all items together."""
    digest: str
    path: Path

    def read(self, start: int, stop: int) -> Items:
        """Items start to stop (not included), at most n. Raises Unavailable where the file is damaged."""
        stop = min(stop, self.n)
        if stop <= start:
            return []
        with files.storage_faults(), self.path.open("rb") as file:
            table = self._take(file, self.size + OFFSET.size * start, OFFSET.size * (stop - start + 1))
            places = [place for (place,) in OFFSET.iter_unpack(table)]
            if places != sorted(places) or places[-1] > self.size:
                raise self._damaged()
            data = self._take(file, places[0], places[-1] - places[0])
        items = [data[a - places[0] : b - places[0]] for a, b in pairwise(places)]
        if self.kind == "image":
            return items
        try:
            return [item.decode() for item in items]
        except UnicodeDecodeError:
            raise self._damaged() from None

    def _take(self, file: BinaryIO, at: int, size: int) -> bytes:
        file.seek(at)
        data = file.read(size)
        if len(data) < size:
            raise self._damaged()
        return data

    def is_sound(self) -> bool:
        """Whether the bytes are still those that the digest was taken of: reads all of them."""
        found = hashlib.sha256()
        with files.storage_faults(), self.path.open("rb") as file:
            while block := file.read(HASH_BLOCK_BYTES):
                found.update(block)
        return found.hexdigest() == self.digest

    def _damaged(self) -> Unavailable:
        return Unavailable("A stored view is damaged.", value=self.digest)


#: A layer or column that was put this short a time ago is not deleted: its set's record may be about to be written.
DELETE_GRACE_S = 10.0
_DIGEST = re.compile("[0-9a-f]{64}")


class IncomingFile:
    """An upload on its way in; written as it arrives, read by its path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        files.create(path)

    def write(self, chunk: bytes) -> int:
        """Appends the chunk. Raises StorageFull, Unavailable."""
        with files.storage_faults():
            files.append(self.path, chunk)
        self.size += len(chunk)
        return len(chunk)


class Blobs:
    """The folder of layers, columns, views and uploads under way. Safe from several processes and threads at once."""

    def __init__(self, root: Path) -> None:
        self._layers, self._columns, self._views = root / "layers", root / "columns", root / "views"
        self._folders, self._incoming = (self._layers, self._columns, self._views), root / "incoming"
        with files.storage_faults():
            for folder in (*self._folders, self._incoming):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextmanager
    def incoming(self) -> Iterator[IncomingFile]:
        """A temporary file for an upload; gone when the context ends. Raises StorageFull, Unavailable."""
        path = self._draft_path()
        try:
            with files.storage_faults():
                file = IncomingFile(path)
            yield file
        finally:
            path.unlink(missing_ok=True)

    def put(self, file: LayerSource) -> tuple[Layer, ...]:
        """Streams all layers into the store; a layer that is already there is kept as it is.

        Either every layer is on the disk when this returns, or it raises and no layer can be seen:
        StorageFull, Unavailable, or what reading the file raises.
        """
        with ExitStack() as drafts_end:
            drafts = [drafts_end.enter_context(Draft(self._draft_path(), header)) for header in file.layers]
            for index, rows in file.blocks():
                drafts[index].append(rows)
            with files.storage_faults():
                self._publish(drafts, self._layers)
            return tuple(draft.layer() for draft in drafts)

    def put_items(self, items: OpenItems) -> tuple[tuple[ViewRecord, ...], Column]:
        """Streams all items into the store, and their ids as a column; what is already there is kept as it is.

        Either every view is on the disk when this returns, or it raises and none can be seen:
        StorageFull, Unavailable, or what reading the items raises.
        """
        ids: list[str] = []
        with ExitStack() as drafts_end:
            drafts = [drafts_end.enter_context(ViewDraft(self._draft_path(), view)) for view in items.views]
            for item in items.read():
                ids.append(item.id)
                for draft, value in zip(drafts, item.values, strict=True):
                    draft.append(value)
            for draft in drafts:
                draft.finish()
            with files.storage_faults():
                self._publish(drafts, self._views)
            return tuple(draft.record() for draft in drafts), self.put_column(ids)

    def open_view(self, view: ViewRecord, n: int) -> StoredView:
        """The stored items of a view of n items. Raises Unavailable where they are missing or cut short."""
        path = _address(self._views, view.digest)
        expected = view.bytes + OFFSET.size * (n + 1)
        with files.storage_faults():
            size = path.stat().st_size
        if size != expected:
            raise Unavailable(f"A stored view has {size} bytes, not {expected}.", value=view.digest, limit=expected)
        return StoredView(view.name, view.kind, n, view.bytes, view.digest, path)

    def open_dataset(self, dataset: Dataset) -> OpenDataset:
        """A stored dataset, its views read when they are asked for. Raises Unavailable as `open_view`."""
        views = tuple(self.open_view(view, dataset.n) for view in dataset.views)
        return OpenDataset(dataset.name, self.read_column(dataset.ids.digest), views, dataset.digest)

    def _publish(self, drafts: Sequence[Draft | ViewDraft], folder: Path) -> None:
        """Every draft reaches the disk before the first can be seen."""
        new = [draft for draft in drafts if not files.refresh(_address(folder, draft.digest), draft.size)]
        for draft in new:
            files.sync(draft.path)
        for draft in {draft.digest: draft for draft in new}.values():
            files.publish(draft.path, _address(folder, draft.digest))

    def open(self, layer: Layer, n: int) -> StoredLayer:
        """The stored rows of a layer of n rows. Raises Unavailable where they are missing or cut short."""
        path = _address(self._layers, layer.digest)
        expected = n * layer.dim * DTYPE_BYTES[layer.dtype]
        with files.storage_faults():
            size = path.stat().st_size
        if size != expected:
            raise Unavailable(f"A stored layer has {size} bytes, not {expected}.", value=layer.digest, limit=expected)
        return StoredLayer(layer.name, n, layer.dim, layer.dtype, layer.digest, path)

    def put_column(self, values: Sequence[str]) -> Column:
        """Keeps the strings of a column; one that is already there is kept as it is.

        It is on the disk when this returns, or it raises and cannot be seen: StorageFull, Unavailable.
        """
        data = canonical_json(list(values))
        column = Column(digest=hashlib.sha256(data).hexdigest(), unique=len(set(values)))
        draft, target = self._draft_path(), _address(self._columns, column.digest)
        try:
            with files.storage_faults():
                if not files.refresh(target, len(data)):
                    files.create(draft)
                    files.append(draft, data)
                    files.sync(draft)
                    files.publish(draft, target)
        finally:
            draft.unlink(missing_ok=True)
        return column

    def read_column(self, digest: str) -> tuple[str, ...]:
        """The strings of a column. Raises Unavailable where they are missing or damaged."""
        with files.storage_faults():
            data = _address(self._columns, digest).read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise Unavailable("A stored column is damaged.", value=digest)
        return tuple(json.loads(data))

    def digests(self) -> Iterator[str]:
        """The digest of every stored layer, column and view, for a comparison with the records."""
        return (path.name for folder in self._folders for path in folder.glob("*/*") if _DIGEST.fullmatch(path.name))

    def locate(self, digest: str) -> Path | None:
        """Where the layer, column or view of this digest lies; None where it does not."""
        return next((path for path in self._places(digest) if path.is_file()), None)

    def strangers(self) -> Iterator[Path]:
        """Whatever lies among the blobs and is none: its name is no digest, or its folder is another's."""
        for folder in self._folders:
            for path in folder.rglob("*"):
                is_blob = _DIGEST.fullmatch(path.name) and path.parent == folder / path.name[:2]
                if path.is_file() and not is_blob:
                    yield path

    def left_over(self, older_than_s: float) -> Iterator[Path]:
        """Temporary files that nobody wrote to for so long: what `sweep` removes."""
        for path in self._incoming.iterdir():
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime >= older_than_s:
                    yield path

    def delete(self, digest: str, grace_s: float = DELETE_GRACE_S) -> bool:
        """Deletes a layer, a column or a view that no record refers to; whether it did.

        One put within the last `grace_s` is spared: another upload of the same content may just have found
        it here and be about to record it. Without a grace only under a lock that keeps uploads away meanwhile.
        """
        with files.storage_faults():
            return any(files.remove_old(path, grace_s) for path in self._places(digest))

    def sweep(self, older_than_s: float) -> int:
        """Removes temporary files that nobody wrote to for so long; how many."""
        with files.storage_faults():
            return sum(files.remove_old(path, older_than_s) for path in self._incoming.iterdir())

    def check(self) -> None:
        """Raises Unavailable unless the store can be written to."""
        try:
            with self.incoming() as file:
                file.write(b"ready?")
        except StorageFull as error:
            raise Unavailable(error.detail, value=error.value, hint=error.hint) from error

    def _draft_path(self) -> Path:
        return self._incoming / uuid.uuid4().hex

    def _places(self, digest: str) -> Iterator[Path]:
        return (_address(folder, digest) for folder in self._folders)


def _address(folder: Path, digest: str) -> Path:
    return folder / digest[:2] / digest


def set_digest(layers: Sequence[Layer], ids: Column | None = None, groups: Column | None = None) -> str:
    """SHA-256 over the layers' names and digests, and the digests of the columns: equal for equal content."""
    content: object = [[layer.name, layer.digest] for layer in layers]
    if ids or groups:
        content = {"layers": content, "ids": ids and ids.digest, "groups": groups and groups.digest}
    return hashlib.sha256(canonical_json(content)).hexdigest()
