"""Maps and translations as jobs: what is fitted is kept, what is translated is a new set."""

import re
from collections.abc import Mapping
from typing import Any

from consilience.contract.embeddings import DTYPE_BYTES, EmbeddingSet
from consilience.contract.jobs import Job
from consilience.contract.keys import DEFAULT_OWNER
from consilience.contract.maps import MapRequest, StoredMap, TranslationDocument
from consilience.execution.maps import run_map, run_translation
from consilience.formats.matrices import OpenFile
from consilience.stores.access import EVERYTHING, Access
from consilience.stores.blobs import set_digest
from consilience.stores.embeddings import EmbeddingRecords
from consilience.stores.folder_lock import an_upload
from consilience.stores.maps import MapRecords
from workers.attempts import Report
from workers.workshop import Workshop

NAME_LENGTH = 128


def fit_map(job: Job, report: Report, workshop: Workshop) -> StoredMap:
    """The map of two stored sets, kept under the job's owner: the same job, run again, finds it there."""
    request = MapRequest.model_validate(job.request)
    a, b = (workshop.embeddings.get(side.embedding) for side in (request.a, request.b))
    found = run_map(request, a, b, workshop.blobs, report=report, cluster=workshop.cluster)
    name = request.name or name_of(f"{request.map.kind} {a.name} to {b.name}")
    records = MapRecords(workshop.database, workshop.blobs, _access(job, workshop))
    with an_upload(workshop.data_dir):
        return records.add(name, found.file(), job_id=job.id)[0]


def translate(job: Job, report: Report, workshop: Workshop) -> TranslationDocument:
    """A new set of the translations of a stored one, with its ids and groups."""
    access = _access(job, workshop)
    map_id, request = job.request["map"], job.request
    source = workshop.embeddings.get(request["embedding"])
    # The service has looked whether the owner may see them.
    stored, weights = MapRecords(workshop.database, workshop.blobs, EVERYTHING).open(map_id)
    made = run_translation(weights, source, request["layer"], workshop.blobs, report=report)
    label = request["name"] or name_of(f"{source.name} by {stored.name}")
    origin = {"map": map_id, "source": source.id} | ({"model": stored.card.b.model} if stored.card.b.model else {})
    return TranslationDocument(
        map=map_id,
        source=source.id,
        layer=source.layers[-1].name if request["layer"] == "last" else request["layer"],
        embedding=_keep(EmbeddingRecords(workshop.database, access), workshop, made, label, origin),
    )


def _access(job: Job, workshop: Workshop) -> Access:
    """On behalf of the job's owner; without keys nobody has a quota."""
    limit = workshop.owner_bytes_limit if job.owner != DEFAULT_OWNER else None
    return Access(job.owner, owner_bytes_limit=limit)


def _keep(
    records: EmbeddingRecords, workshop: Workshop, made: OpenFile, name: str, metadata: Mapping[str, Any]
) -> EmbeddingSet:
    """The file as a set: whole, or not at all."""
    (header,) = made.layers
    size = header.n * header.dim * DTYPE_BYTES[header.dtype]
    blobs = workshop.blobs
    with an_upload(workshop.data_dir):
        records.check_quota(size)
        layers = blobs.put(made)
        ids, groups = (None if each is None else blobs.put_column(each) for each in (made.ids, made.groups))
        digest = set_digest(layers, ids, groups)
        return records.add(name, header.n, layers, digest, metadata, size, ids=ids, groups=groups)[0]


def name_of(words: str) -> str:
    """A label in the alphabet of labels."""
    return re.sub(r"[^A-Za-z0-9 ._:@+-]", "-", words)[:NAME_LENGTH]
