"""Maps by a service: what `consilience map ... --server` does."""

import re
from pathlib import Path
from typing import TypeVar

from consilience.cli.columns import Columns
from consilience.cli.connection import connect
from consilience.cli.output import write
from consilience.cli.progress import progress_bar
from consilience.cli.scoring import require_source, store
from consilience.cli.waiting import await_document
from consilience.client.pending import PendingJob
from consilience.client.sync import Client
from consilience.contract.base import Document
from consilience.contract.maps import MapDocument, MapOptions, StoredMap, TranslationDocument
from consilience.errors import InputError

MAP_ID = re.compile(r"map_[0-9a-f]{32}")
Outcome = TypeVar("Outcome", bound=Document)
Models = tuple[str | None, str | None]


def fit_there(  # noqa: PLR0917 - what the command has read, in its order
    server: str, sides: tuple[str, str], options: MapOptions, columns: Columns, models: Models, timeout_s: float | None
) -> StoredMap:
    """The map of two files or stored sets, fitted by a job and kept by the service."""
    for side in sides:
        require_source(side, server)
    with connect(server) as client:
        a, b = (store(client, *each) for each in zip(sides, columns.ids, columns.groups, models, strict=True))
        return _wait(client, client.fit_map(a, b, options), StoredMap, timeout_s)


def fetch_map(server: str, map_id: str, out: Path) -> None:
    """Write a map that the service keeps to a file."""
    with connect(server) as client:
        content = client.map_file(map_id)
    write(out, content)


def apply_there(  # noqa: PLR0917 - as above
    server: str, map_word: str, vectors: str, layer: str, model: str | None, timeout_s: float | None
) -> TranslationDocument:
    """A new set of the translations of a file or a stored set."""
    require_source(vectors, server)
    with connect(server) as client:
        pending = client.translate_set(_find(client, map_word), vectors, layer=layer, model=model)
        return _wait(client, pending, TranslationDocument, timeout_s)


def report_there(server: str, map_id: str) -> MapDocument:
    """The card of a map that the service keeps."""
    if not MAP_ID.fullmatch(map_id):
        raise InputError(f"{map_id} is no id of a map.", value=map_id, hint="Leave out --server for a file's card.")
    with connect(server) as client:
        return client.map(map_id).card


def require_map(word: str) -> None:
    """Refuse the id of a map where there is no service to ask."""
    if MAP_ID.fullmatch(word) and not Path(word).is_file():
        raise InputError(f"{word} is an id of a stored map.", value=word, hint="Say which service with --server.")


def _find(client: Client, word: str) -> str:
    """The id of a map; a file is sent first."""
    if MAP_ID.fullmatch(word):
        return word
    if not Path(word).is_file():
        raise InputError(f"There is no file {word}, and it is no id of a map.", value=word)
    return client.upload_map(word).id


def _wait(client: Client, pending: PendingJob[Outcome], outcome: type[Outcome], timeout_s: float | None) -> Outcome:
    with progress_bar("waiting") as report:
        return await_document(client, pending.id, outcome, report, timeout_s)
