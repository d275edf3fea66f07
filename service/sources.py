"""One side of a request: a stored set, or vectors that came with the request and are not yet kept."""

from collections.abc import Mapping

from consilience.contract.embeddings import DTYPE_BYTES, EmbeddingSet
from consilience.contract.places import placed
from consilience.formats.files import OpenFile, from_vectors
from consilience.formats.matrices import FormatLimits
from consilience.planning.alignments import SideShape
from service.ingest import NewSets

Source = EmbeddingSet | OpenFile
#: Vectors as they stood in a request, with their ids and groups.
Inline = Mapping[str, object]


def take_inline(side: object) -> Inline | None:
    """Take the vectors out of a side, leaving `[]` in their place: the format's own checks are stricter and leaner.

    None where it has none, or names a set besides, which the request's model refuses.
    """
    if not isinstance(side, dict) or not isinstance(side.get("vectors"), list) or side.get("embedding") is not None:
        return None
    taken = {name: side.pop(name) for name in ("vectors", "ids", "groups") if name in side}
    side["vectors"] = []
    return taken


def open_inline(taken: Inline, limits: FormatLimits, place: str) -> OpenFile:
    """What was taken from this place in the request, as a file. Errors as in `from_vectors`, each with its field."""
    with placed(place):
        return from_vectors(taken["vectors"], limits, ids=taken.get("ids"), groups=taken.get("groups"))


def shape_of(source: Source) -> SideShape:
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


def keep_source(sets: NewSets, source: Source, place: str, name: str) -> EmbeddingSet:
    """The stored set, or the file as a new one of this name."""
    if isinstance(source, EmbeddingSet):
        return source
    with placed(place):
        return sets.store(source, name)
