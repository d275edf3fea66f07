"""From an upgrade request to its job, and from a job to its report. Runs in threads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from consilience.contract.jobs import Job, Plan, Side
from consilience.contract.places import placed
from consilience.contract.upgrade_reports import UpgradeReport
from consilience.contract.upgrades import UpgradeRequest
from consilience.errors import NotFound, StateError
from consilience.planning.upgrades import plan_upgrade
from service.dispatch import Dispatch
from service.ingest import format_limits, new_sets
from service.reading import read_model
from service.settings import Settings
from service.sources import Inline, Source, keep_source, open_inline, shape_of, take_inline
from service.stores import Stores

#: Where sides stand in a request, and what their vectors are called when they are kept.
PLACES = {"/old": "old", "/new": "new", "/queries/old": "queries old", "/queries/new": "queries new"}


@dataclass(frozen=True)
class UpgradeSubmission:
    """A request, checked as far as it can be without looking at the data.

    Attributes
    ----------
    inline : vectors as they came, by their place in the request
    """

    request: UpgradeRequest
    key: str | None = None
    inline: Mapping[str, Inline] = field(default_factory=dict)


class Upgrades:
    """Turns submissions into jobs, and jobs into reports."""

    def __init__(self, settings: Settings, stores: Stores) -> None:
        self._settings, self._stores = settings, stores
        self._dispatch = Dispatch(settings, stores)
        self._limits = format_limits(settings)

    def read(self, body: object, key: str | None) -> UpgradeSubmission:
        """A submission whose sides are named or spelled out in JSON."""
        inline = take_vectors(body)
        request = read_model(UpgradeRequest, body)
        self._dispatch.check_webhook(request.webhook)
        return UpgradeSubmission(request, key, inline)

    def plan(self, submission: UpgradeSubmission) -> Plan:
        """What the job would cost; nothing is stored."""
        return self._plan(submission, self._open(submission))

    def submit(self, submission: UpgradeSubmission) -> Job:
        """The job; the known one under a known key. Where anything fails, nothing is left behind."""
        sources = self._open(submission)
        cost = self._plan(submission, sources)
        with new_sets(self._stores, self._settings.data_dir) as sets:
            ids = {place: keep_source(sets, source, place, PLACES[place]).id for place, source in sources.items()}
            request = _with_ids(submission.request.model_dump(mode="json"), ids)
            used = list(dict.fromkeys(ids.values()))
            added = self._dispatch.add("upgrade", request, cost, used, submission.key)
        return self._dispatch.deliver(added)

    def report(self, job_id: str) -> UpgradeReport:
        """The report of a job.

        Raises
        ------
        NotFound
            There is no such upgrade.
        Expired
        StateError
            It has no report, yet or at all.
        """
        job = self._stores.jobs.get(job_id)
        if job.kind != "upgrade":
            raise NotFound("There is no such upgrade.", value=job.id, hint=f"It is a job of kind {job.kind}.")
        if isinstance(job.result, UpgradeReport):
            return job.result
        if job.finished:
            why = job.error.detail if job.error else "The job was canceled."
            raise StateError(f"There is no report: {why}", value=job.status, hint="Ask for another one.")
        raise StateError(
            "The report is not there yet.", value=job.status, hint="Poll the job, or wait for it with `Prefer: wait`."
        )

    def _open(self, submission: UpgradeSubmission) -> dict[str, Source]:
        """Every side by its place: a stored set, or vectors not yet kept."""
        request = submission.request
        sides = {"/old": request.old, "/new": request.new}
        if request.queries is not None:
            sides |= {"/queries/old": request.queries.old, "/queries/new": request.queries.new}
        return {place: self._open_side(submission, place, side) for place, side in sides.items()}

    def _open_side(self, submission: UpgradeSubmission, place: str, side: Side) -> Source:
        if (taken := submission.inline.get(place)) is not None:
            return open_inline(taken, self._limits, place)
        with placed(f"{place}/embedding"):
            return self._stores.embeddings.get(side.embedding or "")

    def _plan(self, submission: UpgradeSubmission, sources: Mapping[str, Source]) -> Plan:
        shapes = [shape_of(source) for source in sources.values()]
        queries = (shapes[2], shapes[3]) if len(shapes) > 2 else None
        return plan_upgrade(submission.request, (shapes[0], shapes[1]), queries, self._dispatch.limits)


def take_vectors(body: object) -> dict[str, Inline]:
    """Take the inline sides out of the request."""
    taken: dict[str, Inline] = {}
    for place in PLACES:
        value = body
        for step in place.strip("/").split("/"):
            value = value.get(step) if isinstance(value, dict) else None
        if (inline := take_inline(value)) is not None:
            taken[place] = inline
    return taken


def _with_ids(request: dict[str, Any], ids: Mapping[str, str]) -> dict[str, Any]:
    """The request with every side named."""
    request |= {"old": {"embedding": ids["/old"]}, "new": {"embedding": ids["/new"]}}
    if request["queries"] is not None:
        request["queries"] = {name: {"embedding": ids[f"/queries/{name}"]} for name in ("old", "new")}
    return request
