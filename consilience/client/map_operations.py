"""The service's calls that concern maps, written once for both clients."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from consilience.client.exchange import Operation, Request, check, fetch, query, resource, submission
from consilience.client.operations import store
from consilience.client.sources import FileBody, Source, name_of
from consilience.contract.jobs import Job
from consilience.contract.maps import MapOptions, MapPage, StoredMap, TranslatedVectors

PATH = "/v1/maps"


@dataclass(frozen=True)
class MapBody(FileBody):
    """A map's file."""

    @property
    def media_type(self) -> str:
        """Whatever the file is called."""
        return "application/x-safetensors"


def fit_map(a: Source, b: Source, options: MapOptions, name: str | None, webhook: str | None) -> Operation[Job]:
    """Upload what is not yet stored, then ask for the map."""
    sides = {"a": {"embedding": (yield from store(a))}, "b": {"embedding": (yield from store(b))}}
    body = {**options.model_dump(mode="json", include=options.model_fields_set), **sides, "name": name}
    return (yield from fetch(submission(PATH, body, webhook), Job))


def upload_map(path: str | os.PathLike[str], name: str | None) -> Operation[StoredMap]:
    """Send a map's file."""
    Path(path).stat()
    request = Request("POST", PATH, {"name": name or name_of(path)}, body=MapBody(Path(path)))
    return (yield from fetch(request, StoredMap))


def stored_map(map_id: str) -> Operation[StoredMap]:
    """One map."""
    return fetch(Request("GET", resource("maps", map_id)), StoredMap)


def maps(name: str | None, cursor: str | None, limit: int) -> Operation[MapPage]:
    """A page of maps, newest first."""
    return fetch(Request("GET", PATH, query(name=name, cursor=cursor, limit=limit)), MapPage)


def map_file(map_id: str) -> Operation[bytes]:
    """A map as a file."""
    return bytes(check((yield Request("GET", resource("maps", map_id, "file")))).content)


def delete_map(map_id: str) -> Operation[None]:
    """Forget a map."""
    check((yield Request("DELETE", resource("maps", map_id))))


def translate(map_id: str, vectors: Sequence[Sequence[float]], model: str | None) -> Operation[TranslatedVectors]:
    """A few vectors, at once."""
    body = {"vectors": [list(map(float, row)) for row in vectors], "model": model}
    return fetch(Request("POST", resource("maps", map_id, "apply"), json=body), TranslatedVectors)


def translate_set(map_id: str, source: Source, layer: str, name: str | None, model: str | None) -> Operation[Job]:
    """Upload what is not yet stored, then ask for its translation."""
    body = {"embedding": (yield from store(source)), "layer": layer, "name": name, "model": model}
    return (yield from fetch(submission(resource("maps", map_id, "apply"), body), Job))
