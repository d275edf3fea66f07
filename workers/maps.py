"""Maps and translations as jobs: what is fitted is kept, what is translated is a new set."""

import re

from consilience.contract.jobs import Job
from consilience.contract.maps import MapRequest, StoredMap, TranslationDocument
from consilience.execution.maps import run_map, run_translation
from consilience.stores.access import EVERYTHING
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
    records = MapRecords(workshop.database, workshop.blobs, workshop.access(job))
    with an_upload(workshop.data_dir):
        return records.add(name, found.file(), job_id=job.id)[0]


def translate(job: Job, report: Report, workshop: Workshop) -> TranslationDocument:
    """A new set of the translations of a stored one, with its ids and groups."""
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
        embedding=workshop.shelf(workshop.access(job)).keep(made, label, origin, ids=made.ids, groups=made.groups)[0],
    )


def name_of(words: str) -> str:
    """A label in the alphabet of labels."""
    return re.sub(r"[^A-Za-z0-9 ._:@+-]", "-", words)[:NAME_LENGTH]
