"""Storage of uploaded files as sets and datasets. Runs in threads."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from consilience.contract.datasets import ViewKind
from consilience.contract.embeddings import DTYPE_BYTES, EmbeddingSet
from consilience.contract.pointers import at_pointer
from consilience.errors import ConsilienceError, InvalidRequest
from consilience.formats.files import from_vectors
from consilience.formats.items.item import ItemLimits, ViewChoice
from consilience.formats.open_file import FormatLimits, OpenFile
from consilience.planning.alignments import SideShape
from consilience.stores.datasets import DatasetRepository
from consilience.stores.embeddings import EmbeddingRepository
from consilience.stores.files import exclusive_upload_lock
from service.request_body import parse_json
from service.settings import ServiceSettings
from service.stores import Stores


def format_limits(settings: ServiceSettings) -> FormatLimits:
    """Return the limits of an uploaded embedding set."""
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
    """Store a file as a set. The second value is False if the set already existed."""
    shelf = EmbeddingRepository(stores.embeddings, stores.blobs, root)
    return shelf.add(file, name, metadata, ids=file.ids, groups=file.groups, key=key)


def remove(stores: Stores, root: Path, embedding_id: str) -> None:
    """Delete a set, and the layers and columns that no other set uses.

    Sets share layers with equal content, and an upload in progress may be about to use one. Therefore, blobs are deleted only
    while no upload and no backup is running in any process on this folder. Otherwise, the collector deletes them later.
    """
    remove_record(stores, root, stores.embeddings.delete, embedding_id)


def remove_record(stores: Stores, root: Path, delete: Callable[[str], tuple[str, ...]], record_id: str) -> None:
    """Delete a record with `delete`, and its blobs as in `remove`."""
    with exclusive_upload_lock(root) as alone:
        digests = delete(record_id)
        for digest in digests if alone else ():
            stores.blobs.delete(digest, 0.0)


@dataclass
class NewSets:
    """Sets that are stored for one request and deleted if it fails."""

    stores: Stores
    root: Path
    created: list[str] = field(default_factory=list)

    def store(self, file: OpenFile, name: str) -> EmbeddingSet:
        """Store a file as a set."""
        kept, is_new = store(self.stores, self.root, file, name, {})
        if is_new:
            self.created.append(kept.id)
        return kept


@contextmanager
def new_sets(stores: Stores, root: Path) -> Iterator[NewSets]:
    """Store sets that are kept only if the block succeeds."""
    sets = NewSets(stores, root)
    try:
        yield sets
    except BaseException:
        for embedding_id in sets.created:
            with suppress(ConsilienceError):  # another request may use the set by now; then it is kept
                remove(stores, root, embedding_id)
        raise


VIEWS: TypeAdapter[dict[str, ViewKind]] = TypeAdapter(dict[str, ViewKind])


def item_limits(settings: ServiceSettings) -> ItemLimits:
    """Return the limits of an uploaded dataset."""
    return ItemLimits(
        items=settings.items_limit,
        text_bytes=settings.text_limit_bytes,
        image_bytes=settings.image_limit_bytes,
        image_pixels=settings.image_pixels_limit,
        unpacked_bytes=settings.upload_limit_bytes,
        column_bytes=settings.column_limit_bytes,
    )


def parse_views(text: bytes | None, pointer: str) -> ViewChoice:
    """Parse the views of a request and their kinds, or return None if there are none. Raises InvalidRequest."""
    if text is None:
        return None
    value = parse_json(text, pointer)
    try:
        return VIEWS.validate_python(value)
    except ValidationError:
        raise InvalidRequest(
            "`views` must be a JSON object of view names and kinds.",
            value=value,
            limit=["text", "code", "image"],
            hint='For example {"caption": "text", "photo": "image"}.',
            pointer=pointer,
        ) from None


def dataset_repository(stores: Stores, root: Path) -> DatasetRepository:
    """Return the repository of the principal's datasets."""
    return DatasetRepository(stores.datasets, stores.blobs, root)


SetSource = EmbeddingSet | OpenFile
#: Inline vectors of a request, with their ids and groups.
InlineVectors = Mapping[str, object]


def take_inline(side: object) -> InlineVectors | None:
    """Remove the vectors from a side and return them; `[]` takes their place. The format's own checks are faster.

    None if the side has no vectors, or has the id of a set too, which the request's model refuses.
    """
    if not isinstance(side, dict) or not isinstance(side.get("vectors"), list) or side.get("embedding") is not None:
        return None
    taken = {name: side.pop(name) for name in ("vectors", "ids", "groups") if name in side}
    side["vectors"] = []
    return taken


def open_inline(taken: InlineVectors, limits: FormatLimits, place: str) -> OpenFile:
    """Open inline vectors as a file. Errors as in `from_vectors`, with a pointer to the field."""
    with at_pointer(place):
        return from_vectors(taken["vectors"], limits, ids=taken.get("ids"), groups=taken.get("groups"))


def shape_of(source: SetSource) -> SideShape:
    """Return the shape of a side, which planning needs."""
    if isinstance(source, EmbeddingSet):
        return SideShape.of(source)
    return SideShape(
        n=source.n,
        layers=tuple((layer.name, layer.dim) for layer in source.layers),
        item_bytes=max(DTYPE_BYTES[layer.dtype] for layer in source.layers),
        unique_ids=None if source.ids is None else len(set(source.ids)),
        has_groups=source.groups is not None,
    )


def store_source(sets: NewSets, source: SetSource, place: str, name: str) -> EmbeddingSet:
    """Return the stored set, or store the file as a new set with this name."""
    if isinstance(source, EmbeddingSet):
        return source
    with at_pointer(place):
        return sets.store(source, name)
