"""Whether the database's rows say what they can say. One query a rule: what it selects breaks the rule."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection, Select

from consilience.contract.jobs import FINISHED, JobStatus
from consilience.stores import tables
from consilience.stores.findings import Finding
from consilience.stores.kinds import DATASETS, EMBEDDINGS, MAPS, REFERENCES

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
