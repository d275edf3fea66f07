"""Integrity check of the data folder and the database. It changes nothing.

The service may run meanwhile: a record that is deleted during the check is not reported.
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
from consilience.stores.blobs import BlobStore
from consilience.stores.database import Database
from consilience.stores.datasets import DatasetRecords
from consilience.stores.embeddings import EmbeddingRecords
from consilience.stores.maps import MapRecords
from consilience.stores.records import ALL_OWNERS, DATASETS, EMBEDDINGS, MAPS, REFERENCES
from consilience.stores.retention import Retention


@dataclass(frozen=True)
class Issue:
    """Problem found by the integrity check."""

    severity: Literal["error", "warning"]
    """`error`: data are lost or wrong. `warning`: data are complete, but a cleanup or delivery is overdue."""
    kind: str
    """Stable identifier of the kind of problem, for programs."""
    subject: str
    """Id, digest, path or table that has the problem."""
    detail: str


PAGE = 500


def check_set(blobs: BlobStore, stored: EmbeddingSet, *, deep: bool) -> Iterator[Issue]:
    """Check that each layer and column of a set exists with its size and, with `deep`, its digest."""
    for layer in stored.layers:
        if fault := _find_layer_damage(blobs, layer, stored.n, deep=deep):
            yield Issue("error", "damaged-layer", stored.id, f"Layer {layer.name} ({layer.digest}): {fault}")
    for column in filter(None, (stored.ids, stored.groups)):
        if fault := _find_column_damage(blobs, column.digest, deep=deep):
            yield Issue("error", "damaged-column", stored.id, f"Column {column.digest}: {fault}")


def _find_layer_damage(blobs: BlobStore, layer: Layer, n: int, *, deep: bool) -> str | None:
    try:
        stored = blobs.open(layer, n)
        return "the content does not match its digest." if deep and not stored.is_intact() else None
    except Unavailable as error:
        return error.detail


def _find_column_damage(blobs: BlobStore, digest: str, *, deep: bool) -> str | None:
    if blobs.locate(digest) is None:
        return "the file does not exist."
    try:
        if deep:
            blobs.read_column(digest)
    except Unavailable as error:
        return error.detail
    return None


def check_dataset(blobs: BlobStore, stored: Dataset, *, deep: bool) -> Iterator[Issue]:
    """Check that each view and the ids of a dataset exist with their size and, with `deep`, their digest."""
    for view in stored.views:
        if fault := _find_view_damage(blobs, view, stored.n, deep=deep):
            yield Issue("error", "damaged-view", stored.id, f"View {view.name} ({view.digest}): {fault}")
    if fault := _find_column_damage(blobs, stored.ids.digest, deep=deep):
        yield Issue("error", "damaged-column", stored.id, f"Column {stored.ids.digest}: {fault}")


def _find_view_damage(blobs: BlobStore, view: ViewRecord, n: int, *, deep: bool) -> str | None:
    try:
        stored = blobs.open_view(view, n)
        return "the content does not match its digest." if deep and not stored.is_intact() else None
    except Unavailable as error:
        return error.detail


def check_maps(records: MapRecords, *, deep: bool) -> Iterator[Issue]:
    """Check that the weights of every map exist with their size and, with `deep`, their digest."""
    cursor, more = None, True
    while more:
        page = records.page(cursor, PAGE)
        for stored in page.data:
            with suppress(NotFound):  # deleted meanwhile
                if fault := records.find_fault(stored.id, deep=deep):
                    yield Issue("error", "damaged-map", stored.id, f"Weights: {fault}")
        cursor, more = page.next_cursor, page.has_more


def iter_sets(records: EmbeddingRecords) -> Iterator[EmbeddingSet]:
    """Iterate over all sets, newest first."""
    cursor, more = None, True
    while more:
        page = records.page(cursor, PAGE)
        yield from page.data
        cursor, more = page.next_cursor, page.has_more


def iter_datasets(records: DatasetRecords) -> Iterator[Dataset]:
    """Iterate over all datasets, newest first."""
    cursor, more = None, True
    while more:
        page = records.page(cursor, PAGE)
        yield from page.data
        cursor, more = page.next_cursor, page.has_more


def still_exists(records: EmbeddingRecords | DatasetRecords, record_id: str) -> bool:
    """Return True if the set or dataset has not been deleted meanwhile."""
    with suppress(NotFound):
        return bool(records.get(record_id))
    return False


def check_folder(blobs: BlobStore, retention: Retention, grace_s: float) -> Iterator[Issue]:
    """Find blobs that no record refers to, and other files that do not belong there.

    Blobs younger than `grace_s` seconds are not reported, since their record may not have been written yet.
    """
    for path in blobs.find_stray_files():
        yield Issue("error", "stray-file", str(path), "This file in a blob folder is not a blob.")
    digests = blobs.digests()
    while batch := tuple(itertools.islice(digests, PAGE)):
        for digest in sorted(set(batch) - retention.find_referenced(batch)):
            if _age_s(blobs, digest) >= grace_s:
                yield Issue(
                    "warning",
                    "unreferenced-blob",
                    digest,
                    "No record refers to this blob; service.deliveries should delete it.",
                )
    for path in blobs.find_stale_uploads(grace_s):
        yield Issue(
            "warning", "stale-upload", str(path), "This upload never finished; service.deliveries should delete it."
        )


def _age_s(blobs: BlobStore, digest: str) -> float:
    path = blobs.locate(digest)
    with suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime if path else 0.0
    return 0.0


#: Time after which a message that is due counts as overdue.
OVERDUE_AFTER = timedelta(hours=1)
#: Maximum number of rows that one rule reports.
MAX_ROWS = 100
LINKED_RECORDS = {"set": EMBEDDINGS, "dataset": DATASETS, "reference": REFERENCES, "map": MAPS}
_job, _run, _hook = tables.jobs.c, tables.runs.c, tables.webhooks.c


class IntegrityRule(NamedTuple):
    """Rule that the rows must obey, with a query for the ids of the rows that break it."""

    kind: str
    detail: str
    broken: Select[Any]


def check_rows(connection: Connection) -> Iterator[Issue]:
    """Iterate over the rows that break a rule."""
    for rule in (*_job_rules(), *_link_rules(), *_run_rules(), *_webhook_rules(), *_set_rules()):
        for subject in connection.execute(rule.broken.limit(MAX_ROWS)).scalars():
            yield Issue("error", rule.kind, subject, rule.detail)


def check_file(connection: Connection, *, deep: bool) -> Iterator[Issue]:
    """Run the integrity check of SQLite. PostgreSQL checks its pages itself."""
    if connection.dialect.name != "sqlite":
        return
    pragma = "integrity_check" if deep else "quick_check"
    for line in connection.exec_driver_sql(f"PRAGMA {pragma}").scalars():
        if line != "ok":
            yield Issue("error", "damaged-database", "SQLite", str(line))
    for row in connection.exec_driver_sql("PRAGMA foreign_key_check"):
        yield Issue(
            "error", "dangling-row", str(row[0]), f"Row {row[1]} refers to a row of {row[2]} that does not exist."
        )


def _job_rule(kind: str, detail: str, *broken: ColumnElement[bool]) -> IntegrityRule:
    return IntegrityRule(kind, detail, sa.select(_job.id).where(*broken))


def _job_rules() -> Iterator[IntegrityRule]:
    """Make the rules about the row of a job alone."""
    rule, is_finished = _job_rule, _job.status.in_(FINISHED)
    yield rule("unknown-status", "The job has an unknown status.", _job.status.not_in(list(JobStatus)))
    yield rule(
        "missing-finish-time", "The job has finished, but has no finish time.", is_finished, _job.finished_at.is_(None)
    )
    yield rule(
        "unexpected-finish-time",
        "The job has not finished, but has a finish time.",
        ~is_finished,
        _job.finished_at.is_not(None),
    )
    yield rule(
        "missing-result",
        "The job succeeded, but has no result.",
        _job.status == JobStatus.SUCCEEDED,
        _job.result.is_(None),
    )
    yield rule(
        "unexpected-result",
        "The job did not succeed, but has a result.",
        _job.status != JobStatus.SUCCEEDED,
        _job.result.is_not(None),
    )
    yield rule(
        "missing-error", "The job failed, but has no error.", _job.status == JobStatus.FAILED, _job.error.is_(None)
    )
    yield rule(
        "unexpected-error",
        "The job did not fail, but has an error.",
        _job.status != JobStatus.FAILED,
        _job.error.is_not(None),
    )
    yield rule(
        "unexpected-cancel-request",
        "Cancellation was requested of a job that is not running.",
        _job.cancel_requested,
        _job.status != JobStatus.RUNNING,
    )
    yield rule(
        "unexpected-start-time",
        "The job is queued, but has a start time.",
        _job.status == JobStatus.QUEUED,
        _job.started_at.is_not(None),
    )
    yield rule(
        "invalid-counter",
        "The job has a delivery number below 1 or a number of crashes below 0.",
        sa.or_(_job.delivery < 1, _job.crashes < 0),
    )


def _link_rules() -> Iterator[IntegrityRule]:
    """Make the rules about jobs and the records that they use."""
    tombstone = sa.select(tables.expired_jobs.c.id).where(tables.expired_jobs.c.id == _job.id)
    yield _job_rule("expired-job", "The job has expired, but its row still exists.", tombstone.exists())
    for name, kind in LINKED_RECORDS.items():
        missing = sa.select(kind.target).where(
            kind.links.c.job_id == _job.id, kind.target.not_in(sa.select(kind.table.c.id))
        )
        detail = f"The job has not finished, but the {kind.word} that it uses does not exist."
        yield _job_rule(f"missing-{name}", detail, _job.status.not_in(FINISHED), missing.exists())


def _run_rules() -> Iterator[IntegrityRule]:
    own_run = sa.select(_run.job_id).where(_run.job_id == _job.id, _run.delivery == _job.delivery, _run.ended.is_(None))
    running_alone = sa.select(_job.id).where(_job.status == JobStatus.RUNNING, ~own_run.exists())
    yield IntegrityRule("missing-run", "The job is running, but its current run is not recorded.", running_alone)
    holder = sa.select(_job.id).where(
        _job.id == _run.job_id, _job.delivery == _run.delivery, _job.status == JobStatus.RUNNING
    )
    open_run = sa.select(_run.job_id).where(_run.ended.is_(None), ~holder.exists())
    yield IntegrityRule("unfinished-run", "A run of the job has not ended, but is not the job's current run.", open_run)


def _webhook_rules() -> Iterator[IntegrityRule]:
    over = sa.select(_job.id).where(_job.id == _hook.job_id, _job.status.in_(FINISHED)).exists()
    unset = sa.and_(_hook.due_at.is_(None), _hook.delivered_at.is_(None), _hook.failed_at.is_(None))
    stuck = _hook.due_at < datetime.now(UTC) - OVERDUE_AFTER
    yield IntegrityRule(
        "unscheduled-webhook",
        "The job has finished, but its webhook was not scheduled.",
        sa.select(_hook.job_id).where(over, unset),
    )
    yield IntegrityRule(
        "unexpected-webhook",
        "The job has not finished, but its webhook was scheduled.",
        sa.select(_hook.job_id).where(~over, ~unset),
    )
    yield IntegrityRule(
        "overdue-webhook",
        "The webhook has been due for over an hour. Check that service.deliveries runs and has the webhook secret.",
        sa.select(_hook.job_id).where(stuck),
    )


def _set_rules() -> Iterator[IntegrityRule]:
    bare = tables.embeddings.c.id.not_in(sa.select(tables.layers.c.embedding_id))
    yield IntegrityRule("missing-layers", "The set has no layers.", sa.select(tables.embeddings.c.id).where(bare))
    empty = tables.datasets.c.id.not_in(sa.select(tables.dataset_views.c.dataset_id))
    yield IntegrityRule("missing-views", "The dataset has no views.", sa.select(tables.datasets.c.id).where(empty))
    alone = tables.reference_sets.c.id.not_in(sa.select(tables.reference_members.c.reference_id))
    yield IntegrityRule(
        "missing-members", "The reference set has no members.", sa.select(tables.reference_sets.c.id).where(alone)
    )


#: Age in seconds after which an unreferenced blob is reported: by then several rounds of garbage collection have passed.
GRACE_S = 2 * 3600.0


@dataclass(frozen=True)
class IntegrityReport:
    """Number of checked items, and the issues found."""

    jobs: int
    sets: int
    datasets: int
    blobs: int
    issues: tuple[Issue, ...]

    @property
    def passed(self) -> bool:
        """True if there are no errors. Warnings do not count."""
        return all(issue.severity != "error" for issue in self.issues)


def check_integrity(url: str, folder: Path, *, deep: bool = False, grace_s: float = GRACE_S) -> IntegrityReport:
    """Check the database and the data folder, and compare them.

    Parameters
    ----------
    url : str
        URL of the database, as in CONSILIENCE_DATABASE_URL.
    folder : Path
        The data folder.
    deep : bool
        Compare the content of every file with its digest, not only the sizes.
    grace_s : float
        Age in seconds up to which a blob without a record is not reported.

    Raises
    ------
    StartupError
        The database or the folder does not exist.
    Unavailable
        The database does not respond.
    """
    if not (folder / "layers").is_dir():
        raise StartupError(
            f"{folder} is not a data folder: it has no folder 'layers'."
            if folder.is_dir()
            else f"{folder} is not a data folder: it does not exist.",
            value=folder,
            hint="Pass the data folder with --data-dir.",
        )
    require_database_file(url)
    database = Database(url)
    try:
        return _check_all(database, BlobStore(folder), deep=deep, grace_s=grace_s)
    finally:
        database.close()


def _check_all(database: Database, blobs: BlobStore, *, deep: bool, grace_s: float) -> IntegrityReport:
    try:
        database.wait_for_schema(0)
    except StartupError as error:
        return IntegrityReport(0, 0, 0, 0, (Issue("error", "schema-mismatch", "database", str(error)),))
    with database.read() as connection:
        issues = [*check_file(connection, deep=deep), *check_rows(connection)]
        jobs = connection.execute(sa.select(sa.func.count()).select_from(tables.jobs)).scalar_one()
    records, sets = EmbeddingRecords(database, ALL_OWNERS), 0
    for sets, stored in enumerate(iter_sets(records), start=1):  # noqa: B007 - the count is used after the loop
        faults = list(check_set(blobs, stored, deep=deep))
        if faults and still_exists(records, stored.id):
            issues += faults
    items, datasets = DatasetRecords(database, ALL_OWNERS), 0
    for datasets, each in enumerate(iter_datasets(items), start=1):  # noqa: B007 - as above
        faults = list(check_dataset(blobs, each, deep=deep))
        if faults and still_exists(items, each.id):
            issues += faults
    issues += check_maps(MapRecords(database, blobs, ALL_OWNERS), deep=deep)
    issues += check_folder(blobs, Retention(database), grace_s)
    return IntegrityReport(jobs, sets, datasets, sum(1 for _ in blobs.digests()), tuple(issues))


def require_database_file(
    url: str, hint: str = "Pass the data folder of the service with --data-dir, or its database with --database-url."
) -> None:
    """Raise StartupError if the file of a SQLite database does not exist, since SQLite would create it."""
    try:
        parsed = sa.make_url(url)
    except ArgumentError:
        return  # opening the database raises the error
    if parsed.drivername == "sqlite" and parsed.database and not Path(parsed.database).is_file():
        raise StartupError(
            f"The database {parsed.database} does not exist.",
            value=parsed.database,
            hint=hint,
        )
