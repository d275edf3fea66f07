"""From bytes to stored sets: what happens to an upload once it lies on disk. Runs in threads."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from consilience.contract.embeddings import EmbeddingSet
from consilience.errors import ConsilienceError
from consilience.formats.files import FormatLimits, OpenFile
from consilience.stores.folder_lock import no_uploads
from consilience.stores.set_shelf import SetShelf
from service.settings import Settings
from service.stores import Stores


def format_limits(settings: Settings) -> FormatLimits:
    """What an upload may hold."""
    return FormatLimits(
        rows=settings.rows_limit,
        dim=settings.dim_limit,
        layers=settings.layers_limit,
        inline_bytes=settings.inline_limit_bytes,
        unpacked_bytes=settings.upload_limit_bytes,
        column_bytes=settings.column_limit_bytes,
    )


def store(
    stores: Stores, root: Path, file: OpenFile, name: str, metadata: Mapping[str, Any], *, key: str | None = None
) -> tuple[EmbeddingSet, bool]:
    """Keep a file as a set; False where it was there already."""
    shelf = SetShelf(stores.embeddings, stores.blobs, root)
    return shelf.keep(file, name, metadata, ids=file.ids, groups=file.groups, key=key)


def remove(stores: Stores, root: Path, embedding_id: str) -> None:
    """Forget a set and the layers and columns that no other set uses.

    Layers are shared by content: one may belong to an upload whose set is about to be recorded. So they are removed only
    while no upload, and no backup, is under way in any process on this folder; otherwise the collector removes them later.
    """
    remove_record(stores, root, stores.embeddings.delete, embedding_id)


def remove_record(stores: Stores, root: Path, delete: Callable[[str], tuple[str, ...]], record_id: str) -> None:
    """Forget a set or a dataset, by its records' own `delete`, and its blobs as `remove` says."""
    with no_uploads(root) as alone:
        digests = delete(record_id)
        for digest in digests if alone else ():
            stores.blobs.delete(digest, 0.0)


@dataclass
class NewSets:
    """Sets stored for one request, which are removed again if it fails."""

    stores: Stores
    root: Path
    created: list[str] = field(default_factory=list)

    def store(self, file: OpenFile, name: str) -> EmbeddingSet:
        """Keep a file as a set."""
        kept, is_new = store(self.stores, self.root, file, name, {})
        if is_new:
            self.created.append(kept.id)
        return kept


@contextmanager
def new_sets(stores: Stores, root: Path) -> Iterator[NewSets]:
    """Sets that stay only if the block succeeds."""
    sets = NewSets(stores, root)
    try:
        yield sets
    except BaseException:
        for embedding_id in sets.created:
            with suppress(ConsilienceError):  # another request may use it by now; then it stays
                remove(stores, root, embedding_id)
        raise
