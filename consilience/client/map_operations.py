"""The service's calls that concern maps, written once for both clients."""

import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consilience.client.exchange import Operation, Request, check, fetch
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
    return (yield from fetch(_post(PATH, body, webhook), Job))


def upload_map(path: str | os.PathLike[str], name: str | None) -> Operation[StoredMap]:
    """Send a map's file."""
    Path(path).stat()
    request = Request("POST", PATH, {"name": name or name_of(path)}, body=MapBody(Path(path)))
    return (yield from fetch(request, StoredMap))


def stored_map(map_id: str) -> Operation[StoredMap]:
    """One map."""
    return fetch(Request("GET", f"{PATH}/{map_id}"), StoredMap)


def maps(name: str | None, cursor: str | None, limit: int) -> Operation[MapPage]:
    """A page of maps, newest first."""
    given = {"name": name, "cursor": cursor, "limit": str(limit)}
    return fetch(Request("GET", PATH, {key: value for key, value in given.items() if value is not None}), MapPage)


def map_file(map_id: str) -> Operation[bytes]:
    """A map as a file."""
    return bytes(check((yield Request("GET", f"{PATH}/{map_id}/file"))).content)


def delete_map(map_id: str) -> Operation[None]:
    """Forget a map."""
    check((yield Request("DELETE", f"{PATH}/{map_id}")))


def translate(map_id: str, vectors: Sequence[Sequence[float]], model: str | None) -> Operation[TranslatedVectors]:
    """A few vectors, at once."""
    body = {"vectors": [list(map(float, row)) for row in vectors], "model": model}
    return fetch(Request("POST", f"{PATH}/{map_id}/apply", json=body), TranslatedVectors)


def translate_set(map_id: str, source: Source, layer: str, name: str | None, model: str | None) -> Operation[Job]:
    """Upload what is not yet stored, then ask for its translation."""
    body = {"embedding": (yield from store(source)), "layer": layer, "name": name, "model": model}
    return (yield from fetch(_post(f"{PATH}/{map_id}/apply", body, None), Job))


def _post(path: str, body: dict[str, Any], webhook: str | None) -> Request:
    """The key makes a repeated POST, after a connection that broke, the same job."""
    told = {"webhook": {"url": webhook}} if webhook is not None else {}
    return Request("POST", path, headers={"idempotency-key": uuid.uuid4().hex}, json={**body, **told})
