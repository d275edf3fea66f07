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
from pathlib import Path

from consilience.contract.datasets import Dataset, ViewRecord
from consilience.contract.embeddings import DTYPE_BYTES, Column, Layer
from consilience.datasets.views import OpenDataset
from consilience.errors import StorageFull, Unavailable
from consilience.formats.digests import canonical
from consilience.formats.items.item import OpenItems
from consilience.formats.items.packs import OFFSET
from consilience.formats.matrices import Rows
from consilience.stores import disk
from consilience.stores.layers import Draft, StoredLayer
from consilience.stores.views import StoredView, ViewDraft

#: A layer or column that was put this short a time ago is not deleted: its set's record may be about to be written.
DELETE_GRACE_S = 10.0
_DIGEST = re.compile("[0-9a-f]{64}")


class IncomingFile:
    """An upload on its way in; written as it arrives, read by its path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        disk.create(path)

    def write(self, chunk: bytes) -> int:
        """Appends the chunk. Raises StorageFull, Unavailable."""
        with disk.storage_faults():
            disk.append(self.path, chunk)
        self.size += len(chunk)
        return len(chunk)


class Blobs:
    """The folder of layers, columns, views and uploads under way. Safe from several processes and threads at once."""

    def __init__(self, root: Path) -> None:
        self._layers, self._columns, self._views = root / "layers", root / "columns", root / "views"
        self._folders, self._incoming = (self._layers, self._columns, self._views), root / "incoming"
        with disk.storage_faults():
            for folder in (*self._folders, self._incoming):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextmanager
    def incoming(self) -> Iterator[IncomingFile]:
        """A temporary file for an upload; gone when the context ends. Raises StorageFull, Unavailable."""
        path = self._draft_path()
        try:
            with disk.storage_faults():
                file = IncomingFile(path)
            yield file
        finally:
            path.unlink(missing_ok=True)

    def put(self, file: Rows) -> tuple[Layer, ...]:
        """Streams all layers into the store; a layer that is already there is kept as it is.

        Either every layer is on the disk when this returns, or it raises and no layer can be seen:
        StorageFull, Unavailable, or what reading the file raises.
        """
        with ExitStack() as drafts_end:
            drafts = [drafts_end.enter_context(Draft(self._draft_path(), header)) for header in file.layers]
            for index, rows in file.blocks():
                drafts[index].append(rows)
            with disk.storage_faults():
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
            with disk.storage_faults():
                self._publish(drafts, self._views)
            return tuple(draft.record() for draft in drafts), self.put_column(ids)

    def open_view(self, view: ViewRecord, n: int) -> StoredView:
        """The stored items of a view of n items. Raises Unavailable where they are missing or cut short."""
        path = _address(self._views, view.digest)
        expected = view.bytes + OFFSET.size * (n + 1)
        with disk.storage_faults():
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
        new = [draft for draft in drafts if not disk.refresh(_address(folder, draft.digest), draft.size)]
        for draft in new:
            disk.sync(draft.path)
        for draft in {draft.digest: draft for draft in new}.values():
            disk.publish(draft.path, _address(folder, draft.digest))

    def open(self, layer: Layer, n: int) -> StoredLayer:
        """The stored rows of a layer of n rows. Raises Unavailable where they are missing or cut short."""
        path = _address(self._layers, layer.digest)
        expected = n * layer.dim * DTYPE_BYTES[layer.dtype]
        with disk.storage_faults():
            size = path.stat().st_size
        if size != expected:
            raise Unavailable(f"A stored layer has {size} bytes, not {expected}.", value=layer.digest, limit=expected)
        return StoredLayer(layer.name, n, layer.dim, layer.dtype, layer.digest, path)

    def put_column(self, values: Sequence[str]) -> Column:
        """Keeps the strings of a column; one that is already there is kept as it is.

        It is on the disk when this returns, or it raises and cannot be seen: StorageFull, Unavailable.
        """
        data = canonical(list(values))
        column = Column(digest=hashlib.sha256(data).hexdigest(), unique=len(set(values)))
        draft, target = self._draft_path(), _address(self._columns, column.digest)
        try:
            with disk.storage_faults():
                if not disk.refresh(target, len(data)):
                    disk.create(draft)
                    disk.append(draft, data)
                    disk.sync(draft)
                    disk.publish(draft, target)
        finally:
            draft.unlink(missing_ok=True)
        return column

    def read_column(self, digest: str) -> tuple[str, ...]:
        """The strings of a column. Raises Unavailable where they are missing or damaged."""
        with disk.storage_faults():
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
        with disk.storage_faults():
            return any(disk.remove_old(path, grace_s) for path in self._places(digest))

    def sweep(self, older_than_s: float) -> int:
        """Removes temporary files that nobody wrote to for so long; how many."""
        with disk.storage_faults():
            return sum(disk.remove_old(path, older_than_s) for path in self._incoming.iterdir())

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
    return hashlib.sha256(canonical(content)).hexdigest()
