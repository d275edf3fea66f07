"""Audit of a service after faults: every accepted job has ended once, with the correct result."""

import time
from collections import Counter
from dataclasses import dataclass, field

from benchmarks.faults.live_service import LiveService
from benchmarks.faults.load import Load
from benchmarks.faults.watch import find_unfinished_jobs
from consilience.contract.jobs import Job, JobStatus

PATIENCE_S = 120.0


@dataclass
class Account:
    """Outcome of the jobs."""

    accepted: int = 0
    finished: int = 0
    lost: int = 0
    doubled: int = 0
    remarks: list[str] = field(default_factory=list)


def audit(live: LiveService, load: Load, failing: frozenset[str] = frozenset()) -> Account:
    """Wait until every job has ended and check it; the jobs of `failing` must fail."""
    promised = {job_id for ids in load.accepted.values() for job_id in ids}
    rows = {job.id: job for job in _wait_for_ends(live)}
    account = Account(accepted=len(promised | rows.keys()), remarks=list(load.surprises))
    account.finished = sum(1 for job in rows.values() if job.finished)
    account.lost = account.accepted - account.finished
    account.doubled = sum(1 for ids in load.accepted.values() if len(ids) > 1)
    account.doubled += sum(1 for job in rows.values() if Counter(run.ended for run in job.runs)["succeeded"] > 1)
    for job in rows.values():
        expected = JobStatus.FAILED if job.id in failing else JobStatus.SUCCEEDED
        if job.finished and job.status is not expected:
            account.remarks.append(f"{job.id} {job.status}: {job.error and job.error.detail}")
        account.remarks += _history_faults(job)
    account.remarks += _differing_results(list(rows.values()))
    account.remarks += [f"doctor: {each}" for each in live.examine()]
    return account


def _wait_for_ends(live: LiveService) -> list[Job]:
    deadline = time.monotonic() + PATIENCE_S
    while find_unfinished_jobs(live) and time.monotonic() < deadline:
        time.sleep(0.1)
    return live.rows()


def _history_faults(job: Job) -> list[str]:
    """Check the runs of a finished job: each has ended, in order, and the last one like the job."""
    deliveries = [run.delivery for run in job.runs]
    ends = [run.ended for run in job.runs]
    faults = []
    if deliveries != sorted(set(deliveries)) or None in ends:
        faults.append(f"{job.id}: runs {list(zip(deliveries, ends, strict=True))}")
    if job.status is JobStatus.SUCCEEDED and (ends[-1:] != ["succeeded"] or "succeeded" in ends[:-1]):
        faults.append(f"{job.id} succeeded with runs that {ends}")
    return faults


def _differing_results(rows: list[Job]) -> list[str]:
    """Find equal requests with different results."""
    answers: dict[str, float] = {}
    faults = []
    for job in rows:
        if job.result is not None:
            question = f"{job.request['a']} {job.request['b']} {job.request['metrics']}"
            value = job.result.scores[0].value
            if answers.setdefault(question, value) != value:
                faults.append(f"{job.id} says {value}, another {answers[question]}")
    return faults
