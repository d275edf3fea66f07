"""The calls about reference sets, written once for both clients."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from consilience.client.exchange import Operation, Request, check, fetch, query, resource, submission
from consilience.client.forms import FormBody
from consilience.client.operations import store
from consilience.client.sources import AnySource, Source, body_of, stored_id
from consilience.contract.alignments import AlignmentRequest, FormOptions, OtherSide, ScoringOptions, Side
from consilience.contract.extraction import Extraction
from consilience.contract.jobs import Job
from consilience.contract.references import ReferencePage, ReferenceSet
from consilience.errors import InvalidRequest, NotFound

REFERENCE_ID = re.compile(r"ref_[0-9a-f]{32}")

#: A reference set, its id, or its name: the newest of that name is meant.
AnyReference = ReferenceSet | str


def add_reference(
    name: str, sources: Sequence[Source], metadata: Mapping[str, Any] | None = None
) -> Operation[ReferenceSet]:
    """Upload what is not yet stored, then make the reference set."""
    members: list[str] = []
    for source in sources:
        members += [(yield from store(source))]
    body = {"name": name, "embeddings": members, "metadata": dict(metadata or {})}
    return (yield from fetch(Request("POST", "/v1/references", json=body), ReferenceSet))


def reference(words: str) -> Operation[ReferenceSet]:
    """One reference set by its id, or the newest of a name."""
    if REFERENCE_ID.fullmatch(words):
        return (yield from fetch(Request("GET", resource("references", words)), ReferenceSet))
    page = yield from references(words, None, 1)
    if not page.data:
        raise NotFound(f"There is no reference set called {words}.", value=words)
    return page.data[0]


def references(name: str | None, cursor: str | None, limit: int) -> Operation[ReferencePage]:
    """A page of reference sets, newest first."""
    return fetch(Request("GET", "/v1/references", query(name=name, cursor=cursor, limit=limit)), ReferencePage)


def delete_reference(reference_id: str) -> Operation[None]:
    """Forget a reference set."""
    check((yield Request("DELETE", resource("references", reference_id))))


def align_reference(
    a: AnySource, chosen: AnyReference, options: ScoringOptions, webhook: str | None = None
) -> Operation[Job]:
    """Ask for the scores against each member; a file or an array goes with the question in one request."""
    found = chosen if isinstance(chosen, ReferenceSet) else None
    reference_id = found.id if found else str(chosen)
    if not REFERENCE_ID.fullmatch(reference_id):
        reference_id = (yield from reference(reference_id)).id
    b = OtherSide(reference=reference_id)
    given: dict[str, Any] = {name: getattr(options, name) for name in options.model_fields_set}
    if webhook is not None:
        given["webhook"] = {"url": webhook}
    if isinstance(a, Extraction) or stored_id(a):
        side = a if isinstance(a, Extraction) else Side(embedding=stored_id(a))
        request = AlignmentRequest(a=side, b=b, **given)
        body = request.model_dump(mode="json", include=request.model_fields_set)
        return (yield from fetch(submission("/v1/alignments", body), Job))
    words = FormOptions(b=b, **given)
    part = json.dumps(words.model_dump(mode="json", include=words.model_fields_set)).encode()
    form = FormBody(body_of(a), {"request": part}, "a")
    return (yield from fetch(submission("/v1/alignments", form), Job))


def check_sides(b: object, chosen: object) -> None:
    """Refuse a comparison with nothing, and one with two things."""
    if (b is None) == (chosen is None):
        raise InvalidRequest(
            "Compare with `b` or with a `reference` set."
            if b is None
            else "There is both a `b` and a `reference` set.",
            hint="Give exactly one of them.",
        )
