"""Pictures in a zip or a tar, and a manifest that says which item each is. Nothing is ever unpacked to the disk."""

import posixpath
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from consilience.errors import BadItem, UnsupportedFormat
from consilience.formats.items.item import ItemLimits, RawItem, RawItems, ViewChoice, ViewHeader, choose_views
from consilience.formats.items.lines import Lines, find_id, find_views, read_objects

#: The second one, with the column `file_name`, is how Hugging Face's image folders have it.
MANIFESTS = ("manifest.jsonl", "metadata.jsonl")
FILE_NAME = "file_name"


class Archive(Protocol):
    """A file of files."""

    def names(self) -> Iterator[str]:
        """The paths of its files."""

    def has(self, name: str) -> bool:
        """Whether it has this one."""

    def read(self, name: str, limit: int) -> bytes:
        """A file's bytes, or the first `limit` of them."""

    def lines(self, name: str) -> AbstractContextManager[Lines]:
        """A file to be read line by line."""


OpenArchive = Callable[[Path, ItemLimits], AbstractContextManager[Archive]]


@contextmanager
def open_archive(opener: OpenArchive, path: Path, choice: ViewChoice, limits: ItemLimits) -> Iterator[RawItems]:
    """The items that the manifest lists: as JSON lines, but that a view of pictures names files beside the manifest.

    Raises UnreadableFile, UnsupportedFormat (no manifest, no view), InvalidRequest (a view that is not there), TooLarge;
    reading raises BadItem for a picture that is not in the archive.
    """
    with opener(path, limits) as archive:
        manifest = _find_manifest(archive)
        with archive.lines(manifest) as lines:
            first = next(map(_renamed, read_objects(lines)), {})
        views = choose_views(find_views(first), choice, limits)

        def read() -> Iterator[RawItem]:
            with archive.lines(manifest) as lines:
                for index, item in enumerate(map(_renamed, read_objects(lines))):
                    yield _load(archive, posixpath.dirname(manifest), views, index, item, limits)

        yield RawItems(views, read, path.stat().st_size)


def _find_manifest(archive: Archive) -> str:
    found = [name for name in archive.names() if posixpath.basename(name) in MANIFESTS]
    if len(found) != 1:
        raise UnsupportedFormat(
            f"The archive has {len(found) or 'no'} manifest{'s' if found else ''}.",
            value=", ".join(found[:5]),
            limit=list(MANIFESTS),
            hint='One manifest.jsonl, a line for each item: {"id": "first", "image": "pictures/1.png", "text": "..."}.',
        )
    return found[0]


def _renamed(item: dict[str, Any]) -> dict[str, Any]:
    if FILE_NAME in item and "image" not in item:
        return {"image" if name == FILE_NAME else name: value for name, value in item.items()}
    return item


def _load(  # noqa: PLR0917 - where it lies, then what it is
    archive: Archive, folder: str, views: tuple[ViewHeader, ...], index: int, item: dict[str, Any], limits: ItemLimits
) -> RawItem:
    values: list[object] = []
    for view in views:
        value = item.get(view.name)
        if view.kind == "image" and isinstance(value, str):
            name = posixpath.normpath(posixpath.join(folder, value))
            if not archive.has(name):
                raise BadItem(
                    f"Item {find_id(item) or index!r}: the archive has no file {value!r}.",
                    value=value,
                    hint="A picture is named by its path from the manifest's folder.",
                    pointer=f"/{index}/{view.name}",
                )
            value = archive.read(name, limits.image_bytes + 1)
        values.append(value)
    return RawItem(find_id(item), tuple(values))
