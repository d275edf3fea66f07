"""Waiting at a terminal for what a service's job finds."""

from consilience.cli.consoles import remarks
from consilience.cli.progress import Report, follow
from consilience.client.operations import Outcome, result_of
from consilience.client.sync import Client
from consilience.errors import JobError


def await_document(
    client: Client, job_id: str, kind: type[Outcome], report: Report, timeout_s: float | None
) -> Outcome:
    """The document of a job; JobError where it has none, whatever the reason.

    Whoever interrupts is told how to stop the job.
    """
    try:
        job = client.wait(job_id, timeout_s=timeout_s, watch=lambda seen: follow(report, seen))
    except KeyboardInterrupt:
        remarks().print(f"Job {job_id} goes on; `consilience jobs cancel {job_id}` stops it.", soft_wrap=True)
        raise
    try:
        return result_of(job, kind)
    except JobError:
        raise
    except Exception as error:  # the job's own error, of whatever kind: what failed is the job
        raise JobError(f"Job {job.id} failed: {error}", value=job.id) from error
