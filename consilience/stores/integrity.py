"""An examination of the data folder and the database: do they agree, and is each sound. It changes nothing.

The service may run meanwhile: what is deleted between two looks is looked at again before it is reported.
"""

import itertools
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection, Select
from sqlalchemy.exc import ArgumentError

from consilience.contract.datasets import Dataset, ViewRecord
from consilience.contract.embeddings import EmbeddingSet, Layer
from consilience.contract.jobs import FINISHED, JobStatus
from consilience.errors import NotFound, StartupError, Unavailable
from consilience.stores import tables
from consilience.stores.blobs import Blobs
from consilience.stores.database import Database
from consilience.stores.datasets import DatasetRecords
from consilience.stores.embeddings import EmbeddingRecords
from consilience.stores.maps import MapRecords
from consilience.stores.records import DATASETS, EMBEDDINGS, EVERYTHING, MAPS, REFERENCES
from consilience.stores.retention import Retention


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be."""

    severity: Literal["error", "warning"]
    """`error`: something is lost or wrong. `warning`: nothing is, but somebody has not done their work."""
    kind: str
    """A stable word for programs."""
    subject: str
    """The id, digest, path or table that it is about."""
    detail: str


PAGE = 500


def check_set(blobs: Blobs, stored: EmbeddingSet, *, deep: bool) -> Iterator[Finding]:
    """Each layer and column of the set is there with its size; with `deep`, with its digest."""
    for layer in stored.layers:
        if fault := _layer_fault(blobs, layer, stored.n, deep=deep):
            yield Finding("error", "damaged-layer", stored.id, f"Layer {layer.name} ({layer.digest}): {fault}")
    for column in filter(None, (stored.ids, stored.groups)):
        if fault := _column_fault(blobs, column.digest, deep=deep):
            yield Finding("error", "damaged-column", stored.id, f"Column {column.digest}: {fault}")


def _layer_fault(blobs: Blobs, layer: Layer, n: int, *, deep: bool) -> str | None:
    try:
        stored = blobs.open(layer, n)
        return "its bytes are not those of its digest." if deep and not stored.is_sound() else None
    except Unavailable as error:
        return error.detail


def _column_fault(blobs: Blobs, digest: str, *, deep: bool) -> str | None:
    if blobs.locate(digest) is None:
        return "it is not there."
    try:
        if deep:
            blobs.read_column(digest)
    except Unavailable as error:
        return error.detail
    return None


def check_dataset(blobs: Blobs, stored: Dataset, *, deep: bool) -> Iterator[Finding]:
    """Each view of the dataset, and its ids, are there with their size; with `deep`, with their digest."""
    for view in stored.views:
        if fault := _view_fault(blobs, view, stored.n, deep=deep):
            yield Finding("error", "damaged-view", stored.id, f"View {view.name} ({view.digest}): {fault}")
    if fault := _column_fault(blobs, stored.ids.digest, deep=deep):
        yield Finding("error", "damaged-column", stored.id, f"Column {stored.ids.digest}: {fault}")


def _view_fault(blobs: Blobs, view: ViewRecord, n: int, *, deep: bool) -> str | None:
    try:
        stored = blobs.open_view(view, n)
        return "its bytes are not those of its digest." if deep and not stored.is_sound() else None
    except Unavailable as error:
        return error.detail


def check_maps(records: MapRecords, *, deep: bool) -> Iterator[Finding]:
    """The weights of every map are there with their size; with `deep`, with their digest."""
    cursor, more = None, True
    while more:
        page = records.page(cursor, PAGE)
        for stored in page.data:
            with suppress(NotFound):  # deleted meanwhile
                if fault := records.find_fault(stored.id, deep=deep):
                    yield Finding("error", "damaged-map", stored.id, f"The weights: {fault}")
        cursor, more = page.next_cursor, page.has_more


def all_sets(records: EmbeddingRecords) -> Iterator[EmbeddingSet]:
    """Every set, newest first."""
    cursor, more = None, True
    while more:
        page = records.page(cursor, PAGE)
        yield from page.data
        cursor, more = page.next_cursor, page.has_more


def all_datasets(records: DatasetRecords) -> Iterator[Dataset]:
    """Every dataset, newest first."""
    cursor, more = None, True
    while more:
        page = records.page(cursor, PAGE)
        yield from page.data
        cursor, more = page.next_cursor, page.has_more


def is_there(records: EmbeddingRecords | DatasetRecords, record_id: str) -> bool:
    """Whether the set or dataset has not been deleted meanwhile."""
    with suppress(NotFound):
        return bool(records.get(record_id))
    return False


def check_folder(blobs: Blobs, retention: Retention, grace_s: float) -> Iterator[Finding]:
    """What lies in the folder and no record names: for longer than the grace, since an upload may be about to."""
    for path in blobs.strangers():
        yield Finding("error", "stray-file", str(path), "It lies among the blobs and is none.")
    digests = blobs.digests()
    while batch := tuple(itertools.islice(digests, PAGE)):
        for digest in sorted(set(batch) - retention.named(batch)):
            if _age_s(blobs, digest) >= grace_s:
                yield Finding("warning", "orphan", digest, "No record names this blob: service.deliveries removes it.")
    for path in blobs.left_over(grace_s):
        yield Finding("warning", "left-over", str(path), "An upload that never ended: service.deliveries removes it.")


def _age_s(blobs: Blobs, digest: str) -> float:
    path = blobs.locate(digest)
    with suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime if path else 0.0
    return 0.0


#: A message that was due so long ago is not being delivered.
STUCK_AFTER = timedelta(hours=1)
#: Rows that one rule reports.
REPORTED = 100
NEEDED = {"set": EMBEDDINGS, "dataset": DATASETS, "reference": REFERENCES, "map": MAPS}
_job, _run, _hook = tables.jobs.c, tables.runs.c, tables.webhooks.c


class Rule(NamedTuple):
    """What must not be, as the ids of the rows where it is."""

    kind: str
    detail: str
    broken: Select[Any]


def check_rows(connection: Connection) -> Iterator[Finding]:
    """Every broken rule, row by row."""
    for rule in (*_job_rules(), *_tie_rules(), *_run_rules(), *_webhook_rules(), *_set_rules()):
        for subject in connection.execute(rule.broken.limit(REPORTED)).scalars():
            yield Finding("error", rule.kind, subject, rule.detail)


def check_file(connection: Connection, *, deep: bool) -> Iterator[Finding]:
    """What SQLite says of its own file; nothing for PostgreSQL, which checks its pages itself."""
    if connection.dialect.name != "sqlite":
        return
    pragma = "integrity_check" if deep else "quick_check"
    for line in connection.exec_driver_sql(f"PRAGMA {pragma}").scalars():
        if line != "ok":
            yield Finding("error", "damaged-database", "SQLite", str(line))
    for row in connection.exec_driver_sql("PRAGMA foreign_key_check"):
        yield Finding(
            "error", "dangling-row", str(row[0]), f"Row {row[1]} refers to a row of {row[2]} that is not there."
        )


def _of_jobs(kind: str, detail: str, *broken: ColumnElement[bool]) -> Rule:
    return Rule(kind, detail, sa.select(_job.id).where(*broken))


def _job_rules() -> Iterator[Rule]:
    """What a job's own row may not say."""
    rule, is_finished = _of_jobs, _job.status.in_(FINISHED)
    yield rule("unknown-status", "The job's status is none that there is.", _job.status.not_in(list(JobStatus)))
    yield rule("no-end", "The job has finished at no time.", is_finished, _job.finished_at.is_(None))
    yield rule(
        "early-end",
        "The job has not finished and has a time of finishing.",
        ~is_finished,
        _job.finished_at.is_not(None),
    )
    yield rule(
        "no-result", "The job succeeded without a result.", _job.status == JobStatus.SUCCEEDED, _job.result.is_(None)
    )
    yield rule(
        "stray-result",
        "The job has a result and did not succeed.",
        _job.status != JobStatus.SUCCEEDED,
        _job.result.is_not(None),
    )
    yield rule(
        "no-error", "The job failed and does not say why.", _job.status == JobStatus.FAILED, _job.error.is_(None)
    )
    yield rule(
        "stray-error",
        "The job has an error and did not fail.",
        _job.status != JobStatus.FAILED,
        _job.error.is_not(None),
    )
    yield rule(
        "stray-cancel",
        "A cancel is asked of a job that does not run.",
        _job.cancel_requested,
        _job.status != JobStatus.RUNNING,
    )
    yield rule(
        "early-start", "The job waits and has started.", _job.status == JobStatus.QUEUED, _job.started_at.is_not(None)
    )
    yield rule("bad-count", "A delivery below 1 or crashes below 0.", sa.or_(_job.delivery < 1, _job.crashes < 0))


def _tie_rules() -> Iterator[Rule]:
    """What a job's row may not say beside the rows of other tables."""
    gone = sa.select(tables.expired_jobs.c.id).where(tables.expired_jobs.c.id == _job.id)
    yield _of_jobs("undead-job", "The job has expired and is there.", gone.exists())
    for name, kind in NEEDED.items():
        lost = sa.select(kind.target).where(
            kind.uses.c.job_id == _job.id, kind.target.not_in(sa.select(kind.table.c.id))
        )
        detail = f"The job has not finished and the {kind.word} that it needs is gone."
        yield _of_jobs(f"missing-{name}", detail, _job.status.not_in(FINISHED), lost.exists())


def _run_rules() -> Iterator[Rule]:
    own_run = sa.select(_run.job_id).where(_run.job_id == _job.id, _run.delivery == _job.delivery, _run.ended.is_(None))
    running_alone = sa.select(_job.id).where(_job.status == JobStatus.RUNNING, ~own_run.exists())
    yield Rule("no-run", "The job runs, and there is no run of it.", running_alone)
    holder = sa.select(_job.id).where(
        _job.id == _run.job_id, _job.delivery == _run.delivery, _job.status == JobStatus.RUNNING
    )
    open_run = sa.select(_run.job_id).where(_run.ended.is_(None), ~holder.exists())
    yield Rule("open-run", "A run has not ended, and its job is elsewhere.", open_run)


def _webhook_rules() -> Iterator[Rule]:
    over = sa.select(_job.id).where(_job.id == _hook.job_id, _job.status.in_(FINISHED)).exists()
    unset = sa.and_(_hook.due_at.is_(None), _hook.delivered_at.is_(None), _hook.gave_up_at.is_(None))
    stuck = _hook.due_at < datetime.now(UTC) - STUCK_AFTER
    yield Rule(
        "forgotten-webhook",
        "The job has finished and its webhook is not due.",
        sa.select(_hook.job_id).where(over, unset),
    )
    yield Rule(
        "early-webhook",
        "The webhook is due and its job has not finished.",
        sa.select(_hook.job_id).where(~over, ~unset),
    )
    yield Rule(
        "stuck-webhook",
        "The webhook is due for over an hour: does service.deliveries run, with the secret?",
        sa.select(_hook.job_id).where(stuck),
    )


def _set_rules() -> Iterator[Rule]:
    bare = tables.embeddings.c.id.not_in(sa.select(tables.layers.c.embedding_id))
    yield Rule("no-layers", "The set has no layers.", sa.select(tables.embeddings.c.id).where(bare))
    empty = tables.datasets.c.id.not_in(sa.select(tables.dataset_views.c.dataset_id))
    yield Rule("no-views", "The dataset has no views.", sa.select(tables.datasets.c.id).where(empty))
    alone = tables.reference_sets.c.id.not_in(sa.select(tables.reference_members.c.reference_id))
    yield Rule("no-members", "The reference set has no members.", sa.select(tables.reference_sets.c.id).where(alone))


#: A blob that no record names is an orphan after this: the collector's own grace, and some of its rounds.
GRACE_S = 2 * 3600.0


@dataclass(frozen=True)
class Report:
    """What was looked at and what was found."""

    jobs: int
    sets: int
    datasets: int
    blobs: int
    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing is lost or wrong; warnings do not count."""
        return all(finding.severity != "error" for finding in self.findings)


def examine(url: str, folder: Path, *, deep: bool = False, grace_s: float = GRACE_S) -> Report:
    """Compare the database and the data folder.

    Parameters
    ----------
    url : str
        The database's, as in CONSILIENCE_DATABASE_URL.
    folder : Path
        The data folder.
    deep : bool
        Read every byte and compare it with its digest, not only the sizes.
    grace_s : float
        Seconds for which a blob may be there without a record.

    Raises
    ------
    StartupError
        There is no such database or folder.
    Unavailable
        The database does not answer.
    """
    if not (folder / "layers").is_dir():
        raise StartupError("This is no data folder.", value=folder, hint="Name another with --data-dir.")
    _require_file(url)
    database = Database(url)
    try:
        return _examine(database, Blobs(folder), deep=deep, grace_s=grace_s)
    finally:
        database.close()


def _examine(database: Database, blobs: Blobs, *, deep: bool, grace_s: float) -> Report:
    try:
        database.wait_for_schema(0)
    except StartupError as error:
        return Report(0, 0, 0, 0, (Finding("error", "other-schema", "database", str(error)),))
    with database.read() as connection:
        findings = [*check_file(connection, deep=deep), *check_rows(connection)]
        jobs = connection.execute(sa.select(sa.func.count()).select_from(tables.jobs)).scalar_one()
    records, sets = EmbeddingRecords(database, EVERYTHING), 0
    for sets, stored in enumerate(all_sets(records), start=1):  # noqa: B007 - the count is wanted after the loop
        faults = list(check_set(blobs, stored, deep=deep))
        if faults and is_there(records, stored.id):
            findings += faults
    items, datasets = DatasetRecords(database, EVERYTHING), 0
    for datasets, each in enumerate(all_datasets(items), start=1):  # noqa: B007 - as above
        faults = list(check_dataset(blobs, each, deep=deep))
        if faults and is_there(items, each.id):
            findings += faults
    findings += check_maps(MapRecords(database, blobs, EVERYTHING), deep=deep)
    findings += check_folder(blobs, Retention(database), grace_s)
    return Report(jobs, sets, datasets, sum(1 for _ in blobs.digests()), tuple(findings))


def _require_file(url: str) -> None:
    """SQLite would make a file that is not there."""
    try:
        parsed = sa.make_url(url)
    except ArgumentError:
        return  # opening it says what is wrong with it
    if parsed.drivername == "sqlite" and parsed.database and not Path(parsed.database).is_file():
        raise StartupError(
            "There is no such database.",
            value=parsed.database,
            hint="Name the service's data folder with --data-dir, or its database with --database-url.",
        )
