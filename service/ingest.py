"""From bytes to stored sets: what happens to an upload once it lies on disk. Runs in threads."""

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
    shelf = EmbeddingRepository(stores.embeddings, stores.blobs, root)
    return shelf.add(file, name, metadata, ids=file.ids, groups=file.groups, key=key)


def remove(stores: Stores, root: Path, embedding_id: str) -> None:
    """Forget a set and the layers and columns that no other set uses.

    Layers are shared by content: one may belong to an upload whose set is about to be recorded. So they are removed only
    while no upload, and no backup, is under way in any process on this folder; otherwise the collector removes them later.
    """
    remove_record(stores, root, stores.embeddings.delete, embedding_id)


def remove_record(stores: Stores, root: Path, delete: Callable[[str], tuple[str, ...]], record_id: str) -> None:
    """Forget a set or a dataset, by its records' own `delete`, and its blobs as `remove` says."""
    with exclusive_upload_lock(root) as alone:
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


VIEWS: TypeAdapter[dict[str, ViewKind]] = TypeAdapter(dict[str, ViewKind])


def item_limits(settings: ServiceSettings) -> ItemLimits:
    """What a dataset may hold."""
    return ItemLimits(
        items=settings.items_limit,
        text_bytes=settings.text_limit_bytes,
        image_bytes=settings.image_limit_bytes,
        image_pixels=settings.image_pixels_limit,
        unpacked_bytes=settings.upload_limit_bytes,
        column_bytes=settings.column_limit_bytes,
    )


def parse_views(text: bytes | None, pointer: str) -> ViewChoice:
    """The views that a request names, with their kinds; None where it names none. Raises InvalidRequest."""
    if text is None:
        return None
    value = parse_json(text, pointer)
    try:
        return VIEWS.validate_python(value)
    except ValidationError:
        raise InvalidRequest(
            "`views` is no object of names and kinds.",
            value=value,
            limit=["text", "code", "image"],
            hint='Such as {"caption": "text", "photo": "image"}.',
            pointer=pointer,
        ) from None


def dataset_repository(stores: Stores, root: Path) -> DatasetRepository:
    """Where the caller's datasets are kept."""
    return DatasetRepository(stores.datasets, stores.blobs, root)


SetSource = EmbeddingSet | OpenFile
#: Vectors as they stood in a request, with their ids and groups.
InlineVectors = Mapping[str, object]


def take_inline(side: object) -> InlineVectors | None:
    """Take the vectors out of a side, leaving `[]` in their place: the format's own checks are stricter and leaner.

    None where it has none, or names a set besides, which the request's model refuses.
    """
    if not isinstance(side, dict) or not isinstance(side.get("vectors"), list) or side.get("embedding") is not None:
        return None
    taken = {name: side.pop(name) for name in ("vectors", "ids", "groups") if name in side}
    side["vectors"] = []
    return taken


def open_inline(taken: InlineVectors, limits: FormatLimits, place: str) -> OpenFile:
    """What was taken from this place in the request, as a file. Errors as in `from_vectors`, each with its field."""
    with at_pointer(place):
        return from_vectors(taken["vectors"], limits, ids=taken.get("ids"), groups=taken.get("groups"))


def shape_of(source: SetSource) -> SideShape:
    """What planning needs to know of a side."""
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
    """The stored set, or the file as a new one of this name."""
    if isinstance(source, EmbeddingSet):
        return source
    with at_pointer(place):
        return sets.store(source, name)
