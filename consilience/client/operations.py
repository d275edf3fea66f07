"""Calls without their network traffic: options, request bodies, polling and results, for both clients."""

import json
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import httpx2

from consilience.client.bodies import FormBody, Source, body_of, stored_id
from consilience.client.transport import PreparedRequest, error_of, get, read
from consilience.contract.alignments import AlignmentRequest, FormOptions, ReferenceOrSide, ScoringOptions, Side
from consilience.contract.base import Document
from consilience.contract.base import Request as Options
from consilience.contract.extraction import Extraction
from consilience.contract.jobs import Job
from consilience.contract.pointers import with_prefix
from consilience.contract.references import ReferenceSet
from consilience.contract.validation import validate
from consilience.errors import InvalidRequest, JobCanceled, WaitTimedOut

#: Seconds between two polls of a job: the first, the longest, and the growth while nothing changes.
POLL_FIRST_S = 0.02
POLL_LONGEST_S = 1.0
POLL_GROWTH = 1.5
#: Seconds that the service may hold a poll's response until the job changes.
LONG_POLL_S = 5
NOT_MODIFIED = 304
REFERENCE_ID = re.compile(r"ref_[0-9a-f]{32}")

#: Document that a job produces.
Outcome = TypeVar("Outcome", bound=Document)
#: Called with a job whenever it has changed.
Watcher = Callable[[Job], None]
#: A reference set, its id, or its name, which stands for the newest set of that name.
AnyReference = ReferenceSet | str
Chosen = TypeVar("Chosen", bound=Options)


def options_of(kind: type[Chosen], options: Chosen | None, fields: Mapping[str, Any]) -> Chosen:
    """Return the options with single fields replaced.

    Raises InvalidRequest with a JSON pointer to the first invalid field; further errors are its notes.
    """
    return validate(kind, {**_set_fields(options), **fields})


def dump(options: Options) -> dict[str, Any]:
    """Return the fields that were set as JSON; the service fills in its own defaults."""
    return options.model_dump(mode="json", include=options.model_fields_set)


def json_params(**values: object) -> dict[str, str]:
    """Return the non-empty values as query parameters in JSON."""
    return {name: json.dumps(value) for name, value in values.items() if value}


def names_file(source: Source) -> AbstractContextManager[None]:
    """Start the errors of the block with the path of the source, if it is a file."""
    return with_prefix(f"File {source}") if isinstance(source, str | Path) else nullcontext()


def check_sides(b: object, reference: object) -> None:
    """Raise InvalidRequest unless exactly one of `b` and `reference` is given."""
    if (b is None) == (reference is None):
        raise InvalidRequest(
            "Neither `b` nor `reference` is given." if b is None else "Both `b` and `reference` are given.",
            hint="Pass exactly one of them.",
        )


def alignment_body(a: str | Extraction, b: str | Extraction, options: ScoringOptions) -> dict[str, Any]:
    """Return the JSON of an alignment of two stored sets, by id, or extractions."""
    sides = {
        "a": a if isinstance(a, Extraction) else Side(embedding=a),
        "b": b if isinstance(b, Extraction) else ReferenceOrSide(embedding=b),
    }
    return dump(AlignmentRequest(**sides, **_set_fields(options)))


def reference_body(
    a: Source | Extraction, reference_id: str, options: ScoringOptions, webhook: str | None
) -> dict[str, Any] | FormBody:
    """Return the JSON of an alignment with a reference set; a form if `a` is a file or an array, which it then holds."""
    b = ReferenceOrSide(reference=reference_id)
    fields = _set_fields(options)
    if webhook is not None:
        fields["webhook"] = {"url": webhook}
    if isinstance(a, Extraction):
        return dump(AlignmentRequest(a=a, b=b, **fields))
    if embedding_id := stored_id(a):
        return dump(AlignmentRequest(a=Side(embedding=embedding_id), b=b, **fields))
    part = json.dumps(dump(FormOptions(b=b, **fields))).encode()
    return FormBody(body_of(a), {"request": part}, "a")


def member(embedding_id: str, label: str, metadata: Mapping[str, Mapping[str, Any]] | None) -> dict[str, Any]:
    """Return the JSON of one model of a study."""
    return {"embedding": embedding_id, "label": label, "metadata": dict((metadata or {}).get(label, {}))}


def vectors_body(vectors: Sequence[Sequence[float]], model: str | None) -> dict[str, Any]:
    """Return the JSON of a few vectors to translate."""
    return {"vectors": [list(map(float, row)) for row in vectors], "model": model}


class Polling:
    """Polls of one job until it has finished; they become less frequent while the job does not change.

    Attributes
    ----------
    request : PreparedRequest
        Next poll.
    """

    def __init__(self, job_id: str, timeout_s: float | None) -> None:
        self.request = get("jobs", job_id)
        self._job_id, self._timeout_s = job_id, timeout_s
        self._deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        self._delay_s = POLL_FIRST_S

    def read(self, response: httpx2.Response) -> Job | None:
        """Return the job of a poll's response; None if the job has not changed."""
        if response.status_code == NOT_MODIFIED:
            return None
        self._delay_s = POLL_FIRST_S
        return read(response, Job)

    def advance(self, response: httpx2.Response) -> None:
        """Prepare the next poll. Raises WaitTimedOut after the deadline.

        The service holds its response until the job changes, for at most LONG_POLL_S and not long past the deadline.
        """
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise WaitTimedOut(
                f"Job {self._job_id} did not finish within {self._timeout_s} s.",
                value=self._job_id,
                limit=self._timeout_s,
                hint="The job continues; wait for it again by its id.",
            )
        tag = response.headers.get("etag")
        headers = {"if-none-match": tag, "prefer": f"wait={int(min(LONG_POLL_S, left_s))}"} if tag else {}
        self.request = PreparedRequest("GET", self.request.path, headers=headers, after_s=min(self._delay_s, left_s))
        self._delay_s = min(self._delay_s * POLL_GROWTH, POLL_LONGEST_S)


def result_of(finished: Job, kind: type[Outcome]) -> Outcome:
    """Return the document of a finished job. Raises the error that the job failed with."""
    if isinstance(finished.result, kind):
        return finished.result
    if finished.error is not None:
        raise error_of(finished.error)
    raise JobCanceled("The job was canceled.", value=finished.id)


def _set_fields(options: Options | None) -> dict[str, Any]:
    """Return the fields that were set, so that the defaults stay the service's."""
    return {} if options is None else {name: getattr(options, name) for name in options.model_fields_set}
