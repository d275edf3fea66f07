"""Whether the data folder holds what the records name, whole, and nothing else for long."""

import itertools
import time
from collections.abc import Iterator
from contextlib import suppress

from consilience.contract.datasets import Dataset, ViewRecord
from consilience.contract.embeddings import EmbeddingSet, Layer
from consilience.errors import NotFound, Unavailable
from consilience.stores.blobs import Blobs
from consilience.stores.datasets import DatasetRecords
from consilience.stores.embeddings import EmbeddingRecords
from consilience.stores.findings import Finding
from consilience.stores.maps import MapRecords
from consilience.stores.retention import Retention

PAGE = 500


def check_set(blobs: Blobs, stored: EmbeddingSet, *, deep: bool) -> Iterator[Finding]:
    """Each layer and column of the set is there with its size; with `deep`, with its digest."""
    for layer in stored.layers:
        if fault := _layer_fault(blobs, layer, stored.n, deep=deep):
            yield Finding("error", "damaged-layer", stored.id, f"Layer {layer.name} ({layer.digest}): {fault}")
    for column in filter(None, (stored.ids, stored.groups)):
        if fault := _column_fault(blobs, column.digest, deep=deep):
            yield Finding("error", "damaged-column", stored.id, f"Column {column.digest}: {fault}")


def _layer_fault(blobs: Blobs, layer: Layer, n: int, *, deep: bool) -> str | None:
    try:
        stored = blobs.open(layer, n)
        return "its bytes are not those of its digest." if deep and not stored.is_sound() else None
    except Unavailable as error:
        return error.detail


def _column_fault(blobs: Blobs, digest: str, *, deep: bool) -> str | None:
    if blobs.locate(digest) is None:
        return "it is not there."
    try:
        if deep:
            blobs.read_column(digest)
    except Unavailable as error:
        return error.detail
    return None


def check_dataset(blobs: Blobs, stored: Dataset, *, deep: bool) -> Iterator[Finding]:
    """Each view of the dataset, and its ids, are there with their size; with `deep`, with their digest."""
    for view in stored.views:
        if fault := _view_fault(blobs, view, stored.n, deep=deep):
            yield Finding("error", "damaged-view", stored.id, f"View {view.name} ({view.digest}): {fault}")
    if fault := _column_fault(blobs, stored.ids.digest, deep=deep):
        yield Finding("error", "damaged-column", stored.id, f"Column {stored.ids.digest}: {fault}")


def _view_fault(blobs: Blobs, view: ViewRecord, n: int, *, deep: bool) -> str | None:
    try:
        stored = blobs.open_view(view, n)
        return "its bytes are not those of its digest." if deep and not stored.is_sound() else None
    except Unavailable as error:
        return error.detail


def check_maps(records: MapRecords, *, deep: bool) -> Iterator[Finding]:
    """The weights of every map are there with their size; with `deep`, with their digest."""
    cursor, more = None, True
    while more:
        page = records.page(cursor, PAGE)
        for stored in page.data:
            with suppress(NotFound):  # deleted meanwhile
                if fault := records.find_fault(stored.id, deep=deep):
                    yield Finding("error", "damaged-map", stored.id, f"The weights: {fault}")
        cursor, more = page.next_cursor, page.has_more


def all_sets(records: EmbeddingRecords) -> Iterator[EmbeddingSet]:
    """Every set, newest first."""
    cursor, more = None, True
    while more:
        page = records.page(cursor, PAGE)
        yield from page.data
        cursor, more = page.next_cursor, page.has_more


def all_datasets(records: DatasetRecords) -> Iterator[Dataset]:
    """Every dataset, newest first."""
    cursor, more = None, True
    while more:
        page = records.page(cursor, PAGE)
        yield from page.data
        cursor, more = page.next_cursor, page.has_more


def is_there(records: EmbeddingRecords | DatasetRecords, record_id: str) -> bool:
    """Whether the set or dataset has not been deleted meanwhile."""
    with suppress(NotFound):
        return bool(records.get(record_id))
    return False


def check_folder(blobs: Blobs, retention: Retention, grace_s: float) -> Iterator[Finding]:
    """What lies in the folder and no record names: for longer than the grace, since an upload may be about to."""
    for path in blobs.strangers():
        yield Finding("error", "stray-file", str(path), "It lies among the blobs and is none.")
    digests = blobs.digests()
    while batch := tuple(itertools.islice(digests, PAGE)):
        for digest in sorted(set(batch) - retention.named(batch)):
            if _age_s(blobs, digest) >= grace_s:
                yield Finding("warning", "orphan", digest, "No record names this blob: service.deliveries removes it.")
    for path in blobs.left_over(grace_s):
        yield Finding("warning", "left-over", str(path), "An upload that never ended: service.deliveries removes it.")


def _age_s(blobs: Blobs, digest: str) -> float:
    path = blobs.locate(digest)
    with suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime if path else 0.0
    return 0.0
